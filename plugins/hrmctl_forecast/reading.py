"""A run's curves as metrics.jsonl holds them, and the targets that a command line asks about."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hrmctl_statistics.fits import Array
from hrmctl_statistics.forecasts import is_share, lower
from hrmctl_statistics.predict import Curve

from hrmctl import InputError

_TARGET = re.compile(r"(?:(?P<metric>[^<>=]+?)\s*(?P<op><=|>=|=))?\s*(?P<value>[^<>=]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """A metric that is to be at most (`le`) or at least (`ge`) a value."""

    metric: str
    op: Literal["le", "ge"]
    value: float

    @property
    def text(self) -> str:
        """As a formula."""
        return f"{self.metric} {'≤' if self.op == 'le' else '≥'} {self.value:g}"

    def met(self, draws: Array) -> Any:
        """Which draws meet it."""
        return draws <= self.value if self.op == "le" else draws >= self.value


@dataclass(frozen=True, slots=True)
class Stage:
    """The curves of one stage of a run: `total` is its planned last step, `epoch` steps of one, None if not known."""

    name: str
    curves: Mapping[str, tuple[Array, Array]]
    last: int
    total: int
    epoch: float | None

    def curve(self, metric: str, better: str) -> Curve:
        """The curve of a metric of which less is better, or more. Raises InputError where it has none."""
        if metric not in self.curves:
            raise InputError(f"stage {self.name} has no metric '{metric}'; it has {', '.join(sorted(self.curves))}")
        down = lower(metric) if better == "auto" else better == "lower"
        return Curve(metric, *self.curves[metric], down, 1.0 if is_share(metric) else math.inf)


def target_of(text: str, metric: str, better: str) -> Target:
    """The target `METRIC=VALUE`, `METRIC<=VALUE`, `METRIC>=VALUE` or a value of `metric`. Raises InputError."""
    found = _TARGET.fullmatch(text.strip())
    try:
        value = float(found["value"]) if found else float("nan")
    except ValueError:
        value = float("nan")
    if found is None or not math.isfinite(value):
        raise InputError(f"--target {text}: not METRIC=VALUE, METRIC<=VALUE, METRIC>=VALUE or a value; e.g. loss=0.3")
    name = (found["metric"] or metric).strip()
    down = lower(name) if better == "auto" else better == "lower"
    op: Literal["le", "ge"] = "le" if found["op"] == "<=" or (found["op"] != ">=" and down) else "ge"
    return Target(name, op, value)


def pick_stage(run: str, rows: Sequence[Mapping[str, Any]], name: str | None, metrics: Sequence[str]) -> Stage:
    """The stage of that name, or the only one that has all of these metrics. Raises InputError."""
    names = list(dict.fromkeys(str(row["stage"]) for row in rows))
    if not names:
        raise InputError(f"run {run} has no metrics; its stages report none, or none has begun")
    if name is not None and name not in names:
        raise InputError(f"run {run} has no stage '{name}' with metrics; it has {', '.join(names)}")
    stages = [_stage(each, rows) for each in ([name] if name else names)]
    fitting = [stage for stage in stages if all(metric in stage.curves for metric in metrics)]
    if name is not None:
        return stages[0]
    if not fitting:
        known = "; ".join(f"{stage.name}: {', '.join(sorted(stage.curves)) or 'none'}" for stage in stages)
        raise InputError(f"no stage of run {run} has {' and '.join(metrics)}; metrics by stage: {known}")
    if len(fitting) > 1:
        raise InputError(
            f"{len(fitting)} stages of run {run} have {' and '.join(metrics)}; "
            f"choose one with --stage: {', '.join(stage.name for stage in fitting)}"
        )
    return fitting[0]


def _stage(name: str, rows: Sequence[Mapping[str, Any]]) -> Stage:
    own = [row for row in rows if row["stage"] == name]
    points: dict[str, dict[int, list[float]]] = {}
    for row in own:
        for metric, value in row.items():
            if metric not in ("stage", "step", "total", "time", "epoch") and row["step"] > 0:
                points.setdefault(metric, {}).setdefault(int(row["step"]), []).append(float(value))
    curves = {metric: _as_arrays(found) for metric, found in points.items()}
    epochs = [row["step"] / row["epoch"] for row in own if row.get("epoch")]
    last = max(int(row["step"]) for row in own)
    return Stage(name, curves, last, int(own[-1]["total"]), epochs[-1] if epochs else None)


def _as_arrays(points: Mapping[int, Sequence[float]]) -> tuple[Array, Array]:
    """Steps in order and the value of each, the mean where it has several rows."""
    steps = sorted(points)
    return np.array(steps, dtype=float), np.array([float(np.mean(points[step])) for step in steps])
