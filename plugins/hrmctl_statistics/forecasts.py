"""The measure `forecast_at`: where a curve will be, and how probable its targets are together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hrmctl import Evidence, MeasureError, Undecidable
from hrmctl_statistics.fits import Array
from hrmctl_statistics.params import CurveTarget, ForecastParams
from hrmctl_statistics.predict import LEAST, Curve, predict, probabilities
from hrmctl_statistics.read import Values, curve, ended, finite
from hrmctl_statistics.trends import placed

LOWER = ("loss", "perplexity")


def lower(metric: str) -> bool:
    """Whether less of a metric is better, by its name: losses and perplexities."""
    return metric.endswith(LOWER)


def is_share(metric: str) -> bool:
    """Whether a metric cannot be above 1, by its name."""
    return metric.endswith("accuracy") or metric.startswith("sample_")


def forecast_at(evidence: Sequence[Evidence], params: ForecastParams) -> Values:
    """The forecast of a curve for a step or an epoch, with interval and the probabilities of targets.

    Draw number i of all curves belongs together, so that the joint probability is never above its smallest part.
    Raises MeasureError below 8 points, for a curve whose last point was not finite and for a place that has been
    measured, Undecidable for a curve that gets worse.
    """
    names = list(dict.fromkeys([params.metric, *(target.metric for target in params.targets)]))
    step = _step(evidence[0], params)
    curves = [_curve(evidence[0], name, step) for name in names]
    found = dict(zip(names, predict(curves, step, params.draws, params.seed), strict=True))
    worse = [name for name, one in found.items() if one.course == "worsening"]
    if worse:
        raise Undecidable(f"{worse[0]} is getting worse over the last third of its points; nothing is forecast")
    own = found[params.metric]
    middle, low, high = own.interval(params.level)
    result: dict[str, float | int | str] = {
        "value": middle,
        "lo": low,
        "hi": high,
        "step": step,
        "last": float(own.curve.values[-1]),
        "course": own.course,
        "family": own.family,
        "n": len(own.curve.steps),
        "nonfinite": sum(curve(evidence[0], name)[1].count(None) for name in names),
        "targets": len(params.targets),
    }
    if params.targets:
        joint = probabilities([_met(target, found[target.metric].draws) for target in params.targets])
        result |= {"joint": joint.together, "least": min(joint.each)}
        result["each"] = " ".join(f"{p:.4f}" for p in joint.each)
    return finite(result)


def _met(target: CurveTarget, draws: Array) -> Any:
    down = lower(target.metric) if target.op == "auto" else target.op == "le"
    return draws <= target.value if down else draws >= target.value


def _step(evidence: Evidence, params: ForecastParams) -> float:
    """The step asked about; an epoch is as many steps as the last one recorded took on average."""
    steps, _ = curve(evidence, params.metric)
    if params.unit == "steps":
        return params.to
    epochs, _ = placed(evidence, params.metric, "epochs")
    if epochs[-1] <= 0:
        raise MeasureError(f"{evidence.name}: {params.metric} ends at epoch {epochs[-1]:g}")
    return params.to * steps[-1] / epochs[-1]


def _curve(evidence: Evidence, metric: str, step: float) -> Curve:
    import numpy as np

    steps, values = ended(evidence, metric)
    points = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None and s > 0]
    if len(points) < LEAST:
        raise MeasureError(f"{metric} has {len(points)} points; a forecast needs {LEAST}")
    if step <= points[-1][0]:
        raise MeasureError(f"{metric} has been measured up to step {points[-1][0]}; ask for a later one than {step:g}")
    places, heights = (np.array(side, dtype=float) for side in zip(*points, strict=True))
    return Curve(metric, places, heights, lower(metric), 1.0 if is_share(metric) else math.inf)
