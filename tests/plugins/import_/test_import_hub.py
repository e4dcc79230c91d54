"""Import by name, against a hub that runs on the loopback interface and can be told to misbehave."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hrmctl_import import hub
from hrmctl_import.params import ImportParams
from hrmctl_import.stage import run

from hrmctl import InputError, StageError, StageResult
from hrmctl.testing import RecordingContext, make_context

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "model.safetensors"


@dataclass
class FakeHub:
    """One repository, `owner/tiny`, served from `folder`; `corrupt` answers for a file's bytes."""

    folder: Path
    commit: str = COMMIT
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    redirect_to: str = ""
    corrupt: Callable[[str, bytes], bytes] = lambda name, raw: raw
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""

    def listing(self) -> dict[str, Any]:
        siblings = [self._sibling(path) for path in sorted(self.folder.iterdir())]
        return {"id": "owner/tiny", "sha": self.commit, "siblings": siblings}

    def _sibling(self, path: Path) -> dict[str, Any]:
        raw = path.read_bytes()
        entry: dict[str, Any] = {"rfilename": path.name, "size": len(raw)}
        entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
        if path.suffix == ".safetensors":
            entry["lfs"] = {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest(), "pointerSize": 134}
        return entry


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.hub.requests.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if self.path.startswith("/api/models/owner/tiny"):
            self._metadata()
        elif self.path.startswith(f"/owner/tiny/resolve/{self.hub.commit}/"):
            self._file(self.path.rsplit("/", 1)[1])
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _metadata(self) -> None:
        if "/revision/nowhere" in self.path:
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._answer(200, json.dumps(self.hub.listing()).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        if self.hub.redirect_to:
            return self._answer(302, b"", {"Location": self.hub.redirect_to + self.path})
        raw = self.hub.corrupt(name, (self.hub.folder / name).read_bytes())
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.hub.ranges else 0
        if start >= len(raw):
            return self._answer(416, b"", {})
        headers = {"Content-Range": f"bytes {start}-{len(raw) - 1}/{len(raw)}"} if wanted and self.hub.ranges else {}
        cuts = self.hub.cut_after.get(name, [])
        self._answer(206 if headers else 200, raw[start:], headers, cuts.pop(0) if cuts else None)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True


def serve(fake: FakeHub) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": fake}))
    fake.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.fixture
def fake(copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub(copy("hrm-tiny"))
    server = serve(fake)
    monkeypatch.setenv("HF_ENDPOINT", fake.address)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(hub.time, "sleep", lambda _: None)
    yield fake
    server.shutdown()
    server.server_close()


def bring(context: RecordingContext, **params: Any) -> StageResult:
    return run(ImportParams(source="owner/tiny", **params), {}, context)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_by_name_is_fetched_verified_and_pinned(fake: FakeHub, tmp_path: Path) -> None:
    (fake.folder / "pytorch_model.bin").write_bytes(b"never fetched")
    (fake.folder / "modeling.py").write_bytes(b"never fetched")
    result = bring(make_context(tmp_path))
    output = result.artifacts["model"]
    found = {o.name: o.payload for o in result.evidence}
    assert output.label == "owner/tiny"
    assert sha256(output.path / WEIGHTS) == sha256(fake.folder / WEIGHTS)
    assert found["tensors"]["context"] == {"source": "owner/tiny", "revision": "main", "commit": COMMIT}
    assert found["checksummed_files"] == {"value": 1, "unit": "files", "n": 1, "context": {"against": ["the hub"]}}
    fetched = {path.rsplit("/", 1)[1] for path, _, _ in fake.requests if "/resolve/" in path}
    assert fetched == {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS}


def test_shards_are_found_through_their_index(fake: FakeHub, sharded: Path, tmp_path: Path) -> None:
    fake.folder = sharded
    result = bring(make_context(tmp_path))
    count = len(list(sharded.glob("*.safetensors")))
    assert next(o.payload["value"] for o in result.evidence if o.name == "checksummed_files") == count > 1
    sorted(sharded.glob("*.safetensors"))[0].unlink()
    with pytest.raises(StageError, match="is missing although"):
        bring(make_context(tmp_path / "again"))


def test_a_cut_connection_is_continued_with_a_range(fake: FakeHub, tmp_path: Path) -> None:
    fake.cut_after[WEIGHTS] = [1000, 2000]
    context = make_context(tmp_path)
    result = bring(context)
    ranges = [asked for path, asked, _ in fake.requests if path.endswith(WEIGHTS)]
    assert ranges == ["", "bytes=1000-", "bytes=3000-"]
    assert sha256(result.artifacts["model"].path / WEIGHTS) == sha256(fake.folder / WEIGHTS)
    done, total, _ = context.rows[-1]
    assert done == total


def test_a_killed_download_is_continued_by_the_next_process(fake: FakeHub, tmp_path: Path) -> None:
    fake.cut_after[WEIGHTS] = [5000] + [0] * 10
    with pytest.raises(StageError, match="run it again to continue where it stopped"):
        bring(make_context(tmp_path))
    assert (tmp_path / "scratch/download" / COMMIT / f"{WEIGHTS}.part").stat().st_size == 5000
    fake.cut_after.clear()
    fake.requests.clear()
    bring(make_context(tmp_path))
    resolved = [(path.rsplit("/", 1)[1], asked) for path, asked, _ in fake.requests if "/resolve/" in path]
    assert resolved == [(WEIGHTS, "bytes=5000-")]


def test_a_server_without_ranges_is_read_from_the_start(fake: FakeHub, tmp_path: Path) -> None:
    fake.ranges = False
    fake.cut_after[WEIGHTS] = [5000]
    result = bring(make_context(tmp_path))
    assert sha256(result.artifacts["model"].path / WEIGHTS) == sha256(fake.folder / WEIGHTS)


def test_a_server_that_always_starts_again_and_breaks_off_is_given_up(fake: FakeHub, tmp_path: Path) -> None:
    fake.ranges = False
    fake.cut_after[WEIGHTS] = [5000, 4000] * 20
    with pytest.raises(StageError, match="cannot be fetched"):
        bring(make_context(tmp_path))
    assert len(fake.cut_after[WEIGHTS]) > 30


def test_a_part_longer_than_the_file_is_started_again(fake: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "scratch/download" / COMMIT
    folder.mkdir(parents=True)
    (folder / f"{WEIGHTS}.part").write_bytes(b"x" * (fake.folder / WEIGHTS).stat().st_size + b"more")
    with pytest.raises(StageError, match="came with"):
        bring(make_context(tmp_path))
    bring(make_context(tmp_path))


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_flipped_bit_on_the_way_is_refused_and_not_kept(name: str, fake: FakeHub, tmp_path: Path) -> None:
    fake.corrupt = lambda file, raw: raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:] if file == name else raw
    with pytest.raises(StageError, match=f"{name}.* is corrupt: .* the hub says"):
        bring(make_context(tmp_path))
    assert not list((tmp_path / "scratch/download" / COMMIT).glob(f"{name}*"))
    fake.corrupt = lambda file, raw: raw
    bring(make_context(tmp_path))


def test_a_finished_file_that_rotted_on_disk_is_refused(fake: FakeHub, tmp_path: Path) -> None:
    result = bring(make_context(tmp_path))
    path = result.artifacts["model"].path / WEIGHTS
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StageError, match="is corrupt"):
        bring(make_context(tmp_path))


def test_bytes_of_another_commit_are_never_mixed_in(fake: FakeHub, tmp_path: Path) -> None:
    fake.cut_after[WEIGHTS] = [5000] + [0] * 10
    with pytest.raises(StageError):
        bring(make_context(tmp_path))
    fake.cut_after.clear()
    fake.commit = "f" * 40
    result = bring(make_context(tmp_path))
    assert [p.name for p in (tmp_path / "scratch/download").iterdir()] == ["f" * 40]
    assert result.artifacts["model"].path.name == "f" * 40


def test_checksums_of_the_parameter_hold_for_the_hub_too(fake: FakeHub, tmp_path: Path) -> None:
    bring(make_context(tmp_path), checksums={WEIGHTS: sha256(fake.folder / WEIGHTS)})
    with pytest.raises(StageError, match="the parameter checksums says 000000000000"):
        bring(make_context(tmp_path), checksums={WEIGHTS: "0" * 64})
    with pytest.raises(StageError, match="is not fetched"):
        bring(make_context(tmp_path), checksums={"other.bin": "0" * 64})


def test_the_token_goes_to_the_hub_alone(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    elsewhere = FakeHub(fake.folder, cut_after={WEIGHTS: [1000]})
    server = serve(elsewhere)
    fake.redirect_to = elsewhere.address.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = bring(make_context(tmp_path))
    server.shutdown()
    server.server_close()
    assert {token for _, _, token in fake.requests} == {"Bearer hf_secret"}
    assert {token for _, _, token in elsewhere.requests} == {""}
    assert [asked for path, asked, _ in elsewhere.requests if path.endswith(WEIGHTS)] == ["", "bytes=1000-"]
    assert "hf_secret" not in caplog.text
    assert "hf_secret" not in repr(result)


@pytest.mark.parametrize(
    ("source", "revision", "reason"),
    [
        ("owner/absent", "main", "owner/absent is not on the hub or needs a right"),
        ("owner/tiny", "nowhere", "has no revision 'nowhere'"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    source: str, revision: str, reason: str, fake: FakeHub, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=reason) as caught:
        run(ImportParams(source=source, revision=revision), {}, make_context(tmp_path))
    assert "\n" not in str(caught.value)


def test_offline_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StageError, match="the hub cannot be asked for owner/tiny") as caught:
        bring(make_context(tmp_path))
    assert "\n" not in str(caught.value)


def test_repositories_of_pickles_are_refused_before_anything_is_fetched(fake: FakeHub, tmp_path: Path) -> None:
    (fake.folder / WEIGHTS).unlink()
    (fake.folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(StageError, match="weights are pickles"):
        bring(make_context(tmp_path))
    assert not [path for path, _, _ in fake.requests if "/resolve/" in path]


def test_a_model_larger_than_the_disk_is_refused(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(StageError, match="1,000 are free"):
        bring(make_context(tmp_path))


def test_a_digest_belongs_to_a_folder(fake: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="digest is of a local folder"):
        bring(make_context(tmp_path), digest="0" * 64)
