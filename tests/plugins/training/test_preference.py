"""DPO and ORPO: the formulas of the papers, the figures of trl, and a reference that stays what it was."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hrmctl_models.loading import build
from hrmctl_training import outputs
from hrmctl_training.examples import Example, Preference, collate
from hrmctl_training.outputs import Output, log_probs
from hrmctl_training.preference import DpoObjective, OrpoObjective, Referenced, pair_batch, referenced
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma2Config

from hrmctl.testing import make_context

GOLDEN = Path(__file__).parent / "golden" / "trl-1.16.0.json"
IDS = {"bos": 1, "eos": 2, "pad": 0}
VOCABULARY = 40
PAIRS = [
    Preference(1, Example(1, [5, 6, 7, 8, 9, 2], 3), Example(1, [5, 6, 7, 20, 2], 3)),
    Preference(4, Example(4, [11, 12, 13, 2], 1), Example(4, [11, 14, 15, 16, 17, 18, 2], 1)),
    Preference(9, Example(9, [30, 31, 32, 33, 34, 2], 2), Example(9, [30, 31, 2], 2)),
]


def _model(seed: int = 0, name: str = "llama-tiny") -> Any:
    return build(name, VOCABULARY, IDS, seed)


def _log_probs(model: Any, example: Example, start: int | None = None) -> torch.Tensor:
    """Of each token from `start` on, from the whole logits of one row without padding."""
    ids = torch.tensor([example.ids])
    logs = model(input_ids=ids).logits[0].log_softmax(-1)
    first = example.start if start is None else start
    return torch.stack([logs[i - 1, example.ids[i]] for i in range(first, len(example.ids))])


@pytest.fixture(scope="module")
def parity(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("trl_parity", root / "benchmarks" / "trl_parity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_every_step_is_that_of_trl(tmp_path: Path, parity: ModuleType, method: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["settings"] == parity.SETTINGS
    own = parity.ours(tmp_path, method, golden[method]["pairs"], golden["vocabulary"])
    assert set(golden[method]["curves"]) == set(own["curves"])
    for name, values in golden[method]["curves"].items():
        assert len(values) == 12
        assert own["curves"][name] == pytest.approx(values, rel=1e-4, abs=1e-5), name
    assert own["weights"] == pytest.approx(golden[method]["weights"], rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["llama-tiny", "hrm-tiny", "gpt2-micro"])
def test_dpo_is_equation_7(name: str, smoothing: float) -> None:
    model, reference, beta = _model(0, name), _model(1, name), 0.3
    given_pairs, wanted, margins, rewards = [], [], [], []
    for pair in PAIRS:
        both = [(_log_probs(m, pair.chosen).sum(), _log_probs(m, pair.rejected).sum()) for m in (model, reference)]
        given_pairs.append(Referenced(pair, both[1][0].item(), both[1][1].item()))
        chosen, rejected = (beta * (a - b) for a, b in zip(*both, strict=True))
        margins.append((chosen - rejected).item())
        rewards.append((chosen.item(), rejected.item(), both[0][0].item(), both[0][1].item()))
        right, wrong = (-torch.log(torch.sigmoid(sign * (chosen - rejected))) for sign in (1, -1))
        wanted.append(((1 - smoothing) * right + smoothing * wrong).item())
    objective = DpoObjective(model, 1, beta, smoothing)
    batch = objective.collate(given_pairs)
    found = objective.loss(batch)
    assert objective.units(batch) == 3
    assert batch.lines == (1, 4, 9)
    assert found.total.item() == pytest.approx(sum(wanted), rel=1e-4)
    sums = {key: (float(value), n) for key, (value, n) in found.sums.items()}
    assert sums["reward_margin"] == pytest.approx((sum(margins), 3), rel=1e-3)
    assert sums["reward_accuracy"] == (sum(m > 0 for m in margins), 3)
    for place, key in enumerate(("reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected")):
        assert sums[key] == pytest.approx((sum(r[place] for r in rewards), 3), rel=1e-3, abs=1e-4), key


@pytest.mark.parametrize("loss_on", ["completion", "all"])
def test_orpo_is_equations_6_and_7(loss_on: str) -> None:
    model, weight = _model(), 0.25
    nll, odds = [], []
    for pair in PAIRS:
        nll += [-x for x in _log_probs(model, pair.chosen, 1 if loss_on == "all" else None).tolist()]
        p = [math.exp(_log_probs(model, e).mean().item()) for e in (pair.chosen, pair.rejected)]
        odds.append(math.log(p[0] / (1 - p[0])) - math.log(p[1] / (1 - p[1])))
    ratio = [-math.log(1 / (1 + math.exp(-x))) for x in odds]
    objective = OrpoObjective(model, 1, weight, loss_on)
    found = objective.loss(objective.collate(PAIRS))
    mean = sum(nll) / len(nll)
    assert found.total.item() / 3 == pytest.approx(mean + weight * sum(ratio) / 3, rel=1e-5)
    values = {key: float(value) / n for key, (value, n) in found.sums.items()}
    assert values["nll_loss"] == pytest.approx(mean, rel=1e-5)
    assert values["odds_ratio_loss"] == pytest.approx(sum(ratio) / 3, rel=1e-5)
    assert values["log_odds_ratio"] == pytest.approx(sum(odds) / 3, rel=1e-4, abs=1e-6)


@given(st.floats(min_value=-80, max_value=-1e-5))
def test_log_of_one_minus_exp(x: float) -> None:
    from hrmctl_training.preference import _log1mexp

    value = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    found = _log1mexp(value)
    found.sum().backward()
    wanted = math.log1p(-math.exp(x)) if x < -1 else math.log(-math.expm1(x))
    assert found.item() == pytest.approx(wanted, rel=1e-12, abs=0)
    assert value.grad is not None
    assert value.grad.item() == pytest.approx(-1 / math.expm1(-x), rel=1e-9, abs=0)


def test_a_certain_completion_has_finite_odds() -> None:
    from hrmctl_training.preference import _log1mexp

    value = torch.zeros(1, requires_grad=True)
    found = _log1mexp(value)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert value.grad is not None
    assert torch.isfinite(value.grad).all()


def test_training_starts_at_ln_2_and_the_reference_never_moves(tmp_path: Path) -> None:
    model, context = _model(), make_context(tmp_path)
    pairs = referenced(model, PAIRS, 1, 2, "fp32", "reference.jsonl", context)
    objective = DpoObjective(model, 1, beta=0.7)
    batch = objective.collate([pairs[i] for i in range(3)])
    found = objective.loss(batch)
    assert found.total.item() / 3 == pytest.approx(math.log(2), rel=1e-6)
    kept = pairs.log_probs.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        objective.loss(batch).total.backward()
        optimizer.step()
    assert objective.loss(batch).total.item() / 3 < 0.5
    # A later attempt whose model has moved on reads what the first one computed.
    again = referenced(model, PAIRS, 1, 2, "fp32", "reference.jsonl", context)
    assert torch.equal(again.log_probs, kept)
    fresh = referenced(_model(), PAIRS, 1, 2, "fp32", "fresh.jsonl", context)
    assert torch.equal(fresh.log_probs, kept)
    for i, pair in enumerate(PAIRS):
        start = _log_probs(_model(), pair.chosen).sum().item(), _log_probs(_model(), pair.rejected).sum().item()
        assert (pairs[i].chosen, pairs[i].rejected) == pytest.approx(start, rel=1e-5)


@pytest.mark.parametrize("damage", [b"", b"not a journal", b'{"places": [0], "values": "00"}\n'])
def test_a_damaged_reference_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    context = make_context(tmp_path)
    first = referenced(_model(), PAIRS, 1, 2, "fp32", "reference.jsonl", context)
    (context.scratch / "reference.jsonl").write_bytes(damage)
    second = referenced(_model(), PAIRS, 1, 2, "fp32", "reference.jsonl", context)
    assert torch.equal(first.log_probs, second.log_probs)


def test_pairs_keep_how_they_are_drawn(tmp_path: Path) -> None:
    class Drawn(list[Preference]):
        epoch_size = 7

    pairs = referenced(_model(), Drawn(PAIRS), 1, 2, "fp32", "r.jsonl", make_context(tmp_path))
    assert pairs.epoch_size == 7
    assert not hasattr(pairs, "drawn")
    assert [len(pair) for pair in pairs] == [len(pair) for pair in PAIRS]


def test_padding_and_prompts_carry_no_label() -> None:
    batch = pair_batch(PAIRS[:2], pad=1, loss_on="all")
    assert batch.input_ids.tolist()[2] == [5, 6, 7, 20, 2, 1, 1]
    assert batch.labels.tolist()[2] == [-100, -100, -100, 20, 2, -100, -100]
    assert batch.labels.tolist()[0] == [-100, -100, -100, 8, 9, 2, -100]
    assert batch.learned.tolist()[0] == [5, 6, 7, 8, 9, 2, -100]
    assert batch.tokens == 6 + 5 + 4 + 7


@pytest.mark.parametrize("name", ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"])
def test_chunks_change_no_gradient_and_bound_the_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(0, name)
    objective = OrpoObjective(model, 1, 0.5)
    batch = objective.collate(PAIRS)

    def gradients() -> tuple[float, list[torch.Tensor], int]:
        rows: list[int] = []
        hook = model.get_output_embeddings().register_forward_hook(lambda _, inputs, out: rows.append(out.numel()))
        model.zero_grad()
        loss = objective.loss(batch).total
        loss.backward()
        hook.remove()
        return loss.item(), [p.grad for p in model.parameters() if p.grad is not None], max(rows)

    whole, gradient, most = gradients()
    monkeypatch.setattr(outputs, "_CHUNK_ELEMENTS", 3 * VOCABULARY)
    parts, of_parts, fewer = gradients()
    assert (most, fewer) == (19 * VOCABULARY, 3 * VOCABULARY)
    assert parts == pytest.approx(whole, rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradient, of_parts, strict=True))


def test_what_follows_the_output_layer_counts() -> None:
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.05,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    example = PAIRS[0].chosen
    found = log_probs(Output(model), collate([example], 1)).sum()
    assert found.item() == pytest.approx(_log_probs(model, example).sum().item(), rel=1e-5)
    ids = torch.tensor([example.ids])
    uncapped = model.get_output_embeddings()(model.model(input_ids=ids).last_hidden_state).log_softmax(-1)
    assert found.item() != pytest.approx(sum(uncapped[0, i - 1, example.ids[i]].item() for i in (3, 4, 5)), rel=1e-3)
