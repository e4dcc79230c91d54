"""Whether what a program wrote is what a case expects."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_SHOWN = 60


def difference(written: str, expected: str) -> str:
    """What differs, in one line, or nothing: the comparison of LiveCodeBench (`testing_util.grade_stdio`).

    Both texts are stripped and split at line feeds. There must be as many lines; each pair of lines must be equal when
    stripped, or be equal as decimal numbers, token by token.
    """
    mine, theirs = _lines(written), _lines(expected)
    if len(mine) != len(theirs):
        return f"{len(mine)} lines instead of {len(theirs)}"
    for number, (line, other) in enumerate(zip(mine, theirs, strict=True), 1):
        if line != other and not _same_numbers(line, other):
            return f"line {number} is {_short(line)} instead of {_short(other)}"
    return ""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_numbers(line: str, other: str) -> bool:
    mine, theirs = line.split(), other.split()
    try:
        return len(mine) == len(theirs) and all(
            Decimal(one) == Decimal(two) for one, two in zip(mine, theirs, strict=True)
        )
    except InvalidOperation:
        return False


def _short(line: str) -> str:
    return repr(line if len(line) <= _SHOWN else line[:_SHOWN] + "...")
