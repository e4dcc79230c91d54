"""Runs that are disturbed: raising listeners, bad beginnings, full disks, Ctrl-C and kill -9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from hrmctl import StageFinished
from hrmctl.errors import HrmctlError, InputError, StoreError
from hrmctl.jsonio import loads
from hrmctl.run.record import metric_rows, read_lock
from hrmctl.run.witness import partial as partial_cells

from .lab import (
    CONTRACT,
    command,
    hrmctl,
    listing,
    lock_of,
    on_own_disk,
    open_store,
    run_lab,
    write_contract,
    write_lab,
    write_recipe,
)

CHAIN = """
vars: {steps: 3, text: hello}
stages:
  data: {uses: lab.make, with: {text: "${vars.text}"}}
  a: {uses: lab.train, with: {data: "${data.data}", steps: "${vars.steps}"}}
  report: {uses: lab.compare, with: {models: ["${a.model}"]}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


def rows_of(folder: Path, run: str) -> list[dict[str, Any]]:
    return metric_rows(open_store(folder).run_folder(run))


# --- listeners and trackers -----------------------------------------------------------------------

LISTENERS = """
@hookimpl
def hrmctl_run_started(event):
    raise RuntimeError("run")

@hookimpl
def hrmctl_stage_started(event):
    import sys
    sys.exit(0)

@hookimpl
def hrmctl_stage_progress(event):
    event.metrics.clear()
    raise ValueError("progress")

@hookimpl
def hrmctl_verdict_reached(event):
    object.__setattr__(event, "judgement", None)
    raise KeyError("verdict")
"""


def test_what_listeners_and_trackers_do_only_warns(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, LISTENERS)
    write_contract(lab, CONTRACT.replace("100", "1").replace("101", "2"))
    recipe = write_recipe(lab, CHAIN + "contracts: [loss.yaml]\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run_lab(recipe, trackers=["broken", "stillborn", "mirror"])
    assert result.status == "done"
    assert result.check is not None
    assert [j.verdict.value for j in result.check.judgements] == ["FAIL"]
    assert result.exit_code == 1
    texts = [str(w.message) for w in caught]
    for text in (
        "plugin hrmctl_plugins.py failed on RunStarted: RuntimeError: run",
        "plugin hrmctl_plugins.py failed on StageStarted: SystemExit: 0",
        "plugin hrmctl_plugins.py failed on StageProgress: ValueError: progress",
        "plugin hrmctl_plugins.py failed on VerdictReached: KeyError: 'verdict'",
        "tracker did not start: ConnectionError: no key",
        "tracker stopped: OSError: no connection",
    ):
        assert text in texts
    assert texts.count("tracker stopped: OSError: no connection") == 1
    assert len(rows_of(lab, result.run)) == 3
    assert all("loss" in row for row in rows_of(lab, result.run))
    mirror = open_store(lab).run_folder(result.run) / "mirror.jsonl"
    assert len(mirror.read_text().splitlines()) == 3


def test_warnings_are_one_line_for_people(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, LISTENERS)
    write_recipe(lab, "stages:\n  a: {uses: lab.make}\n")
    done = hrmctl("pipeline", "lab.yaml", "--store", "store", cwd=lab)
    assert "hrmctl: warning: plugin hrmctl_plugins.py failed on RunStarted: RuntimeError: run" in done.stderr
    assert "stacklevel" not in done.stderr
    assert "warnings.warn" not in done.stderr


def test_a_listener_of_the_command_hears_every_event(lab: Path) -> None:
    heard: list[Any] = []
    run_lab(write_recipe(lab, "stages:\n  a: {uses: lab.make}\n"), listener=heard.append)
    names = [type(e).__name__ for e in heard]
    assert names == ["RunStarted", "StageStarted", "StageFinished", "RunFinished"]
    assert isinstance(heard[2], StageFinished)


# --- bad input before anything runs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "loacl"}, "unknown executor 'loacl'; did you mean 'local'"),
        ({"trackers": ["mirorr"]}, "unknown tracker 'mirorr'; did you mean 'mirror'"),
        ({"resume": "absent"}, "no run 'absent' in .*; latest: none"),
    ],
)
def test_what_cannot_begin_writes_nothing(lab: Path, options: Any, message: str) -> None:
    recipe = write_recipe(lab, CHAIN)
    before = listing(lab)
    with pytest.raises(HrmctlError, match=message):
        run_lab(recipe, **options)
    assert listing(lab) == before


def test_an_unproven_contract_refuses_the_run_before_it_starts(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("value: 101", "value: 100"))
    recipe = write_recipe(lab, CHAIN + "contracts: [loss.yaml]\n")
    before = listing(lab)
    with pytest.raises(InputError, match=r"loss\.yaml:1[0-9]:"):
        run_lab(recipe)
    assert listing(lab) == before


def test_a_run_of_another_recipe_is_not_resumed(lab: Path) -> None:
    recipe = write_recipe(lab, CHAIN)
    first = run_lab(recipe, only=frozenset({"data"}))
    with pytest.raises(HrmctlError, match="was made from another recipe or other --set values; start a new run"):
        run_lab(recipe, ["vars.steps=9"], resume=first.run)


def test_a_broken_or_newer_lock_is_an_expected_error(lab: Path) -> None:
    folder = lab / "store" / "runs" / "r"
    folder.mkdir(parents=True)
    for text, message in (
        ("", "not the lock of a run"),
        ("[", "not the lock of a run"),
        ("version: 2", "written by a newer hrmctl; upgrade hrmctl"),
        ("a: 1", "not the lock of a run"),
    ):
        (folder / "recipe.lock.yaml").write_text(text)
        with pytest.raises(StoreError, match=message):
            read_lock(folder)


def test_two_runs_on_one_store_are_one_clear_error(lab: Path) -> None:
    recipe = write_recipe(lab, CHAIN)
    with open_store(lab).lock("run"):
        with pytest.raises(StoreError, match=r"another hrmctl is using .*store \(run\); wait for it or use --store"):
            run_lab(recipe)
        failed = hrmctl("pipeline", "lab.yaml", "--store", "store", cwd=lab, check=2)
    assert len(failed.stderr.splitlines()) == 1
    assert not (lab / "store" / "runs").exists()


def test_files_of_the_working_folder_do_not_shadow_modules(lab: Path) -> None:
    for name in ("random", "json", "hrmctl", "yaml"):
        (lab / f"{name}.py").write_text("raise RuntimeError('the wrong module')\n")
    write_recipe(lab, "stages:\n  a: {uses: lab.make}\n")
    hrmctl("pipeline", "lab.yaml", "--store", "store", cwd=lab)


# --- full disks -----------------------------------------------------------------------------------


def test_a_full_disk_ends_the_run_and_more_room_lets_it_go_on(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    write_recipe(lab, "stages:\n  a: {uses: lab.train, with: {data: words.txt, bytes: 3000000}}\n")
    script = """
    cd "$LAB"
    "$PYTHON" -P -m hrmctl pipeline lab.yaml --store "$DISK/store" && exit 1 || echo "code $?"
    mount -o remount,size=16m "$DISK"
    "$PYTHON" -P -m hrmctl pipeline lab.yaml --store "$DISK/store"
    echo "code $?"
    """
    done = on_own_disk(lab / "disk", script, size="1m", LAB=str(lab))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["code 2", "code 0"]
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "should not have happened" not in done.stderr


# --- signals --------------------------------------------------------------------------------------

SLOW = """
stages:
  data: {{uses: lab.make}}
  a: {{uses: lab.train, with: {{data: "${{data.data}}", steps: 12, pause: 0.1, trace: {folder}/trace}}}}
  b: {{uses: lab.train, with: {{data: "${{data.data}}", steps: 8, pause: 0.1, every: 3, trace: {folder}/trace}}}}
  report: {{uses: lab.compare, with: {{models: ["${{a.model}}", "${{b.model}}"]}}}}
"""
OUTCOME = ("uses", "version", "key", "seed", "params", "inputs", "outputs")


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-P", "-m", "hrmctl", "pipeline", "lab.yaml", "--store", "store", "--jobs", "2", *more]
    return subprocess.Popen(
        argv,
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_signals,
    )


def _hear_signals() -> None:
    """Whoever runs the tests in the background or under nohup ignores these, and children would too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def outcome(folder: Path, run: str) -> dict[str, Any]:
    """What a run's lock says, without times, runs and processes."""
    lock = lock_of(folder, run)
    return {name: {key: stage[key] for key in OUTCOME} for name, stage in lock["stages"].items()}


def wait_for(path: Path, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text().count(text) >= times):
        assert time.monotonic() < deadline, f"{text!r} never came to {path}"
        time.sleep(0.02)


def alive(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def workers(trace: Path) -> set[str]:
    return {line.split()[1] for line in trace.read_text().splitlines()} if trace.exists() else set()


def test_a_second_hrmctl_on_the_same_store_is_refused(lab: Path) -> None:
    write_recipe(lab, SLOW.format(folder=lab).replace("steps: 12", "steps: 600"))
    process = start(lab)
    try:
        wait_for(lab / "trace", "\n2 ")
        second = command("pipeline", "lab.yaml", "--store", "store", cwd=lab, check=2)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert second.stderr == "hrmctl: another hrmctl is using store (run); wait for it or use --store\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_stops_cleanly_and_the_run_goes_on(lab: Path, number: signal.Signals) -> None:
    write_recipe(lab, SLOW.format(folder=lab))
    trace = lab / "trace"
    process = start(lab)
    # Both trainings are past their first checkpoint, one of which is that of step 3.
    wait_for(trace, "\n4 ", times=2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    run = open_store(lab).latest_run()
    assert run is not None
    assert (
        errors.splitlines()[-1] == f"hrmctl: stopped; go on with: hrmctl pipeline lab.yaml --resume {run} --store store"
    )
    assert not any(alive(worker) for worker in workers(trace))
    lock = lock_of(lab, run)
    assert lock["status"] == "interrupted"
    assert lock["stages"]["data"]["status"] == "done"
    assert lock["stages"]["a"]["status"] == "cancelled"
    shown = hrmctl("pipeline", "lab.yaml", "--plan", "--store", "store", cwd=lab).stdout
    assert "cancelled last time" in shown
    hrmctl("pipeline", "lab.yaml", "--resume", run, "--store", "store", cwd=lab)
    assert lock_of(lab, run)["status"] == "done"
    assert len(list((lab / "store" / "runs").iterdir())) == 1
    steps = [line.split()[0] for line in trace.read_text().splitlines()]
    assert steps.count("12") == 1
    assert steps.count("1") == 2, "each of the two trainings began at step 1 once"
    for stage, total in (("a", 12), ("b", 8)):
        assert [r["step"] for r in rows_of(lab, run) if r["stage"] == stage] == list(range(1, total + 1))


def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        folder.mkdir()
        write_lab(folder)
    # The same recipe in both: a parameter that names a folder would make other keys.
    for folder in (calm, rough):
        write_recipe(folder, SLOW.format(folder=rough))
    expected = outcome(calm, run_lab(calm / "lab.yaml", jobs=2).run)
    trace = rough / "trace"
    trace.unlink()
    run: str | None = None
    chance = random.Random(11)
    for _ in range(6):
        process = start(rough, *(["--resume", run] if run else []))
        time.sleep(chance.uniform(0.3, 1.6))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        run = open_store(rough).latest_run()
        deadline = time.monotonic() + 5
        while any(alive(worker) for worker in workers(trace)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(alive(worker) for worker in workers(trace)), "a worker outlived its run"
    hrmctl("pipeline", "lab.yaml", "--store", "store", *(["--resume", run] if run else []), cwd=rough)
    run = open_store(rough).latest_run()
    assert run is not None
    assert outcome(rough, run) == expected
    assert lock_of(rough, run)["status"] == "done"
    for stage, total in (("a", 12), ("b", 8)):
        assert [r["step"] for r in rows_of(rough, run) if r["stage"] == stage] == list(range(1, total + 1))
    store = open_store(rough)
    for path in (store.root / "cache").glob("*.json"):
        for output in loads(path.read_text())["outputs"].values():
            store.get(output["digest"], output["type"], output["label"])
    leftovers = [p for p in store.root.rglob(".*") if p.is_file() and not p.name.endswith(".lock")]
    assert leftovers == []


CELLS = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}, matrix: {seed: [1, 2]}}
"""


def test_the_lock_keeps_what_was_left_out_and_what_was_finished_before(lab: Path) -> None:
    recipe = write_recipe(lab, CELLS)
    first = run_lab(recipe, only=frozenset({"a[seed=1]"}))
    found = {name: stage["status"] for name, stage in lock_of(lab, first.run)["stages"].items()}
    assert found == {"data": "done", "a[seed=1]": "done", "a[seed=2]": "left-out"}
    partial = partial_cells(lock_of(lab, first.run))
    assert set(partial) == set(lock_of(lab, first.run)["stages"]["a[seed=1]"]["evidence"])
    whole = run_lab(recipe, resume=first.run)
    assert partial_cells(lock_of(lab, whole.run)) == {}
    before = lock_of(lab, whole.run)["stages"]
    run_lab(recipe, resume=first.run, only=frozenset({"data"}))
    after = lock_of(lab, whole.run)["stages"]
    assert {n: s["evidence"] for n, s in after.items()} == {n: s["evidence"] for n, s in before.items()}
    assert after["a[seed=2]"]["status"] == "done"
