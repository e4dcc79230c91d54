"""Checksums known before the bytes are looked at, and their comparison with the bytes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hrmctl import StageError

MANIFEST = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file's bytes must hash to; `git` is the SHA-1 that git gives a blob of those bytes."""

    kind: Literal["sha256", "git"]
    value: str
    origin: str


def read_manifest(path: Path) -> dict[str, Expected]:
    """Expected digests by name from a file as `sha256sum` writes it. Raises StageError on any other line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise StageError(f"{path.name} is not UTF-8 text; write it with sha256sum") from error
    result: dict[str, Expected] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line.rstrip())
        if match is None and line.strip():
            raise StageError(f"{path.name}:{number}: not a line of sha256sum (64 hex digits, two spaces, name)")
        if match is not None:
            result[match[2]] = Expected("sha256", match[1].lower(), path.name)
    return result


def known_checksums(folder: Path, given: Mapping[str, str]) -> dict[str, Expected]:
    """Expected digests from the folder's SHA256SUMS and from the parameter, which must agree. Raises StageError."""
    manifest = folder / MANIFEST
    result = read_manifest(manifest) if manifest.is_file() else {}
    for name, value in given.items():
        if name in result and result[name].value != value:
            raise StageError(f"{MANIFEST} and the parameter give {name} different checksums; find out which is right")
        if not (folder / name).is_file():
            raise StageError(f"checksums name {name}, which the folder does not hold; correct the name")
        result[name] = Expected("sha256", value, "the parameter checksums")
    return result


def copy_verified(source: Path, target: Path, expected: Expected | None, advance: Callable[[int], None]) -> str:
    """Copy a regular file, comparing its bytes with what is expected of them; returns their sha256 (hex).

    Raises StageError on a difference (nothing is left at `target`) and where the disk refuses.
    """
    sha256 = hashlib.sha256()
    draft = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as reader, draft.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                sha256.update(chunk)
                writer.write(chunk)
                advance(len(chunk))
            writer.flush()
            os.fsync(writer.fileno())
    except OSError as error:
        reason = f"cannot copy {source.name} ({error.strerror or error}); free space and run it again"
        raise StageError(reason) from error
    if expected is not None:
        compare(source.name, expected, sha256.hexdigest())
    os.replace(draft, target)
    return sha256.hexdigest()


def verify(path: Path, expected: Expected) -> None:
    """Raise StageError unless the file's bytes hash to what is expected of them."""
    hasher = hashlib.sha256() if expected.kind == "sha256" else _git_hasher(path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    compare(path.name, expected, hasher.hexdigest())


def _git_hasher(size: int) -> hashlib._Hash:
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def compare(name: str, expected: Expected, found: str) -> None:
    """Raise StageError naming both digests unless they are equal."""
    if found != expected.value:
        raise StageError(
            f"{name} is corrupt: its {expected.kind} is {found[:12]}…, {expected.origin} says {expected.value[:12]}…; "
            "fetch it again"
        )
