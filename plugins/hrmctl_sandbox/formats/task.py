"""A coding task, as every published format is read into it, and the checks that make a row one."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model import Case, Problem

_TEXTS = ("text", "prefix", "setup", "source")
_REQUIRED = ("task_id", "prompt", "completion", "entry_point")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class BadRow(ValueError):
    """A row is not a task; the message says why."""


@dataclass(frozen=True, slots=True)
class CodeTask:
    """One task: a model continues `prompt`, and `prefix` + completion is the program that is judged.

    `completion` is the reference. `tests` are pieces of Python, run in order after `setup`; `cases` are pairs of
    standard input and expected output for a whole program instead. `shared` tests run in the program's own process.
    """

    task_id: str
    prompt: str
    completion: str = ""
    entry_point: str = ""
    tests: tuple[str, ...] = ()
    text: str = ""
    prefix: str = ""
    setup: str = ""
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()
    shared: bool = False

    @property
    def trusted(self) -> str:
        """What the judge runs before the tests: `setup`, and the functions that the prefix defines for them.

        Those come with the task (HumanEval's `poly`, say), so that a completion cannot replace them.
        """
        helpers = [node for node in _body(self.prefix) if getattr(node, "name", "") != self.entry_point]
        if not any(isinstance(node, _DEFINITIONS) for node in helpers):
            return self.setup
        return "\n".join([self.setup, *(ast.unparse(node) for node in helpers)]).strip()

    def problem(self) -> Problem:
        """The task as the judge takes it."""
        return Problem(
            self.task_id, self.tests, self.entry_point or None, self.trusted, cases=self.cases, shared=self.shared
        )

    def program(self, completion: str) -> str:
        """The program that a completion makes."""
        return self.prefix + completion

    def whole(self, solution: str) -> str:
        """The program that a whole solution makes: a prefix that is no part of the prompt goes before every program."""
        return solution if self.prompt.startswith(self.prefix) else self.prefix + solution

    def row(self) -> dict[str, Any]:
        """The task as a row of a dataset artifact; `cases` and `shared` only where they say something."""
        names = (*_REQUIRED, *_TEXTS)
        row: dict[str, Any] = {name: getattr(self, name) for name in names}
        row |= {"tests": list(self.tests), "meta": dict(self.meta)}
        if self.cases:
            row["cases"] = [{"stdin": case.stdin, "stdout": case.stdout} for case in self.cases]
        return row | ({"shared": True} if self.shared else {})


def _body(prefix: str) -> list[ast.stmt]:
    for source in (prefix, prefix.rstrip() + " pass"):
        try:
            return parsed(source, "the prefix").body
        except BadRow:
            continue
    return []


def checked(row: Mapping[str, Any]) -> CodeTask:
    """The task that a row in hrmctl's own shape is. Raises BadRow.

    `task_id`, `prompt`, `completion` and `entry_point` are texts; `tests` is a list of at least one piece of Python, or
    `cases` one of at least one `{stdin, stdout}`, and then `entry_point` may be empty. `text`, `prefix`, `setup` and
    `source` are texts (default empty), `meta` is a mapping, `shared` true or false.
    """
    unknown = row.keys() - {*_REQUIRED, *_TEXTS, "tests", "meta", "cases", "shared"}
    if unknown:
        raise BadRow(f"unknown field '{min(unknown)}'")
    values: dict[str, Any] = {name: text_of(row, name) for name in _REQUIRED}
    values |= {name: text_of(row, name) for name in _TEXTS if name in row}
    values["meta"] = row.get("meta", {})
    if not isinstance(values["meta"], Mapping):
        raise BadRow("field 'meta' is not a mapping")
    values["shared"] = row.get("shared", False)
    if not isinstance(values["shared"], bool):
        raise BadRow("field 'shared' is neither true nor false")
    if "cases" in row:
        values["cases"] = cases_of(row["cases"])
    if not row.get("cases") or row.get("tests"):
        values["tests"] = tuple(texts_of(row, "tests"))
    return checked_task(CodeTask(**values))


def checked_task(task: CodeTask) -> CodeTask:
    """The task itself. Tests that do not compile fail every program, so they are a fault of the data: raises BadRow."""
    if task.cases and task.tests:
        raise BadRow("has both 'tests' and 'cases'; a program is judged by one of them")
    if task.cases and task.shared:
        raise BadRow("has 'cases', which never share the program's process; leave 'shared' out")
    if not task.task_id:
        raise BadRow("field 'task_id' is empty")
    if not task.entry_point.isidentifier() and not (task.cases and not task.entry_point):
        raise BadRow(f"entry_point {task.entry_point!r} is not a name")
    named = task.meta.get("packages", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise BadRow("meta.packages is not a list of names")
    try:
        # It unparses the prefix, which takes more levels than parsing it.
        _ = task.trusted
    except RecursionError:
        raise BadRow("field 'prefix' is nested too deep") from None
    for name, source in [("setup", task.setup), *(("tests", test) for test in task.tests)]:
        parsed(source, f"field '{name}'")
    return task


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A field that must be text. Raises BadRow."""
    value = row.get(name)
    if value is None:
        raise BadRow(f"no field '{name}'")
    if not isinstance(value, str):
        raise BadRow(f"field '{name}' is not text")
    return value


def texts_of(row: Mapping[str, Any], name: str) -> list[str]:
    """A field that must be a list of at least one text. Raises BadRow."""
    value = row.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise BadRow(f"field '{name}' is not a list of at least one text")
    return value


def cases_of(value: Any, stdin: str = "stdin", stdout: str = "stdout") -> tuple[Case, ...]:
    """The cases of a list of at least one object with the texts `stdin` and `stdout`. Raises BadRow."""
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise BadRow(f"field 'cases' is not a list of at least one {{{stdin}, {stdout}}}")
    return tuple(Case(text_of(item, stdin), text_of(item, stdout)) for item in value)


def parsed(source: str, what: str) -> ast.Module:
    """The syntax tree of `source`. Raises BadRow, which calls it `what`, where it is not Python."""
    try:
        # Published programs hold invalid escapes; that is their affair and no warning of ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadRow(f"{what} is not Python: {getattr(error, 'msg', error)}") from None
