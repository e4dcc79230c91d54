"""Adapter folders and NF4 bases: that they load as what was trained, and what is said where they are broken."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
import torch
from hrmctl_models import adapters
from hrmctl_models.generate import generate
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from hrmctl import InputError, StageError
from hrmctl.testing import make_artifact, make_context

pytest.importorskip("peft", reason="needs the extra peft")
pytest.importorskip("bitsandbytes", reason="needs the extra peft")

ARCHITECTURES = ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"]
IDS = {"bos": 1, "eos": 2, "pad": 0}
SETTINGS = {"r": 4, "lora_alpha": 8, "use_rslora": False, "use_dora": False}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each architecture, of random weights as large as those of a trained model."""
    tokenizer = hrmctl_models.train_tokenizer(["def f(n):\n    return n\n"] * 4, 290)
    folders = {}
    for name in ARCHITECTURES:
        model = hrmctl_models.build(name, len(tokenizer), IDS, seed=1)
        for parameter in model.parameters():
            parameter.data.mul_(2)
        folders[name] = tmp_path_factory.mktemp("bases") / name
        hrmctl_models.save(model, tokenizer, folders[name])
    return folders


def _adapted(base: Path, nf4: bool = False, **changes: Any) -> tuple[Any, adapters.Manifest]:
    """A base with an adapter that says something."""
    model = adapters.load_nf4(base, torch.float32, CPU) if nf4 else hrmctl_models.load(base, device="cpu").model
    head = model.get_output_embeddings()
    linear = {n for n, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head}
    names = adapters.nf4_names(model) if nf4 else ()
    torch.manual_seed(3)
    wrapped = adapters.attach(model, {**SETTINGS, "target_modules": sorted(linear), **changes})
    generator = torch.Generator().manual_seed(3)
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return wrapped, adapters.Manifest("0" * 64, "base", "float32", names)


@torch.no_grad()
def _logits(model: nn.Module) -> torch.Tensor:
    ids = torch.arange(3, 23)[None]
    logits: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return logits


def _written(base: Path, folder: Path, nf4: bool = False, **changes: Any) -> Path:
    wrapped, manifest = _adapted(base, nf4, **changes)
    adapters.write_adapter(wrapped, manifest, folder, base)
    return folder


@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_loads_as_the_model_that_was_trained(
    tmp_path: Path, bases: dict[str, Path], name: str, nf4: bool
) -> None:
    wrapped, manifest = _adapted(bases[name], nf4)
    adapters.write_adapter(wrapped, manifest, tmp_path / "a", bases[name])
    loaded = hrmctl_models.load(tmp_path / "a", device="cpu")
    plain = hrmctl_models.load(bases[name], device="cpu")
    assert bool(manifest.nf4) == nf4
    assert torch.allclose(_logits(loaded.model), _logits(wrapped), atol=1e-4)
    assert not torch.allclose(_logits(loaded.model), _logits(plain.model), atol=1e-2)
    assert loaded.parameters == plain.parameters == hrmctl_models.count_parameters(loaded.model)
    assert type(loaded.model) is type(plain.model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rounding_gives_the_very_weights_of_an_nf4_base(bases: dict[str, Path], name: str, dtype: torch.dtype) -> None:
    import bitsandbytes

    packed = adapters.load_nf4(bases[name], dtype, CPU)
    rounded = hrmctl_models.load(bases[name], device="cpu", dtype=str(dtype).removeprefix("torch.")).model
    before = {n: p.detach().clone() for n, p in rounded.named_parameters()}
    names = adapters.nf4_names(packed)
    adapters.round_to_nf4(rounded, names)
    assert len(names) >= 8
    for module in names:
        weight, dense = packed.get_submodule(module).weight, rounded.get_submodule(module)
        wanted = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
        found = dense.weight.t() if isinstance(dense, Conv1D) else dense.weight
        assert torch.equal(found, wanted), module
        assert not torch.equal(dense.weight, before[f"{module}.weight"])
    assert hrmctl_models.count_parameters(packed) == hrmctl_models.count_parameters(rounded)


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def test_evaluation_leaves_an_nf4_base_as_it_was(bases: dict[str, Path]) -> None:
    model = adapters.load_nf4(bases["llama-tiny"], torch.bfloat16, CPU)
    before = _digest(model)
    first = _logits(model)
    assert torch.equal(_logits(model.train().eval()), first)
    assert _digest(model) == before


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_peft_reads_the_folder_and_agrees(tmp_path: Path, bases: dict[str, Path], changes: dict[str, bool]) -> None:
    import peft

    base = bases["gpt2-micro"]
    folder = _written(base, tmp_path / "a", **changes)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    assert torch.allclose(_logits(theirs), _logits(hrmctl_models.load(folder, device="cpu").model), atol=1e-4)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


def test_the_same_adapter_is_written_as_the_same_bytes(tmp_path: Path, bases: dict[str, Path]) -> None:
    digests = {make_artifact(_written(bases["qwen2-tiny"], tmp_path / str(i)), "model", "a").digest for i in range(2)}
    assert len(digests) == 1
    targets = json.loads((tmp_path / "0" / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)


def test_other_stages_work_on_a_folder(tmp_path: Path, bases: dict[str, Path]) -> None:
    from hrmctl_quantize.params import QuantizeParams
    from hrmctl_quantize.stage import run

    folder = _written(bases["hrm-tiny"], tmp_path / "a", nf4=True)
    loaded = hrmctl_models.load(folder, device="cpu")
    assert generate(loaded, ["def"], max_new_tokens=3, temperature=0)[0][0].tokens
    context = make_context(tmp_path / "q")
    result = run(QuantizeParams(scheme="int8"), {"model": make_artifact(folder, "model", "a")}, context)
    quantized = hrmctl_models.load(result.artifacts["model"].path, device="cpu").model
    difference = (_logits(quantized) - _logits(loaded.model)).abs().max()
    assert difference < (_logits(quantized) - _logits(hrmctl_models.load(bases["hrm-tiny"]).model)).abs().max() / 2


def test_dtype_can_be_asked_for(tmp_path: Path, bases: dict[str, Path]) -> None:
    folder = _written(bases["llama-tiny"], tmp_path / "a")
    assert hrmctl_models.load(folder, device="cpu").model.dtype == torch.float32
    assert hrmctl_models.load(folder, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _resize(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(min(tensors))
    save_file(tensors, folder / "adapter_model.safetensors")


BROKEN = {
    "no base": (lambda f: shutil.rmtree(f / "base"), "without its base"),
    "manifest": (lambda f: (f / "hrmctl_adapter.json").write_text("[]"), "malformed"),
    "version": (lambda f: _change(f / "hrmctl_adapter.json", version=2), "version 2 is not known"),
    "unknown module": (lambda f: _change(f / "hrmctl_adapter.json", nf4=["model.nowhere"]), "has no module"),
    "no configuration": (lambda f: (f / "adapter_config.json").unlink(), "malformed"),
    "another kind": (lambda f: _change(f / "adapter_config.json", peft_type="IA3"), "is not LORA"),
    "no such target": (lambda f: _change(f / "adapter_config.json", target_modules=["nowhere"]), "no adapter can be"),
    "truncated": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x"), "cannot be read"),
    "a tensor missing": (_resize, "does not fit"),
    "another rank": (lambda f: _change(f / "adapter_config.json", r=5), "does not fit"),
    "rank text": (lambda f: _change(f / "adapter_config.json", r="x"), "r is 'x', not"),
    "rank zero": (lambda f: _change(f / "adapter_config.json", r=0), "r is 0, not"),
    "alpha text": (lambda f: _change(f / "adapter_config.json", lora_alpha="a"), "lora_alpha is 'a', not"),
    "alpha NaN": (lambda f: _change(f / "adapter_config.json", lora_alpha=float("nan")), "lora_alpha is nan, not"),
    "a pattern": (lambda f: _change(f / "adapter_config.json", target_modules="("), "target_modules is '\\('"),
    "targets number": (lambda f: _change(f / "adapter_config.json", target_modules=5), "target_modules is 5"),
    "variant": (lambda f: _change(f / "adapter_config.json", use_dora="no"), "use_dora is 'no', not"),
    "nf4 norm": (lambda f: _change(f / "hrmctl_adapter.json", nf4=["model.norm"]), "'model.norm' is no linear layer"),
    "nf4 container": (lambda f: _change(f / "hrmctl_adapter.json", nf4=["model.layers"]), "is no linear layer"),
    "nf4 root": (lambda f: _change(f / "hrmctl_adapter.json", nf4=[""]), "'' is no linear layer"),
    "base is itself": (lambda f: (shutil.rmtree(f / "base"), (f / "base").symlink_to(".")), "base/ is not a plain"),
    "a link out": (lambda f: (shutil.rmtree(f / "base"), (f / "base").symlink_to("/")), "base leads out of the folder"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_said_to_be_so(tmp_path: Path, bases: dict[str, Path], fault: str) -> None:
    folder = _written(bases["llama-tiny"], tmp_path / "a")
    change, message = BROKEN[fault]
    change(folder)
    with pytest.raises(StageError, match=message):
        hrmctl_models.load(folder, device="cpu")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bases: dict[str, Path]) -> None:
    folder = _written(bases["llama-tiny"], tmp_path / "a")

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(adapters, "import_module", missing)
    with pytest.raises(InputError, match=r"need peft, which is not installed; pip install 'hrmctl\[peft\]'"):
        hrmctl_models.load(folder, device="cpu")


def test_a_device_without_nf4_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    def lacking(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("no kernel")

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", lacking)
    with pytest.raises(InputError, match=r"has no NF4 for the device 'cpu'.*; use method lora"):
        adapters.check_nf4(CPU)
