"""Parameters of the stage `eval-perplexity`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from hrmctl.schema import doc

_REFERENCE = "compute it a second time with transformers' own loss, and compare the tensors of both models"
_WINDOW = "tokens of a window over running text; unset: the model's context, at most 1,024"


@dataclass(frozen=True)
class PerplexityParams:
    """What is scored, and with how much context."""

    limit: Annotated[int, Ge(0), doc("only the first N rows, 0 for all; recorded")] = 0
    window: Annotated[int | None, Ge(2), doc(_WINDOW)] = None
    stride: Annotated[int | None, Ge(1), doc("tokens between the starts of windows; unset: half a window")] = None
    batch_size: Annotated[int, Ge(1), doc("sequences scored together; transformers always scores one")] = 16
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], doc("precision; auto: as stored")] = "auto"
    reference: Annotated[bool, doc(_REFERENCE)] = True
