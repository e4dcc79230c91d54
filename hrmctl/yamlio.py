"""YAML with positions: every value knows its file, line and column, so that every fault can name them.

The scalars are those of YAML 1.2's core schema (`yes` and `on` are strings, `6e-3` is a number).
Anchors, aliases, tags and several documents in a file are refused. Size and depth are bounded and
nothing recurses, so that a hostile file costs no more than a small one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any

import yaml

from hrmctl.errors import InputError, Problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 100_000
MAX_PROBLEMS = 100

_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_BARE_REFERENCE = re.compile(r"""[{\[,:]\s*\$\{""")
_REMEDIES = (
    ("mapping values are not allowed", "indent it like its neighbours, or quote text that holds ': '"),
    ("expected ',' or", "close the bracket or put a comma before it; text with , : { } [ ] goes in quotes"),
    ("did not find expected key", "indent it like its neighbours"),
    ("could not find expected ':'", "write key: value, with a space after the colon"),
    ("cannot start any token", "put the text in quotes"),
    ("unexpected end of stream", "close the quotes"),
)
_SPECIAL: Mapping[str, Any] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], float("inf")),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
}


@dataclass(frozen=True, slots=True)
class Node:
    """One YAML value with its place. `value` is a dict of nodes, a list of nodes or a scalar."""

    value: Any
    file: str = ""
    line: int = 0
    column: int = 0
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def problem(self, message: str, remedy: str = "") -> Problem:
        """A fault at this value."""
        return Problem(message, self.file, self.line, self.column, remedy)

    def key_problem(self, key: str, message: str, remedy: str = "") -> Problem:
        """A fault at the key `key` of this mapping."""
        line, column = self.keys.get(key, (self.line, self.column))
        child = self.get(key)
        return Problem(message, child.file if child else self.file, line, column, remedy)

    def get(self, key: str) -> Node | None:
        """The node under `key` when this is a mapping that has it."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    @classmethod
    def of(cls, value: Any, file: str = "") -> Node:
        """A node over plain Python data, for values that do not come from a file."""
        if isinstance(value, Node):
            return value
        if isinstance(value, Mapping):
            return cls({str(k): cls.of(v, file) for k, v in value.items()}, file)
        if isinstance(value, (list, tuple)):
            return cls([cls.of(v, file) for v in value], file)
        return cls(value, file)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    return next(iter(_close(name, sorted(known))), None)


def _close(name: str, known: Sequence[str]) -> list[str]:
    """The known names that are nearest, several where they are equally near."""
    # A colon that is forgotten makes one key of two: `init hrm-tiny`.
    same = [other for other in known if other.lower() in (name.lower(), name.partition(" ")[0])]
    found = same or get_close_matches(name, known, n=3)
    ratios = {other: SequenceMatcher(None, other, name).ratio() for other in found}
    return sorted(other for other in found if ratios[other] == ratios[found[0]])


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest known name, or the list of names when few are known."""
    names = sorted(known)
    close = _close(name, names)
    if close:
        quoted = " or ".join(f"'{other}'" for other in close)
        return f"did you mean {quoted}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 12 else ""


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """A UTF-8 file of at most `limit` bytes. Raises InputError naming the file, and the line if it is not UTF-8."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
        size = max(len(raw), path.stat().st_size)
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"cannot read: {getattr(error, 'strerror', '') or error}", str(path))) from error
    if size > limit:
        raise InputError(Problem(f"{size:,} bytes; the limit is {limit:,}", str(path), remedy="split it"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        fault = Problem(f"not UTF-8 (byte 0x{raw[error.start]:02x})", str(path), line, column, "save it as UTF-8")
        raise InputError(fault) from error


def load(path: Path) -> Node:
    """The one document of a YAML file. Raises InputError with every fault that was found."""
    return parse(read_text(path), str(path))


def load_faulty(path: Path) -> tuple[Node, Sequence[Problem]]:
    """As `load`, but keys that cannot stand (given twice, or no text) are left out and their faults handed over.

    Raises InputError where the rest cannot be told without them.
    """
    builder = _build(read_text(path), str(path))
    return builder.document(strict=builder.foreign), builder.problems


def parse(text: str, file: str = "<text>") -> Node:
    """The one document of `text`. Raises InputError with every fault that was found."""
    return _build(text, file).document()


def _build(text: str, file: str) -> _Builder:
    _refuse_unprintable(text, file)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise InputError(Problem(*_explain(error.problem or "not YAML", text, file, line, column))) from error
    except yaml.YAMLError as error:
        raise InputError(Problem(f"not YAML: {str(error).splitlines()[0]}", file)) from error
    return builder


def _refuse_unprintable(text: str, file: str) -> None:
    found = _UNPRINTABLE.search(text)
    if found is None:
        return
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    remedy = "remove it, or write it as an escape in double quotes"
    raise InputError(Problem(f"the character U+{ord(found[0]):04X} is not allowed", file, line, column, remedy))


def _explain(problem: str, text: str, file: str, line: int, column: int) -> tuple[str, str, int, int, str]:
    rows = text.splitlines()
    row = rows[line - 1] if 0 < line <= len(rows) else ""
    indent = row[: len(row) - len(row.lstrip())]
    if "\t" in indent:
        return "a tab in the indentation", file, line, indent.index("\t") + 1, "indent with spaces"
    if row[column - 1 : column] == "\t" or "'\\t'" in problem:
        return "a tab where YAML allows none", file, line, column, "use spaces"
    if _BARE_REFERENCE.search(row):
        return f"not YAML: {problem}", file, line, column, 'inside { } and [ ] write "${…}" in quotes'
    return f"not YAML: {problem}", file, line, column, next((r for words, r in _REMEDIES if words in problem), "")


class _Builder:
    """Builds the tree from parser events with a stack of its own."""

    def __init__(self, file: str):
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.stack: list[tuple[Node, list[Node | None]]] = []
        self.values = 0
        self.foreign = False  # whether there is what YAML has and hrmctl has not, such as aliases

    def document(self, strict: bool = True) -> Node:
        """The one document. Raises InputError where there is none, and if `strict` with every fault."""
        if strict and self.problems:
            raise InputError(*self.problems)
        if self.root is None:
            raise InputError(Problem("the file is empty", self.file, 1, 1))
        return self.root

    def take(self, event: Any) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            raise InputError(*self.problems)
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._refuse(event)
            self._open(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse(event)
            self._add(self._node(event, _scalar(event)))
        elif isinstance(event, yaml.AliasEvent):
            self._fault(event, "aliases are not part of hrmctl's YAML", "write the value out, or use vars")
            self._add(self._node(event, None))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self.stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            self._fault(event, "a second document in the file", "one document a file")
            raise InputError(*self.problems)

    def _open(self, event: Any, value: Any) -> None:
        node = self._node(event, value)
        if len(self.stack) >= MAX_DEPTH:
            raise InputError(*self.problems, node.problem(f"nested deeper than {MAX_DEPTH} levels"))
        self._add(node)
        self.stack.append((node, [None]))

    def _add(self, node: Node) -> None:
        if not self.stack:
            self.root = self.root or node
            return
        parent, pending = self.stack[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif pending[0] is None:
            pending[0] = node
        else:
            self._pair(parent, pending[0], node)
            pending[0] = None

    def _pair(self, parent: Node, key: Node, node: Node) -> None:
        name = key.value
        if not isinstance(name, str):
            self.problems.append(key.problem(f"a key must be text, not {kind_of(key)}", "put it in quotes"))
        elif name in parent.value:
            first = parent.keys[name]
            self.problems.append(key.problem(f"duplicate key '{name}'", f"first given in line {first[0]}"))
        else:
            parent.value[name] = node
            parent.keys[name] = (key.line, key.column)  # type: ignore[index]

    def _refuse(self, event: Any) -> None:
        if event.anchor:
            self._fault(event, "anchors are not part of hrmctl's YAML", "write the value out, or use vars")
        if event.tag not in (None, "!"):
            self._fault(event, f"tags are not part of hrmctl's YAML ({event.tag})", "remove it")

    def _fault(self, event: Any, message: str, remedy: str) -> None:
        self.foreign = True
        self.problems.append(self._node(event, None).problem(message, remedy))

    def _node(self, event: Any, value: Any) -> Node:
        mark = event.start_mark
        self.values += 1
        if self.values > MAX_VALUES:
            fault = f"more than {MAX_VALUES:,} values"
            raise InputError(*self.problems, Problem(fault, self.file, mark.line + 1, mark.column + 1, "split it"))
        return Node(value, self.file, mark.line + 1, mark.column + 1, {})


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = event.value
    if event.style not in (None, "") or event.tag == "!":
        return text
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) < 400 and _INT.match(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if len(text) < 400 and _FLOAT.match(text):
        return float(text)
    return text


def kind_of(node: Node) -> str:
    """The value's type in words for messages."""
    value = node.value
    if value is None:
        return "nothing"
    for kind, word in ((bool, "true/false"), (int, "an integer"), (float, "a number"), (str, "text"), (list, "a list")):
        if isinstance(value, kind):
            return word
    return "a mapping"
