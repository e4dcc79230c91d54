"""Packed rows fill their width, and the loss of a packed batch is that of its rows one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hrmctl_models
import numpy as np
import pytest
import torch
from hrmctl_training.causal import CausalObjective
from hrmctl_training.examples import Example, Order, Packed
from hrmctl_training.packing import PackedExamples, best_fit, check_packing
from hrmctl_training.params import TrainingParams
from hrmctl_training.prepare import prepare
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import InputError
from hrmctl.testing import make_artifact, make_context

IDS = {"bos": 1, "eos": 2, "pad": 0}
FAMILIES = ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"]
ROWS = [Example(i, [(17 * i + 5 * j) % 290 + 3 for j in range(4 + 3 * i)], 2) for i in range(6)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(40, 90))
def test_every_row_is_in_one_pack_and_none_is_too_wide(lengths: list[int], most: int) -> None:
    packs = best_fit(np.array(lengths), np.arange(len(lengths)), most)
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    fills = [sum(lengths[row] for row in pack) for pack in packs]
    assert max(fills) <= most
    # No two packs would fit into one, or the second had not been opened.
    assert all(a + b > most for a, b in zip(sorted(fills), sorted(fills)[1:], strict=False))


def test_best_fit_fills_the_narrowest_gap() -> None:
    assert best_fit(np.array([6, 7, 3, 4]), np.arange(4), 10) == [[1, 2], [0, 3]]


def test_packs_depend_on_the_seed_alone() -> None:
    rows = [Example(i, [3] * (3 + i * 7 % 40), 1) for i in range(5000)]
    packed = PackedExamples(rows, 64, seed=3)
    assert sorted(part.line for pack in packed for part in pack.parts) == list(range(5000))
    assert packed.lengths.tolist() == [len(pack) for pack in packed]
    assert packed.lengths.max() <= 64
    assert packed.lengths.mean() > 0.97 * 64
    again, other = PackedExamples(rows, 64, seed=3), PackedExamples(rows, 64, seed=4)
    assert [pack.parts for pack in packed] == [pack.parts for pack in again]
    assert [pack.parts for pack in packed] != [pack.parts for pack in other]
    assert {row.line for i in range(3) for pack in Order(packed, 8, 0).at(i) for row in pack.parts}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_of_packed_rows_is_that_of_the_rows_alone(name: str) -> None:
    model = hrmctl_models.build(name, 300, IDS, seed=0)
    check_packing(model)
    objective = CausalObjective(model, pad=1)
    alone = [objective.loss(objective.collate([row])).total for row in ROWS]
    sum(alone).backward()  # type: ignore[union-attr]
    wanted = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    batch = objective.collate([Packed(tuple(ROWS[:3])), Packed(tuple(ROWS[3:5])), ROWS[5]])
    assert objective.units(batch) == sum(len(row) - row.start for row in ROWS)
    loss = objective.loss(batch).total
    loss.backward()
    assert loss.item() == pytest.approx(sum(x.item() for x in alone), rel=1e-5)
    got = [p.grad for p in model.parameters() if p.grad is not None]
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


class Seeing(torch.nn.Module):
    """A model whose packed rows see each other, as one that makes nothing of position ids does."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def forward(self, input_ids: torch.Tensor, use_cache: bool, position_ids: Any = None) -> Any:
        return self.model(input_ids=input_ids, use_cache=use_cache)


def test_a_model_whose_packed_rows_see_each_other_is_refused() -> None:
    model: Any = Seeing(hrmctl_models.build("gpt2-micro", 300, IDS, seed=0))
    with pytest.raises(InputError, match=r"gpt2 lets packed rows see each other: .*; set packing to none"):
        check_packing(model)
    model.forward = lambda input_ids, use_cache: None
    with pytest.raises(InputError, match="gpt2 takes no position ids"):
        check_packing(model)


def test_the_check_leaves_the_model_as_it_was() -> None:
    model = hrmctl_models.build("gpt2-micro", 300, IDS, seed=0)
    model.train()
    check_packing(model)
    assert model.training


def test_plain_text_is_cut_to_blocks(tmp_path: Path) -> None:
    tokenizer = hrmctl_models.train_tokenizer(["one two three"] * 3, 300)
    (tmp_path / "d.txt").write_text("\n\n".join("one two three " * n for n in range(1, 9)))
    data = make_artifact(tmp_path / "d.txt", "dataset", "text")
    params = TrainingParams(max_length=16, packing="pack")
    found = prepare((data,), None, tokenizer, params, make_context(tmp_path))
    blocks = list(found.examples)
    assert [len(block) for block in blocks[:-1]] == [16] * (len(blocks) - 1)
    assert 1 < len(blocks[-1]) <= 16 + 1
    assert {block.start for block in blocks} == {1}
    joined = [token for block in blocks for token in block.ids]
    alone = prepare((data,), None, tokenizer, TrainingParams(), make_context(tmp_path)).examples
    assert joined == [token for document in alone for token in document.ids]
    assert joined.count(tokenizer.eos_token_id) == 8
    assert [block.line for block in blocks] == sorted(block.line for block in blocks)
    assert dict(found.evidence)["rows_too_long"]["value"] == 0


def test_blocks_of_any_length_hold_every_token_and_none_alone(tmp_path: Path) -> None:
    tokenizer = hrmctl_models.train_tokenizer(["one two three"] * 3, 300)
    (tmp_path / "d.txt").write_text("one two three one")
    data = make_artifact(tmp_path / "d.txt", "dataset", "text")
    for length in range(2, 9):
        params = TrainingParams(max_length=length, packing="pack")
        blocks = list(prepare((data,), None, tokenizer, params, make_context(tmp_path)).examples)
        ids = [*tokenizer("one two three one")["input_ids"], tokenizer.eos_token_id]
        assert [token for block in blocks for token in block.ids] == ids[: sum(map(len, blocks))]
        assert len(ids) - sum(map(len, blocks)) in (0, 1)
        assert all(2 <= len(block) <= length for block in blocks)


def test_preferences_are_not_packed(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    data = make_artifact(tmp_path / "d.jsonl", "dataset", "pairs")
    tokenizer = hrmctl_models.train_tokenizer(["one two three"] * 3, 300)
    with pytest.raises(InputError, match="preferences are not packed"):
        prepare((data,), None, tokenizer, TrainingParams(packing="pack"), make_context(tmp_path))
