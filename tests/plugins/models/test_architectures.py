"""The built-in architectures: their sizes as counted, their determinism, and that all of them run."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import hrmctl_models
import pytest
import torch
from hrmctl_models import build, count_parameters

from hrmctl import InputError

IDS = {"bos": 1, "eos": 2, "pad": 0}
SIZES = {
    ("hrm-tiny", 512): 0.49e6,
    ("gpt2-micro", 512): 0.53e6,
    ("gpt2-tiny", 512): 1.98e6,
    ("qwen2-tiny", 512): 0.46e6,
    ("llama-tiny", 512): 0.47e6,
    ("hrm-small", 1024): 4.2e6,
    ("gpt2-small", 1024): 11.4e6,
    ("hrm-27m", 8192): 27e6,
}


@pytest.mark.parametrize(("name", "vocab_size"), SIZES)
def test_size_is_the_one_that_the_name_says(name: str, vocab_size: int) -> None:
    model = hrmctl_models.build(name, vocab_size, IDS, seed=0)
    assert hrmctl_models.count_parameters(model) == pytest.approx(SIZES[name, vocab_size], rel=0.01)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (1, 2, 0)


def test_baselines_have_the_size_and_four_times_the_size_of_hrm_tiny() -> None:
    hrm, micro, tiny = (
        hrmctl_models.count_parameters(hrmctl_models.build(name, 512, IDS, seed=0))
        for name in ("hrm-tiny", "gpt2-micro", "gpt2-tiny")
    )
    assert 1.0 <= micro / hrm < 1.1
    assert 4.0 <= tiny / hrm < 4.1


def test_gpt2_117m_is_the_published_one() -> None:
    with torch.device("meta"):
        model = hrmctl_models.build("gpt2-117m", 50257, IDS, seed=0)
    assert hrmctl_models.count_parameters(model) == 124_439_808


def test_every_registered_architecture_has_a_configuration() -> None:
    for spec in hrmctl_models.hrmctl_architectures():
        with torch.device("meta"):
            model = hrmctl_models.build(spec.name, 512, IDS, seed=0)
        assert model.config.vocab_size == 512, spec.name


def test_weights_depend_on_the_seed_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (hrmctl_models.build("hrm-tiny", 300, IDS, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("name", ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"])
def test_no_token_sees_its_future(name: str) -> None:
    model = hrmctl_models.build(name, 300, IDS, seed=0)
    ids = torch.randint(3, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 8:] = 5
    with torch.no_grad():
        left, right = model(ids).logits, model(changed).logits
    assert torch.allclose(left[:, :8], right[:, :8], atol=1e-5)
    assert not torch.allclose(left[:, 8:], right[:, 8:], atol=1e-3)


def test_all_passes_of_the_low_stack_get_a_gradient() -> None:
    config = hrmctl_models.build("hrm-small", 300, IDS, seed=0).config
    assert config.L_bp_cycles == [config.L_cycles] * config.H_cycles


def test_hrm_reads_its_prompt_causally() -> None:
    model = hrmctl_models.build("hrm-tiny", 300, IDS, seed=0)
    ids = torch.arange(3, 13)[None]
    with torch.no_grad():
        assert torch.equal(model(ids, token_type_ids=torch.ones_like(ids)).logits, model(ids).logits)


def test_unknown_name_is_an_input_error_that_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"hrm-medium.*hrm-tiny"):
        hrmctl_models.build("hrm-medium", 512, IDS, seed=0)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, hrmctl_models, hrmctl_finetune; hrmctl_models.hrmctl_architectures();"
        "hrmctl_finetune.hrmctl_stages(); print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = hrmctl_models.nonsense


@pytest.mark.parametrize(
    ("name", "overrides", "count"),
    [
        ("hrm-tiny", {"H_cycles": 3, "L_bp_cycles": [1, 1, 1]}, 491_648),
        ("hrm-tiny", {"num_hidden_layers": 2}, 852_096),
        ("gpt2-micro", {"resid_pdrop": 0.1, "n_layer": 1}, 329_600),
    ],
)
def test_settings_of_an_architecture_can_be_given(name: str, overrides: dict[str, Any], count: int) -> None:
    model = build(name, 512, {"bos": 1, "eos": 2, "pad": 0}, 7, overrides)
    assert count_parameters(model) == count
    given = {"num_layers_per_stack" if key == "num_hidden_layers" else key: v for key, v in overrides.items()}
    if name == "hrm-tiny":
        assert {key: getattr(model.config, key) for key in given} == given
    assert (model.config.eos_token_id, model.config.vocab_size) == (2, 512)
    with torch.no_grad():
        assert model(torch.tensor([[3, 4, 5]])).logits.shape == (1, 3, 512)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"h_cycles": 3}, "no setting 'h_cycles'; did you mean 'H_cycles'"),
        ({"H_cycles": "three"}, "H_cycles is 2, so 'three'"),
        ({"prefix_lm": 1}, "prefix_lm is False"),
        ({"vocab_size": 100}, "no setting 'vocab_size'"),
        ({"hidden_size": 129}, "cannot be built with"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("hrm-tiny", 512, {"bos": 1, "eos": 2, "pad": 0}, 7, overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("gpt2-micro", {"n_head": 0}, "n_head is 0, but must be 1 or more"),
        ("gpt2-micro", {"n_embd": -4}, "n_embd is -4, but must be 1 or more"),
        ("gpt2-micro", {"n_layer": 0}, "n_layer is 0, but must be 1 or more"),
        ("hrm-tiny", {"H_cycles": 0}, "H_cycles is 0, but must be 1 or more"),
        ("gpt2-micro", {"activation_function": "nope"}, "cannot be built with .*KeyError"),
        ("hrm-tiny", {"hidden_size": 130}, "hidden size|hidden_size .*multiple"),
    ],
)
def test_settings_that_no_model_can_have_are_refused_in_one_line(
    name: str, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(name, 512, IDS, 7, overrides)
    assert "\n" not in str(caught.value)
    assert "Class validation error" not in str(caught.value)
