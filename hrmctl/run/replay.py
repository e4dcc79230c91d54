"""What the ledger says of a run, and every recorded verdict computed again from the evidence in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from hrmctl import ledger
from hrmctl.contract import Contract, Gate, check_gate
from hrmctl.contract.bind import Facts, check_subject
from hrmctl.contract.load import parse_text
from hrmctl.errors import InputError, Problem, StoreError
from hrmctl.machine import has
from hrmctl.model import CheckReport, Judgement, Verdict
from hrmctl.plugins import Catalog
from hrmctl.run.judge import Measures, attempts_of, proof_of, report_of, text_path
from hrmctl.run.witness import Witness
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
    """Recompute every recorded verdict from the evidence in the store; the number compared and what differs."""
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
                fresh = replayer.judge(recorded, judgements, attempts)
            except (StoreError, InputError) as error:
                problems.append(Problem(f"row {row['seq']} of check {name} cannot be replayed: {error}"))
                continue
            if _essence(fresh) != _essence(recorded):
                found = f"{fresh.verdict} because {fresh.because or 'all hold'}"
                text = f"row {row['seq']}, {recorded.obligation}: recorded {recorded.verdict}, replayed {found}"
                problems.append(Problem(text))
    return sum(len(rows) for rows in checks.values()), problems


class _Replayer:
    """Judges what was judged, each on the contract, the run and the evidence that its row names; reads all once."""

    def __init__(self, store: Store, measures: Measures):
        self._store = store
        self._measures = measures
        self._item = cache(self._read_item)
        self._proof = cache(lambda digest: proof_of(self._item(digest), measures))
        self._witness = cache(lambda run: Witness(store, run))

    def judge(self, recorded: Judgement, check: Sequence[Judgement], attempts: Count) -> Judgement:
        """The judgement again. Raises StoreError or InputError where something it rests on is gone or altered."""
        item = self._item(recorded.contract_digest)
        if isinstance(item, Gate):
            return check_gate(item, check, recorded.run)
        if recorded.subject not in item.subjects:
            raise StoreError(f"the contract has no subject {recorded.subject}")
        facts, digests = Facts(has=has, attempts=attempts), list(recorded.evidence)
        if recorded.run:
            witness = self._witness(recorded.run)
            facts, digests = witness.facts(facts), digests or list(witness.digests())
        return check_subject(
            item, item.subjects[recorded.subject], [self._store.get_evidence(d) for d in digests], self._measures,
            proof=self._proof(recorded.contract_digest), run=recorded.run, profile=recorded.profile, facts=facts,
            kind=recorded.kind,
        )  # fmt: skip

    def _read_item(self, digest: str) -> Contract | Gate:
        path = text_path(self._store, digest)
        if not path.is_file():
            raise StoreError(f"the contract {digest[:12]} is missing from {self._store.root}")
        item = parse_text(path.read_text(), self._measures)
        if item.digest != digest:
            raise StoreError(f"the contract {digest[:12]} in {self._store.root} was altered")
        return item


def _essence(judgement: Judgement) -> tuple[Any, ...]:
    """What a replay must find again."""
    measured = {name: dict(values) for name, values in judgement.measured.items()}
    return judgement.verdict, judgement.because, measured, sorted(judgement.evidence), dict(judgement.subjects)
