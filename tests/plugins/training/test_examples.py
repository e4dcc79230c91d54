"""Examples become batches, and the order is a function of seed and position."""

from __future__ import annotations

import torch
from hrmctl_training.examples import IGNORED, Example, Order, Packed, collate, derived_seed, in_order
from hrmctl_training.order import padding_share
from hypothesis import given
from hypothesis import strategies as st


def _examples(count: int) -> list[Example]:
    return [Example(i, [3] * (2 + i * 7 % 11), 1) for i in range(count)]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3), st.integers(0, 5))
def test_each_epoch_shows_every_row_once(count: int, batch: int, seed: int, epoch: int) -> None:
    order = Order(_examples(count), batch, seed)
    n = order.batches_per_epoch
    shown = [example.line for i in range(n) for example in order.at(epoch * n + i)]
    assert sorted(shown) == list(range(count))


def _first_plan(lengths: list[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch as the first version of the order made them, which results are bound to."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    pool = batch * 64
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), pool):
        alike = sorted(shuffled[start : start + pool], key=lambda i: lengths[i])
        batches += [alike[i : i + batch] for i in range(0, len(alike), batch)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


@given(st.integers(1, 900), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2))
def test_batches_are_those_of_the_first_version(count: int, batch: int, seed: int, epoch: int) -> None:
    examples = _examples(count)
    order = Order(examples, batch, seed)
    first = epoch * order.batches_per_epoch
    plan = [order.indices(first + i) for i in range(order.batches_per_epoch)]
    assert plan == _first_plan([len(example) for example in examples], batch, seed, epoch)


def test_order_depends_on_seed_and_position_alone() -> None:
    examples = _examples(100)
    order = Order(examples, 8, 1)
    walked = [[e.line for e in order.at(i)] for i in range(30)]
    assert [e.line for e in Order(examples, 8, 1).at(29)] == walked[29]
    assert [e.line for e in order.at(2)] == walked[2]
    assert walked[0] != walked[13]
    assert [[e.line for e in Order(examples, 8, 2).at(i)] for i in range(13)] != walked[:13]


def test_batches_hold_rows_of_like_length() -> None:
    examples = [Example(i, [3] * (2 + i % 50), 1) for i in range(2000)]
    order = Order(examples, 16, 0)
    batches = [collate(order.at(i), 0) for i in range(order.batches_per_epoch)]
    padded = sum(batch.input_ids.numel() for batch in batches)
    tokens = sum(batch.tokens for batch in batches)
    assert padded / tokens < 1.1
    assert padding_share(examples, 16, 0) == 1 - tokens / padded > 0


def test_validation_sees_every_row_once() -> None:
    shown = [example.line for batch in in_order(_examples(23), 4) for example in batch]
    assert sorted(shown) == list(range(23))


def test_validation_begins_with_the_shortest() -> None:
    lengths = [len(example) for batch in in_order(_examples(23), 4) for example in batch]
    assert lengths == sorted(lengths)


def test_batch_is_padded_on_the_right() -> None:
    batch = collate([Example(1, [5, 6, 7], 1), Example(2, [8, 9], 1)], pad=1)
    assert torch.equal(batch.input_ids, torch.tensor([[5, 6, 7], [8, 9, 1]]))
    assert torch.equal(batch.labels, torch.tensor([[IGNORED, 6, 7], [IGNORED, 9, IGNORED]]))
    assert batch.position_ids is None


def test_what_lies_between_answers_is_not_learned() -> None:
    batch = collate([Example(1, [5, 6, 7, 8, 9, 4], 2, ((3, 5),))], pad=0)
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 7, IGNORED, IGNORED, 4]]


def test_packed_rows_keep_their_labels_and_begin_their_positions_again() -> None:
    rows = (Example(1, [5, 6, 7], 1), Example(2, [8, 9, 4, 3], 1, ((2, 3),)))
    batch = collate([Packed(rows), Example(3, [2, 2], 1)], pad=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 4, 3], [2, 2, 0, 0, 0, 0, 0]]
    # The first token of a row is no continuation of the row before it.
    assert batch.labels[0].tolist() == [IGNORED, 6, 7, IGNORED, 9, IGNORED, 3]
    assert batch.position_ids is not None
    assert batch.position_ids[0].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert (batch.lines, batch.tokens) == ((1, 2, 3), 9)
    moved = batch.to(torch.device("meta")).position_ids
    assert moved is not None
    assert moved.device.type == "meta"
