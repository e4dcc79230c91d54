"""Post-conditions of an import: names, shapes and dtypes against the configuration, finite weights, a forward pass.

What a checkpoint holds on disk differs from the model's `state_dict()`: HRM's projections are fused,
tied weights are stored once, some checkpoints leave the base model's prefix away. The expectation is
therefore the meta-device model's state dict run through transformers' own conversion back to disk,
and names it does not know are left to the loader, which must account for every one of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hrmctl_models.loading import load_tokenizer
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging as transformers_logging

from hrmctl import StageError
from hrmctl_import.files import TensorInfo, read_json

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64,
}  # fmt: skip
_SCAN_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True)
class Probe:
    """One forward pass: tokens that went in, logits that came out, how many of them are finite.

    `parameters` is counted from the weights, tied ones once; `vocabulary` is the number of embeddings; `loaded` are the
    names on disk of all tensors that the loaded model is made of.
    """

    tokens: int
    logits: int
    finite: int
    parameters: int
    vocabulary: int
    loaded: frozenset[str]


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a plain causal language model. Raises StageError on any other."""
    if not (folder / "config.json").is_file():
        raise StageError("config.json is missing; a model is a folder in transformers' format")
    settings = read_json(folder / "config.json")
    if "quantization_config" in settings:
        raise StageError("config.json says that the model is already quantized; import the unquantized model")
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, **_LOCAL)
    except Exception as error:
        reason = f"config.json does not describe a model known here ({_brief(error)}); no remote code is run"
        raise StageError(reason) from error
    return config


def check_layout(config: PreTrainedConfig, tensors: Mapping[str, TensorInfo], mixed_dtypes: bool) -> set[str]:
    """Compare shapes and dtypes of all tensors with the model built from the configuration on the meta device.

    Returns the names compared: those that the layout does not know are the loader's to account for.
    Raises StageError naming the first tensor that differs.
    """
    expected, prefix = expected_layout(config)
    compared = set()
    for name, info in tensors.items():
        target = next((expected[n] for n in _spellings(name, prefix) if n in expected), None)
        if target is not None and tuple(target.shape) != info.shape:
            raise StageError(
                f"{name} has shape {list(info.shape)}, config.json asks for {list(target.shape)}; "
                "weights and configuration do not belong together"
            )
        _check_dtype(name, _DTYPES[info.dtype], target, mixed_dtypes or config.dtype is None)
        if target is not None:
            compared.add(name)
    if not mixed_dtypes and config.dtype is None:
        _check_uniform(tensors)
    return compared


def expected_layout(config: PreTrainedConfig) -> tuple[dict[str, torch.Tensor], str]:
    """Meta tensors by their name on disk for a configuration, and the base model's prefix. Raises StageError."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        return dict(revert_weight_conversion(model, model.state_dict())), model.base_model_prefix
    except Exception as error:
        reason = f"no causal language model can be built from config.json ({_brief(error)}); correct it"
        raise StageError(reason) from error


def _spellings(name: str, prefix: str) -> tuple[str, str, str]:
    return name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")


def _check_dtype(name: str, found: torch.dtype, target: torch.Tensor | None, mixed: bool) -> None:
    if target is None or found == target.dtype:
        return
    if mixed and found.is_floating_point and target.dtype.is_floating_point:
        return
    remedy = "pass mixed_dtypes if that is meant" if found.is_floating_point else "fetch the model again"
    raise StageError(f"{name} is {_short(found)}, config.json asks for {_short(target.dtype)}; {remedy}")


def _check_uniform(tensors: Mapping[str, TensorInfo]) -> None:
    found = sorted({info.dtype for info in tensors.values() if _DTYPES[info.dtype].is_floating_point})
    if len(found) > 1:
        mix = " and ".join(found)
        raise StageError(f"the weights mix {mix} and config.json names no dtype; pass mixed_dtypes if that is meant")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def nonfinite_values(folder: Path, tensors: Mapping[str, TensorInfo], advance: Callable[[int], None]) -> dict[str, int]:
    """Number of NaN and infinite values of each tensor that has any; `advance` hears of the bytes read."""
    by_file: dict[str, list[str]] = {}
    for name, info in tensors.items():
        by_file.setdefault(info.file, []).append(name)
    found: dict[str, int] = {}
    for file, names in by_file.items():
        with safe_open(folder / file, framework="pt") as weights:
            for name in names:
                found[name] = sum(_count_nonfinite(rows) for rows in _rows(weights, name, tensors[name].shape))
                advance(tensors[name].end - tensors[name].start)
    return {name: count for name, count in found.items() if count}


def _rows(weights: Any, name: str, shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """The tensor a few rows at a time, so that a large embedding costs little memory."""
    if not shape:
        yield weights.get_tensor(name)
        return
    view = weights.get_slice(name)
    step = max(1, _SCAN_ELEMENTS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield view[start : start + step]


def _count_nonfinite(values: torch.Tensor) -> int:
    if not values.is_floating_point():
        return 0
    # 8-bit floats have no isfinite of their own.
    wide = values.float() if values.element_size() == 1 else values
    return int((~torch.isfinite(wide)).sum())


def check_forward(folder: Path, text: str, ignore_extra: bool) -> Probe:
    """Load tokenizer and model as any later stage will, and run `text` through the model once.

    Raises StageError: tokenizer or model do not load, tensors are missing, unexpected or of another
    shape, a token lies outside the vocabulary, logits are not finite.
    """
    with _quiet():
        try:
            tokenizer = load_tokenizer(folder)
        except StageError as error:
            raise StageError(str(error).removeprefix(f"{folder}: ")) from error
        model = _load(folder, ignore_extra)
    ids = tokenizer(text, return_tensors="pt").input_ids
    limit = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    if ids.numel() == 0 or int(ids.max()) >= limit:
        raise StageError(f"the tokenizer does not fit the model's {limit} embeddings; fetch config and tokenizer again")
    with torch.inference_mode():
        logits = model(input_ids=ids.to(model.device)).logits
    finite = int(torch.isfinite(logits).sum())
    if finite < logits.numel():
        raise StageError(f"a forward pass gives {logits.numel() - finite} NaN or infinite logits; import another model")
    loaded = frozenset(revert_weight_conversion(model, model.state_dict()))
    parameters = sum(p.numel() for p in model.parameters())
    return Probe(ids.numel(), logits.numel(), finite, parameters, limit, loaded)


def _load(folder: Path, ignore_extra: bool) -> PreTrainedModel:
    model: PreTrainedModel
    info: Mapping[str, Any]
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto",
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **_LOCAL,
        )  # type: ignore[misc]
    except Exception as error:
        raise StageError(f"the model cannot be loaded ({_brief(error)}); fetch it again") from error
    together = "weights and configuration do not belong together"
    _refuse(info["missing_keys"], "is missing from the weights", together)
    _refuse([entry[0] for entry in info["mismatched_keys"]], "has another shape than config.json asks for", together)
    if not ignore_extra:
        _refuse(info["unexpected_keys"], "belongs to no part of the model", "pass ignore_extra if it is of no use")
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _refuse(names: Iterable[str], fault: str, remedy: str) -> None:
    found = sorted(names)
    if found:
        raise StageError(f"{found[0]} {fault} ({len(found)} such tensors); {remedy}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' tables and bars off the terminal: what they say becomes the reason of a StageError."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
