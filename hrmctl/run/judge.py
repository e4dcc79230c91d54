"""Judge the evidence of runs by contracts, and record every verdict in the ledger."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hrmctl import ledger
from hrmctl.contract import Contract, Gate, Proof, check_gate, load_contracts, proofs
from hrmctl.contract.bind import check_subject
from hrmctl.contract.facts import Facts
from hrmctl.contract.spec import Subject
from hrmctl.errors import InputError, StoreError
from hrmctl.events import VerdictReached
from hrmctl.machine import has
from hrmctl.model import CheckReport, Judgement, MeasureSpec, Question, Verdict
from hrmctl.plugins import Catalog
from hrmctl.run import kept
from hrmctl.run.announce import announce
from hrmctl.run.collect import reading
from hrmctl.run.remedy import Remedies
from hrmctl.run.witness import Witnesses
from hrmctl.store import Store

Measures = Mapping[str, MeasureSpec]
_PATIENCE = 10
_UNANSWERED = (Verdict.INVALID, Verdict.BLOCKED, Verdict.UNTESTED)


@dataclass(frozen=True)
class Claims:
    """Contracts and gates to be judged; `questions` holds the ids of those that a recipe asks as hypotheses."""

    items: Sequence[Contract | Gate]
    questions: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.items)

    def proofs(self, measures: Measures) -> dict[str, Proof]:
        """The proof of every contract and gate by id."""
        return {proof.contract: proof for proof in proofs(self.items, measures)}

    def require_profile(self, profile: str) -> None:
        """Raises InputError when no contract has thresholds for `profile`."""
        known = {name for item in self.items if isinstance(item, Contract) for name in item.profiles}
        if profile and profile not in known:
            raise InputError(f"no contract has a profile '{profile}'; known: {', '.join(sorted(known)) or 'none'}")

    def require_proven(self, measures: Measures) -> dict[str, Proof]:
        """The proofs. Raises InputError with the place of everything that is not proven."""
        found = self.proofs(measures)
        problems = [problem for proof in found.values() for problem in proof.problems]
        if problems:
            raise InputError(*problems)
        return found


def load_claims(contracts: Sequence[Path], hypotheses: Sequence[Path], measures: Measures) -> Claims:
    """The contracts of a recipe. Raises InputError with every fault."""
    if not contracts and not hypotheses:
        return Claims([], frozenset())
    items = load_contracts([*contracts, *hypotheses], measures)
    names = {str(path) for path in hypotheses}
    return Claims(items, frozenset(item.id for item in items if item.file in names))


def judge_runs(
    store: Store,
    catalog: Catalog,
    runs: Sequence[str] | None,
    claims: Claims,
    profile: str = "",
    listeners: Sequence[Callable[[Any], None]] = (),
    track: Callable[[Sequence[Contract]], Iterable[Contract]] = iter,
) -> CheckReport:
    """Judge `claims` on the evidence of `runs` (None: of all in the store) and append the verdicts to the ledger.

    `track` gives the contracts back one by one as they are proven, to show how far that is.
    """
    claims.require_profile(profile)
    contracts = [item for item in claims.items if isinstance(item, Contract)]
    proven = {proof.contract: proof for proof in proofs(track(contracts), catalog.measures)}
    check_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    store.prepare()
    for item in claims.items:
        kept.keep_text(store, item.digest, item.text)
    with reading(store):
        recorded = _record(store, catalog, Witnesses(store, runs), claims, profile, check_id, proven)
    for judgement in recorded:
        # A listener gets a copy: what it does to it changes neither report nor exit code.
        announce(catalog, listeners, VerdictReached(judgement.run, deepcopy(judgement)))
    return report_of(check_id, recorded)


def _record(
    store: Store,
    catalog: Catalog,
    witnesses: Witnesses,
    claims: Claims,
    profile: str,
    check_id: str,
    proven: Mapping[str, Proof],
) -> list[Judgement]:
    """Judge and append; judged again where another check was recorded in between and attempts are counted."""
    counted = any(isinstance(item, Contract) and item.asks_ledger for item in claims.items)
    for _ in range(_PATIENCE):
        rows = ledger.rows(store.ledger) if counted else []
        judgements = judge_all(catalog, witnesses, claims, proven, profile, rows)
        locks = {run: kept.keep_lock(store, witnesses.text(run)) for run in {j.run for j in judgements} if run}
        after = len(rows) if counted else None
        with suppress(ledger.Moved):
            return ledger.append(store.ledger, check_id, judgements, after=after, locks=locks)
    raise StoreError(f"{store.ledger}: other checks are recorded all the time; check again")


def judge_all(
    catalog: Catalog,
    witnesses: Witnesses,
    claims: Claims,
    proven: Mapping[str, Proof],
    profile: str = "",
    rows: Sequence[ledger.Row] = (),
) -> list[Judgement]:
    """The judgements of `claims`, each on the run that speaks of it, gates last; nothing is written.

    A contract is a hypothesis where the recipe of that run asked it as one. `proven` are the proofs of the contracts
    by id, `rows` those of the ledger.
    """
    remedies = Remedies(ran=witnesses.ran)
    facts = Facts(
        has=has, stages=frozenset(catalog.stages), remedy=remedies.of, finished=remedies.finished,
        labels=witnesses.labels, reported=witnesses.reported,
    )  # fmt: skip
    contracts = [item for item in claims.items if isinstance(item, Contract)]

    def judged(item: Contract, facts: Facts) -> list[Judgement]:
        subjects = item.subjects.values()
        return [_judged(item, s, witnesses, catalog.measures, facts, proven[item.id], profile) for s in subjects]

    found = {item.id: judged(item, facts) for item in contracts}
    if any(item.asks_ledger for item in contracts):
        # What is judged in this check is attempted in this check, in whatever order.
        counted = replace(facts, attempts=attempts_of(rows, [j for several in found.values() for j in several]))
        found |= {item.id: judged(item, counted) for item in contracts if item.asks_ledger}
    judgements = [judgement for several in found.values() for judgement in several]
    run = witnesses.alone or _common(judgements)
    gates = [check_gate(item, judgements, run) for item in claims.items if isinstance(item, Gate)]
    return judgements + gates


def attempts_of(rows: Sequence[ledger.Row], check: Sequence[Judgement]) -> Callable[[str, Mapping[str, str]], int]:
    """Counts the models on a test set, by the rows before a check and the judgements of the check."""
    attempts = ledger.Attempts(rows)
    for judgement in check:
        attempts.add(judgement.contract, judgement.subjects)
    return attempts.count


def _judged(
    contract: Contract,
    subject: Subject,
    witnesses: Witnesses,
    measures: Measures,
    facts: Facts,
    proof: Proof,
    profile: str,
) -> Judgement:
    witness = witnesses.of(contract, subject)
    if witness is None:
        return check_subject(contract, subject, [], measures, proof=proof, profile=profile, facts=facts)
    kind: Question = "hypothesis" if contract.id in witness.questions else "acceptance"
    return check_subject(
        contract, subject, witnesses.evidence(contract, witness), measures, proof=proof, run=witness.run,
        profile=profile, facts=witness.facts(facts), kind=kind,
    )  # fmt: skip


def report_of(check: str, judgements: Sequence[Judgement]) -> CheckReport:
    """The report of a check; it is of a run where all of it is."""
    return CheckReport(check, _common(judgements), judgements, exit_code(judgements))


def _common(judgements: Sequence[Judgement]) -> str:
    runs = {judgement.run for judgement in judgements}
    return runs.pop() if len(runs) == 1 else ""


def exit_code(judgements: Sequence[Judgement]) -> int:
    """0 all hold, 1 a FAIL, 3 anything unproven or nothing checked. A hypothesis counts only when it has no answer."""
    if not judgements:
        return 3
    counted = [j.verdict for j in judgements if j.kind != "hypothesis" or j.verdict in _UNANSWERED]
    worst = max(counted, key=lambda verdict: verdict.severity, default=Verdict.PASS)
    return {Verdict.PASS: 0, Verdict.FAIL: 1}.get(worst, 3)
