"""Frozen dataclasses as schemas: checked decoding with positions, and JSON Schema 2020-12 for editors.

A field is `name: Annotated[type, bounds…, doc("meaning, unit")] = default`; bounds are those of
`annotated_types` (Ge, Gt, Le, Lt, Len, MinLen, MaxLen). A trailing underscore in a field's name is
dropped in YAML (`else_` is `else`). Cross-field rules belong in `__post_init__` as ValueError.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence, Sized
from dataclasses import MISSING, dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import annotated_types as at

from hrmctl.errors import InputError, Problem
from hrmctl.yamlio import Node, kind_of, nearest, suggest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Doc:
    """The documentation of one field."""

    text: str


def doc(text: str) -> Doc:
    """Annotate a field with what it is and its unit."""
    return Doc(text)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema as YAML knows it."""

    name: str
    attribute: str
    type: Any
    bounds: tuple[Any, ...]
    doc: str
    required: bool
    default: Any


@cache
def fields_of(cls: Any) -> tuple[Field, ...]:
    """The fields of a dataclass in order."""
    hints = get_type_hints(cls, include_extras=True)
    result = []
    for item in dataclasses.fields(cls):
        kind, extras = _unwrap(hints[item.name])
        required = item.default is MISSING and item.default_factory is MISSING
        default = item.default if item.default is not MISSING else None
        if item.default_factory is not MISSING:
            default = item.default_factory()
        text = " ".join(e.text for e in extras if isinstance(e, Doc))
        bounds = tuple(e for e in extras if not isinstance(e, Doc))
        result.append(Field(item.name.rstrip("_"), item.name, kind, bounds, text, required, default))
    return tuple(result)


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        return base, tuple(extras)
    return hint, ()


# --- decoding -----------------------------------------------------------------------------------


def decode(node: Node, cls: type[T], problems: list[Problem], excused: Collection[str] = ()) -> T | None:
    """An instance of dataclass `cls`, or None with every fault appended to `problems`.

    What is misspelt is not called missing as well, nor are the `excused` keys, of which something was told elsewhere.
    `cls.ELSEWHERE` may say where a key belongs that is like none of its own.
    """
    before = len(problems)
    if not isinstance(node.value, dict):
        problems.append(node.problem(f"expected a mapping, found {kind_of(node)}"))
        return None
    known = {f.name: f for f in fields_of(cls)}  # type: ignore[arg-type]
    unknown = [key for key in node.value if key not in known]
    for key in unknown:
        hint = "" if nearest(key, known) else getattr(cls, "ELSEWHERE", "")
        problems.append(node.key_problem(key, f"unknown key '{key}'", hint or suggest(key, known)))
    missing = [name for name, spec in known.items() if spec.required and name not in node.value]
    if missing:
        excused = {*excused, *filter(None, (nearest(key, known) for key in unknown))}
    problems.extend(node.problem(f"missing key '{name}'", known[name].doc) for name in missing if name not in excused)
    values = {}
    for name in (name for name in known if name in node.value):
        spec = known[name]
        values[spec.attribute] = decode_value(node.value[name], spec.type, problems, spec.bounds, name)
    if missing or len(problems) > before or any(name in known and name not in node.value for name in excused):
        return None  # what is only misspelt is not the default either
    return _construct(node, cls, values, problems)


def _construct(node: Node, cls: type[T], values: dict[str, Any], problems: list[Problem]) -> T | None:
    try:
        return cls(**values)
    except ValueError as error:
        problems.append(node.problem(str(error)))
        return None


def decode_or_raise(node: Node, cls: type[T]) -> T:
    """As `decode`, raising InputError with every fault."""
    problems: list[Problem] = []
    result = decode(node, cls, problems)
    if result is None:
        raise InputError(*problems)
    return result


def decode_value(node: Node, kind: Any, problems: list[Problem], bounds: Sequence[Any] = (), name: str = "") -> Any:
    """A value of type `kind` within `bounds`, or None with every fault appended to `problems`."""
    kind, extras = _unwrap(kind)
    before = len(problems)
    value = _decode(node, kind, problems, name)
    if len(problems) == before and value is not None:
        problems.extend(_out_of_bounds(node, value, (*bounds, *extras), name))
    return value


def _decode(node: Node, kind: Any, problems: list[Problem], name: str) -> Any:
    origin = get_origin(kind)
    if kind is Node:
        return node
    if kind is Any:
        return node.plain()
    if origin in (typing.Union, types.UnionType):
        return _decode_union(node, get_args(kind), problems, name)
    if origin is Literal:
        return _decode_literal(node, get_args(kind), problems, name)
    if origin in (tuple, list, Sequence):
        return _decode_list(node, get_args(kind)[0], problems, name)
    if origin in (dict, Mapping):
        return _decode_mapping(node, get_args(kind)[1], problems, name)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return decode(node, kind, problems)
    return _decode_scalar(node, kind, problems, name)


def _decode_scalar(node: Node, kind: Any, problems: list[Problem], name: str) -> Any:
    value = node.value
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        number = _as_float(value)
        if not math.isfinite(number):
            problems.append(node.problem(f"{_named(name)}{str(value)[:40]} is not a finite number"))
            return None
        return number
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    fault = f"{_named(name)}expected {_WORDS.get(kind, kind.__name__)}, found {_shown(node)}"
    quoted = kind in (int, float) and isinstance(value, str) and _NUMBER.match(value)
    problems.append(node.problem(fault, "write it without quotes" if quoted else ""))
    return None


_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?\Z")


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


_WORDS = {int: "an integer", float: "a number", str: "text", bool: "true or false"}


def _shown(node: Node) -> str:
    if isinstance(node.value, (dict, list)) or node.value is None:
        return kind_of(node)
    return f"{kind_of(node)} ({str(node.value)[:40]!r})"


def _named(name: str) -> str:
    return f"{name}: " if name else ""


def _decode_literal(node: Node, choices: tuple[Any, ...], problems: list[Problem], name: str) -> Any:
    for choice in choices:
        if node.value == choice and isinstance(node.value, bool) == isinstance(choice, bool):
            return choice
    shown = [str(c) for c in choices]
    hint = suggest(str(node.value), shown) or f"one of {', '.join(shown)}"
    problems.append(node.problem(f"{_named(name)}{_shown(node)} is not a choice", hint))
    return None


def _decode_union(node: Node, options: tuple[Any, ...], problems: list[Problem], name: str) -> Any:
    if node.value is None and type(None) in options:
        return None
    real = [o for o in options if o is not type(None)]
    attempts = []
    for option in real:
        trial: list[Problem] = []
        value = decode_value(node, option, trial, (), name)
        if not trial:
            return value
        attempts.append(trial)
    # The option that failed deepest is the one that was meant.
    problems.extend(max(attempts, key=lambda trial: max((p.line, p.column) for p in trial)))
    return None


def _decode_list(node: Node, item: Any, problems: list[Problem], name: str) -> Any:
    if not isinstance(node.value, list):
        problems.append(node.problem(f"{_named(name)}expected a list, found {_shown(node)}", "write it as [ … ]"))
        return None
    return tuple(decode_value(child, item, problems, (), f"{name}[{i}]") for i, child in enumerate(node.value))


def _decode_mapping(node: Node, item: Any, problems: list[Problem], name: str) -> Any:
    if not isinstance(node.value, dict):
        remedy = "write key: value, without dashes" if isinstance(node.value, list) else ""
        problems.append(node.problem(f"{_named(name)}expected a mapping, found {_shown(node)}", remedy))
        return None
    return {k: decode_value(child, item, problems, (), f"{name}.{k}") for k, child in node.value.items()}


def _out_of_bounds(node: Node, value: Any, bounds: Sequence[Any], name: str) -> list[Problem]:
    faults = [_violation(value, bound) for bound in bounds]
    return [node.problem(f"{_named(name)}{_shown(node)} is out of range", fault) for fault in faults if fault]


def _violation(value: Any, bound: Any) -> str:
    if isinstance(bound, at.Interval):
        return next((fault for b in bound if (fault := _violation(value, b))), "")
    if isinstance(bound, (at.MinLen, at.MaxLen, at.Len)):
        return _wrong_length(value, bound) if isinstance(value, Sized) else ""
    return _wrong_size(value, bound) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _wrong_size(value: Any, bound: Any) -> str:
    if isinstance(bound, at.Ge) and not value >= bound.ge:
        return f"must be at least {bound.ge}"
    if isinstance(bound, at.Gt) and not value > bound.gt:
        return f"must be greater than {bound.gt}"
    if isinstance(bound, at.Le) and not value <= bound.le:
        return f"must be at most {bound.le}"
    if isinstance(bound, at.Lt) and not value < bound.lt:
        return f"must be less than {bound.lt}"
    return ""


def _wrong_length(value: Sized, bound: Any) -> str:
    if isinstance(bound, (at.MinLen, at.Len)) and len(value) < bound.min_length:
        return f"must have at least {bound.min_length}"
    if isinstance(bound, (at.MaxLen, at.Len)) and bound.max_length is not None and len(value) > bound.max_length:
        return f"must have at most {bound.max_length}"
    return ""


# --- JSON Schema --------------------------------------------------------------------------------


def json_schema(cls: type) -> dict[str, Any]:
    """The JSON Schema 2020-12 of a dataclass."""
    result: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    if cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("):
        result["description"] = cls.__doc__.strip().splitlines()[0]
    for spec in fields_of(cls):
        entry = _type_schema(spec.type) | _bound_schema(spec.bounds, spec.type)
        if spec.doc:
            entry["description"] = spec.doc
        if not spec.required and isinstance(spec.default, (bool, int, float, str)):
            entry["default"] = spec.default
        result["properties"][spec.name] = entry
    required = [spec.name for spec in fields_of(cls) if spec.required]
    return result | ({"required": required} if required else {})


_JSON_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
}


def _type_schema(kind: Any) -> dict[str, Any]:
    kind, extras = _unwrap(kind)
    origin, args = get_origin(kind), get_args(kind)
    if kind in _JSON_TYPES:
        return _JSON_TYPES[kind] | _bound_schema(extras, kind)
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_type_schema(a) for a in args]} | _bound_schema(extras, kind)
    if origin in (tuple, list, Sequence):
        return {"type": "array", "items": _type_schema(args[0])} | _bound_schema(extras, kind)
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _type_schema(args[1])} | _bound_schema(extras, kind)
    if kind is not Node and dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return json_schema(kind)
    return {}


_LIMITS = (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"), ("lt", "exclusiveMaximum"))


def _bound_schema(bounds: Sequence[Any], kind: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for bound in bounds:
        if isinstance(bound, at.Interval):
            result |= _bound_schema(tuple(bound), kind)
            continue
        result |= {word: getattr(bound, name) for name, word in _LIMITS if getattr(bound, name, None) is not None}
        for of in sorted(_lengths(kind)):
            if isinstance(bound, (at.MinLen, at.Len)) and bound.min_length:
                result[f"min{of}"] = bound.min_length
            if isinstance(bound, (at.MaxLen, at.Len)) and bound.max_length is not None:
                result[f"max{of}"] = bound.max_length
    return result


def _lengths(kind: Any) -> set[str]:
    """What JSON Schema calls the length of a value of this type; several for a union."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {word for option in args for word in _lengths(_unwrap(option)[0])}
    if origin in (tuple, list, Sequence):
        return {"Items"}
    return {"Properties"} if origin in (dict, Mapping) else {"Length"}
