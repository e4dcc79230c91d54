"""No clause, control, threshold or accepted verdict can be changed without `make check-contracts` being red."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrmctl.contract import Gate, load_contracts, parse_text, prove_gate
from hrmctl.contract.bench import Bench
from hrmctl.contract.prove import prove
from hrmctl.errors import InputError
from hrmctl.model import Judgement, Verdict
from hrmctl.plugins import catalog
from hrmctl.ratchet import accept, compare, load_accepted
from hrmctl.yamlio import load

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for p in (ROOT / "contracts").rglob("*.yaml"))
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
INVERSE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


def proven(document: Any, bench: Bench) -> bool:
    """Whether a changed contract still loads and is still proven. What its examples measure, the `bench` remembers."""
    text = yaml.dump(document, Dumper=DUMPER, allow_unicode=True, sort_keys=False)
    try:
        item = parse_text(text, catalog().measures)
    except InputError:
        return False
    return (prove_gate(item) if isinstance(item, Gate) else prove(item, catalog().measures, bench)).ok


def tampered(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of a contract with one clause deleted, inverted, softened, or one control's verdict changed."""
    if document["kind"] == "gate":
        yield from tampered_gate(document)
        return
    for index, clause in enumerate(document["require"]):
        name = clause["id"]
        yield f"clause {name} deleted", _changed(document, "require", index, None)
        softer = "FAIL" if clause.get("else") == "INCONCLUSIVE" else "INCONCLUSIVE"
        yield f"clause {name} else", _changed(document, "require", index, {"else": softer})
        if clause.get("op") in INVERSE:
            yield f"clause {name} inverted", _changed(document, "require", index, {"op": INVERSE[clause["op"]]})
    for index, control in enumerate(document["controls"]):
        turned = {"expect": "FAIL", "because": document["require"][-1]["id"]}
        yield (
            f"control {index} turned",
            _changed(document, "controls", index, turned if control["expect"] == "PASS" else {"expect": "PASS"}),
        )


def tampered_gate(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of a gate with one rule deleted or deciding something else, or one control's outcome changed."""
    outcomes = list(document["verdicts"])
    for index, rule in enumerate(document["rules"]):
        key = "then" if "then" in rule else "otherwise"
        other = next(o for o in outcomes if o != rule[key])
        yield f"rule {rule['id']} deleted", _changed(document, "rules", index, None)
        yield f"rule {rule['id']} turned", _changed(document, "rules", index, {key: other})
    for index, control in enumerate(document["controls"]):
        other = next(o for o in outcomes if o != control["expect"])
        yield f"control {index} turned", _changed(document, "controls", index, {"expect": other})


def _changed(document: dict[str, Any], section: str, index: int, change: dict[str, Any] | None) -> dict[str, Any]:
    """A copy with one item of a section changed, or removed where `change` is None."""
    changed = copy.deepcopy(document)
    if change is None:
        changed[section].pop(index)
    else:
        changed[section][index].update(change)
    return changed


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_contract_is_proven_and_no_change_of_it_is(path: Path) -> None:
    document, bench = load(path).plain(), Bench()
    assert proven(document, bench)
    survivors = [what for what, changed in tampered(document) if proven(changed, bench)]
    assert survivors == []


CHANGES: list[dict[str, Any]] = [{"verdict": "PASS"}, {"contract_digest": "0" * 64}, {"kind": "hypothesis"}]


def test_the_ratchet_notices_every_change(tmp_path: Path) -> None:
    items = load_contracts([ROOT / "contracts"], catalog().measures)
    verdicts = [
        Judgement(i.id, i.digest, i.title, s, "acceptance", Verdict.FAIL)
        for i in items
        for s in getattr(i, "subjects", ())
    ]
    path = tmp_path / "accepted.json"
    accept(path, verdicts)
    accepted = load_accepted(path)
    assert compare(accepted, verdicts) == []
    for name, entry in accepted.items():
        for change in CHANGES:
            assert compare({**accepted, name: replace(entry, **change)}, verdicts), (name, change)
        assert compare({other: accepted[other] for other in accepted if other != name}, verdicts), (name, "removed")


@pytest.mark.parametrize("change", [*CHANGES, None], ids=str)
def test_the_ratchet_reads_a_change_in_the_file(tmp_path: Path, change: dict[str, str] | None) -> None:
    verdict = Judgement("C", "d" * 64, "t", "s", "acceptance", Verdict.FAIL)
    path = tmp_path / "accepted.json"
    accept(path, [verdict, replace(verdict, contract="D")])
    stored = json.loads(path.read_text())
    entry = stored["obligations"].pop("C/s")
    if change is not None:
        stored["obligations"]["C/s"] = {**entry, **change}
    path.write_text(json.dumps(stored))
    assert compare(load_accepted(path), [verdict, replace(verdict, contract="D")])


def test_a_moved_threshold_changes_the_digest_that_the_ratchet_compares() -> None:
    text = (ROOT / "contracts/quickstart/hrm-solves.yaml").read_text()
    moved = text.replace("op: gt, right: 0.15", "op: gt, right: 0.151")
    assert moved != text
    measures = catalog().measures
    assert parse_text(text, measures).digest != parse_text(moved, measures).digest
    assert parse_text(text, measures).digest == parse_text("# a comment\n" + text, measures).digest
