"""The store: artifacts, evidence and cache entries named by digest, and one folder for each run.

objects/sha256/ab/cdef…   files and folders, read-only, checked against their name when read
cache/<key>.json          what a finished stage gave, by the digest of everything it depends on
scratch/<key>/            where a stage works; kept until it finishes, so that it can resume
runs/<id>/                recipe.lock.yaml, events.jsonl, metrics.jsonl, evidence/, report.html
contracts/, locks/        what verdicts rest on besides evidence, see `run.kept`
ledger.jsonl              see `ledger`
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from hrmctl.errors import HrmctlError, StoreError
from hrmctl.jsonio import canonical, file_digest, loads, sync_folder, write_atomic
from hrmctl.model import EMPTY, Artifact, ArtifactType, Evidence, Provenance

VERSION = 1
_HEAD, _TAIL = 4096, 16384


def content_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes, or of a folder's manifest. Raises StoreError on links and special files."""
    if path.is_file() and not path.is_symlink():
        return file_digest(path)
    rows = [[str(f.relative_to(path)), f.stat().st_size, file_digest(f)] for f in _files(path)]
    return hashlib.sha256(canonical(rows).encode()).hexdigest()


def content_size(path: Path) -> int:
    """Bytes of a file or of all files of a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in _files(path))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such file or folder")
    found = sorted(p for p in folder.rglob("*") if not p.is_dir() or p.is_symlink())
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise StoreError(f"{path}: not a plain file; an artifact holds only plain files")
    return found


class Store:
    """One store folder. Opening it never creates anything; the first write does."""

    def __init__(self, root: Path):
        self.root = root
        self._verified: set[str] = set()
        self._check_version()

    # --- folders -------------------------------------------------------------------------------

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    def run_folder(self, run: str) -> Path:
        """The folder of a run. Raises StoreError when the store has none of that name."""
        folder = self.runs / run
        if not run or "/" in run or run.startswith(".") or not folder.is_dir():
            known = [p.name for p in sorted(self.runs.glob("*"))][-3:]
            raise StoreError(f"no run '{run}' in {self.root}; latest: {', '.join(known) or 'none'}")
        return folder

    def run_ids(self) -> list[str]:
        """The ids of all runs of a whole recipe, newest first; of all runs where there is no such.

        Ids begin with their time; those of a single stage or of `--only` say so, and are not what a check means.
        """
        found = sorted((p.name for p in self.runs.glob("*") if (p / "recipe.lock.yaml").is_file()), reverse=True)
        return [name for name in found if ".stage-" not in name and ".only-" not in name] or found

    def latest_run(self) -> str | None:
        """The first of `run_ids`; None without one."""
        return next(iter(self.run_ids()), None)

    def scratch(self, key: str) -> Path:
        """The working folder of the stage with this key; it exists afterwards."""
        return self._make(self.root / "scratch" / key)

    def drop_scratch(self, key: str) -> None:
        """Remove a finished stage's working folder."""
        shutil.rmtree(self.root / "scratch" / key, ignore_errors=True)
        (self.root / "scratch" / f"{key}.lock").unlink(missing_ok=True)

    def prepare(self) -> None:
        """Create the store, or say why it cannot be written. Raises StoreError."""
        self._make(self.root)
        if not (self.root / "version").exists():
            write_atomic(self.root / "version", f"{VERSION}\n")

    def _make(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "make it writable or choose another --store"
            raise StoreError(f"cannot create {folder}: {error.strerror or error}; {remedy}") from error
        if not os.access(folder, os.W_OK):
            raise StoreError(f"cannot write {folder}: read-only; make it writable or choose another --store")
        return folder

    def _check_version(self) -> None:
        path = self.root / "version"
        if not path.exists():
            return
        try:
            text = path.read_text(errors="replace").strip()
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}; choose another --store") from error
        if not text.isdecimal() or int(text) > VERSION:
            raise StoreError(f"{self.root} was written by a newer hrmctl (store version {text[:20]}); upgrade hrmctl")

    def sweep(self) -> None:
        """Remove what a killed run left half written. Only for who holds the lock of runs."""
        for pattern in ("runs/*/.*", "runs/*/evidence/.*", "cache/.*", "objects/sha256/*/.*"):
            for path in self.root.glob(pattern):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, name: str, holder: str = "", shared: bool = False) -> Iterator[None]:
        """Hold the named lock of this store, alone or with others who share it; `holder` says for whom it is alone.

        Raises StoreError when another process has it.
        """
        self.prepare()
        path = self.root / f".{name}.lock"
        try:
            stream = path.open("a+")
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another --store") from error
        with stream:
            # Whoever asks for the holder has the lock for a moment.
            if not any(_locks(stream, shared, pause) for pause in (0.05, 0.05, 0)):
                raise StoreError(f"another hrmctl is using {self.root} ({name}); wait for it or use --store")
            if not shared:
                stream.truncate(0)
                stream.write(holder)
                stream.flush()
            yield

    def holder(self, name: str) -> str | None:
        """For whom the named lock is held (empty: it was not said), None when no process holds it."""
        path = self.root / f".{name}.lock"
        try:
            with path.open() as stream:
                return None if _locks(stream, shared=True) else stream.read()
        except FileNotFoundError:
            return None

    # --- artifacts -----------------------------------------------------------------------------

    def object_path(self, digest: str) -> Path:
        return self.root / "objects" / "sha256" / digest[:2] / digest[2:]

    def put(self, source: Path, type: ArtifactType, label: str, move: bool = False) -> Artifact:
        """Bring a file or folder into the store and name it by its digest. Raises StoreError."""
        digest, size = content_digest(source), content_size(source)
        target = self.object_path(digest)
        if not self._holds(digest):
            self._bring(source, target, move)
        self._verified.add(digest)
        return Artifact(digest, type, label, target, size)

    def _holds(self, digest: str) -> bool:
        """Whether the object is there and whole; one that was altered is removed, so that it can be stored anew."""
        path = self.object_path(digest)
        if self._whole(digest):
            return True
        if path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return False

    def _whole(self, digest: str) -> bool:
        """Whether the object is there and is what its name says; each is read once."""
        path = self.object_path(digest)
        if digest not in self._verified and (not path.exists() or content_digest(path) != digest):
            return False
        self._verified.add(digest)
        return path.exists()

    def _bring(self, source: Path, target: Path, move: bool) -> None:
        self.prepare()
        self._make(target.parent)
        try:
            with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent, ignore_cleanup_errors=True) as staging:
                copy = Path(staging) / "object"
                _copy(source, copy, move)
                _seal(copy)
                _place(copy, target)
                sync_folder(target.parent)
        except OSError as error:
            raise StoreError(
                f"cannot store {source}: {error.strerror or error}; free space or change --store"
            ) from error

    def get(self, digest: str, type: ArtifactType, label: str) -> Artifact:
        """The artifact of this digest, verified. Raises StoreError when it is missing or altered."""
        path = self.object_path(digest)
        if not path.exists():
            raise StoreError(f"object {digest[:12]} is missing from {self.root}; run its stage again")
        if digest not in self._verified and content_digest(path) != digest:
            raise StoreError(f"object {digest[:12]} in {self.root} was altered; delete {path} and run its stage again")
        self._verified.add(digest)
        return Artifact(digest, type, label, path, content_size(path))

    # --- evidence ------------------------------------------------------------------------------

    def put_evidence(self, evidence: Evidence) -> Evidence:
        """Keep one piece of evidence as an object; the result carries its digest."""
        body = canonical(
            {
                "type": evidence.type,
                "name": evidence.name,
                "payload": evidence.payload,
                "provenance": evidence.provenance,
            }
        )
        digest = hashlib.sha256(body.encode()).hexdigest()
        path = self.object_path(digest)
        if not path.is_file() or path.read_bytes() != body.encode():
            write_atomic(path, body)
        return Evidence(evidence.name, evidence.type, evidence.payload, evidence.provenance, digest)

    def get_evidence(self, digest: str) -> Evidence:
        """The evidence of this digest, verified. Raises StoreError."""
        data = loads(self._evidence_bytes(digest).decode(), str(self.object_path(digest)))
        provenance = Provenance(**data["provenance"]) if data["provenance"] else None
        return Evidence(data["name"], data["type"], data["payload"], provenance, digest)

    def heading(self, digest: str) -> Evidence:
        """The evidence of this digest, verified, without its payload, which is not parsed. Raises StoreError.

        The canonical form has name, payload, provenance and type in this order, so that both ends of the file do.
        """
        raw = self._evidence_bytes(digest)
        name, _, rest = raw[:_HEAD].partition(b',"payload":')
        _, found, source = raw[-_TAIL:].rpartition(b',"provenance":{')
        if not rest or not found:
            return replace(self.get_evidence(digest), payload=EMPTY)
        try:
            data = json.loads(name + b',"provenance":{' + source)
            return Evidence(data["name"], data["type"], EMPTY, Provenance(**data["provenance"]), digest)
        except (ValueError, LookupError, TypeError):
            raise StoreError(f"object {digest[:12]} in {self.root} is not evidence; run its stage again") from None

    def _evidence_bytes(self, digest: str) -> bytes:
        path = self.object_path(digest)
        if not path.is_file():
            raise StoreError(f"evidence {digest[:12]} is missing from {self.root}; run its stage again")
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != digest:
            raise StoreError(f"evidence {digest[:12]} in {self.root} was altered; run its stage again")
        return raw

    # --- cache ---------------------------------------------------------------------------------

    def cached(self, key: str) -> Mapping[str, Any] | None:
        """What the stage with this key gave, or None; an entry whose objects are gone or altered counts as none."""
        path = self.root / "cache" / f"{key}.json"
        if not path.is_file():
            return None
        try:
            entry: Mapping[str, Any] = loads(path.read_text(), str(path))
            digests = [*(o["digest"] for o in entry["outputs"].values()), *entry["evidence"]]
        except (HrmctlError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: not a cache entry ({type(error).__name__}); delete it") from error
        return entry if all(self._whole(d) for d in digests) else None

    def remember(self, key: str, entry: Mapping[str, Any]) -> None:
        write_atomic(self.root / "cache" / f"{key}.json", canonical(entry))


def _locks(stream: IO[str], shared: bool, pause: float = 0) -> bool:
    """Whether the file could be locked; after a failure waits `pause` seconds."""
    import fcntl

    try:
        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    except OSError:
        time.sleep(pause)
        return False


def _copy(source: Path, target: Path, move: bool) -> None:
    if move:
        os.replace(source, target)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _place(copy: Path, target: Path) -> None:
    try:
        os.replace(copy, target)
    except OSError:
        # Another process may have stored the same bytes in the meantime.
        if not target.exists():
            raise


def _seal(path: Path) -> None:
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if item.is_file():
            handle = os.open(item, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
            item.chmod(0o444)
