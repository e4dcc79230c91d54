"""How a command ends that does not come to its end: interrupted, killed, or without a reader."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .lab import CONTRACT, command, hrmctl, installed_lab, open_store, write_lab, write_recipe
from .test_run_disturbed import _hear_signals, alive, start, wait_for, workers

SLOW = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}", steps: 400, pause: 0.05, trace: trace}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with installed_lab(tmp_path, monkeypatch) as work:
        yield work


def into(reader: str, *argv: str, cwd: Path, both: bool = False) -> subprocess.CompletedProcess[str]:
    """A command whose output goes to `reader`, and its exit code as the shell says it."""
    own = shlex.join([sys.executable, "-P", "-m", "hrmctl", *argv])
    script = f"set -o pipefail; {own} {'2>&1' if both else ''} | {reader}"
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_title_cannot_steer_the_terminal(tmp_path: Path) -> None:
    title = json.dumps("a \x1b[2J\nb \u202e c \x9b31m")
    (tmp_path / "loss.yaml").write_text(CONTRACT.replace("title: the loss is at most 100", f"title: {title}"))
    write_lab(tmp_path)
    shown = command("contracts", "list", "loss.yaml", cwd=tmp_path).stdout.splitlines()
    assert shown[1] == r"LAB-LOSS  one       a \x1b[2J\nb \u202e c \x9b31m"


def test_a_cell_cannot_steer_the_terminal(lab: Path) -> None:
    body = """
    stages:
      data: {uses: lab.make, matrix: {text: ["\\e[2J"]}}
    """
    write_recipe(lab, body)
    done = hrmctl("pipeline", "lab.yaml", "--store", "store", cwd=lab)
    assert r"data[text=\x1b[2J]: started" in done.stderr.splitlines()
    assert "\x1b" not in done.stderr


# --- a reader that goes away ------------------------------------------------------------------------------------

SHORT = ["--version", "--help", "plugins list", "finetune --help", "contracts schema recipe"]


@pytest.mark.parametrize("argv", SHORT)
def test_a_reader_that_goes_away_ends_a_command_quietly(tmp_path: Path, argv: str) -> None:
    done = into("true", *argv.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("argv", SHORT)
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_is_closed_is_not_written_to(tmp_path: Path, argv: str, closed: str) -> None:
    own = shlex.join([sys.executable, "-P", "-m", "hrmctl", *argv.split()])
    done = subprocess.run(
        ["bash", "-c", f"{own} {closed}"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("argv", [*SHORT, "score --help", "runs list"])
@pytest.mark.parametrize("both", [False, True])
def test_an_output_that_is_full_is_told_in_one_line(tmp_path: Path, argv: str, both: bool) -> None:
    own = shlex.join([sys.executable, "-P", "-m", "hrmctl", *argv.split()])
    script = f"{own} > /dev/full {'2>&1' if both else ''}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    line = "hrmctl: cannot write to standard output: no space left on device\n"
    assert (done.returncode, done.stderr) == (2, "" if both else line)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("argv", ["runs show", "power", "contracts lint absent.yaml"])
def test_an_error_that_cannot_be_told_is_no_fail(tmp_path: Path, argv: str) -> None:
    own = shlex.join([sys.executable, "-P", "-m", "hrmctl", *argv.split()])
    done = subprocess.run(
        ["bash", "-c", f"{own} 2>/dev/full"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("argv", "code"), [("contracts prove", 0), ("contracts lint", 0), ("check --store store", 3)])
def test_proofs_and_checks_need_no_stream(lab: Path, argv: str, code: int, closed: str) -> None:
    (lab / "loss.yaml").write_text(CONTRACT)
    own = shlex.join([sys.executable, "-P", "-m", "hrmctl", *argv.split(), "loss.yaml"])
    done = subprocess.run(["bash", "-c", f"{own} {closed}"], cwd=lab, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, "")


def test_what_a_person_reads_goes_nowhere_where_there_is_no_standard_error(lab: Path) -> None:
    own = shlex.join([sys.executable, "-P", "-m", "hrmctl", "contracts", "lint", "absent.yaml"])
    done = subprocess.run(["bash", "-c", f"{own} 2>&-"], cwd=lab, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape"])
@pytest.mark.parametrize("form", ["table", "json"])
def test_a_verdict_is_told_in_any_encoding(lab: Path, encoding: str, form: str) -> None:
    """It is in the ledger by then: an end with another exit code would say that there was none."""
    title = "größer ≥ 日本 🎉"
    (lab / "loss.yaml").write_text(CONTRACT.replace("the loss is at most 100", title))
    argv = ["check", "loss.yaml", "--store", "store", "--format", form]
    done = hrmctl(*argv, cwd=lab, check=3, PYTHONIOENCODING=encoding)
    if form == "json":
        assert json.loads(done.stdout)["judgements"][0]["title"] == title
    else:
        assert "\\u65e5\\u672c" in done.stdout


def test_what_was_read_is_whole(tmp_path: Path) -> None:
    done = into("head -1", "plugins", "show", "finetune", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("### `finetune`\n", "")


def test_an_error_without_a_reader_is_no_surprise(tmp_path: Path) -> None:
    assert into("true", "pipeline", "absent.yaml", cwd=tmp_path, both=True).returncode == 141


def test_a_run_without_a_reader_stops_as_at_ctrl_c_and_goes_on(lab: Path) -> None:
    write_recipe(lab, SLOW.replace("steps: 400", "steps: 40").replace("trace: trace", f"trace: {lab}/trace"))
    done = into("head -2", "pipeline", "lab.yaml", "--store", "store", cwd=lab, both=True)
    assert done.returncode == 141
    assert len(done.stdout.splitlines()) == 2
    run = json.loads(command("runs", "list", "--json", "--store", "store", cwd=lab).stdout)[0]
    assert run["status"] == "interrupted"
    assert not any(alive(worker) for worker in workers(lab / "trace"))
    hrmctl("pipeline", "lab.yaml", "--store", "store", "--resume", run["run"], cwd=lab)


# --- a stage alone ----------------------------------------------------------------------------------------------


def test_an_interrupted_stage_says_to_repeat_its_command(alone: Path) -> None:
    argv = ["lab", "train", "--data", "words.txt", "--steps", "30", "--pause", "0.1", "--trace", "my trace"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "hrmctl", *argv],
        cwd=alone,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_signals,
    )
    wait_for(alone / "my trace", "\n4 ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    before = "hrmctl: stopped; repeat the command to go on from its last checkpoint: "
    assert errors.splitlines()[-1] == f"{before}hrmctl {shlex.join(argv)}"
    again = shlex.split(errors.splitlines()[-1].removeprefix(before))[1:]
    hrmctl(*[word if word != "0.1" else "0" for word in again], cwd=alone, check=0)
    hrmctl(*again, cwd=alone)
    steps = [line.split()[0] for line in (alone / "my trace").read_text().splitlines()]
    assert steps.count("1") == 2, "the repeated command went on, the one of other parameters began anew"


# --- a run that was killed --------------------------------------------------------------------------------------


def shown_status(lab: Path) -> dict[str, str]:
    runs = json.loads(command("runs", "list", "--json", "--store", "store", cwd=lab).stdout)
    return {run["run"]: run["status"] for run in runs}


def test_a_killed_run_is_interrupted_and_a_running_one_is_not(lab: Path) -> None:
    write_recipe(lab, SLOW.replace("steps: 400", "steps: 60").replace("trace: trace", f"trace: {lab}/trace"))
    process = start(lab)
    wait_for(lab / "trace", "\n3 ")
    (run,) = shown_status(lab)
    assert shown_status(lab) == {run: "running"}
    assert "a      lab.train  running" in command("runs", "show", "--store", "store", cwd=lab).stdout
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert shown_status(lab) == {run: "interrupted"}
    assert "a      lab.train  interrupted" in command("runs", "show", run, "--store", "store", cwd=lab).stdout
    planned = command("pipeline", "lab.yaml", "--plan", "--store", "store", cwd=lab).stdout
    assert "interrupted last time" in planned
    # What is derived is not written.
    assert "status: running" in (open_store(lab).run_folder(run) / "recipe.lock.yaml").read_text()
    # Another run in the store does not make it a running one.
    second = start(lab, "--set", "seed=9")
    wait_for(lab / "trace", "\n1 ", times=2)
    assert sorted(shown_status(lab).values()) == ["interrupted", "running"]
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)
    hrmctl("pipeline", "lab.yaml", "--resume", run, "--store", "store", cwd=lab)
    assert shown_status(lab)[run] == "done"
    steps = [line.split()[0] for line in (lab / "trace").read_text().splitlines()]
    assert steps.count("1") == 2, "the run went on where it was killed; the other seed began anew"


def test_a_lock_says_whose_it_is(lab: Path) -> None:
    store = open_store(lab)
    assert store.holder("run") is None
    with store.lock("run", "a run"):
        assert store.holder("run") == "a run"
        with store.lock("other"):
            assert store.holder("other") == ""
    assert store.holder("run") is None
    with store.lock("run", "b"):
        assert store.holder("run") == "b"


def test_two_who_ask_at_once_do_not_take_each_other_for_the_holder(lab: Path) -> None:
    store = open_store(lab)
    store.prepare()
    with store.lock("run", "killed"):
        pass
    with (store.root / ".run.lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert store.holder("run") is None


def test_whoever_asks_for_the_holder_keeps_nobody_from_the_lock(lab: Path) -> None:
    store = open_store(lab)
    store.prepare()
    with (store.root / ".run.lock").open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_EX)
        threading.Timer(0.03, lambda: fcntl.flock(asking, fcntl.LOCK_UN)).start()
        with store.lock("run"):
            pass
