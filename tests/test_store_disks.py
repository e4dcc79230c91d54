"""The store on full and read-only disks."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from hrmctl.errors import StoreError
from hrmctl.store import Store

from .lab import on_own_disk


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


PUT = """
import os, sys
from pathlib import Path
from hrmctl.errors import StoreError
from hrmctl.model import Evidence
from hrmctl.store import Store
store = Store(Path(os.environ["DISK"]) / "store")
small, big = Path(os.environ["SMALL"]), Path(os.environ["BIG"])
def attempt(what):
    try:
        what()
        print("done")
    except StoreError as error:
        print(error)
"""


def disk(tmp_path: Path, script: str, code: str) -> list[str]:
    (tmp_path / "small").write_text("small")
    (tmp_path / "big").write_bytes(os.urandom(1_000_000))
    places = {"SMALL": str(tmp_path / "small"), "BIG": str(tmp_path / "big"), "CODE": PUT + code}
    done = on_own_disk(tmp_path / "disk", script, **places)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_is_an_expected_error_and_leaves_no_half_object(tmp_path: Path) -> None:
    code = """
attempt(lambda: store.put(small, "dataset", "s"))
attempt(lambda: store.put(big, "dataset", "b"))
attempt(lambda: store.put_evidence(Evidence("e", "text/v1", {"text": "x" * 1_000_000})))
attempt(lambda: store.put(small, "dataset", "s"))
print(sum(len(files) for _, _, files in os.walk(store.root / "objects")))
"""
    lines = disk(tmp_path, '"$PYTHON" -P -c "$CODE"', code)
    assert lines[0] == lines[3] == "done"
    assert lines[1].startswith(f"cannot store {tmp_path}/big: ")
    assert "No space left on device" in lines[1]
    assert lines[1].endswith("free space or change --store")
    assert lines[2].startswith("cannot write ")
    assert lines[2].endswith("No space left on device; free space, or choose another place")
    assert lines[4] == "1"


def test_a_read_only_disk_is_an_expected_error(tmp_path: Path) -> None:
    code = """
attempt(store.prepare)
attempt(lambda: store.put(small, "dataset", "s"))
attempt(lambda: store.lock("run").__enter__())
attempt(lambda: store.remember("k", {}))
"""
    script = """
    mkdir -p "$DISK/store"
    "$PYTHON" -P -c "$CODE" > /dev/null
    mount -o remount,ro "$DISK"
    printf 'other' > "$SMALL"
    "$PYTHON" -P -c "$CODE"
    """
    lines = disk(tmp_path, script, code)
    assert len(lines) == 4
    for line in lines[:3]:
        assert line.endswith("read-only; make it writable or choose another --store")
    assert "Read-only file system" in lines[3]


def test_reading_works_on_a_read_only_disk(tmp_path: Path) -> None:
    code = f"""
digest = "{hashlib.sha256(b"small").hexdigest()}"
if len(sys.argv) == 1:
    store.put(small, "dataset", "s")
else:
    print(Store(store.root).get(digest, "dataset", "s").path.read_text())
"""
    script = '"$PYTHON" -P -c "$CODE"\nmount -o remount,ro "$DISK"\n"$PYTHON" -P -c "$CODE" again'
    assert disk(tmp_path, script, code) == ["small"]


def test_a_folder_that_may_not_be_written_is_an_expected_error(tmp_path: Path, store: Store) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the read-only disk stands for it")
    store.prepare()
    store.root.chmod(0o555)
    with pytest.raises(StoreError, match=r"cannot create|read-only"):
        store.scratch("key")
    store.root.chmod(0o755)


def test_time_is_not_wasted_on_a_lock(store: Store) -> None:
    begun = time.monotonic()
    with store.lock("run"), pytest.raises(StoreError), store.lock("run"):
        pass
    assert time.monotonic() - begun < 1
