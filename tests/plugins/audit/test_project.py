"""`audit.project` and `audit.startup`: each gate finds what is planted, and none passes without having looked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hrmctl_audit import project
from hrmctl_audit.gates import GATES, Tree, left_out
from hrmctl_audit.params import ProjectParams, StartupParams
from hrmctl_audit.project import run
from hrmctl_audit.startup import run as startup

from hrmctl import StageError
from hrmctl.testing import make_artifact, make_context

PYPROJECT = """\
[project]
name = "small"
license = "Apache-2.0"
[tool.ruff.lint]
select = ["F"]
[tool.mypy]
strict = true
packages = ["hrmctl"]
[tool.importlinter]
root_package = "hrmctl"
[[tool.importlinter.contracts]]
name = "low does not know high"
type = "forbidden"
source_modules = ["hrmctl.low"]
forbidden_modules = ["hrmctl.high"]
"""
ALLOWED = """\
kind: security-allowed
allowed:
  - {file: plugins/hrmctl_sandbox/run.py, rule: S102, findings: 1, why: it is there to run programs}
"""
REFERENCE = """\
import pathlib
import sys

pathlib.Path(sys.argv[1]).write_text("page")
pathlib.Path(sys.argv[2], "a.json").write_text("{}")
"""
FORM = 'import pathlib\nimport sys\n\npathlib.Path(sys.argv[1]).write_text("{}")\n'
LICENSE = "Apache License\nVersion 2.0, January 2004\n"
FILES = {
    "pyproject.toml": PYPROJECT,
    "LICENSE": LICENSE,
    "REUSE.toml": 'version = 1\n[[annotations]]\npath = ["**"]\nSPDX-License-Identifier = "Apache-2.0"\n',
    "hrmctl/__init__.py": "",
    "hrmctl/low.py": "LOW = 1\n",
    "hrmctl/high.py": "from hrmctl.low import LOW as LOW\n",
    "hrmctl/reference.py": REFERENCE,
    "plugins/hrmctl_reporters/__init__.py": "",
    "plugins/hrmctl_reporters/schema.py": FORM,
    "plugins/hrmctl_sandbox/run.py": 'exec("1")\n',
    "tests/test_low.py": "from hrmctl.low import LOW\n\n\ndef test_low():\n    assert LOW == 1\n",
    "docs/reference.md": "page",
    "docs/schema/a.json": "{}",
    "docs/schema/check.json": "{}",
    "docs/security-allowed.yaml": ALLOWED,
}
PLANTED = {
    "format": ("hrmctl/low.py", "LOW = (1)  \n"),
    "lint": ("hrmctl/low.py", "import os\n\nLOW = 1\n"),
    "types": ("hrmctl/low.py", 'LOW: int = "1"\n'),
    "imports": ("hrmctl/low.py", "import hrmctl.high\n\nLOW = 1\n"),
    "tests": ("tests/test_low.py", "def test_low():\n    assert False\n"),
    "docs": ("docs/schema/a.json", "{ }"),
    "security": ("plugins/hrmctl_sandbox/run.py", 'exec("1")\nexec("2")  # noqa: S102\n'),
    "licences": ("hrmctl/low.py", "# SPDX-License-Identifier: MIT\nLOW = 1\n"),
}


def tree(folder: Path, **changed: str) -> Tree:
    for name, text in (FILES | changed).items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "work").mkdir()
    return Tree(folder / "tree", folder / "work", ProjectParams(), lambda: None)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return tree(tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("gate", GATES)
def test_a_clean_tree_has_no_findings_and_was_looked_at(gate, clean):
    found, n = GATES[gate](clean)
    assert found == []
    assert n >= 1


def test_what_is_skipped_and_what_is_deselected_did_not_run(tmp_path):
    text = """\
import pytest

def test_runs(): pass
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.slow
def test_slow(): pass
@pytest.mark.slow
def test_slower(): pass
"""
    options = '[tool.pytest.ini_options]\naddopts = "-m \'not slow\'"\nmarkers = ["slow: slow"]\n'
    small = tree(tmp_path, **{"tests/test_low.py": text, "pyproject.toml": PYPROJECT + options})
    found, n = GATES["tests"](small)
    assert (found, n) == ([], 1)
    assert left_out(small, n) == (3, 4)
    whole = replace(small, params=ProjectParams(every=True))
    found, n = GATES["tests"](whole)
    assert (found, n, left_out(whole, n)) == ([], 3, (1, 4))


def test_where_everything_ran_nothing_is_left_out(clean):
    _, n = GATES["tests"](clean)
    assert left_out(clean, n) == (0, 1)


@pytest.mark.parametrize("gate", GATES)
def test_what_is_planted_is_found_at_its_place(gate, tmp_path):
    name, text = PLANTED[gate]
    found, _ = GATES[gate](tree(tmp_path, **{name: text}))
    assert found
    place = {"imports": "pyproject.toml", "tests": "tests.test_low"}.get(gate, name)
    assert all(finding.gate == gate and place in finding.place for finding in found)


@pytest.mark.parametrize(
    ("gate", "changed"),
    [
        ("tests", {"tests/test_low.py": "import nothing_of_the_kind\n"}),
        ("security", {"plugins/hrmctl_sandbox/run.py": "print(1)\n"}),
        ("licences", {"REUSE.toml": "version = 1\n"}),
        ("licences", {"LICENSE": "All rights reserved.\n"}),
        ("docs", {"docs/reference.md": "pag"}),
        ("docs", {"docs/schema/check.json": "{ }"}),
    ],
    ids=[
        "a test that cannot be collected",
        "an explanation of nothing",
        "no licence",
        "another text",
        "a stale page",
        "a stale form",
    ],
)
def test_other_faults_of_a_gate(gate, changed, tmp_path):
    assert GATES[gate](tree(tmp_path, **changed))[0]


@pytest.mark.parametrize(
    ("gate", "changed"),
    [
        ("tests", {"tests/test_low.py": "LOW = 1\n"}),
        ("types", {"pyproject.toml": PYPROJECT.replace('packages = ["hrmctl"]', 'packages = ["nothing_here"]')}),
        ("imports", {"pyproject.toml": PYPROJECT.partition("[tool.importlinter]")[0]}),
        ("docs", {"hrmctl/reference.py": "raise SystemExit(3)\n"}),
        ("docs", {"plugins/hrmctl_reporters/schema.py": "raise SystemExit(3)\n"}),
        ("lint", {"pyproject.toml": PYPROJECT.replace('["F"]', '["NOPE"]')}),
    ],
)
def test_a_tool_that_did_not_look_is_an_error(gate, changed, tmp_path):
    with pytest.raises(StageError, match="ended with"):
        GATES[gate](tree(tmp_path, **changed))


def test_a_skipped_test_has_not_run(tmp_path):
    text = FILES["tests/test_low.py"] + "\n\ndef test_skipped():\n    import pytest\n\n    pytest.skip('no')\n"
    assert GATES["tests"](tree(tmp_path, **{"tests/test_low.py": text})) == ([], 1)


def test_options_from_outside_choose_no_tests(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--deselect tests/test_low.py::test_low")
    assert GATES["tests"](tree(tmp_path))[1] == 1


def parts(root: Path):
    return tuple(make_artifact(path, "report", f"./{path.name}") for path in sorted(root.iterdir()))


def test_the_stage_reports_every_gate_and_names_the_tests_that_ran(tmp_path, monkeypatch):
    # Each tool is run for real above; here only two of the gates, for time.
    monkeypatch.setattr(project, "GATES", {name: GATES[name] for name in ("tests", "licences")})
    made = tree(tmp_path, **{"hrmctl/low.py": "# SPDX-License-Identifier: MIT\nLOW = 1\n"})
    result = run(ProjectParams(tests=("tests/test_low.py",)), {"tree": parts(made.root)}, make_context(tmp_path))
    seen = {
        o.name: (o.payload["value"], o.payload["n"], {r: a.label for r, a in o.about.items()}) for o in result.evidence
    }
    tests = {"tests": "small@tests/test_low.py"}
    assert seen == {"tests": (0, 1, tests), "licences": (1, 8, {"project": "small"}), "tests_not_run": (0, 1, tests)}
    rows = [json.loads(line) for line in result.artifacts["findings"].path.read_text().splitlines()]
    assert rows[0] == {"gate": "licences", "findings": 1}
    assert rows[1]["place"] == "hrmctl/low.py"


def test_a_tree_whose_code_is_not_the_one_imported_is_refused(tmp_path):
    made = tree(tmp_path)
    given = tuple(part for part in parts(made.root) if part.label != "./hrmctl")
    with pytest.raises(StageError, match="not from the tree"):
        run(ProjectParams(), {"tree": given}, make_context(tmp_path))


def test_one_part_twice_is_refused(tmp_path):
    part = parts(tree(tmp_path).root)[0]
    with pytest.raises(StageError, match="no part of a tree"):
        run(ProjectParams(), {"tree": (part, part)}, make_context(tmp_path))


def test_a_tool_that_is_not_installed_says_so(clean):
    with pytest.raises(StageError, match=r"pip install 'hrmctl\[dev\]'"):
        clean.tool("no-such-tool")


def test_options_are_no_tests():
    with pytest.raises(ValueError, match="'-k' is no path"):
        ProjectParams(tests=("tests", "-k"))


def test_both_are_started_as_often_as_asked(tmp_path):
    result = startup(StartupParams(trials=5), {}, make_context(tmp_path))
    seen = {o.name: o.payload for o in result.evidence}
    assert set(seen) == {"help_seconds", "typer_seconds"}
    for payload in seen.values():
        assert payload["n"] == len(payload["trials"]) == 5
        assert payload["value"] == sorted(payload["trials"])[2] > 0.01
