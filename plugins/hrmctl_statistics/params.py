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

    outcome: Annotated[
        str | tuple[str, ...],
        MinLen(1),
        doc("outcome class as the sandbox names it, e.g. `timeout`, or a list of them"),
    ]
    level: Level = 0.95


@dataclass(frozen=True)
class SeriesParams:
    """One curve of a training series."""

    metric: Annotated[str, MinLen(1), doc("name of the curve, e.g. `loss`")] = "loss"
    window: Annotated[int, Ge(1), doc("points averaged at each end; the curve needs at least twice as many")] = 10


Skip = Annotated[float, Ge(0), Lt(1), doc("share of the curve's first points that is left out")]
Unit = Annotated[Literal["epochs", "steps"], doc("unit of places; epochs are those of the curve `epoch`")]


@dataclass(frozen=True)
class SlopeParams:
    """Which part of which curve a straight line is fitted to."""

    metric: Annotated[str, MinLen(1), doc("name of the curve, e.g. `loss`")] = "loss"
    skip: Skip = 0.0
    level: Level = 0.95


@dataclass(frozen=True)
class ClusteredSlopeParams:
    """The slopes of one curve of several seeds."""

    metric: Annotated[str, MinLen(1), doc("name of the curve, e.g. `loss`")] = "loss"
    window: Annotated[int, Ge(1), doc("points averaged at the end of each curve")] = 10
    skip: Skip = 0.0
    level: Level = 0.95


@dataclass(frozen=True)
class AllFiniteParams:
    """What a measurement says of values that were not finite."""

    counted: Annotated[
        bool, doc("the measurement is itself the count of values that were not finite among its n, as `nonfinite` is")
    ] = False


@dataclass(frozen=True)
class ProgressParams:
    """The target of a curve, and where its progress is taken."""

    target: Annotated[float, doc("the value that the curve is to reach")]
    metric: Annotated[str, MinLen(1), doc("name of the curve, e.g. `loss`")] = "loss"
    at: Annotated[float | None, Gt(0), doc("the place, in `unit`; the end of the curve if left out")] = None
    unit: Unit = "epochs"
    window: Annotated[int, Ge(1), doc("points averaged at the beginning and up to the place")] = 1


@dataclass(frozen=True)
class PlateauParams:
    """When a loss counts as standing still: less than `threshold` of it went within `window`."""

    metric: Annotated[str, MinLen(1), doc("the loss, all of it above 0; lower is better")] = "loss"
    window: Annotated[float, Gt(0), doc("distance over which the loss is compared, in `unit`")] = 5.0
    after: Annotated[float, Ge(0), doc("nothing is compared before this place, in `unit`")] = 10.0
    threshold: Annotated[float, Gt(0), Lt(1), doc("share of the loss that must go within `window`")] = 0.10
    unit: Unit = "epochs"


@dataclass(frozen=True)
class CurveTarget:
    """A value that a curve is to reach."""

    metric: Annotated[str, MinLen(1), doc("name of the curve")]
    value: Annotated[float, doc("the value")]
    op: Annotated[
        Literal["auto", "le", "ge"], doc("`le` at most, `ge` at least; `auto` at most for losses and perplexities")
    ] = "auto"


@dataclass(frozen=True)
class ForecastParams:
    """What is forecast, and for when."""

    to: Annotated[float, Gt(0), doc("the place asked about, in `unit`; later than the curve's last point")]
    unit: Unit = "epochs"
    metric: Annotated[str, MinLen(1), doc("name of the curve, e.g. `loss`")] = "loss"
    targets: Annotated[tuple[CurveTarget, ...], doc("values to be reached, of any curves")] = ()
    level: Annotated[float, Gt(0), Lt(1), doc("probability of the interval")] = 0.9
    draws: Annotated[int, Ge(100), Le(100_000), doc("draws of the bootstrap")] = 1000
    seed: Seed = 0


@dataclass(frozen=True)
class NormParams:
    """Which norms of a merge count as outside."""

    tolerance: Annotated[float, Ge(0), doc("relative distance that does not yet count as `outside`")] = 0.0


@dataclass(frozen=True)
class HolmParams:
    """Several paired comparisons of one set of samples against others."""

    test: Annotated[
        Literal["mcnemar", "bootstrap"], doc("`mcnemar`: exact, on first samples; `bootstrap`: of pass@k")
    ] = "mcnemar"
    k: Annotated[int, Ge(1), doc("of the bootstrap: compare pass@k; every problem needs at least k samples")] = 1
    resamples: Resamples = 10_000
    seed: Seed = 0
    level: Level = 0.95


@dataclass(frozen=True)
class FilesParams:
    """Which files of a listing are counted."""

    match: Annotated[str, MinLen(1), doc("glob over the relative path, e.g. `*.safetensors`")] = "*"
