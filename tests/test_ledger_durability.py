"""The ledger survives crashes, full disks and other writers, and its head can be signed."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hrmctl import Judgement, Verdict, ledger
from hrmctl.errors import StoreError
from hrmctl.jsonio import canonical

ONE = Judgement(
    "HRM-P1", "digest", "title", "proxy", "acceptance", Verdict.PASS,
    reason="p.value 0.2 is ≥ 0.2", measured={"p": {"value": 0.2, "n": 500}}, evidence=("e1",),
    subjects={"model": "m1", "dataset": "d1"}, labels={"model": "hrm-tiny", "dataset": "microcode@test"}, run="r1",
)  # fmt: skip


def judgements(*subjects: str, verdict: Verdict = Verdict.PASS) -> list[Judgement]:
    return [replace(ONE, subject=subject, verdict=verdict) for subject in subjects]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def filled(path: Path) -> Path:
    """Three checks of two rows."""
    for check in ("c1", "c2", "c3"):
        ledger.append(path, check, judgements("claim", "proxy"))
    return path


def said(path: Path) -> list[str]:
    return [str(problem).replace(f"{path.parent}/", "") for problem in ledger.verify(path)]


# --- crashes, concurrency, disks ----------------------------------------------------------------


def test_an_interrupted_append_is_seen_and_removed(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = filled.read_bytes()
    for tail in (b'{"attempts":1,"beca', whole.splitlines(keepends=True)[-1], b"\xff\x00"):
        filled.write_bytes(whole + tail)
        assert said(filled) == [
            f"ledger.jsonl:7:1: {len(tail)} bytes after the last committed row: an append that was interrupted, "
            "or that hrmctl did not make; the next check removes them"
        ]
        assert len(ledger.rows(filled)) == 6
    with caplog.at_level(logging.WARNING):
        ledger.append(filled, "c4", judgements("claim"))
    assert "removed 2 bytes of an append that was interrupted" in caplog.text
    assert said(filled) == []
    assert len(ledger.rows(filled)) == 7


def test_the_first_append_may_be_interrupted_too(path: Path) -> None:
    ledger.append(path, "c1", [ONE])
    ledger.head_path(path).write_text(canonical({"version": 1, "seq": 0, "hash": "0" * 64, "bytes": 0}) + "\n")
    assert ledger.rows(path) == []
    ledger.append(path, "c1", [ONE])
    assert len(ledger.rows(path)) == 1
    assert said(path) == []


LOOP = """
import itertools, sys
from pathlib import Path
from dataclasses import replace
from hrmctl import Judgement, Verdict, ledger
one = Judgement("C", "d", "t", "s", "acceptance", Verdict.PASS)
print("ready", flush=True)
sys.stdin.readline()
for n in itertools.count() if sys.argv[3] == "0" else range(int(sys.argv[3])):
    ledger.append(Path(sys.argv[1]), f"{sys.argv[2]}-{n}", [replace(one, subject=f"s{k}") for k in range(5)])
"""


def start(path: Path, name: str, times: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", LOOP, str(path), name, str(times)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.write(b"go\n")
    process.stdin.flush()


def close(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin
    assert process.stdout
    code = process.wait(60)
    process.stdin.close()
    process.stdout.close()
    return code


def test_kill_9_at_any_moment_leaves_whole_checks(path: Path) -> None:
    dice = random.Random(7)
    for attempt in range(6):
        process = start(path, f"run{attempt}", 0)
        go(process)
        time.sleep(dice.uniform(0.01, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        close(process)
        assert [text for text in said(path) if "interrupted" not in text] == []
        ledger.append(path, f"after{attempt}", judgements("claim"))
        assert said(path) == []
    sizes: dict[str, int] = {}
    for row in ledger.rows(path):
        sizes[row["check"]] = sizes.get(row["check"], 0) + 1
    assert {size for check, size in sizes.items() if check.startswith("run")} == {5}


def test_writers_take_turns(path: Path) -> None:
    processes = [start(path, f"p{number}", 15) for number in range(3)]
    for process in processes:
        go(process)
    assert [close(process) for process in processes] == [0, 0, 0]
    assert said(path) == []
    assert len(ledger.rows(path)) == 3 * 15 * 5


def test_rows_are_on_the_disk_before_the_head_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.append(path, "c1", [ONE])
    done: list[str] = []
    monkeypatch.setattr(ledger.os, "fsync", lambda handle: done.append("fsync"))
    monkeypatch.setattr(ledger, "write_atomic", lambda place, text: done.append(place.name))
    ledger.append(path, "c2", [ONE])
    assert done == ["fsync", "ledger.head.json"]


def test_a_newer_ledger_is_refused(filled: Path) -> None:
    head = json.loads(ledger.head_path(filled).read_text())
    ledger.head_path(filled).write_text(json.dumps({**head, "version": 2}))
    for use in (ledger.rows, lambda p: ledger.append(p, "c9", [ONE])):
        with pytest.raises(StoreError, match="written by a newer hrmctl"):
            use(filled)
    assert "written by a newer hrmctl" in said(filled)[0]


FULL = """
import resource, signal, sys
from pathlib import Path
from hrmctl import HrmctlError, Judgement, Verdict, ledger
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100,) * 2)
try:
    ledger.append(path, "full", [Judgement("C", "d", "t", "s", "acceptance", Verdict.PASS)])
except HrmctlError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE as Linux has it")
def test_a_full_disk_records_nothing(filled: Path) -> None:
    before = {p: p.read_bytes() for p in filled.parent.iterdir()}
    done = subprocess.run([sys.executable, "-c", FULL, str(filled)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"StoreError cannot append to {filled}: ")
    assert done.stdout.strip().endswith("; nothing was recorded")
    assert {p: p.read_bytes() for p in filled.parent.iterdir()} == before
    ledger.append(filled, "c4", [ONE])
    assert said(filled) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another --store"):
        ledger.append(tmp_path / "file" / "ledger.jsonl", "c1", [ONE])


# --- signatures ---------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    (tmp_path / "signers").write_text(f"ci@example.org {(tmp_path / 'key.pub').read_text()}")
    return key


def test_a_signature_holds_until_anything_changes(filled: Path, key: Path) -> None:
    signers = filled.parent / "signers"
    assert ledger.verify_signature(filled, signers)[0].message == "it is not there"
    assert ledger.sign(filled, key) == ledger.signature_path(filled)
    assert ledger.verify_signature(filled, signers) == []
    assert ledger.verify_signature(filled, signers, "ci@example.org") == []
    assert ledger.verify_signature(filled, signers, "someone@else.org") != []
    ledger.append(filled, "c4", [ONE])
    problems = ledger.verify_signature(filled, signers)
    assert "the signature does not hold" in problems[0].message
    ledger.sign(filled, key)
    assert ledger.verify_signature(filled, signers) == []


def test_a_forged_chain_is_caught_by_the_signature_alone(filled: Path, key: Path, tmp_path: Path) -> None:
    ledger.sign(filled, key)
    forged = tmp_path / "forged" / "ledger.jsonl"
    for check in ("c1", "c2", "c3"):
        ledger.append(forged, check, judgements("claim", "proxy", verdict=Verdict.FAIL))
    for made, real in ((forged, filled), (ledger.head_path(forged), ledger.head_path(filled))):
        shutil.copy(made, real)
    assert said(filled) == []
    assert ledger.verify_signature(filled, tmp_path / "signers") != []


def test_the_signer_must_be_allowed(filled: Path, key: Path, tmp_path: Path) -> None:
    ledger.sign(filled, key)
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(other)], check=True)
    (tmp_path / "signers").write_text(f"ci@example.org {(tmp_path / 'other.pub').read_text()}")
    (problem,) = ledger.verify_signature(filled, tmp_path / "signers")
    assert f"none of {tmp_path / 'signers'} made the signature" in problem.message
    assert "NAME ssh-ed25519 AAAA" in problem.remedy


def test_a_public_key_alone_is_no_file_of_signers_and_a_missing_one_is_told(filled: Path, key: Path) -> None:
    ledger.sign(filled, key)
    for given in (key.with_suffix(".pub"), key.with_name("no-such")):
        (problem,) = ledger.verify_signature(filled, given)
        assert "NAME ssh-ed25519 AAAA" in problem.remedy


def test_what_does_not_verify_is_not_signed(filled: Path, key: Path, tmp_path: Path) -> None:
    filled.write_text(filled.read_text().replace('"PASS"', '"FAIL"', 1))
    with pytest.raises(StoreError, match="changed"):
        ledger.sign(filled, key)
    with pytest.raises(StoreError, match="no ledger to sign"):
        ledger.sign(tmp_path / "none" / "ledger.jsonl", key)
    assert not ledger.signature_path(filled).exists()
