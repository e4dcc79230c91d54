"""The stage on real tiny models of every family, and the loader on what it writes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_models import load, quantized
from hrmctl_models.generate import generate
from hrmctl_models.quantized import QuantizedEmbedding, QuantizedLinear
from hrmctl_quantize import stage
from hrmctl_quantize.params import QuantizeParams
from safetensors.torch import load_file, save_file
from torch import nn

from hrmctl import InputError, StageError, StageResult
from hrmctl.testing import make_artifact, make_context

FAMILIES = ("hrm-tiny", "gpt2-micro", "gpt2-tiny", "qwen2-tiny", "llama-tiny")
WEIGHTS = "hrmctl_quantized.safetensors"


def quantize(folder: Path, tmp_path: Path, **params: Any) -> StageResult:
    artifact = make_artifact(folder, "model", folder.name)
    return stage.run(QuantizeParams(**params), {"model": artifact}, make_context(tmp_path))


def measured(result: StageResult) -> dict[str, Any]:
    return {o.name: o.payload for o in result.evidence}


def logits(model: nn.Module) -> torch.Tensor:
    ids = torch.arange(60).reshape(2, 30) * 7 % 512
    with torch.inference_mode():
        return model(input_ids=ids).logits.float()


def distance(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_int4_is_under_half_of_fp16_and_close(family: str, models: dict[str, Path], tmp_path: Path) -> None:
    result = quantize(models[family], tmp_path)
    found = measured(result)
    original, small = load(models[family], device="cpu"), load(result.artifacts["model"].path, device="cpu")
    assert found["weights_bytes"]["value"] < 0.34 * found["weights_bytes_fp16"]["value"]
    assert found["quantized_fraction"]["value"] > 0.99
    assert found["relative_error"]["value"] < 0.08
    assert small.parameters == original.parameters
    assert distance(logits(small.model), logits(original.model)) < 0.25
    assert result.artifacts["model"].label == f"{family}/int4"


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_is_nearly_the_model(family: str, models: dict[str, Path], tmp_path: Path) -> None:
    result = quantize(models[family], tmp_path, scheme="int8")
    original, small = load(models[family], device="cpu"), load(result.artifacts["model"].path, device="cpu")
    assert distance(logits(small.model), logits(original.model)) < 0.02
    found = measured(result)
    assert found["weights_bytes"]["value"] < 0.6 * found["weights_bytes_fp16"]["value"]
    assert 0 < found["max_abs_error"]["value"] < 0.001


@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro", "qwen2-tiny"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_both_ways_of_loading_compute_the_same(
    family: str, symmetric: bool, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = quantize(models[family], tmp_path, symmetric=symmetric).artifacts["model"].path
    packed = quantized.load(folder, device="cpu", dequantize="each_call")
    dense = quantized.load(folder, device="cpu", dequantize="once")
    assert torch.allclose(logits(packed.model), logits(dense.model), atol=1e-5)
    assert packed.parameters == dense.parameters
    assert any(isinstance(module, QuantizedLinear) for module in packed.model.modules())
    assert not any(isinstance(module, (QuantizedLinear, QuantizedEmbedding)) for module in dense.model.modules())


@pytest.mark.parametrize("block", [1, 1000, 1 << 30])
def test_blocks_do_not_change_what_is_computed(
    block: int, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quantize(models["gpt2-micro"], tmp_path).artifacts["model"].path
    packed = quantized.load(folder, device="cpu", dequantize="each_call").model
    expected = logits(packed)
    monkeypatch.setattr(quantized, "_BLOCK_WEIGHTS", {"cpu": block})
    assert torch.allclose(logits(packed), expected, atol=1e-5)


def test_the_packed_model_holds_codes_and_no_dense_weight(models: dict[str, Path], tmp_path: Path) -> None:
    folder = quantize(models["gpt2-tiny"], tmp_path).artifacts["model"].path
    packed = quantized.load(folder, device="cpu", dequantize="each_call").model
    held = sum(t.nbytes for t in {t.data_ptr(): t for t in (*packed.parameters(), *packed.buffers())}.values())
    assert held < 1.2 * (folder / WEIGHTS).stat().st_size


def test_small_models_are_made_dense_and_large_ones_stay_packed(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quantize(models["hrm-tiny"], tmp_path).artifacts["model"].path
    assert type(load(folder, device="cpu").model.lm_head) is nn.Linear
    monkeypatch.setattr(quantized, "DENSE_BELOW", 491520 * 4)
    assert type(load(folder, device="cpu").model.lm_head) is QuantizedLinear


@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro", "llama-tiny"])
def test_generation_works_as_on_any_model(family: str, models: dict[str, Path], tmp_path: Path) -> None:
    folder = quantize(models[family], tmp_path).artifacts["model"].path
    greedy = {"n": 1, "max_new_tokens": 8, "temperature": 0.0}
    prompts = ["def f1(a, b):\n", "def"]
    both = [quantized.load(folder, device="cpu", dequantize=how) for how in ("each_call", "once")]
    packed, dense = (generate(loaded, prompts, **greedy) for loaded in both)
    assert [[c.tokens for c in row] for row in packed] == [[c.tokens for c in row] for row in dense]
    assert all(row[0].tokens for row in packed)


@pytest.mark.parametrize("family", ["gpt2-micro", "qwen2-tiny", "llama-tiny"])
def test_tied_weights_are_stored_once_and_stay_tied(family: str, models: dict[str, Path], tmp_path: Path) -> None:
    folder = quantize(models[family], tmp_path).artifacts["model"].path
    manifest = quantized.read_manifest(folder)
    assert list(manifest.tied) == ["lm_head"]
    assert not [name for name in load_file(folder / WEIGHTS) if name.startswith("lm_head")]
    packed = quantized.load(folder, device="cpu", dequantize="each_call").model
    assert packed.get_input_embeddings().quantized is packed.get_output_embeddings().quantized
    dense = quantized.load(folder, device="cpu", dequantize="once").model
    assert dense.get_input_embeddings().weight is dense.get_output_embeddings().weight


@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro"])
def test_embeddings_can_be_left_in_half_precision(family: str, models: dict[str, Path], tmp_path: Path) -> None:
    result = quantize(models[family], tmp_path, embeddings=False)
    folder = result.artifacts["model"].path
    assert measured(result)["quantized_fraction"]["value"] < 0.8
    names = " ".join(quantized.read_manifest(folder).tensors)
    assert not re.search("embed|wte|wpe|lm_head", names)
    model = load(folder, device="cpu").model
    before = load(models[family], device="cpu").model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, before.half().float())
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is (family == "gpt2-micro")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_precisions_of_activations(dtype: str, models: dict[str, Path], tmp_path: Path) -> None:
    folder = quantize(models["qwen2-tiny"], tmp_path).artifacts["model"].path
    full = logits(quantized.load(folder, device="cpu", dequantize="once").model)
    for how in ("each_call", "once"):
        model = quantized.load(folder, device="cpu", dtype=dtype, dequantize=how).model
        assert model.dtype == getattr(torch, dtype)
        assert distance(logits(model), full) < 0.03


def test_a_half_precision_parent(models: dict[str, Path], tmp_path: Path) -> None:
    parent = load(models["llama-tiny"], device="cpu", dtype="bfloat16")
    folder = shutil.copytree(models["llama-tiny"], tmp_path / "half")
    parent.model.save_pretrained(folder)
    small = load(quantize(folder, tmp_path).artifacts["model"].path, device="cpu")
    assert small.model.dtype == torch.bfloat16
    assert distance(logits(small.model), logits(parent.model)) < 0.25


def test_bytes_are_those_on_disk(models: dict[str, Path], tmp_path: Path) -> None:
    result = quantize(models["gpt2-micro"], tmp_path)
    found = measured(result)
    files = {entry["path"]: entry["bytes"] for entry in found["files"]["files"]}
    stored = (result.artifacts["model"].path / WEIGHTS).stat().st_size
    assert found["weights_bytes"]["value"] == files[WEIGHTS] == stored
    parameters = load(models["gpt2-micro"], device="cpu").parameters
    assert found["weights_bytes_fp16"]["value"] == pytest.approx(2 * parameters, rel=0.01)
    subjects = {o.name: o.about["model"].label for o in result.evidence}
    assert subjects["weights_bytes_fp16"] == "gpt2-micro"
    assert subjects["weights_bytes"] == "gpt2-micro/int4"
    assert not (tmp_path / "scratch/fp16").exists()


def test_errors_are_those_of_the_tensors(models: dict[str, Path], tmp_path: Path) -> None:
    result = quantize(models["hrm-tiny"], tmp_path)
    small = load(result.artifacts["model"].path, device="cpu").model.state_dict()
    original = load(models["hrm-tiny"], device="cpu").model.state_dict()
    pairs = [(small[n], t) for n, t in original.items() if t.ndim == 2]
    found = measured(result)
    assert found["relative_error"]["n"] == found["max_abs_error"]["n"] == len(pairs)
    assert found["max_abs_error"]["value"] == pytest.approx(max(float((a - b).abs().max()) for a, b in pairs), rel=1e-4)
    whole = [torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1)]
    assert found["relative_error"]["value"] == pytest.approx(distance(*whole), rel=1e-4)


def test_an_interrupted_attempt_is_continued(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = quantize(models["hrm-tiny"], tmp_path / "undisturbed").artifacts["model"].path
    real, calls = stage.round_matrix, []

    def dies_at_the_fifth(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(stage, "round_matrix", dies_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        quantize(models["hrm-tiny"], tmp_path)
    resumed = quantize(models["hrm-tiny"], tmp_path).artifacts["model"].path
    count = len(quantized.read_manifest(resumed).tensors)
    assert len(calls) == count + 1
    assert (resumed / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()


def test_progress_counts_tensors(models: dict[str, Path], tmp_path: Path) -> None:
    context = make_context(tmp_path)
    artifact = make_artifact(models["gpt2-micro"], "model", "m")
    result = stage.run(QuantizeParams(), {"model": artifact}, context)
    count = measured(result)["relative_error"]["n"]
    assert [(done, total) for done, total, _ in context.rows] == [(i, count) for i in range(count + 1)]


# --- refusals -----------------------------------------------------------------------------------


def refuses(action: Callable[[], Any], reason: str) -> None:
    with pytest.raises(StageError, match=re.compile(reason)) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_quantized_models_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    folder = quantize(models["hrm-tiny"], tmp_path).artifacts["model"].path
    refuses(lambda: quantize(folder, tmp_path / "again"), "already quantized")
    shutil.copyfile(models["hrm-tiny"] / "config.json", folder / "config.json")
    refuses(lambda: quantize(folder, tmp_path / "again"), "already quantized")
    foreign = shutil.copytree(models["hrm-tiny"], tmp_path / "foreign")
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    refuses(lambda: quantize(foreign, tmp_path / "again"), "already quantized")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_broken_weights_are_refused(value: float, models: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(models["gpt2-micro"], tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.1.mlp.c_fc.weight"][2, 3] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    refuses(lambda: quantize(folder, tmp_path), r"h\.1\.mlp\.c_fc\.weight holds 1 NaN or infinite")


def test_transformers_itself_does_not_load_the_folder_with_random_weights(
    models: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder = quantize(models["hrm-tiny"], tmp_path).artifacts["model"].path
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(folder)


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("lm_head.scale"), "lack lm_head.scale"),
        (lambda t: t.pop("model.z_L_init"), "lack model.z_L_init"),
        (lambda t: t.update({"lm_head.scale": t["lm_head.scale"][:, :-1].clone()}), "lm_head.scale has shape"),
        (lambda t: t.update(stray=torch.zeros(2)), "hold stray, for which config.json has no place"),
    ],
)
def test_a_damaged_folder_is_not_loaded(
    change: Callable[[dict[str, torch.Tensor]], Any], reason: str, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = quantize(models["hrm-tiny"], tmp_path).artifacts["model"].path
    edit_tensors(folder, change)
    refuses(lambda: load(folder, device="cpu"), reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 2 is not known; update hrmctl"),
        ({"scheme": "int3"}, "scheme int3"),
        ({"tensors": {"lm_head": {"kind": "linear", "shape": [512]}}}, "malformed"),
        ({"tensors": {"lm_foot": {"kind": "linear", "shape": [512, 128]}}}, "lack lm_foot.qweight"),
    ],
)
def test_a_manifest_of_another_kind_is_not_loaded(
    change: dict[str, Any], reason: str, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = quantize(models["hrm-tiny"], tmp_path).artifacts["model"].path
    path = folder / "hrmctl_quantization.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refuses(lambda: load(folder, device="cpu"), reason)


def test_an_unknown_precision_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    folder = quantize(models["hrm-tiny"], tmp_path).artifacts["model"].path
    with pytest.raises(InputError, match="float64"):
        load(folder, device="cpu", dtype="float64")
