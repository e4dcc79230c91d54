"""Warning when a loss no longer falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from hrmctl import Context
from hrmctl.schema import doc
from hrmctl_training.watch import Advice, Watcher

# The loss is averaged over this part of the window at each end: one step's loss says little.
_PARTS = 5
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Plateau:
    """When a loss counts as standing still: less than `threshold` of it went within `window`."""

    window: Annotated[float, Gt(0), doc("distance over which the loss is compared, in `unit`")] = 5.0
    threshold: Annotated[float, Gt(0), Lt(1), doc("share of the loss that must go within `window`")] = 0.10
    after: Annotated[float, Ge(0), doc("nothing is compared before this point, in `unit`")] = 10.0
    unit: Annotated[Literal["epochs", "steps"], doc("unit of `window` and `after`")] = "epochs"
    metric: Annotated[str, doc("the loss that is compared; lower is better")] = "loss"


class PlateauWatcher(Watcher):
    """Compares the mean loss of the last fifth of a window with that of the fifth one window earlier.

    A comparison is made at the end of each fifth, and is the metric `plateau`: 1 on a plateau, else 0. A
    plateau is warned of once, when it begins. A loss that is not positive has no share that could go; it is
    not compared.
    """

    def __init__(self, plateau: Plateau) -> None:
        self.plateau = plateau
        self.part = 0
        self.total = 0.0
        self.count = 0
        self.means: list[float | None] = []
        self.compared = 0
        self.begun: list[int] = []
        self.within = False

    def after_step(self, step: int, epoch: float, metrics: Mapping[str, float], ctx: Context) -> Advice:
        """The comparison, where a fifth of a window ends with this step."""
        place = epoch if self.plateau.unit == "epochs" else step
        value = metrics.get(self.plateau.metric)
        if value is not None and math.isfinite(value):
            self.total += value
            self.count += 1
        ended = math.floor(place * _PARTS / self.plateau.window + _ROUNDING)
        if ended <= self.part:
            return Advice()
        self._close(ended)
        if place < self.plateau.after - _ROUNDING or len(self.means) <= _PARTS:
            return Advice()
        before, now = self.means[0], self.means[-1]
        if before is None or now is None or before <= 0:
            return Advice()
        return self._compare(1 - now / before, step, now, ctx)

    def _close(self, ended: int) -> None:
        """Keep the mean since the last end, for each of the fifths where one long step ran through several."""
        mean = self.total / self.count if self.count else None
        self.means = [*self.means, *[mean] * min(ended - self.part, _PARTS + 1)][-_PARTS - 1 :]
        self.part, self.total, self.count = ended, 0.0, 0

    def _compare(self, gone: float, step: int, now: float, ctx: Context) -> Advice:
        self.compared += 1
        standing = gone < self.plateau.threshold
        if standing and not self.within:
            self.begun.append(step)
            said = (self.plateau.metric, now, step, 100 * gone, self.plateau.window, self.plateau.unit)
            wanted = 100 * self.plateau.threshold
            ctx.log.warning(
                "plateau: %s %.4g at step %d is %.3g %% lower than %g %s before (%g %% or more is no plateau)",
                *said,
                wanted,
            )
        self.within = standing
        return Advice({"plateau": float(standing)})

    def measured(self) -> Mapping[str, Mapping[str, Any]]:
        """`plateaus`: how many began, of so many comparisons, and at which steps."""
        if not self.compared:
            return {}
        context = {**asdict(self.plateau), "steps": list(self.begun)}
        return {"plateaus": {"value": len(self.begun), "unit": "plateaus", "n": self.compared, "context": context}}

    def state(self) -> Mapping[str, Any]:
        names = ("part", "total", "count", "means", "compared", "begun", "within")
        return {name: getattr(self, name) for name in names}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, list(value) if isinstance(value, list) else value)
