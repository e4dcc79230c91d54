"""The store: what it gives back is what its name says, and what it cannot do it says in one line."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrmctl.errors import HrmctlError, StoreError
from hrmctl.model import Evidence, Provenance
from hrmctl.store import Store, content_digest, content_size

from .lab import listing

WHERE = Provenance("run", "s", "lab", "key", {}, {}, "d", 7, [], "1", {}, {}, "t0", "t1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"\x00\x01")
    (folder / "sub" / "b.txt").write_text("b")
    return folder


def writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


# --- digests --------------------------------------------------------------------------------------


def test_a_file_is_named_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert content_digest(path) == hashlib.sha256(b"abc").hexdigest()
    assert content_size(path) == 3


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a byte": lambda m: (m / "a.bin").write_bytes(b"\x00\x02"),
    "a name": lambda m: (m / "a.bin").rename(m / "c.bin"),
    "a new file": lambda m: (m / "new").touch(),
    "a lost file": lambda m: (m / "sub" / "b.txt").unlink(),
    "a moved file": lambda m: (m / "sub" / "b.txt").rename(m / "b.txt"),
    "swapped contents": lambda m: ((m / "a.bin").write_text("b"), (m / "sub" / "b.txt").write_bytes(b"\x00\x01")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_is_named_by_paths_and_bytes(model: Path, tmp_path: Path, change: str) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(model, copy)
    assert content_digest(copy) == content_digest(model)
    CHANGES[change](copy)
    assert content_digest(copy) != content_digest(model)


def test_links_and_special_files_are_no_artifacts(model: Path, store: Store) -> None:
    (model / "link").symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match=r"link: not a plain file; an artifact holds only plain files"):
        store.put(model, "model", "m")
    (model / "link").unlink()
    os.mkfifo(model / "pipe")
    with pytest.raises(StoreError, match=r"pipe: not a plain file"):
        store.put(model, "model", "m")
    with pytest.raises(StoreError, match="no such file or folder"):
        store.put(model / "absent", "model", "m")
    assert not store.root.exists()


# --- artifacts ------------------------------------------------------------------------------------


def test_what_is_put_is_got_again(store: Store, model: Path) -> None:
    made = store.put(model, "model", "tiny")
    found = Store(store.root).get(made.digest, "model", "tiny")
    assert found == made
    assert found.size == 3
    assert (found.path / "sub" / "b.txt").read_text() == "b"
    assert (found.path / "a.bin").stat().st_mode & 0o777 == 0o444
    assert model.exists()


def test_the_same_content_is_one_object(store: Store, model: Path, tmp_path: Path) -> None:
    first = store.put(model, "model", "one")
    before = listing(store.root)
    shutil.copytree(model, tmp_path / "again")
    assert store.put(tmp_path / "again", "model", "two").digest == first.digest
    assert listing(store.root) == before


def test_moving_takes_the_source_away(store: Store, model: Path) -> None:
    made = store.put(model, "model", "tiny", move=True)
    assert not model.exists()
    assert Store(store.root).get(made.digest, "model", "tiny").size == 3


@pytest.mark.parametrize("change", CHANGES)
def test_an_altered_object_is_refused_when_it_is_read(store: Store, model: Path, change: str) -> None:
    made = store.put(model, "model", "tiny")
    for path in made.path.rglob("*.*"):
        writable(path)
    CHANGES[change](made.path)
    with pytest.raises(StoreError, match=f"object {made.digest[:12]} in .* was altered; delete .* run its stage again"):
        Store(store.root).get(made.digest, "model", "tiny")


def test_a_missing_object_is_an_expected_error(store: Store, model: Path) -> None:
    made = store.put(model, "model", "tiny")
    shutil.rmtree(made.path)
    with pytest.raises(StoreError, match=f"object {made.digest[:12]} is missing from .*; run its stage again"):
        store.get(made.digest, "model", "tiny")


def test_storing_again_mends_an_altered_object(store: Store, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("right")
    made = [store.put(model, "model", "tiny"), store.put(file, "dataset", "file")]
    writable(made[0].path / "a.bin").write_bytes(b"\xff")
    writable(made[1].path).write_text("wrong")
    later = Store(store.root)
    later.put(model, "model", "tiny")
    later.put(file, "dataset", "file")
    for artifact in made:
        assert Store(store.root).get(artifact.digest, artifact.type, artifact.label) == artifact


def test_many_processes_put_at_once(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from hrmctl.store import Store
folder, turn = Path(sys.argv[1]), sys.argv[2]
store = Store(folder / "store")
sys.stdin.read()
for i in range(10):
    for path in (folder / "all", folder / f"own-{turn}"):
        found = store.put(path, "model", "m")
        assert Store(store.root).get(found.digest, "model", "m").size > 0
"""
    for name in ("all", "own-0", "own-1", "own-2"):
        (tmp_path / name).mkdir()
        for i in range(20):
            (tmp_path / name / f"{i}").write_text(name * 1000)
    command = [sys.executable, "-P", "-c", script, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(i)], stdin=subprocess.PIPE) for i in range(3)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    objects = tmp_path / "store" / "objects" / "sha256"
    assert len(list(objects.glob("*/*"))) == 4
    assert not list(objects.glob("*/.*"))


# --- evidence -------------------------------------------------------------------------------------

PAYLOADS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    max_size=4,
)


@given(PAYLOADS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_evidence_comes_back_as_it_was(tmp_path: Path, payload: dict[str, Any]) -> None:
    store = Store(tmp_path / "store")
    made = store.put_evidence(Evidence("e", "measurement/v1", payload, WHERE))
    assert Store(store.root).get_evidence(made.digest) == made
    assert store.put_evidence(made).digest == made.digest


def test_nan_is_no_evidence_and_nothing_is_written(store: Store) -> None:
    with pytest.raises(HrmctlError, match="not representable as canonical JSON"):
        store.put_evidence(Evidence("e", "measurement/v1", {"value": float("nan")}, WHERE))
    assert not store.root.exists()


def test_altered_and_missing_evidence_is_refused(store: Store) -> None:
    evidence = Evidence("e", "measurement/v1", {"value": 1}, WHERE)
    made = store.put_evidence(evidence)
    path = store.object_path(made.digest)
    right = path.read_bytes()
    path.write_bytes(right.replace(b'"value":1', b'"value":2'))
    with pytest.raises(StoreError, match=f"evidence {made.digest[:12]} in .* was altered; run its stage again"):
        store.get_evidence(made.digest)
    store.put_evidence(evidence)
    assert path.read_bytes() == right
    path.unlink()
    with pytest.raises(StoreError, match=f"evidence {made.digest[:12]} is missing from"):
        store.get_evidence(made.digest)


# --- cache ----------------------------------------------------------------------------------------


def test_the_cache_forgets_what_has_lost_an_object(store: Store, model: Path) -> None:
    made = store.put(model, "model", "tiny")
    seen = store.put_evidence(Evidence("e", "measurement/v1", {"value": 1}, WHERE))
    entry = {"outputs": {"model": {"digest": made.digest}}, "evidence": [seen.digest], "run": "r"}
    store.remember("key", entry)
    assert store.cached("key") == entry
    assert store.cached("other") is None
    store.object_path(seen.digest).unlink()
    assert store.cached("key") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"outputs": {"a": 1}, "evidence": []}', "\xff"])
def test_a_broken_cache_entry_is_named(store: Store, text: str) -> None:
    store.remember("key", {"outputs": {}, "evidence": []})
    (store.root / "cache" / "key.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"cache/key\.json: not a cache entry .*; delete it"):
        store.cached("key")


# --- versions, folders, locks ---------------------------------------------------------------------


def test_opening_creates_nothing(store: Store) -> None:
    assert store.latest_run() is None
    assert store.cached("key") is None
    assert not store.root.exists()


@pytest.mark.parametrize("text", ["2\n", "99", "1.5", "", "²", "\xff"])
def test_a_store_of_a_newer_version_is_refused(store: Store, text: str) -> None:
    store.prepare()
    assert Store(store.root)
    (store.root / "version").write_bytes(text.encode())
    with pytest.raises(StoreError, match=r"was written by a newer hrmctl \(store version .*\); upgrade hrmctl"):
        Store(store.root)


def test_a_version_that_cannot_be_read_is_an_expected_error(store: Store) -> None:
    (store.root / "version").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot read .*version: Is a directory"):
        Store(store.root)


@pytest.mark.parametrize("root", ["/proc/hrmctl", "file", "file/under"])
def test_a_place_that_takes_no_store_is_named(tmp_path: Path, model: Path, root: str) -> None:
    (tmp_path / "file").write_text("x")
    store = Store(tmp_path / root)
    for write in (store.prepare, lambda: store.put(model, "model", "m"), lambda: store.lock("run").__enter__()):
        with pytest.raises(StoreError, match=r"cannot create .*; make it writable or choose another --store"):
            write()


@pytest.mark.parametrize("name", ["absent", "../store", ".", "", "a/b", "a\0b"])
def test_a_run_is_looked_for_by_its_name_alone(store: Store, name: str) -> None:
    (store.runs / "20260101T000000-x-0000").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"no run '.*' in .*; latest: 20260101T000000-x-0000"):
        store.run_folder(name)


def test_the_latest_run_is_the_last_by_name(store: Store) -> None:
    for name in ("20260102T000000-b-0000", "20260101T000000-a-0000", "20260103T000000-torn-0000"):
        (store.runs / name).mkdir(parents=True)
    for name in ("20260102T000000-b-0000", "20260101T000000-a-0000"):
        (store.runs / name / "recipe.lock.yaml").touch()
    assert store.latest_run() == "20260102T000000-b-0000"


def test_scratch_stays_until_it_is_dropped(store: Store) -> None:
    (store.scratch("key") / "checkpoint").write_text("x")
    assert (store.scratch("key") / "checkpoint").read_text() == "x"
    store.drop_scratch("key")
    assert not (store.root / "scratch" / "key").exists()


def test_a_lock_is_held_by_one_and_falls_with_its_holder(store: Store) -> None:
    script = """
import sys, time
from pathlib import Path
from hrmctl.store import Store
with Store(Path(sys.argv[1])).lock("run"):
    print("held", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-P", "-c", script, str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(StoreError, match=r"another hrmctl is using .* \(run\)"), store.lock("run"):
                pass
            with store.lock("ledger"):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    with store.lock("run"):
        pass
