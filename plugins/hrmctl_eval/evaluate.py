"""One task: completions to outcomes, with both noted as they come so that a killed attempt loses little."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrmctl_models.journal import Journal
from hrmctl_sandbox import ErrorClass, Limits, Sample
from hrmctl_sandbox.formats import CodeTask
from hrmctl_sandbox.programs import parses

from hrmctl import Artifact, StageError
from hrmctl_eval.answers import Answers, generated, references
from hrmctl_eval.engines import Engine
from hrmctl_eval.judging import Bench
from hrmctl_eval.params import EvalParams
from hrmctl_eval.prompts import Prompting

_REFUSED = "the prompt alone fills the model's context window"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one sample. `seconds` is the judge's time for it, `mode` the sandbox's ("" if never run)."""

    outcome: str
    detail: str
    mode: str
    forgeable: bool
    parses: bool
    cpu_seconds: float
    seconds: float

    @property
    def passed(self) -> bool:
        return self.outcome == ErrorClass.PASSED.value


@dataclass
class Task:
    """One problem set being evaluated: `total` problems in the set, of which `problems` are."""

    artifact: Artifact
    problems: Sequence[CodeTask]
    total: int
    prompting: Prompting = field(default_factory=Prompting)
    answers: dict[str, Answers] = field(default_factory=dict)
    verdicts: dict[str, dict[int, Verdict]] = field(default_factory=dict)

    @property
    def all_verdicts(self) -> list[Verdict]:
        """Those of every sample that has one."""
        return [verdict for found in self.verdicts.values() for verdict in found.values()]

    @property
    def judged(self) -> int:
        """Samples that have their outcome."""
        return sum(map(len, self.verdicts.values()))

    @property
    def passed(self) -> int:
        """Samples that passed."""
        return sum(verdict.passed for verdict in self.all_verdicts)

    @property
    def label(self) -> str:
        """The data set's label, which says so where not all of it was evaluated."""
        part = f"[:{len(self.problems)}]" if len(self.problems) < self.total else ""
        return self.artifact.label + part


def evaluate(
    task: Task,
    params: EvalParams,
    threads: int,
    folder: Path,
    engine: Engine,
    report: Callable[[int], None],
) -> None:
    """Fill in the answers and verdicts of a task, continuing from the journals in `folder`.

    `report(tokens)` is called often, for progress. Raises StageError where programs cannot be contained or
    nothing can be generated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_id = {problem.task_id: problem for problem in task.problems}
    with ExitStack() as stack:
        written = stack.enter_context(Journal(folder / "generated.jsonl"))
        judged = stack.enter_context(Journal(folder / "judged.jsonl"))
        known = _known(judged)
        bench = stack.enter_context(_bench(task.problems, params, threads))
        source = (
            references(task.problems)
            if params.source == "references"
            else generated(task.problems, written, params, task.prompting, engine, report)
        )
        for answers in source:
            task.answers[answers.task_id] = answers
            _submit(task, by_id[answers.task_id], answers, known, bench)
            _collect(task, by_id, judged, bench.ready())
            report(0)
        _collect(task, by_id, judged, _reported(bench.finish(), report))
    wanted = len(task.problems) * params.samples
    if task.judged != wanted:
        raise StageError(f"{wanted - task.judged} of {wanted} samples came back without an outcome; run again")


def _bench(problems: Sequence[CodeTask], params: EvalParams, threads: int) -> Bench:
    return Bench(
        [task.problem() for task in problems],
        limits=Limits(params.cpu_seconds, params.wall_seconds, params.memory_mb << 20),
        workers=params.workers or threads,
        allow_unsafe=params.allow_unsafe,
        allow_forgeable=params.allow_forgeable,
        packages=params.packages,
    )


def _reported(outcomes: Iterator[Any], report: Callable[[int], None]) -> Iterator[Any]:
    for judged in outcomes:
        yield judged
        report(0)


def _submit(
    task: Task, problem: CodeTask, answers: Answers, known: Mapping[str, Mapping[int, Verdict]], bench: Bench
) -> None:
    """Give each sample to the judge, but those judged before and those that were refused."""
    verdicts = task.verdicts.setdefault(problem.task_id, {})
    for index, answer in enumerate(answers.samples):
        if answer.refused:
            verdicts[index] = Verdict(ErrorClass.REFUSED.value, _REFUSED, "", False, False, 0.0, 0.0)
        elif index in known.get(problem.task_id, {}):
            verdicts[index] = known[problem.task_id][index]
        else:
            bench.submit(Sample(problem.task_id, index, answers.program(problem, index)))


def _collect(task: Task, problems: Mapping[str, CodeTask], journal: Journal, outcomes: Iterator[Any]) -> None:
    for judged in outcomes:
        outcome = judged.outcome
        answers = task.answers[outcome.problem_id]
        verdict = Verdict(
            outcome=outcome.error.value,
            detail=outcome.detail,
            mode=outcome.mode,
            forgeable=outcome.forgeable,
            parses=parses(answers.program(problems[outcome.problem_id], outcome.index)),
            cpu_seconds=outcome.cpu_seconds,
            seconds=judged.seconds,
        )
        task.verdicts[outcome.problem_id][outcome.index] = verdict
        journal.append({"task_id": outcome.problem_id, "index": outcome.index, **_fields(verdict)})


def _fields(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in Verdict.__slots__}


def _known(journal: Journal) -> dict[str, dict[int, Verdict]]:
    found: dict[str, dict[int, Verdict]] = {}
    for row in journal.rows:
        verdict = Verdict(**{name: row[name] for name in Verdict.__slots__})
        found.setdefault(row["task_id"], {})[row["index"]] = verdict
    return found


def completion_digest(text: str) -> str:
    """sha256 (hex) of a completion's text; half a surrogate pair, which a data file can hold, counts as it stands."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
