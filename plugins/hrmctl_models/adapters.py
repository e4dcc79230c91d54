"""Low-rank adapters over a frozen base: their artifact, NF4 bases, and how the two become one model again.

An adapter folder holds `adapter_model.safetensors` and `adapter_config.json` as peft writes them, the base as a
whole model folder `base/`, and `hrmctl_adapter.json`:
`{"format", "version", "base": {"digest", "label"}, "dtype", "nf4": [module, …]}`. `dtype` is that of the base while
the adapter was trained; `nf4` names the modules whose weights were rounded to NF4 for it (none for plain LoRA).
Only what this page names is read from `adapter_config.json`: rank, scale, target modules and the two variants.

LoRA: Hu et al. 2021 (arXiv 2106.09685); NF4 with double quantization: Dettmers et al. 2023 (arXiv 2305.14314).
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hrmctl import InputError, StageError
from hrmctl.errors import StoreError
from hrmctl.jsonio import write_atomic
from hrmctl_models import loading
from hrmctl_models.loading import ADAPTER_MARK, QUANTIZED_MARK, LoadedModel, put_folder

FORMAT = "hrmctl-adapter"
VERSION = 1
BASE = "base"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# What is read back of peft's configuration: an adapter from elsewhere could ask for anything.
_READ = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora")
_NAME = "default"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `hrmctl_adapter.json` says."""

    digest: str
    label: str
    dtype: str
    nf4: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        base = {"digest": self.digest, "label": self.label}
        return {"format": FORMAT, "version": VERSION, "base": base, "dtype": self.dtype, "nf4": list(self.nf4)}


def library(name: str) -> Any:
    """The module `peft` or `bitsandbytes`. Raises InputError naming the extra that brings it."""
    # bitsandbytes fetches a faster kernel from a model hub where the package `kernels` is: code that nobody checked.
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"adapters need {name}, which is not installed; pip install 'hrmctl[peft]'") from error


def base_folder(folder: Path) -> Path:
    """The plain model folder within: the base of an adapter folder, any other folder itself."""
    return folder / BASE if (folder / ADAPTER_MARK).is_file() else folder


def load(folder: Path, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """The base with the adapter merged into its weights: a plain model, as fast as the base.

    The weights of a QLoRA base are rounded to NF4 and back first, because that is what the adapter was
    trained on. `auto` is the dtype of the training. Raises StageError where the folder is not whole and
    InputError where peft or bitsandbytes is not installed.
    """
    folder = Path(folder)
    _check_links(folder)
    manifest, config = read_manifest(folder), _read_config(folder)
    if not (folder / BASE).is_dir():
        raise StageError(f"{folder}: an adapter without its base {manifest.label}; choose the stage's output model")
    if any((folder / BASE / mark).exists() for mark in (ADAPTER_MARK, QUANTIZED_MARK)):
        raise StageError(f"{folder}: {BASE}/ is not a plain model folder; train the adapter again")
    loaded = loading.load(folder / BASE, device=device, dtype=manifest.dtype)
    if manifest.nf4:
        round_to_nf4(loaded.model, manifest.nf4)
    adapted = attach(loaded.model, config)
    _fill(adapted, folder)
    merged: PreTrainedModel = adapted.merge_and_unload()
    if dtype != "auto":
        merged = merged.to(getattr(torch, dtype))
    merged.eval()  # type: ignore[no-untyped-call]
    return LoadedModel(merged, loaded.tokenizer, loaded.device, loaded.parameters)


def attach(model: PreTrainedModel, settings: Mapping[str, Any]) -> Any:
    """A peft model around `model`, whose layers now carry a fresh adapter; `settings` are those of LoraConfig."""
    peft = library("peft")
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    config = peft.LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=transposed, **settings)
    with warnings.catch_warnings():
        # Said of layers that are not transposed, for which peft then does the right thing.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        try:
            return peft.get_peft_model(model, config, adapter_name=_NAME)
        except ValueError as error:
            raise StageError(f"no adapter can be put into this model ({error})") from error


def write_adapter(adapted: Any, manifest: Manifest, folder: Path, base: Path | None) -> None:
    """Write an adapter folder whole or not at all; with `base` it holds that folder too, hard-linked if possible.

    Raises StoreError where the disk refuses.
    """
    peft = library("peft")
    config = adapted.peft_config[_NAME].to_dict() | {"base_model_name_or_path": BASE, "inference_mode": True}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    # Without the last argument peft asks a model hub for the size of the vocabulary.
    tensors = peft.get_peft_model_state_dict(adapted, adapter_name=_NAME, save_embedding_layers=False)
    draft = None
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, draft / WEIGHTS)
        write_atomic(draft / CONFIG, json.dumps(plain, indent=2, sort_keys=True))
        write_atomic(draft / ADAPTER_MARK, json.dumps(manifest.to_json(), indent=1))
        if base is not None:
            shutil.copytree(base, draft / BASE, copy_function=_link)
        put_folder(draft, folder)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write {folder} ({error}); free space or check its rights") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an adapter folder. Raises StageError where it is malformed or of a newer version."""
    path = folder / ADAPTER_MARK
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT or raw["version"] != VERSION:
            raise StageError(f"{path.name}: {raw['format']} version {raw['version']} is not known; update hrmctl")
        names = tuple(str(name) for name in raw["nf4"])
        return Manifest(str(raw["base"]["digest"]), str(raw["base"]["label"]), str(raw["dtype"]), names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{path.name} is malformed ({error!r}); train the adapter again") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["peft_type"] != "LORA":
            raise StageError(f"{path.name}: {raw['peft_type']} is not LORA, the one kind of adapter that is known")
        settings = {name: raw[name] for name in _READ}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{path.name} is malformed ({error!r}); train the adapter again") from error
    for name, value in settings.items():
        fits, wanted = _CHECKS[name]
        if not fits(value):
            raise StageError(f"{path.name}: {name} is {value!r}, not {wanted}; train the adapter again")
    return settings


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_RANK


def _is_scale(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


_MAX_RANK = 65536
_CHECKS = {
    "r": (_is_rank, f"a whole number from 1 to {_MAX_RANK}"),
    "lora_alpha": (_is_scale, "a finite number above 0"),
    # peft takes text for a regular expression, and one from elsewhere can run for ever.
    "target_modules": (_are_names, "a list of names"),
    "use_rslora": (_is_bool, "true or false"),
    "use_dora": (_is_bool, "true or false"),
}


def _check_links(folder: Path) -> None:
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise StageError(f"{folder}: {path.relative_to(folder)} leads out of the folder; copy what it links to")


def _fill(adapted: Any, folder: Path) -> None:
    peft = library("peft")
    try:
        tensors = load_file(folder / WEIGHTS)
        wanted = peft.get_peft_model_state_dict(adapted, adapter_name=_NAME, save_embedding_layers=False)
        if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in tensors.items()}:
            raise StageError(f"{folder}: {WEIGHTS} does not fit {CONFIG} and the base; train the adapter again")
        peft.set_peft_model_state_dict(adapted, tensors, adapter_name=_NAME)
    except (OSError, SafetensorError) as error:
        raise StageError(f"{folder}: {WEIGHTS} cannot be read ({error}); train the adapter again") from error


# --- NF4 ----------------------------------------------------------------------------------------


def load_nf4(folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The model with its hidden matrices in NF4 with double quantization, the rest in `dtype`.

    Weights go from the file into NF4 one at a time: at no moment is the whole model dense. Raises
    InputError where bitsandbytes lacks the device and StageError where the model cannot be loaded.
    """
    check_nf4(device)
    loading.check_folder(folder)
    settings = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, quantization_config=settings, device_map={"": device}, **loading.OFFLINE
        )
    except Exception as error:
        raise StageError(f"{folder}: the model cannot be loaded in NF4 ({error}); use method lora") from error
    for module in _nf4_modules(model).values():
        # Where the processor has bf16 instructions, a forward pass without gradients would repack the weights
        # with scales rounded to bf16: the frozen base would change at the first validation.
        module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    if not nf4_names(model):
        raise StageError("the model has no matrix that could be stored in NF4; use method lora")
    return model


def check_nf4(device: torch.device) -> None:
    """Raise InputError where bitsandbytes is missing or has no NF4 for the device."""
    bitsandbytes = library("bitsandbytes")
    try:
        library("accelerate")
        probe = torch.zeros(64, 64, device=device)
        bitsandbytes.functional.quantize_4bit(probe, quant_type="nf4", compress_statistics=True)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise InputError(
            f"bitsandbytes {bitsandbytes.__version__} has no NF4 for the device {device.type!r} "
            f"({type(error).__name__}); use method lora, or device cpu"
        ) from error


def nf4_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the modules whose weights are in NF4."""
    return tuple(sorted(_nf4_modules(model)))


def _nf4_modules(model: nn.Module) -> dict[str, nn.Module]:
    kind = library("bitsandbytes").nn.Linear4bit
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


@torch.no_grad()
def round_to_nf4(model: nn.Module, names: Iterable[str]) -> None:
    """Round the weights of these modules to what NF4 with double quantization keeps of them, in place.

    The values are those that a base loaded by `load_nf4` computes with. Raises StageError where the model
    has no such module.
    """
    bitsandbytes = library("bitsandbytes")
    for name in names:
        try:
            module = model.get_submodule(name)
        except AttributeError as error:
            raise StageError(f"the base has no module {name}; train the adapter again") from error
        if not isinstance(module, (nn.Linear, Conv1D)):
            raise StageError(f"the base's module {name!r} is no linear layer; train the adapter again")
        weight = module.weight.data
        matrix = weight.t() if isinstance(module, Conv1D) else weight
        packed = bitsandbytes.nn.Params4bit(
            matrix.contiguous(), requires_grad=False, quant_type="nf4", compress_statistics=True
        ).to(weight.device)
        matrix.copy_(bitsandbytes.functional.dequantize_4bit(packed.data, packed.quant_state))
