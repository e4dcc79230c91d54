"""Which examples make up forward pass number n: a function of the seed and the position alone."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch

# Rows are sorted by length within pools of this many batches: wide enough that a batch holds rows of
# one length, narrow enough that which rows meet differs from epoch to epoch.
_POOL = 64


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any parts, equal on every machine."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def lengths_of(examples: Sequence[Any]) -> np.ndarray:
    """Tokens of each example, without reading the examples where they know it."""
    known = getattr(examples, "lengths", None)
    return np.fromiter((len(x) for x in examples), np.int64, len(examples)) if known is None else np.asarray(known)


def shuffled(count: int, *seed: object) -> np.ndarray:
    """The numbers below `count` in an order that the parts of the seed decide."""
    generator = torch.Generator().manual_seed(derived_seed(*seed))
    return torch.randperm(count, generator=generator).numpy()


class Order:
    """Which examples make up forward pass number `position`, for ever: a function of seed and position.

    Each epoch shows what `examples.drawn(seed, epoch)` names (each example once where there is no such
    method), in batches of like length whose order is shuffled.
    """

    def __init__(self, examples: Sequence[Any], batch: int, seed: int) -> None:
        self.examples = examples
        self.batch = batch
        self.seed = seed
        self._drawn = getattr(examples, "drawn", None)
        self._size = getattr(examples, "epoch_size", len(examples))
        self._lengths = lengths_of(examples)
        self._epoch = -1
        self._rows = np.empty(0, np.int64)
        self._batches = np.empty(0, np.int64)

    @property
    def batches_per_epoch(self) -> int:
        """Forward passes of one epoch; the last batch of an epoch may be smaller."""
        return -(-self._size // self.batch)

    def at(self, position: int) -> list[Any]:
        """The examples of forward pass `position`, counted from 0 over all epochs."""
        return [self.examples[i] for i in self.indices(position)]

    def indices(self, position: int) -> list[int]:
        """Which of the examples those are."""
        epoch, index = divmod(position, self.batches_per_epoch)
        if epoch != self._epoch:
            self._plan(epoch)
        start = int(self._batches[index]) * self.batch
        return [int(i) for i in self._rows[start : start + self.batch]]

    def _plan(self, epoch: int) -> None:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
        rows = torch.randperm(self._size, generator=generator).numpy()
        if self._drawn is not None:
            rows = self._drawn(self.seed, epoch)[rows]
        pool = self.batch * _POOL
        for start in range(0, len(rows), pool):
            part = rows[start : start + pool]
            rows[start : start + pool] = part[np.argsort(self._lengths[part], kind="stable")]
        batches = torch.randperm(self.batches_per_epoch, generator=generator).numpy()
        self._epoch, self._rows, self._batches = epoch, rows, batches


def in_order(examples: Sequence[Any], batch: int) -> Iterator[list[Any]]:
    """All examples once, the shortest first, in batches."""
    alike = np.argsort(lengths_of(examples), kind="stable")
    for start in range(0, len(alike), batch):
        yield [examples[int(i)] for i in alike[start : start + batch]]


class Mixed(Sequence[Any]):
    """Several data sets as one, drawn in fixed shares: an epoch shows `draws[i]` examples of set i.

    A set is walked in shuffled passes of its own that go on from epoch to epoch, so that every one of its
    examples has been shown n times before any is shown for the n + 1st time.
    """

    def __init__(self, parts: Sequence[Sequence[Any]], draws: Sequence[int]) -> None:
        self.parts = tuple(parts)
        self.draws = tuple(draws)
        self.epoch_size = sum(draws)
        self.lengths = np.concatenate([lengths_of(part) for part in parts])
        self._starts = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        part = self.part_of(index)
        return self.parts[part][index - self._starts[part]]

    def part_of(self, index: int) -> int:
        """The number of the set that example `index` is of."""
        return bisect_right(self._starts, index) - 1

    def drawn(self, seed: int, epoch: int) -> np.ndarray:
        """The examples of an epoch, set by set."""
        return np.concatenate([self._drawn(i, seed, epoch) for i in range(len(self.parts))])

    def _drawn(self, part: int, seed: int, epoch: int) -> np.ndarray:
        size, draws = len(self.parts[part]), self.draws[part]
        first, last = epoch * draws, (epoch + 1) * draws
        passes = range(first // size, -(-last // size))
        walked = np.concatenate([shuffled(size, seed, "mix", part, n) for n in passes])
        skipped = first - passes.start * size
        return walked[skipped : skipped + draws] + self._starts[part]


def draws_of(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Examples of each set in an epoch with these weights: in the shortest epoch that shows every set whole."""
    epoch = max(size / weight for size, weight in zip(sizes, weights, strict=True))
    return [max(size, round(weight * epoch)) for size, weight in zip(sizes, weights, strict=True)]


def padding_share(examples: Sequence[Any], batch: int, seed: int) -> float:
    """Share of the positions of the first epoch's batches that is padding."""
    order, lengths = Order(examples, batch, seed), lengths_of(examples)
    batches = [lengths[order.indices(position)] for position in range(order.batches_per_epoch)]
    positions = sum(int(part.max()) * len(part) for part in batches)
    return 1 - sum(int(part.sum()) for part in batches) / positions
