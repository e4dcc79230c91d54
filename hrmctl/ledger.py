"""The ledger: an append-only, hash-chained JSONL file with one verdict per obligation per check.

Every row is one line of canonical JSON whose `hash` is the sha256 of the row without it and whose
`prev` is the hash of the row before. Beside it `ledger.head.json` says how much of the file is
committed: rows are written and fsynced first, the head is replaced after, so that a crash leaves
either all rows of a check or bytes beyond the head, which no reader takes for rows and the next
append removes. Whoever can rewrite both files can forge both: sign the head where that matters.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hrmctl.errors import HrmctlError, InputError, Problem, StoreError
from hrmctl.jsonio import canonical, loads, to_json, write_atomic
from hrmctl.model import EMPTY, Judgement

VERSION = 1
GENESIS = "0" * 64
NAMESPACE = "hrmctl-ledger"
Row = Mapping[str, Any]
_log = logging.getLogger(__name__)
_EMPTY: Row = {"version": VERSION, "seq": 0, "hash": GENESIS, "bytes": 0}
_KEYS = (
    "contract", "contract_digest", "title", "subject", "profile", "kind", "run", "verdict", "because",
    "reason", "remedy", "measured", "evidence", "subjects", "labels", "attempts",
)  # fmt: skip


def head_path(path: Path) -> Path:
    """The head record that belongs to the ledger at `path`."""
    return path.with_name(f"{path.stem}.head.json")


def signature_path(path: Path) -> Path:
    """The signature over the head record of the ledger at `path`."""
    return path.with_name(f"{path.stem}.head.json.sig")


# --- reading ------------------------------------------------------------------------------------


def rows(path: Path) -> list[Row]:
    """The committed rows in order; none where there is no ledger. Raises StoreError on a broken file or chain."""
    lines, _, problems = _read(path)
    found, broken = _chain(path, lines)
    if problems or broken:
        raise StoreError(*problems, *broken)
    return found


def verify(path: Path) -> list[Problem]:
    """Every changed, missing, reordered, repeated or truncated row, a wrong head, and what lies beyond the head."""
    try:
        lines, tail, problems = _read(path)
    except HrmctlError as error:
        return list(error.problems)
    if problems and path.exists():
        lines = path.read_text(errors="replace").split("\n")[:-1]
    problems = [*problems, *_chain(path, lines)[1]]
    if tail:
        text = f"{tail} bytes after the last committed row: an append that was interrupted, or that hrmctl did not make"
        problems.append(Problem(text, str(path), len(lines) + 1, 1, "the next check removes them"))
    return problems


def _read(path: Path) -> tuple[list[str], int, list[Problem]]:
    """Committed lines, the number of bytes beyond them, and what is wrong with head or length."""
    try:
        raw = path.read_bytes() if path.exists() else b""
        head = _head(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    if head is None:
        lost = [Problem("the head record is missing", str(head_path(path)), remedy="restore it")] if raw else []
        return [], 0, lost
    size = head["bytes"]
    if len(raw) < size:
        text = f"truncated: {len(raw)} bytes of the {size} that the head record says"
        return [], 0, [Problem(text, str(path), raw.count(b"\n") + 1, 1, "restore it from a copy")]
    try:
        lines = raw[:size].decode().split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return [], 0, [Problem("changed: not UTF-8", str(path), line, 1, "restore it from a copy")]
    if lines.pop() != "":
        return [], 0, [Problem("the head record ends inside a row", str(path), len(lines) + 1, 1)]
    return lines, len(raw) - size, []


def _head(path: Path) -> Row | None:
    place = head_path(path)
    if not place.exists():
        return None
    text = place.read_bytes().decode(errors="replace")
    head: Row = loads(text, str(place))
    version = head.get("version") if isinstance(head, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise StoreError(f"{place}: written by a newer hrmctl (version {version}, this one reads {VERSION}); upgrade")
    shape = {"version": int, "seq": int, "hash": str, "bytes": int}
    whole = isinstance(head, dict) and {key: type(value) for key, value in head.items()} == shape
    if not whole or version != VERSION or text != canonical(head) + "\n":
        raise StoreError(f"{place}: not a head record; restore it from a copy")
    return head


def _chain(path: Path, lines: Sequence[str]) -> tuple[list[Row], list[Problem]]:
    """The rows, and every place where the chain is broken."""
    problems: list[Problem] = []
    found: list[Row] = []
    prev, expected = GENESIS, 1
    seen: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(lines, 1):
        row, fault = _parse(line)
        found.append(row)
        fault = fault or _link_fault(row, prev, expected) or _twice(row, seen, number)
        if fault:
            problems.append(Problem(fault, str(path), number, 1))
        prev, expected = str(row.get("hash", "")), _int(row.get("seq"), expected) + 1
    head = _head(path) or _EMPTY
    if (prev, expected - 1) != (head["hash"], head["seq"]):
        text = f"the head record names row {head['seq']}, the ledger ends with row {expected - 1}"
        problems.append(Problem(f"{text} or another hash", str(head_path(path))))
    return found, problems


def _int(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default


def _parse(line: str) -> tuple[Row, str]:
    try:
        row = loads(line)
    except HrmctlError as error:
        return {}, f"changed: {error}"
    if not isinstance(row, dict):
        return {}, "changed: not a row"
    if canonical(row) != line or row.get("hash") != _hash(row):
        return row, "changed: the row does not have the hash that it says"
    return row, ""


def _hash(row: Row) -> str:
    return hashlib.sha256(canonical({k: v for k, v in row.items() if k != "hash"}).encode()).hexdigest()


def _link_fault(row: Row, prev: str, expected: int) -> str:
    seq = _int(row.get("seq"), 0)
    if seq > expected:
        return f"missing: row {expected}{f' to {seq - 1}' if seq - 1 > expected else ''} before row {seq}"
    if seq < expected:
        return f"out of order or repeated: row {seq} where row {expected} belongs"
    return "" if row.get("prev") == prev else f"changed: row {seq} does not follow from the row before it"


def _twice(row: Row, seen: dict[tuple[Any, ...], int], number: int) -> str:
    key = tuple(str(row.get(name)) for name in ("check", "contract", "subject", "profile"))
    first = seen.setdefault(key, number)
    if first == number:
        return ""
    return f"a second verdict for {key[1]}/{key[2]} in check {key[0]}; the first is in line {first}"


# --- appending ----------------------------------------------------------------------------------


class Moved(StoreError):
    """Another check was recorded between reading the ledger and writing to it."""


def append(
    path: Path,
    check: str,
    judgements: Sequence[Judgement],
    *,
    time: str = "",
    after: int | None = None,
    locks: Mapping[str, str] = EMPTY,
) -> list[Judgement]:
    """Append one row a judgement, all or none, and return the judgements with their `attempts` counted.

    `locks` gives the digest of each run's lock, and `after` the number of rows that the judgements rest on. Raises
    Moved where there are others by now, StoreError where the ledger was tampered with or cannot be written, InputError
    where an obligation comes twice.
    """
    _refuse_twice(judgements)
    if not judgements:
        return []
    with _locked(path):
        before = _committed(path)
        if after is not None and len(before) != after:
            raise Moved(f"{path}: another check was recorded meanwhile; check again")
        counted = _with_attempts(before, judgements)
        head = _head(path) or _EMPTY
        common = {"check": check, "time": time or datetime.now(UTC).isoformat(timespec="milliseconds")}
        new = list(_chained(head, common, counted, locks))
        raw = "".join(canonical(row) + "\n" for row in new).encode()
        _write(path, head["bytes"], raw)
        last = {"seq": new[-1]["seq"], "hash": new[-1]["hash"], "bytes": head["bytes"] + len(raw)}
        write_atomic(head_path(path), canonical({"version": VERSION, **last}) + "\n")
    return counted


def _refuse_twice(judgements: Sequence[Judgement]) -> None:
    names = Counter(judgement.obligation for judgement in judgements)
    twice = sorted(name for name, times in names.items() if times > 1)
    if twice:
        raise InputError(f"two verdicts for {twice[0]} in one check; give each obligation once")


def _committed(path: Path) -> list[Row]:
    """All rows of a ledger in order; prepares the head of a new one, and notes an interrupted append."""
    lines, tail, problems = _read(path)
    found, broken = _chain(path, lines) if not problems else ([], problems)
    if broken:
        remedy = "nothing was appended; see `hrmctl ledger verify`"
        raise StoreError(*broken, Problem("the ledger was tampered with", str(path), remedy=remedy))
    if not head_path(path).exists():
        write_atomic(head_path(path), canonical(_EMPTY) + "\n")
    if tail:
        _log.warning("%s: removed %d bytes of an append that was interrupted", path, tail)
    return found


def _chained(head: Row, common: Row, judgements: Sequence[Judgement], locks: Mapping[str, str]) -> Iterator[Row]:
    seq, prev = head["seq"], head["hash"]
    for judgement in judgements:
        seq += 1
        values = to_json(judgement)
        lock = locks.get(judgement.run, "")
        row = {**common, "seq": seq, "prev": prev, "lock": lock, **{key: values[key] for key in _KEYS}}
        prev = _hash(row)
        yield {**row, "hash": prev}


def _write(path: Path, offset: int, raw: bytes) -> None:
    try:
        with path.open("r+b" if path.exists() else "w+b") as stream:
            stream.truncate(offset)
            stream.seek(offset)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        with suppress(OSError):
            os.truncate(path, offset)
        raise StoreError(f"cannot append to {path}: {error.strerror or error}; nothing was recorded") from error


def _with_attempts(before: Sequence[Row], judgements: Sequence[Judgement]) -> list[Judgement]:
    attempts = Attempts(before)
    for judgement in judgements:
        attempts.add(judgement.contract, judgement.subjects)
    return [replace(j, attempts=attempts.count(j.contract, j.subjects)) for j in judgements]


class Attempts:
    """How many different models were judged on each test set: on a data set digest, whatever the contract.

    A model is one whatever was judged of it and however often. The models of all seeds, judged together, are one
    attempt, and each of them judged alone is still that one. What is judged on no data set is counted by contract, and
    its other artifacts stand for the model. What was never bound to anything (UNTESTED, BLOCKED) is no attempt.
    """

    def __init__(self, rows: Sequence[Row] = ()):
        self._attempts: dict[tuple[str, str], list[frozenset[str]]] = {}
        for row in rows:
            self.add(row["contract"], row["subjects"])

    def add(self, contract: str, subjects: Mapping[str, str]) -> None:
        """Note that a contract was judged on these digests by role."""
        place = _test_set(contract, subjects)
        self._attempts[place] = _joined(self._attempts.get(place, []), _models(subjects))

    def count(self, contract: str, subjects: Mapping[str, str]) -> int:
        """The models judged on the test set of these digests, their own included; 0 for what is bound to nothing."""
        if not subjects:
            return 0
        return len(_joined(self._attempts.get(_test_set(contract, subjects), []), _models(subjects)))


def _joined(attempts: Sequence[frozenset[str]], models: frozenset[str]) -> list[frozenset[str]]:
    """The attempts with one more, which is the same as those that it shares a model with."""
    if not models:
        return list(attempts)
    same = [attempt for attempt in attempts if attempt & models]
    return [attempt for attempt in attempts if not attempt & models] + [models.union(*same)]


def _test_set(contract: str, subjects: Mapping[str, str]) -> tuple[str, str]:
    dataset = subjects.get("dataset", "")
    return ("", dataset) if dataset else (contract, "")


def _models(subjects: Mapping[str, str]) -> frozenset[str]:
    """The models that were judged: several where they are those of all seeds, whose digests are joined by `+`."""
    others = [f"{role}:{digest}" for role, digest in sorted(subjects.items()) if role != "dataset"]
    model = subjects.get("model", "")
    return frozenset(model.split("+") if model else filter(None, [" ".join(others)]))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time, across processes; the lock goes with the process that held it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.with_name(f"{path.stem}.lock").open("a+b")
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror or error}; choose another --store") from error
    with stream:
        _lock(stream.fileno())
        try:
            yield
        finally:
            _unlock(stream.fileno())


try:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)

except ImportError:  # Windows
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]

    def _unlock(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]


# --- signing ------------------------------------------------------------------------------------

_SIGN = "hrmctl ledger sign --key KEY"
_SIGNERS = "a line of that file is a name and the public key of one who may sign: NAME ssh-ed25519 AAAA…"


def sign(path: Path, key: Path) -> Path:
    """Sign the head record with an SSH key (`ssh-keygen -Y sign`) and return the signature's path.

    A ledger that does not verify is not signed. Raises StoreError with the faults, HrmctlError from ssh-keygen.
    """
    problems = verify(path)
    if problems or not head_path(path).exists():
        raise StoreError(*(problems or [Problem("there is no ledger to sign", str(path))]))
    head = head_path(path).read_bytes()
    signature = _ssh_keygen(["-Y", "sign", "-f", str(key), "-n", NAMESPACE], head)
    write_atomic(signature_path(path), signature)
    return signature_path(path)


def verify_signature(path: Path, signers: Path, identity: str = "") -> list[Problem]:
    """Check the signature over the head record against an allowed-signers file; faults, or none.

    `identity` is the principal who must have signed; without it any of the file may have. Call
    `verify` as well: the signature covers the head, the head covers the rows.
    """
    signature = signature_path(path)
    for needed, remedy in ((head_path(path), _SIGN), (signature, _SIGN), (signers, _SIGNERS)):
        if not needed.exists():
            return [Problem("it is not there", str(needed), remedy=remedy)]
    try:
        found = identity or _ssh_keygen(["-Y", "find-principals", "-f", str(signers), "-s", str(signature)], b"")
    except HrmctlError as error:
        return [Problem(f"none of {signers} made the signature: {error}", str(signature), remedy=_SIGNERS)]
    principal = next(iter((found.decode() if isinstance(found, bytes) else found).splitlines()), "")
    verified = ["-Y", "verify", "-f", str(signers), "-I", principal, "-n", NAMESPACE, "-s", str(signature)]
    try:
        _ssh_keygen(verified, head_path(path).read_bytes())
    except HrmctlError as error:
        return [Problem(f"the signature does not hold: {error}", str(signature), remedy="sign again after each check")]
    return []


def _ssh_keygen(arguments: Sequence[str], data: bytes) -> bytes:
    try:
        done = subprocess.run(["ssh-keygen", *arguments], input=data, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HrmctlError(f"ssh-keygen cannot be run: {error}; install OpenSSH 8.1 or newer") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise HrmctlError(f"ssh-keygen {arguments[1]}: {said[-1] if said else done.returncode}")
    return done.stdout
