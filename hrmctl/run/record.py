"""The files of one run: the lock (what is), events and metrics (what happened), copies of the evidence."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from hrmctl.errors import StoreError
from hrmctl.jsonio import canonical, digest_of, loads, to_json, write_atomic
from hrmctl.model import Evidence
from hrmctl.store import Store

LOCK_VERSION = 1
LOCK_NAME = "recipe.lock.yaml"


def new_run_id(name: str, kind: str = "") -> str:
    """A run id that sorts by time and says which recipe it is of, and with `kind` that it is not all of it.

    The time has milliseconds: which of two runs is the newer decides what a check judges.
    """
    name = f"{name}.{kind}" if kind else name
    time = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"[:-3]
    return f"{time}-{name}-{secrets.token_hex(2)}"


class Record:
    """Writes the files of one run folder. Opening it for a resumed run keeps what is there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started = now()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {folder}: {error.strerror or error}; choose another --store") from error
        for name in ("events.jsonl", "metrics.jsonl"):
            _mend(folder / name)
        self._last_step = {row["stage"]: row["step"] for row in metric_rows(folder)}
        self._resumed = set(self._last_step)

    def lock(self, content: Mapping[str, Any]) -> None:
        """Replace recipe.lock.yaml."""
        header = "# Written by hrmctl: what this run is made of. Edit the recipe, not this file.\n"
        body = yaml.safe_dump(
            json.loads(json.dumps(to_json({"version": LOCK_VERSION, **content}), allow_nan=False)), sort_keys=False
        )
        write_atomic(self.folder / LOCK_NAME, header + body)

    def event(self, event: Any) -> None:
        """Append one event to events.jsonl."""
        row = {"time": now(), "event": type(event).__name__, **asdict(event)}
        self._append("events.jsonl", row)

    def history(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put a stage's own rows in place of what a killed run wrote of them, which may lack the last ones."""
        self._drop(stage, rows[0]["done"])
        self._last_step.pop(stage, None)
        for row in rows:
            self.metrics(stage, row["done"], row["total"], finite(row["metrics"]), row["time"])
        self._resumed.add(stage)

    def metrics(self, stage: str, step: int, total: int, metrics: Mapping[str, float], time: str) -> None:
        """Append one row to metrics.jsonl; a step that goes back first drops the rows it repeats."""
        last = self._last_step.get(stage)
        # A resumed stage may begin with the very step it was killed after; later, one step may have several rows.
        if last is not None and (step < last or (step == last and stage in self._resumed)):
            self._drop(stage, step)
        self._resumed.discard(stage)
        self._last_step[stage] = step
        self._append("metrics.jsonl", {"stage": stage, "step": step, "total": total, "time": time, **metrics})

    def _drop(self, stage: str, step: int) -> None:
        kept = [row for row in metric_rows(self.folder) if row["stage"] != stage or row["step"] < step]
        write_atomic(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    def evidence(self, stage: str, evidence: Evidence) -> None:
        """Copy one piece of evidence beside the run for people to read."""
        name = f"{file_name(stage)}.{file_name(evidence.name)}.{evidence.digest[:12]}.json"
        if not (self.folder / "evidence" / name).exists():
            write_atomic(self.folder / "evidence" / name, evidence_copy(evidence))

    def drop_evidence(self, stage: str, but: Collection[str]) -> None:
        """Remove the copies of a stage that an earlier attempt left, all but those with these digests."""
        known = {digest[:12] for digest in but}
        for path in (self.folder / "evidence").glob("*.json"):
            if path.name.startswith(f"{file_name(stage)}.") and path.name.split(".")[-2] not in known:
                path.unlink(missing_ok=True)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        try:
            with (self.folder / name).open("a") as stream:
                stream.write(json.dumps(row, default=str) + "\n")
        except OSError as error:
            raise StoreError(f"cannot write {self.folder / name}: {error.strerror}; free space and resume") from error


def evidence_copy(evidence: Evidence) -> str:
    """One piece of evidence as its copy beside the run says it."""
    return canonical(
        {
            "digest": evidence.digest,
            "name": evidence.name,
            "type": evidence.type,
            "payload": evidence.payload,
            "provenance": evidence.provenance,
        }
    )


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The metrics that are numbers; those that are not finite came as None."""
    return {name: value for name, value in metrics.items() if value is not None}


def file_name(text: str, limit: int = 100) -> str:
    """`text` as part of a file's name: without separators, and short; what is cut is told apart by its digest."""
    safe = re.sub(r"[^\w.,=\[\]+-]", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= limit:
        return text
    return f"{safe[: limit - 9]}-{digest_of(text)[:8]}"


def _mend(path: Path) -> None:
    """Cut off a last line that a kill left half written, so that the next row starts a line."""
    if path.exists() and not (raw := path.read_bytes()).endswith(b"\n"):
        write_atomic(path, raw[: raw.rfind(b"\n") + 1])


def now() -> str:
    """UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_lock(folder: Path) -> dict[str, Any]:
    """The lock of a run. Raises StoreError when it is missing, broken or newer than this hrmctl."""
    path = folder / LOCK_NAME
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: not the lock of a run ({type(error).__name__}); start a new run") from error
    return parse_lock(raw, path)


def parse_lock(raw: bytes, path: Path) -> dict[str, Any]:
    """The lock in a file's bytes; see `read_lock`."""
    try:
        content: dict[str, Any] = yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        version = content["version"]
        newer = int(version) > LOCK_VERSION
        if not newer:
            _require_shape(content)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path}: not the lock of a run ({type(error).__name__}); start a new run") from error
    if newer:
        raise StoreError(f"{path}: written by a newer hrmctl; upgrade hrmctl")
    return content


def _require_shape(lock: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError, ValueError or AttributeError unless the lock has what readers take for granted."""
    texts = [lock["name"], lock["status"], lock.get("recipe", ""), *lock.get("settings", ()), *lock.get("argv", ())]
    for stage in lock["stages"].values():
        texts += [stage["uses"], stage["status"], stage["error"], stage.get("cause", ""), *stage["evidence"]]
        texts += stage.get("gives", ())
        texts += [artifact.get("label", "") for given in stage.get("inputs", {}).values() for artifact in given]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not a text")


def run_lock(store: Store, run: str) -> dict[str, Any]:
    """The lock of a run with what nobody lived to write: a run that no process holds was interrupted."""
    lock = read_lock(store.run_folder(run))
    if lock["status"] == "running" and store.holder("run") not in (run, ""):
        lock["status"] = "interrupted"
        for stage in lock["stages"].values():
            stage["status"] = "interrupted" if stage["status"] == "running" else stage["status"]
    return lock


def metric_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl."""
    return whole_rows(folder / "metrics.jsonl")


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file; a last row torn by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [loads(line, str(path)) for line in lines[:-1] if line.endswith("}")]


def latest_lock(store: Store, name: str) -> dict[str, Any]:
    """The lock of the newest run of the recipe called `name`, empty when there is none."""
    locks = (run_lock(store, run) for run in reversed(every_run(store)))
    return next((lock for lock in locks if lock["name"] == name), {})


def every_run(store: Store) -> list[str]:
    """The ids of all runs, also of single stages and of parts of recipes, oldest first."""
    return sorted(path.parent.name for path in store.runs.glob(f"*/{LOCK_NAME}"))
