"""Fetch a model from a hub: metadata through huggingface_hub, bytes through a resumable download of our own.

huggingface_hub neither notices a flipped bit nor resumes in a later process, so the bytes go to a
`.part` file beside their target, continue there with a Range request, and count only once their
digest is the one that the hub's metadata gives.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl import StageError
from hrmctl_import.checksums import Expected, verify
from hrmctl_import.files import INDEX, SAFE_NAMES, read_json, weight_names

_ATTEMPTS = 5
_TIMEOUT = 30.0
_COMMIT_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository: name, size in bytes and what its bytes must hash to."""

    name: str
    size: int
    expected: Expected


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit."""

    name: str
    commit: str
    files: dict[str, RemoteFile]


class _Stalled(Exception):
    """The connection gave out before the end of the file; what came so far is kept."""


def look_up(source: str, revision: str) -> Repository:
    """The files of a repository, pinned to the commit that `revision` stands for now.

    Raises StageError: no such repository or revision, no right to it, offline, metadata incomplete.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = HfApi(endpoint=_endpoint()).model_info(
            source, revision=revision, files_metadata=True, timeout=_TIMEOUT, token=_token() or False
        )
    except RevisionNotFoundError as error:
        raise StageError(f"{source} has no revision {revision!r}; choose a branch, tag or commit of it") from error
    except RepositoryNotFoundError as error:
        reason = f"{source} is not on the hub or needs a right you lack; check the name, set HF_TOKEN"
        raise StageError(reason) from error
    except (HTTPError, OSError, ValueError) as error:
        reason = f"the hub cannot be asked for {source} ({_clean(error)}); check the network, or give a folder"
        raise StageError(reason) from error
    commit = info.sha or ""
    if len(commit) != 40 or not _COMMIT_DIGITS.issuperset(commit):
        raise StageError(f"the hub gave no commit for {source}@{revision}; try again later")
    return Repository(source, commit, {s.rfilename: _remote(s) for s in info.siblings or []})


def _remote(sibling: Any) -> RemoteFile:
    if sibling.lfs is not None:
        return RemoteFile(sibling.rfilename, sibling.lfs.size, Expected("sha256", sibling.lfs.sha256, "the hub"))
    return RemoteFile(sibling.rfilename, sibling.size or 0, Expected("git", sibling.blob_id or "", "the hub"))


def fetch(repository: Repository, folder: Path, plan: Callable[[int], Callable[[int], None]]) -> dict[str, Expected]:
    """Bring the weights, configuration and tokenizer of a repository into `folder`, each verified.

    `plan` is called once with the number of bytes to come and returns what to call as they arrive.
    Files that an earlier attempt finished are verified again, not fetched. Returns what each file
    was compared with. Raises StageError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    small = [name for name in repository.files if name in SAFE_NAMES or name == INDEX]
    silent: Callable[[int], None] = lambda _: None  # noqa: E731
    if INDEX in small:
        _fetch_one(repository, repository.files[INDEX], folder, silent)
    index = read_json(folder / INDEX) if INDEX in small else None
    weights = weight_names(repository.files, index)
    wanted = [repository.files[name] for name in (*small, *weights)]
    _check_room(folder, sum(file.size for file in wanted))
    advance = plan(sum(file.size for file in wanted))
    for file in wanted:
        _fetch_one(repository, file, folder, advance)
    return {file.name: file.expected for file in wanted}


def _check_room(folder: Path, size: int) -> None:
    there = sum(file.stat().st_size for file in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if size - there > free:
        raise StageError(f"the model needs {size - there:,} bytes more, {free:,} are free; choose another --store")


def _fetch_one(repository: Repository, file: RemoteFile, folder: Path, advance: Callable[[int], None]) -> None:
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and target.stat().st_size == file.size:
        verify(target, file.expected)
        advance(file.size)
        return
    _download(repository, file, part, advance)
    if part.stat().st_size != file.size:
        size = part.stat().st_size
        part.unlink()
        raise StageError(f"{file.name} came with {size} bytes, the hub says {file.size}; run it again")
    try:
        verify(part, file.expected)
    except StageError:
        part.unlink()
        raise
    os.replace(part, target)


def _download(repository: Repository, file: RemoteFile, part: Path, advance: Callable[[int], None]) -> None:
    part.touch()
    done = min(part.stat().st_size, file.size)
    advance(done)
    failures, furthest = 0, part.stat().st_size
    while part.stat().st_size < file.size or file.size == 0:
        try:
            _request(repository, file, part, advance)
            return
        except _Stalled as error:
            # Only new ground counts: a server that always starts again must not be asked for ever.
            failures = failures + 1 if part.stat().st_size <= furthest else 1
            furthest = max(furthest, part.stat().st_size)
            if failures >= _ATTEMPTS:
                reason = f"{file.name} cannot be fetched ({error}); run it again to continue where it stopped"
                raise StageError(reason) from error
            time.sleep(min(8.0, 0.25 * 2**failures))


def _request(repository: Repository, file: RemoteFile, part: Path, advance: Callable[[int], None]) -> None:
    """One GET for what is still missing of a file; raises _Stalled where another attempt may help."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    url = hf_hub_url(repository.name, file.name, revision=repository.commit, endpoint=_endpoint())
    offset = part.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    if token := _token():
        headers["Authorization"] = f"Bearer {token}"
    try:
        # httpx drops Authorization when a redirect leaves the host, so the token never reaches a CDN.
        with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
            _save(response, file, part, offset, advance)
    except (HTTPError, OSError) as error:
        raise _Stalled(_clean(error)) from error


def _save(response: Any, file: RemoteFile, part: Path, offset: int, advance: Callable[[int], None]) -> None:
    status = response.status_code
    if status == 416:
        part.unlink(missing_ok=True)
        part.touch()
        raise _Stalled("the server refused to continue the file")
    if status >= 500 or status == 429:
        raise _Stalled(f"the server answered {status}")
    if status not in (200, 206):
        raise StageError(f"{file.name}: the hub answered {status}; check your right to the model and HF_TOKEN")
    resumed = status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    if not resumed and status == 206:
        raise _Stalled("the server sent another range than was asked for")
    if not resumed and offset:
        advance(-offset)
    _write(response, part, "ab" if resumed else "wb", file, advance)


def _write(response: Any, part: Path, mode: str, file: RemoteFile, advance: Callable[[int], None]) -> None:
    try:
        with part.open(mode) as stream:
            # No chunk size: httpx would hold back what does not fill a chunk and lose it with the connection.
            for chunk in response.iter_raw():
                stream.write(chunk)
                advance(len(chunk))
                if stream.tell() > file.size:
                    break
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        reason = f"cannot write {file.name} ({error.strerror or error}); free space and run it again"
        raise StageError(reason) from error
    if part.stat().st_size < file.size:
        raise _Stalled("the connection ended early")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _token() -> str:
    return os.environ.get("HF_TOKEN", "").strip()


def _clean(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return text.replace(_token(), "***") if _token() else text


def commit_folder(folder: Path, commit: str) -> Path:
    """The download folder of one commit below `folder`; those of other commits are removed."""
    target = folder / commit
    target.mkdir(parents=True, exist_ok=True)
    for other in folder.iterdir():
        if other.name != commit:
            shutil.rmtree(other, ignore_errors=True)
    return target
