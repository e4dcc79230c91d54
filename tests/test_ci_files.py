"""The GitHub action and the pre-commit hooks, run as their hosts would: each script in a scratch repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from .lab import CONTRACT, run_lab, write_contract, write_lab, write_recipe

ROOT = Path(__file__).resolve().parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "run" in step}
BROKEN = CONTRACT.replace("op: le", "op: at_most")
UNPROVEN = CONTRACT.replace("value: 101", "value: 99")
RECIPE = 'stages:\n  data: {uses: lab.make}\n  a: {uses: lab.train, with: {data: "${data.data}"}}\n'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A scratch repository with one good contract, and the folders that a runner gives."""
    folder = tmp_path / "repository"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    write_lab(folder)
    (folder / "contracts").mkdir()
    write_contract(folder / "contracts")
    return folder


def step(name: str, repository: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run one step as the runner does: bash with -e and pipefail, inputs put into its variables."""
    given = {key: value["default"] for key, value in ACTION["inputs"].items()} | inputs
    temp = repository.parent / "temp"
    temp.mkdir(exist_ok=True)
    own = {key: filled(text, given) for key, text in STEPS[name].get("env", {}).items()}
    files = {"GITHUB_PATH": temp / "path", "GITHUB_STEP_SUMMARY": temp / "summary.md", "RUNNER_TEMP": temp}
    environment = os.environ | own | {key: str(value) for key, value in files.items()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]]
    return subprocess.run(script, cwd=repository, env=environment, capture_output=True, text=True, timeout=120)


def filled(text: str, given: dict[str, str]) -> str:
    """An expression of GitHub; none but `inputs.NAME` is used."""
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: given[match[1]], text)


def summary(repository: Path) -> str:
    return (repository.parent / "temp/summary.md").read_text()


# --- the action -------------------------------------------------------------------------------------


def test_the_action_is_composite_and_every_input_is_described_and_used() -> None:
    assert ACTION["runs"]["using"] == "composite"
    text = (ROOT / "action.yml").read_text()
    for name, given in ACTION["inputs"].items():
        assert given["description"]
        assert isinstance(given["default"], str)
        assert f"inputs.{name}" in text
    assert {step.get("shell") for step in STEPS.values()} == {"bash"}
    actions = [step["uses"] for step in ACTION["runs"]["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", name) for name in actions)


def test_no_script_holds_an_expression() -> None:
    """An input within a script would be run as code."""
    assert not [name for name, found in STEPS.items() if "${{" in found["run"]]


def test_install_puts_the_action_s_own_hrmctl_on_the_path(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = repository.parent / "action"
    for name in ("hrmctl", "plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # Its dependencies are those of this environment, so that the test needs no network.
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    monkeypatch.setenv("PYTHONPATH", sysconfig.get_path("purelib"))
    monkeypatch.setenv("GITHUB_ACTION_PATH", str(source))
    done = step("Install hrmctl", repository)
    assert done.returncode == 0, done.stderr
    [folder] = (repository.parent / "temp/path").read_text().split()
    asked = "import hrmctl, importlib.metadata as m; print(hrmctl.__file__, len(m.entry_points(group='hrmctl')))"
    shown = subprocess.run([f"{folder}/python", "-c", asked], capture_output=True, text=True, check=True, cwd="/")
    assert shown.stdout.startswith(str(repository.parent / "temp/hrmctl"))
    subprocess.run([f"{folder}/hrmctl", "contracts", "lint", "contracts"], cwd=repository, check=True)


def test_a_good_contract_passes_and_its_proof_is_in_the_summary(repository: Path) -> None:
    assert step("Lint the contracts", repository).returncode == 0
    done = step("Prove the contracts", repository)
    assert done.returncode == 0
    assert "LAB-LOSS" in done.stdout
    assert re.search(r"## Proof of the contracts\n\n```\n.*LAB-LOSS .*proven\n.*```\n", summary(repository), re.DOTALL)


def test_a_broken_contract_stops_the_action_with_its_line(repository: Path) -> None:
    write_contract(repository / "contracts", BROKEN)
    done = step("Lint the contracts", repository)
    assert done.returncode == 2
    assert "contracts/loss.yaml:11:36: op" in done.stderr


def test_an_unproven_contract_stops_the_action_and_is_in_the_summary(repository: Path) -> None:
    write_contract(repository / "contracts", UNPROVEN)
    assert step("Lint the contracts", repository).returncode == 2
    done = step("Prove the contracts", repository)
    assert done.returncode == 2
    assert "NOT PROVEN" in summary(repository)


def test_the_check_fails_without_a_store_and_passes_on_one(repository: Path) -> None:
    done = step("Check the contracts", repository, junit="check.xml")
    assert done.returncode == 3
    assert done.stdout.startswith("::error ")
    assert "UNTESTED" in summary(repository)
    assert "<skipped" in (repository / "check.xml").read_text()
    run_lab(write_recipe(repository, RECIPE))
    done = step("Check the contracts", repository, store="store")
    assert done.returncode == 0, done.stderr


def test_the_check_takes_a_ratchet(repository: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "hrmctl", "check", "--ratchet", "accepted.json", "--accept"], cwd=repository, check=False
    )
    assert shown.returncode == 0
    assert step("Check the contracts", repository, ratchet="accepted.json").returncode == 0
    write_contract(repository / "contracts", CONTRACT.replace("LAB-LOSS", "LAB-NEW"), "new.yaml")
    assert step("Check the contracts", repository, ratchet="accepted.json").returncode == 1


def test_an_input_is_never_run(repository: Path) -> None:
    for name in ("Lint the contracts", "Prove the contracts", "Check the contracts"):
        attack = '"; touch owned; echo "$(touch owned)`touch owned`'
        assert step(name, repository, contracts=attack, store=attack).returncode == 2
    assert not (repository / "owned").exists()


# --- pre-commit -------------------------------------------------------------------------------------


def hook(name: str, repository: Path) -> subprocess.CompletedProcess[str] | None:
    """Run a hook by pre-commit's convention: its entry with the staged files that it wants as arguments."""
    subprocess.run(["git", "add", "--all"], cwd=repository, check=True)
    staged = ["git", "diff", "--staged", "--name-only", "--no-ext-diff", "-z"]
    names = subprocess.run(staged, cwd=repository, capture_output=True, text=True, check=True).stdout.split("\0")
    wanted = [path for path in names if path and re.search(HOOKS[name]["files"], path)]
    if not wanted:
        return None
    program, *words = shlex.split(HOOKS[name]["entry"])
    assert program == "hrmctl"
    command = [sys.executable, "-m", program, *words, *wanted]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)


def test_checking_the_contracts_removes_nothing_where_the_folder_of_reports_is_empty(tmp_path: Path) -> None:
    given = ["REPORTS=", f"VENV={tmp_path}", "-o", f"{tmp_path}/.ready", "check-contracts"]
    done = subprocess.run(["make", "-C", str(ROOT), *given], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "REPORTS is empty" in done.stdout + done.stderr


def test_the_hooks_have_what_pre_commit_asks_for() -> None:
    assert HOOKS.keys() == {"hrmctl-contracts-lint", "hrmctl-contracts-prove"}
    known = {"id", "name", "description", "entry", "language", "files", "require_serial"}
    for found in HOOKS.values():
        assert found.keys() == known
        assert found["language"] == "python"
        assert re.search(found["files"], "contracts/a/b.yaml")
        assert re.search(found["files"], "models/contracts/b.yml")
        assert not re.search(found["files"], "contracts/accepted.json")
        assert not re.search(found["files"], "recipes/b.yaml")


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_passes_a_good_contract_and_refuses_a_broken_or_unproven_one(name: str, repository: Path) -> None:
    (repository / "contracts/two words").mkdir()
    write_contract(repository / "contracts/two words", CONTRACT.replace("LAB-LOSS", "LAB-TWO"))
    done: Any = hook(name, repository)
    assert done.returncode == 0, done.stderr
    for text in (BROKEN, UNPROVEN):
        write_contract(repository / "contracts", text)
        done = hook(name, repository)
        assert done.returncode == 2
        assert "contracts/loss.yaml" in done.stderr


def test_a_hook_is_not_run_where_no_contract_changed(repository: Path) -> None:
    shutil.rmtree(repository / "contracts")
    assert hook("hrmctl-contracts-lint", repository) is None
