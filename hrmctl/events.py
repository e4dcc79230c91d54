"""What a run tells listeners and plugins: one frozen dataclass for each hook, and the report made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrmctl.model import CheckReport, Evidence, Judgement


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run is about to execute its first stage."""

    run: str
    recipe: str
    folder: Path
    stages: Sequence[str]


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins; `cached` stages finish at once without running."""

    run: str
    stage: str
    uses: str
    cached: bool


@dataclass(frozen=True, slots=True)
class StageProgress:
    """A stage has done `done` of `total` steps."""

    run: str
    stage: str
    done: int
    total: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StageWarned:
    """A stage logged a warning, `text` in one line; each once, and of one kind only the first few."""

    run: str
    stage: str
    text: str


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage ended: `status` is `done`, `cached`, `failed`, `blocked` or `cancelled`."""

    run: str
    stage: str
    status: str
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class VerdictReached:
    """One obligation got its verdict, and it is in the ledger."""

    run: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over; `exit_code` is that of the command."""

    run: str
    status: str
    exit_code: int
    seconds: float


Series = Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]]


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that the page of one run shows.

    `series` maps stage → metric → (steps, values); `provenance` is shown as names and values.
    """

    check: CheckReport
    recipe: str
    stages: Sequence[StageFinished]
    series: Series
    provenance: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """A check with all evidence of the runs that it judged, in the order of their stages."""

    check: CheckReport
    evidence: Sequence[Evidence]
