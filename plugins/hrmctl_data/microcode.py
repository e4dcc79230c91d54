"""Microcode: small code-generation problems composed of one to three typed operations.

The split is by composition. A share of all ordered pairs of operations is held out: no held-out
pair stands next to each other in any training program, and every test program contains one. So no
signature (ordered tuple of operation names) of a test problem occurs in training, alone or inside
a longer one, while every single operation does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from hrmctl import StageError
from hrmctl_data.inputs import Step, choose_inputs
from hrmctl_data.operations import BY_SOURCE, OPERATIONS, ORDERS, VARIABLES, Kind, Operation

Split = Literal["train", "test", "validation"]
Pair = tuple[str, str]
_KINDS: tuple[Kind, ...] = ("int", "str", "list", "list", "range")
_LENGTHS = (1, 2, 2, 2, 3, 3, 3, 3)
_HELD_OUT = {"test": 0.10, "validation": 0.04}
_TRIES = 20_000


@dataclass(frozen=True, slots=True)
class Splitter:
    """Which split each ordered pair of operations belongs to; fixed by the seed alone."""

    of_pair: Mapping[Pair, Split]

    @classmethod
    def from_seed(cls, seed: int) -> Splitter:
        """Hold out 10 % of the pairs that fit together for test and 4 % for validation."""
        pairs = [(a.name, b.name) for a in OPERATIONS for b in BY_SOURCE[a.target] if a is not b]
        random.Random(f"{seed}/pairs").shuffle(pairs)
        test = round(len(pairs) * _HELD_OUT["test"])
        held = test + round(len(pairs) * _HELD_OUT["validation"])
        return cls(
            {pair: "test" if i < test else "validation" if i < held else "train" for i, pair in enumerate(pairs)}
        )

    def split_of(self, signature: Sequence[str]) -> Split:
        """`test` where a test pair is in it, else `validation` where one of those is, else `train`."""
        found = {self.of_pair[pair] for pair in pairwise(signature)}
        return "test" if "test" in found else "validation" if "validation" in found else "train"


def problems(split: Split, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` problem rows of one split, no prompt twice; the same for the same arguments.

    The first rows of `train` are each operation alone. Raises StageError where the split has not
    so many different problems.
    """
    rng = random.Random(f"{seed}/{split}")
    splitter = Splitter.from_seed(seed)
    alone = list(OPERATIONS) if split == "train" else []
    seen: set[str] = set()
    misses = 0
    while len(seen) < count:
        operations = (alone[len(seen)],) if len(seen) < len(alone) else _draw_signature(rng, split)
        row = _problem(operations, rng) if splitter.split_of([o.name for o in operations]) == split else None
        if row is None or row["prompt"] in seen:
            misses += 1
            if misses > _TRIES:
                raise StageError(f"microcode has no {count} different {split} problems; ask for at most {len(seen)}")
            continue
        misses = 0
        seen.add(row["prompt"])
        yield {"task_id": f"microcode/{split}-{len(seen)}", **row}


def _draw_signature(rng: random.Random, split: Split) -> tuple[Operation, ...]:
    length = rng.choice(_LENGTHS if split == "train" else _LENGTHS[1:])
    drawn: list[Operation] = []
    while len(drawn) < length:
        choices = BY_SOURCE[drawn[-1].target if drawn else rng.choice(_KINDS)]
        drawn.append(rng.choice([o for o in choices if not drawn or o is not drawn[-1]]))
    return tuple(drawn)


def _problem(operations: Sequence[Operation], rng: random.Random) -> dict[str, Any] | None:
    steps = [(o, rng.choice(o.constants) if o.constants else None) for o in operations]
    examples = choose_inputs(steps, rng)
    if examples is None:
        return None
    request = rng.choice(ORDERS[len(steps)]).format(*(rng.choice(o.phrases).format(k=k) for o, k in steps))
    header = f"def f({VARIABLES[operations[0].source]}):\n"
    return {
        "text": request,
        "prompt": f"# {request}\n{header}",
        "prefix": header,
        "completion": body_of(steps),
        "entry_point": "f",
        "setup": "",
        "tests": [f"assert f({value!r}) == {expected!r}" for value, expected in examples],
        "source": "microcode",
        "meta": {"signature": " ".join(o.name for o in operations), "operations": len(operations)},
    }


def body_of(steps: Sequence[Step]) -> str:
    """The reference body: one line for each operation, the last one returned."""
    lines = [f"    {VARIABLES[o.target]} = {o.code(k)}\n" for o, k in steps[:-1]]
    operation, constant = steps[-1]
    return "".join(lines) + f"    return {operation.code(constant)}\n"


def passes_own_tests(row: Mapping[str, Any]) -> bool:
    """Really run the reference of a row that this module wrote on its asserts, in this process."""
    source = "\n".join([row["prefix"] + row["completion"], *row["tests"]])
    try:
        exec(compile(source, row["task_id"], "exec"), {})
    except Exception:
        return False
    return True
