"""Parameters of the stage `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from hrmctl.schema import doc
from hrmctl_finetune.adapter_params import AdapterParams
from hrmctl_finetune.preference_params import PreferenceParams

_CONFIG = "settings of the architecture `init` to other values, by the names of its configuration"


@dataclass(frozen=True)
class FinetuneParams(AdapterParams, PreferenceParams):
    """Training of a causal language model; one of `init` and the input `model` is needed."""

    init: Annotated[str | None, doc("architecture to start from with fresh weights (see `hrmctl plugins list`)")] = None
    vocab_size: Annotated[
        int, Ge(259), Le(1_000_000), doc("tokens of the tokenizer trained on the data, where `init` is set")
    ] = 512
    config: Annotated[Mapping[str, bool | int | float | str | tuple[int, ...]], doc(_CONFIG)] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method != "full" and self.init is not None:
            raise ValueError(f"{self.method} adapts a trained base: give `model`, not `init`")
