"""Judge the evidence of a run by contracts, record every verdict in the ledger, and replay what is recorded."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hrmctl import ledger
from hrmctl.contract import Contract, Gate, check_gate, load_contracts
from hrmctl.contract.bind import Facts, check
from hrmctl.contract.gate import prove_gate
from hrmctl.contract.load import parse_text
from hrmctl.contract.prove import Proof, prove
from hrmctl.errors import InputError, Problem, StoreError
from hrmctl.events import VerdictReached
from hrmctl.jsonio import write_atomic
from hrmctl.machine import has
from hrmctl.model import CheckReport, Evidence, Judgement, MeasureSpec, Question, Verdict
from hrmctl.plugins import Catalog
from hrmctl.run.execute import announce
from hrmctl.run.record import read_lock
from hrmctl.store import Store

Measures = Mapping[str, MeasureSpec]
_STOPPED = ("failed", "blocked", "cancelled")


@dataclass(frozen=True)
class Claims:
    """Contracts and gates to be judged; `questions` holds the ids of those that are hypotheses."""

    items: Sequence[Contract | Gate]
    questions: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.items)

    def proofs(self, measures: Measures) -> dict[str, Proof]:
        """The proof of every contract and gate by id."""
        return {item.id: proof_of(item, measures) for item in self.items}

    def require_proven(self, measures: Measures) -> dict[str, Proof]:
        """The proofs. Raises InputError with the place of everything that is not proven."""
        proofs = self.proofs(measures)
        problems = [problem for proof in proofs.values() for problem in proof.problems]
        if problems:
            raise InputError(*problems)
        return proofs


def proof_of(item: Contract | Gate, measures: Measures) -> Proof:
    """Controls and mutants of a contract or a gate."""
    return prove_gate(item) if isinstance(item, Gate) else prove(item, measures)


def load_claims(contracts: Sequence[Path], hypotheses: Sequence[Path], measures: Measures) -> Claims:
    """The contracts of a recipe. Raises InputError with every fault."""
    if not contracts and not hypotheses:
        return Claims([], frozenset())
    items = load_contracts([*contracts, *hypotheses], measures)
    names = {str(path) for path in hypotheses}
    return Claims(items, frozenset(item.id for item in items if item.file in names))


def claims_of_folder(paths: Sequence[Path], store: Store, run: str | None, measures: Measures) -> Claims:
    """The contracts of `paths`; those that the run's recipe asked as hypotheses stay hypotheses."""
    items = load_contracts(paths, measures)
    asked = read_lock(store.run_folder(run))["hypotheses"] if run else []
    resolved = {Path(path).resolve() for path in asked}
    return Claims(items, frozenset(item.id for item in items if Path(item.file).resolve() in resolved))


def judge_run(
    store: Store,
    catalog: Catalog,
    run: str | None,
    claims: Claims,
    profile: str = "",
    listeners: Sequence[Callable[[Any], None]] = (),
) -> CheckReport:
    """Judge `claims` on the evidence of `run` (none: nothing was measured) and append the verdicts to the ledger."""
    _require_profile(claims, profile)
    judgements = judge_all(store, catalog.measures, run, claims, profile)
    check_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    for item in claims.items:
        write_atomic(_text_path(store, item.digest), item.text)
    store.prepare()
    recorded = ledger.append(store.ledger, check_id, judgements)
    for judgement in recorded:
        announce(catalog, listeners, VerdictReached(run or "", judgement))
    return CheckReport(check_id, run or "", recorded, exit_code(recorded))


def _require_profile(claims: Claims, profile: str) -> None:
    known = {name for item in claims.items if isinstance(item, Contract) for name in item.profiles}
    if profile and profile not in known:
        raise InputError(f"no contract has a profile '{profile}'; known: {', '.join(sorted(known)) or 'none'}")


def judge_all(store: Store, measures: Measures, run: str | None, claims: Claims, profile: str = "") -> list[Judgement]:
    """The judgements of `claims`, gates last; nothing is written."""
    lock = read_lock(store.run_folder(run)) if run else {"stages": {}}
    evidence = _evidence(store, lock)
    facts = Facts(has=has, stopped=_stopped(lock))
    judgements: list[Judgement] = []
    for item in claims.items:
        if isinstance(item, Contract):
            kind: Question = "hypothesis" if item.id in claims.questions else "acceptance"
            judgements += check(item, evidence, measures, run=run or "", profile=profile, facts=facts, kind=kind)
    for item in claims.items:
        if isinstance(item, Gate):
            judgements.append(check_gate(item, judgements, run or "", profile))
    return judgements


def _evidence(store: Store, lock: Mapping[str, Any]) -> list[Evidence]:
    stages = lock["stages"].values()
    return [store.get_evidence(d) for s in stages if s["status"] in ("done", "cached") for d in s["evidence"]]


def _stopped(lock: Mapping[str, Any]) -> dict[str, str]:
    """For each kind of stage that did not finish in the run, the reason."""
    return {
        stage["uses"]: f"stage {name} {stage['status']}: {stage['error']}"
        for name, stage in lock["stages"].items()
        if stage["status"] in _STOPPED
    }


def exit_code(judgements: Sequence[Judgement]) -> int:
    """0 all hold, 1 a FAIL, 3 anything unproven or nothing checked. A hypothesis counts only when it is INVALID."""
    if not judgements:
        return 3
    counted = [j.verdict for j in judgements if j.kind != "hypothesis" or j.verdict == Verdict.INVALID]
    worst = max(counted, key=lambda verdict: verdict.severity, default=Verdict.PASS)
    return {Verdict.PASS: 0, Verdict.FAIL: 1}.get(worst, 3)


# --- what the ledger says ---------------------------------------------------------------------------


def report_from_ledger(store: Store, run: str) -> CheckReport:
    """The latest recorded check of `run`. Raises StoreError when there is none."""
    rows = [row for row in ledger.rows(store.ledger) if row["run"] == run]
    if not rows:
        raise StoreError(f"run {run} was never checked; check it with: hrmctl check --run {run}")
    return _report([row for row in rows if row["check"] == rows[-1]["check"]])


def _report(rows: Sequence[Mapping[str, Any]]) -> CheckReport:
    judgements = [_judgement(row) for row in rows]
    return CheckReport(rows[0]["check"], rows[0]["run"], judgements, exit_code(judgements))


def _judgement(row: Mapping[str, Any]) -> Judgement:
    names = Judgement.__dataclass_fields__
    fields = {name: row[name] for name in names if name in row}
    return Judgement(**{**fields, "verdict": Verdict(row["verdict"])})


def replay(store: Store, catalog: Catalog) -> tuple[int, list[Problem]]:
    """Recompute every recorded verdict from the evidence in the store; the number compared and what differs."""
    checks: dict[str, list[Mapping[str, Any]]] = {}
    for row in ledger.rows(store.ledger):
        checks.setdefault(row["check"], []).append(row)
    problems: list[Problem] = []
    for name, rows in checks.items():
        try:
            problems += _replayed(store, catalog.measures, rows)
        except (StoreError, InputError) as error:
            problems.append(Problem(f"check {name} cannot be replayed: {error}"))
    return sum(len(rows) for rows in checks.values()), problems


def _replayed(store: Store, measures: Measures, rows: Sequence[Mapping[str, Any]]) -> list[Problem]:
    digests = dict.fromkeys(row["contract_digest"] for row in rows)
    items = [parse_text(_text(store, digest), measures) for digest in digests]
    questions = frozenset(row["contract"] for row in rows if row["kind"] == "hypothesis")
    profile = next((row["profile"] for row in rows if row["profile"]), "")
    again = judge_all(store, measures, rows[0]["run"] or None, Claims(items, questions), profile)
    by_name = {judgement.obligation: judgement for judgement in again}
    problems = []
    for row in rows:
        recorded = _judgement(row)
        fresh = by_name.get(recorded.obligation)
        same = fresh and (fresh.verdict, fresh.because, dict(fresh.measured)) == (
            recorded.verdict,
            recorded.because,
            dict(recorded.measured),
        )
        if not same:
            found = f"{fresh.verdict} because {fresh.because or 'all hold'}" if fresh else "nothing"
            problems.append(
                Problem(f"row {row['seq']}, {recorded.obligation}: recorded {recorded.verdict}, replayed {found}")
            )
    return problems


def _text_path(store: Store, digest: str) -> Path:
    return store.root / "contracts" / f"{digest}.yaml"


def _text(store: Store, digest: str) -> str:
    path = _text_path(store, digest)
    if not path.is_file():
        raise StoreError(f"the contract {digest[:12]} is missing from {store.root}")
    return path.read_text()
