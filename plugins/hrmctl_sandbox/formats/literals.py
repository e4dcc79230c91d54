"""Values as Python source that means the same value, also where `repr` or the parser refuse."""

from __future__ import annotations

import datetime
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

_DIGITS = 1 << 12
_DEPTH = 90


class NotData(ValueError):
    """A value is not of a builtin type; the message says which."""


def literal(value: Any, depth: int = 0) -> str:
    """Source of an expression equal to `value`. Raises NotData for types that have none, and beyond 90 levels."""
    if depth > _DEPTH:
        raise NotData("a value is nested too deep")
    kind = type(value)
    if value is None or kind in (bool, str, bytes, bytearray, range):
        return repr(value)
    if kind is int:
        # Decimal digits beyond the interpreter's limit are refused by repr and by the parser; hexadecimal ones are not.
        return hex(value) if value.bit_length() > _DIGITS else repr(value)
    if kind in (float, complex):
        return _number(value)
    if kind in _IMPORTED:
        return _imported(value)
    write: Callable[[list[str]], str] | None = _CONTAINERS.get(kind)
    if write is None:
        raise NotData(f"a {kind.__name__}")
    if isinstance(value, dict):
        return write([f"{literal(key, depth + 1)}: {literal(item, depth + 1)}" for key, item in value.items()])
    return write([literal(item, depth + 1) for item in value])


def _number(value: float | complex) -> str:
    if isinstance(value, complex):
        return f"complex({_number(value.real)}, {_number(value.imag)})"
    return repr(value) if math.isfinite(value) else f"float('{value}')"


def _imported(value: Any) -> str:
    """The value's `repr` with its module; a zone is written apart, for its own `repr` names a module too."""
    zone = getattr(value, "tzinfo", None)
    if zone is not None:
        return f"{_imported(value.replace(tzinfo=None))}.replace(tzinfo={literal(zone)})"
    if isinstance(value, datetime.timezone):
        # The offset, and the name where it was given one.
        given = ", ".join(map(literal, value.__getinitargs__()))  # type: ignore[attr-defined]
        return f"__import__('datetime').timezone({given})"
    return f"__import__({type(value).__module__!r}).{repr(value).removeprefix('datetime.')}"


def _dict(items: list[str]) -> str:
    return f"{{{', '.join(items)}}}"


_TIMES = (datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone)
_IMPORTED = (Decimal, Fraction, *_TIMES)
_CONTAINERS: dict[type, Callable[[list[str]], str]] = {
    list: lambda items: f"[{', '.join(items)}]",
    tuple: lambda items: f"({', '.join(items)}{',' * (len(items) == 1)})",
    # These three equal a dict of the same items.
    **dict.fromkeys((dict, Counter, OrderedDict, defaultdict), _dict),
    deque: lambda items: f"__import__('collections').deque([{', '.join(items)}])",
    set: lambda items: f"{{{', '.join(sorted(items))}}}" if items else "set()",
    frozenset: lambda items: f"frozenset({{{', '.join(sorted(items))}}})" if items else "frozenset()",
}
