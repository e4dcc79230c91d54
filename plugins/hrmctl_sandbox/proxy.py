"""Stand-ins in the judge for objects that live in the program's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar

T = TypeVar("T")
_OPEN_NAMES = frozenset({"__name__", "__doc__", "__dict__", "__annotations__", "__qualname__"})


class Caller(Protocol):
    """What a handle needs of its session."""

    allow_forgeable: bool
    forgeable: bool

    def call(self, operation: str, target: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Perform an operation in the program's process."""

    def refuse(self, reason: str) -> NoReturn:
        """Settle the verdict as refused. Raises Stop."""


class Handle:
    """An object of the program. Every use is a call to the program's process, except comparison.

    Comparing with data is False: the program's own `__eq__` would decide its verdict. Where that is allowed the outcome
    is marked forgeable.
    """

    __slots__ = ("_handle_number", "_handle_session")
    _handle_session: Caller
    _handle_number: int

    def __init__(self, session: Caller, number: int) -> None:
        object.__setattr__(self, "_handle_session", session)
        object.__setattr__(self, "_handle_number", number)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._handle_session.call("call", self._handle_number, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _OPEN_NAMES:
            raise AttributeError(name)
        return _perform(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _perform(self, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        _perform(self, "delattr", name)

    def __getitem__(self, key: Any) -> Any:
        return _perform(self, "getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _perform(self, "setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        _perform(self, "delitem", key)

    def __len__(self) -> int:
        return _exactly(int, _perform(self, "len"))

    def __iter__(self) -> Any:
        return _perform(self, "iter")

    def __next__(self) -> Any:
        return _perform(self, "next")

    def __bool__(self) -> bool:
        return _exactly(bool, _perform(self, "bool"))

    def __str__(self) -> str:
        return _exactly(str, _perform(self, "str"))

    def __repr__(self) -> str:
        return _exactly(str, _perform(self, "repr"))

    def __contains__(self, item: Any) -> bool:
        # Compared here, member by member: the program's own answer would decide, and it would see what is looked for.
        return any(value is item or value == item for value in self)

    def __instancecheck__(self, value: Any) -> bool:
        return _exactly(bool, _perform(self, "isinstance", value))

    def __hash__(self) -> int:
        return self._handle_number

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Handle) and other._handle_number == self._handle_number:
            return True
        if self._handle_session.allow_forgeable:
            return _forgeable(self, "binary", "eq", other)
        if not isinstance(other, Handle):
            return False
        self._handle_session.refuse("the tests compare two objects of the program")

    def __ne__(self, other: object) -> Any:
        return not self == other


def number_of(handle: Handle) -> int:
    """The number under which the program's process knows the object."""
    return handle._handle_number


def _perform(handle: Handle, operation: str, *arguments: Any) -> Any:
    return handle._handle_session.call(operation, handle._handle_number, arguments, {})


def _exactly(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise TypeError(f"the program returned a {type(value).__name__} for a {kind.__name__}")
    return value


def _forgeable(handle: Handle, operation: str, name: str, other: object) -> Any:
    session = handle._handle_session
    if not session.allow_forgeable:
        session.refuse(f"the tests leave the operator {name} to the program")
    session.forgeable = True
    return _perform(handle, operation, name, other)


def _operator(operation: str, name: str) -> Callable[[Handle, object], Any]:
    def apply(self: Handle, other: object) -> Any:
        return _forgeable(self, operation, name, other)

    return apply


for _name in ("lt", "le", "gt", "ge"):
    setattr(Handle, f"__{_name}__", _operator("binary", _name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "matmul"):
    setattr(Handle, f"__{_name.strip('_')}__", _operator("binary", _name))
    setattr(Handle, f"__r{_name.strip('_')}__", _operator("reflected", _name))
