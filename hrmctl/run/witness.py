"""What each run of a store can say of an obligation, and which run each obligation is judged on."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

from hrmctl.contract import Contract
from hrmctl.contract.bind import speech
from hrmctl.contract.facts import Facts, Stop
from hrmctl.contract.spec import Query, Subject
from hrmctl.errors import StoreError
from hrmctl.model import Evidence
from hrmctl.run.record import LOCK_NAME, parse_lock
from hrmctl.store import Store

GOOD = ("done", "cached")
_UNKNOWN = ("model",)  # a lock of an earlier version does not say it
_UNNAMED = {"samples", "report"}
_STOPPED = ("failed", "blocked", "cancelled")


class Witness:
    """One run: its evidence, and what stands in the way of evidence in it."""

    def __init__(self, store: Store, run: str, text: bytes | None = None):
        self.run = run
        self._path = store.runs / run / LOCK_NAME
        self._text = text

    @cached_property
    def text(self) -> bytes:
        """The lock as it is written: a stage that it does not name is not in the run."""
        try:
            return self._path.read_bytes() if self._text is None else self._text
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror or error}; start a new run") from error

    @cached_property
    def lock(self) -> Mapping[str, Any]:
        return parse_lock(self.text, self._path)

    @property
    def recipe(self) -> str:
        """The name of the recipe."""
        return str(self.lock["name"])

    @property
    def recipe_digest(self) -> str:
        """The digest of what the recipe says, with its settings."""
        return str(self.lock.get("recipe_digest", ""))

    @cached_property
    def questions(self) -> frozenset[str]:
        """Ids of the contracts that the recipe asked as hypotheses."""
        return frozenset(self.lock.get("questions", ()))

    @cached_property
    def stopped(self) -> Mapping[str, Sequence[Stop]]:
        """By kind, the stages that did not finish."""
        found: dict[str, list[Stop]] = {}
        for name, stage in self.lock["stages"].items():
            if stage["status"] in _STOPPED:
                found.setdefault(stage["uses"], []).append(self._stop(name, stage))
        return found

    def _stop(self, name: str, stage: Mapping[str, Any]) -> Stop:
        stages = self.lock["stages"]
        # A lock of an earlier version does not say which stage is to blame; one that was resumed may have mended it.
        named = stage.get("cause", "")
        origin = named if stages.get(named, {}).get("status") in _STOPPED else name
        blamed = stages[origin]
        reason = f"stage {origin} {blamed['status']}: {'; '.join(blamed['error'].splitlines())}"
        if origin != name:
            reason = f"stage {name} did not finish: {reason}"
        step = f"finish stage {origin}" if blamed["status"] == "cancelled" else f"mend stage {origin}, then"
        return Stop(origin, reason, f"{step}: {self.again or 'run it again'}", _about(stage))

    @property
    def again(self) -> str:
        """The command that runs the recipe, or the stage, as it was run; empty where the lock does not say it."""
        settings = [word for setting in self.lock.get("settings", ()) for word in ("--set", setting)]
        recipe = ["pipeline", self.lock["recipe"], *settings] if self.lock.get("recipe") else []
        argv = self.lock.get("argv", ()) if ".stage-" in self.run else recipe
        return shlex.join(["hrmctl", *argv]) if argv else ""

    def facts(self, facts: Facts) -> Facts:
        """`facts` with those of this run."""
        return replace(facts, stopped=self.stopped, partial=partial(self.lock), again=self.again)

    def digests(self, stages: Collection[str] = ()) -> Iterator[str]:
        """The digests of the evidence, all or that of some kinds of stage."""
        for stage in self.lock["stages"].values():
            if stage["status"] in GOOD and (not stages or stage["uses"] in stages):
                yield from stage["evidence"]


def _about(stage: Mapping[str, Any]) -> frozenset[str] | None:
    """The labels that its evidence could carry: those of its inputs, where nothing it gives has one of its own."""
    given = [artifact.get("label", "") for artifacts in stage.get("inputs", {}).values() for artifact in artifacts]
    named = given and all(given) and set(stage.get("gives", _UNKNOWN)) <= _UNNAMED
    return frozenset(given) if named else None


def partial(lock: Mapping[str, Any]) -> dict[str, str]:
    """For evidence of a matrix with a cell that did not finish, that cell: what is left may be the lucky cells."""
    cells: dict[str, dict[str, Any]] = {}
    for name, stage in lock["stages"].items():
        cells.setdefault(name.partition("[")[0], {})[name] = stage
    result: dict[str, str] = {}
    for group in cells.values():
        missing = [f"{name} {stage['status']}" for name, stage in group.items() if stage["status"] not in GOOD]
        for stage in group.values() if missing else ():
            result |= dict.fromkeys(stage["evidence"], ", ".join(missing))
    return result


class Shelf:
    """The evidence of a store, each piece verified and read when it is first asked, and once."""

    def __init__(self, store: Store):
        self.heading = cache(store.heading)
        self._read = cache(store.get_evidence)

    def of(self, contract: Contract, digests: Iterable[str]) -> list[Evidence]:
        """Those pieces that the contract could be about. Raises StoreError where one is missing or altered."""
        asked = {(query.type, query.name) for query in contract.evidence.values()}
        found = [self.heading(digest) for digest in digests]
        return [self._read(e.digest) for e in found if {(e.type, e.name), (e.type, "")} & asked]


class Witnesses:
    """The runs that a check may judge on, newest first; `alone` is the only one where it was named.

    Each file is read when it is first asked, and once.
    """

    def __init__(self, store: Store, runs: Sequence[str] | None = None):
        self._shelf = Shelf(store)
        self.alone = runs[0] if runs is not None and len(set(runs)) == 1 else ""
        names = store.run_ids() if runs is None else sorted(set(runs), reverse=True)
        self._all = [Witness(store, name) for name in names]

    def of(self, contract: Contract, subject: Subject) -> Witness | None:
        """The run that the obligation is judged on, or None where no run says anything of it.

        The newest that says something, never the best. A run of another recipe that says only a part, be it a stage
        that failed, does not stand in the way of an older one that says all; a failure that other runs settled says
        nothing.
        """
        if self.alone:
            return self._all[0]
        partly: dict[str, Witness] = {}
        stages = {query.stage for query in contract.evidence.values()}
        for witness in self._all:
            if not any(stage.encode() in witness.text for stage in stages):
                continue
            said = speech(contract, subject, self._seen(witness, stages), witness.stopped)
            if said == "whole":
                return partly.get(witness.recipe, witness)
            known = said == "nothing" or witness.recipe in partly
            if not known and not self._settled(witness, contract, subject, stages, dropped=False):
                partly[witness.recipe] = witness
        left = (w for w in partly.values() if not self._settled(w, contract, subject, stages, dropped=True))
        return next(left, None)

    def _settled(
        self, witness: Witness, contract: Contract, subject: Subject, stages: Collection[str], *, dropped: bool
    ) -> bool:
        """Whether other runs of its recipe have shown of all that failed in it that it says nothing of the obligation.

        A newer one finished the stage, or the same recipe finished it before and it was about others. Where `dropped`,
        also a newer one that has it no more: that makes nothing measured, but it brings no older verdict back either.
        """

        def shown(name: str, other: Witness) -> bool:
            stage = other.lock["stages"].get(name)
            if other.run > witness.run:
                return dropped if stage is None else stage["status"] in GOOD
            if stage is None or stage["status"] not in GOOD or other.recipe_digest != witness.recipe_digest:
                return False
            seen = [self._shelf.heading(digest) for digest in stage["evidence"]]
            return speech(contract, subject, seen, {}) == "nothing"

        failed = [n for n, s in witness.lock["stages"].items() if s["uses"] in stages and s["status"] in _STOPPED]
        name = witness.recipe.encode()
        kin = [w for w in self._all if name in w.text and w.recipe == witness.recipe and w is not witness]
        return bool(failed) and all(any(shown(stage, other) for other in kin) for stage in failed)

    def _seen(self, witness: Witness, stages: Collection[str]) -> list[Evidence]:
        return [self._shelf.heading(digest) for digest in witness.digests(stages)]

    def ran(self, recipe_digest: str) -> bool:
        """Whether there is a run of this very recipe of which every stage finished."""
        digest = recipe_digest.encode()
        found = [w.lock for w in self._all if digest in w.text and w.recipe_digest == recipe_digest]
        return any(all(stage["status"] in GOOD for stage in lock["stages"].values()) for lock in found)

    def labels(self, query: Query) -> list[Mapping[str, str]]:
        """By role, what evidence that could answer `query` is about."""
        runs = [w for w in self._all if query.stage.encode() in w.text]
        seen = [piece for w in runs for piece in self._seen(w, [query.stage]) if piece.type == query.type]
        return [e.provenance.labels for e in seen if e.provenance and query.name in ("", e.name)]

    def reported(self, stage: str) -> frozenset[tuple[str, str]]:
        """Type and name of all evidence that stages of a kind reported."""
        seen = (self._seen(witness, [stage]) for witness in self._all if stage.encode() in witness.text)
        return frozenset((piece.type, piece.name) for pieces in seen for piece in pieces)

    def text(self, run: str) -> bytes:
        """The lock of a run as it was read."""
        return next(witness.text for witness in self._all if witness.run == run)

    def evidence(self, contract: Contract, witness: Witness) -> list[Evidence]:
        """The evidence of a run that the contract could be about, verified."""
        return self._shelf.of(contract, witness.digests())
