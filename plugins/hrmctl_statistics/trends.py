"""Measures of where a curve is going: its slope with an interval, how far it has come, where it stood still."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hrmctl import Evidence, MeasureError, Undecidable
from hrmctl_statistics.params import ClusteredSlopeParams, PlateauParams, ProgressParams, SlopeParams
from hrmctl_statistics.read import Values, curve, ended, finite

FEWEST_EFFECTIVE = 6.0
"""Below so many independent points neither the noise nor its correlation is known."""
PARTS = 5
"""A window's two ends are averages over this part of it, as the training's own watcher takes them."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line's slope, its standard error and degrees of freedom.

    `correlation` is that of neighbouring residuals, `effective` the number of independent points that so many
    correlated ones are worth.
    """

    slope: float
    se: float
    df: float
    correlation: float
    effective: float


def trend(steps: Sequence[int], values: Sequence[float]) -> Trend:
    """The least-squares line, with an error that allows for residuals of a first-order autoregression.

    Santer et al. 2000 (Journal of Geophysical Research 105, 7337): n points whose residuals have the lag-one
    correlation r are worth n (1 - r) / (1 + r), in the error and in its degrees of freedom. r is freed of its bias in
    short series after a fitted line, (2 + 4r) / n, and taken to be at least 0. Raises Undecidable below 6 such points.
    """
    n = len(steps)
    centre, level = math.fsum(steps) / n, math.fsum(values) / n
    places = [s - centre for s in steps]
    spread = math.fsum(p * p for p in places)
    slope = math.fsum(p * (v - level) for p, v in zip(places, values, strict=True)) / spread if spread else 0.0
    rest = [v - level - slope * p for p, v in zip(places, values, strict=True)]
    squares = math.fsum(r * r for r in rest)
    if squares <= (ROUNDING**2) * math.fsum((v - level) ** 2 for v in values):
        raise Undecidable(f"all {n} points lie on one straight line; there is no noise to judge its slope by")
    r = math.fsum(a * b for a, b in pairwise(rest)) / squares
    r = min(0.99, max(0.0, r + (2 + 4 * r) / n))
    effective = n * (1 - r) / (1 + r)
    if effective < FEWEST_EFFECTIVE:
        said = f"{n} points whose noise has the correlation {r:.2f} are worth {effective:.1f} independent ones"
        raise Undecidable(f"{said}; a slope needs {FEWEST_EFFECTIVE:g}")
    return Trend(slope, math.sqrt(squares / (effective - 2) / spread), effective - 2, r, effective)


def slope(evidence: Sequence[Evidence], params: SlopeParams) -> Values:
    """The slope of a curve per step with a t interval that allows for correlated noise.

    Raises MeasureError on a curve without finite points enough or whose last point was not finite, Undecidable where
    the noise hides its own size.
    """
    steps, values, nonfinite = _points(evidence[0], params.metric, params.skip)
    found = trend(steps, values)
    return finite(
        {
            "value": found.slope,
            **_interval(found.slope, found.se, found.df, params.level),
            "se": found.se,
            "n": len(steps),
            "effective": found.effective,
            "correlation": found.correlation,
            "nonfinite": nonfinite,
        }
    )


def _points(evidence: Evidence, metric: str, skip: float, window: int = 1) -> tuple[list[int], list[float], int]:
    """Steps and values of the finite points after the first share `skip` of them, and how many are not finite.

    Raises MeasureError below three finite points, or where one of the last `window` was not finite.
    """
    steps, values = ended(evidence, metric, window)
    first = math.ceil(skip * len(steps) - ROUNDING)
    pairs = [(s, v) for s, v in zip(steps[first:], values[first:], strict=True) if v is not None]
    if len(pairs) < 3:
        raise MeasureError(f"{metric} has {len(pairs)} finite points; a slope with an interval needs 3")
    return [s for s, _ in pairs], [v for _, v in pairs], len(steps) - first - len(pairs)


def _interval(value: float, se: float, df: float, level: float) -> dict[str, float]:
    from scipy.special import stdtr, stdtrit

    half = se * float(stdtrit(df, 0.5 + level / 2))
    return {"lo": value - half, "hi": value + half, "p": 2 * float(stdtr(df, -abs(value) / se))}


def clustered_slope(evidence: Sequence[Sequence[Evidence]], params: ClusteredSlopeParams) -> Values:
    """The mean slope of a curve over several seeds, with a t interval over the seeds' own slopes.

    Seeds are independent whatever the noise within a curve is like. Raises MeasureError on one seed, a curve that
    is too short or not finite within its last window, Undecidable where all seeds have one slope.
    """
    from hrmctl_statistics.estimators import slope as of

    curves = [_points(item, params.metric, params.skip, params.window) for item in evidence[0]]
    if len(curves) < 2:
        raise MeasureError(f"{len(curves)} seed; how much seeds differ needs at least 2")
    short = min(len(steps) for steps, _, _ in curves)
    if short < params.window:
        raise MeasureError(f"{params.metric} has {short} finite points in a seed; its window is {params.window}")
    slopes = [of(steps, values) for steps, values, _ in curves]
    lasts = [math.fsum(values[-params.window :]) / params.window for _, values, _ in curves]
    mean = math.fsum(slopes) / len(slopes)
    variance = math.fsum((s - mean) ** 2 for s in slopes) / (len(slopes) - 1)
    if variance <= (ROUNDING * mean) ** 2:
        raise Undecidable(f"all {len(slopes)} seeds have the slope {mean:g}; there is no spread to judge it by")
    return finite(
        {
            "value": mean,
            **_interval(mean, math.sqrt(variance / len(slopes)), len(slopes) - 1, params.level),
            "seeds": len(slopes),
            "n": short,
            "max": max(slopes),
            "last": max(lasts),
            "by_seed": " ".join(f"{s:+.4g}" for s in slopes),
            "nonfinite": sum(missing for _, _, missing in curves),
        }
    )


# --- progress and plateaus, by epoch or step ---------------------------------------------------------------


def placed(evidence: Evidence, metric: str, unit: str) -> tuple[list[float], tuple[float | None, ...]]:
    """Places (steps, or the epochs that the curve `epoch` says) and values of a curve; None where one was not finite.

    Raises MeasureError where the evidence has no epochs for some point of the curve, or its last one was not finite.
    """
    steps, values = ended(evidence, metric)
    if unit == "steps":
        return [float(s) for s in steps], values
    known = dict(zip(*curve(evidence, "epoch"), strict=True))
    epochs = [known.get(s) for s in steps]
    if None in epochs:
        raise MeasureError(f"{evidence.name}: no epoch is recorded for step {steps[epochs.index(None)]} of {metric}")
    return [float(epoch or 0) for epoch in epochs], values


def progress_to_target(evidence: Sequence[Evidence], params: ProgressParams) -> Values:
    """What share of the way from its first values to a target a curve has gone, at a place.

    1 is the target reached, above 1 beyond it, below 0 the wrong way. Raises MeasureError on a curve that ends before
    the place, has too few points there, was not finite within either window or at its end, or starts at its target.
    """
    places, values = placed(evidence[0], params.metric, params.unit)
    if params.at is not None and places[-1] < params.at - ROUNDING:
        raise MeasureError(f"{params.metric} ends at {places[-1]:g} {params.unit}, before {params.at:g}")
    end = places[-1] if params.at is None else params.at
    seen = [v for p, v in zip(places, values, strict=True) if p <= end + ROUNDING]
    if len(seen) < 2 * params.window:
        raise MeasureError(
            f"{params.metric} has {len(seen)} points up to {end:g}; two windows of {params.window} need more"
        )
    head, tail = ([v for v in side if v is not None] for side in (seen[: params.window], seen[-params.window :]))
    if min(len(head), len(tail)) < params.window:
        raise MeasureError(f"{params.metric} was not finite within the first or last {params.window} points to {end:g}")
    first, now = (math.fsum(side) / params.window for side in (head, tail))
    if first == params.target:
        raise MeasureError(f"{params.metric} starts at its target {params.target:g}; there is no way to go")
    share = (first - now) / (first - params.target)
    n, nonfinite = len(seen) - seen.count(None), values.count(None)
    shown = {"value": share, "first": first, "now": now, "target": params.target, "at": end}
    return finite({**shown, "n": n, "nonfinite": nonfinite})


def plateau(evidence: Sequence[Evidence], params: PlateauParams) -> Values:
    """Windows in which a loss fell by less than a threshold, and how long the longest such stretch is.

    The mean of the last fifth of each window is compared with that of the fifth one window earlier, at the end of
    each fifth, once the place `after` is reached; as the watcher of the training does. Raises MeasureError where no
    window lies after it, a loss is not above zero, or the last one was not finite.
    """
    places, values = placed(evidence[0], params.metric, params.unit)
    points = [(p, v) for p, v in zip(places, values, strict=True) if v is not None]
    falls = _falls(_fifths(points, params), params)
    if not falls:
        said = f"{params.metric} ends at {places[-1]:g} {params.unit}: no window of {params.window:g} ends after"
        raise MeasureError(f"{said} {params.after:g}")
    low = [end for end, fall in falls if fall < params.threshold]
    least = min(falls, key=lambda item: item[1])
    return finite(
        {
            "value": len(low),
            "share": len(low) / len(falls),
            "least": least[1],
            "at": least[0],
            "longest": _longest(falls, params),
            "n": len(falls),
            "nonfinite": values.count(None),
        }
    )


def _fifths(points: Sequence[tuple[float, float]], params: PlateauParams) -> dict[int, float]:
    """The mean of each fifth of a window by its number from 0; a fifth without points has none."""
    sums: dict[int, list[float]] = {}
    for place, value in points:
        # A point at the very end of a fifth belongs to it, as epoch 5.0 ends the fifth epoch.
        number = max(0, math.ceil(place * PARTS / params.window - ROUNDING) - 1)
        sums.setdefault(number, []).append(value)
    last = math.floor(points[-1][0] * PARTS / params.window + ROUNDING)
    return {number: math.fsum(found) / len(found) for number, found in sums.items() if number < last}


def _falls(means: dict[int, float], params: PlateauParams) -> list[tuple[float, float]]:
    """The end of each window after `after`, and what share of the loss went within it."""
    found = []
    for number in sorted(means):
        end = (number + 1) * params.window / PARTS
        if end < params.after - ROUNDING or number - PARTS not in means:
            continue
        before = means[number - PARTS]
        if before <= 0:
            raise MeasureError(f"{params.metric} is {before:g} before {end:g} {params.unit}; it has no share to lose")
        found.append((end, 1 - means[number] / before))
    return found


def _longest(falls: Sequence[tuple[float, float]], params: PlateauParams) -> float:
    """The longest stretch that windows without enough of a fall cover without a gap; 0.0 without any."""
    longest, began, last = 0.0, math.inf, -math.inf
    for end, fall in falls:
        if fall >= params.threshold:
            continue
        if end - params.window > last + ROUNDING:
            began = end - params.window
        last = end
        longest = max(longest, last - began)
    return longest
