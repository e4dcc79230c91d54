"""The state of a training run between two steps, and its checkpoint files."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrmctl.errors import StageError, StoreError

# Long runs keep about this many points of each curve as evidence; metrics.jsonl has every step.
_POINTS = 2000


@dataclass
class Progress:
    """What a run has done so far. The random state needs no place here: it is derived from seed and step.

    `nonfinite` counts the steps whose loss or gradient was NaN or infinite, `nonfinite_in_a_row` those
    of them since the last step that was finite, `overflows` those that only the fp16 scale was too
    great for. `peak_memory` and `peak_device_memory`, bytes, are those of the process that had most,
    `*_of_all` the sums of all processes. `rate_scale` is what interventions have made of the learning rate.
    `best_loss` is the lowest validation loss, reached at `best_step`; `worse` counts the validations since. `stopped`
    says why the run ended before its last step.
    """

    step: int = 0
    position: int = 0
    tokens: int = 0
    examples: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    nonfinite: int = 0
    nonfinite_in_a_row: int = 0
    overflows: int = 0
    peak_memory: int = 0
    memory_samples: int = 0
    peak_device_memory: int = 0
    memory_of_all: int = 0
    device_memory_of_all: int = 0
    rate_scale: float = 1.0
    best_loss: float | None = None
    best_step: int = 0
    worse: int = 0
    stopped: str | None = None
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


def trained_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that training changes: trained weights and buffers. Frozen weights come from where they came from."""
    trained = {name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    trained |= {name for name, _ in model.named_buffers(remove_duplicate=False)}
    return {name: tensor for name, tensor in model.state_dict().items() if name in trained}


def load_trained_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put `trained_state` back. Raises StageError where it belongs to another model."""
    found = model.load_state_dict(state, strict=False)
    missing = set(found.missing_keys) & set(trained_state(model))
    if missing or found.unexpected_keys:
        raise StageError(f"the checkpoint is of another model: {sorted(missing | set(found.unexpected_keys))[:3]}")


def sum_of_bits(state: Mapping[str, torch.Tensor]) -> int:
    """The sum of all bits of tensors as integers: equal for equal tensors, and for others hardly ever."""
    found = 0
    for tensor in state.values():
        kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        found += int(tensor.detach().contiguous().reshape(-1).view(kind).sum(dtype=torch.int64))
    return found


class Checkpoints:
    """The newest checkpoint at `path`, and `limit - 1` older ones beside it as `path`.1, `path`.2 and so on.

    A kill at any moment leaves a whole one: the new file is durable before an older one gives way. On a
    full disk the old one stays, and StoreError says so.
    """

    def __init__(self, path: Path, limit: int = 1) -> None:
        self.path = path
        self.limit = limit

    def write(self, state: Mapping[str, Any]) -> None:
        """Make this state the newest checkpoint."""
        draft = write_draft(self.path, state)
        for number in range(self.limit - 1, 0, -1):
            younger = self._numbered(number - 1)
            if younger.is_file():
                # A second name first: at no moment is the newest checkpoint without its own.
                _link_over(younger, self._numbered(number))
        os.replace(draft, self.path)
        _sync_folder(self.path.parent)

    def read(self, log: logging.Logger) -> Iterator[Mapping[str, Any]]:
        """The readable checkpoints, newest first; a damaged one is named in the log."""
        number = 0
        while (path := self._numbered(number)).is_file():
            number += 1
            try:
                yield torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                log.warning("%s is damaged (%s) and left alone", path, type(error).__name__)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path


def _link_over(source: Path, target: Path) -> None:
    spare = target.with_name(f".{target.name}.link")
    spare.unlink(missing_ok=True)
    os.link(source, spare)
    os.replace(spare, target)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically and durably. Raises StoreError where the disk refuses."""
    os.replace(write_draft(path, state), path)
    _sync_folder(path.parent)


def write_draft(path: Path, state: Mapping[str, Any]) -> Path:
    """Write a durable draft beside `path` and return its name. Raises StoreError where the disk refuses."""
    draft = None
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise StoreError(f"cannot write {path} ({reason}); free space on the disk of the store") from error
    return Path(draft)


def sweep(folder: Path, name: str) -> None:
    """Remove the drafts of the file `name` that a killed attempt left in the folder."""
    for draft in folder.glob(f".{name}.*"):
        draft.unlink(missing_ok=True)
