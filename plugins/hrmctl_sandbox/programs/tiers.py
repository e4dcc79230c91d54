"""How far a program came, from its outcome and whether Python's grammar accepts it."""

from __future__ import annotations

from ..model import ErrorClass

TIERS = 4
_NOT_COMPILED = (ErrorClass.SYNTAX, ErrorClass.COMPILE, ErrorClass.REFUSED)


def compiled(outcome: str) -> bool:
    """Whether Python compiled the program, in the sandbox; one that was refused was never compiled."""
    return outcome not in _NOT_COMPILED


def tier(outcome: str, parses: bool) -> int:
    """0 does not parse, 1 parses, 2 compiles, 3 its tests run to a wrong answer, 4 passes."""
    if outcome == ErrorClass.PASSED:
        return 4
    if outcome == ErrorClass.WRONG_ANSWER:
        return 3
    return 2 if compiled(outcome) else int(parses)
