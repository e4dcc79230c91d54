"""What is computed once before training: in pieces that a cancelled attempt leaves to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hrmctl_training.once import computed_once

from hrmctl import Cancelled
from hrmctl.testing import RecordingContext, make_context

ROWS = [[0] * length for length in (5, 3, 9, 1, 4, 7, 2)]


class _Stopping(RecordingContext):
    """Cancelled at its third point of cancellation."""

    checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks == 3:
            raise Cancelled


def _computed(context: RecordingContext, asked: list[list[int]]) -> torch.Tensor:
    def compute(places: list[int]) -> torch.Tensor:
        asked.append(places)
        return torch.tensor([[len(ROWS[place]) / 3, float("nan") if place == 2 else -place] for place in places])

    return computed_once("values.jsonl", ROWS, 2, compute, context)


def test_a_cancelled_attempt_leaves_what_it_computed(tmp_path: Path) -> None:
    first: list[list[int]] = []
    later: list[list[int]] = []
    none: list[list[int]] = []
    with pytest.raises(Cancelled):
        _computed(_Stopping(make_context(tmp_path).scratch), first)
    found = _computed(make_context(tmp_path), later)
    assert (first, later) == ([[3, 6], [1, 4]], [[0, 5], [2]])
    assert torch.equal(found[:, 0], torch.tensor([len(row) / 3 for row in ROWS]))
    assert found[:, 1].nan_to_num(99).tolist() == [0, -1, 99, -3, -4, -5, -6]
    again = _computed(make_context(tmp_path), none)
    assert not none
    assert torch.equal(again.nan_to_num(), found.nan_to_num())
