"""Rows become batches: faults are named by line, and the order is a function of seed and position."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hrmctl_models import train_tokenizer
from hrmctl_training.examples import IGNORED, Example, Order, collate, encode_rows, in_order, read_rows
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import StageError

GOOD = '{"prompt": "a", "completion": "b"}\n'


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"not json\n", "not a JSON object"),
        (b"\n", "not a JSON object"),
        (b"[1]\n", "needs the keys"),
        (b'{"prompt": "a"}\n', "prompt and completion"),
        (b'{"prompt": "a", "completion": 3}\n', "prompt and completion"),
        (b'{"prompt": null, "completion": "b"}\n', "prompt and completion"),
        (b'{"prompt": "a", "completion": ""}\n', "completion is empty"),
        (b'{"prompt": "\xff", "completion": "b"}\n', "utf-8"),
        (b'{"prompt": "\\ud800", "completion": "b"}\n', "surrogate"),
        (b'{"prompt": "a", "completion": "b"', "not a JSON object"),
        (b"[" * 100_000 + b"\n", "not a JSON object"),
    ],
)
def test_bad_row_is_named_by_its_line(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD.encode() * 2 + raw)
    with pytest.raises(StageError, match=reason) as caught:
        read_rows(path)
    assert f"{path}:3:1: " in str(caught.value)


def test_all_bad_rows_are_named_up_to_ten(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(GOOD if i % 2 else "x\n" for i in range(40)))
    with pytest.raises(StageError) as caught:
        read_rows(path)
    assert [problem.line for problem in caught.value.problems] == list(range(1, 20, 2))


def test_no_row_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(StageError, match="holds no row"):
        read_rows(tmp_path / "empty.jsonl")


def test_prompts_and_padding_are_not_learned(tmp_path: Path) -> None:
    (tmp_path / "d").write_text('{"prompt": "one two", "completion": " three"}\n{"prompt": "", "completion": "x"}\n')
    rows = read_rows(tmp_path / "d")
    tokenizer = train_tokenizer(["one two three"] * 3, 300)
    examples, too_long = encode_rows(rows, tokenizer, 100, "completion")
    assert too_long == []
    batch = collate(examples, pad=0)
    head = tokenizer("one two")["input_ids"]
    tail = tokenizer(" three")["input_ids"]
    assert batch.input_ids[0].tolist() == [*head, *tail, tokenizer.eos_token_id]
    assert batch.labels[0].tolist() == [IGNORED] * len(head) + [*tail, tokenizer.eos_token_id]
    # An empty prompt: the first token cannot be predicted, the rest is learned, the padding is not.
    assert batch.labels[1].tolist()[:2] == [IGNORED, tokenizer.eos_token_id]
    assert set(batch.labels[1].tolist()[2:]) == {IGNORED}
    assert (batch.tokens, batch.lines) == (len(head) + len(tail) + 1 + 2, (1, 2))
    everything, _ = encode_rows(rows, tokenizer, 100, "all")
    assert collate(everything, pad=0).labels[0].tolist()[1:] == batch.input_ids[0].tolist()[1:]


def test_long_rows_are_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "d").write_text(GOOD + '{"prompt": "a b c d e f g h", "completion": "b"}\n' + GOOD)
    examples, too_long = encode_rows(read_rows(tmp_path / "d"), train_tokenizer(["a b"], 300), 4, "completion")
    assert too_long == [2]
    assert [example.line for example in examples] == [1, 3]


def _examples(count: int) -> list[Example]:
    return [Example(i, [3] * (2 + i * 7 % 11), 1) for i in range(count)]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3), st.integers(0, 5))
def test_each_epoch_shows_every_row_once(count: int, batch: int, seed: int, epoch: int) -> None:
    order = Order(_examples(count), batch, seed)
    n = order.batches_per_epoch
    shown = [example.line for i in range(n) for example in order.at(epoch * n + i)]
    assert sorted(shown) == list(range(count))


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
    assert padded / sum(batch.tokens for batch in batches) < 1.1


def test_validation_sees_every_row_once() -> None:
    shown = [example.line for batch in in_order(_examples(23), 4) for example in batch]
    assert sorted(shown) == list(range(23))


def test_batch_is_padded_on_the_right() -> None:
    batch = collate([Example(1, [5, 6, 7], 1), Example(2, [8, 9], 1)], pad=1)
    assert torch.equal(batch.input_ids, torch.tensor([[5, 6, 7], [8, 9, 1]]))
    assert torch.equal(batch.labels, torch.tensor([[IGNORED, 6, 7], [IGNORED, 9, IGNORED]]))
