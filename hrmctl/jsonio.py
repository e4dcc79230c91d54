"""Canonical JSON, digests and atomic writes. Canonical JSON has sorted keys and refuses NaN and Infinity."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from errno import ENOSPC
from pathlib import Path
from typing import Any

from hrmctl.errors import HrmctlError, StoreError


def to_json(value: Any) -> Any:
    """Plain JSON types from dataclasses, enums, paths, tuples and mappings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def canonical(value: Any) -> str:
    """One line of canonical JSON. Raises HrmctlError on NaN, Infinity, lone surrogates and types that JSON has not."""
    try:
        text = json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
        return text
    except (ValueError, TypeError, RecursionError) as error:
        raise HrmctlError(f"not representable as canonical JSON: {error}") from error


def digest_of(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def document_digest(value: Any) -> str:
    """sha256 (hex) of a document that may hold NaN or infinity, as a control of a contract does."""
    return digest_of(_spelt(value))


def _spelt(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"not finite": str(value)}
    if isinstance(value, dict):
        return {key: _spelt(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spelt(item) for item in value]
    return value


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def loads(text: str, where: str = "") -> Any:
    """Parse JSON, refusing NaN, Infinity (`1e999` too) and duplicate keys. Raises HrmctlError."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise HrmctlError(f"{where or 'JSON'}: {error}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing: temp file beside it, fsync, rename, fsync of the folder."""
    raw = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(raw)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        remedy = "free space" if error.errno == ENOSPC else "make room for a file there"
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; {remedy}, or choose another place"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; a no-op where folders cannot be opened (Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
