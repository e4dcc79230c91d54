"""Parameters of the stage `data.decontaminate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from hrmctl.schema import doc

_N = "length of an n-gram in tokens; a shorter field is one gram of its whole length"
_GRANULARITY = "what a token is: a word, or a name, number or mark of code; 30 code tokens are about 13 words"
_THRESHOLD = "least share of a field's n-grams that one document must hold; 0: any single one"
_RENAMED = "find solutions with other names in them too (half of their 30-token n-grams, equal but for one renaming)"
_ACTION = "drop documents that overlap, only report them, or fail where there is one"
_FORMAT = "what a document is: a JSONL row, a line or a paragraph of text; auto tells JSONL by its first character"


@dataclass(frozen=True)
class DecontaminateParams:
    """What counts as overlap with a benchmark, and what becomes of a document that overlaps."""

    n: Annotated[int, Ge(5), Le(50), doc(_N)] = 13
    granularity: Annotated[Literal["words", "code"], doc(_GRANULARITY)] = "words"
    threshold: Annotated[float, Ge(0), Le(1), doc(_THRESHOLD)] = 0.0
    renamed: Annotated[bool, doc(_RENAMED)] = True
    action: Annotated[Literal["drop", "report", "fail"], doc(_ACTION)] = "drop"
    format: Annotated[Literal["auto", "jsonl", "lines", "paragraphs"], doc(_FORMAT)] = "auto"
