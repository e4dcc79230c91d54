"""Exceptions as a builtin type's name and bounded arguments, so that one side can raise what the other raised."""

from __future__ import annotations

import builtins
from typing import Any

from .codec import Malformed

_TEXT_LIMIT = 1000
_MOST_ARGUMENTS = 4
_SMALL = 1 << 63
_BUILTINS = {id(kind): name for name, kind in vars(builtins).items() if isinstance(kind, type)}
_KINDS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}


def describe(error: BaseException) -> tuple[str, list[Any]]:
    """The nearest builtin exception's name and bounded arguments. Never raises, whatever the exception does."""
    try:
        kind = next(kind for kind in type(error).__mro__ if id(kind) in _BUILTINS)
        exact = kind is type(error)
        arguments = [_bounded(item) for item in error.args[:_MOST_ARGUMENTS]] if exact else [_bounded(str(error))]
        return _BUILTINS[id(kind)], arguments
    except BaseException:
        return "RuntimeError", ["an exception that cannot be described"]


def _bounded(value: object) -> Any:
    if value is None or type(value) in (bool, float) or (type(value) is int and -_SMALL < value < _SMALL):
        return value
    return str(value)[:_TEXT_LIMIT]


def rebuild(name: object, arguments: object) -> BaseException:
    """The exception of a description, or of the nearest base that takes the arguments. Raises Malformed."""
    kind = _KINDS.get(name) if type(name) is str else None
    if kind is None or type(arguments) is not list or any(type(item) in (list, dict) for item in arguments):
        raise Malformed("not an exception")
    for base in kind.__mro__[:-1]:
        try:
            return _instance(base, arguments)
        except Exception:
            continue
    return RuntimeError("an exception that cannot be rebuilt")


def _instance(kind: type, arguments: list[Any]) -> BaseException:
    made = kind(*arguments)
    if not isinstance(made, BaseException):
        raise TypeError("not an exception")
    if isinstance(made, (UnicodeEncodeError, UnicodeTranslateError)) and not _has_its_positions(made):
        raise TypeError("positions outside its text, of which no text can be made")
    return made


def _has_its_positions(error: UnicodeEncodeError | UnicodeTranslateError) -> bool:
    start, end = error.args[-3:-1]
    return bool(0 <= start <= end <= len(error.object))
