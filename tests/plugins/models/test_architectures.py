"""The built-in architectures: their sizes as counted, their determinism, and that all of them run."""

from __future__ import annotations

import subprocess
import sys

import hrmctl_models
import pytest
import torch

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
