"""Parameters of the measures: what a contract may write beside `fn` and `of`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from hrmctl.schema import doc

Resamples = Annotated[int, Ge(100), Le(100_000), doc("bootstrap resamples")]
Seed = Annotated[int, Ge(0), doc("seed of the resampling; the same seed gives the same interval")]
Level = Annotated[float, Gt(0.5), Lt(1.0), doc("confidence level of the interval (0.95 leaves 2.5 % on each side)")]


@dataclass(frozen=True)
class NoParams:
    """The measure takes no parameters."""


@dataclass(frozen=True)
class ProportionInterval:
    """How the interval of a mean over problems is computed."""

    method: Annotated[
        Literal["bootstrap", "wilson", "none"],
        doc("`bootstrap` resamples problems, `wilson` needs every problem to be 0 or 1, `none` leaves lo and hi out"),
    ] = "bootstrap"
    resamples: Resamples = 10_000
    seed: Seed = 0
    level: Level = 0.95


@dataclass(frozen=True)
class TrialInterval:
    """How the interval of two repeated measurements is computed."""

    method: Annotated[
        Literal["auto", "bootstrap", "none"],
        doc("`bootstrap` insists on trials on both sides, `auto` takes them where they are, `none` omits lo and hi"),
    ] = "auto"
    resamples: Resamples = 10_000
    seed: Seed = 0
    level: Level = 0.95


@dataclass(frozen=True)
class CompareParams:
    """Two measurements of one unit, the first against the second."""

    ci: Annotated[TrialInterval, doc("interval from the trials of both sides")] = field(default_factory=TrialInterval)


@dataclass(frozen=True)
class PassAtKParams:
    """pass@k of one set of samples."""

    k: Annotated[int, Ge(1), doc("draws a problem; every problem needs at least k samples")] = 1
    ci: Annotated[ProportionInterval, doc("interval over problems")] = field(default_factory=ProportionInterval)


@dataclass(frozen=True)
class RateParams:
    """A proportion with its Wilson interval."""

    level: Level = 0.95


@dataclass(frozen=True)
class PairedDeltaParams:
    """Two models on the same problems."""

    k: Annotated[int, Ge(1), doc("compare pass@k; every problem needs at least k samples on both sides")] = 1
    resamples: Resamples = 10_000
    seed: Seed = 0
    level: Level = 0.95


@dataclass(frozen=True)
class OutcomeParams:
    """Which class of outcome is counted."""

    outcome: Annotated[str, MinLen(1), doc("outcome class as the sandbox names it, e.g. `timeout`")]
    level: Level = 0.95


@dataclass(frozen=True)
class SeriesParams:
    """One curve of a training series."""

    metric: Annotated[str, MinLen(1), doc("name of the curve, e.g. `loss`")] = "loss"
    window: Annotated[int, Ge(1), doc("points averaged at each end; the curve needs at least twice as many")] = 10


@dataclass(frozen=True)
class FilesParams:
    """Which files of a listing are counted."""

    match: Annotated[str, MinLen(1), doc("glob over the relative path, e.g. `*.safetensors`")] = "*"
