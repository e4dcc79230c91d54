"""The control group of each zygote: where it is made, what is written into it, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hrmctl_sandbox import Limits, Problem, Sample, cgroup, judge, pool, probe
from hrmctl_sandbox.grading import grade
from hrmctl_sandbox.isolation import assess
from hrmctl_sandbox.preparation import prepare
from hrmctl_sandbox.remote import Remote
from hrmctl_sandbox.sandbox import Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are of Linux")
LIMITS = Limits(cpu_seconds=1, memory_bytes=512 << 20)
PROBLEM = Problem("p", ("assert f(2) == 4",))
GOOD = "def f(x): return x + x"
FILES = ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs")


def a_group(folder: Path, files: tuple[str, ...] = FILES, enabled: str = "") -> Path:
    """A folder with the files of a control group."""
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).touch()
    (folder / "cgroup.subtree_control").write_text(enabled)
    return folder


def a_dead_process() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.fixture
def hierarchy() -> Iterator[str]:
    """A new group in the kernel's own hierarchy, with whatever controllers there are."""
    own = next(cgroup._own_and_above(), "")
    folder = os.path.join(own, f"hrmctl-test-{os.getpid()}")
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f"no control group can be made below {own or 'any hierarchy of version 2'}: {error.strerror}")
    yield folder
    cgroup.remove(folder)


def test_the_limits_are_written_before_the_process_enters(tmp_path: Path) -> None:
    folder = a_group(tmp_path / "g")
    assert cgroup.enter(str(folder), 512 << 20)
    written = [(folder / name).read_text() for name in FILES]
    assert written == [str((512 + 128 + 256) << 20), "0", "16", "0"]


@pytest.mark.parametrize(
    ("lacking", "entered"), [("memory.max", False), ("pids.max", False), ("memory.swap.max", True)]
)
def test_a_group_without_its_limits_is_not_entered(tmp_path: Path, lacking: str, entered: bool) -> None:
    folder = a_group(tmp_path / "g", tuple(name for name in FILES if name != lacking))
    assert cgroup.enter(str(folder), 1 << 30) is entered
    assert bool((folder / "cgroup.procs").read_text()) is entered


def test_the_nearest_group_that_can_limit_others_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = a_group(tmp_path / "top", enabled="cpu memory pids")
    middle = a_group(top / "middle", enabled="memory pids")
    own = a_group(middle / "own", enabled="cpu")
    monkeypatch.setattr(cgroup, "_own_and_above", lambda: map(str, (own, middle, top)))
    assert cgroup._parent() == str(middle)
    (middle / "cgroup.subtree_control").write_text("pids")
    assert cgroup._parent() == str(top)
    (top / "cgroup.subtree_control").write_text("memory")
    assert (cgroup._parent(), cgroup.make()) == (None, None)


def test_only_groups_of_dead_processes_are_removed(tmp_path: Path) -> None:
    namespace, mine = cgroup._namespace(), cgroup._owner(os.getpid())
    reused = mine.rpartition(".")[0] + ".1"
    stale = [f"hrmctl-sandbox.{namespace}.{a_dead_process()}.5.0", f"hrmctl-sandbox.{reused}.0"]
    kept = [f"hrmctl-sandbox.{mine}.0", f"hrmctl-sandbox.1.{a_dead_process()}.5.0", "hrmctl-sandbox", "user.slice"]
    for name in [*stale, *kept]:
        (tmp_path / name).mkdir()
    cgroup.remove_stale(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_removing_a_group_of_the_kernel_kills_what_is_in_it(hierarchy: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    cgroup._write(hierarchy, "cgroup.procs", str(process.pid))
    started = time.monotonic()
    cgroup.remove(hierarchy)
    assert process.wait() == -signal.SIGKILL
    cgroup.remove(hierarchy)
    assert not os.path.exists(hierarchy)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("enterable", [True, False])
def test_the_layer_is_named_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enterable: bool) -> None:
    folder = a_group(tmp_path / "g", FILES if enterable else FILES[1:])
    monkeypatch.setattr(cgroup, "make", lambda: str(folder))
    monkeypatch.setattr(cgroup, "remove", lambda path: (tmp_path / "removed").write_text(path))
    sandbox = Sandbox(LIMITS)
    try:
        assert ("cgroup" in sandbox.layers, "cgroup" in sandbox.missing) == (enterable, False)
        assert grade(sandbox, prepare(PROBLEM), GOOD, LIMITS).error == "passed"
    finally:
        sandbox.close()
    assert (tmp_path / "removed").read_text() == str(folder)


def test_the_group_of_a_killed_judge_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_parent", lambda: str(tmp_path))
    remote = Remote(pool.Options(LIMITS))
    remote.isolation()
    folder = tmp_path / f"hrmctl-sandbox.{cgroup._owner(remote._process.pid)}.0"
    folder.mkdir()
    cgroup.remove_stale()
    assert folder.exists()
    remote.close()
    assert not folder.exists()


def test_a_machine_without_it_is_no_worse_off() -> None:
    layers = ["seccomp", "namespaces", "landlock"]
    without, with_it = assess(layers, [], []), assess(["cgroup", *layers], [], [])
    assert (without.mode, without.missing, without.absent) == ("sealed", (), ("cgroup",))
    assert (with_it.mode, with_it.missing, with_it.absent) == ("sealed", (), ())


def test_no_group_is_left_behind() -> None:
    parent = cgroup._parent()
    if parent is None:
        pytest.skip("no control group of version 2 here has the memory and pids controllers and can be written")
    assert "cgroup" in probe().layers
    assert all(outcome.passed for outcome in judge([PROBLEM], [Sample("p", 0, GOOD)], limits=LIMITS))
    mine = f"hrmctl-sandbox.{cgroup._namespace()}."
    assert not [name for name in os.listdir(parent) if name.startswith(mine) and cgroup._is_stale(name)]
