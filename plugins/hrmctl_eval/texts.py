"""What `eval-perplexity` scores: completions given their prompts, or running text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl import HrmctlError, Problem, StageError
from hrmctl.jsonio import loads


@dataclass(frozen=True, slots=True)
class Pairs:
    """Prompts and their completions; only the tokens of completions are scored."""

    prompts: Sequence[str]
    completions: Sequence[str]

    kind = "completions"

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts apart from each other; every token but the first of each is scored."""

    texts: Sequence[str]

    kind = "text"

    def __len__(self) -> int:
        return len(self.texts)


def read_texts(path: Path, name: str, limit: int) -> Pairs | Texts:
    """JSONL rows with `prompt` and `completion`, or with `text`; any other UTF-8 file is one text.

    The first row says which. Raises StageError with `name` and line of a row that is not like it, or where there is
    nothing to score.
    """
    try:
        whole = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(Problem(f"not UTF-8 text ({error})", name, remedy="give a file of text or JSONL")) from error
    if not whole.strip():
        raise StageError(Problem("an empty data set; there is nothing to score", name))
    if not whole.lstrip("\ufeff \n\r\t").startswith("{"):
        return Texts([whole.removeprefix("\ufeff")])
    # Not splitlines: a row may hold other line separators than \n inside its texts.
    lines = [(number, line) for number, line in enumerate(whole.split("\n"), 1) if line.strip()]
    rows = [(number, _row(line, name, number)) for number, line in lines[: limit or None]]
    if {"prompt", "completion"} <= rows[0][1].keys():
        fields = [[_text(row, field, name, number) for number, row in rows] for field in ("prompt", "completion")]
        return Pairs(*fields)
    return Texts([_text(row, "text", name, number) for number, row in rows])


def _row(line: str, name: str, number: int) -> Mapping[str, Any]:
    try:
        row = loads(line, name)
    except HrmctlError as error:
        raise StageError(Problem("not a JSON object", name, number, 1, "one JSON object a line")) from error
    if not isinstance(row, dict):
        raise StageError(Problem("not a JSON object", name, number, 1, "one JSON object a line"))
    return row


def _text(row: Mapping[str, Any], field: str, name: str, number: int) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        remedy = "rows have prompt and completion, or text, and all of a file have the same"
        raise StageError(Problem(f"no text '{field}'", name, number, 1, remedy))
    return value
