"""Errors that a user can mend, and the exit code each one ends the command with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in one place of the input; `line` and `column` count from 1, 0 where there is none."""

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    remedy: str = ""

    @property
    def place(self) -> tuple[str, int, int]:
        """File, line and column."""
        return self.file, self.line, self.column

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place = f"{place or '<input>'}:{self.line}:{self.column}"
        text = f"{place}: {self.message}" if place else self.message
        return one_line(f"{text}; {self.remedy}" if self.remedy else text)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a stage's `check` finds wrong, at a parameter or input `key`; `config.width` and `points.0` are inside."""

    key: str
    message: str
    remedy: str = ""


def explained(because: str, reason: str) -> str:
    """Why a verdict is what it is, `because: reason`, each said once.

    A gate's reason names the rule itself, one of missing evidence the evidence.
    """
    named = f"`{because}`" in reason or f"no evidence {because}" in reason
    return reason if named else ": ".join(filter(None, (because, reason)))


def one_line(text: str, limit: int = 2000) -> str:
    """`text` without line breaks and terminal escapes, cut at `limit` characters: names in it may be hostile."""
    short = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


class HrmctlError(Exception):
    """An expected error: shown as one line for each problem, never as a traceback."""

    exit_code = 2

    def __init__(self, *problems: Problem | str):
        given = [p if isinstance(p, Problem) else Problem(p) for p in problems]
        self.problems: Sequence[Problem] = list(dict.fromkeys(given))
        super().__init__("\n".join(str(p) for p in self.problems))


class InputError(HrmctlError):
    """Usage or configuration is wrong; nothing was written."""


class StageError(HrmctlError):
    """A stage could not do its work. Raise it from a stage with a message that names the remedy."""

    exit_code = 4


class StoreError(HrmctlError):
    """The store cannot be read or written, or holds something other than what its name says."""


class MeasureError(Exception):
    """The evidence cannot be measured (NaN, n < k, unpaired, placeholder): the verdict is INVALID."""


class Undecidable(Exception):
    """Measured, but the statistics cannot decide: the verdict is INCONCLUSIVE."""
