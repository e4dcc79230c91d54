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
_GOOD = ("done", "cached")
_UNANSWERED = (Verdict.INVALID, Verdict.BLOCKED, Verdict.UNTESTED)
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

    def require_profile(self, profile: str) -> None:
        """Raises InputError when no contract has thresholds for `profile`."""
        known = {name for item in self.items if isinstance(item, Contract) for name in item.profiles}
        if profile and profile not in known:
            raise InputError(f"no contract has a profile '{profile}'; known: {', '.join(sorted(known)) or 'none'}")

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
    asked = read_lock(store.run_folder(run)).get("questions", []) if run else []
    return Claims(items, frozenset(asked))


def judge_run(
    store: Store,
    catalog: Catalog,
    run: str | None,
    claims: Claims,
    profile: str = "",
    listeners: Sequence[Callable[[Any], None]] = (),
) -> CheckReport:
    """Judge `claims` on the evidence of `run` (none: nothing was measured) and append the verdicts to the ledger."""
    claims.require_profile(profile)
    judgements = judge_all(store, catalog.measures, run, claims, profile)
    check_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    for item in claims.items:
        write_atomic(_text_path(store, item.digest), item.text)
    store.prepare()
    recorded = ledger.append(store.ledger, check_id, judgements)
    for judgement in recorded:
        announce(catalog, listeners, VerdictReached(run or "", judgement))
    return CheckReport(check_id, run or "", recorded, exit_code(recorded))


def judge_all(store: Store, measures: Measures, run: str | None, claims: Claims, profile: str = "") -> list[Judgement]:
    """The judgements of `claims`, gates last; nothing is written."""
    lock = read_lock(store.run_folder(run)) if run else {"stages": {}}
    evidence = _evidence(store, lock)
    facts = Facts(has=has, stopped=_stopped(lock), partial=_partial(lock))
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
    return [store.get_evidence(d) for s in stages if s["status"] in _GOOD for d in s["evidence"]]


def _stopped(lock: Mapping[str, Any]) -> dict[str, str]:
    """For each kind of stage that did not finish in the run, the reason."""
    return {
        stage["uses"]: f"stage {name} {stage['status']}: {stage['error']}"
        for name, stage in lock["stages"].items()
        if stage["status"] in _STOPPED
    }


def _partial(lock: Mapping[str, Any]) -> dict[str, str]:
    """For evidence of each matrix with a cell that did not finish, that cell: what is left may be the lucky cells."""
    cells: dict[str, dict[str, Any]] = {}
    for name, stage in lock["stages"].items():
        cells.setdefault(name.partition("[")[0], {})[name] = stage
    result: dict[str, str] = {}
    for group in cells.values():
        missing = [f"{name} {stage['status']}" for name, stage in group.items() if stage["status"] not in _GOOD]
        for stage in group.values() if missing else ():
            result |= dict.fromkeys(stage["evidence"], ", ".join(missing))
    return result


def exit_code(judgements: Sequence[Judgement]) -> int:
    """0 all hold, 1 a FAIL, 3 anything unproven or nothing checked. A hypothesis counts only when it has no answer."""
    if not judgements:
        return 3
    counted = [j.verdict for j in judgements if j.kind != "hypothesis" or j.verdict in _UNANSWERED]
    worst = max(counted, key=lambda verdict: verdict.severity, default=Verdict.PASS)
    return {Verdict.PASS: 0, Verdict.FAIL: 1}.get(worst, 3)


# --- what the ledger says ---------------------------------------------------------------------------


def report_from_ledger(store: Store, run: str) -> CheckReport:
    """The latest recorded check of `run`. Raises StoreError when there is none."""
    rows = [row for row in ledger.rows(store.ledger) if row["run"] == run]
    if not rows:
        raise StoreError(
            f"run {run} was never checked: hrmctl check CONTRACTS --run {run} does; "
            f"what it measured: hrmctl runs show {run}"
        )
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
    """What differs when the rows of one check are judged again, each on the evidence that it names."""
    items = {row["contract_digest"]: _recorded_text(store, measures, row["contract_digest"]) for row in rows}
    lock = read_lock(store.run_folder(rows[0]["run"])) if rows[0]["run"] else {"stages": {}}
    facts = Facts(has=has, stopped=_stopped(lock), partial=_partial(lock))
    of_run = _evidence(store, lock)
    proofs = {digest: proof_of(item, measures) for digest, item in items.items()}
    judgements = [_judgement(row) for row in rows]
    problems = []
    for row, recorded in zip(rows, judgements, strict=True):
        item = items[row["contract_digest"]]
        if isinstance(item, Gate):
            fresh = check_gate(item, judgements, recorded.run, recorded.profile)
        else:
            evidence = [store.get_evidence(digest) for digest in recorded.evidence] or of_run
            again = check(
                item, evidence, measures, run=recorded.run, profile=recorded.profile, facts=facts,
                kind=recorded.kind, proof=proofs[row["contract_digest"]],
            )  # fmt: skip
            fresh = next(j for j in again if j.subject == recorded.subject)
        if _essence(fresh) != _essence(recorded):
            found = f"{fresh.verdict} because {fresh.because or 'all hold'}"
            problems.append(
                Problem(f"row {row['seq']}, {recorded.obligation}: recorded {recorded.verdict}, replayed {found}")
            )
    return problems


def _essence(judgement: Judgement) -> tuple[Any, ...]:
    """What a replay must find again."""
    measured = {name: dict(values) for name, values in judgement.measured.items()}
    return judgement.verdict, judgement.because, measured, sorted(judgement.evidence), dict(judgement.subjects)


def _recorded_text(store: Store, measures: Measures, digest: str) -> Contract | Gate:
    item = parse_text(_text(store, digest), measures)
    if item.digest != digest:
        raise StoreError(f"the contract {digest[:12]} in {store.root} was altered")
    return item


def _text_path(store: Store, digest: str) -> Path:
    return store.root / "contracts" / f"{digest}.yaml"


def _text(store: Store, digest: str) -> str:
    path = _text_path(store, digest)
    if not path.is_file():
        raise StoreError(f"the contract {digest[:12]} is missing from {store.root}")
    return path.read_text()
