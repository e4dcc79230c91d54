"""The fits find what they are given, and are those of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hrmctl_statistics.fits import families, fit
from scipy.optimize import least_squares

from .helpers import noisy

X = np.arange(1, 41) / 40
BY_NAME = {family.name: family for family in families(X)}
TRUTHS = {
    "exponential": 1 + 3 * np.exp(-4.3 * X),
    "power": 0.5 + 0.7 * (X + 0.06) ** -0.8,
    "constant": np.full(40, 2.5),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_curve_without_noise_is_fitted_exactly_and_extrapolated(name: str) -> None:
    found = fit(BY_NAME[name], X, TRUTHS[name][None, :], steps=60)
    assert found.at(X)[0] == pytest.approx(TRUTHS[name], abs=1e-4)
    ahead = {"exponential": 1 + 3 * np.exp(-4.3 * 2), "power": 0.5 + 0.7 * 2.06**-0.8, "constant": 2.5}[name]
    assert found.at(np.array([2.0]))[0, 0] == pytest.approx(ahead, abs=2e-3)


@pytest.mark.parametrize("name", ["exponential", "power"])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_least_squares_does_better(name: str, seed: int) -> None:
    y = noisy(TRUTHS[name], 0.05, seed)
    family = BY_NAME[name]

    def residuals(p: np.ndarray) -> np.ndarray:
        return y - p[0] - p[1] * family.shape(X, p[None, 2:])[0][0]

    low, high = family.starts.min(axis=0), family.starts.max(axis=0)
    bounds = ([-np.inf, -np.inf, *low], [np.inf, np.inf, *high])
    starts = [np.array([y.min(), np.ptp(y), *start]) for start in family.starts[5::9].clip(low + 1e-6, high - 1e-6)]
    best = min(2 * least_squares(residuals, start, bounds=bounds).cost for start in starts)
    ours = float(((y - fit(family, X, y[None, :]).at(X)[0]) ** 2).sum())
    assert ours <= best * 1.001


def test_many_curves_are_fitted_as_each_alone() -> None:
    curves = np.stack([noisy(TRUTHS["power"], 0.02, seed) for seed in range(5)])
    together = fit(BY_NAME["power"], X, curves).at(X)
    for curve, found in zip(curves, together, strict=True):
        assert fit(BY_NAME["power"], X, curve[None, :]).at(X)[0] == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("name", ["exponential", "power"])
def test_the_derivative_is_that_of_the_shape(name: str) -> None:
    family = BY_NAME[name]
    theta, step = family.starts[7:9], 1e-6
    for i in range(theta.shape[1]):
        move = np.eye(theta.shape[1])[i] * step
        numeric = (family.shape(X, theta + move)[0] - family.shape(X, theta - move)[0]) / (2 * step)
        assert family.shape(X, theta)[1][:, :, i] == pytest.approx(numeric, abs=1e-7)
