"""What a training step makes smaller: the interface between the loop and the objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from hrmctl_training.examples import Batch


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of one batch, summed over its units, and further sums worth a curve.

    `total` is a scalar with a graph (in training). `sums` maps a metric's name to `(sum, count)`; the
    loop adds both up over the batches of a step, or of a validation, and reports `sum / count`. A
    sum may be a detached scalar tensor: the loop reads all of them at once, after the backward pass.
    """

    total: torch.Tensor
    sums: Mapping[str, tuple[torch.Tensor | float, float]] = field(default_factory=dict)


class Objective(Protocol):
    """One way of training: from examples to batches, and from a batch to its loss.

    The loop calls `loss` inside its autocast and with the random state seeded for the step, divides by
    the `units` of all batches of the step, and runs the backward pass. What an objective carries from
    step to step besides the weights it hands out by `state` (tensors and plain values only) and takes
    back by `load_state`, so that a resumed run is bit-exact. One whose work changes in the course of a run has
    an attribute `phase`, an integer, for the FLOPs to be found phase by phase. One that depends on which pass of
    the run it makes has a method `at(position)`, which is called before `loss`. In several processes each makes
    some of a step's passes; an objective that carries something can be trained so if it has a method
    `joined(states, owners)`: from the states of all processes, and which of them makes each pass of a step, the
    state that one process would have.
    """

    def collate(self, examples: Sequence[Any]) -> Batch: ...

    def units(self, batch: Batch) -> int:
        """What the loss is the mean over: learned tokens, pairs, rows."""
        ...

    def loss(self, batch: Batch) -> Loss: ...

    def evaluate(self, batch: Batch) -> Loss:
        """The loss without gradients, of the validation; its `sums` become `val_<name>`."""
        ...

    def state(self) -> Mapping[str, Any]: ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...


def summed(losses: Sequence[Loss]) -> tuple[list[str], list[torch.Tensor], list[float]]:
    """Names, sums and counts of the metrics of several batches."""
    names = list(dict.fromkeys(name for loss in losses for name in loss.sums))
    empty = (0.0, 0.0)
    pairs = {name: [loss.sums.get(name, empty) for loss in losses] for name in names}
    where = losses[0].total.device if losses else None
    numbers = [sum(torch.as_tensor(s, dtype=torch.float32, device=where) for s, _ in pairs[name]) for name in names]
    return names, numbers, [sum(n for _, n in pairs[name]) for name in names]  # type: ignore[return-value]
