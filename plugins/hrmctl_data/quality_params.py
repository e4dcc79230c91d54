"""Parameters of the stage `data.quality`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from hrmctl.schema import doc

_KIND = "which criteria a document answers to; auto: code where its fields or its lines say so, text else"
_KEEP = "least score of a document that is kept, 0 to keep all; what is left out stands in the report"
_FORMAT = "what a document is: a JSONL row, a line or a paragraph of text; auto tells JSONL by its first character"


@dataclass(frozen=True)
class QualityParams:
    """How documents are scored and which are kept."""

    kind: Annotated[Literal["auto", "code", "text"], doc(_KIND)] = "auto"
    keep_above: Annotated[float, Ge(0), Le(100), doc(_KEEP)] = 0.0
    format: Annotated[Literal["auto", "jsonl", "lines", "paragraphs"], doc(_FORMAT)] = "auto"
