"""Loading, building and saving of causal language models as folders in transformers' format."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from hrmctl import ArchitectureSpec, InputError, StageError
from hrmctl.errors import StoreError
from hrmctl.registry import resolve
from hrmctl_models import hrmctl_architectures

# The run draws its own progress bars.
transformers_logging.disable_progress_bar()

QUANTIZED_MARK = "hrmctl_quantization.json"
_DTYPES = {"float32", "bfloat16", "float16"}
_OFFLINE = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model in evaluation mode with its tokenizer.

    `parameters` is counted from the weights, tied ones once.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    parameters: int


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU. Raises StageError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise StageError(f"device {name!r} cannot be used ({_first_line(error)}); choose cpu or auto") from error
    return device


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters, each shared tensor once, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def load(path: Path, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load any transformers causal LM folder or a folder of hrmctl's own quantized format.

    Only safetensors are read and no code of the folder is run. `dtype` is `auto` (as stored),
    `float32`, `bfloat16` or `float16`. Raises StageError saying what the folder lacks.
    """
    path = Path(path)
    if (path / QUANTIZED_MARK).is_file():
        return import_module("hrmctl_models.quantized").load(path, device=device, dtype=dtype)
    _check(path, dtype)
    where = resolve_device(device)
    tokenizer = load_tokenizer(path)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype if dtype == "auto" else getattr(torch, dtype), use_safetensors=True, **_OFFLINE
        )
    except Exception as error:
        raise StageError(
            f"{path}: not a loadable causal language model ({_first_line(error)}); "
            "import it again or choose another model"
        ) from error
    model = model.to(where).eval()
    return LoadedModel(model, tokenizer, where, count_parameters(model))


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, without running any code of it. Raises StageError."""
    try:
        return AutoTokenizer.from_pretrained(path, **_OFFLINE)
    except Exception as error:
        raise StageError(
            f"{path}: the tokenizer cannot be loaded ({_first_line(error)}); a model folder needs tokenizer.json"
        ) from error


def _check(path: Path, dtype: str) -> None:
    if dtype != "auto" and dtype not in _DTYPES:
        raise InputError(f"dtype {dtype!r} is not one of auto, {', '.join(sorted(_DTYPES))}")
    config = path / "config.json"
    if not config.is_file():
        raise StageError(f"{path}: no config.json; a model is a folder in transformers' format")
    if not any(path.glob("*.safetensors")):
        raise StageError(f"{path}: no .safetensors file; convert the weights first, pickles are never loaded")
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"{config}: not JSON ({error}); import the model again") from error
    if not isinstance(settings, dict):
        raise StageError(f"{config}: not a JSON object; import the model again")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def build(architecture: str, vocab_size: int, token_ids: Mapping[str, int], seed: int) -> PreTrainedModel:
    """A model of a registered architecture with fresh weights in float32 on the CPU.

    `token_ids` maps `bos`, `eos` and `pad` to ids. The weights depend on `seed` alone, and the
    caller's random state is left as it was. Raises InputError naming the known architectures.
    """
    config = _config_function(architecture)(vocab_size, **{f"{name}_token_id": i for name, i in token_ids.items()})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


def _config_function(architecture: str) -> Callable[..., PreTrainedConfig]:
    spec = {spec.name: spec for spec in hrmctl_architectures()}.get(architecture) or _foreign(architecture)
    function: Callable[..., PreTrainedConfig] = resolve(spec.target)
    return function


def _foreign(architecture: str) -> ArchitectureSpec:
    from hrmctl.plugins import catalog

    known = catalog().architectures
    if architecture not in known:
        raise InputError(f"no architecture named {architecture!r}; known are {', '.join(sorted(known))}")
    return known[architecture]


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model folder (safetensors) whole or not at all, replacing one that is there.

    Raises StoreError where the disk refuses.
    """
    folder = Path(folder)
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        model.save_pretrained(draft, safe_serialization=True)
        tokenizer.save_pretrained(draft)
        put_folder(draft, folder)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write {folder} ({_first_line(error)}); free space or check its rights") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def put_folder(draft: Path, folder: Path) -> None:
    """Make a finished draft folder durable and give it its name; `folder` is whole at every moment it exists."""
    draft.chmod(0o755)
    for file in sorted(draft.rglob("*")):
        _sync(file)
    _sync(draft)
    if folder.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        os.replace(folder, aside / "old")
        os.replace(draft, folder)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.replace(draft, folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
