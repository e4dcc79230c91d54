"""A third party's distribution, installed for real: its stage runs, its measure decides, it is listed as any other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .lab import hrmctl

SOURCE = Path(__file__).parent / "third_party"
RECIPE = """\
kind: recipe
name: words
vars: {data: rows.jsonl, shortest: 1}
stages:
  count: {uses: wordcount, with: {data: "${vars.data}", shortest: "${vars.shortest}"}}
contracts: [enough.yaml]
"""
CONTRACT = """\
kind: contract
id: WORDS-ENOUGH
title: The rows hold at least five words
subjects:
  rows: {dataset: ./rows.jsonl}
evidence:
  e: {type: measurement/v1, stage: wordcount, name: words}
measure:
  m: {fn: at_least_words, of: [e], words: 5}
require:
  - {id: enough, left: m.enough, op: eq, right: 1}
controls:
  - {expect: PASS, data: {e: {value: 5}}}
  - {expect: FAIL, because: enough, data: {e: {value: 4}}}
  - {expect: INVALID, because: m, data: {e: {value: 4.5}}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution as pip installs it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("third-party")
    source = folder / "source"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--no-compile",
    ]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"text": "one two three"}\n{"text": "three four"}\n')
    (tmp_path / "words.yaml").write_text(RECIPE)
    (tmp_path / "enough.yaml").write_text(CONTRACT)
    return tmp_path


def run(site: Path, work: Path, *argv: str, check: int = 0) -> Any:
    done = hrmctl(*argv, "--json", cwd=work, check=check, PYTHONPATH=str(site))
    return json.loads(done.stdout) if done.stdout else done.stderr


def test_it_is_listed_with_its_own_distribution(site: Path, work: Path) -> None:
    rows = {row["name"]: row for row in run(site, work, "plugins", "list")}
    assert rows["wordcount"] == {
        "name": "wordcount",
        "distribution": "hrmctl-wordcount",
        "version": "1.2.0",
        "error": "",
    }


def test_its_stage_runs_and_its_measure_decides(site: Path, work: Path) -> None:
    result = run(site, work, "pipeline", "words.yaml")
    assert [s["status"] for s in result["stages"]] == ["done"]
    (judgement,) = result["check"]["judgements"]
    assert judgement["verdict"] == "PASS"
    assert judgement["measured"] == {"m": {"enough": 1, "spare": 0}}
    lock = run(site, work, "runs", "show")
    stage = lock["stages"]["count"]
    assert stage["version"].startswith("1.2.0+")
    report = work / ".hrmctl" / "objects" / "sha256"
    digest = stage["outputs"]["report"]["digest"]
    assert json.loads((report / digest[:2] / digest[2:]).read_text()) == {"four": 1, "one": 1, "three": 2, "two": 1}
    few = run(site, work, "pipeline", "words.yaml", "--set", "vars.shortest=4", check=1)
    assert [j["verdict"] for j in few["check"]["judgements"]] == ["FAIL"]
    again = run(site, work, "pipeline", "words.yaml")
    assert [s["status"] for s in again["stages"]] == ["cached"]


def test_its_parameters_are_options_and_its_errors_are_lines(site: Path, work: Path) -> None:
    result = run(site, work, "wordcount", "--data", "rows.jsonl", "--shortest", "4")
    assert [e["payload"]["value"] for e in result["evidence"]] == [3]
    failed = run(site, work, "wordcount", "--data", "rows.jsonl", "--field", "body", check=4)
    assert failed["error"] == "./rows.jsonl:1: no 'body' (KeyError); name another --field"
    shown = hrmctl("plugins", "show", "at_least_words", cwd=work, PYTHONPATH=str(site)).stdout
    assert "| `words` | int | required | how many there must be |" in shown


def test_the_reference_of_hrmctl_is_the_same_with_it(site: Path, work: Path) -> None:
    code = "from pathlib import Path; from hrmctl.reference import main; main(Path('page.md'), Path('schema'))"
    for folder, environment in (("with", {"PYTHONPATH": str(site)}), ("without", {})):
        (work / folder).mkdir()
        known = os.environ | environment
        subprocess.run([sys.executable, "-P", "-c", code], cwd=work / folder, env=known, check=True, timeout=60)
    assert (work / "with" / "page.md").read_text() == (work / "without" / "page.md").read_text()
    assert (work / "with" / "schema" / "recipe.json").read_text() == (
        work / "without" / "schema" / "recipe.json"
    ).read_text()


def test_its_contract_is_proven(site: Path, work: Path) -> None:
    done = hrmctl("contracts", "prove", "enough.yaml", cwd=work, PYTHONPATH=str(site))
    assert "WORDS-ENOUGH" in done.stdout
