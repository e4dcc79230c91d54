"""A small causal model and the loop around it, for tests of the loop alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hrmctl_models.loading import build
from hrmctl_training.causal import CausalObjective
from hrmctl_training.examples import Example
from hrmctl_training.fit import fit
from hrmctl_training.loop import Training
from hrmctl_training.memory import PeakMemory
from hrmctl_training.objective import Objective
from hrmctl_training.params import TrainingParams

from hrmctl.testing import RecordingContext, make_context

IDS = {"bos": 1, "eos": 2, "pad": 0}


def tiny(architecture: str = "llama-tiny", seed: int = 3) -> Any:
    """A model with fresh weights over 16 tokens."""
    return build(architecture, 16, IDS, seed)


def sequences(count: int, step: int = 1, length: int = 9) -> list[Example]:
    """Counting upwards by `step`, modulo 13."""
    return [Example(i + 1, [3 + (i + step * k) % 13 for k in range(length)], 1) for i in range(count)]


def trained(
    folder: Path,
    params: TrainingParams,
    validation: Sequence[Example] = (),
    watchers: Sequence[Any] = (),
    context: RecordingContext | None = None,
    objective: type[CausalObjective] = CausalObjective,
) -> tuple[Training, RecordingContext]:
    """Train on counting in `folder`, continuing from a checkpoint there."""
    torch.set_num_threads(1)
    context = context or make_context(folder)
    model = tiny()
    made: Objective = objective(model, 0)
    with PeakMemory() as memory:
        return fit(model, made, sequences(24), validation, params, memory, context, watchers), context


def weights(training: Training) -> dict[str, torch.Tensor]:
    """A copy of every weight."""
    return {name: p.detach().clone() for name, p in training.model.named_parameters()}


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
