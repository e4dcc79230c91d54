"""Import of a local folder: what is accepted, and every refusal with its reason."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hrmctl_import.params import ImportParams
from hrmctl_import.stage import run
from safetensors.torch import load_file, save_file

from hrmctl import InputError, StageError, StageResult
from hrmctl.testing import make_artifact, make_context

WEIGHTS = "model.safetensors"


def bring(folder: Path, tmp_path: Path, **params: Any) -> StageResult:
    artifact = make_artifact(folder, "model", folder.name)
    return run(ImportParams(**params), {"folder": artifact}, make_context(tmp_path))


def measured(result: StageResult) -> dict[str, Any]:
    return {o.name: o.payload for o in result.evidence}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def refuses(folder: Path, tmp_path: Path, reason: str, **params: Any) -> None:
    with pytest.raises(StageError, match=re.compile(reason)) as caught:
        bring(folder, tmp_path, **params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"])
def test_whole_models_of_every_family_are_taken(family: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy(family)
    result = bring(folder, tmp_path)
    found = measured(result)
    count = len(load_file(folder / WEIGHTS))
    assert (found["tensors"]["value"], found["tensors"]["n"]) == (count, count)
    assert (found["nonfinite_tensors"]["value"], found["nonfinite_tensors"]["n"]) == (0, count)
    assert found["forward_logits_finite"]["value"] == found["forward_logits_finite"]["n"] > 300
    assert (found["checksummed_files"]["value"], found["checksummed_files"]["n"]) == (0, 1)
    assert found["vocabulary"]["value"] == 300
    output = result.artifacts["model"]
    assert output.label == family
    listed = {entry["path"]: entry for entry in found["files"]["files"]}
    assert listed[WEIGHTS]["sha256"] == sha256(folder / WEIGHTS) == sha256(output.path / WEIGHTS)
    assert listed.keys() == {path.name for path in output.path.iterdir()}


def test_the_imported_model_computes_what_the_original_does(copy: Callable[[str], Path], tmp_path: Path) -> None:
    import torch
    from hrmctl_models import load

    folder = copy("hrm-tiny")
    result = bring(folder, tmp_path)
    ids = torch.arange(20)[None]
    paths = (folder, result.artifacts["model"].path)
    before, after = (load(path, device="cpu").model(input_ids=ids).logits for path in paths)
    assert torch.equal(before, after)


def test_progress_ends_at_its_total(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    context = make_context(tmp_path)
    run(ImportParams(), {"folder": make_artifact(folder, "model", "m")}, context)
    done, total, _ = context.rows[-1]
    size = sum(p.stat().st_size for p in (tmp_path / "scratch/model").iterdir())
    assert done == total == 2 * size


def test_shards_with_an_index_are_taken(sharded: Path, tmp_path: Path) -> None:
    shards = sorted(sharded.glob("*.safetensors"))
    assert len(shards) > 1
    found = measured(bring(sharded, tmp_path))
    assert found["checksummed_files"]["n"] == len(shards)
    assert found["tensors"]["value"] == sum(len(load_file(shard)) for shard in shards)


def test_a_checkpoint_without_the_base_prefix_is_taken(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")

    def strip(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)

    edit(folder, strip)
    found = measured(bring(folder, tmp_path))
    assert found["tensors"]["value"] == found["tensors"]["n"]


def test_only_known_safe_files_are_copied(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "sub").mkdir()
    result = bring(folder, tmp_path)
    assert not {p.name for p in result.artifacts["model"].path.iterdir()} & {"modeling_evil.py", "sub"}


# --- checksums ----------------------------------------------------------------------------------


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def test_a_flipped_bit_is_refused_where_a_manifest_knows_better(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("hrm-tiny")
    (folder / "SHA256SUMS").write_text(f"{sha256(folder / WEIGHTS)}  {WEIGHTS}\n")
    found = measured(bring(folder, tmp_path))
    assert found["checksummed_files"] == {"value": 1, "unit": "files", "n": 1, "context": {"against": ["SHA256SUMS"]}}
    flip(folder / WEIGHTS)
    refuses(folder, tmp_path, r"model\.safetensors is corrupt: its sha256 is .* SHA256SUMS says")


def test_a_flipped_bit_is_refused_where_the_parameter_knows_better(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("hrm-tiny")
    checksums = {WEIGHTS: sha256(folder / WEIGHTS)}
    assert measured(bring(folder, tmp_path, checksums=checksums))["checksummed_files"]["value"] == 1
    flip(folder / WEIGHTS)
    refuses(folder, tmp_path, "is corrupt", checksums=checksums)
    assert not (tmp_path / "scratch/model" / WEIGHTS).exists()


def test_a_folder_of_another_digest_is_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("hrm-tiny")
    digest = make_artifact(folder, "model", "m").digest
    bring(folder, tmp_path, digest=digest)
    flip(folder / WEIGHTS)
    refuses(folder, tmp_path, "not the model you meant", digest=digest)


def test_contradicting_or_misnamed_checksums_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    (folder / "SHA256SUMS").write_text(f"{sha256(folder / WEIGHTS)} *./{WEIGHTS}\n")
    refuses(folder, tmp_path, "different checksums", checksums={WEIGHTS: "0" * 64})
    refuses(folder, tmp_path, "does not hold", checksums={"weights.safetensors": "0" * 64})
    (folder / "SHA256SUMS").write_text("no digest here\n")
    refuses(folder, tmp_path, "SHA256SUMS:1: not a line")


# --- malformed files ----------------------------------------------------------------------------


def test_truncated_files_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:-100])
    refuses(folder, tmp_path, "truncated: 100 bytes of its payload")
    (folder / WEIGHTS).write_bytes(raw[:50])
    refuses(folder, tmp_path, "truncated within its header")
    (folder / WEIGHTS).write_bytes(b"")
    refuses(folder, tmp_path, "truncated within its header")


def test_trailing_bytes_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    with (folder / WEIGHTS).open("ab") as stream:
        stream.write(b"payload of another kind")
    refuses(folder, tmp_path, "23 trailing bytes")


def test_overlapping_and_gapped_offsets_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    original = (folder / WEIGHTS).read_bytes()

    def shift(header: dict[str, Any], by: int) -> None:
        name = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][0])
        header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]

    rewrite_header(folder / WEIGHTS, lambda header: shift(header, -4))
    refuses(folder, tmp_path, "overlaps the tensor before it")
    (folder / WEIGHTS).write_bytes(original)
    rewrite_header(folder / WEIGHTS, lambda header: shift(header, 4))
    refuses(folder, tmp_path, "leaves a gap before it")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entry: entry.update(shape=[3]), "not what its shape and dtype need"),
        (lambda entry: entry.update(dtype="F31"), "entry for .* is malformed"),
        (lambda entry: entry.update(shape=[-1]), "entry for .* is malformed"),
        (lambda entry: entry.pop("data_offsets"), "entry for .* is malformed"),
    ],
)
def test_malformed_headers_are_refused(
    change: Callable[[dict[str, Any]], Any], reason: str, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("gpt2-micro")
    rewrite_header(folder / WEIGHTS, lambda header: change(header["transformer.ln_f.bias"]))
    refuses(folder, tmp_path, reason)


def test_a_missing_shard_is_refused(sharded: Path, tmp_path: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    refuses(sharded, tmp_path, f"shard {shard.name} is missing")


def test_index_and_shards_must_agree(sharded: Path, tmp_path: Path) -> None:
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    tensor, shard = next(iter(index["weight_map"].items()))

    def write(weight_map: dict[str, str]) -> None:
        path.write_text(json.dumps(index | {"weight_map": weight_map}))

    write(index["weight_map"] | {"model.ghost": shard})
    refuses(sharded, tmp_path, "model.ghost is not in")
    write({name: place for name, place in index["weight_map"].items() if name != tensor})
    refuses(sharded, tmp_path, f"{tensor} is in .* but not in")
    write(index["weight_map"] | {tensor: "../outside.safetensors"})
    refuses(sharded, tmp_path, "not a safetensors file of this folder")
    path.unlink()
    refuses(sharded, tmp_path, "fetch the index that belongs to the shards")


# --- pickles ------------------------------------------------------------------------------------


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickles_are_refused_and_never_opened(name: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    refuses(folder, tmp_path, f"{name} is a pickle")
    result = bring(folder, tmp_path, ignore_pickles=True)
    assert not (result.artifacts["model"].path / name).exists()
    (folder / WEIGHTS).unlink()
    refuses(folder, tmp_path, f"weights are pickles .{name}", ignore_pickles=True)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kind", ["plain", "zip"])
def test_a_pickle_named_safetensors_is_refused(kind: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    if kind == "plain":
        (folder / WEIGHTS).write_bytes(bomb)
    else:
        with zipfile.ZipFile(folder / WEIGHTS, "w") as archive:
            archive.writestr("archive/data.pkl", bomb)
    refuses(folder, tmp_path, "pickle under another name")
    assert not (tmp_path / "exploded").exists()


# --- weights and configuration -------------------------------------------------------------------

FUSED = "model.L_module.layers.0.attn.gqkv_proj.weight"


def test_nonfinite_weights_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("hrm-tiny")

    def poison(tensors: dict[str, Any]) -> None:
        tensors[FUSED][3, 4] = float("nan")
        tensors[FUSED][5, 6] = float("inf")

    edit(folder, poison)
    refuses(folder, tmp_path, r"gqkv_proj\.weight holds 2 NaN or infinite values")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.update({FUSED: t[FUSED][:-4].clone()}), r"gqkv_proj\.weight has shape \[508, 128\], .* \[512,"),
        (lambda t: t.update({FUSED: t[FUSED].int()}), "gqkv_proj.weight is int32, config.json asks for float32"),
        (lambda t: t.update({FUSED: t[FUSED].half()}), "gqkv_proj.weight is float16, .* mixed_dtypes"),
        (lambda t: t.pop(FUSED), r"is missing from the weights \(4 such tensors\)"),
        (lambda t: t.update(stray=t[FUSED][:2].clone()), "stray belongs to no part of the model"),
    ],
)
def test_tensors_that_do_not_fit_the_configuration_are_refused(
    change: Callable[[dict[str, Any]], Any], reason: str, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("hrm-tiny")
    edit(folder, change)
    refuses(folder, tmp_path, reason)


def test_another_precision_is_taken_where_that_is_meant(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("hrm-tiny")
    edit(folder, lambda tensors: tensors.update({FUSED: tensors[FUSED].half()}))
    assert measured(bring(folder, tmp_path, mixed_dtypes=True))["tensors"]["value"] == 11


def test_half_precision_models_are_taken_and_checked_as_such(copy: Callable[[str], Path], tmp_path: Path) -> None:
    from hrmctl_models import load

    folder = copy("qwen2-tiny")
    load(folder, device="cpu", dtype="bfloat16").model.save_pretrained(folder)
    assert measured(bring(folder, tmp_path))["tensors"]["value"] > 20
    edit(folder, lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"].float()}))
    refuses(folder, tmp_path, "model.norm.weight is float32, config.json asks for bfloat16")
    set_config(folder, dtype=None)
    refuses(folder, tmp_path, "the weights mix BF16 and F32 and config.json names no dtype")


def test_tensors_that_the_architecture_ignores_count_as_unverified(copy: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    folder = copy("gpt2-micro")
    edit(folder, lambda tensors: tensors.update({"transformer.h.0.attn.bias": torch.tensor(1.0)}))
    found = measured(bring(folder, tmp_path))["tensors"]
    assert found["n"] - found["value"] == 1


def test_tensors_of_no_use_are_taken_where_that_is_meant(copy: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    folder = copy("gpt2-micro")
    edit(folder, lambda tensors: tensors.update({"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}))
    refuses(folder, tmp_path, "masked_bias belongs to no part of the model .* ignore_extra")
    found = measured(bring(folder, tmp_path, ignore_extra=True))["tensors"]
    assert found["n"] - found["value"] == 1


def set_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "unheard_of"}, "does not describe a model known here"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantized"),
        ({"vocab_size": 200}, r"weight has shape \[300, 128\], config.json asks for \[200, 128\]"),
    ],
)
def test_unusable_configurations_are_refused(
    values: dict[str, Any], reason: str, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("hrm-tiny")
    set_config(folder, **values)
    refuses(folder, tmp_path, reason)


def test_remote_code_is_never_run(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    set_config(folder, model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')\n")
    refuses(folder, tmp_path, "no remote code is run")
    assert not (tmp_path / "exploded").exists()


def test_missing_or_broken_companions_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text("{")
    refuses(folder, tmp_path, "config.json cannot be read")
    (folder / "config.json").unlink()
    refuses(folder, tmp_path, "config.json is missing")
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").write_text("{}")
    refuses(folder, tmp_path, "the tokenizer cannot be loaded")


def test_a_tokenizer_of_another_model_is_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    from hrmctl_models import train_tokenizer

    folder = copy("gpt2-micro")
    words = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in "lmnrst"]
    train_tokenizer([" ".join(words)] * 3, 700).save_pretrained(folder)
    refuses(folder, tmp_path, "does not fit the model's 300 embeddings", probe=" ".join(words))


def test_logits_that_overflow_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("gpt2-micro")
    edit(folder, lambda tensors: tensors["transformer.ln_f.weight"].fill_(3e38))
    refuses(folder, tmp_path, "NaN or infinite logits")


def test_two_sets_of_weights_and_quantized_folders_are_refused(
    sharded: Path, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    (sharded / WEIGHTS).write_bytes((copy("llama-tiny") / WEIGHTS).read_bytes())
    refuses(sharded, tmp_path, "unclear which weights count")
    folder = copy("gpt2-micro")
    (folder / "hrmctl_quantization.json").write_text("{}")
    refuses(folder, tmp_path, "already quantized by hrmctl")


# --- parameters ---------------------------------------------------------------------------------


def test_exactly_one_origin_is_asked_for(copy: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="either source"):
        run(ImportParams(), {}, make_context(tmp_path))
    with pytest.raises(InputError, match="either source"):
        bring(copy("gpt2-micro"), tmp_path, source="owner/name")


@pytest.mark.parametrize("values", [{"source": "./a/local/path"}, {"checksums": {"a": "xyz"}}, {"probe": " "}])
def test_senseless_parameters_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ImportParams(**values)
