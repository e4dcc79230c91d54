"""What the measured process does: load one model, and decode with it against the clock."""

from __future__ import annotations

import gc
import inspect
import time
from pathlib import Path
from typing import Any

import torch
from hrmctl_models import LoadedModel, load
from hrmctl_models.quantized import QuantizedLinear

from hrmctl import HrmctlError


class Bench:
    """One loaded model and the operations on it."""

    def __init__(self) -> None:
        self._loaded: LoadedModel | None = None

    def ready(self) -> dict[str, Any]:
        """Answer once everything is imported."""
        return {}

    def load(self, path: str, device: str, dtype: str, threads: int) -> dict[str, Any]:
        """Load a model folder; what it turned out to be."""
        torch.set_num_threads(threads)
        loaded = load(Path(path), device=device, dtype=dtype)
        if loaded.device.type == "cpu":
            _make_private(loaded.model)
        self._loaded = loaded
        config = loaded.model.config.get_text_config(decoder=True)
        packed = any(isinstance(module, QuantizedLinear) for module in loaded.model.modules())
        return {
            "parameters": loaded.parameters,
            "device": str(loaded.device),
            "dtype": str(loaded.model.dtype).removeprefix("torch."),
            "weights": "packed" if packed else "dense",
            "positions": getattr(config, "max_position_embeddings", None),
        }

    def decode(self, prompt_tokens: int, new_tokens: int, batch: int, seed: int) -> dict[str, Any]:
        """Decode greedily with the key-value cache; seconds to the first token and for the others, and the tokens."""
        assert self._loaded is not None
        model, device = self._loaded.model, self._loaded.device
        vocabulary = model.config.get_text_config(decoder=True).vocab_size
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(vocabulary, (batch, prompt_tokens), generator=generator).to(device)
        gc.collect()
        _reset_device_peak(device)
        first, others, tokens = _timed(model, ids, new_tokens, device)
        return {"first": first, "others": others, "tokens": tokens, "device_peak": _device_peak(device)}


def _make_private(model: torch.nn.Module) -> None:
    """Copy weights out of the mapped file, whose pages are not anonymous memory and so would count for nothing."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


@torch.inference_mode()
def _timed(
    model: torch.nn.Module, ids: torch.Tensor, new_tokens: int, device: torch.device
) -> tuple[float, float, list[list[int]]]:
    # What a decoder needs of the prompt's logits is the last row.
    extra = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    _wait(device)
    start = time.perf_counter()
    output = model(input_ids=ids, use_cache=True, **extra)
    token = output.logits[:, -1].argmax(-1, keepdim=True)
    tokens = [token[:, 0].tolist()]
    reached = time.perf_counter()
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        raise HrmctlError(f"{type(model).__name__} keeps no key-value cache; choose a model that does")
    for _ in range(new_tokens - 1):
        output = model(input_ids=token, past_key_values=cache, use_cache=True)
        token = output.logits[:, -1].argmax(-1, keepdim=True)
        # Reading the token is part of decoding: a decoder has to look for the end of the text.
        tokens.append(token[:, 0].tolist())
    _wait(device)
    return reached - start, time.perf_counter() - reached, [list(row) for row in zip(*tokens, strict=True)]


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _reset_device_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _device_peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
