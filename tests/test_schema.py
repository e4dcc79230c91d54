"""Dataclasses as schemas: decoding accepts exactly what the JSON Schema accepts, and names every fault's place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrmctl.errors import InputError, Problem
from hrmctl.schema import decode, decode_or_raise, doc, fields_of, json_schema
from hrmctl.yamlio import Node, parse


@dataclass(frozen=True)
class Inner:
    """A point.

    More of it.
    """

    x: Annotated[int, at.Ge(0), doc("where, metres")]
    y: Annotated[float | None, at.Lt(1)] = None


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, at.MinLen(1), at.MaxLen(5), doc("what it is called")]
    steps: Annotated[int, at.Interval(ge=1, lt=10), doc("how many")] = 3
    mode: Literal["fast", "slow", 7] = "fast"
    words: Annotated[tuple[str, ...], at.Len(1, 3)] = ("a",)
    points: tuple[Inner, ...] = ()
    table: Annotated[Mapping[str, Annotated[int, at.Le(9)]], at.MaxLen(2)] = field(default_factory=dict)
    inner: Inner | None = None
    else_: bool = False
    any: Any = None


def faults(text: str, cls: type = Outer) -> list[str]:
    problems: list[Problem] = []
    assert decode(parse(text, "f.yaml"), cls, problems) is None
    return [str(p) for p in problems]


# --- acceptance is that of the JSON Schema --------------------------------------------------------

NUMBERS = st.sampled_from([at.Ge(1), at.Gt(1), at.Le(4), at.Lt(4), at.Interval(gt=-2, le=3)])
LENGTHS = st.sampled_from([at.MinLen(1), at.MaxLen(2), at.Len(1, 2)])
SIMPLE = st.one_of(
    st.builds(lambda bounds: Annotated[int, *bounds], st.lists(NUMBERS, min_size=1, max_size=1)),
    st.builds(lambda bounds: Annotated[float, *bounds], st.lists(NUMBERS, min_size=1, max_size=1)),
    st.builds(lambda bounds: Annotated[str, *bounds], st.lists(LENGTHS, min_size=1, max_size=1)),
    st.sampled_from([int, float, str, bool, Inner, Any, Literal["a", "b"], Literal[1, "x", True]]),
)


def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        inner.map(lambda kind: tuple[kind, ...]),
        inner.map(lambda kind: dict[str, kind]),
        inner.map(lambda kind: kind | None if kind is not Any else Any),
        st.tuples(inner, LENGTHS).map(lambda pair: Annotated[tuple[pair[0], ...], pair[1]]),
        st.tuples(inner, LENGTHS).map(lambda pair: Annotated[dict[str, pair[0]], pair[1]]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1] if Any not in pair else Any),
        st.tuples(inner, inner, LENGTHS, NUMBERS).map(
            lambda four: Annotated[four[0] | four[1] | None, four[2], four[3]] if Any not in four[:2] else Any
        ),
    )


KINDS = st.recursive(SIMPLE, wrapped, max_leaves=4)
SMALL = st.sampled_from(["", "a", "b", "x", "abc", "x1"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 6) | st.sampled_from([-2.5, 0.5, 1.0, 2.5, 4.0, 1e300]) | SMALL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, max_size=3),
    max_leaves=5,
)


def near(kind: Any) -> st.SearchStrategy[Any]:
    """Values that mostly fit `kind`, but for its bounds."""
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    origin, args = get_origin(base), get_args(base)
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(near(args[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(SMALL, near(args[1]), max_size=3)
    if origin in (Union, UnionType):
        # typing hands out one object for all orders of a union: sort, so that the same data come again.
        return st.one_of([near(option) for option in sorted(args, key=repr)])
    if base is Inner:
        return st.fixed_dictionaries({"x": near(int)}, optional={"y": near(float)})
    known = {int: st.integers(-3, 6), float: st.sampled_from([-2.5, 0.5, 4.0, 3]), bool: st.booleans(), str: SMALL}
    return known.get(base, VALUES)


@st.composite
def classes(draw: st.DrawFn) -> type:
    fields: list[Any] = []
    for name in ("x", "y_"):
        if draw(st.booleans()):
            fields.append((name, draw(KINDS), field(default=None)))
        else:
            fields.insert(0, (name, draw(KINDS)))
    return make_dataclass("Made", fields, frozen=True)


@given(classes(), st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_decoding_accepts_exactly_what_the_json_schema_accepts(cls: type, data: st.DataObject) -> None:
    value = {f.name: data.draw(near(f.type)) for f in fields_of(cls) if f.required or data.draw(st.booleans())}
    value |= data.draw(st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=1))
    schema = json_schema(cls)
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    problems: list[Problem] = []
    found = decode(Node.of(value), cls, problems)
    assert (found is not None) == valid == (not problems), (value, schema, problems)


@given(KINDS, st.data())
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
def test_one_value_is_accepted_by_both_or_by_none(kind: Any, data: st.DataObject) -> None:
    value = data.draw(near(kind) | VALUES)
    cls = make_dataclass("One", [("x", kind)], frozen=True)
    valid = jsonschema.Draft202012Validator(json_schema(cls)).is_valid({"x": value})
    problems: list[Problem] = []
    decode(Node.of({"x": value}), cls, problems)
    assert valid == (not problems), (kind, value, problems)


def test_bounds_hold_for_the_values_they_are_meant_for() -> None:
    """As in JSON Schema, a limit of numbers says nothing of true, false or text."""
    cls = make_dataclass("Mixed", [("x", Annotated[bool | int | str | None, at.Ge(1), at.MinLen(2)])], frozen=True)
    schema = jsonschema.Draft202012Validator(json_schema(cls))
    for value, valid in ((False, True), (0, False), (1, True), ("a", False), ("ab", True), (None, True)):
        problems: list[Problem] = []
        decode(Node.of({"x": value}), cls, problems)
        assert schema.is_valid({"x": value}) == valid == (not problems), value


def test_a_node_is_kept_unread_and_may_be_anything() -> None:
    cls = make_dataclass("Kept", [("x", Node)], frozen=True)
    assert json_schema(cls)["properties"] == {"x": {}}
    assert decode_or_raise(parse("x: [1, {a: b}]"), cls).x.plain() == [1, {"a": "b"}]  # type: ignore[attr-defined]


# --- what decoding gives --------------------------------------------------------------------------


def test_values_get_their_types() -> None:
    text = """
    name: abc
    steps: 4.0
    mode: 7
    words: [x, y]
    points: [{x: 1}, {x: 2, y: 0.5}]
    table: {a: 1}
    inner: {x: 3, y: -1}
    else: true
    any: {deep: [1, two]}
    """
    found = decode_or_raise(parse(text), Outer)
    assert found == Outer(
        "abc", 4, 7, ("x", "y"), (Inner(1), Inner(2, 0.5)), {"a": 1}, Inner(3, -1.0), True, {"deep": [1, "two"]}
    )
    assert type(found.steps) is int
    assert type(found.inner.y) is float  # type: ignore[union-attr]


def test_defaults_stand_where_nothing_is_given() -> None:
    assert decode_or_raise(parse("name: a"), Outer) == Outer("a")


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("[1]", ["f.yaml:1:1: expected a mapping, found a list"]),
        ("steps: 1", ["f.yaml:1:1: missing key 'name'; what it is called"]),
        ("name: a\nstpes: 2", ["f.yaml:2:1: unknown key 'stpes'; did you mean 'steps'?"]),
        ("name: a\nsteps: ten", ["f.yaml:2:8: steps: expected an integer, found text ('ten')"]),
        ("name: a\nsteps: 1.5", ["f.yaml:2:8: steps: expected an integer, found a number ('1.5')"]),
        ("name: a\nsteps: true", ["f.yaml:2:8: steps: expected an integer, found true/false ('True')"]),
        ("name: a\nsteps:", ["f.yaml:2:7: steps: expected an integer, found nothing"]),
        ("name: a\nsteps: 0", ["f.yaml:2:8: steps: an integer ('0') is out of range; must be at least 1"]),
        ("name: a\nsteps: 10", ["f.yaml:2:8: steps: an integer ('10') is out of range; must be less than 10"]),
        ("name: ''", ["f.yaml:1:7: name: text ('') is out of range; must have at least 1"]),
        ("name: abcdef", ["f.yaml:1:7: name: text ('abcdef') is out of range; must have at most 5"]),
        ("name: 3", ["f.yaml:1:7: name: expected text, found an integer ('3')"]),
        ("name: a\nmode: fsat", ["f.yaml:2:7: mode: text ('fsat') is not a choice; did you mean 'fast'?"]),
        ("name: a\nmode: x", ["f.yaml:2:7: mode: text ('x') is not a choice; known: 7, fast, slow"]),
        ("name: a\nwords: one", ["f.yaml:2:8: words: expected a list, found text ('one'); write it as [ … ]"]),
        ("name: a\nwords: []", ["f.yaml:2:8: words: a list is out of range; must have at least 1"]),
        ("name: a\nwords: [a, 2]", ["f.yaml:2:12: words[1]: expected text, found an integer ('2')"]),
        (
            "name: a\ntable: [1]",
            ["f.yaml:2:8: table: expected a mapping, found a list; write key: value, without dashes"],
        ),
        ("name: a\ntable: {k: 10}", ["f.yaml:2:12: table.k: an integer ('10') is out of range; must be at most 9"]),
        ("name: a\nelse: 1", ["f.yaml:2:7: else: expected true or false, found an integer ('1')"]),
        ("name: a\nelse_: true", ["f.yaml:2:1: unknown key 'else_'; did you mean 'else'?"]),
        ("name: a\ninner: {x: -1}", ["f.yaml:2:12: x: an integer ('-1') is out of range; must be at least 0"]),
        ("name: a\ninner: {x: 1, y: .nan}", ["f.yaml:2:18: y: nan is not a finite number"]),
        ("name: a\ninner: {x: 1, y: 1e999}", ["f.yaml:2:18: y: inf is not a finite number"]),
        (f"name: a\ninner: {{x: 1, y: {'9' * 390}}}", [f"f.yaml:2:18: y: {'9' * 40} is not a finite number"]),
    ],
)
def test_each_fault_names_its_place_and_remedy(text: str, messages: list[str]) -> None:
    assert faults(text) == messages


def test_every_fault_is_told_at_once() -> None:
    found = faults("nmae: a\nsteps: 99\nmode: x\npoints: [{y: 2}, {x: a, z: 1}]\n")
    assert [text.split(": ")[0].removeprefix("f.yaml:") for text in found] == [
        "1:1",
        "2:8",
        "3:7",
        "4:10",
        "4:14",
        "4:25",
        "4:22",
    ]


def test_the_error_carries_every_problem() -> None:
    with pytest.raises(InputError) as caught:
        decode_or_raise(parse("a: 1\nb: 2", "f.yaml"), Inner)
    assert len(caught.value.problems) == 3
    assert caught.value.exit_code == 2


def test_a_rule_across_fields_is_a_problem_too() -> None:
    @dataclass(frozen=True)
    class Range:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    problems: list[Problem] = []
    node = parse("low: 2\nhigh: 1", "f.yaml")
    # The annotations of a class inside a function cannot be looked up by name.
    Range.__annotations__ = {"low": int, "high": int}
    assert decode(node, Range, problems) is None
    assert [str(p) for p in problems] == ["f.yaml:1:1: low is above high"]


# --- the JSON Schema ------------------------------------------------------------------------------


def test_the_schema_says_what_editors_need() -> None:
    schema = json_schema(Outer)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    found = schema["properties"]
    assert found["name"] == {"type": "string", "minLength": 1, "maxLength": 5, "description": "what it is called"}
    assert found["steps"] == {
        "type": "integer",
        "minimum": 1,
        "exclusiveMaximum": 10,
        "description": "how many",
        "default": 3,
    }
    assert found["words"] == {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3}
    assert found["table"] == {
        "type": "object",
        "additionalProperties": {"type": "integer", "maximum": 9},
        "maxProperties": 2,
    }
    assert found["else"] == {"type": "boolean", "default": False}
    assert found["inner"]["anyOf"][0]["description"] == "A point."
    assert "default" not in found["any"]


def test_fields_know_name_documentation_bounds_and_default() -> None:
    found = {f.name: f for f in fields_of(Outer)}
    assert list(found) == [f.name.rstrip("_") for f in dataclasses.fields(Outer)]
    assert found["steps"].doc == "how many"
    assert found["steps"].bounds == (at.Interval(ge=1, lt=10),)
    assert found["name"].required
    assert found["table"].default == {}
    assert found["else"].attribute == "else_"
    assert math.isclose(found["steps"].default, 3)
