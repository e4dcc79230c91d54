"""Loading and saving: what goes in comes out, and what is not a model is refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import hrmctl_models
import pytest
import torch
from hrmctl_models import loading
from safetensors.torch import load_file

from hrmctl import InputError, StageError
from hrmctl.errors import StoreError

IDS = {"bos": 1, "eos": 2, "pad": 0}
FAMILIES = ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"]


def _saved(folder: Path, name: str = "hrm-tiny", seed: int = 0) -> Path:
    tokenizer = hrmctl_models.train_tokenizer(["def f(n):\n    return n\n"] * 3, 280)
    hrmctl_models.save(hrmctl_models.build(name, len(tokenizer), IDS, seed), tokenizer, folder)
    return folder


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_model_loads_with_equal_logits(tmp_path: Path, name: str) -> None:
    tokenizer = hrmctl_models.train_tokenizer(["def f(n):\n    return n\n"] * 3, 280)
    model = hrmctl_models.build(name, len(tokenizer), IDS, seed=5)
    hrmctl_models.save(model, tokenizer, tmp_path / "m")
    loaded = hrmctl_models.load(tmp_path / "m", device="cpu")
    ids = torch.tensor([tokenizer("def f(n):\n")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, model(ids).logits)
    assert loaded.parameters == hrmctl_models.count_parameters(model)
    assert loaded.device == torch.device("cpu")
    assert not loaded.model.training
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert os.listdir(tmp_path) == ["m"]


def test_tied_weights_count_once(tmp_path: Path) -> None:
    loaded = hrmctl_models.load(_saved(tmp_path / "m", "gpt2-micro"), device="cpu")
    stored = sum(t.numel() for t in load_file(tmp_path / "m/model.safetensors").values())
    assert loaded.parameters == stored


def test_dtype_is_as_stored_or_as_asked(tmp_path: Path) -> None:
    tokenizer = hrmctl_models.train_tokenizer(["text"] * 3, 280)
    model = hrmctl_models.build("llama-tiny", len(tokenizer), IDS, seed=5).to(torch.bfloat16)
    hrmctl_models.save(model, tokenizer, tmp_path / "m")
    assert hrmctl_models.load(tmp_path / "m", "cpu").model.dtype == torch.bfloat16
    assert hrmctl_models.load(tmp_path / "m", "cpu", "float32").model.dtype == torch.float32
    with pytest.raises(InputError, match="float8"):
        hrmctl_models.load(tmp_path / "m", "cpu", "float8")


def test_saving_replaces_a_model_and_is_deterministic(tmp_path: Path) -> None:
    one = _saved(tmp_path / "a", seed=1)
    first = (one / "model.safetensors").read_bytes()
    _saved(one, seed=2)
    assert (one / "model.safetensors").read_bytes() != first
    _saved(one, seed=1)
    assert (one / "model.safetensors").read_bytes() == first
    assert os.listdir(tmp_path) == ["a"]


def test_kill_while_saving_leaves_no_half_model(tmp_path: Path) -> None:
    _saved(tmp_path / "m", seed=1)
    before = (tmp_path / "m/model.safetensors").read_bytes()
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "import hrmctl_models as m; from hrmctl_models import loading;"
        "loading._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL);"
        "t = m.train_tokenizer(['text'] * 3, 280);"
        "m.save(m.build('hrm-tiny', len(t), {'bos': 1, 'eos': 2, 'pad': 0}, 2), t, Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "m/model.safetensors").read_bytes() == before
    hrmctl_models.load(tmp_path / "m", "cpu")


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        _saved(tmp_path / "file" / "m")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda m: (m / "config.json").unlink(), "no config.json"),
        (lambda m: (m / "config.json").write_text("{"), "not JSON"),
        (lambda m: (m / "config.json").write_text("[]"), "not a JSON object"),
        (lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"), "pickles are never loaded"),
        (lambda m: _truncate(m / "model.safetensors"), "not a loadable"),
        (lambda m: (m / "tokenizer.json").write_text("{"), "tokenizer cannot be loaded"),
    ],
)
def test_what_is_not_a_model_is_refused(tmp_path: Path, damage: object, reason: str) -> None:
    model = _saved(tmp_path / "m")
    damage(model)  # type: ignore[operator]
    with pytest.raises(StageError, match=reason):
        hrmctl_models.load(model, "cpu")


def test_code_that_a_model_brings_is_not_run(tmp_path: Path) -> None:
    model = _saved(tmp_path / "m")
    marker = tmp_path / "ran"
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    with pytest.raises(StageError):
        hrmctl_models.load(model, "cpu")
    assert not marker.exists()


def test_devices() -> None:
    assert hrmctl_models.resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert hrmctl_models.resolve_device("auto").type == expected
    with pytest.raises(StageError, match="choose cpu or auto"):
        hrmctl_models.resolve_device("cuda:99")
    with pytest.raises(StageError, match="choose cpu or auto"):
        hrmctl_models.resolve_device("toaster")


def test_quantized_folders_go_to_their_own_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hrmctl_models import quantized

    model = _saved(tmp_path / "m")
    (model / loading.QUANTIZED_MARK).write_text("{}")
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(quantized, "load", lambda path, device, dtype: calls.append((path, device, dtype)))
    hrmctl_models.load(model, "cpu", "float32")
    assert calls == [(model, "cpu", "float32")]
    shutil.rmtree(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_trained_here_comes_back_as_it_was(family: str, tmp_path: Path) -> None:
    text = "# don't add 123\n\ndef f(n):\n    return n\n"
    tokenizer = hrmctl_models.train_tokenizer([text] * 3, 290)
    model = hrmctl_models.build(family, len(tokenizer), IDS, 1)
    hrmctl_models.save(model, tokenizer, tmp_path / family)
    again = loading.load_tokenizer(tmp_path / family)
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert len(again) == len(tokenizer)
    assert again.padding_side == tokenizer.padding_side
