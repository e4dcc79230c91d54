"""LoRA and QLoRA: a frozen base with an adapter that the usual loop trains, and what is handed over of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hrmctl_models import adapters
from hrmctl_models.loading import ADAPTER_MARK, QUANTIZED_MARK, count_parameters, load, load_tokenizer, save
from hrmctl_training.fit import measured_value
from hrmctl_training.memory import PeakMemory
from hrmctl_training.order import derived_seed
from hrmctl_training.switches import set_dropout
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from hrmctl import Artifact, Context, InputError, Observation, Output
from hrmctl_finetune.params import FinetuneParams

ALL = "all-linear"
# What a memory measurement depends on besides what every training reports.
_SETTING = ("method", "rank", "base_dtype", "gradient_checkpointing", "low_memory", "batch", "accumulation")
_MEMORY = ("peak_memory", "peak_rss", "peak_device_memory")
_COMPARED = 8


@dataclass
class Adapted:
    """A base whose layers carry an adapter in place; `wrapped` is peft's view of the same model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    wrapped: Any
    base: Path
    manifest: adapters.Manifest

    @property
    def trainable(self) -> int:
        """The number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def adapt(params: FinetuneParams, parent: Artifact, device: torch.device, ctx: Context) -> Adapted:
    """Load the base frozen, on the device and in `base_dtype` (QLoRA: straight into NF4), and put an adapter in.

    The adapter starts from the stage's seed alone and changes nothing at first. Raises InputError where the
    extra is missing, the base does not suit, or a target module does not exist.
    """
    adapters.library("peft")
    base = _plain_base(parent, ctx)
    dtype: torch.dtype = getattr(torch, params.base_dtype)
    if params.method == "qlora":
        model = adapters.load_nf4(base, dtype, device)
    else:
        model = load(base, device="cpu", dtype=params.base_dtype).model
    _own_memory(model)
    if params.dropout is not None:
        # Before the adapter, whose own dropout is another parameter.
        set_dropout(model, params.dropout)
    settings = {
        "r": params.rank,
        "lora_alpha": 2 * params.rank if params.alpha is None else params.alpha,
        "target_modules": target_names(model, params.target_modules),
        "lora_dropout": params.lora_dropout,
        "use_rslora": params.rslora,
        "use_dora": params.dora,
    }
    nf4 = adapters.nf4_names(model) if params.method == "qlora" else ()
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(ctx.seed, "adapter"))
        wrapped = adapters.attach(model, settings)
    manifest = adapters.Manifest(parent.digest, parent.label, params.base_dtype, nf4)
    adapted = Adapted(model.to(device), load_tokenizer(base), wrapped, base, manifest)  # type: ignore[arg-type]
    ctx.log.info("%d trained parameters over %d modules", adapted.trainable, len(settings["target_modules"]))  # type: ignore[arg-type]
    return adapted


def _plain_base(parent: Artifact, ctx: Context) -> Path:
    """The folder to load; of an adapter artifact its merged model, upon which the new adapter is trained."""
    if (parent.path / QUANTIZED_MARK).is_file():
        raise InputError(f"{parent.label} is quantized already; give the model it was made from")
    if not (parent.path / ADAPTER_MARK).is_file():
        return parent.path
    folder = ctx.scratch / "base"
    if not folder.is_dir():
        merged = load(parent.path, device="cpu")
        save(merged.model, merged.tokenizer, folder)
    return folder


def _own_memory(model: nn.Module) -> None:
    """Copy the weights off the mapped file: a frozen weight is never written, and would never be counted as memory."""
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and not hasattr(parameter, "quant_state"):
            parameter.data = parameter.data.clone()


def target_names(model: PreTrainedModel, wanted: Sequence[str]) -> list[str]:
    """The names of target modules, each the whole or the end of some matrix's path in the model, sorted.

    `all-linear` is every one. Raises InputError naming the nearest names where one fits nothing.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    paths = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head]
    ends = sorted({path.rsplit(".", 1)[-1] for path in paths})
    if not ends:
        raise InputError(f"{model.config.model_type} has no linear layer that could get an adapter; use method full")
    for name in wanted:
        if name != ALL and not any(path == name or path.endswith(f".{name}") for path in paths):
            near = difflib.get_close_matches(name, [*ends, *paths, ALL], n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(ends)}"
            raise InputError(f"target_modules: no linear layer is named {name!r}; {hint}")
    return ends if ALL in wanted else sorted(set(wanted))


# --- handing over -------------------------------------------------------------------------------


def hand_over(
    adapted: Adapted, params: FinetuneParams, label: str, rows: Sequence[Sequence[int]], ctx: Context
) -> tuple[dict[str, Output], list[Observation]]:
    """Write the outputs `model` and `adapter` of a finished training, and measure what they are.

    With `merge` the model is one plain folder, and the difference that merging made to the logits over `rows`
    (token ids) is measured; else it is an adapter folder with its base. Afterwards `adapted.model` is the base
    (merged in place, for LoRA with `merge`).
    """
    trainable = adapted.trainable
    label = f"{label}/{params.method}"
    alone, folder = ctx.scratch / "adapter", ctx.scratch / "model"
    adapters.write_adapter(adapted.wrapped, adapted.manifest, alone, None)
    outputs = {"model": Output(folder, label), "adapter": Output(alone, f"{label}/adapter")}
    about = {"model": outputs["model"]}
    measured: dict[str, dict[str, Any]] = {}
    if params.merge:
        with PeakMemory() as memory:
            measured["merge_difference"] = _merge(adapted, rows, folder, ctx)
        measured["merge_peak_rss"] = measured_value(memory.peak, "bytes", memory.samples, {"method": params.method})
    else:
        adapters.write_adapter(adapted.wrapped, adapted.manifest, folder, adapted.base)
        adapted.wrapped.unload()
    setting = {"method": params.method, "rank": params.rank}
    measured["trainable_parameters"] = measured_value(trainable, "parameters", 1, setting)
    measured["trainable_share"] = measured_value(trainable / count_parameters(adapted.model), "share", 1, setting)
    return outputs, [Observation(name, "measurement/v1", payload, about) for name, payload in measured.items()]


def _merge(adapted: Adapted, rows: Sequence[Sequence[int]], folder: Path, ctx: Context) -> dict[str, Any]:
    """Write the merged model; how far its logits are from those of base and adapter as they were trained."""
    model = adapted.model.eval()  # type: ignore[no-untyped-call]
    device = next(model.parameters()).device
    before = _logits(model, rows, device)
    if adapted.manifest.nf4:
        whole = ctx.scratch / "whole"
        adapters.write_adapter(adapted.wrapped, adapted.manifest, whole, adapted.base)
        adapted.wrapped.unload()
        merged = load(whole, device=str(device)).model
    else:
        merged = adapted.wrapped.merge_and_unload()
    after = _logits(merged, rows, device)
    save(merged.cpu(), adapted.tokenizer, folder)
    difference = torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)])
    context = {
        "mean_square": float(difference.square().mean()),
        "spread_of_logits": float(torch.cat([b.flatten() for b in before]).std()),
        "dtype": adapted.manifest.dtype,
        "nf4": bool(adapted.manifest.nf4),
    }
    return measured_value(float(difference.abs().max()), "greatest difference of a logit", len(difference), context)


@torch.no_grad()
def _logits(model: PreTrainedModel, rows: Iterable[Sequence[int]], device: torch.device) -> list[torch.Tensor]:
    ids = [torch.tensor([list(row)], device=device) for row in rows]
    return [model(input_ids=row, use_cache=False).logits.float().cpu() for row in ids]


def first_rows(examples: Sequence[Any]) -> list[list[int]]:
    """Token ids of the first examples, packed rows apart, of preferences the chosen answers."""
    firsts = (examples[index] for index in range(min(_COMPARED, len(examples))))
    parts = [part for example in firsts for part in getattr(example, "chosen", example).parts]
    return [list(part.ids) for part in parts[:_COMPARED]]


def with_setting(evidence: Iterable[Observation], params: FinetuneParams) -> list[Observation]:
    """The evidence, its memory measured with the setting that memory depends on."""
    setting = {name: getattr(params, name) for name in _SETTING}
    return [_told(seen, setting) if seen.name in _MEMORY else seen for seen in evidence]


def _told(seen: Observation, setting: dict[str, Any]) -> Observation:
    payload = dict(seen.payload)
    return replace(seen, payload=payload | {"context": {**payload.get("context", {}), **setting}})
