"""`each: seed`: one piece of evidence for each seed, all of them together, held together by digest and by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrmctl import Evidence, InputError, Judgement, MeasureError, MeasureSpec
from hrmctl.contract import Contract, load_one
from hrmctl.contract.bind import check
from hrmctl.contract.facts import Facts
from hrmctl.contract.prove import prove

from .conftest import MEASURES, Nothing

Observe = Callable[..., Evidence]

TEXT = """\
kind: contract
id: FAST
title: the model is at least twice as fast as the baseline whatever the seed
subjects:
  it: {model: hrm-tiny, baseline: gpt2}
evidence:
  v: {type: measurement/v1, stage: bench, name: speed, each: seed}
  w: {type: measurement/v1, stage: bench, name: speed, bind: {model: baseline}, each: seed}
measure: {r: {fn: least, of: [v, w]}}
require:
  - {id: three, left: r.seeds, op: eq, right: 3, else: INVALID}
  - {id: twice, left: r.value, op: ge, right: 2}
controls:
  - {expect: PASS, data: {v: [{value: 2}, {value: 3}, {value: 2}], w: {seeds: 3, value: 1}}}
  - {expect: FAIL, because: twice, data: {v: [{value: 2}, {value: 1.9}, {value: 2}], w: {seeds: 3, value: 1}}}
  - {expect: INVALID, because: three, data: {v: {seeds: 2, value: 2}, w: {seeds: 2, value: 1}}}
  - {expect: INVALID, because: three, data: {v: {seeds: 4, value: 2}, w: {seeds: 4, value: 1}}}
"""


def least(evidence: Sequence[Sequence[Evidence]], params: Nothing) -> dict[str, Any]:
    """The least ratio of a seed."""
    left, right = evidence
    if len(left) != len(right):
        raise MeasureError("unpaired")
    pairs = zip(left, right, strict=True)
    return {"value": min(a.payload["value"] / b.payload["value"] for a, b in pairs), "seeds": len(left)}


SPECS = {
    **MEASURES,
    "least": MeasureSpec(
        "least",
        "least",
        Nothing,
        f"{__name__}:least",
        ("measurement/v1",),
        {"value": "a", "seeds": "b"},
        (2, 2),
        by_seed=True,
    ),
}


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        (tmp_path / "c.yaml").write_text(text)
        return load_one(tmp_path / "c.yaml", SPECS)

    return read


@pytest.fixture
def speeds(observed: Observe) -> Callable[..., list[Evidence]]:
    """The speed of one model for each seed; each seed has a model of its own."""

    def make(label: str, **values: float) -> list[Evidence]:
        found = []
        for name, value in values.items():
            seed, digest = int(name[1:]), f"{label} of {name}"
            item = observed(
                {"value": value, "unit": "tok/s", "n": 3}, {"model": label}, {"model": digest}, uses="bench"
            )
            assert item.provenance is not None
            found.append(replace(item, provenance=replace(item.provenance, seed=seed)))
        return found

    return make


def judged(contract: Contract, evidence: Sequence[Evidence], **more: Any) -> Judgement:
    (judgement,) = check(contract, evidence, SPECS, run="r1", **more)
    return judgement


def test_the_pieces_of_all_seeds_are_measured_together_in_the_order_of_the_seeds(load: Any, speeds: Any) -> None:
    ours, theirs = speeds("hrm-tiny", s3=9, s1=4, s2=6), speeds("gpt2", s2=2, s3=4, s1=2)
    result = judged(load(TEXT), [*ours, *theirs])
    # Paired by seed 4/2, 6/2, 9/4; in the order of arrival the least would be 4/4.
    assert (result.verdict, result.measured["r"]) == ("PASS", {"value": 2.0, "seeds": 3})
    assert set(result.evidence) == {item.digest for item in [*ours, *theirs]}
    assert result.subjects["model"] == "hrm-tiny of s1+hrm-tiny of s2+hrm-tiny of s3"


def test_the_verdict_is_found_again_from_the_recorded_evidence_alone(load: Any, speeds: Any) -> None:
    evidence = [*speeds("hrm-tiny", s1=4, s2=6, s3=8), *speeds("gpt2", s1=2, s2=2, s3=2)]
    first = judged(load(TEXT), [*evidence, *speeds("other", s1=1)])
    again = judged(load(TEXT), [item for item in evidence if item.digest in first.evidence])
    assert (again.verdict, again.measured, again.subjects) == (first.verdict, first.measured, first.subjects)


def test_two_pieces_of_one_seed_are_refused(load: Any, speeds: Any) -> None:
    ours = [*speeds("hrm-tiny", s1=4, s2=6, s3=8), *speeds("hrm-tiny", s01=9)]
    result = judged(load(TEXT), [*ours, *speeds("gpt2", s1=2, s2=2, s3=2)])
    assert (result.verdict, result.because) == ("INVALID", "v")
    assert result.reason == "two pieces of evidence for v have the seed 1"


def test_a_seed_whose_cell_did_not_finish_blocks(load: Any, speeds: Any) -> None:
    ours, theirs = speeds("hrm-tiny", s1=4, s2=6, s3=8), speeds("gpt2", s1=2, s2=2, s3=2)
    facts = Facts(partial={theirs[2].digest: "bench[seed=4] failed"})
    result = judged(load(TEXT), [*ours, *theirs], facts=facts)
    assert (result.verdict, result.because) == ("BLOCKED", "w")


@pytest.mark.parametrize("models", [("one", "one", "one"), ("one", "two", "one")])
def test_one_model_under_several_seeds_is_not_several_models(load: Any, speeds: Any, models: Sequence[str]) -> None:
    ours = [
        replace(item, provenance=replace(item.provenance, subjects={"model": model}))
        for item, model in zip(speeds("hrm-tiny", s1=4, s2=6, s3=8), models, strict=True)
    ]
    result = judged(load(TEXT), [*ours, *speeds("gpt2", s1=2, s2=2, s3=2)])
    assert (result.verdict, result.because) == ("INVALID", "v")
    assert result.reason == "several seeds of v are about the same model"


def test_a_missing_side_is_untested_and_broken_evidence_of_one_seed_invalid(load: Any, speeds: Any) -> None:
    assert judged(load(TEXT), speeds("hrm-tiny", s1=4)).verdict == "UNTESTED"
    ours = speeds("hrm-tiny", s1=4, s2=6, s3=float("nan"))
    result = judged(load(TEXT), [*ours, *speeds("gpt2", s1=2, s2=2, s3=2)])
    assert (result.verdict, result.because) == ("INVALID", "v")


def test_controls_and_mutants_prove_it(load: Any) -> None:
    proof = prove(load(TEXT), SPECS)
    assert proof.ok, proof.problems
    without = TEXT.replace(
        "  - {expect: INVALID, because: three, data: {v: {seeds: 4", "  # {expect: INVALID {v: {s: 4"
    )
    assert not prove(load(without.replace("op: eq, right: 3", "op: le, right: 3")), SPECS).ok


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            ", name: speed, each: seed}\n  w",
            ", name: speed}\n  w",
            "least takes one for each seed, and 'v' is one piece",
        ),
        ("fn: least", "fn: ratio", "ratio takes one piece, and 'v' is one for each seed"),
        ("each: seed}\n  w", "each: step}\n  w", "each"),
        ("{v: {seeds: 2, value: 2}", "{v: {value: 2}", "expected one for each seed"),
        ("{v: {seeds: 2, value: 2}", "{v: {seeds: 0, value: 2}", "seeds must be a whole number of at least 1"),
        ("{v: {seeds: 2, value: 2}", "{v: []", "expected one for each seed"),
    ],
)
def test_what_does_not_fit_is_refused_in_its_place(load: Any, old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError) as caught:
        load(TEXT.replace(old, new, 1))
    assert said in str(caught.value.problems[0])
