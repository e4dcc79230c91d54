"""What a store holds that nothing needs any more: old runs, and what only they refer to.

Needed are: runs that are kept, with their inputs, outputs, evidence, cache entries and scratch folders, so that they
resume and cache as before; the runs that the ledger names, with all evidence that a replay of their verdicts reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrmctl import ledger
from hrmctl.jsonio import loads
from hrmctl.run.kept import kept_lock, kept_path
from hrmctl.run.record import every_run, parse_lock, run_lock
from hrmctl.store import Store

Lock = Mapping[str, Any]
_GOOD = ("done", "cached")


@dataclass(frozen=True)
class Garbage:
    """What can go, in an order in which a stop half way leaves nothing that refers to what is gone."""

    cache: Sequence[Path] = ()
    runs: Sequence[Path] = ()
    objects: Sequence[Path] = ()
    scratch: Sequence[Path] = ()
    kept: Sequence[str] = ()
    for_ledger: Sequence[str] = ()

    @property
    def paths(self) -> list[Path]:
        """Everything that goes, first things first."""
        return [*self.cache, *self.runs, *self.objects, *self.scratch]


@dataclass
class _Needed:
    runs: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)


def reading(store: Store) -> AbstractContextManager[None]:
    """Within it nothing is collected: until a verdict is in the ledger, nobody knows what it rests on."""
    return store.lock("evidence", shared=True)


@contextmanager
def collecting(store: Store) -> Iterator[None]:
    """Within it nothing runs and nothing is judged. Raises StoreError where something is."""
    with store.lock("run", "gc"), store.lock("evidence"):
        yield


def find_garbage(store: Store, keep: int) -> Garbage:
    """What nothing needs where the newest `keep` runs of each recipe are kept, and the newest of it that is done.

    Raises StoreError where a lock or the ledger cannot be read: what is needed is then not known.
    """
    locks = {run: run_lock(store, run) for run in every_run(store)}
    kept = _kept(locks, keep)
    needed = _Needed(set(kept))
    for run in kept:
        _need_all(locks[run], needed)
    judged = _need_for_ledger(store, locks, needed)
    cache = {path: loads(path.read_text(), str(path)) for path in sorted((store.root / "cache").glob("*.json"))}
    for path, entry in cache.items():
        # What a worker finished after its run was killed is in no lock yet.
        if entry["run"] in kept or path.stem in needed.keys:
            needed.digests.update(_digests_of(entry))
    unfinished = any(locks[run]["status"] not in _GOOD for run in kept)
    known = {stage["key"] for lock in locks.values() for stage in lock["stages"].values()}
    return Garbage(
        cache=[path for path, entry in cache.items() if not needed.digests.issuperset(_digests_of(entry))],
        runs=[store.runs / run for run in locks if run not in needed.runs],
        objects=[path for digest, path in _objects(store) if digest not in needed.digests],
        # A key that no lock names may be that of a stage of a killed run.
        scratch=[p for p in _scratch(store) if p.stem not in needed.keys and (p.stem in known or not unfinished)],
        kept=kept,
        for_ledger=sorted(judged - set(kept)),
    )


def collect(store: Store, garbage: Garbage) -> None:
    """Remove it. Only within `collecting`, and found there."""
    for path in garbage.paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _kept(locks: Mapping[str, Lock], keep: int) -> list[str]:
    """Runs that are running, the newest `keep` of each recipe or stage, and the newest that is done; oldest first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for run, lock in locks.items():
        kind = next((kind for kind in (".stage-", ".only-") if kind in run), "")
        groups.setdefault((lock["name"], kind), []).append(run)
    kept = {run for run, lock in locks.items() if lock["status"] == "running"}
    for runs in groups.values():
        done = [run for run in runs if locks[run]["status"] == "done"]
        kept.update([*runs[len(runs) - keep :], *done[-1:]] if keep else done[-1:])
    return sorted(kept)


def _need_all(lock: Lock, needed: _Needed) -> None:
    for stage in lock["stages"].values():
        needed.keys.add(stage["key"])
        needed.digests.update(_digests_of(stage))
        needed.digests.update(given["digest"] for artifacts in stage["inputs"].values() for given in artifacts)


def _need_for_ledger(store: Store, locks: Mapping[str, Lock], needed: _Needed) -> set[str]:
    """Keep what a replay reads: the evidence of every row, and all of its run, as it is and as it was when judged."""
    rows = ledger.rows(store.ledger)
    judged = {row["run"] for row in rows if row["run"]} & locks.keys()
    needed.runs |= judged
    needed.digests.update(digest for row in rows for digest in row["evidence"])
    seen = {row["lock"] for row in rows if row.get("lock")}
    before = [parse_lock(kept_lock(store, digest), kept_path(store, digest)) for digest in sorted(seen)]
    for lock in [*(locks[run] for run in judged), *before]:
        needed.digests.update(digest for stage in lock["stages"].values() for digest in stage["evidence"])
    return judged


def _digests_of(entry: Mapping[str, Any]) -> Iterable[str]:
    """Outputs and evidence of a stage, as its lock or its cache entry names them."""
    return [*(output["digest"] for output in entry["outputs"].values()), *entry["evidence"]]


def _objects(store: Store) -> Iterator[tuple[str, Path]]:
    for path in sorted((store.root / "objects" / "sha256").glob("??/*")):
        if not path.name.startswith("."):
            yield path.parent.name + path.name, path


def _scratch(store: Store) -> list[Path]:
    return sorted((store.root / "scratch").glob("*"))
