"""The processes that train one model together: which passes each makes, and how their sums come together.

A step's forward passes are dealt out in blocks. Numbers go through pipes between the first process and each other one
(`channel`), gradients through torch.distributed. A process alone is a group too, in which nothing has to be told.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from hrmctl import Context, StageError
from hrmctl_training.channel import Channel
from hrmctl_training.objective import Loss

# Gradients are summed in pieces of so many numbers, which are held twice.
_PIECE = 1 << 24
# Processes reach a sum at about one time: they have told each other their losses just before.
PATIENCE = 1800.0


class Group:
    """A process alone; `rank` is its number, from 0, and `size` the number of them all."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that reports, validates and saves."""
        return self.rank == 0

    def share(self, passes: int) -> range:
        """Which of a step's passes this process makes."""
        each = passes // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def start(self, beginning: Mapping[str, Any], ctx: Context) -> None:
        """Bring the processes together. Raises StageError where one does not begin as the first does."""

    def tell(self, do: str, rate_scale: float = 1.0) -> None:
        """From the first process to the others: `step`, `save` or `end`."""

    def told(self) -> Mapping[str, Any]:
        """What the first process told: `do` and `rate_scale`."""
        raise NotImplementedError

    def everyones(self, value: Any) -> list[Any]:
        """What each process gives here, plain values, in the order of their ranks."""
        return [value]

    def collected(self, state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The same of states with tensors, in the first process; nothing in the others."""
        return [state]

    def check(self) -> None:
        """Raise StageError where another process is gone."""

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Give all processes the sum of their gradients, in the order of their ranks; one without has zeros."""

    def leave(self) -> None:
        """In all processes but the first this is the end."""


class Several(Group):
    """What all members of a larger group share."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self.device = device

    def join(self, folder: Path) -> None:
        """Meet the others in a folder of this machine; nothing listens but on the loopback interface."""
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        with loopback():
            distributed.init_process_group(
                backend,
                store=distributed.FileStore(str(folder / "rendezvous"), self.size),
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=PATIENCE),
                device_id=self.device if backend == "nccl" else None,
            )
            # The connections are made by the first sum.
            seen = torch.ones(1, dtype=torch.int64, device=self.device)
            distributed.all_reduce(seen)
        if (distributed.get_world_size(), int(seen)) != (self.size, self.size):
            raise StageError(f"{int(seen)} of {self.size} processes train; this is a fault, report it")

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        try:
            self._sum_all(weights)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise Broken(f"the training processes lost each other: {str(error).strip().splitlines()[0]}") from error

    def _sum_all(self, weights: Sequence[nn.Parameter]) -> None:
        for some in _pieces(weights):
            gradients = [weight.grad for weight in some if weight.grad is not None]
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            parts = self._sum(flat).split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def _sum(self, flat: torch.Tensor) -> torch.Tensor:
        """By the order of the ranks, which all-reduce promises for two only: a part by each process, then shared."""
        if self.size == 2:
            distributed.all_reduce(flat)
            return flat
        padded = nn.functional.pad(flat, (0, -len(flat) % self.size))
        parts = torch.empty_like(padded)
        distributed.all_to_all_single(parts, padded)
        first, *others = parts.view(self.size, -1)
        for other in others:
            first += other
        distributed.all_gather_single(padded, first)
        return padded[: len(flat)]


class Follower(Several):
    """A process beside the first one; it does what it is told, and ends when nobody tells it anything any more."""

    def __init__(self, rank: int, size: int, device: torch.device, channel: Channel, folder: Path) -> None:
        super().__init__(rank, size, device)
        self._channel = channel
        self._folder = folder

    def start(self, beginning: Mapping[str, Any], ctx: Context) -> None:
        self._channel.send(json.dumps(beginning).encode())
        self.told()
        self.join(self._folder)

    def told(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self._channel.receive())
        return found

    def everyones(self, value: Any) -> list[Any]:
        self._channel.send(json.dumps(value).encode())
        found: list[Any] = json.loads(self._channel.receive())
        return found

    def collected(self, state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        self._channel.send_tensors(state)
        return []

    def leave(self) -> None:
        raise Finished


class Broken(StageError):
    """A sum that another process did not take part in."""


class Finished(BaseException):
    """A follower has done its part; no `Exception`, so that no stage takes it for a fault."""


def step_of_all(
    group: Group,
    weights: Sequence[nn.Parameter],
    losses: Sequence[Loss],
    flops: Sequence[int],
    device: torch.device,
) -> tuple[list[Loss], list[int]]:
    """Sum the gradients of a step over the group; return the losses of all its passes in their order, and all FLOPs.

    A weight without a gradient in any process keeps none.
    """
    idle = [i for i, weight in enumerate(weights) if weight.grad is None]
    found = group.everyones({"losses": _fetched(losses), "idle": idle, "flops": list(flops)})
    without = set.intersection(*(set(one["idle"]) for one in found))
    group.sum_gradients([weight for i, weight in enumerate(weights) if i not in without])
    every = [loss for one in found for loss in one["losses"]]
    told = [
        Loss(torch.tensor(total, dtype=torch.float32, device=device), {name: (s, n) for name, s, n in sums})
        for total, sums in every
    ]
    return told, [number for one in found for number in one["flops"]]


def _fetched(losses: Sequence[Loss]) -> list[tuple[float, list[tuple[str, float, float]]]]:
    """Totals and sums as plain numbers, read from the device together; a float32 is the same as a double."""
    numbers = [number for loss in losses for number in (loss.total, *(s for s, _ in loss.sums.values()))]
    where = losses[0].total.device
    plain = iter(torch.stack([torch.as_tensor(n, dtype=torch.float32, device=where) for n in numbers]).tolist())
    return [(next(plain), [(name, next(plain), n) for name, (_, n) in loss.sums.items()]) for loss in losses]


def _pieces(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Weights of one dtype, so many at a time that their gradients make a piece."""
    for dtype in dict.fromkeys(weight.dtype for weight in weights):
        piece: list[nn.Parameter] = []
        for weight in (weight for weight in weights if weight.dtype == dtype):
            if piece and sum(one.numel() for one in piece) + weight.numel() > _PIECE:
                yield piece
                piece = []
            piece.append(weight)
        yield piece


@contextmanager
def loopback() -> Iterator[None]:
    """Within this the libraries beneath torch.distributed bind to the loopback interface."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "lo0" if sys.platform == "darwin" else "lo"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
