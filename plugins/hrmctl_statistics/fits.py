"""Least squares of a curve that levels off: exponential, power law or constant, for many curves at once.

A curve is `a + b·f(x; θ)`. For a given θ the best a and b follow in closed form (variable projection, Golub and
Pereyra 1973), so only θ is searched: on a grid, which stands for many starts, and then by damped Gauss-Newton steps
with Kaufman's simplified Jacobian. Rows are curves: B of them at the same n places x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Shape = Callable[[Array, Array], tuple[Array, Array]]
_STEPS = 12
_SMALL = 1e-300


@dataclass(frozen=True, slots=True)
class Family:
    """One form of curve.

    `shape(x, θ)` takes places (n,) and θ (B, d) and gives f (B, n) and its derivative (B, n, d). `starts` (G, d) are
    the grid; its corners bound θ.
    """

    name: str
    shape: Shape
    starts: Array

    @property
    def free(self) -> int:
        """Parameters that a fit chooses."""
        own: int = self.starts.shape[1]
        return own + (2 if own else 1)


@dataclass(frozen=True, slots=True)
class Fits:
    """The fits of B curves: `theta` (B, d), `a` and `b` (B,)."""

    family: Family
    theta: Array
    a: Array
    b: Array

    def at(self, x: Array) -> Array:
        """The fitted curves at places x (n,), as (B, n)."""
        return self.a[:, None] + self.b[:, None] * self.family.shape(x, self.theta)[0]


def families(x: Array) -> tuple[Family, ...]:
    """Constant, exponential `exp(-c·x)` and power law `(x + x0)^-c`, for curves that begin at x[0] and end at 1.

    f is scaled to 1 at x[0]; θ holds logarithms, so that c and x0 stay positive.
    """
    first = float(x[0])

    def constant(x: Array, theta: Array) -> tuple[Array, Array]:
        return np.zeros((len(theta), len(x))), np.zeros((len(theta), len(x), 0))

    def exponential(x: Array, theta: Array) -> tuple[Array, Array]:
        rise = np.exp(theta) * (x - first)
        f = np.exp(-rise)
        return f, (-rise * f)[..., None]

    def power(x: Array, theta: Array) -> tuple[Array, Array]:
        c, offset = np.exp(theta[:, :1]), np.exp(theta[:, 1:])
        ratio = np.log((x + offset) / (first + offset))
        f = np.exp(-c * ratio)
        slope = -c * f * offset * (1 / (x + offset) - 1 / (first + offset))
        return f, np.stack([-c * ratio * f, slope], axis=-1)

    rates = np.log(np.geomspace(0.2, 300, 48))
    offsets = np.log(np.geomspace(max(1e-5, 0.1 * first), 2, 10))
    powers = np.log(np.geomspace(0.05, 5, 16))
    grid = np.stack([part.ravel() for part in np.meshgrid(powers, offsets)], axis=1)
    return (
        Family("constant", constant, np.zeros((1, 0))),
        Family("exponential", exponential, rates[:, None]),
        Family("power", power, grid),
    )


def fit(family: Family, x: Array, y: Array, steps: int = _STEPS, least: float = -math.inf) -> Fits:
    """The least-squares fits of the curves y (B, n) at x (n,), polished by at most `steps` Gauss-Newton steps.

    Where a curve that falls would level off under `least`, it is fitted again with a = `least`.
    """
    found = _fitted(family, x, y, steps, None)
    under = (found.a < least) & (found.b > 0)
    if under.any():
        held = _fitted(family, x, y[under], steps, least)
        for name in ("theta", "a", "b"):
            getattr(found, name)[under] = getattr(held, name)
    return found


def _fitted(family: Family, x: Array, y: Array, steps: int, level: float | None) -> Fits:
    """The fits with a = `level`, or with the best a."""
    known = y.mean(axis=1) if level is None else np.full(len(y), level)
    rest, free = y - known[:, None], level is None
    theta = family.starts[_best_start(family, x, rest, free)]
    if family.starts.shape[1]:
        theta = _polished(family, x, rest, theta, steps, free)
    f = family.shape(x, theta)[0]
    _, b, _ = _projected(f, rest, free)
    return Fits(family, theta, known - b * f.mean(axis=1) if free else known, b)


def _best_start(family: Family, x: Array, y: Array, free: bool) -> NDArray[np.intp]:
    f = _centred(family.shape(x, family.starts)[0], free)
    unit = f / np.sqrt((f**2).sum(axis=1, keepdims=True) + _SMALL)
    explained: Array = (y @ unit.T) ** 2
    best: NDArray[np.intp] = explained.argmax(axis=1)
    return best


def _centred(values: Array, free: bool) -> Array:
    """Without its mean, which a takes up where it is free."""
    centred: Array = values - values.mean(axis=1, keepdims=True) if free else values
    return centred


def _projected(f: Array, y: Array, free: bool) -> tuple[Array, Array, Array]:
    """The part of f that a does not take up, its factor b and the residuals, for y without that part."""
    centred = _centred(f, free)
    b = (y * centred).sum(axis=1) / ((centred**2).sum(axis=1) + _SMALL)
    return centred, b, y - b[:, None] * centred


def _polished(family: Family, x: Array, y: Array, theta: Array, steps: int, free: bool) -> Array:
    low, high = family.starts.min(axis=0), family.starts.max(axis=0)
    damping = np.full(len(y), 1e-3)
    f, slope = family.shape(x, theta)
    centred, b, rest = _projected(f, y, free)
    for _ in range(steps):
        trial = np.clip(theta + _step(centred, b, rest, _centred(slope, free), damping), low, high)
        f, new_slope = family.shape(x, trial)
        new_centred, new_b, new_rest = _projected(f, y, free)
        better = (new_rest**2).sum(axis=1) < (rest**2).sum(axis=1)
        theta, slope, centred = (
            _where(better, new, old) for new, old in ((trial, theta), (new_slope, slope), (new_centred, centred))
        )
        b, rest = _where(better, new_b, b), _where(better, new_rest, rest)
        damping = np.where(better, damping / 5, damping * 8)
    return theta


def _where(chosen: NDArray[np.bool_], new: Array, old: Array) -> Any:
    return np.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _step(centred: Array, b: Array, rest: Array, slope: Array, damping: Array) -> Array:
    """The damped Gauss-Newton step of θ, (B, d)."""
    jacobian = b[:, None, None] * slope
    along = (centred[..., None] * jacobian).sum(axis=1) / ((centred**2).sum(axis=1)[:, None] + _SMALL)
    jacobian = jacobian - centred[..., None] * along[:, None, :]
    normal = jacobian.transpose(0, 2, 1) @ jacobian
    size = normal.shape[1]
    scale = np.trace(normal, axis1=1, axis2=2)[:, None] / size
    diagonal = damping[:, None] * (np.einsum("bii->bi", normal) + 1e-9 * scale) + _SMALL
    normal = normal + np.eye(size) * diagonal[:, :, None]
    gradient = jacobian.transpose(0, 2, 1) @ rest[..., None]
    solved: Array = np.linalg.solve(normal, gradient)[..., 0]
    return np.clip(solved, -2, 2)
