"""Loading, building and saving of causal language models as folders in transformers' format."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

import hrmctl_models.hrm_act  # noqa: F401  (makes hrm_act known to the Auto classes)
from hrmctl import ArchitectureSpec, InputError, StageError
from hrmctl.errors import StoreError
from hrmctl.registry import resolve
from hrmctl_models import hrmctl_architectures

# The run draws its own progress bars.
transformers_logging.disable_progress_bar()

QUANTIZED_MARK = "hrmctl_quantization.json"
ADAPTER_MARK = "hrmctl_adapter.json"
_PLAIN_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_DTYPES = {"float32", "bfloat16", "float16"}
# What a configuration holds besides its architecture's settings; the tokenizer decides on vocabulary and token ids.
_NOT_SETTINGS = {"architectures", "model_type", "transformers_version", "dtype", "vocab_size", "auto_map"} | {
    f"{name}_token_id" for name in ("bos", "eos", "pad", "sep", "decoder_start")
}
OFFLINE = {"local_files_only": True, "trust_remote_code": False}


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
    """Number of parameters, each shared tensor once, trained or not; one in NF4 counts like any other."""
    return sum(_elements(parameter) for parameter in model.parameters())


def _elements(parameter: torch.Tensor) -> int:
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else torch.Size(state.shape).numel()


def load(path: Path, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load any transformers causal LM folder, a folder of hrmctl's own quantized format, or one of an adapter.

    Only safetensors are read and no code of the folder is run. `dtype` is `auto` (as stored),
    `float32`, `bfloat16` or `float16`. Raises StageError saying what the folder lacks.
    """
    path = Path(path)
    if (path / QUANTIZED_MARK).is_file():
        return import_module("hrmctl_models.quantized").load(path, device=device, dtype=dtype)
    if (path / ADAPTER_MARK).is_file():
        return import_module("hrmctl_models.adapters").load(path, device=device, dtype=dtype)
    check_folder(path, dtype)
    where = resolve_device(device)
    tokenizer = load_tokenizer(path)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype if dtype == "auto" else getattr(torch, dtype), use_safetensors=True, **OFFLINE
        )
    except Exception as error:
        raise StageError(
            f"{path}: not a loadable causal language model ({_first_line(error)}); "
            "import it again or choose another model"
        ) from error
    model = model.to(where).eval()
    return LoadedModel(model, tokenizer, where, count_parameters(model))


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, without running any code of it. Raises StageError.

    One that names no class of its own is exactly what its tokenizer.json says: for some families, Qwen2 among them,
    transformers would take the family's class instead, which splits words in another way.
    """
    kind = PreTrainedTokenizerFast if _is_plain(path) else AutoTokenizer
    try:
        return kind.from_pretrained(path, **OFFLINE)
    except Exception as error:
        raise StageError(
            f"{path}: the tokenizer cannot be loaded ({_first_line(error)}); a model folder needs tokenizer.json"
        ) from error


def _is_plain(path: Path) -> bool:
    """Whether the tokenizer's configuration names the class that is any tokenizer.json as it stands."""
    try:
        settings = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # what is wrong is for the loader to say
    named = settings.get("tokenizer_class") if isinstance(settings, dict) else None
    return named in _PLAIN_TOKENIZERS and (path / "tokenizer.json").is_file()


def check_folder(path: Path, dtype: str = "auto") -> None:
    """Raise StageError where this is no model folder in transformers' format, InputError at an unknown dtype."""
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
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # A validator's error says on the first line only which validator it was.
    return (lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0])[:300]


def build(
    architecture: str,
    vocab_size: int,
    token_ids: Mapping[str, int | None],
    seed: int,
    overrides: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """A model of a registered architecture with fresh weights in float32 on the CPU.

    `token_ids` maps `bos`, `eos` and `pad` to ids, `overrides` settings of the architecture's configuration
    to other values. The weights depend on `seed` alone, and the caller's random state is left as it was.
    Raises InputError naming the known architectures, or the known settings.
    """
    config = configure(architecture, vocab_size, token_ids, overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if not overrides:
                raise
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise InputError(f"{architecture} cannot be built with {dict(overrides)} ({reason})") from error
    return model.eval()


def configure(
    architecture: str,
    vocab_size: int,
    token_ids: Mapping[str, int | None],
    overrides: Mapping[str, Any] | None = None,
) -> PreTrainedConfig:
    """The configuration of a registered architecture, `overrides` in it. Raises InputError as `build` does."""
    config = _config_function(architecture)(vocab_size, **{f"{name}_token_id": i for name, i in token_ids.items()})
    return _overridden(architecture, config, overrides) if overrides else config


def answers_in_place(config: PreTrainedConfig) -> bool:
    """Whether such a model writes its answer in the place of the question (`hrm_act` with `causal` false)."""
    return config.model_type == "hrm_act" and not config.causal


def changeable(config: PreTrainedConfig) -> dict[str, Any]:
    """What a recipe may change in a configuration, with its values."""
    settings = {name: value for name, value in config.to_dict().items() if name not in _NOT_SETTINGS}
    if "num_layers_per_stack" in settings:
        # hrm_text rewrites the layers of a stack into those of all its passes.
        settings["num_hidden_layers"] = settings.pop("num_layers_per_stack")
    return settings


def _overridden(architecture: str, config: PreTrainedConfig, overrides: Mapping[str, Any]) -> PreTrainedConfig:
    settings = changeable(config)
    overrides = {name: list(value) if isinstance(value, tuple) else value for name, value in overrides.items()}
    for name, value in overrides.items():
        if name not in settings:
            near = [key for key in settings if key.lower() == name.lower()] or get_close_matches(name, settings, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(settings))}"
            raise InputError(f"{architecture} has no setting {name!r}; {remedy}")
        if not _alike(value, settings[name]):
            raise InputError(f"{architecture}: {name} is {settings[name]!r}, so {value!r} cannot stand for it")
        if _whole(value) and _whole(settings[name]) and value < 1 <= settings[name]:
            raise InputError(f"{architecture}: {name} is {value}, but must be 1 or more")
    ids = {name: value for name, value in config.to_dict().items() if name.endswith("_token_id")}
    try:
        return type(config)(vocab_size=config.vocab_size, **ids, **{**settings, **overrides})
    except Exception as error:
        raise InputError(f"{architecture} cannot be built with {dict(overrides)} ({_first_line(error)})") from error


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _alike(value: Any, known: Any) -> bool:
    if known is None or isinstance(known, bool) or isinstance(value, bool):
        return known is None or isinstance(known, bool) == isinstance(value, bool)
    numbers = (int, float)
    return isinstance(value, type(known)) or (isinstance(value, numbers) and isinstance(known, float))


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
