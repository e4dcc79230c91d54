"""Downloads against a loopback server: resume, truncation, wrong checksum, servers that fail."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hrmctl_data import download as module
from hrmctl_data.download import download

from hrmctl import StageError

from .server import FakeHub, serve

BODY = random.Random(0).randbytes(40_000)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(FakeHub(BODY)) as running:
        yield running


def fetch(hub: FakeHub, path: Path, sha256: str = SHA) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    download(hub.url, path, sha256, lambda done, total: seen.append((done, total)), pause=0.0)
    return seen


def test_a_whole_file(hub: FakeHub, tmp_path: Path) -> None:
    seen = fetch(hub, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY
    assert seen[-1] == (40_000, 40_000)
    assert hub.ranges == [None]
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_that_is_there_is_not_asked_for_again(hub: FakeHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path / "f")
    fetch(hub, tmp_path / "f")
    assert len(hub.ranges) == 1


def test_a_part_is_continued(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY[:12_345])
    seen = fetch(hub, tmp_path / "f")
    assert hub.ranges == ["bytes=12345-"]
    assert (tmp_path / "f").read_bytes() == BODY
    assert seen[-1] == (40_000, 40_000)


def test_truncated_answers_are_continued(hub: FakeHub, tmp_path: Path) -> None:
    hub.cuts = [10_000, 15_000]
    fetch(hub, tmp_path / "f")
    assert hub.ranges == [None, "bytes=10000-", "bytes=25000-"]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_server_that_always_truncates(hub: FakeHub, tmp_path: Path) -> None:
    hub.always_cut = 100
    with pytest.raises(StageError, match="ended after 500 of 40000 bytes") as caught:
        fetch(hub, tmp_path / "f")
    assert len(hub.ranges) == module.ATTEMPTS
    assert "\n" not in str(caught.value)
    assert "--file PATH" in str(caught.value)
    assert not (tmp_path / "f").exists()
    assert (tmp_path / "f.part").read_bytes() == BODY[:500]


def test_a_wrong_checksum_leaves_nothing(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=f"serves a file of sha256 {SHA}, not {'0' * 64}; .*--file PATH"):
        fetch(hub, tmp_path / "f", "0" * 64)
    assert os.listdir(tmp_path) == []
    assert len(hub.ranges) == 1


def test_a_part_of_another_file_is_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(bytes(777))
    fetch(hub, tmp_path / "f")
    assert hub.ranges == ["bytes=777-", None]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_server_without_ranges(hub: FakeHub, tmp_path: Path) -> None:
    hub.knows_ranges = False
    (tmp_path / "f.part").write_bytes(BODY[:12_345])
    fetch(hub, tmp_path / "f")
    assert len(hub.ranges) == 1
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize(("part", "requests"), [(BODY, 1), (BODY + b"more", 2)], ids=["whole", "too long"])
def test_a_part_that_lacks_nothing(hub: FakeHub, tmp_path: Path, part: bytes, requests: int) -> None:
    (tmp_path / "f.part").write_bytes(part)
    fetch(hub, tmp_path / "f")
    assert len(hub.ranges) == requests
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_busy_server_is_asked_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.statuses = [503, 429]
    fetch(hub, tmp_path / "f")
    assert len(hub.ranges) == 3


def test_a_missing_file_is_asked_for_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.statuses = [404] * 9
    with pytest.raises(StageError, match=r"the server says 404 .*--file PATH"):
        fetch(hub, tmp_path / "f")
    assert len(hub.ranges) == 1


def test_no_server(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/f"
    with pytest.raises(StageError, match=r"cannot download .*refused.*--file PATH") as caught:
        download(url, tmp_path / "f", SHA, lambda done, total: None, pause=0.0)
    assert "\n" not in str(caught.value)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_names(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    with pytest.raises(StageError, match="is this machine offline"):
        download("http://data.example/f", tmp_path / "f", SHA, lambda done, total: None, pause=99.0)


def test_files_of_this_machine_are_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    with pytest.raises(StageError, match="only http and https"):
        download((tmp_path / "secret").as_uri(), tmp_path / "f", SHA, lambda done, total: None, pause=0.0)


def test_a_killed_download_is_continued(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom hrmctl_data.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), sys.argv[3], lambda done, total: None)"
    )
    body = random.Random(1).randbytes(3_000_000)
    sha256 = hashlib.sha256(body).hexdigest()
    part = tmp_path / "f.part"
    with serve(FakeHub(body, drip=0.001)) as slow:
        child = subprocess.Popen(
            [sys.executable, "-c", code, slow.url, str(tmp_path / "f"), sha256],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = part.stat().st_size
    assert 0 < left < len(body)
    with serve(FakeHub(body)) as quick:
        download(quick.url, tmp_path / "f", sha256, lambda done, total: None)
        assert quick.ranges == [f"bytes={left}-"]
    assert (tmp_path / "f").read_bytes() == body
