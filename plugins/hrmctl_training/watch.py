"""What looks on while a model trains: measurements beside the loss, warnings, and points of intervention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hrmctl import Context


@dataclass(frozen=True, slots=True)
class Advice:
    """What a watcher found after a step.

    `metrics` join the step's row of metrics.jsonl and the curves. `rate_scale` multiplies every later
    learning rate. `stop` ends the training for that reason, with the weights as they are.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    rate_scale: float = 1.0
    stop: str | None = None


class Watcher(Protocol):
    """Called after each step, before its row is written; deterministic, and bit-exact on resume through its state.

    It may draw random numbers: the loop seeds every step. Implementations derive from it.
    """

    def after_step(self, step: int, epoch: float, metrics: Mapping[str, float], ctx: Context) -> Advice:
        """`step` counts finished steps from 1, `epoch` is the part of the data seen so far."""
        ...

    def reads_weights(self, step: int) -> bool:
        """Whether `after_step` looks at the model after this step; it then finds the moving average in it."""
        return False

    def state(self) -> Mapping[str, Any]:
        """Plain values only."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...

    def measured(self) -> Mapping[str, Mapping[str, Any]]:
        """Payloads of measurement/v1 by name, asked for once the training has ended."""
        return {}
