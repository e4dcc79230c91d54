"""The stage `data.generate`: problem sets made from nothing, with proof that their splits are clean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, get_args

from hrmctl import Context, Observation, Output, StageInputs, StageResult
from hrmctl_data.microcode import Split, passes_own_tests, problems
from hrmctl_data.microcode_pairs import preferences, unproven
from hrmctl_data.params import GenerateParams
from hrmctl_data.rows import write_rows

_REPORT_EVERY = 1000


@dataclass
class Tally:
    """What was seen while the rows of one split went by."""

    rows: int = 0
    failures: int = 0
    signatures: list[tuple[str, ...]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row and run its reference on its asserts."""
        self.rows += 1
        self.failures += not passes_own_tests(row)
        self.signatures.append(tuple(row["meta"]["signature"].split()))
        self.prompts.append(row["prompt"])


def run(params: GenerateParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Write one JSONL file a split and measure overlap of the splits and failures of the references.

    Deterministic in the seed; each split is independent of the sizes of the others. Raises
    StageError where more problems are asked for than there are.
    """
    sizes: dict[Split, int] = {split: getattr(params, split) for split in get_args(Split) if getattr(params, split)}
    tallies: dict[Split, Tally] = {split: Tally() for split in sizes}
    outputs: dict[str, Output] = {}
    for split in sizes:
        path = ctx.scratch / f"{params.family}-{split}.jsonl"
        write_rows(path, _tallied(split, sizes, tallies, ctx))
        outputs[split] = Output(path, f"{params.family}@{split}")
    about = {"dataset": outputs["test"], "train": outputs["train"]}
    evidence = [Observation(name, "measurement/v1", payload, about) for name, payload in measure(tallies).items()]
    if params.preferences:
        pairs = list(preferences(params.preferences, ctx.seed))
        outputs["preferences"] = Output(
            ctx.scratch / f"{params.family}-preferences.jsonl", f"{params.family}@preferences"
        )
        write_rows(outputs["preferences"].path, pairs)
        wrong = _count(sum(map(unproven, pairs)), "pairs", len(pairs))
        evidence.append(Observation("unproven", "measurement/v1", wrong, {"dataset": outputs["preferences"]}))
    return StageResult(outputs, evidence)


def _tallied(
    split: Split, sizes: Mapping[Split, int], tallies: Mapping[Split, Tally], ctx: Context
) -> Iterator[Mapping[str, Any]]:
    total = sum(sizes.values())
    for row in problems(split, sizes[split], ctx.seed):
        tallies[split].add(row)
        done = sum(tally.rows for tally in tallies.values())
        if done % _REPORT_EVERY == 0 or done == total:
            ctx.progress(done, total)
        yield row


def measure(tallies: Mapping[Split, Tally]) -> dict[str, dict[str, Any]]:
    """The measurements of a generated set, counted over the rows as written.

    `signature_overlap`, `pair_overlap` and `prompt_overlap` count the test problems whose signature,
    whose every adjacent pair of operations, or whose prompt occurs in training (`pair_overlap` also
    looks inside longer training programs).
    """
    train, test = tallies["train"], tallies["test"]
    signatures, prompts = set(train.signatures), set(train.prompts)
    pairs = {pair for signature in train.signatures for pair in pairwise(signature)}
    distinct_test = set(test.signatures)
    everything = sum(tally.rows for tally in tallies.values())
    operations = {name for tally in tallies.values() for signature in tally.signatures for name in signature}
    taught = {name for signature in train.signatures for name in signature}
    return {
        "signature_overlap": _count(len(distinct_test & signatures), "signatures", len(distinct_test)),
        "pair_overlap": _count(sum(set(pairwise(s)) <= pairs for s in test.signatures), "problems", test.rows),
        "prompt_overlap": _count(sum(p in prompts for p in test.prompts), "problems", test.rows),
        "reference_failures": _count(sum(t.failures for t in tallies.values()), "problems", everything),
        "operations": _count(len(operations), "operations", everything),
        "untaught_operations": _count(len(operations - taught), "operations", len(operations)),
    }


def _count(value: int, unit: str, n: int) -> dict[str, Any]:
    return {"value": value, "unit": unit, "n": n}
