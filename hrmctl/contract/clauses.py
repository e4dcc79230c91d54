"""Reading clauses with positions; contracts and gates differ only in what may stand left and right."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from hrmctl.contract.spec import COMBINATORS, ORDERED, Clause, Ref
from hrmctl.errors import Problem
from hrmctl.model import MeasureSpec, Verdict
from hrmctl.schema import decode, doc
from hrmctl.yamlio import Node, kind_of, suggest

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%\Z")
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, slots=True)
class ClauseDoc:
    """One check: `left op right`, or one of `all`, `any`, `not` over further checks."""

    id: Annotated[str, doc("name by which controls and verdicts refer to it")] = ""
    left: Annotated[str, doc("path measure.field")] = ""
    op: Annotated[Literal["eq", "ne", "lt", "le", "gt", "ge", "between", "in"] | None, doc("how to compare")] = None
    right: Annotated[Node | None, doc("literal, path, or list of them")] = None
    all: Annotated[tuple[Node, ...], doc("every one must hold")] = ()
    any: Annotated[tuple[Node, ...], doc("at least one must hold")] = ()
    not_: Annotated[Node | None, doc("must not hold")] = None
    else_: Annotated[Literal["INVALID", "FAIL", "INCONCLUSIVE"] | None, doc("verdict when it does not hold")] = None


def section(node: Node, key: str) -> Mapping[str, Node]:
    """The mapping under `key`, empty where there is none (its decoding says so)."""
    child = node.get(key)
    return child.value if child is not None and isinstance(child.value, dict) else {}


def items(node: Node, key: str) -> Sequence[Node]:
    """The list under `key`, empty where there is none."""
    child = node.get(key)
    return child.value if child is not None and isinstance(child.value, list) else []


def check_name(node: Node, key: str, problems: list[Problem]) -> None:
    """A fault where the key of a mapping is no name."""
    if not NAME.match(key):
        problems.append(node.key_problem(key, f"'{key}' is not a name", "letters, digits, _ and -"))


def check_id(root: Node, problems: list[Problem]) -> None:
    """A fault where the document's id is none (it becomes part of `ID/subject@profile`)."""
    node = root.get("id")
    if node is not None and isinstance(node.value, str) and not ID.match(node.value):
        problems.append(node.problem(f"'{node.value}' is not an id", "letters, digits, . _ and -"))


@dataclass(slots=True)
class ClauseReader:
    """Reads clauses; `path` checks a left side, `right` reads a right side, both adding to `problems`."""

    problems: list[Problem]
    path: Callable[[Node], None]
    right: Callable[[Node, str], Any]
    ids: dict[str, Node] = field(default_factory=dict)

    def read(self, node: Node, top: bool = False) -> Clause:
        """The clause at `node`; faults go to `problems` and leave a clause that nobody may use."""
        if not isinstance(node.value, dict):
            remedy = "write {id: …, left: measure.field, op: ge, right: 1}; prose cannot fail"
            self.problems.append(node.problem(f"a check is needed here, found {kind_of(node)}", remedy))
            return Clause("eq")
        head = decode(_in_words(node, self.problems), ClauseDoc, self.problems)
        if head is None:
            return Clause("eq", id=_text(node, "id"))
        self._identify(node, head, top)
        forms = [name for name in (*COMBINATORS, "op") if node.get(name) is not None]
        if len(forms) != 1:
            said = " and ".join(forms) or "neither"
            self.problems.append(node.problem(f"a check has exactly one of op, all, any, not; this has {said}"))
            return Clause("eq", id=head.id)
        otherwise = Verdict(head.else_ or "FAIL")
        if forms[0] == "op":
            return self._comparison(node, head, otherwise)
        parts = (head.not_,) if head.not_ else head.all or head.any
        if node.get("left") or node.get("right"):
            self.problems.append(node.problem(f"'{forms[0]}' takes no left or right"))
        if not parts:
            self.problems.append(node.problem(f"'{forms[0]}' is empty"))
        return Clause(forms[0], head.id, parts=tuple(map(self.read, parts)), otherwise=otherwise, place=node)

    def _identify(self, node: Node, head: ClauseDoc, top: bool) -> None:
        if top and not head.id:
            self.problems.append(node.problem("missing key 'id'", "controls name the clause by it"))
        if head.else_ and not top:
            self.problems.append(node.key_problem("else", "'else' belongs to the outermost check"))
        if not head.id:
            return
        place = node.value["id"]
        if not NAME.match(head.id):
            self.problems.append(place.problem(f"'{head.id}' is not a name", "letters, digits, _ and -"))
        if head.id in self.ids:
            first = self.ids[head.id].line
            self.problems.append(place.problem(f"clause '{head.id}' occurs twice", f"first in line {first}"))
        self.ids.setdefault(head.id, place)

    def _comparison(self, node: Node, head: ClauseDoc, otherwise: Verdict) -> Clause:
        left, right = node.get("left"), head.right
        if left is None or right is None:
            lacking = "left" if left is None else "right"
            self.problems.append(node.problem(f"missing key '{lacking}'", "a comparison has left, op and right"))
            return Clause("eq", id=head.id)
        self.path(left)
        op = str(head.op)
        return Clause(op, head.id, head.left, self.right(right, op), otherwise=otherwise, place=node)


_SIGNS = {"=": "eq", "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def _in_words(node: Node, problems: list[Problem]) -> Node:
    """The clause with its operator as a word; a sign is a fault, and no reason to say nothing of the rest."""
    op = node.get("op")
    word = _SIGNS.get(op.value) if op is not None and isinstance(op.value, str) else None
    if op is None or word is None:
        return node
    problems.append(op.problem(f"op: '{op.value}' is not a choice", f"write {word}"))
    return replace(node, value={**node.value, "op": replace(op, value=word)})


def _text(node: Node, key: str) -> str:
    child = node.get(key)
    return child.value if child is not None and isinstance(child.value, str) else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths that clauses may read: the spec of each measure, None where it could not be read."""

    measures: Mapping[str, MeasureSpec | None]
    problems: list[Problem]

    def check(self, node: Node) -> None:
        """A fault unless the text at `node` is `measure.field` of a measure that returns it."""
        name, dot, key = str(node.value).partition(".")
        if _is_number(str(node.value)):
            self.problems.append(node.problem(f"'{node.value}' is text", "write the number without quotes"))
        elif not dot:
            self.problems.append(node.problem(f"'{node.value}' is not a path", self._whole(name)))
        elif name not in self.measures:
            self.problems.append(node.problem(f"unknown measure '{name}'", suggest(name, self.measures)))
        elif (spec := self.measures[name]) is not None and key not in spec.returns:
            self.problems.append(node.problem(f"{spec.name} returns no '{key}'", suggest(key, spec.returns)))

    def _whole(self, name: str) -> str:
        """The paths that a measure or a field alone may have been meant to be."""
        paths = [
            f"{measure}.{key}"
            for measure, spec in self.measures.items()
            for key in (spec.returns if spec else ())
            if name in (measure, key)
        ]
        return f"write {' or '.join(paths[:6])}" if paths else "write measure.field"

    def right(self, node: Node, op: str) -> Any:
        """The right side of a comparison by `op`: a literal, a path, or a tuple of them for `in` and `between`."""
        if op not in ("in", "between"):
            return self._atom(node, op)
        if not isinstance(node.value, list) or not node.value or (op == "between" and len(node.value) != 2):
            form = "[low, high]" if op == "between" else "[a, b, …]"
            self.problems.append(node.problem(f"'{op}' needs a list on the right", f"write {form}"))
            return ()
        values = tuple(self._atom(child, op) for child in node.value)
        if op == "between" and all(isinstance(v, (int, float)) for v in values) and values[0] > values[1]:
            self.problems.append(node.problem(f"nothing lies between {values[0]} and {values[1]}", "swap them"))
        return values

    def _atom(self, node: Node, op: str) -> Any:
        value = node.value
        if isinstance(value, str) and op in ORDERED and (share := _PERCENT.match(value)):
            self.problems.append(node.problem(f"'{value}' is text", f"write the share as {float(share[1]) / 100:g}"))
            return Ref(value)
        if isinstance(value, str) and (op in ORDERED or ("." in value and value.partition(".")[0] in self.measures)):
            self.check(node)
            return Ref(value)
        if value is None or isinstance(value, (dict, list)):
            self.problems.append(node.problem(f"expected a literal or a path, found {kind_of(node)}"))
        elif isinstance(value, float) and not math.isfinite(value):
            self.problems.append(node.problem(f"{value} is not a finite number"))
        elif op in ORDERED and isinstance(value, bool):
            self.problems.append(node.problem(f"'{op}' compares numbers, found true/false"))
        return value
