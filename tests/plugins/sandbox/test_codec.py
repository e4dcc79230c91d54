"""Values survive the pipe as what they were; trees that no encoder makes are refused."""

from __future__ import annotations

import collections
import datetime
import enum
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hrmctl_sandbox import wire
from hrmctl_sandbox.codec import Decoder, Encoder, Malformed
from hrmctl_sandbox.exceptions import describe, rebuild
from hypothesis import given
from hypothesis import strategies as st

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=1 << 60, max_value=1 << 400)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas()
    | st.sampled_from([..., NotImplemented, int, str, dict, type(None), range(3), range(0, 1 << 90, 7)])
    | st.sampled_from([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)])
)


def _containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(children, max_size=4)
        | st.lists(children, max_size=4).map(tuple)
        | st.lists(children, max_size=4).map(lambda items: collections.deque(items, maxlen=7))
        | st.dictionaries(SCALARS, children, max_size=4)
        | st.dictionaries(SCALARS, children, max_size=4).map(collections.OrderedDict)
        | st.dictionaries(SCALARS, children, max_size=4).map(lambda items: collections.defaultdict(list, items))
        | st.sets(SCALARS, max_size=4)
        | st.frozensets(SCALARS, max_size=4)
        | st.binary().map(bytearray)
        | st.lists(st.integers(), max_size=4).map(collections.Counter)
    )


def _no_opaque(value: object) -> Any:
    raise AssertionError(f"not data: {value!r}")


def passed_through(value: Any) -> Any:
    """`value` after a round trip over the pipe."""
    tree = wire.loads(wire.dumps(Encoder(_no_opaque).encode(value)))
    return Decoder(_no_opaque).decode(tree)


def same(left: Any, right: Any) -> bool:
    """Equality that also compares the types, all the way down."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, dict):
        return all(same(a, b) for a, b in zip(left.items(), right.items(), strict=True))
    if isinstance(left, (list, tuple, collections.deque)):
        return all(same(a, b) for a, b in zip(left, right, strict=True))
    return True


@given(st.recursive(SCALARS, _containers, max_leaves=12))
def test_round_trip(value: Any) -> None:
    assert same(passed_through(value), value)


def test_scalars_that_equality_cannot_tell() -> None:
    assert math.isnan(passed_through(float("nan")))
    assert math.copysign(1, passed_through(-0.0)) == -1
    assert type(passed_through([True, 1, 1.0])[0]) is bool
    assert passed_through("\ud83d\ude00") == "\ud83d\ude00" != "\U0001f600"
    assert passed_through(Decimal("sNaN")).is_snan()
    assert passed_through(collections.defaultdict(int))["x"] == 0
    assert passed_through({2: 1, 1: 2}.keys()) == {1, 2}


def test_aliases_and_cycles_survive() -> None:
    inner: list[Any] = [1]
    outer = passed_through([inner, inner, (inner,)])
    assert outer[0] is outer[1] is outer[2][0]
    inner.append(inner)
    loop = passed_through(inner)
    assert loop[1] is loop


class _Integer(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class _Text(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class _List(list):  # type: ignore[type-arg]
    def __eq__(self, other: object) -> bool:
        return True


class _Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [(_Integer(5), 5), (_Text("x"), "x"), (_List([1]), [1]), (_Colour.RED, 1), (Point(1, 2), (1, 2))],
)
def test_subclasses_arrive_as_what_they_derive_from(value: Any, plain: Any) -> None:
    found = passed_through(value)
    assert type(found) is type(plain)
    assert found == plain


def test_changed_containers_are_refilled_in_place() -> None:
    mine: dict[str, Any] = {"a": [1], "b": {2}}
    encoder = Encoder(_no_opaque)
    there = Decoder(_no_opaque)
    theirs = there.decode(encoder.encode(mine))
    theirs["a"].append(theirs)
    theirs["c"] = theirs["b"]
    back = Encoder(_no_opaque, there.objects)
    trees = [back.content(item) for item in there.objects]
    decoder = Decoder(_no_opaque, encoder.objects)
    for target, tree in zip(encoder.objects, trees, strict=True):
        decoder.refill(target, tree)
    assert mine["a"][1] is mine
    assert mine["c"] is mine["b"]


@pytest.mark.parametrize(
    "tree",
    [[], {}, ["r", 0], ["r", -1], ["r", True], ["i", "x"], ["S", ["l"]], ["d", 1], ["R", "a", 1, 1], ["da", 0, 0, 0],
     ["T", "os"], ["u", "zz"], ["b", 1], ["q", "x"], ["dd", "x"], ["dt", 1], ["f", 1, 0], ["D", "x"], [[]], [None],
     ["tm", 1, 1, 1, 1, 1, 1e300], ["l", ["r", -1]], ["l", {}]],
)  # fmt: skip
def test_malformed_trees_are_refused(tree: Any) -> None:
    with pytest.raises(Malformed):
        Decoder(_refuse).decode(tree)


def _refuse(tree: list[Any]) -> object:
    raise Malformed("unknown tag")


def test_refilling_with_another_kind_is_refused() -> None:
    for tree in (["d"], ["S"], 1, [], None, ["l", 1, ["Z"]]):
        with pytest.raises(Malformed):
            Decoder(_refuse).refill([], tree)


class _Own(KeyError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("x", 1), ValueError, "('x', 1)"),
        (KeyError("k"), KeyError, "'k'"),
        (_Own("k"), KeyError, "\"'k'\""),
        (OSError(1, "no"), PermissionError, "[Errno 1] no"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), ValueError, "('utf-8', \"b'x'\", 0, 1)"),
        (SystemExit(3), SystemExit, "3"),
        (ValueError(10**5000), RuntimeError, "an exception that cannot be described"),
    ],
)
def test_exceptions_survive_as_the_nearest_builtin(error: BaseException, kind: type, text: str) -> None:
    found = rebuild(*wire.loads(wire.dumps(describe(error))))
    assert isinstance(found, kind)
    assert str(found) == text


@pytest.mark.parametrize(
    ("name", "arguments"), [("eval", []), ("int", []), (["x"], []), ("ValueError", "x"), (None, [])]
)
def test_other_things_are_no_exceptions(name: object, arguments: object) -> None:
    with pytest.raises(Malformed):
        rebuild(name, arguments)


def test_integers_of_any_size() -> None:
    for number in (1 << 63, -(1 << 63) - 1, 7**20000, -(7**20000)):
        assert passed_through(number) == number


def test_fractions_and_decimals_stay_exact() -> None:
    assert passed_through(Fraction(1, 10**50)) == Fraction(1, 10**50)
    assert str(passed_through(Decimal("1.10"))) == "1.10"
