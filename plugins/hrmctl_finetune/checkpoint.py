"""The state of a training run between two steps, and its checkpoint file."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hrmctl.errors import StoreError

# Long runs keep about this many points of each curve as evidence; metrics.jsonl has every step.
_POINTS = 2000


@dataclass
class Progress:
    """What a run has done so far. The random state needs no place here: it is derived from seed and step.

    `nonfinite` counts the steps whose loss or gradient was NaN or infinite, `nonfinite_in_a_row` those
    of them since the last step that was finite.
    """

    step: int = 0
    position: int = 0
    tokens: int = 0
    examples: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    nonfinite: int = 0
    nonfinite_in_a_row: int = 0
    peak_memory: int = 0
    memory_samples: int = 0
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def record(self, steps: int, **metrics: float) -> None:
        """Add one point to each curve; of a long run every k-th step is kept, and always the last."""
        every = -(-steps // _POINTS)
        if self.step % every == 0 or self.step in (1, steps):
            for name, value in metrics.items():
                self.point(name, value)

    def point(self, name: str, value: float) -> None:
        """Add the value of a curve at the present step."""
        curve = self.series.setdefault(name, {"steps": [], "values": []})
        curve["steps"].append(self.step)
        curve["values"].append(value)


def write_checkpoint(path: Path, model: nn.Module, optimizers: list[Optimizer], progress: Progress) -> None:
    """Replace the checkpoint file whole: a kill at any moment leaves the old one or the new one. Raises StoreError."""
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "progress": asdict(progress),
    }
    write_tensors(path, state)


def read_checkpoint(path: Path, model: nn.Module, optimizers: list[Optimizer], log: logging.Logger) -> Progress:
    """Continue from a checkpoint where there is a readable one, else from the start."""
    if not path.is_file():
        return Progress()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        log.warning("%s is damaged (%s); training starts again from the beginning", path, type(error).__name__)
        return Progress()
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    progress = Progress(**state["progress"])
    log.info("continuing after step %d", progress.step)
    return progress


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically and durably. Raises StoreError where the disk refuses."""
    draft = None
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise StoreError(f"cannot write {path} ({reason}); free space on the disk of the store") from error


def sweep(folder: Path, name: str) -> None:
    """Remove the drafts of the file `name` that a killed attempt left in the folder."""
    for draft in folder.glob(f".{name}.*"):
        draft.unlink(missing_ok=True)
