"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """The moving average of every trained weight, in float32, beside the weights themselves.

    After step t the average is `d * average + (1 - d) * weight` with `d = min(decay, (1 + t) / (10 + t))`,
    the ramp of TensorFlow's ExponentialMovingAverage, so that early weights are forgotten quickly.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().float().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, weight in self._weights.items():
            self.average[name].lerp_(weight.float(), share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this the model holds the average."""
        own = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self.apply()
        try:
            yield
        finally:
            self._put(own)

    def apply(self) -> None:
        """Put the average into the model for good."""
        self._put(self.average)

    def load(self, average: Mapping[str, torch.Tensor]) -> None:
        """Take over a saved average."""
        for name, value in average.items():
            self.average[name].copy_(value)

    @torch.no_grad()
    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])
