"""From a measured curve to what it will be: the choice of a family, joint draws, intervals and probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri  # type: ignore[import-untyped]

from hrmctl_statistics.fits import Array, Family, Fits, families, fit

LEAST = 8
DRAWS = 1000
# Back-tests: the curve is forecast from these shares of its points, with so many draws at the level judged.
_ORIGINS = (0.5, 0.625, 0.75)
_BACK_DRAWS, _BACK_LEVEL = 200, 0.9
# An error below this share of a curve's standard deviation is rounding.
_EXACT = 1e-6
# Points that are fitted where half of them would be fewer.
_KEPT = 16
# More points than this are averaged in so many groups of neighbours: a fit gains nothing from more.
_MOST = 128
_HELD_OUT = 0.25
_TAIL = 2 / 3
_TAIL_LEAST = 6
_ROUGH, _FINE = 4, 12
# Standard errors that the slope of the end must be on the wrong side before a curve counts as getting worse.
_SURE = 3.0

Course = Literal["improving", "flat", "worsening"]


@dataclass(frozen=True, slots=True)
class Curve:
    """The measured values of one metric: `steps` ascending and positive, `values` finite.

    `down` says that less is better. No value can be over `most`, nor under 0 where none measured was.
    """

    metric: str
    steps: Array
    values: Array
    down: bool
    most: float = math.inf

    def grouped(self) -> Curve:
        """The same curve with neighbours averaged, where it has many points."""
        n = len(self.steps)
        if n <= _MOST:
            return self
        edges = np.linspace(0, n, _MOST + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, n))
        steps, values = (np.add.reduceat(part, edges) / counts for part in (self.steps, self.values))
        return replace(self, steps=steps, values=values)

    def first(self, count: int) -> Curve:
        """The curve as it was when it had so many points."""
        return replace(self, steps=self.steps[:count], values=self.values[:count])

    def later(self) -> Curve:
        """The second half of the curve: the first steps of a training obey laws of their own."""
        kept = max(_KEPT, len(self.steps) // 2)
        return replace(self, steps=self.steps[-kept:], values=self.values[-kept:])


@dataclass(frozen=True)
class Forecast:
    """What a curve was found to do, and `draws` (B,) of the value that would be measured at the step asked for.

    `course` is `worsening` where the end of the curve goes the wrong way; there are no draws then. `family` is the
    fit chosen, `errors` each family's root mean squared error on the held-out end, `noise` the standard deviation
    of the points about the fit, `groups` the number of points fitted, the first of them at step `start`.
    """

    curve: Curve
    course: Course
    family: str
    parameters: Mapping[str, float]
    errors: Mapping[str, float]
    noise: float
    groups: int
    start: float
    draws: Array

    def interval(self, level: float) -> tuple[float, float, float]:
        """Median, lower and upper end of the central prediction interval."""
        tail = (1 - level) / 2
        low, middle, high = np.quantile(self.draws, [tail, 0.5, 1 - tail])
        return float(middle), float(low), float(high)


@dataclass(frozen=True, slots=True)
class Joint:
    """Probabilities of several targets and of all of them together, from the same draws.

    Raises ArithmeticError where they contradict each other: together never more than the least, nor less than
    what is left of certainty (Fréchet's bounds).
    """

    each: tuple[float, ...]
    together: float

    def __post_init__(self) -> None:
        least = max(0.0, sum(self.each) - (len(self.each) - 1))
        if not least - 1e-9 <= self.together <= min(self.each) + 1e-9:
            raise ArithmeticError(f"the joint probability {self.together} contradicts its parts {self.each}")


def probabilities(met: Sequence[Array]) -> Joint:
    """From which draws (B,) meet which target. (k + ½)/(B + 1): no finite number of draws makes anything certain."""
    counted = [(float(each.sum()) + 0.5) / (len(each) + 1) for each in (*met, np.logical_and.reduce(met))]
    return Joint(tuple(counted[:-1]), counted[-1])


def predict(curves: Sequence[Curve], step: float, draws: int = DRAWS, seed: int = 0) -> list[Forecast]:
    """A forecast of each curve for one step. Draw number i of all of them belongs together.

    Each draw repeats fit and choice on the fitted curve plus residuals resampled in blocks of neighbours; the blocks
    of all curves begin at the same places in time, so what their errors have in common stays. The draws are then spread
    by what the curve's own back-tests ask for. Raises ValueError below 8 points.
    """
    short = [curve for curve in curves if len(curve.steps) < LEAST]
    if short:
        raise ValueError(f"{short[0].metric} has {len(short[0].steps)} points; a forecast needs {LEAST}")
    grouped = [curve.grouped() for curve in curves]
    parts = [_Fitted(curve.later()) for curve in grouped]
    stretches = [_stretch(curve, step, seed) for curve in grouped]
    chance = _chance(draws, min(part.blocks for part in parts), seed)
    return [
        part.forecast(*of, step, chance) for part, of in zip(parts, zip(curves, stretches, strict=True), strict=True)
    ]


def _stretch(curve: Curve, step: float, seed: int) -> float:
    """What the interval must be multiplied by so that the curve's own back-tests lie in it; at least 1.

    A back-test sees the first points of the curve and foretells one that was measured later, as far ahead, by ratio,
    as `step` is of the whole curve (the last one, where that is beyond it). The score is the error as a share of its
    side of the interval; the largest of so few is their conformal quantile (Vovk et al. 2005).
    """
    last, ratio, scores = len(curve.steps) - 1, step / float(curve.steps[-1]), [1.0]
    for seen in (round(share * (last + 1)) for share in _ORIGINS):
        if seen < LEAST:
            continue
        part = _Fitted(curve.first(seen).later())
        asked = min(last, int(np.searchsorted(curve.steps, ratio * curve.steps[seen - 1])))
        scores.append(part.score(float(curve.steps[asked]), float(curve.values[asked]), seed))
    return max(scores)


def _chance(draws: int, blocks: int, seed: int) -> _Chance:
    generator = np.random.default_rng(seed)
    return _Chance(generator.random((draws, blocks)), *generator.random((3, draws)))


@dataclass(frozen=True, slots=True)
class _Chance:
    """Uniform numbers that all curves share: where blocks start (B, blocks); (B,) the last residual, scale, fit."""

    starts: Array
    last: Array
    scale: Array
    base: Array


class _Fitted:
    """A curve scaled to unit size, with the fit of each family; `best` is that of the least held-out error."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.x = curve.steps / curve.steps[-1]
        self.middle = float(curve.values.mean())
        self.size = float(curve.values.std()) or 1.0
        # Less is better in `y`, whatever it is in the curve.
        self.sign = 1.0 if curve.down else -1.0
        self.y = (self.sign * (curve.values - self.middle) / self.size)[None, :]
        self.least = _least(curve, self.middle) / self.size
        self.families = families(self.x)
        self.errors = _held_out(self.families, self.x, self.y, _FINE, self.least)[:, 0]
        self.fits = [fit(family, self.x, self.y, _FINE, self.least) for family in self.families]
        rests = [_inflated((self.y - one.at(self.x))[0], one.family.free) for one in self.fits]
        self.rests = np.stack([rest for rest, _ in rests])
        self.best = int(self.errors.argmin())
        self.rest, self.degrees = rests[self.best]
        self.blocks = -(-len(self.x) // _block_length(self.rest))

    @property
    def weights(self) -> Array:
        """How far the held-out end speaks for each family: its normal likelihood, over the independent points."""
        r = _correlation(self.rest)
        points = max(2.0, _held_out_points(len(self.x)) * (1 - r) / (1 + r))
        least = self.errors[self.best] + 1e-20
        likelihood: Array = ((self.errors + 1e-20) / least) ** (-points / 2)
        weights: Array = likelihood / likelihood.sum()
        return weights

    @property
    def worsens(self) -> bool:
        """Whether the end of the curve goes the wrong way, more than its noise allows."""
        m = max(_TAIL_LEAST, round(len(self.x) * _TAIL))
        slope, error = _slope(self.x[-m:], self.y[0, -m:])
        return slope > _SURE * error + 1e-12

    def forecast(self, original: Curve, stretch: float, step: float, chance: _Chance) -> Forecast:
        """The forecast of the curve as it was before neighbours were averaged."""
        noise = float(self.rest.std()) * self.size
        errors = {f.name: math.sqrt(e) * self.size for f, e in zip(self.families, self.errors, strict=True)}
        about = (
            self.families[self.best].name,
            self._parameters(),
            errors,
            noise,
            len(self.x),
            float(self.curve.steps[0]),
        )
        if self.worsens:
            return Forecast(original, "worsening", *about, np.zeros(0))
        values, gain = self._draws(step / self.curve.steps[-1], chance)
        course = self._course(gain)
        middle = float(np.median(values))
        values = middle + stretch * (values - middle)
        values = self.sign * self.size * values + self.middle
        least = 0.0 if original.values.min() >= 0 else -math.inf
        return Forecast(original, course, *about, np.clip(values, least, original.most))

    def score(self, step: float, value: float, seed: int) -> float:
        """How far a value measured at `step` is from the middle of the interval, as a share of its side of it."""
        draws, _ = self._draws(step / float(self.curve.steps[-1]), _chance(_BACK_DRAWS, self.blocks, seed))
        low, middle, high = np.quantile(draws, [(1 - _BACK_LEVEL) / 2, 0.5, (1 + _BACK_LEVEL) / 2])
        error = self.sign * (value - self.middle) / self.size - middle
        side = high - middle if error > 0 else middle - low
        return float(abs(error) / max(side, _EXACT))

    def _draws(self, place: float, chance: _Chance) -> tuple[Array, Array]:
        """Draws of a value at `place`, and of how much better the fitted curve is there than at its end."""
        # How large the noise is is known from few residuals only: as in Student's t, its scale is drawn too.
        scale = np.sqrt(self.degrees / chdtri(self.degrees, chance.scale))
        base = np.searchsorted(np.cumsum(self.weights)[:-1], chance.base)
        fitted = np.concatenate([one.at(self.x) for one in self.fits])
        again = fitted[base] + scale[:, None] * self._resampled(base, chance.starts)
        errors = _held_out(self.families, self.x, again, _ROUGH, self.least)
        chosen = errors.argmin(axis=0)
        ends = np.zeros((len(again), 2))
        for number, family in enumerate(self.families):
            rows = chosen == number
            if rows.any():
                ends[rows] = fit(family, self.x, again[rows], _ROUGH, self.least).at(np.array([1.0, place]))
        rest = self.rests[base, (chance.last * len(self.x)).astype(int)]
        return ends[:, 1] + scale * rest, ends[:, 0] - ends[:, 1]

    def _resampled(self, base: NDArray[np.intp], starts: Array) -> Array:
        """Residuals (B, n) of the fits `base` in circular blocks that begin at the shares `starts` (B, blocks)."""
        n, blocks = len(self.x), starts.shape[1]
        length = -(-n // blocks)
        places = (starts * n).astype(int)[:, :, None] + np.arange(length)
        found: Array = self.rests[base[:, None], places.reshape(len(starts), -1)[:, :n] % n]
        return found

    def _course(self, gain: Array) -> Course:
        """Improving where what is to come is more than the noise of one point, and surely of that sign."""
        sure = float(np.quantile(gain, 0.05)) > 0
        return "improving" if sure and float(np.median(gain)) > float(self.rest.std()) else "flat"

    def _parameters(self) -> dict[str, float]:
        """a, b, c (per step for an exponential) and t0 of the fit, in the units of the curve."""
        best = self.fits[self.best]
        name, last, first = best.family.name, float(self.curve.steps[-1]), float(self.x[0])
        size = self.sign * self.size
        a = float(best.a[0]) * size + self.middle
        if name == "constant":
            return {"a": a}
        b, c = float(best.b[0]) * size, math.exp(best.theta[0, 0])
        if name == "exponential":
            return {"a": a, "b": b * math.exp(c * first), "c": c / last}
        offset = math.exp(best.theta[0, 1])
        return {"a": a, "b": b * ((first + offset) * last) ** c, "c": c, "t0": offset * last}


def _least(curve: Curve, middle: float) -> float:
    """How far below its middle a curve can fall: to 0, or, turned over where more is better, to -`most`."""
    if curve.down:
        return -middle if curve.values.min() >= 0 else -math.inf
    return middle - curve.most


def _held_out(known: Sequence[Family], x: Array, y: Array, steps: int, least: float) -> Array:
    """Mean squared error of each family on the last quarter fitted to what is before: (F, B)."""
    head = len(x) - _held_out_points(len(x))
    fits: list[Fits] = [fit(family, x[:head], y[:, :head], steps, least) for family in known]
    return np.stack([((y[:, head:] - one.at(x[head:])) ** 2).mean(axis=1) for one in fits])


def _held_out_points(n: int) -> int:
    return max(2, int(n * _HELD_OUT + 0.5))


def _inflated(rest: Array, free: int) -> tuple[Array, float]:
    """Residuals freed of the shrinkage by `free` fitted parameters, and the degrees of freedom that they have."""
    r = _correlation(rest)
    # Neighbours that err together tell less than so many points that do not.
    effective = max(free + 2.0, len(rest) * (1 - r) / (1 + r))
    degrees = effective - free
    return (rest - rest.mean()) * math.sqrt(effective / degrees), degrees


def _slope(x: Array, y: Array) -> tuple[float, float]:
    """Slope of a straight line and its standard error, which allows for neighbours that err together."""
    u = x - x.mean()
    slope = float((u * y).sum() / (u**2).sum())
    rest = y - y.mean() - slope * u
    r = _correlation(rest)
    error = math.sqrt(float((rest**2).sum()) / (len(x) - 2) / float((u**2).sum()))
    return slope, error * math.sqrt((1 + r) / (1 - r))


def _correlation(rest: Array) -> float:
    """Correlation of neighbours, freed of its bias in short series (Kendall 1954), at least 0 and at most 0.95."""
    total = float((rest**2).sum())
    if total == 0:
        return 0.0
    r = float((rest[1:] * rest[:-1]).sum()) / total
    return min(0.95, max(0.0, r + (1 + 3 * r) / len(rest)))


def _block_length(rest: Array) -> int:
    """Points of a block: Andrews' rule (1991) for a first-order autoregression, at most a quarter of the curve."""
    r = _correlation(rest)
    wanted = (6**0.5 * r / (1 - r**2)) ** (2 / 3) * len(rest) ** (1 / 3)
    return max(1, min(int(wanted + 0.5), len(rest) // 4))
