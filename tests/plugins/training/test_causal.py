"""The causal objective on every architecture: the model's own loss, its own gradients, and no mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hrmctl_models.loading import build
from hrmctl_training.causal import CausalObjective
from hrmctl_training.examples import IGNORED, Example, Packed
from hrmctl_training.hrm_layers import lean_layers
from torch import nn
from torch.nn import functional

FAMILIES = ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"]
IDS = {"bos": 1, "eos": 2, "pad": 0}
ROWS = [Example(1, [5, 6, 7, 8, 9, 10, 11, 2], 3), Example(2, [11, 12, 13, 2], 1)]


def _model(name: str) -> Any:
    torch.set_num_threads(1)
    model = build(name, 60, IDS, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
    return model.train()


def _gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], rel: float = 1e-5) -> bool:
    return found.keys() == expected.keys() and all(
        (found[name] - g).norm() <= rel * g.norm() + 1e-7 for name, g in expected.items()
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_are_those_of_the_models_own_loss(name: str) -> None:
    model = _model(name)
    objective = CausalObjective(model, pad=1)
    batch = objective.collate(ROWS)
    own = model(input_ids=batch.input_ids, labels=batch.labels).loss * objective.units(batch)
    expected = _gradients(model, own)
    with lean_layers(model):
        loss = objective.loss(batch).total
        found = _gradients(model, loss)
    assert loss.item() == pytest.approx(own.item(), rel=1e-5)
    assert "LinearCrossEntropy" in type(loss.grad_fn).__name__
    assert _near(found, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_have_the_loss_and_the_gradients_of_the_rows_alone(name: str) -> None:
    model = _model(name)
    objective = CausalObjective(model, pad=1)
    alone = objective.loss(objective.collate(ROWS)).total
    expected = _gradients(model, alone)
    with lean_layers(model):
        packed = objective.loss(objective.collate([Packed(tuple(ROWS))])).total
        found = _gradients(model, packed)
    assert packed.item() == pytest.approx(alone.item(), rel=1e-5)
    assert _near(found, expected, 1e-4)


class _SoftCapped(nn.Module):
    """A model whose logits are no plain product of its output layer, as those of Gemma 2."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def get_output_embeddings(self) -> Any:
        return self.inner.get_output_embeddings()

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        output = self.inner(**inputs)
        output.logits = 2 * torch.tanh(output.logits / 2)
        return output


def test_logits_that_are_capped_after_the_output_layer_are_seen_and_kept() -> None:
    model = _SoftCapped(_model("llama-tiny"))
    objective = CausalObjective(model, pad=1)  # type: ignore[arg-type]
    batch = objective.collate(ROWS)
    logits = model(input_ids=batch.input_ids[:, :-1], use_cache=False).logits
    own = functional.cross_entropy(logits.transpose(1, 2), batch.labels[:, 1:], ignore_index=IGNORED, reduction="sum")
    expected = _gradients(model, own)
    loss = objective.loss(batch).total
    assert loss.item() == pytest.approx(own.item(), rel=1e-5)
    assert _near(_gradients(model, loss), expected)
    assert objective.evaluate(batch).total.item() == pytest.approx(own.item(), rel=1e-5)


def test_evaluation_counts_right_tokens_and_whole_rows() -> None:
    model = _model("llama-tiny").eval()
    objective = CausalObjective(model, pad=1)
    prompt = [5, 6, 7]
    with torch.no_grad():
        likeliest = model.generate(torch.tensor([prompt]), max_new_tokens=3, do_sample=False, eos_token_id=59)
    good = likeliest[0].tolist()
    bad = [*good[:-1], (good[-1] + 1) % 60]
    found = objective.evaluate(objective.collate([Example(1, good, 3), Example(2, bad, 3)]))
    right, tokens = found.sums["token_accuracy"]
    whole, rows = found.sums["exact_accuracy"]
    assert (int(right), tokens, int(whole), rows) == (5, 6, 1, 2)
    assert not found.total.requires_grad


@pytest.mark.parametrize("name", FAMILIES)
def test_padded_rows_need_no_mask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(name)
    objective = CausalObjective(model, pad=1)
    original, seen = functional.scaled_dot_product_attention, []

    def attention(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append((kwargs.get("attn_mask"), kwargs.get("is_causal")))
        return original(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)
    with lean_layers(model):
        objective.loss(objective.collate(ROWS))
    assert seen
    assert set(seen) == {(None, True)}
