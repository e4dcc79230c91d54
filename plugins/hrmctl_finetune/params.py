"""Parameters of the stage `finetune`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le
from hrmctl_training.params import TrainingParams

from hrmctl.schema import doc


@dataclass(frozen=True)
class FinetuneParams(TrainingParams):
    """Training of a causal language model; one of `init` and the input `model` is needed."""

    init: Annotated[str | None, doc("architecture to start from with fresh weights (see `hrmctl plugins list`)")] = None
    method: Annotated[Literal["full"], doc("which weights are trained")] = "full"
    vocab_size: Annotated[
        int, Ge(259), Le(1_000_000), doc("tokens of the tokenizer trained on the data, where `init` is set")
    ] = 512
