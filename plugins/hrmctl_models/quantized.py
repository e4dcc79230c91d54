"""hrmctl's own format for weight-only quantized models, version 1, and the modules that compute with it.

A quantized folder is a model folder whose weights are in `hrmctl_quantized.safetensors`: a name of its own, since
transformers only warns of a `quantization_config` it does not know and would go on with random weights. It
holds, for each quantized module M with weight of shape (out, in) in groups of `group_size` along `in`:

* `M.qweight` (uint8): the codes. int8: one a byte, shape (out, columns). int4: shape (out, columns / 2), byte j
  holds the code of column j in its low half and that of column j + columns / 2 in its high half.
  `columns` is `in` rounded up to whole groups (int4: and to an even number); what is beyond `in` is ignored.
* `M.scale` (float16, or float32 where float16 cannot hold it): shape (out, groups).
* `M.zero` (dtype of the scale; asymmetric only): shape (out, groups).

A weight is `scale * (code - 2**(bits - 1))`, or `scale * code + zero` where there is a zero. All other
tensors are stored as they are under their `state_dict()` names. `hrmctl_quantization.json` says
`{"format", "version", "scheme", "group_size", "symmetric", "tensors": {M: {"kind", "shape"}}, "tied": {M: M'}}`;
`kind` is `linear`, `conv1d` (GPT-2's, whose own weight is (in, out)) or `embedding`; the weight of a tied
module is that of another one, stored once. `config.json` gets a `quantization_config` of
`{"quant_method": "hrmctl"}`, which tells other tools what the folder is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from hrmctl import InputError, StageError
from hrmctl_models.loading import QUANTIZED_MARK as QUANTIZED_MARK
from hrmctl_models.loading import LoadedModel, load_tokenizer, resolve_device

FORMAT = "hrmctl-quantization"
VERSION = 1
QUANTIZED_WEIGHTS = "hrmctl_quantized.safetensors"
METHOD = {"quant_method": "hrmctl"}
Scheme = Literal["int4", "int8"]
Kind = Literal["linear", "conv1d", "embedding"]
Dequantize = Literal["auto", "each_call", "once"]
# Dense weights below this take less memory than the interpreter and torch themselves, so packing buys
# nothing that could be noticed and costs a decoding step half its speed.
DENSE_BELOW = 256 << 20
# Weights made dense at a time, which bounds the memory of a call. On a processor a block that stays in its
# cache makes decoding three times as fast as whole matrices; an accelerator wants few, large steps.
_BLOCK_WEIGHTS = {"cpu": 1 << 19}
_LARGE_BLOCK = 1 << 26
_ALL = slice(None)
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_KINDS: dict[type[nn.Module], Kind] = {nn.Linear: "linear", Conv1D: "conv1d", nn.Embedding: "embedding"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One quantized module: its kind and the shape (out, in) of its weight as the format stores it."""

    kind: Kind
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `hrmctl_quantization.json` says."""

    scheme: Scheme
    group_size: int
    symmetric: bool
    tensors: dict[str, Entry]
    tied: dict[str, str] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        return 4 if self.scheme == "int4" else 8

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a quantized folder. Raises StageError where it is malformed or of a newer version."""
    path = folder / QUANTIZED_MARK
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT or raw["version"] != VERSION:
            raise StageError(f"{path.name}: {raw['format']} version {raw['version']} is not known; update hrmctl")
        tensors = {name: _entry(**entry) for name, entry in raw["tensors"].items()}
        manifest = Manifest(raw["scheme"], raw["group_size"], raw["symmetric"], tensors, dict(raw["tied"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(f"{path.name} is malformed ({error!r}); quantize the model again") from error
    if manifest.scheme not in ("int4", "int8") or manifest.group_size < 1:
        raise StageError(f"{path.name}: scheme {manifest.scheme} in groups of {manifest.group_size} is not known")
    return manifest


def _entry(kind: Kind, shape: list[int]) -> Entry:
    rows, columns = shape
    if kind not in _KINDS.values() or rows < 1 or columns < 1:
        raise ValueError(f"{kind} of shape {shape}")
    return Entry(kind, (rows, columns))


def kind_of(module: nn.Module) -> Kind | None:
    """What kind of quantizable module this is, None if it is not one."""
    return _KINDS.get(type(module))


def matrix_of(module: nn.Module) -> torch.Tensor:
    """The weight of a quantizable module as (out, in): GPT-2's Conv1D is transposed."""
    weight: torch.Tensor = module.weight.detach()  # type: ignore[operator]
    return weight.t() if isinstance(module, Conv1D) else weight


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (…, columns) of `bits` bits as bytes; an odd last column of int4 is padded."""
    if bits == 8:
        return codes.to(torch.uint8).contiguous()
    if codes.shape[-1] % 2:
        codes = nn.functional.pad(codes, (0, 1))
    low, high = codes.to(torch.uint8).chunk(2, dim=-1)
    return (low | high << 4).contiguous()


def unpack(packed: torch.Tensor, bits: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """The inverse of `pack`: a new tensor of the codes (…, columns) in `dtype`."""
    if bits == 8:
        return packed.to(dtype, copy=True)
    half = packed.shape[-1]
    codes = torch.empty(*packed.shape[:-1], 2 * half, dtype=dtype, device=packed.device)
    codes[..., :half] = packed & 15
    codes[..., half:] = packed >> 4
    return codes


class QuantizedWeight(nn.Module):
    """The codes, scales and zeros of one weight of shape (out, in), possibly shared by two modules."""

    qweight: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor | None

    def __init__(
        self, bits: int, group_size: int, shape: tuple[int, int],
        qweight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None,
    ):  # fmt: skip
        super().__init__()
        self.bits, self.group_size, self.shape = bits, group_size, shape
        self.register_buffer("qweight", qweight)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)

    def dense(self, dtype: torch.dtype, rows: torch.Tensor | slice = _ALL) -> torch.Tensor:
        """The weight (out, in) in `dtype`, or the given rows of it: (count, in), of a tensor (*rows.shape, in)."""
        groups = self.scale.shape[-1]
        scale = self.scale[rows].to(dtype)[..., None]
        codes = unpack(self.qweight[rows], self.bits, dtype)[..., : groups * self.group_size]
        # What `unpack` returns is a new tensor, so the passes over it may work in place.
        grouped = codes.reshape(*codes.shape[:-1], groups, self.group_size)
        if self.zero is None:
            grouped.sub_(2 ** (self.bits - 1)).mul_(scale)
        else:
            grouped.mul_(scale).add_(self.zero[rows].to(dtype)[..., None])
        return grouped.flatten(-2)[..., : self.shape[1]]


class QuantizedLinear(nn.Module):
    """`x @ weight.T + bias`, the weight made dense a block of rows at a time, for the length of the call."""

    bias: nn.Parameter | None

    def __init__(self, quantized: QuantizedWeight, bias: nn.Parameter | None, dtype: torch.dtype):
        super().__init__()
        self.quantized = quantized
        self.register_parameter("bias", bias)
        self.out_features, self.in_features = quantized.shape
        self.dtype = dtype

    @property
    def weight(self) -> torch.Tensor:
        """The dense weight (out, in)."""
        return self.quantized.dense(self.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step = max(1, _BLOCK_WEIGHTS.get(x.device.type, _LARGE_BLOCK) // self.in_features)
        blocks = [self._rows(x, slice(start, start + step)) for start in range(0, self.out_features, step)]
        return torch.cat(blocks, dim=-1) if len(blocks) > 1 else blocks[0]

    def _rows(self, x: torch.Tensor, rows: slice) -> torch.Tensor:
        bias = None if self.bias is None else self.bias[rows]
        return nn.functional.linear(x, self.quantized.dense(x.dtype, rows), bias)


class QuantizedEmbedding(nn.Module):
    """Rows of the weight by index; only those rows are made dense."""

    def __init__(self, quantized: QuantizedWeight, dtype: torch.dtype):
        super().__init__()
        self.quantized = quantized
        self.num_embeddings, self.embedding_dim = quantized.shape
        self.dtype = dtype

    @property
    def weight(self) -> torch.Tensor:
        """The dense weight (tokens, width)."""
        return self.quantized.dense(self.dtype)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.quantized.dense(self.dtype, ids)


def load(folder: Path, device: str = "auto", dtype: str = "auto", dequantize: Dequantize = "auto") -> LoadedModel:
    """Rebuild a quantized model with its tokenizer.

    `each_call` keeps the codes in memory and makes each weight dense for the length of a call; `once`
    makes all weights dense now, which costs the memory of the unquantized model and runs at its speed;
    `auto` is `once` for models whose dense weights take less than `DENSE_BELOW` bytes.
    `dtype` is that of activations and of all other tensors. Raises StageError where the folder is not whole.
    """
    folder = Path(folder)
    if dtype not in _DTYPES:
        raise InputError(f"dtype {dtype!r} is not one of {', '.join(_DTYPES)}")
    manifest = read_manifest(folder)
    where = resolve_device(device)
    tokenizer = load_tokenizer(folder)
    model = _skeleton(folder, dtype)
    tensors = _read_tensors(folder)
    if dequantize == "auto":
        size = sum(math.prod(entry.shape) for entry in manifest.tensors.values()) * model.dtype.itemsize
        dequantize = "once" if size < DENSE_BELOW else "each_call"
    parameters = _replace(model, manifest, tensors, dequantize)
    parameters += _fill(model, tensors, {*manifest.tensors, *manifest.tied})
    model.to(where)  # type: ignore[arg-type]
    return LoadedModel(model.eval(), tokenizer, where, parameters)  # type: ignore[no-untyped-call]


def _skeleton(folder: Path, dtype: str) -> PreTrainedModel:
    """The model of the configuration with weights that are allocated and never touched, so cost no memory yet."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        vars(config).pop("quantization_config", None)
        kind = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
        with no_init_weights():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=kind)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise StageError(f"{folder}: no model can be built from config.json ({error}); quantize it again") from error
    model.tie_weights()
    return model


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / QUANTIZED_WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise StageError(f"{folder}: {QUANTIZED_WEIGHTS} cannot be read ({error}); quantize the model again") from error


def _replace(model: PreTrainedModel, manifest: Manifest, tensors: dict[str, torch.Tensor], how: Dequantize) -> int:
    """Put quantized modules, or their dense weights, into the model, taking their tensors; number of weights."""
    count = 0
    for name, entry in manifest.tensors.items():
        weight = _take_weight(name, entry, manifest, tensors)
        owners = [name, *(tied for tied, owner in manifest.tied.items() if owner == name)]
        for owner in owners:
            _install(model, owner, weight, how)
        count += entry.shape[0] * entry.shape[1]
    return count


def _take_weight(name: str, entry: Entry, manifest: Manifest, tensors: dict[str, torch.Tensor]) -> QuantizedWeight:
    parts = ("qweight", "scale") if manifest.symmetric else ("qweight", "scale", "zero")
    try:
        found = {part: tensors.pop(f"{name}.{part}") for part in parts}
    except KeyError as error:
        raise StageError(f"the weights lack {error.args[0]}; quantize the model again") from error
    groups = -(-entry.shape[1] // manifest.group_size)
    columns = groups * manifest.group_size
    width = columns if manifest.bits == 8 else (columns + 1) // 2
    wanted = {"qweight": (entry.shape[0], width), "scale": (entry.shape[0], groups), "zero": (entry.shape[0], groups)}
    for part, tensor in found.items():
        if tuple(tensor.shape) != wanted[part]:
            raise StageError(f"{name}.{part} has shape {list(tensor.shape)}, not {list(wanted[part])}; quantize again")
    return QuantizedWeight(
        manifest.bits, manifest.group_size, entry.shape, found["qweight"], found["scale"], found.get("zero")
    )


def _install(model: PreTrainedModel, name: str, weight: QuantizedWeight, how: Dequantize) -> None:
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise StageError(f"the model of config.json has no module {name}; quantize the model again") from error
    kind = kind_of(module)
    if kind is None or tuple(matrix_of(module).shape) != weight.shape:
        raise StageError(f"{name} of config.json is not the module that was quantized; quantize the model again")
    dtype = matrix_of(module).dtype
    if how == "once":
        with torch.no_grad():
            matrix_of(module).copy_(weight.dense(dtype))
        return
    bias = getattr(module, "bias", None)
    new = QuantizedEmbedding(weight, dtype) if kind == "embedding" else QuantizedLinear(weight, bias, dtype)
    model.set_submodule(name, new)


def _fill(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], quantized: set[str]) -> int:
    """Copy all remaining tensors into the model, each of which must be given; number of parameters copied."""
    places = {n: t for n, t in model.state_dict(keep_vars=True).items() if not _is_code(n)}
    done = {id(t) for n, t in places.items() if n.removesuffix(".weight") in quantized}
    parameters = 0
    for name, tensor in tensors.items():
        place = places.get(name)
        if place is None or place.shape != tensor.shape:
            raise StageError(f"the weights hold {name}, for which config.json has no place; quantize again")
        with torch.no_grad():
            place.copy_(tensor)
        done.add(id(place))
        parameters += tensor.numel() if isinstance(place, nn.Parameter) else 0
    lacking = sorted(name for name, place in places.items() if id(place) not in done)
    if lacking:
        others = f"{len(lacking)} such tensors"
        raise StageError(f"the weights lack {lacking[0]} ({others}); quantize the model again")
    return parameters


def _is_code(name: str) -> bool:
    return ".quantized." in name or name.startswith("quantized.")
