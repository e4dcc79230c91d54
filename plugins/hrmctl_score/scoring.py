"""Judging the samples, and what came of them: outcomes in the order of the samples, pass@k, counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hrmctl_sandbox import ErrorClass, Limits, Outcome, Sample, judge
from hrmctl_sandbox.formats import CodeTask

from hrmctl import Evidence, InputError, MeasureError, StageProgress, StageStarted
from hrmctl.plugins import catalog
from hrmctl.registry import resolve
from hrmctl_score.samples import Submission

MEASURE = "pass_at_k"
_STEP = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """How programs are run. `packages` are import names; `workers` None is as many as there are usable cores."""

    limits: Limits
    workers: int | None = None
    packages: tuple[str, ...] = ()
    allow_forgeable: bool = False
    allow_unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """pass@k with its 95 % interval over problems."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """What a file of samples scored. `missing` are problems without a sample, `n` the fewest samples of any other."""

    tasks: Sequence[CodeTask]
    submissions: Sequence[Submission]
    outcomes: Sequence[Outcome]
    seconds: float
    k: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Task ids of the problems that no sample is of."""
        attempted = {submission.task.task_id for submission in self.submissions}
        return [task.task_id for task in self.tasks if task.task_id not in attempted]

    @property
    def errors(self) -> dict[str, int]:
        """Samples by error class, `passed` among them, in the order of the classes."""
        counts = Counter(outcome.error for outcome in self.outcomes)
        return {error.value: counts[error] for error in ErrorClass if counts[error]}

    @property
    def forgeable(self) -> int:
        """Passes in which the program's own code took part in the verdict."""
        return sum(outcome.passed and outcome.forgeable for outcome in self.outcomes)

    @property
    def mode(self) -> str:
        """The isolation in force; every one that occurred, and `not run` where no program was run."""
        return "+".join(sorted({outcome.mode for outcome in self.outcomes} - {""})) or "not run"


def samples_of(submissions: Sequence[Submission]) -> Counter[str]:
    """How many samples each attempted problem has."""
    return Counter(submission.task.task_id for submission in submissions)


def run(
    tasks: Sequence[CodeTask], submissions: Sequence[Submission], ks: Sequence[int], settings: Settings, listen: Any
) -> Score:
    """Judge every sample and estimate pass@k for each of `ks`.

    `listen` takes the events of progress. Raises SandboxUnavailable where programs cannot be contained, and InputError
    where a package is not installed or pass@k cannot be estimated.
    """
    started = time.monotonic()
    outcomes = _judged(tasks, submissions, settings, listen)
    seconds = time.monotonic() - started
    evidence = Evidence("samples", "samples/v1", payload(submissions, outcomes))
    estimates = {f"pass@{k}": _estimate(evidence, k) for k in ks}
    return Score(tasks, submissions, outcomes, seconds, estimates)


def _judged(
    tasks: Sequence[CodeTask], submissions: Sequence[Submission], settings: Settings, listen: Any
) -> list[Outcome]:
    attempted = samples_of(submissions)
    found: dict[int, Outcome] = {}
    spoken, passed = float("-inf"), 0
    listen(StageStarted("", "score", "score", False))
    for outcome in _outcomes([task for task in tasks if task.task_id in attempted], submissions, settings):
        found[outcome.index] = outcome
        passed += outcome.passed
        now = time.monotonic()
        if now - spoken >= _STEP or len(found) == len(submissions):
            spoken = now
            rate = {"pass_rate": passed / len(found)}
            listen(StageProgress("", "score", len(found), len(submissions), rate))
    return [found[index] for index in range(len(submissions))]


def _outcomes(tasks: Sequence[CodeTask], submissions: Sequence[Submission], settings: Settings) -> Any:
    programs = (Sample(given.task.task_id, index, given.program) for index, given in enumerate(submissions))
    try:
        return judge(
            [task.problem() for task in tasks],
            programs,
            limits=settings.limits,
            workers=settings.workers,
            allow_unsafe=settings.allow_unsafe,
            allow_forgeable=settings.allow_forgeable,
            packages=settings.packages,
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def payload(submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The outcomes as a `samples/v1` payload, the problems in the order of their first sample."""
    by_task: dict[str, list[str]] = {}
    for submission, outcome in zip(submissions, outcomes, strict=True):
        by_task.setdefault(submission.task.task_id, []).append(outcome.error.value)
    return {
        "problems": [
            {"id": task_id, "n": len(found), "c": found.count("passed"), "outcomes": found}
            for task_id, found in by_task.items()
        ]
    }


def _estimate(evidence: Evidence, k: int) -> Estimate:
    """pass@k by the measure that contracts use, with its own interval (bootstrap over problems)."""
    spec = catalog().measures.get(MEASURE)
    if spec is None:
        raise InputError(f"no plugin provides the measure {MEASURE}; see hrmctl plugins list")
    try:
        values = resolve(spec.target)([evidence], spec.params(k=k))
    except MeasureError as error:
        raise InputError(f"pass@{k} cannot be estimated: {error}") from error
    return Estimate(float(values["value"]), float(values["lo"]), float(values["hi"]))
