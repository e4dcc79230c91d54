"""What the tests of the core share: a folder with small stages, recipes over them, and runs of both kinds."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hrmctl.cli import run as run_command
from hrmctl.plugins import catalog
from hrmctl.recipe import load_recipe, make_plan
from hrmctl.run.pipeline import PipelineOptions, PipelineResult, run_pipeline
from hrmctl.run.record import read_lock
from hrmctl.store import Store

HERE = Path(__file__).parent
HEAD = "kind: recipe\nname: lab\nseed: 7\n"


def write_lab(folder: Path, more: str = "") -> Path:
    """The small stages beside the recipes of `folder`; `more` is added to their plugin file."""
    shutil.copyfile(HERE / "lab_plugins.py", folder / "hrmctl_plugins.py")
    with (folder / "hrmctl_plugins.py").open("a") as stream:
        stream.write("\n" + textwrap.dedent(more))
    return folder


def write_recipe(folder: Path, body: str, head: str = HEAD, name: str = "lab.yaml") -> Path:
    """A recipe of the lab."""
    path = folder / name
    path.write_text(head + textwrap.dedent(body))
    return path


def run_lab(recipe: Path, settings: Sequence[str] = (), listener: Any = None, **options: Any) -> PipelineResult:
    """Run a recipe in this process, its stages in workers; the store is `store` beside the recipe."""
    found = catalog(recipe.parent)
    plan = make_plan(load_recipe(recipe, settings), found)
    chosen = PipelineOptions(settings=settings, **options)
    return run_pipeline(plan, found, open_store(recipe.parent), chosen, listener or (lambda event: None))


def open_store(folder: Path) -> Store:
    """The store of a lab folder."""
    return Store(folder / "store")


def lock_of(folder: Path, run: str) -> dict[str, Any]:
    """The lock of a run of a lab folder."""
    return read_lock(open_store(folder).run_folder(run))


def statuses(result: PipelineResult) -> dict[str, str]:
    """How each stage ended."""
    return {line.stage: line.status for line in result.stages}


def hrmctl(*argv: str | Path, cwd: Path, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in `cwd`; `check` is the exit code that it must end with."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hrmctl", *map(str, argv)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert check is None or done.returncode == check, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def command(*argv: str | Path, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """As `hrmctl`, but in this process: for the many cases that end before anything runs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(a) for a in argv])
    assert check is None or code == check, f"{code}\n{out.getvalue()}\n{err.getvalue()}"
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path under `folder` with size and time of change: equal before and after when nothing was written."""
    return {
        str(p.relative_to(folder)): (p.lstat().st_size if p.is_file() else 0, p.lstat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if "__pycache__" not in p.parts
    }


def on_own_disk(folder: Path, script: str, size: str = "512k", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script with a file system of its own at `$DISK` and this Python as `$PYTHON`; skips without one."""
    folder.mkdir(exist_ok=True)
    mount = f'set -e\nmount -t tmpfs -o size={size} none "$DISK"\n'
    known = os.environ | environment | {"DISK": str(folder), "PYTHON": sys.executable}

    def run(text: str) -> subprocess.CompletedProcess[str]:
        command = ["unshare", "-rm", "bash", "-c", mount + text]
        return subprocess.run(command, env=known, capture_output=True, text=True, timeout=60)

    if shutil.which("unshare") is None or run("true").returncode:
        pytest.skip("this machine gives no file system of one's own (unshare -rm)")
    return run(textwrap.dedent(script))


@contextlib.contextmanager
def installed_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the lab as an installed distribution: only those get commands of their own."""
    site = tmp_path / "site"
    info = site / "lab-1.0.dist-info"
    info.mkdir(parents=True)
    write_lab(site)
    (site / "hrmctl_plugins.py").rename(site / "lab_stages.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hrmctl]\nlab = lab_stages\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(site)
    catalog.cache_clear()
    work = tmp_path / "work"
    work.mkdir()
    (work / "words.txt").write_text("some words")
    yield work
    catalog.cache_clear()
    sys.modules.pop("lab_stages", None)


CONTRACT = """\
kind: contract
id: LAB-LOSS
title: the loss is at most 100
subjects:
  one: {model: lab-model}
evidence:
  e: {type: measurement/v1, stage: lab.train, name: loss}
measure:
  v: {fn: lab_value, of: [e]}
require:
  - {id: small, left: v.value, op: le, right: 100}
controls:
  - {expect: PASS, data: {e: {value: 100}}}
  - {expect: FAIL, because: small, data: {e: {value: 101}}}
"""


def write_contract(folder: Path, text: str = CONTRACT, name: str = "loss.yaml") -> Path:
    """A contract of the lab."""
    path = folder / name
    path.write_text(text)
    return path
