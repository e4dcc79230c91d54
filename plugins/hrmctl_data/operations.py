"""The typed operations that microcode problems are composed of.

One operation takes a value of one type to a value of one type by one expression. Within a type
no phrase belongs to two operations, so that a request has one reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Kind = Literal["int", "str", "list", "range"]
VARIABLES: dict[Kind, str] = {"int": "n", "str": "s", "list": "xs", "range": "r"}


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One step of a program; compared by identity, for there is one object for each.

    `expression` has the places `{v}` (the variable it reads) and, where `constants` is not empty,
    `{k}` (one of the constants); each phrase says the same in English.
    """

    name: str
    source: Kind
    target: Kind
    expression: str
    phrases: tuple[str, ...]
    constants: tuple[int, ...] = ()

    def code(self, constant: int | None) -> str:
        """The expression as it stands in a program."""
        return self.expression.format(v=VARIABLES[self.source], k=constant)


@cache
def function_of(operation: Operation) -> Any:
    """The operation as `function(value, constant)`, compiled from the very expression that programs show."""
    return eval("lambda v, k: " + operation.expression.format(v="v", k="k"))


def _family(source: Kind, rows: list[tuple[Any, ...]]) -> list[Operation]:
    return [Operation(f"{source}.{name}", source, *rest) for name, *rest in rows]


_SMALL = (2, 3, 4)
_DIGITS = (2, 3, 4, 5, 6, 7, 8, 9)

_INT = _family(
    "int",
    [
        ("add", "int", "{v} + {k}", ("add {k}", "increase it by {k}", "make it {k} larger"), _DIGITS),
        ("subtract", "int", "{v} - {k}", ("subtract {k}", "decrease it by {k}", "make it {k} smaller"), _DIGITS),
        ("multiply", "int", "{v} * {k}", ("multiply it by {k}", "scale it by {k}", "take it {k} times"), _DIGITS),
        (
            "divide",
            "int",
            "{v} // {k}",
            ("floor divide it by {k}", "integer divide it by {k}", "take its quotient by {k}"),
            _DIGITS,
        ),
        (
            "modulo",
            "int",
            "{v} % {k}",
            ("take it modulo {k}", "reduce it modulo {k}", "take its remainder by {k}"),
            _DIGITS,
        ),
        ("square", "int", "{v} * {v}", ("square it", "take its square", "multiply it by itself")),
        ("negate", "int", "-{v}", ("negate it", "flip its sign", "change its sign")),
        ("at_most", "int", "min({v}, {k})", ("cap it at {k}", "make it at most {k}", "limit it to {k}"), _DIGITS),
        (
            "at_least",
            "int",
            "max({v}, {k})",
            ("make it at least {k}", "raise it to at least {k}", "keep it at least {k}"),
            _DIGITS,
        ),
        (
            "digit_sum",
            "int",
            "sum(int(c) for c in str(abs({v})))",
            ("sum its digits", "add up its digits", "take its digit sum"),
        ),
        ("text", "str", "str({v})", ("turn it into text", "write it as text", "make it text")),
        (
            "digits",
            "list",
            "[int(c) for c in str(abs({v}))]",
            ("list its digits", "split it into digits", "take its digits"),
        ),
        ("below", "range", "range({v})", ("take the range below it", "count from 0 to below it", "make its range")),
        (
            "up_to",
            "range",
            "range(1, {v} + 1)",
            ("take the range from 1 to it", "count from 1 to it", "make its range from 1"),
        ),
    ],
)

_STR = _family(
    "str",
    [
        ("upper", "str", "{v}.upper()", ("make it upper case", "turn it into upper case", "upper case it")),
        ("lower", "str", "{v}.lower()", ("make it lower case", "turn it into lower case", "lower case it")),
        ("reverse", "str", "{v}[::-1]", ("reverse it", "flip it", "turn it around", "reverse the text")),
        (
            "first",
            "str",
            "{v}[:{k}]",
            ("take the first {k}", "keep the first {k}", "cut it to {k}", "keep the first {k} letters"),
            _SMALL,
        ),
        (
            "last",
            "str",
            "{v}[-{k}:]",
            ("take the last {k}", "keep the last {k}", "keep {k} at the end", "keep the last {k} letters"),
            _SMALL,
        ),
        (
            "drop",
            "str",
            "{v}[{k}:]",
            ("drop the first {k}", "skip {k}", "remove the first {k}", "drop the first {k} letters"),
            _SMALL,
        ),
        ("step", "str", "{v}[::2]", ("take every second one", "keep every second one", "keep every second letter")),
        (
            "repeat",
            "str",
            "{v} * {k}",
            ("repeat it {k} times", "take it {k} times", "write it {k} times", "repeat the text {k} times"),
            _SMALL,
        ),
        ("sort", "str", "''.join(sorted({v}))", ("sort it", "order it", "put it in order", "sort the letters")),
        ("join", "str", "{v}.replace(' ', '')", ("remove the spaces", "drop the spaces", "cut the spaces")),
        ("length", "int", "len({v})", ("take its length", "measure it", "take its size", "count the letters")),
        ("count_a", "int", "{v}.count('a')", ("count the letter a", "count each a", "count every letter a")),
        (
            "lengths",
            "list",
            "[len(w) for w in {v}.split()]",
            ("list the word lengths", "take the word lengths", "list the length of each word"),
        ),
    ],
)

_LIST = _family(
    "list",
    [
        ("sort", "list", "sorted({v})", ("sort it", "order it", "put it in order", "sort the items")),
        ("descend", "list", "sorted({v})[::-1]", ("sort it down", "order it down", "put it in falling order")),
        ("reverse", "list", "{v}[::-1]", ("reverse it", "flip it", "turn it around", "reverse the items")),
        (
            "first",
            "list",
            "{v}[:{k}]",
            ("take the first {k}", "keep the first {k}", "cut it to {k}", "keep the first {k} items"),
            _SMALL,
        ),
        (
            "last",
            "list",
            "{v}[-{k}:]",
            ("take the last {k}", "keep the last {k}", "keep {k} at the end", "keep the last {k} items"),
            _SMALL,
        ),
        (
            "drop",
            "list",
            "{v}[{k}:]",
            ("drop the first {k}", "skip {k}", "remove the first {k}", "drop the first {k} items"),
            _SMALL,
        ),
        ("step", "list", "{v}[::2]", ("take every second one", "keep every second one", "keep every second item")),
        (
            "add",
            "list",
            "[x + {k} for x in {v}]",
            ("add {k} to each", "increase each by {k}", "make each {k} larger"),
            _DIGITS,
        ),
        (
            "multiply",
            "list",
            "[x * {k} for x in {v}]",
            ("multiply each by {k}", "scale each by {k}", "take each {k} times"),
            _DIGITS,
        ),
        (
            "square",
            "list",
            "[x * x for x in {v}]",
            ("square each", "multiply each by itself", "take the square of each"),
        ),
        (
            "even",
            "list",
            "[x for x in {v} if x % 2 == 0]",
            ("keep the even ones", "take the even ones", "drop the odd ones"),
        ),
        (
            "odd",
            "list",
            "[x for x in {v} if x % 2 == 1]",
            ("keep the odd ones", "take the odd ones", "drop the even ones"),
        ),
        (
            "above",
            "list",
            "[x for x in {v} if x > {k}]",
            ("keep those above {k}", "take those above {k}", "keep each above {k}"),
            _DIGITS,
        ),
        (
            "below",
            "list",
            "[x for x in {v} if x < {k}]",
            ("keep those below {k}", "take those below {k}", "keep each below {k}"),
            _DIGITS,
        ),
        (
            "unique",
            "list",
            "sorted(set({v}))",
            ("sort the unique ones", "order the unique ones", "put the unique ones in order"),
        ),
        (
            "append",
            "list",
            "{v} + [{k}]",
            ("add {k} at the end", "put {k} at the end", "write {k} at the end"),
            _DIGITS,
        ),
        ("sum", "int", "sum({v})", ("sum it", "add it up", "take its sum", "sum the items")),
        ("max", "int", "max({v})", ("take the largest", "keep the largest", "take the largest item")),
        ("min", "int", "min({v})", ("take the smallest", "keep the smallest", "take the smallest item")),
        ("length", "int", "len({v})", ("take its length", "measure it", "take its size", "count the items")),
        (
            "join",
            "str",
            "''.join(str(x) for x in {v})",
            ("join it", "turn it into text", "write it as text", "join the items"),
        ),
    ],
)

_RANGE = _family(
    "range",
    [
        ("reverse", "range", "{v}[::-1]", ("reverse it", "flip it", "turn it around", "reverse the range")),
        (
            "first",
            "range",
            "{v}[:{k}]",
            ("take the first {k}", "keep the first {k}", "cut it to {k}", "keep the first {k} numbers"),
            _SMALL,
        ),
        (
            "drop",
            "range",
            "{v}[{k}:]",
            ("drop the first {k}", "skip {k}", "remove the first {k}", "drop the first {k} numbers"),
            _SMALL,
        ),
        ("step", "range", "{v}[::2]", ("take every second one", "keep every second one", "keep every second number")),
        ("list", "list", "list({v})", ("list it", "make it a list", "turn it into a list")),
        ("squares", "list", "[x * x for x in {v}]", ("square each", "multiply each by itself", "list the squares")),
        (
            "multiples",
            "list",
            "[x for x in {v} if x % {k} == 0]",
            ("keep the multiples of {k}", "take the multiples of {k}", "list the multiples of {k}"),
            _DIGITS,
        ),
        ("sum", "int", "sum({v})", ("sum it", "add it up", "take its sum", "sum the numbers")),
        ("length", "int", "len({v})", ("take its length", "measure it", "take its size", "count the numbers")),
    ],
)

# The order of the words is not always that of the work: what follows "after you" or "but first" comes before.
ORDERS: dict[int, tuple[str, ...]] = {
    1: ("{0}",),
    2: ("{0}, then {1}", "first {0}, then {1}", "{1} after you {0}", "{1}, but first {0}"),
    3: (
        "{0}, then {1}, then {2}",
        "first {0}, then {1}, then {2}",
        "{1} after you {0}, then {2}",
        "{2}, but first {0}, then {1}",
    ),
}

OPERATIONS: tuple[Operation, ...] = (*_INT, *_STR, *_LIST, *_RANGE)
BY_NAME = {operation.name: operation for operation in OPERATIONS}
BY_SOURCE: dict[Kind, tuple[Operation, ...]] = {
    kind: tuple(operation for operation in OPERATIONS if operation.source == kind) for kind in VARIABLES
}
