"""A step whose loss or gradient is not finite: what is kept of it, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from hrmctl import StageError
from hrmctl_training.checkpoint import write_tensors
from hrmctl_training.examples import Batch


def keep(path: Path, model: nn.Module, batches: Sequence[Batch], step: int, rate: float) -> None:
    """Save the batches of a step with the weights that they met."""
    write_tensors(
        path,
        {
            "step": step,
            "lr": rate,
            "lines": [line for batch in batches for line in batch.lines],
            "input_ids": [batch.input_ids.cpu() for batch in batches],
            "labels": [batch.labels.cpu() for batch in batches],
            "model": model.state_dict(),
        },
    )


def stopped(batches: Sequence[Batch], loss: float, norm: float, place: str, kept: Path) -> StageError:
    """The error that ends a run at such a step."""
    return StageError(
        f"loss {loss} and gradient norm {norm} at {place}: "
        f"training stopped before the weights were touched. The batch (data lines {shown(batches)}) "
        f"and the weights that it met are in {kept}; lower lr, raise warmup, or mend those lines"
    )


def shown(batches: Sequence[Batch]) -> str:
    """The first lines of the data that the batches are of."""
    lines = sorted(line for batch in batches for line in batch.lines)
    return ", ".join(str(line) for line in lines[:8]) + (", …" if len(lines) > 8 else "")
