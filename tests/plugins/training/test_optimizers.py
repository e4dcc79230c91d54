"""Who optimizes which weights, and the rate at every step."""

from __future__ import annotations

from itertools import pairwise

import hrmctl_models
import pytest
import torch
from hrmctl_finetune.params import FinetuneParams
from hrmctl_training.optimizers import clip, make_optimizers, rate_at, set_rate
from torch.optim import Muon

IDS = {"bos": 1, "eos": 2, "pad": 0}


@pytest.mark.parametrize("name", ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_trained_weight_has_exactly_one_optimizer(name: str, optimizer: str) -> None:
    model = hrmctl_models.build(name, 300, IDS, seed=0)
    optimizers = make_optimizers(model, FinetuneParams(optimizer=optimizer))  # type: ignore[arg-type]
    held = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_muon_takes_the_hidden_matrices_and_no_embedding() -> None:
    model = hrmctl_models.build("hrm-tiny", 300, IDS, seed=0)
    names = {id(p): name for name, p in model.named_parameters()}
    adamw, muon = make_optimizers(model, FinetuneParams())
    assert isinstance(muon, Muon)
    assert muon.defaults["adjust_lr_fn"] == "match_rms_adamw"
    held = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert held == {name for name in names.values() if "_module.layers" in name}
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert rest == {"model.embed_tokens.weight", "lm_head.weight"}


def test_norms_and_biases_do_not_decay() -> None:
    model = hrmctl_models.build("gpt2-micro", 300, IDS, seed=0)
    for group in make_optimizers(model, FinetuneParams(optimizer="adamw", weight_decay=0.3))[0].param_groups:
        decays = {p.ndim >= 2 for p in group["params"]}
        assert decays == {group["weight_decay"] == 0.3}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_rate_warms_up_and_comes_down(schedule: str) -> None:
    params = FinetuneParams(lr=0.5, warmup=0.1, final_lr=0.2, schedule=schedule)  # type: ignore[arg-type]
    rates = [rate_at(step, 100, params) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(0.5)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5 if schedule == "constant" else 0.3)
    assert rates[99] == pytest.approx(0.5 if schedule == "constant" else 0.1, abs=0.006)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_rate_of_short_runs_is_never_zero(steps: int) -> None:
    assert all(rate_at(step, steps, FinetuneParams()) > 0 for step in range(steps))


def test_set_rate_reaches_every_group() -> None:
    optimizers = make_optimizers(hrmctl_models.build("gpt2-micro", 300, IDS, seed=0), FinetuneParams())
    set_rate(optimizers, 0.125)
    assert {group["lr"] for optimizer in optimizers for group in optimizer.param_groups} == {0.125}


def test_clip_returns_the_norm_before() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip([weight], None) == pytest.approx(5)
    assert weight.grad.norm() == pytest.approx(5)
    assert clip([weight], 1.0) == pytest.approx(5)
    assert weight.grad.norm() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", ["hrm-tiny", "gpt2-micro", "llama-tiny"])
def test_auto_is_muon_for_a_whole_model_although_hrm_has_a_vector_that_never_trains(name: str) -> None:
    model = hrmctl_models.build(name, 300, IDS, seed=0)
    assert any(isinstance(optimizer, Muon) for optimizer in make_optimizers(model, FinetuneParams()))
    next(p for p in model.parameters() if p.ndim == 2).requires_grad_(False)
    assert not any(isinstance(optimizer, Muon) for optimizer in make_optimizers(model, FinetuneParams()))
