"""Sound contracts, evidence for them, and the ways to attack them that the adversarial tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrmctl import Evidence, InputError, Judgement, Provenance, Verdict
from hrmctl.contract import Contract, load_contracts, parse_text, proof_of
from hrmctl.contract.bind import check
from hrmctl.contract.facts import Facts
from hrmctl.plugins import catalog
from hrmctl.run.judge import Claims, judge_runs
from hrmctl.run.record import Record
from hrmctl.store import Store

from .conftest import MEASURES, on_value

MODEL, DATA = "hrm-tiny", "microcode@test"
TARGET = "  - {id: target, left: m.value, op: ge, right: 10}"
CONTROLS = """\
  - {expect: PASS, data: {v: {value: 10}}}
  - {expect: FAIL, because: target, data: {v: {value: 9}}}"""
PLAIN = on_value(TARGET, CONTROLS)
SOLVES = f"""\
kind: contract
id: SOLVES
title: the model solves one problem in five
subjects: {{claim: {{model: {MODEL}, dataset: {DATA}}}}}
evidence: {{e: {{type: samples/v1, stage: eval}}}}
measure: {{p: {{fn: pass_at_k, of: [e]}}}}
require:
  - {{id: whole, left: p.n, op: eq, right: 5, else: INVALID}}
  - {{id: target, left: p.value, op: ge, right: 0.2}}
controls:
  - {{expect: PASS, data: {{e: {{passed: 1, n: 5}}}}}}
  - {{expect: FAIL, because: target, data: {{e: {{passed: 0, n: 5}}}}}}
  - {{expect: INVALID, because: whole, data: {{e: {{passed: 1, n: 4}}}}}}
  - {{expect: INVALID, because: whole, data: {{e: {{passed: 2, n: 6}}}}}}
"""
RATIO = f"""\
kind: contract
id: FASTER
title: twice as fast as the baseline
subjects: {{it: {{model: {MODEL}, baseline: gpt2}}}}
evidence:
  ours: {{type: measurement/v1, stage: eval, name: speed}}
  theirs: {{type: measurement/v1, stage: eval, name: speed, bind: {{model: baseline}}}}
measure: {{r: {{fn: ratio, of: [ours, theirs]}}}}
require:
  - {{id: twice, left: r.value, op: ge, right: 2}}
controls:
  - {{expect: PASS, data: {{ours: {{value: 2}}, theirs: {{value: 1}}}}}}
  - {{expect: FAIL, because: twice, data: {{ours: {{value: 1.9}}, theirs: {{value: 1}}}}}}
"""
CHANCE = on_value(
    "  - {id: shown, left: m.p, op: lt, right: 0.05}",
    "  - {expect: PASS, data: {v: {value: 0.04}}}\n  - {expect: FAIL, because: shown, data: {v: {value: 0.05}}}",
    fn="chance",
)
GATE = """\
kind: gate
id: G
title: whether to go on
over: {a: V/it}
rules:
  - {id: go, when: {left: a, op: eq, right: PASS}, then: GO}
  - {id: wait, otherwise: HOLD}
verdicts: {GO: PASS, HOLD: INCONCLUSIVE}
controls:
  - {expect: GO, because: go, data: {a: PASS}}
  - {expect: HOLD, because: wait, data: {a: FAIL}}
"""


@dataclass(frozen=True)
class Attack:
    """A way to PASS without measuring; `run` gives how it ended, which must be `rule`."""

    name: str
    ends: str
    rule: str
    run: Callable[[Path], str]


ATTACKS: list[Attack] = []


def attack(name: str, ends: str, rule: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Register what follows as an attack that ends in `ends` by `rule`, a part of what is said."""

    def register(run: Callable[[Path], str]) -> Callable[[Path], str]:
        ATTACKS.append(Attack(name, ends, rule, run))
        return run

    return register


def refused(name: str, rule: str, text: str, old: str = "", new: str = "") -> None:
    """An attack that is a text: `text` with `old` replaced, which must not load."""
    assert old in text, (name, old)
    ATTACKS.append(Attack(name, "does not load", rule, lambda folder: loaded(text.replace(old, new) if old else text)))


def unproven(name: str, rule: str, text: str) -> None:
    """An attack that is a text which loads and is not proven, so that every verdict of it is INVALID."""

    def run(folder: Path) -> str:
        contract = parse_text(text, MEASURES)
        proof = proof_of(contract, MEASURES)
        assert not proof.ok
        assert isinstance(contract, Contract)
        (judgement,) = check(contract, [seen({"value": 11, "unit": "", "n": 1})], MEASURES, run="r")
        assert judgement.because == "proof"
        return f"{judgement.verdict} {' '.join(p.message for p in proof.problems)}"

    ATTACKS.append(Attack(name, "INVALID", rule, run))


def judged(name: str, ends: str, rule: str, evidence: Any, text: str = PLAIN, **facts: Any) -> None:
    """An attack that is evidence: what a contract, sound in itself, says of it."""

    def run(folder: Path) -> str:
        contract = parse_text(text, MEASURES)
        assert isinstance(contract, Contract)
        assert proof_of(contract, MEASURES).ok
        items = evidence if isinstance(evidence, list) else [evidence]
        (judgement,) = check(contract, items, MEASURES, run="r", facts=Facts(**facts))
        return f"{judgement.verdict} {judgement.because}: {judgement.reason}"

    ATTACKS.append(Attack(name, ends, rule, run))


def loaded(text: str) -> str:
    try:
        parse_text(text, MEASURES)
    except InputError as error:
        return f"does not load: {error}"
    return "loads"


def seen(
    payload: Mapping[str, Any], model: str = MODEL, digest: str = "", data: str = "", data_digest: str = "", **more: Any
) -> Evidence:
    """Evidence as a stage of run r reports it; `more` overrides its fields."""
    labels = {"model": model} | ({"dataset": data} if data else {})
    digests = {"model": digest or f"digest of {model}"} | (
        {"dataset": data_digest or f"digest of {data}"} if data else {}
    )
    about = {"run": "r", "stage": "s", "uses": "eval", "seed": 0} | {
        k: more.pop(k) for k in ("uses", "run") if k in more
    }
    source = Provenance(
        **about,
        key="k",
        subjects=digests,
        labels=labels,
        params_digest="p",
        argv=(),
        code_version="c",
        tools={},
        hardware={},
        started="t",
        ended="t",
    )
    fields = {"name": "speed", "type": "measurement/v1"} | more
    made = {"payload": payload, "provenance": source, **fields}
    return Evidence(**{"digest": f"{fields['name']} {payload!r} {sorted(digests.items())}"} | made)


def value(number: Any, **more: Any) -> Evidence:
    return seen({"value": number, "unit": "", "n": 1}, **more)


def samples(problems: Sequence[Any], **more: Any) -> Evidence:
    rows = [{"id": f"p/{i}", "n": 1, "c": c} if isinstance(c, int) else c for i, c in enumerate(problems)]
    return seen({"problems": rows}, type="samples/v1", name="samples", **({"data": DATA} | more))


def verdict(found: str, kind: str = "acceptance") -> Judgement:
    return Judgement("V", "d", "t", "it", kind, Verdict(found))  # type: ignore[arg-type]


ODD = PLAIN.replace("fn: value", "fn: odd")
ABUSED = on_value(
    TARGET.replace("10}", "10, else: INCONCLUSIVE}") + "\n  - {id: unit, left: m.unit, op: eq, right: s}",
    CONTROLS.replace("FAIL, because", "INCONCLUSIVE, because").replace("}}}", ", unit: s}}}")
    + "\n  - {expect: FAIL, because: unit, data: {v: {value: 10, unit: ms}}}"
    + "\n  - {expect: FAIL, because: unit, data: {v: {value: 9, unit: ms}}}",
)


def store_with(folder: Path, *numbers: Any, contract: str = PLAIN) -> tuple[Store, Claims]:
    """A store with a run for each number, measured on a model of its own, and the claims of `contract`."""
    store = Store(folder / "store")
    store.prepare()
    for index, number in enumerate(numbers):
        name = f"202601{index + 1:02}T000000000-lab-0000"
        item = store.put_evidence(replace(value(number, digest=f"{index:064x}", run=name), digest=""))
        stage = {"uses": "eval", "status": "done", "error": "", "evidence": [item.digest]}
        record = Record(store.runs / name)
        record.lock({"run": name, "name": "lab", "status": "done", "questions": [], "stages": {"e": stage}})
    (folder / "c.yaml").write_text(contract, encoding="utf-8")
    return store, Claims(load_contracts([folder / "c.yaml"], MEASURES))


def known() -> Any:
    return replace(catalog(), measures={**catalog().measures, **MEASURES})


def judged_in(store: Store, claims: Claims, runs: Sequence[str] | None = None) -> str:
    report = judge_runs(store, known(), runs, claims)
    (judgement,) = report.judgements
    return f"{judgement.verdict} {judgement.reason}; attempts {judgement.attempts}; exit {report.exit_code}"
