"""The HRM with adaptive computation: configuration, forward passes, generation, solving, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
import torch
from hrmctl_models.decoding import batches_exactly
from hrmctl_models.generate import generate
from hrmctl_models.hrm_act import HrmActConfig, HrmActForCausalLM
from hrmctl_models.hrm_act.layers import rope_table, turn
from hrmctl_models.hrm_act.losses import IGNORED, token_losses
from hrmctl_models.loading import LoadedModel, answers_in_place
from hrmctl_models.tokenizers import character_tokenizer, train_tokenizer
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from hrmctl import InputError

SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_multiple": 32,
    "H_layers": 1,
    "L_layers": 2,
    "halt_max_steps": 3,
}


def model_of(seed: int = 0, **options: Any) -> HrmActForCausalLM:
    torch.manual_seed(seed)
    return HrmActForCausalLM(HrmActConfig(**{**SIZES, **options})).eval()


def ids_of(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 20, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_width_of_the_feed_forward_layer_is_the_published_rule() -> None:
    assert HrmActConfig().intermediate_size == 1536
    assert HrmActConfig(hidden_size=128, num_attention_heads=4).intermediate_size == 512
    assert HrmActConfig(hidden_size=128, num_attention_heads=4, intermediate_multiple=32).intermediate_size == 352
    assert HrmActConfig(intermediate_size=100).intermediate_size == 100


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"norm": "layer"}, "norm"),
        ({"positions": "sine"}, "positions"),
        ({"loss_type": "mse"}, "loss_type"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "heads"),
        ({"halt_max_steps": 0}, "halt_max_steps"),
        ({"grad_cycles": 0}, "grad_cycles"),
        ({"halt_exploration_prob": 1.5}, "halt_exploration_prob"),
        ({"grid_width": 0}, "grid_width"),
        ({"grid_width": 4, "positions": "learned"}, "grid_width"),
        ({"grid_width": 4, "causal": True}, "grid_width"),
        ({"grid_width": 4, "hidden_size": 36, "num_attention_heads": 2}, "grid_width"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(Exception, match=named):
        HrmActConfig(**{**SIZES, **options})


def test_cache_has_a_place_for_every_pass_of_every_layer() -> None:
    # 3 segments of 2 cycles of (2 passes of 2 L layers and one of 1 H layer).
    assert HrmActConfig(**SIZES).num_hidden_layers == 3 * 2 * (2 * 2 + 1)


def test_initial_weights_are_those_of_the_paper() -> None:
    model = model_of(hidden_size=256, num_attention_heads=4, vocab_size=400)
    q = model.q_head
    assert not q.weight.any()
    assert (q.bias == -5).all()
    assert model.lm_head.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert model.lm_head.weight.abs().max().item() <= 2 / 0.8796 * 256**-0.5
    assert 0.8 < model.model.H_init.std().item() < 1.2
    assert not torch.equal(model.model.H_init, model.model.L_init)


def test_rotary_positions_turn_by_their_distance() -> None:
    cos, sin = (t[:, None, None] for t in rope_table(8, 4, 10000.0, torch.device("cpu"), torch.float32))
    pair = torch.randn(1, 1, 2, 1, 4).expand(1, 8, 2, 1, 4)
    query, key = turn(pair, cos, sin)[0, :, :, 0].unbind(1)
    scores = query @ key.T
    assert torch.allclose(scores[1:, 1:], scores[:-1, :-1], atol=1e-5)
    assert not torch.allclose(scores[0, 0], scores[0, 3], atol=1e-3)
    # The half-rotation by hand, of position 1.
    x, angles = pair[0, 1, 0, 0], torch.tensor([1.0, 0.01])
    by_hand = torch.cat([x[:2] * angles.cos() - x[2:] * angles.sin(), x[2:] * angles.cos() + x[:2] * angles.sin()])
    assert torch.allclose(query[1], by_hand, atol=1e-6)


def test_positions_of_a_grid_turn_by_the_offset_in_both_directions() -> None:
    cos, sin = (t[:, None, None] for t in rope_table(12, 8, 10000.0, torch.device("cpu"), torch.float32, 4))
    pair = torch.randn(1, 1, 2, 1, 8, generator=torch.Generator().manual_seed(0)).expand(1, 12, 2, 1, 8)
    turned = turn(pair, cos, sin)[0, :, :, 0]
    scores = turned[:, 0] @ turned[:, 1].T
    # One row down and one column right, wherever it starts; in the text the next two are as far apart.
    assert scores[0, 5].item() == pytest.approx(scores[6, 11].item(), rel=1e-5)
    assert scores[3, 4].item() != pytest.approx(scores[4, 5].item(), rel=1e-2)
    assert scores[0, 1].item() != pytest.approx(scores[0, 4].item(), rel=1e-2)


@pytest.mark.parametrize("loss_type", ["stablemax", "softmax"])
def test_token_losses_are_the_negative_log_of_the_normalised_score(loss_type: str) -> None:
    logits = torch.tensor([[[1.0, -1.0, 0.0], [3.0, 0.5, -2.0]]], requires_grad=True)
    labels = torch.tensor([[0, IGNORED]])
    scores = torch.tensor([2.0, 0.5, 1.0]) if loss_type == "stablemax" else torch.tensor([1.0, -1.0, 0.0]).exp()
    losses = token_losses(logits, labels, loss_type)
    assert losses[0, 0].item() == pytest.approx(-torch.log(scores[0] / scores.sum()).item(), rel=1e-6)
    assert losses[0, 1] == 0
    losses.sum().backward()
    # At a logit of exactly 1 a score by cases divides by zero in the case not taken.
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0].any()


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_causal_model_generates_the_same_with_and_without_cache(norm: str, positions: str) -> None:
    model = model_of(causal=True, norm=norm, positions=positions)
    ids = ids_of(3, 7)
    settings: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    cached = model.generate(ids, use_cache=True, **settings)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **settings))
    padded = torch.cat([torch.zeros(3, 4, dtype=torch.long), ids], 1)
    mask = (torch.arange(11) >= 4).long().expand(3, -1)
    assert torch.equal(model.generate(padded, attention_mask=mask, **settings)[:, 4:], cached)


def test_cached_logits_are_those_of_one_pass() -> None:
    model, ids = model_of(causal=True), ids_of(2, 9)
    with torch.no_grad():
        whole = model(ids).logits
        first = model(ids[:, :5], use_cache=True)
        second = model(ids[:, 5:8], past_key_values=first.past_key_values, use_cache=True)
        last = model(ids[:, 8:], past_key_values=second.past_key_values, logits_to_keep=1)
    parts = torch.cat([first.logits, second.logits, last.logits], 1)
    assert torch.allclose(parts, whole, atol=1e-5)


def test_causal_model_sees_no_future_and_in_place_model_sees_all() -> None:
    ids = ids_of(2, 10)
    changed = ids.clone()
    changed[:, 6:] = 3
    for causal in (True, False):
        model = model_of(causal=causal)
        with torch.no_grad():
            same = torch.isclose(model(ids).logits, model(changed).logits, atol=1e-5).all(-1)
        assert same[:, :6].all() == causal


def test_engine_decodes_it_in_batches() -> None:
    model = model_of(causal=True, vocab_size=300)
    assert batches_exactly(model)
    tokenizer = train_tokenizer(["some text to learn from"], 300)
    loaded = LoadedModel(model, tokenizer, torch.device("cpu"), 0)
    found = generate(loaded, ["some", "text to"], n=1, max_new_tokens=5, temperature=0)
    for prompt, (completion,) in zip(["some", "text to"], found, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        expected = model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        assert list(completion.tokens) == expected.tolist()[: len(completion.tokens)]


def test_in_place_model_refuses_to_continue_a_text() -> None:
    model = model_of()
    for call in (lambda: model.generate(ids_of(1, 4)), lambda: model(ids_of(1, 4), use_cache=True)):
        with pytest.raises(InputError, match="in place"):
            call()
    with pytest.raises(InputError, match="generate"):
        model_of(causal=True).solve(ids_of(1, 4))


def with_q(model: HrmActForCausalLM, weight: float, halt: float, go_on: float) -> HrmActForCausalLM:
    """The same model, whose halting value is a column of the state and these."""
    with torch.no_grad():
        model.q_head.weight[0, 0] = weight
        model.q_head.bias.copy_(torch.tensor([halt, go_on]))
    return model


def test_rows_that_never_halt_give_the_answer_of_the_forward_pass() -> None:
    model, ids = with_q(model_of(), 0, -1, 1), ids_of(4, 9)
    solved = model.solve(ids)
    assert torch.equal(solved.tokens, model(ids).logits.argmax(-1))
    assert solved.steps.tolist() == [3] * 4
    assert torch.allclose(solved.q_halt, torch.full((4,), -1.0))


def test_each_row_halts_by_its_own_q_value_and_keeps_its_answer() -> None:
    model, ids = with_q(model_of(halt_max_steps=6), 4.0, 0.0, 1.0), ids_of(12, 9)
    solved = model.solve(ids)
    assert len(set(solved.steps.tolist())) > 1
    alone = [model.solve(row[None]) for row in ids]
    assert solved.steps.tolist() == [int(one.steps) for one in alone]
    assert all(torch.equal(row, one.tokens[0]) for row, one in zip(solved.tokens, alone, strict=True))
    early = solved.steps < 6
    assert (solved.q_halt[early] > 1).all()
    short = HrmActForCausalLM(HrmActConfig(**{**SIZES, "halt_max_steps": int(solved.steps[0])})).eval()
    short.load_state_dict(model.state_dict())
    assert torch.equal(short(ids[:1]).logits.argmax(-1)[0], solved.tokens[0])


def test_without_a_continuing_value_rows_halt_when_likelier_right_than_not() -> None:
    ids = ids_of(2, 5)
    for halt, steps in ((0.1, 1), (-0.1, 3)):
        model = with_q(model_of(q_continue=False), 0, halt, 9.0)
        assert model.solve(ids).steps.tolist() == [steps] * 2


def test_padding_does_not_reach_an_answer_in_place() -> None:
    model, ids = with_q(model_of(), 0, -1, 1), ids_of(2, 6)
    padded = functional.pad(ids, (0, 3))
    mask = torch.arange(9).expand(2, -1) < 6
    assert torch.equal(model.solve(padded, mask).tokens[:, :6], model.solve(ids).tokens)
    assert torch.allclose(model(padded, attention_mask=mask).logits[:, :6], model(ids).logits, atol=1e-5)
    other = torch.where(mask, padded, 7)
    assert torch.equal(
        model(other, attention_mask=mask).logits[:, :6], model(padded, attention_mask=mask).logits[:, :6]
    )
    assert not torch.allclose(model(other).logits[:, :6], model(padded).logits[:, :6], atol=1e-3)


def test_labels_are_shifted_only_in_a_causal_model() -> None:
    ids = ids_of(2, 6)
    for causal in (True, False):
        model = model_of(causal=causal, loss_type="softmax")
        output = model(ids, labels=ids)
        logits, labels = (output.logits[:, :-1], ids[:, 1:]) if causal else (output.logits, ids)
        assert output.loss.item() == pytest.approx(
            functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item(), rel=1e-5
        )


@pytest.mark.parametrize(("grad_cycles", "passes"), [(1, (1, 1)), (2, (2, 1)), (3, (3, 2)), (4, (4, 2)), (9, (4, 2))])
def test_last_passes_have_a_gradient(
    grad_cycles: int, passes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(grad_cycles=grad_cycles)
    tracked = {"L": 0, "H": 0}
    for name, stack in (("L", model.model.L_level), ("H", model.model.H_level)):
        stack.register_forward_hook(
            lambda _m, _i, out, name=name: tracked.__setitem__(name, tracked[name] + out.requires_grad)
        )
    model(ids_of(1, 4), labels=ids_of(1, 4)).loss.backward()
    assert (tracked["L"], tracked["H"]) == passes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_and_is_close(dtype: torch.dtype) -> None:
    model, ids = model_of(halt_max_steps=1), ids_of(2, 6)
    with torch.no_grad():
        exact = model(ids).logits
        rough = model.to(dtype)(ids).logits
    assert rough.dtype == dtype
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("name", ["hrm-act-tiny", "hrm-act-text-tiny"])
def test_saved_model_loads_with_every_bit(name: str, tmp_path: Path) -> None:
    tokenizer = character_tokenizer(["123."])
    model = hrmctl_models.build(name, len(tokenizer), {"bos": None, "eos": 1, "pad": 0}, seed=3)
    hrmctl_models.save(model, tokenizer, tmp_path / "model")
    loaded = hrmctl_models.load(tmp_path / "model", device="cpu")
    assert isinstance(loaded.model, HrmActForCausalLM)
    assert loaded.model.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, loaded.model.state_dict()[key]) for key, tensor in model.state_dict().items())
    assert loaded.tokenizer.decode(loaded.tokenizer("1.3")["input_ids"]) == "1.3"
    assert answers_in_place(loaded.model.config) == (name == "hrm-act-tiny")
    assert loaded.model.config.num_hidden_layers == model.config.num_hidden_layers
    assert type(AutoConfig.from_pretrained(tmp_path / "model")) is HrmActConfig
    auto = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(auto.lm_head.weight, model.lm_head.weight)


def test_registered_sizes_are_those_counted() -> None:
    counted = {}
    for name in ("hrm-act-tiny", "hrm-act-27m"):
        with torch.device("meta"):
            counted[name] = hrmctl_models.count_parameters(hrmctl_models.build(name, 14, {"pad": 0}, seed=0))
    layers, heads = 8 * (4 * 512**2 + 3 * 512 * 1536), 2 * 14 * 512 + 2 * 512 + 2
    assert counted["hrm-act-27m"] == layers + heads == 27_278_338
    assert counted["hrm-act-tiny"] == 2 * (4 * 128**2 + 3 * 128 * 352) + (2 * 14 + 512) * 128 + 2 * 128 + 2


def test_character_tokenizer_takes_any_character_as_one_token() -> None:
    text = "1 .\n<é\t😀"
    tokenizer = character_tokenizer([text, "23"])
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert tokenizer("x1")["input_ids"][0] == tokenizer.unk_token_id
    assert character_tokenizer(["32", text[::-1]]).get_vocab() == tokenizer.get_vocab()
