"""Every hook does its work in one real run, has a test here and an entry in the reference."""

from __future__ import annotations

import ast
import json
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hrmctl import (
    CheckReport,
    RunFinished,
    RunStarted,
    StageFinished,
    StageProgress,
    StageStarted,
    StageWarned,
    Verdict,
    cli,
    doctor,
    hookspecs,
)
from hrmctl.errors import InputError
from hrmctl.plugins import Catalog, Plugin, catalog
from hrmctl.reference import describe
from hrmctl.registry import resolve
from hrmctl.run.pipeline import PipelineResult

from .lab import open_store, run_lab, write_contract, write_lab, write_recipe


def plugin(name: str, folder: Path | None = None) -> Plugin:
    return next(p for p in catalog(folder).plugins if p.name == name)


# --- every hook does its work ---------------------------------------------------------------------

EVERY = """
from hrmctl import ArchitectureSpec, CommandSpec, DatasetSpec, DiagnosticSpec, ExecutorSpec, Finding, ReporterSpec
from hrmctl_local.executor import LocalExecutor

HEARD = []
STARTED = []

class Traced(LocalExecutor):
    def start(self, call):
        STARTED.append(call.stage)
        super().start(call)

def traced(capacity):
    return Traced(capacity)

def shown(report):
    return f"lab says {[j.verdict.value for j in report.judgements]}"

def asked():
    return Finding("lab question", "ok", "all is well")

@hookimpl
def hrmctl_architectures():
    return [ArchitectureSpec("lab-tiny", "a tiny one", f"{__name__}:config")]

def greet(name: str, loudly: bool = False):
    print(f"hello {name}" + ("!" if loudly else ""))
    return 3

@hookimpl
def hrmctl_commands():
    return [CommandSpec("greet", "say hello", f"{__name__}:greet")]

@hookimpl
def hrmctl_datasets():
    place = f"{__name__}:rows"
    return [DatasetSpec("labdata", "some data", "https://example.org", "0" * 64, "MIT", {"test": 3}, place)]

@hookimpl
def hrmctl_executors():
    return [ExecutorSpec("traced", "here", f"{__name__}:traced")]

@hookimpl
def hrmctl_reporters():
    return [ReporterSpec("lab", "in words", f"{__name__}:shown")]

@hookimpl
def hrmctl_diagnostics():
    return [DiagnosticSpec("lab question", "how it is", f"{__name__}:asked")]

@hookimpl
def hrmctl_run_started(event):
    HEARD.append(event)

@hookimpl
def hrmctl_stage_started(event):
    HEARD.append(event)

@hookimpl
def hrmctl_stage_progress(event):
    HEARD.append(event)

@hookimpl
def hrmctl_stage_warned(event):
    HEARD.append(event)

@hookimpl
def hrmctl_stage_finished(event):
    HEARD.append(event)

@hookimpl
def hrmctl_verdict_reached(event):
    HEARD.append(event)

@hookimpl
def hrmctl_run_finished(event):
    HEARD.append(event)
"""


@dataclass
class Whole:
    """One run with a plugin that implements every hook."""

    folder: Path
    found: Catalog
    result: PipelineResult
    module: Any

    def heard(self, kind: type) -> list[Any]:
        return [event for event in self.module.HEARD if isinstance(event, kind)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = write_lab(tmp_path_factory.mktemp("whole"), EVERY)
    write_contract(folder)
    recipe = write_recipe(
        folder,
        """
        stages:
          data: {uses: lab.make}
          a: {uses: lab.train, with: {data: "${data.data}", warn: 1}}
        contracts: [loss.yaml]
        """,
    )
    result = run_lab(recipe, executor="traced", trackers=["mirror"])
    found = catalog(folder)
    return Whole(folder, found, result, plugin("hrmctl_plugins.py", folder).module)


def test_hook_hrmctl_stages(whole: Whole) -> None:
    assert whole.result.status == "done"
    assert whole.found.stage("lab.train").summary == "train"
    assert whole.found.owner["lab.train"].name == "hrmctl_plugins.py"
    assert "| `steps` | int | `3` | number of steps |" in describe("stages", whole.found.stage("lab.train"))
    with pytest.raises(InputError, match=r"unknown stage 'lab.trian'; did you mean 'lab.train'\?"):
        whole.found.stage("lab.trian")


def test_hook_hrmctl_measures(whole: Whole) -> None:
    check = whole.result.check
    assert check is not None
    assert check.judgements[0].measured == {"v": {"value": 13 / 3, "n": 3}}
    assert "Takes 1 of `measurement/v1`." in describe("measures", whole.found.measures["lab_value"])


def test_hook_hrmctl_architectures(whole: Whole) -> None:
    assert whole.found.architectures["lab-tiny"].summary == "a tiny one"


def test_hook_hrmctl_datasets(whole: Whole) -> None:
    assert "Splits: test 3. Licence: MIT." in describe("datasets", whole.found.datasets["labdata"])


def test_hook_hrmctl_commands(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(whole.folder)
    assert cli.run(["greet", "lab", "--loudly"]) == 3
    assert cli.run(["greet"]) == 2
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("hello lab!\n")
    assert "say hello" in shown.out
    assert shown.err == "hrmctl: Missing argument 'name'; see hrmctl greet --help\n"


def test_hook_hrmctl_executors(whole: Whole) -> None:
    assert whole.module.STARTED == ["data", "a"]


def test_hook_hrmctl_reporters(whole: Whole) -> None:
    check = CheckReport("c", "r", whole.result.check.judgements if whole.result.check else (), 0)
    assert resolve(whole.found.reporters["lab"].target)(check) == "lab says ['PASS']"


def test_hook_hrmctl_trackers(whole: Whole) -> None:
    path = open_store(whole.folder).run_folder(whole.result.run) / "mirror.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(stage, step) for stage, step, _ in rows] == [("a", 1), ("a", 2), ("a", 3)]
    assert rows[0][2] == {"loss": 13.0, "rate": 1.0}


def test_hook_hrmctl_diagnostics(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole.folder)
    findings = {f.subject: f for f in doctor.examine(whole.folder / "store")}
    assert findings["lab question"].detail == "all is well"
    assert findings["store"].detail.startswith(f"{whole.folder / 'store'}: 1 runs")


def test_hook_hrmctl_run_started(whole: Whole) -> None:
    (event,) = whole.heard(RunStarted)
    assert event.run == whole.result.run
    assert event.stages == ["data", "a"]
    assert event.folder == whole.folder / "store" / "runs" / event.run


def test_hook_hrmctl_stage_started(whole: Whole) -> None:
    assert [(e.stage, e.uses, e.cached) for e in whole.heard(StageStarted)] == [
        ("data", "lab.make", False),
        ("a", "lab.train", False),
    ]


def test_hook_hrmctl_stage_progress(whole: Whole) -> None:
    assert [(e.stage, e.done, e.total) for e in whole.heard(StageProgress)] == [("a", 1, 3), ("a", 2, 3), ("a", 3, 3)]


def test_hook_hrmctl_stage_warned(whole: Whole) -> None:
    assert whole.heard(StageWarned) == [StageWarned(whole.result.run, "a", "loss stands still\\x1b at [/0]")]


def test_hook_hrmctl_stage_finished(whole: Whole) -> None:
    assert [(e.stage, e.status, e.error) for e in whole.heard(StageFinished)] == [
        ("data", "done", ""),
        ("a", "done", ""),
    ]


def test_hook_hrmctl_verdict_reached(whole: Whole) -> None:
    (event,) = (e for e in whole.module.HEARD if type(e).__name__ == "VerdictReached")
    assert event.judgement.verdict is Verdict.PASS
    assert event.judgement.contract == "LAB-LOSS"


def test_hook_hrmctl_run_finished(whole: Whole) -> None:
    (event,) = whole.heard(RunFinished)
    assert (event.run, event.status, event.exit_code) == (whole.result.run, "done", 0)
    assert whole.module.HEARD[-1] is event


def hooks() -> list[str]:
    return sorted(name for name in vars(hookspecs) if name.startswith("hrmctl_"))


def test_every_hook_has_a_test_and_a_reference_entry(root: Path) -> None:
    functions = {n.name for n in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(n, ast.FunctionDef)}
    page = (root / "docs" / "reference.md").read_text()
    assert len(hooks()) >= 14
    for name in hooks():
        assert f"test_hook_{name}" in functions, f"{name} has no test"
        about = (getattr(hookspecs, name).__doc__ or "").strip()
        assert about, f"{name} has no documentation"
        assert f"### `{name}`\n\n{about}" in page, f"{name} has no entry in docs/reference.md; make docs"


def test_every_built_in_plugin_works_and_starts_light(root: Path) -> None:
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]["hrmctl"]
    found = {p.name: p for p in catalog().plugins if p.distribution == "hrmctl"}
    assert found.keys() == declared.keys()
    for name, module in declared.items():
        assert found[name].error == "", f"{name}: {found[name].error}"
        lines = (root / "plugins" / module / "__init__.py").read_text().splitlines()
        assert len(lines) <= 60, f"{module}/__init__.py has {len(lines)} lines"


def test_a_hook_may_leave_its_event_out(tmp_path: Path) -> None:
    more = "SEEN = []\n@hookimpl\ndef hrmctl_run_started():\n    SEEN.append(1)\n"
    recipe = write_recipe(write_lab(tmp_path, more), "stages:\n  a: {uses: lab.make}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run_lab(recipe)
    module: Any = plugin("hrmctl_plugins.py", tmp_path).module
    assert module.SEEN == [1]
