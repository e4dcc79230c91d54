"""The lean layers of hrm_text against the published ones."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hrmctl_models.loading import build
from hrmctl_training import hrm_layers
from hrmctl_training.hrm_layers import lean_layers

IDS = {"bos": 1, "eos": 2, "pad": 0}
PACKED = torch.cat([torch.arange(9), torch.arange(15)])[None].expand(2, 24)


def _model(name: str = "hrm-tiny", **settings: Any) -> Any:
    torch.set_num_threads(1)
    model = build(name, 60, IDS, seed=1)
    for key, value in settings.items():
        setattr(model.config, key, value)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    return model.train()


def _step(model: Any, lean: bool, half: bool, positions: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and all gradients in one row."""
    model.zero_grad()
    ids = torch.arange(48).mul(7).remainder(57).add(3).view(2, 24)
    with (
        torch.autocast("cpu", torch.bfloat16) if half else nullcontext(),
        lean_layers(model) if lean else nullcontext(),
    ):
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits.float()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    return logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("positions", [None, PACKED], ids=["rows", "packed"])
def test_logits_and_gradients_are_the_same(positions: torch.Tensor | None) -> None:
    model = _model()
    expected, found = _step(model, False, False, positions), _step(model, True, False, positions)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("positions", [None, PACKED], ids=["rows", "packed"])
@pytest.mark.parametrize("longest", [512, 0], ids=["products", "sdpa"])
def test_bf16_is_as_near_to_fp32_as_before(
    positions: torch.Tensor | None, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hrm_layers, "_LONGEST", longest)
    model = _model()
    exact, plain, lean = (_step(model, *how, positions) for how in ((False, False), (False, True), (True, True)))
    for true, theirs, ours in zip(exact, plain, lean, strict=True):
        assert (ours - true).norm() < 1.3 * (theirs - true).norm()


def test_generation_and_a_prefix_mask_run_as_published() -> None:
    model = _model().eval()
    prompt = torch.tensor([[5, 6, 7, 8]])
    expected = model.generate(prompt, max_new_tokens=8, do_sample=False)
    with lean_layers(model) as changed:
        assert torch.equal(model.generate(prompt, max_new_tokens=8, do_sample=False), expected)
    # Two stacks of one layer: attention, MLP and two norms each, and a norm of the stack.
    assert changed == 10
    prefixed = _model(prefix_lm=True)
    kinds = torch.tensor([[1, 1, 0, 0]])
    whole = prefixed(input_ids=prompt, token_type_ids=kinds, use_cache=False).logits
    with lean_layers(prefixed):
        torch.testing.assert_close(prefixed(input_ids=prompt, token_type_ids=kinds, use_cache=False).logits, whole)


def test_names_of_weights_stay_and_afterwards_the_model_is_as_it_was() -> None:
    model = _model()
    names = list(model.state_dict())
    with lean_layers(model):
        assert list(model.state_dict()) == names
    assert not [module for module in model.modules() if "forward" in vars(module)]


def _fail(model: Any) -> None:
    with lean_layers(model):
        raise RuntimeError("stopped")


def test_it_is_so_after_an_error_too() -> None:
    model = _model()
    with pytest.raises(RuntimeError, match="stopped"):
        _fail(model)
    assert not [module for module in model.modules() if "forward" in vars(module)]


def test_other_models_are_left_alone() -> None:
    with lean_layers(_model("llama-tiny")) as changed:
        assert changed == 0


def _kept(lean: bool, half: bool) -> int:
    """Bytes that the backward pass finds of a forward pass, weights left out."""
    model, sizes = _model("hrm-small"), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(x: torch.Tensor) -> torch.Tensor:
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    ids = torch.ones(2, 64, dtype=torch.long)
    with (
        torch.autocast("cpu", torch.bfloat16) if half else nullcontext(),
        lean_layers(model) if lean else nullcontext(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda x: x),
    ):
        output = model(input_ids=ids, use_cache=False)
    assert output.logits.requires_grad
    return sum(size for place, size in sizes.items() if place not in weights)


@pytest.mark.parametrize(("half", "most"), [(False, 0.67), (True, 0.6)], ids=["fp32", "bf16"])
def test_less_is_kept_for_the_backward_pass(half: bool, most: float) -> None:
    share = _kept(True, half) / _kept(False, half)
    assert share < most


def test_an_output_layer_with_a_hook_is_called() -> None:
    """As is an adapter, which stands in its place; gradients are the same whichever way they come."""
    model, seen = _model(), []
    expected = _step(model, False, False, None)
    for name, module in model.named_modules():
        if name.endswith(("o_proj", "down_proj")):
            module.register_forward_hook(lambda *_: seen.append(1))
    found = _step(model, True, False, None)
    assert seen
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_a_frozen_output_layer_passes_the_gradient_on() -> None:
    model = _model()
    frozen = [p for name, p in model.named_parameters() if "down_proj" in name or "o_proj" in name]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for a, b in zip(_step(model, True, False, None), _step(model, False, False, None), strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()
    assert all(parameter.grad is None for parameter in frozen)
