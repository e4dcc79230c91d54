"""Parameters of the stage `init`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from hrmctl.schema import doc

_CONFIG = "settings of the architecture to other values, by the names of its configuration"


@dataclass(frozen=True)
class InitParams:
    """Fresh weights of an architecture; the tokenizer is trained on the data."""

    architecture: Annotated[str, doc("the architecture (see `hrmctl plugins list`)")]
    vocab_size: Annotated[int, Ge(259), Le(1_000_000), doc("tokens of the tokenizer trained on the data")] = 512
    config: Annotated[Mapping[str, bool | int | float | str | tuple[int, ...]], doc(_CONFIG)] = field(
        default_factory=dict
    )
    dtype: Annotated[Literal["float32", "bfloat16"], doc("dtype of the weights as they are written")] = "float32"
