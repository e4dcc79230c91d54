"""Points of intervention that a recipe fixes: what is to happen at a step or epoch, and on which condition."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen

from hrmctl import Context
from hrmctl.schema import doc
from hrmctl_training.watch import Advice, Watcher

_ROUNDING = 1e-9
_HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    name: getattr(operator, name) for name in ("lt", "le", "eq", "ne", "ge", "gt")
}


@dataclass(frozen=True)
class Condition:
    """A comparison of the last known value of a metric."""

    metric: Annotated[str, MinLen(1), doc("a metric of metrics.jsonl, such as val_loss")]
    op: Annotated[Literal["lt", "le", "eq", "ne", "ge", "gt"], doc("how the metric is compared with `value`")]
    value: Annotated[float, doc("what it is compared with")]


@dataclass(frozen=True)
class Intervention:
    """What happens at one point of a training. Raises ValueError unless it has one point and something to do."""

    at_step: Annotated[int | None, Ge(1), doc("after this step")] = None
    at_epoch: Annotated[float | None, Gt(0), doc("after the first step at which so much of the data was seen")] = None
    when: Annotated[Condition | None, doc("act only where this holds; unset: always")] = None
    lr_scale: Annotated[float | None, Gt(0), Le(100), doc("factor of every later learning rate")] = None
    stop: Annotated[bool, doc("end the training with the weights as they are")] = False
    message: Annotated[str, doc("a warning for the log")] = ""

    def __post_init__(self) -> None:
        if (self.at_step is None) == (self.at_epoch is None):
            raise ValueError("an intervention has one point; give either at_step or at_epoch")
        if self.lr_scale is None and not self.stop and not self.message:
            raise ValueError("an intervention that does nothing; give lr_scale, stop or message")
        if self.lr_scale is not None and self.stop:
            raise ValueError("a training that stops has no later learning rate; give lr_scale or stop")

    @property
    def point(self) -> str:
        """Where it is, in words."""
        return f"epoch {self.at_epoch:g}" if self.at_step is None else f"step {self.at_step}"

    @property
    def action(self) -> str:
        """What it does, in words."""
        done = [f"learning rate × {self.lr_scale:g}"] if self.lr_scale is not None else []
        done += ["stop"] if self.stop else []
        return ", ".join([*done, *([f"message: {self.message}"] if self.message else [])])

    def reached(self, step: int, epoch: float) -> bool:
        """Whether its point is now or in the past."""
        if self.at_step is not None:
            return step >= self.at_step
        return epoch >= float(self.at_epoch or 0) - _ROUNDING


def check_measured(
    interventions: Sequence[Intervention], eval_interval: int | None, sample_interval: int | None
) -> None:
    """Raise ValueError where a condition asks for what is never measured before the end."""
    for when in (one.when for one in interventions):
        if when is not None and when.metric.startswith("val_") and eval_interval is None:
            raise ValueError(f"{when.metric} is measured at the end only; set eval_interval")
        if when is not None and when.metric.startswith("sample_") and sample_interval is None:
            raise ValueError(f"{when.metric} is not measured; set sample_interval")


class InterventionWatcher(Watcher):
    """Acts at each point once, and keeps a record of it whether the condition held or not."""

    def __init__(self, interventions: Sequence[Intervention]) -> None:
        self.interventions = tuple(interventions)
        self.known: dict[str, list[float]] = {}
        self.records: list[dict[str, Any] | None] = [None] * len(self.interventions)

    def after_step(self, step: int, epoch: float, metrics: Mapping[str, float], ctx: Context) -> Advice:
        """What the points reached by this step advise together."""
        for when in (one.when for one in self.interventions):
            if when is not None and when.metric in metrics:
                self.known[when.metric] = [metrics[when.metric], step]
        scale, stop, found = 1.0, None, {}
        for number, one in enumerate(self.interventions):
            if self.records[number] is not None or not one.reached(step, epoch):
                continue
            record = self.records[number] = self._record(one, step, epoch)
            found = {"intervention_epoch": epoch}
            _tell(one, record, ctx)
            if record["held"]:
                scale *= one.lr_scale or 1.0
                stop = stop or (_reason(one) if one.stop else None)
        return Advice(found, scale, stop)

    def _record(self, one: Intervention, step: int, epoch: float) -> dict[str, Any]:
        record: dict[str, Any] = {"at": one.point, "step": step, "epoch": epoch, "held": True}
        if one.when is not None:
            value, measured = self.known.get(one.when.metric, (None, None))
            held = value is not None and _HOLDS[one.when.op](value, one.when.value)
            record |= {"when": f"{one.when.metric} {one.when.op} {one.when.value:g}", "held": held}
            record |= {"value": value, "measured_at": measured}
        return record | {"did": one.action if record["held"] else "nothing"}

    def measured(self) -> Mapping[str, Mapping[str, Any]]:
        """`interventions`: how many of the recipe's points acted, with the record of each."""
        records = [
            record or {"at": one.point, "held": False, "did": "nothing: the training ended before"}
            for one, record in zip(self.interventions, self.records, strict=True)
        ]
        acted = sum(record["held"] for record in records)
        payload = {"value": acted, "unit": "interventions", "n": len(records), "context": {"points": records}}
        return {"interventions": payload}

    def state(self) -> Mapping[str, Any]:
        return {"known": self.known, "records": self.records}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.known = {name: list(pair) for name, pair in state["known"].items()}
        self.records = list(state["records"])


def _tell(one: Intervention, record: Mapping[str, Any], ctx: Context) -> None:
    found = ""
    if one.when is not None:
        seen = "it has no value yet" if record["value"] is None else f"it is {record['value']:.6g}"
        found = f" ({record['when']}: {seen})"
    if record["held"]:
        ctx.log.warning("intervention at %s, after step %d: %s%s", one.point, record["step"], one.action, found)
    else:
        ctx.log.info("no intervention at %s, after step %d%s", one.point, record["step"], found)


def _reason(one: Intervention) -> str:
    return f"intervention at {one.point}" + (f": {one.message}" if one.message else "")
