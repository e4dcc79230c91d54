"""Floating-point operations of training: counted by torch on some of its passes, in place, and fitted to the others.

A multiplication and an addition are two. Counted are matrix products, convolutions and attention, forward and backward
(recomputed activations too), in the passes that train and in the optimizer (Muon's iteration; AdamW has none). Not
counted are element-wise operations, norms, softmax, look-ups, validation and watchers. Attention counts in full,
although a kernel may leave out what the causal mask hides. Source of the formulas: `torch.utils.flop_counter`, which
lacks the attention kernel of the CPU; it is added here by the same formula.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch.optim import AdamW, Optimizer
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from hrmctl_training.examples import IGNORED, Batch

# Of features that are scaled to 1: what lies further outside of the counted passes than its root is a new direction.
_RIDGE = 1e-9

Shape = tuple[int, int, int, int, int]
_NOTHING: Shape = (0, 0, 0, 0, 0)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class _Everything(nullcontext[None]):
    """Stands for torch's tracker of modules where only the sum is asked for.

    That one hangs hooks on the inputs and outputs of every module, and each holds the graph behind it until the
    backward pass is over: activations that are recomputed layer by layer would all stay in memory.
    """

    parents = ("Global",)


def counter() -> FlopCounterMode:
    """A context that counts the FLOPs of what runs in it; torch runs compiled code uncompiled there."""
    counting = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
    counting.mod_tracker = _Everything()  # type: ignore[assignment]
    return counting


def count_flops(run: Callable[[], Any]) -> int:
    """The FLOPs of what `run` does."""
    with counter() as counted:
        run()
    return int(counted.get_total_flops())


def shape_of(batch: Batch) -> Shape:
    """What the work of a pass grows with: 1, rows, positions, pairs of positions of a row, and learned tokens."""
    rows, width = batch.input_ids.shape
    return 1, rows, rows * width, rows * width * width, int((batch.labels != IGNORED).sum())


@dataclass
class Phase:
    """Passes whose work is a linear function of their shape: how many, the sum of their shapes, and those counted."""

    passes: int = 0
    sums: Shape = _NOTHING
    shapes: list[Shape] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)

    def is_due(self, shape: Shape) -> bool:
        """Whether the next pass is counted: ever more rarely, and where those counted do not say what its shape takes.

        They do not where its leverage on them, the variance of the fit there in units of one pass's, is over 1. Each
        such pass at least doubles the determinant of their Gram matrix, so there are few.
        """
        every = 1 << max(0, self.passes.bit_length() - 2)
        return self.passes % every == 0 or float(self._leverages(np.array([shape]))[0]) > 1

    def planned(self, shape: Shape) -> bool:
        """Take note of the next pass, one of this shape; whether it is to be counted, for `flops`."""
        due = self.is_due(shape)
        if due:
            self.shapes.append(shape)
        self.passes += 1
        self.sums = tuple(a + b for a, b in zip(self.sums, shape, strict=True))  # type: ignore[assignment]
        return due

    @contextmanager
    def counting(self, shape: Shape) -> Iterator[None]:
        """Around a pass of this shape, which is counted."""
        with counter() as counted:
            yield
        self.shapes.append(shape)
        self.flops.append(int(counted.get_total_flops()))

    def of(self, shapes: Any) -> np.ndarray:
        """The FLOPs of passes of these shapes (passes, 5) by least squares on those counted: (passes,)."""
        known = np.array(self.shapes, dtype=np.float64)
        scale = self._scale()
        factors = np.linalg.lstsq(known / scale, np.array(self.flops, dtype=np.float64), rcond=None)[0]
        found: np.ndarray = np.asarray(shapes, dtype=np.float64) / scale @ factors
        return found

    def total(self) -> int:
        """The FLOPs of all passes: those counted, and what the fit says of the rest."""
        rest = np.array(self.sums) - np.sum(self.shapes, axis=0)
        return sum(self.flops) + round(float(self.of([rest])[0]))

    def residual(self) -> float:
        """The greatest relative error of the fit on a counted pass, as the others alone would have foretold it.

        Where they could not have, because its leverage is over 1/2, twice the error of the fit with it.
        """
        flops = np.array(self.flops, dtype=np.float64)
        errors = np.abs(self.of(self.shapes) - flops) / np.maximum(flops, 1)
        return float(np.max(errors / np.maximum(1 - self._leverages(np.array(self.shapes)), 0.5)))

    def _scale(self) -> np.ndarray:
        scale: np.ndarray = np.maximum(np.array(self.shapes, dtype=np.float64).max(axis=0), 1)
        return scale

    def _leverages(self, shapes: np.ndarray) -> np.ndarray:
        known, wanted = np.array(self.shapes) / self._scale(), shapes / self._scale()
        gram = known.T @ known + _RIDGE * np.eye(known.shape[1])
        found: np.ndarray = (wanted * np.linalg.solve(gram, wanted.T).T).sum(axis=1)
        return found


class Meter:
    """Adds up the FLOPs of a training run; what it has counted is part of the run's state.

    An objective whose work changes in the course of a run says so by an attribute `phase`; each value of it is fitted
    by itself.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.per_update = sum(_flops_of_step(optimizer) for optimizer in optimizers)
        self.phases: dict[int, Phase] = {}

    def planned(self, shape: Shape, phase: int) -> bool:
        """Take note of the next pass; whether it is to be counted. That depends on the shapes so far alone."""
        return self.phases.setdefault(phase, Phase()).planned(shape)

    def count(self, phase: int, flops: int) -> None:
        """The FLOPs of a planned pass, in the order in which they were planned."""
        self.phases[phase].flops.append(flops)

    @property
    def passes(self) -> int:
        """The FLOPs of all passes so far."""
        return sum(phase.total() for phase in self.phases.values())

    @property
    def counted(self) -> int:
        """The number of passes that were counted."""
        return sum(len(phase.flops) for phase in self.phases.values())

    @property
    def residual(self) -> float:
        """The greatest relative error of the fit on a pass that was counted."""
        return max((round(phase.residual(), 9) for phase in self.phases.values()), default=0.0)

    def state(self) -> Mapping[int, Any]:
        """What was counted so far."""
        return {name: asdict(phase) for name, phase in self.phases.items()}

    def load_state(self, state: Mapping[int, Any]) -> None:
        """Goes on where a saved state was."""
        self.phases = {name: Phase(**saved) for name, saved in state.items()}


def _flops_of_step(optimizer: Optimizer) -> int:
    """FLOPs of one step, taken by a copy of the optimizer on weights that have shapes only, before its first step."""
    if isinstance(optimizer, AdamW):
        return 0
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    shapes = [torch.nn.Parameter(torch.empty_like(p, device="meta")) for p in weights]
    for shape in shapes:
        shape.grad = torch.empty_like(shape)
    twin = copy.deepcopy(optimizer, {id(p): shape for p, shape in zip(weights, shapes, strict=True)})
    return count_flops(twin.step)
