"""The stage `quantize`: round every weight matrix, write the folder, measure what it cost and what it saved."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from hrmctl_models import load
from hrmctl_models.adapters import base_folder
from hrmctl_models.quantized import (
    METHOD,
    QUANTIZED_MARK,
    QUANTIZED_WEIGHTS,
    Entry,
    Manifest,
    QuantizedWeight,
    kind_of,
    matrix_of,
    pack,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from hrmctl import Artifact, Context, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.jsonio import file_digest, write_atomic
from hrmctl_quantize.params import QuantizeParams
from hrmctl_quantize.rounding import round_matrix

_BITS = {"int4": 4, "int8": 8}


@dataclass(frozen=True, slots=True)
class Loss:
    """How far a weight moved: greatest absolute difference, squared norms of the difference and of the weight."""

    largest: float
    difference: float
    power: float


def run(params: QuantizeParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Quantize `inputs["model"]`. Raises StageError where it is quantized already, not finite, or has no matrix."""
    parent: Artifact = inputs["model"]
    source = base_folder(parent.path)
    _refuse_quantized(source)
    # On the CPU in the precision it is stored in: rounding is done once and in float32.
    model = load(parent.path, device="cpu").model
    _refuse_nonfinite(model)
    owners, tied = chosen_modules(model, params.embeddings)
    if not owners:
        raise StageError("the model has no matrix to quantize; give a causal language model with linear layers")
    tensors, losses = _quantize_all(owners, params, ctx)
    entries = {name: _entry(module) for name, module in owners.items()}
    manifest = Manifest(params.scheme, params.group_size, params.symmetric, entries, tied)
    rest = remaining_tensors(model, {*owners, *tied})
    folder = _write(ctx.scratch, source, manifest, {**tensors, **rest})
    half = _half_precision_files(model, ctx.scratch / "fp16")
    ctx.progress(len(owners), len(owners))
    output = Output(folder, f"{parent.label}/{params.scheme}")
    return StageResult({"model": output}, _evidence(model, parent, output, params, entries, losses, half))


def _refuse_quantized(folder: Path) -> None:
    config = folder / "config.json"
    foreign = config.is_file() and "quantization_config" in json.loads(config.read_text(encoding="utf-8"))
    if foreign or (folder / QUANTIZED_MARK).exists():
        raise StageError("the model is already quantized; give the model it was made from")


def _refuse_nonfinite(model: PreTrainedModel) -> None:
    for name, tensor in model.state_dict().items():
        bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if bad:
            raise StageError(f"{name} holds {bad} NaN or infinite weights; train or import the model again")


def chosen_modules(model: PreTrainedModel, embeddings: bool) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Modules to quantize by name, each weight once, and for every module that shares one of them, its owner."""
    ends = () if embeddings else (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[no-untyped-call]
    owners: dict[str, nn.Module] = {}
    tied: dict[str, str] = {}
    by_weight: dict[int, str] = {}
    for name, module in model.named_modules():
        if kind_of(module) is None or any(module is end for end in ends):
            continue
        if not embeddings and isinstance(module, nn.Embedding):
            continue
        owner = by_weight.setdefault(id(module.weight), name)
        if owner == name:
            owners[name] = module
        else:
            tied[name] = owner
    return owners, tied


def _entry(module: nn.Module) -> Entry:
    kind = kind_of(module)
    assert kind is not None
    rows, columns = matrix_of(module).shape
    return Entry(kind, (rows, columns))


def _quantize_all(
    owners: Mapping[str, nn.Module], params: QuantizeParams, ctx: Context
) -> tuple[dict[str, torch.Tensor], list[Loss]]:
    """Tensors of all quantized modules by name on disk, and what each lost; finished ones are kept in scratch."""
    tensors: dict[str, torch.Tensor] = {}
    losses = []
    for done, (name, module) in enumerate(owners.items()):
        ctx.progress(done, len(owners))
        parts = _kept(ctx.scratch / "parts" / f"{done}.safetensors", module, params)
        losses.append(_loss(matrix_of(module), parts, params))
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    return tensors, losses


def _kept(path: Path, module: nn.Module, params: QuantizeParams) -> dict[str, torch.Tensor]:
    """Codes, scales and zeros of one module, from an earlier attempt where it got that far."""
    if path.is_file():
        return load_file(path)
    bits = _BITS[params.scheme]
    rounded = round_matrix(matrix_of(module), bits, params.group_size, params.symmetric)
    parts = {"qweight": pack(rounded.codes, bits), "scale": rounded.scale}
    if rounded.zero is not None:
        parts["zero"] = rounded.zero
    _save(parts, path)
    return parts


def _loss(weight: torch.Tensor, parts: Mapping[str, torch.Tensor], params: QuantizeParams) -> Loss:
    """Compare a weight with what a reader makes of its codes, in float32."""
    shape = (weight.shape[0], weight.shape[1])
    read = QuantizedWeight(
        _BITS[params.scheme], params.group_size, shape, parts["qweight"], parts["scale"], parts.get("zero")
    ).dense(torch.float32)
    original = weight.float()
    difference = read - original
    # Sums in float64: a float32 sum over an embedding of millions of weights loses digits.
    squares = [float(t.square_().sum(dtype=torch.float64)) for t in (difference.clone(), original.clone())]
    return Loss(float(difference.abs().max()), *squares)


def remaining_tensors(model: PreTrainedModel, quantized: set[str]) -> dict[str, torch.Tensor]:
    """All tensors that are not quantized weights, shared ones once; matrices in float16 if that can hold them."""
    skipped = {f"{name}.weight" for name in quantized}
    result: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name not in skipped and id(tensor) not in seen:
            seen.add(id(tensor))
            result[name] = _compact(tensor.detach())
    return result


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.to(torch.float16)
    if tensor.ndim < 2 or tensor.dtype != torch.float32 or not bool(torch.isfinite(half).all()):
        return tensor.contiguous()
    return half.contiguous()


def _write(scratch: Path, parent: Path, manifest: Manifest, tensors: dict[str, torch.Tensor]) -> Path:
    """The output folder: the parent's small files, a marked configuration, the manifest, the weights last."""
    folder = scratch / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in _companions(parent):
        shutil.copyfile(path, folder / path.name)
    config = json.loads((parent / "config.json").read_text(encoding="utf-8"))
    write_atomic(folder / "config.json", json.dumps(config | {"quantization_config": METHOD}, indent=2, sort_keys=True))
    write_atomic(folder / QUANTIZED_MARK, json.dumps(manifest.to_json(), indent=1))
    _save(tensors, folder / QUANTIZED_WEIGHTS)
    return folder


def _companions(parent: Path) -> Iterator[Path]:
    for path in sorted(parent.iterdir()):
        if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith(".safetensors.index.json"):
            yield path


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, draft, metadata={"format": "pt"})
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError as error:
        reason = f"cannot write {path.name} ({error.strerror or error}); free space and run it again"
        raise StageError(reason) from error


def _half_precision_files(model: PreTrainedModel, folder: Path) -> list[int]:
    """Sizes of the weight files of the model written in float16. The model is float16 afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)  # type: ignore[no-untyped-call]
    sizes = _weight_files(folder)
    shutil.rmtree(folder)
    return sizes


def _weight_files(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.glob("*.safetensors")]


def _evidence(
    model: PreTrainedModel, parent: Artifact, output: Output, params: QuantizeParams,
    entries: Mapping[str, Entry], losses: list[Loss], half: list[int],
) -> list[Observation]:  # fmt: skip
    parameters = sum(parameter.numel() for parameter in model.parameters())
    quantized = sum(math.prod(entry.shape) for entry in entries.values())
    relative = math.sqrt(sum(loss.difference for loss in losses) / (sum(loss.power for loss in losses) or 1.0))
    context = {"scheme": params.scheme, "group_size": params.group_size, "symmetric": params.symmetric}
    stored = _weight_files(output.path)

    def measured(name: str, value: float, unit: str, n: int, subject: Artifact | Output = output) -> Observation:
        payload = {"value": value, "unit": unit, "n": n, "context": context}
        return Observation(name, "measurement/v1", payload, {"model": subject})

    files = [
        {"path": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(output.path.iterdir())
    ]
    return [
        measured("weights_bytes", sum(stored), "bytes", len(stored)),
        measured("weights_bytes_fp16", sum(half), "bytes", len(half), parent),
        measured("quantized_fraction", quantized / parameters, "share", parameters),
        measured("max_abs_error", max(loss.largest for loss in losses), "weight", len(losses)),
        measured("relative_error", relative, "Frobenius norm of the weights", len(losses)),
        Observation("files", "files/v1", {"files": files}, {"model": output}),
    ]
