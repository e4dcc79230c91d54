"""What a verdict rests on besides evidence, kept as it was: the texts of contracts and the locks of runs.

contracts/<digest>.<sha256 of the text>.yaml   every text that was judged, by the digest of what it says
locks/<sha256>.yaml                            every lock that was judged on; a resumed run has a new one

A name says what the bytes must be, so that not even a space can change unnoticed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from hrmctl.errors import StoreError
from hrmctl.jsonio import write_atomic
from hrmctl.store import Store


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def keep_text(store: Store, digest: str, text: str) -> None:
    """Keep the text of a contract whose document has this digest."""
    raw = text.encode()
    _keep(store.root / "contracts" / f"{digest}.{_sha256(raw)}.yaml", raw)


def kept_text(store: Store, digest: str) -> str:
    """A text of the contract with this digest. Raises StoreError when there is none, or any was altered."""
    found = sorted((store.root / "contracts").glob(f"{digest}.*.yaml"))
    if not found:
        raise StoreError(f"the contract {digest[:12]} is missing from {store.root}")
    texts = [_whole(path, path.name.split(".")[1], "contract").decode() for path in found]
    return texts[0]


def keep_lock(store: Store, raw: bytes) -> str:
    """Keep the lock of a run; its digest."""
    digest = _sha256(raw)
    _keep(kept_path(store, digest), raw)
    return digest


def kept_lock(store: Store, digest: str) -> bytes:
    """The lock with this digest. Raises StoreError when it is missing or altered."""
    return _whole(kept_path(store, digest), digest, "lock")


def kept_path(store: Store, digest: str) -> Path:
    """Where the lock with this digest is kept."""
    return store.root / "locks" / f"{digest}.yaml"


def _keep(path: Path, raw: bytes) -> None:
    if not path.is_file() or path.read_bytes() != raw:
        write_atomic(path, raw)


def _whole(path: Path, digest: str, what: str) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: the {what} cannot be read: {error.strerror or error}") from error
    if _sha256(raw) != digest:
        raise StoreError(f"{path}: the {what} was altered")
    return raw
