"""Contracts proven together share what their examples gave, and nothing else comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from hrmctl import Evidence, MeasureSpec
from hrmctl.contract import Contract, Proof, parse_text, proofs
from hrmctl.contract.prove import prove

Read = Callable[[str], Any]
About = Callable[..., str]
COUNTED: list[int] = []


def counting(evidence: Sequence[Evidence], params: Any) -> dict[str, Any]:
    rows = evidence[0].payload["problems"]
    COUNTED.append(len(rows))
    found = {"value": sum(row["c"] for row in rows) / len(rows), "n": len(rows)}
    rows.clear()  # what one measure does to its evidence, no other sees
    return found


@pytest.fixture
def counted(measures: dict[str, MeasureSpec]) -> dict[str, MeasureSpec]:
    """The measures, with one that counts its calls in the place of pass_at_k, and spoils its evidence."""
    COUNTED.clear()
    return {**measures, "pass_at_k": replace(measures["pass_at_k"], target=f"{__name__}:counting")}


def said(proof: Proof) -> tuple[Any, ...]:
    """All that a proof says."""
    outcomes = [(c.expect, c.because, c.outcome, c.place.line) for c in proof.controls]
    return proof.contract, proof.total, proof.survivors, outcomes


def variants(example: str, about_value: About) -> list[str]:
    """Contracts that show the same examples: one with other clauses, one that misbehaves, one of broken measures."""
    broken = "\n".join(
        f"  - {{expect: INVALID, because: m, data: {{v: {{value: {number}}}}}}}" for number in (1, 2, 3, 13)
    )
    odd = f"  - {{expect: FAIL, because: a, data: {{v: {{value: 0}}}}}}\n{broken}"
    return [
        example,
        example.replace("id: HRM-P1", "id: OTHER").replace("right: 0.20}", "right: 0.199}"),
        example.replace("id: HRM-P1", "id: LIES").replace("expect: PASS", "expect: FAIL, because: target"),
        example.replace("id: HRM-P1", "id: NAMED").replace("stage: eval}", "stage: eval, name: other}"),
        about_value("  - {id: a, left: m.value, op: ge, right: 7}", odd, fn="odd"),
        about_value("  - {id: a, left: w.value, op: ge, right: 7}", odd, fn="odd")
        .replace("id: V", "id: W")
        .replace("{m: {fn", "{w: {fn")
        .replace("because: m", "because: w"),
    ]


def test_together_contracts_prove_what_each_proves_alone(
    read: Read, example: str, about_value: About, measures: dict[str, MeasureSpec]
) -> None:
    items = [parse_text(text, measures) for text in variants(example, about_value)]
    alone = [said(prove(item, measures)) for item in items if isinstance(item, Contract)]
    assert [said(proof) for proof in proofs(items, measures)] == alone
    assert [said(proof) for proof in proofs(items[::-1], measures)] == alone[::-1]


def test_an_example_that_several_contracts_show_is_measured_once(
    read: Read, example: str, counted: dict[str, MeasureSpec]
) -> None:
    other = example.replace("id: HRM-P1", "id: OTHER").replace("op: ge, right: 0.20", "op: gt, right: 0.199")
    found = proofs([read(example), read(other)], counted)
    assert [proof.ok for proof in found] == [True, True]
    assert sorted(COUNTED) == [499, 500, 500, 501]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("e: {type: samples/v1, stage: eval}", "e: {type: samples/v1, stage: eval, name: named}"),
        ("{fn: pass_at_k, of: [e], k: 1}", "{fn: pass_at_k, of: [e], k: 2}"),
        ("n: 500}", "n: 500, mode: confined}"),
    ],
)
def test_another_name_parameter_or_payload_is_measured_anew(
    read: Read, example: str, counted: dict[str, MeasureSpec], old: str, new: str
) -> None:
    other = example.replace("id: HRM-P1", "id: OTHER").replace(old, new)
    assert other.count(new) > 0
    proofs([read(example), read(other)], counted)
    assert len(COUNTED) == (6 if "mode" in new else 8)


def test_two_measures_of_one_example_are_two(read: Read, about_value: About, measures: dict[str, MeasureSpec]) -> None:
    require = "  - {id: a, left: m.value, op: ge, right: 3}\n  - {id: b, left: q.p, op: ge, right: 2}"
    controls = "\n".join(
        f"  - {{expect: {expect}, data: {{v: {{value: {value}}}}}}}"
        for expect, value in [("PASS", 3), ("FAIL, because: a", 2), ("FAIL, because: a", 1)]
    )
    text = about_value(require, controls).replace("of: [v]}}", "of: [v]}, q: {fn: chance, of: [v]}}")
    first = proofs([read(text)], measures)[0].controls[0]
    assert first.outcome.measured == {"m": {"value": 3, "n": 1, "unit": ""}, "q": {"p": 3, "value": 3}}


@pytest.mark.parametrize(("one", "two"), [("1", "1.0"), ("1", "true"), ("1", "'1'"), (".nan", "'.nan'")])
def test_examples_that_only_look_alike_are_kept_apart(
    read: Read, example: str, measures: dict[str, MeasureSpec], one: str, two: str
) -> None:
    """Equal as numbers, and yet not the same evidence."""
    shown = example.replace("n: 500}", f"n: 500, mode: {one}}}"), example.replace("n: 500}", f"n: 500, mode: {two}}}")
    first, second = (read(text).controls[0].data["e"]["mode"] for text in shown)
    assert repr(first) == {"true": "True", ".nan": "nan"}.get(one, one)
    assert type(first) is not type(second)


def shaped(evidence: Sequence[Any], params: Any) -> dict[str, Any]:
    """One answer for one piece, another for the pieces of all seeds, as a plugin's two measures of one function."""
    return {"value": 1 if isinstance(evidence[0], tuple) else 0, "n": 1}


def test_one_piece_is_not_the_pieces_of_one_seed(
    read: Read, about_value: About, measures: dict[str, MeasureSpec]
) -> None:
    both = {
        name: replace(measures["value"], name=name, target=f"{__name__}:shaped", by_seed=name == "seeds")
        for name in ("value", "seeds")
    }
    shown = [("PASS", "{value: 7}"), ("FAIL, because: a", "{value: 8}")]
    alone, listed = (
        "\n".join(f"  - {{expect: {expect}, data: {{v: {form.format(example)}}}}}" for expect, example in shown)
        for form in ("{}", "[{}]")
    )
    clause = "  - {id: a, left: m.value, op: ge, right: 1}"
    one = about_value(clause, alone)
    several = (
        about_value(clause, listed, fn="seeds")
        .replace("id: V", "id: S")
        .replace("name: speed", "name: speed, each: seed")
    )
    items = [parse_text(text, both) for text in (one, several)]
    found = [[c.outcome.measured["m"]["value"] for c in proof.controls] for proof in proofs(items, both)]
    assert found == [[0, 0], [1, 1]]


def test_a_measure_that_changed_is_seen_by_the_next_proof(
    read: Read, example: str, counted: dict[str, MeasureSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = read(example)
    assert proofs([item], counted)[0].ok
    monkeypatch.setattr(f"{__name__}.counting", lambda evidence, params: {"value": 0.5, "n": 500})
    assert not proofs([item], counted)[0].ok
