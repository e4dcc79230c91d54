"""Gates, hypotheses, and what can be done to a store and its ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hrmctl import Verdict, ledger
from hrmctl.contract import Gate, check_gate, parse_text
from hrmctl.errors import StoreError
from hrmctl.jsonio import canonical
from hrmctl.plugins import catalog
from hrmctl.ratchet import accept, compare, load_accepted
from hrmctl.run.judge import exit_code, judge_runs
from hrmctl.run.replay import replay
from hrmctl.store import Store

from .attacks import (
    GATE,
    PLAIN,
    attack,
    judged_in,
    known,
    store_with,
    verdict,
)
from .conftest import MEASURES

# --- gates and hypotheses -------------------------------------------------------------------------------------------


LAX = GATE.replace("op: eq, right: PASS}, then: GO", "op: in, right: [PASS, UNTESTED]}, then: GO").replace(
    "  - {expect: HOLD", "  - {expect: INVALID, because: go, data: {}}\n  - {expect: HOLD"
)


@attack("a gate that passes over what nobody measured", "INVALID", "cannot count as PASS while V/it is UNTESTED")
def _(folder: Path) -> str:
    gate = parse_text(LAX, MEASURES)
    assert isinstance(gate, Gate)
    found = check_gate(gate, [])
    return f"{found.verdict} {found.reason}"


@attack("a gate over a broken instrument", "INVALID", "cannot count as PASS while V/it is INVALID")
def _(folder: Path) -> str:
    text = LAX.replace("[PASS, UNTESTED]", "[PASS, INVALID]").replace("data: {}", "data: {a: INVALID}")
    gate = parse_text(text, MEASURES)
    assert isinstance(gate, Gate)
    found = check_gate(gate, [verdict("INVALID")])
    return f"{found.verdict} {found.reason}"


@attack("a hypothesis counted as a claim", "no claim", "0 claims")
def _(folder: Path) -> str:
    from hrmctl.run.judge import report_of

    report = report_of("c", [verdict("PASS", "hypothesis")])
    spec = catalog().reporters["json"]
    from hrmctl.registry import resolve

    totals = json.loads(resolve(spec.target)(report))["totals"]
    return f"no claim: {sum(totals['claims'].values())} claims, {totals['hypotheses']['PASS']} hypothesis"


@attack("a hypothesis that nobody measured", "exit 3", "exit 3")
def _(folder: Path) -> str:
    return f"exit {exit_code([verdict('UNTESTED', 'hypothesis')])}"


@attack("a check of nothing", "exit 3", "exit 3")
def _(folder: Path) -> str:
    return f"exit {exit_code([])}"


@attack("a failing claim asked as a question from now on", "ratchet", "is hypothesis now")
def _(folder: Path) -> str:
    accept(folder / "a.json", [verdict("PASS")])
    (fault,) = compare(load_accepted(folder / "a.json"), [verdict("FAIL", "hypothesis")])
    return f"ratchet: {fault}"


# --- the store ------------------------------------------------------------------------------------------------------


@attack("an older, better run", "FAIL", "m.value 1 is not ≥ 10")
def _(folder: Path) -> str:
    return judged_in(*store_with(folder, 11, 1))


@attack("the best of ten runs by ten checks", "PASS", "attempts 10")
def _(folder: Path) -> str:
    """It may be recorded, and what it took stands beside it."""
    store, claims = store_with(folder, *[1] * 9, 11)
    return [judged_in(store, claims, [run]) for run in sorted(store.run_ids())][-1]


FEW = PLAIN.replace("evidence: {v", "evidence: {t: {type: measurement/v1, stage: ledger, name: attempts}, v")
FEW = FEW.replace("measure: {m", "measure: {n: {fn: value, of: [t]}, m")
FEW = FEW.replace("controls:", "  - {id: few, left: n.value, op: le, right: 1, else: INCONCLUSIVE}\ncontrols:")
FEW = FEW.replace("{v: {value: 10}}", "{v: {value: 10}, t: {value: 1}}").replace(
    "{v: {value: 9}}", "{v: {value: 9}, t: {value: 1}}"
)
FEW += "\n  - {expect: INCONCLUSIVE, because: few, data: {v: {value: 10}, t: {value: 2}}}\n"


@attack("the best of ten by ten checks where the first attempt counts", "INCONCLUSIVE", "n.value 10 is not ≤ 1")
def _(folder: Path) -> str:
    store, claims = store_with(folder, *[1] * 9, 11, contract=FEW)
    last = [judged_in(store, claims, [run]) for run in sorted(store.run_ids())][-1]
    assert replay(store, known())[1] == []
    return last


@attack("evidence improved in the store", "refused", "was altered")
def _(folder: Path) -> str:
    store, claims = store_with(folder, 1)
    (path,) = (p for p in (store.root / "objects").rglob("*") if p.is_file())
    path.write_text(path.read_text().replace('"value":1', '"value":99'))
    try:
        return judged_in(Store(store.root), claims)
    except StoreError as error:
        return f"refused: {error}"


@attack("evidence of NaN written by hand", "refused", "altered")
def _(folder: Path) -> str:
    store, claims = store_with(folder, 1)
    (path,) = (p for p in (store.root / "objects").rglob("*") if p.is_file())
    path.write_text(path.read_text().replace('"value":1', '"value":NaN'))
    try:
        return judged_in(Store(store.root), claims)
    except StoreError as error:
        return f"refused: {error}"


@attack("a contract eased after it was judged", "found", "was altered")
def _(folder: Path) -> str:
    store, claims = store_with(folder, 1)
    judged_in(store, claims)
    (path,) = (store.root / "contracts").glob("*.yaml")
    path.write_text(path.read_text().replace("right: 10", "right: 1").replace("value: 9", "value: 0"))
    (problem,) = replay(store, known())[1]
    return f"found: {problem}"


@attack("a verdict improved in the ledger, hashes and head made to fit", "found", "recorded PASS, replayed FAIL")
def _(folder: Path) -> str:
    store, claims = store_with(folder, 1)
    judged_in(store, claims)
    (row,) = ledger.rows(store.ledger)
    forged = {**row, "verdict": "PASS", "because": ""}
    forged["hash"] = ledger._hash(forged)
    line = canonical(forged) + "\n"
    store.ledger.write_text(line, encoding="utf-8")
    head = {"version": 1, "seq": 1, "hash": forged["hash"], "bytes": len(line.encode())}
    ledger.head_path(store.ledger).write_text(canonical(head) + "\n")
    assert ledger.verify(store.ledger) == []
    (problem,) = replay(store, known())[1]
    return f"found: {problem}"


@attack("a plugin that forges the judgement it is told of", "FAIL", "exit 1")
def _(folder: Path) -> str:
    store, claims = store_with(folder, 1)

    def forge(event: Any) -> None:
        object.__setattr__(event.judgement, "verdict", Verdict.PASS)
        event.judgement.measured["m"]["value"] = 99

    report = judge_runs(store, known(), None, claims, listeners=[forge])
    (judgement,) = report.judgements
    assert judgement.measured["m"]["value"] == 1
    assert ledger.rows(store.ledger)[0]["verdict"] == "FAIL"
    return f"{judgement.verdict} exit {report.exit_code}"
