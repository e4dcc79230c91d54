"""Parameters of `finetune` that say which weights are trained, and on what memory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from hrmctl_training.params import TrainingParams

from hrmctl.schema import doc

_METHOD = "which weights are trained: all; low-rank adapters (lora); those over a base rounded to 4 bits (qlora)"
_TARGETS = "names of the modules that get an adapter; all-linear: every matrix but embeddings and output layer"
_DROPOUT = "share dropped wherever the architecture has dropout; unset: as the model's configuration says"
_LOW_MEMORY = "return freed memory to the system at once: a lower peak, slower steps (glibc)"
_ADAPTER_ONLY = ("rank", "alpha", "target_modules", "lora_dropout", "rslora", "dora", "base_dtype", "merge")


@dataclass(frozen=True)
class AdapterParams(TrainingParams):
    """All weights, or adapters; how the model is held in memory. Raises ValueError where an option has no meaning."""

    method: Annotated[Literal["full", "lora", "qlora"], doc(_METHOD)] = "full"
    rank: Annotated[int, Ge(1), Le(4096), doc("lora, qlora: rank of an adapter")] = 16
    alpha: Annotated[float | None, Gt(0), doc("lora, qlora: scale of an adapter times its rank; unset: 2 rank")] = None
    target_modules: Annotated[tuple[str, ...], MinLen(1), doc(f"lora, qlora: {_TARGETS}")] = ("all-linear",)
    lora_dropout: Annotated[float, Ge(0), Lt(1), doc("lora, qlora: share of an adapter's inputs dropped")] = 0.0
    rslora: Annotated[bool, doc("lora, qlora: divide the scale by the root of the rank, not by the rank")] = False
    dora: Annotated[bool, doc("lora, qlora: train each weight's magnitudes apart from its direction")] = False
    base_dtype: Annotated[
        Literal["float32", "bfloat16"], doc("lora, qlora: dtype of the frozen base and of a merged model")
    ] = "float32"
    merge: Annotated[
        bool, doc("lora, qlora: hand over one merged model; false: the base with the adapter beside it")
    ] = True
    dropout: Annotated[float | None, Ge(0), Lt(1), doc(_DROPOUT)] = None
    gradient_checkpointing: Annotated[bool, doc("compute activations again instead of keeping them")] = False
    low_memory: Annotated[bool, doc(_LOW_MEMORY)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        unused = [name for name in _ADAPTER_ONLY if name in given]
        if self.method == "full" and unused:
            raise ValueError(f"{', '.join(unused)}: only lora and qlora have that; set `method`")
