"""The gates of `audit.project`: each runs one tool on a tree and says what it found, of how many things looked at.

A tool that fails to look is an error and never a clean result: every gate reads what the tool says it looked at.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal
from xml.etree import ElementTree

from annotated_types import Ge, MinLen

from hrmctl import StageError
from hrmctl.schema import decode_or_raise, doc
from hrmctl.yamlio import parse, read_text
from hrmctl_audit.params import ProjectParams

SECURITY_SCOPE = "plugins/hrmctl_sandbox"
SECURITY_ALLOWED = "docs/security-allowed.yaml"
_SOURCES = ("hrmctl", "plugins", "tests", "benchmarks", "tools")
_HEADER = re.compile(r"SPDX-License-Identifier:\s*(\S+)")
_NAMES = {"Apache-2.0": ("Apache License", "Version 2.0, January 2004")}
"""What the first lines of a licence's text say, by SPDX identifier."""
_SECONDS = 3600
TESTS_SUMMARY = "tests.txt"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: the gate that found it, where, and what it says."""

    gate: str
    place: str
    text: str


Found = tuple[list[Finding], int]


@dataclass(frozen=True)
class Tree:
    """A source tree at `root` under audit; `work` is a folder for what the tools write."""

    root: Path
    work: Path
    params: ProjectParams
    check: Callable[[], None]

    @property
    def project(self) -> str:
        """The project's name. Raises StageError without a pyproject.toml that says it."""
        return str(self.setting("project", "name"))

    def setting(self, *path: str) -> Any:
        """A value of pyproject.toml. Raises StageError where it is not there."""
        try:
            value: Any = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
            for key in path:
                value = value[key]
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise StageError(f"the tree has no pyproject.toml with {'.'.join(path)} ({error}); give it too") from error
        return value

    def python(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run this Python on the tree's code."""
        return self.run(sys.executable, *argv)

    def tool(self, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run the tool `name` that is installed beside this Python. Raises StageError where it is not."""
        path = Path(sys.executable).with_name(name)
        if not path.exists():
            raise StageError(f"{name} is not installed beside {sys.executable}; pip install 'hrmctl[dev]'")
        return self.run(str(path), *argv)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the tree, whose own code comes first."""
        self.check()
        code = os.pathsep.join([str(self.root), str(self.root / "plugins")])
        environment = {**os.environ, "PYTHONPATH": code, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
        for name in ("HRMCTL_PLUGINS", "PYTEST_ADDOPTS", "MYPYPATH"):
            environment.pop(name, None)
        try:
            return subprocess.run(
                argv, cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise StageError(f"{Path(argv[0]).name} did not end within {_SECONDS} s") from error


def _refuse(done: subprocess.CompletedProcess[str], *good: int) -> None:
    """Raises StageError where a tool ended with another status than those of having looked."""
    if done.returncode not in good:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise StageError(f"{Path(done.args[0]).name} {done.args[1]} ended with {done.returncode}: {last}")


# --- ruff, mypy, import-linter ----------------------------------------------------------------------


def formatting(tree: Tree) -> Found:
    """Files that `ruff format` would write otherwise."""
    spots = _ruff(tree, "format", "--check", ".")
    return [Finding("format", *spot) for spot in spots], len(_python_files(tree, "."))


def _python_files(tree: Tree, where: str) -> list[str]:
    done = tree.tool("ruff", "check", "--no-cache", "--show-files", where)
    _refuse(done, 0)
    return [line for line in done.stdout.splitlines() if line.endswith((".py", ".pyi"))]


def lint(tree: Tree) -> Found:
    """Warnings of `ruff check` by the project's own rules."""
    return [Finding("lint", *spot) for spot in _ruff(tree, "check", ".")], len(_python_files(tree, "."))


def _ruff(tree: Tree, command: str, *argv: str) -> list[tuple[str, str]]:
    done = tree.tool("ruff", command, "--no-cache", "--output-format", "json", *argv)
    _refuse(done, 0, 1)
    rows = json.loads(done.stdout)
    if bool(rows) != bool(done.returncode):
        _refuse(done)
    return [(f"{_short(row, tree)}:{row['location']['row']}", f"{row['code']} {row['message']}") for row in rows]


def _short(row: Mapping[str, Any], tree: Tree) -> str:
    return os.path.relpath(os.path.realpath(row["filename"]), os.path.realpath(tree.root))


def types(tree: Tree) -> Found:
    """Errors of mypy by the project's own settings."""
    done = tree.tool("mypy", "--cache-dir", str(tree.work / "mypy"), "--no-color-output")
    _refuse(done, 0, 1)
    errors = re.findall(r"^(\S+?:\d+): error: (.*)$", done.stdout, re.MULTILINE)
    if bool(errors) != bool(done.returncode):
        _refuse(done)
    seen = re.search(r"(?:in|checked) (\d+) source files", done.stdout)
    return [Finding("types", *error) for error in errors], int(seen[1]) if seen else 0


def imports(tree: Tree) -> Found:
    """Contracts of import-linter that are broken."""
    done = tree.tool("lint-imports", "--no-cache")
    seen = re.search(r"Contracts: (\d+) kept, (\d+) broken", done.stdout)
    if seen is None:
        _refuse(done)
        raise AssertionError
    broken = re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE)
    if len(broken) != int(seen[2]):
        _refuse(done)
    return [Finding("imports", "pyproject.toml", name) for name in broken], int(seen[1]) + int(seen[2])


# --- tests, documentation ---------------------------------------------------------------------------


def tests(tree: Tree) -> Found:
    """Tests that fail or cannot be collected, of those that `params.tests` selects; n are the tests that ran."""
    report = tree.work / "tests.xml"
    everything = ("-m", "") if tree.params.every else ()
    options = ("-q", "-p", "no:cacheprovider", f"--junitxml={report}", *everything)
    done = tree.python("-m", "pytest", *options, *tree.params.tests)
    if not report.is_file():
        _refuse(done)
        raise AssertionError
    cases = list(ElementTree.parse(report).iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    ran = [case for case in cases if case.find("skipped") is None]
    if done.returncode not in (0, 1) and not bad:
        _refuse(done)
    (tree.work / TESTS_SUMMARY).write_text(done.stdout, encoding="utf-8")
    return [Finding("tests", _test_name(case), _test_text(case)) for case in bad], len(ran)


def left_out(tree: Tree, ran: int) -> tuple[int, int]:
    """How many tests were skipped or deselected by a marker while the gate `tests` ran `ran`; and how many in all.

    What is deselected stands in no report of pytest but in its last line.
    """
    last = (tree.work / TESTS_SUMMARY).read_text(encoding="utf-8").strip().rpartition("\n")[2]
    left = sum(int(n) for n in re.findall(r"\b(\d+) (?:skipped|deselected)\b", last))
    return left, ran + left


def _test_name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _test_text(case: ElementTree.Element) -> str:
    found = case.find("failure")
    found = found if found is not None else case.find("error")
    return str(found.get("message", "") if found is not None else "").partition("\n")[0][:200]


def documentation(tree: Tree) -> Found:
    """Generated pages and schemas that are not what the code generates now."""
    page, schemas = tree.work / "reference.md", tree.work / "schema"
    schemas.mkdir(exist_ok=True)
    _refuse(tree.python("-m", "hrmctl.reference", str(page), str(schemas)), 0)
    _refuse(tree.python("-m", "hrmctl_reporters.schema", str(schemas / "check.json")), 0)
    pairs = {page: "docs/reference.md"} | {p: f"docs/schema/{p.name}" for p in sorted(schemas.iterdir())}
    stale = [
        name
        for made, name in pairs.items()
        if not (tree.root / name).is_file() or not filecmp.cmp(made, tree.root / name, shallow=False)
    ]
    return [Finding("docs", name, "is not what the code generates; make docs") for name in stale], len(pairs)


# --- security, licences -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Allowed:
    """Findings of one rule in one file that were looked at, and why they are no risk."""

    file: Annotated[str, MinLen(1), doc("path in the tree")]
    rule: Annotated[str, MinLen(1), doc("ruff's code, such as S102")]
    findings: Annotated[int, Ge(1), doc("how many; one more is a finding again")]
    why: Annotated[str, MinLen(20), doc("why this is as it should be")]


@dataclass(frozen=True)
class AllowedList:
    """The findings of the security scan that are explained."""

    kind: Annotated[Literal["security-allowed"], doc("what this file is")]
    allowed: Annotated[tuple[Allowed, ...], doc("one row for each file and rule")]


def security(tree: Tree) -> Found:
    """Findings of flake8-bandit's rules in what runs foreign programs, without those that are explained.

    `noqa` is not heeded. An explanation of findings that are not there is a finding itself.
    """
    spots = _ruff(tree, "check", "--select", "S", "--ignore-noqa", SECURITY_SCOPE)
    allowed = decode_or_raise(parse(read_text(tree.root / SECURITY_ALLOWED), SECURITY_ALLOWED), AllowedList).allowed
    seen = Counter((place.rpartition(":")[0], text.partition(" ")[0]) for place, text in spots)
    known = {(row.file, row.rule): row.findings for row in allowed}
    found = [
        Finding("security", place, text)
        for place, text in spots
        if seen[key := (place.rpartition(":")[0], text.partition(" ")[0])] != known.get(key)
    ]
    stale = [key for key in known if key not in seen]
    found += [Finding("security", file, f"{rule} is allowed and does not occur") for file, rule in stale]
    return found, len(_python_files(tree, SECURITY_SCOPE))


def licences(tree: Tree) -> Found:
    """Source files of which neither a header nor REUSE.toml says that they have the project's licence."""
    wanted = str(tree.setting("project", "license"))
    entries = list(_annotations(tree))
    files = sorted(p for name in _SOURCES for p in (tree.root / name).rglob("*.py"))
    found = list(_licence_text(tree, wanted))
    for path in files:
        name = path.relative_to(tree.root).as_posix()
        header = _HEADER.search("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:5]))
        said = header[1] if header else next((licence for glob, licence in entries if fnmatch(name, glob)), "")
        if said != wanted:
            found.append(Finding("licences", name, f"says {said}, not {wanted}" if said else "has no licence"))
    return found, len(files)


def _annotations(tree: Tree) -> Iterator[tuple[str, str]]:
    """Globs and their licence from REUSE.toml (version 3.2 of the REUSE specification); `**` is any path."""
    path = tree.root / "REUSE.toml"
    rows: Sequence[Mapping[str, Any]] = tomllib.loads(path.read_text()).get("annotations", []) if path.is_file() else []
    for row in rows:
        globs = [row["path"]] if isinstance(row["path"], str) else row["path"]
        yield from ((glob, row["SPDX-License-Identifier"]) for glob in globs)


def _licence_text(tree: Tree, wanted: str) -> Iterator[Finding]:
    path = tree.root / "LICENSE"
    head = " ".join(path.read_text(encoding="utf-8")[:500].split()) if path.is_file() else ""
    if not all(words in head for words in _NAMES.get(wanted, ("\0",))):
        yield Finding("licences", "LICENSE", f"is not the text of {wanted}")


GATES: Mapping[str, Callable[[Tree], Found]] = {
    "format": formatting,
    "lint": lint,
    "types": types,
    "imports": imports,
    "tests": tests,
    "docs": documentation,
    "security": security,
    "licences": licences,
}
