"""Parameters of the stage `eval-puzzles`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from hrmctl.schema import doc

_LIMIT = "only the first N puzzles of each task, 0 for all; recorded, and n counts those evaluated"


@dataclass(frozen=True)
class PuzzleParams:
    """How a model answers puzzles."""

    batch_size: Annotated[int, Ge(1), doc("puzzles answered together")] = 256
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], doc("of the weights, auto as stored")] = "auto"
    limit: Annotated[int, Ge(0), doc(_LIMIT)] = 0
