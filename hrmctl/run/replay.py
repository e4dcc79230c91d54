"""What the ledger says of a run, and every recorded verdict computed again from the evidence in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from hrmctl import ledger
from hrmctl.contract import Contract, Gate, check_gate, proof_of
from hrmctl.contract.bind import check_subject
from hrmctl.contract.facts import Facts
from hrmctl.contract.load import parse_text
from hrmctl.errors import InputError, Problem, StoreError
from hrmctl.machine import has
from hrmctl.model import SUBJECT_KINDS, CheckReport, Judgement, Verdict, subject_kind
from hrmctl.plugins import Catalog
from hrmctl.run.judge import Measures, attempts_of, report_of
from hrmctl.run.kept import kept_lock, kept_text
from hrmctl.run.record import evidence_copy
from hrmctl.run.witness import Shelf, Witness
from hrmctl.store import Store

Row = Mapping[str, Any]
Count = Callable[[str, Mapping[str, str]], int]


def report_from_ledger(store: Store, run: str) -> CheckReport:
    """The latest recorded check that is of `run` alone, else the latest that judged something on it, whole.

    Raises StoreError when there is none.
    """
    checks = [rows for rows in _checks(store).values() if any(row["run"] == run for row in rows)]
    if not checks:
        raise StoreError(
            f"run {run} was never checked: hrmctl check CONTRACTS --run {run} does; "
            f"what it measured: hrmctl runs show {run}"
        )
    own = [rows for rows in checks if all(row["run"] == run for row in rows)]
    rows = (own or checks)[-1]
    return report_of(rows[0]["check"], [_judgement(row) for row in rows])


def counts(store: Store, check: str) -> dict[str, Counter[str]]:
    """The verdicts that the ledger has for a check, counted by kind of subject: `claim`, `proxy` or any other."""
    found: dict[str, Counter[str]] = {kind: Counter() for kind in SUBJECT_KINDS}
    for row in ledger.rows(store.ledger):
        if row["check"] == check:
            found[subject_kind(row["subject"])][row["verdict"]] += 1
    return found


def _checks(store: Store) -> dict[str, list[Row]]:
    checks: dict[str, list[Row]] = {}
    for row in ledger.rows(store.ledger):
        checks.setdefault(row["check"], []).append(row)
    return checks


def _judgement(row: Row) -> Judgement:
    names = Judgement.__dataclass_fields__
    fields = {name: row[name] for name in names if name in row}
    return Judgement(**{**fields, "verdict": Verdict(row["verdict"])})


def replay(store: Store, catalog: Catalog) -> tuple[int, list[Problem]]:
    """Recompute every recorded verdict from the evidence in the store; the number compared and what differs.

    What was altered in the runs that were judged is found too: their locks, and evidence that no verdict rests on.
    """
    replayer = _Replayer(store, catalog.measures)
    checks = _checks(store)
    problems: list[Problem] = []
    before: list[Row] = []
    for name, rows in checks.items():
        judgements = [_judgement(row) for row in rows]
        attempts = attempts_of(before, judgements)
        before += rows
        for row, recorded in zip(rows, judgements, strict=True):
            try:
                fresh = replayer.judge(recorded, str(row.get("lock", "")), judgements, attempts)
            except (StoreError, InputError) as error:
                problems.append(Problem(f"row {row['seq']} of check {name} cannot be replayed: {error}"))
                continue
            if _essence(fresh) != _essence(recorded):
                problems.append(Problem(f"row {row['seq']}, {recorded.obligation}: {_difference(recorded, fresh)}"))
    last = {row["run"]: row for row in before if row["run"]}
    problems += [problem for run, row in last.items() for problem in _altered(store, run, row)]
    return sum(len(rows) for rows in checks.values()), problems


def _difference(recorded: Judgement, fresh: Judgement) -> str:
    if (recorded.verdict, recorded.because) != (fresh.verdict, fresh.because):
        return f"recorded {recorded.verdict}, replayed {fresh.verdict} because {fresh.because or 'all hold'}"
    pairs = zip(_ESSENCE, _essence(recorded), _essence(fresh), strict=True)
    return f"recorded and replayed {', '.join(name for name, old, new in pairs if old != new)} differ"


def _altered(store: Store, run: str, row: Row) -> Iterator[Problem]:
    """What is not as it was when a run was last judged: its lock, its evidence, the copies beside it."""
    try:
        kept = kept_lock(store, row["lock"]) if row.get("lock") else None
        if kept is not None and kept != Witness(store, run).text:
            text = f"run {run} is not what row {row['seq']} was judged on: it was resumed, or its lock altered"
            yield Problem(text, remedy="check it again")
        digests = {*Witness(store, run, kept).digests(), *Witness(store, run).digests()}
        evidence = {digest: store.get_evidence(digest) for digest in digests}
    except StoreError as error:
        yield Problem(f"run {run}: {error}")
        return
    for path in sorted((store.runs / run / "evidence").glob("*.json")):
        raw = path.read_bytes()
        if not any(raw == evidence_copy(item).encode() for item in evidence.values() if item.digest[:12] in path.name):
            yield Problem("it is not the evidence that it is a copy of", str(path), remedy="see objects/")


class _Replayer:
    """Judges what was judged, each on the contract, the run and the evidence that its row names; reads all once."""

    def __init__(self, store: Store, measures: Measures):
        self._store = store
        self._measures = measures
        self._shelf = Shelf(store)
        self._item = cache(self._read_item)
        self._proof = cache(lambda digest: proof_of(self._item(digest), measures))
        self._witness = cache(lambda run, lock: Witness(store, run, kept_lock(store, lock) if lock else None))

    def judge(self, recorded: Judgement, lock: str, check: Sequence[Judgement], attempts: Count) -> Judgement:
        """The judgement again. Raises StoreError or InputError where something it rests on is gone or altered."""
        item = self._item(recorded.contract_digest)
        count = attempts(recorded.contract, recorded.subjects)
        if isinstance(item, Gate):
            return replace(check_gate(item, check, recorded.run), attempts=count)
        if recorded.subject not in item.subjects:
            raise StoreError(f"the contract has no subject {recorded.subject}")
        facts, digests, kind = Facts(has=has, attempts=attempts), recorded.evidence, recorded.kind
        if recorded.run:
            witness = self._witness(recorded.run, lock)
            # Of all that the run measured: what a verdict left out must have had nothing to say.
            facts, digests = witness.facts(facts), tuple(witness.digests())
            kind = "hypothesis" if item.id in witness.questions else "acceptance"
        fresh = check_subject(
            item, item.subjects[recorded.subject], self._shelf.of(item, digests), self._measures,
            proof=self._proof(recorded.contract_digest), run=recorded.run, profile=recorded.profile, facts=facts,
            kind=kind,
        )  # fmt: skip
        return replace(fresh, attempts=count)

    def _read_item(self, digest: str) -> Contract | Gate:
        item = parse_text(kept_text(self._store, digest), self._measures)
        if item.digest != digest:
            raise StoreError(f"the contract {digest[:12]} in {self._store.root} was altered")
        return item


_ESSENCE = ("verdict", "because", "measured", "evidence", "subjects", "labels", "title", "kind", "attempts")


def _essence(judgement: Judgement) -> tuple[Any, ...]:
    """What a replay must find again."""
    measured = {name: dict(values) for name, values in judgement.measured.items()}
    return (
        judgement.verdict, judgement.because, measured, sorted(judgement.evidence), dict(judgement.subjects),
        dict(judgement.labels), judgement.title, judgement.kind, judgement.attempts,
    )  # fmt: skip
