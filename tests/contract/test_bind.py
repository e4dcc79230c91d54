"""Evidence binds to a subject by label and digest; what is ambiguous is refused, never guessed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import Evidence, Judgement, MeasureSpec
from hrmctl.contract import Contract
from hrmctl.contract.bind import check, holm
from hrmctl.contract.facts import Facts, Stop

Observe = Callable[..., Evidence]

PAIR = """\
kind: contract
id: FAST
title: the model is at least twice as fast as the baseline
subjects:
  claim: {model: hrm-27m, baseline: gpt2, needs: [cuda]}
  proxy: {model: hrm-tiny, baseline: gpt2}
evidence:
  v: {type: measurement/v1, stage: bench, name: speed}
  w: {type: measurement/v1, stage: bench, name: speed, bind: {model: baseline}}
measure: {r: {fn: ratio, of: [v, w]}}
require:
  - {id: twice, left: r.value, op: ge, right: 2}
controls:
  - {expect: PASS, data: {v: {value: 2}, w: {value: 1}}}
  - {expect: FAIL, because: twice, data: {v: {value: 1.9}, w: {value: 1}}}
"""


@pytest.fixture
def speed(observed: Observe) -> Observe:
    """A speed of one model, as the stage bench reports it."""

    def make(label: str, value: float, digest: str = "", **more: Any) -> Evidence:
        labels = {"model": label, **more.pop("labels", {})}
        digests = {role: f"digest of {name}" for role, name in labels.items()} | ({"model": digest} if digest else {})
        return observed({"value": value, "unit": "tok/s", "n": 3}, labels, digests, **{"uses": "bench", **more})

    return make


@pytest.fixture
def checked(read: Callable[[str], Contract], measures: dict[str, MeasureSpec]) -> Callable[..., dict[str, Judgement]]:
    """Judgements by subject."""

    def run(text: str, evidence: list[Evidence], **more: Any) -> dict[str, Judgement]:
        return {j.subject: j for j in check(read(text), evidence, measures, run="r1", **more)}

    return run


def test_both_sides_are_found_by_their_roles(checked: Any, speed: Observe) -> None:
    slow, fast = speed("gpt2", 100), speed("hrm-tiny", 250)
    result = checked(PAIR, [slow, fast])
    proxy = result["proxy"]
    assert (proxy.verdict, proxy.because, proxy.remedy) == ("PASS", "", "")
    assert proxy.reason == "r.value 2.5 is ≥ 2"
    assert proxy.measured == {"r": {"value": 2.5}}
    assert proxy.evidence == (fast.digest, slow.digest)
    assert proxy.subjects == {"model": "digest of hrm-tiny", "baseline": "digest of gpt2"}
    assert proxy.labels == {"model": "hrm-tiny", "baseline": "gpt2"}
    assert (proxy.contract, proxy.kind, proxy.run, proxy.obligation) == ("FAST", "acceptance", "r1", "FAST/proxy")
    assert checked(PAIR, [speed("gpt2", 100), speed("hrm-tiny", 150)])["proxy"].verdict == "FAIL"


def test_a_proxy_never_stands_for_the_claim(checked: Any, speed: Observe) -> None:
    evidence = [speed("gpt2", 100), speed("hrm-tiny", 250)]
    claim = checked(PAIR, evidence, facts=Facts(has=lambda need: need == "cuda"))["claim"]
    assert (claim.verdict, claim.because) == ("UNTESTED", "v")
    assert claim.reason == "no evidence v: no speed (measurement/v1) of a stage bench about hrm-27m and gpt2"
    assert claim.remedy == "no recipe here names it: run the stage bench on hrm-27m and gpt2"


@pytest.mark.parametrize(
    ("reported", "asked"),
    [
        ({("measurement/v1", "spede")}, "; did you mean 'spede'?"),
        ({("series/v1", "speed"), ("measurement/v1", "spede")}, "; its speed is series/v1"),
        ({("series/v1", "spede"), ("measurement/v1", "loss")}, ""),
        ({("measurement/v1", "speed"), ("measurement/v1", "spede")}, ""),
        (set(), ""),
    ],
)
def test_a_name_that_no_stage_of_the_kind_reported_is_asked_about(
    checked: Any, reported: set[tuple[str, str]], asked: str
) -> None:
    facts = Facts(reported={"bench": reported}.__getitem__)
    proxy = checked(PAIR, [], facts=facts)["proxy"]
    reason = "no evidence v: no speed (measurement/v1) of a stage bench about hrm-tiny and gpt2"
    assert (proxy.verdict, proxy.reason) == ("UNTESTED", reason + asked)


def test_blocked_by_the_machine_or_by_a_stage(checked: Any, speed: Observe) -> None:
    claim = checked(PAIR, [])["claim"]
    assert (claim.verdict, claim.because) == ("BLOCKED", "v")
    assert claim.reason == "no evidence v: it needs cuda, which this machine has not"
    assert claim.remedy == "on a machine with cuda: run the stage bench"
    known = Facts(remedy=lambda contract, subject, stage: f"hrmctl pipeline {stage}.yaml")
    assert checked(PAIR, [], facts=known)["claim"].remedy == "on a machine with cuda: hrmctl pipeline bench.yaml"
    stopped = Facts(stopped={"bench": [Stop("b", "stage b failed: out of memory", "mend stage b")]})
    proxy = checked(PAIR, [speed("hrm-tiny", 2)], facts=stopped)["proxy"]
    assert (proxy.verdict, proxy.because) == ("BLOCKED", "w")
    assert (proxy.reason, proxy.remedy) == ("no evidence w: stage b failed: out of memory", "mend stage b")
    several = [Stop("gpt3", "stage gpt3 failed: x"), Stop("hrm-tiny[seed=1]", "stage hrm-tiny[seed=1] failed: y")]
    found = checked(PAIR, [], facts=Facts(stopped={"bench": several}))["proxy"]
    assert found.reason == "no evidence v: stage hrm-tiny[seed=1] failed: y", "of several the one that it is about"
    assert checked(PAIR, [], facts=Facts(stopped={"eval": [Stop("e", "x")]}))["proxy"].verdict == "UNTESTED"


def test_what_was_measured_and_does_not_pass_says_the_command_that_measures_it_again(
    checked: Any, speed: Observe
) -> None:
    facts = Facts(again="hrmctl pipeline r.yaml")

    def remedy(*evidence: Evidence, kind: str = "acceptance") -> str:
        return str(checked(PAIR, list(evidence), facts=facts, kind=kind)["proxy"].remedy)

    slow, fast, none = speed("hrm-tiny", 150), speed("hrm-tiny", 250), speed("gpt2", 0)
    assert remedy(speed("gpt2", 100), slow) == "improve what was measured, then again: hrmctl pipeline r.yaml"
    answer = "nothing to mend, this is the answer; to measure it again: hrmctl pipeline r.yaml"
    assert remedy(speed("gpt2", 100), slow, kind="hypothesis") == answer
    assert remedy(none, slow) == "measure more of it, then: hrmctl pipeline r.yaml"
    assert remedy(speed("gpt2", 100), fast) == ""


def test_what_was_measured_counts_whatever_stopped(checked: Any, speed: Observe) -> None:
    evidence = [speed("gpt2", 100), speed("hrm-27m", 250)]
    assert checked(PAIR, evidence, facts=Facts(stopped={"bench": [Stop("b", "x")]}))["claim"].verdict == "PASS"


@pytest.mark.parametrize(
    "other",
    [{"uses": "eval"}, {"name": "latency"}, {"type": "series/v1"}],
    ids=["another stage", "another name", "another type"],
)
def test_other_evidence_is_no_candidate(checked: Any, speed: Observe, other: dict[str, Any]) -> None:
    evidence = [speed("gpt2", 100), speed("hrm-tiny", 250, **other)]
    assert checked(PAIR, evidence)["proxy"].verdict == "UNTESTED"


def test_several_candidates_are_refused(checked: Any, speed: Observe) -> None:
    evidence = [speed("gpt2", 1), *(speed("hrm-tiny", 2 + seed, f"seed {seed}") for seed in range(3))]
    proxy = checked(PAIR, evidence)["proxy"]
    assert (proxy.verdict, proxy.because) == ("INVALID", "select")
    assert proxy.reason == "3 candidates for model hrm-tiny; say select"
    twice = checked(PAIR, [speed("gpt2", 1), speed("hrm-tiny", 2), speed("hrm-tiny", 3)])["proxy"]
    assert (twice.verdict, twice.because) == ("INVALID", "select")
    assert twice.reason == "2 pieces of evidence for v; name the observation, or say select"


def test_the_same_evidence_twice_is_one_candidate(checked: Any, speed: Observe) -> None:
    assert checked(PAIR, [speed("gpt2", 1), *[speed("hrm-tiny", 2)] * 2])["proxy"].verdict == "PASS"


def test_nothing_is_compared_with_itself(checked: Any, speed: Observe) -> None:
    same = checked(PAIR, [speed("gpt2", 1, "one"), speed("hrm-tiny", 2, "one")])["proxy"]
    assert (same.verdict, same.because) == ("INVALID", "baseline")
    assert same.reason == "model and baseline are the same artifact: it would be compared with itself"
    pair = [speed("gpt2", 1), replace(speed("hrm-tiny", 2), digest=speed("gpt2", 1).digest)]
    again = checked(PAIR, pair)["proxy"]
    assert (again.verdict, again.because) == ("INVALID", "w")
    assert again.reason == "v and w are the same evidence: it would be compared with itself"


def test_evidence_without_a_run_is_invalid(checked: Any, speed: Observe) -> None:
    good = [speed("gpt2", 1), speed("hrm-tiny", 2)]
    for broken in (
        replace(good[1], provenance=None),
        replace(good[1], digest=""),
        speed("hrm-tiny", 2, run=""),
    ):
        proxy = checked(PAIR, [good[0], broken])["proxy"]
        assert (proxy.verdict, proxy.because) == ("INVALID", "v")
        assert proxy.reason == "evidence for v says of no run where it comes from"
    nameless = checked(PAIR, [good[0], replace(good[1], provenance=replace(good[1].provenance, subjects={}))])["proxy"]
    assert (nameless.verdict, nameless.reason) == ("INVALID", "no evidence says which model it is about")


def test_bind_reads_one_role_as_another_and_needs_it(checked: Any, speed: Observe) -> None:
    slow = speed("gpt2", 1, labels={"baseline": "something else"})
    assert checked(PAIR, [slow, speed("hrm-tiny", 2)])["proxy"].verdict == "PASS"
    about_data = speed("x", 1)
    assert about_data.provenance
    source = replace(about_data.provenance, labels={"data": "test"}, subjects={"data": "d"})
    proxy = checked(SAME, [replace(about_data, provenance=source)])["proxy"]
    assert (proxy.verdict, proxy.because) == ("UNTESTED", "v")


def test_evidence_about_no_model_is_never_a_models_evidence(checked: Any, speed: Observe) -> None:
    """What references score, observed of a data set alone, must not stand for what a model scored."""
    of_nobody = speed("x", 5)
    assert of_nobody.provenance
    source = replace(of_nobody.provenance, labels={"dataset": "test"}, subjects={"dataset": "d"})
    text = PAIR.replace("baseline: gpt2}", "baseline: gpt2, dataset: test}")
    theirs = speed("gpt2", 1, labels={"dataset": "test"})
    proxy = checked(text, [replace(of_nobody, provenance=source), theirs])["proxy"]
    assert (proxy.verdict, proxy.because) == ("UNTESTED", "v")
    ours = speed("hrm-tiny", 5, labels={"dataset": "test"})
    assert checked(text, [replace(of_nobody, provenance=source), ours, theirs])["proxy"].verdict == "PASS"


def test_a_contract_may_say_which_roles_its_evidence_must_carry(checked: Any, speed: Observe) -> None:
    text = PAIR.replace("baseline: gpt2}", "baseline: gpt2, dataset: test}")
    both = [speed("hrm-tiny", 5), speed("gpt2", 1)]
    assert checked(text, both)["proxy"].verdict == "UNTESTED"
    loose = text.replace("name: speed", "name: speed, about: [model]")
    assert checked(loose, both)["proxy"].because == "dataset", "nobody says which data set"


def test_some_cells_of_a_matrix_are_not_all_of_them(checked: Any, speed: Observe) -> None:
    ours = speed("hrm-tiny", 5)
    facts = Facts(partial={ours.digest: "hrm[seed=1] failed"})
    proxy = checked(PAIR, [ours, speed("gpt2", 1)], facts=facts)["proxy"]
    assert (proxy.verdict, proxy.because) == ("BLOCKED", "v")
    assert "hrm[seed=1] failed" in proxy.reason


def test_nan_evidence_is_invalid_and_kept(checked: Any, speed: Observe) -> None:
    bad = speed("hrm-tiny", float("nan"))
    proxy = checked(PAIR, [speed("gpt2", 1), bad])["proxy"]
    assert (proxy.verdict, proxy.because) == ("INVALID", "v")
    assert bad.digest in proxy.evidence


SAME = PAIR.replace("baseline: gpt2", "baseline: gpt2, data: test")


def test_every_role_must_be_known(checked: Any, speed: Observe) -> None:
    proxy = checked(SAME, [speed("gpt2", 1), speed("hrm-tiny", 2)])["proxy"]
    assert (proxy.verdict, proxy.because) == ("INVALID", "data")
    assert proxy.reason == "no evidence says which data it is about"


def test_all_evidence_must_be_about_the_same_artifacts(checked: Any, speed: Observe) -> None:
    def on(label: str, value: float, digest: str) -> Evidence:
        item = speed(label, value, labels={"data": "test"})
        assert item.provenance
        subjects = {**item.provenance.subjects, "data": digest}
        return replace(item, provenance=replace(item.provenance, subjects=subjects), digest=f"{label}{digest}")

    proxy = checked(SAME, [on("gpt2", 1, "old"), on("hrm-tiny", 2, "new")])["proxy"]
    assert (proxy.verdict, proxy.because) == ("INVALID", "w")
    assert proxy.reason == "w and v are not about the same artifacts"
    mixed = [on("gpt2", 1, "old"), on("hrm-tiny", 3, "new"), on("gpt2", 1, "new")]
    assert checked(SAME, mixed)["proxy"].verdict == "PASS"
    assert checked(SAME, [speed("gpt2", 1, labels={"data": "train"}), on("hrm-tiny", 2, "new")])["proxy"].because == "w"


def test_roles_beyond_the_subject_are_free(checked: Any, speed: Observe) -> None:
    evidence = [speed("gpt2", 1, labels={"tokenizer": "a"}), speed("hrm-tiny", 2, labels={"tokenizer": "b"})]
    assert checked(PAIR, evidence)["proxy"].verdict == "PASS"
    unrelated = replace(speed("x", 1), provenance=replace(speed("x", 1).provenance, labels={"disk": "a"}))  # type: ignore[arg-type]
    assert checked(PAIR, [unrelated])["proxy"].verdict == "UNTESTED"


def test_an_unproven_contract_gives_invalid_for_each_subject(checked: Any, speed: Observe) -> None:
    broken = PAIR.replace("value: 1.9", "value: 2.1")
    result = checked(broken, [speed("gpt2", 1), speed("hrm-tiny", 9)])
    assert [j.verdict for j in result.values()] == ["INVALID", "INVALID"]
    proxy = result["proxy"]
    assert proxy.because == "proof"
    assert "c.yaml:15:5: this control must give FAIL because of twice and gives PASS" in proxy.reason
    assert proxy.remedy.startswith("hrmctl contracts prove ")
    assert proxy.measured == {}


def test_profiles_and_hypotheses(checked: Any, speed: Observe) -> None:
    more = PAIR.replace("controls:", "profiles: {kpi: {twice: 3}}\ncontrols:") + (
        "  - {expect: PASS, profile: kpi, data: {v: {value: 3}, w: {value: 1}}}\n"
        "  - {expect: FAIL, profile: kpi, because: twice, data: {v: {value: 2.9}, w: {value: 1}}}\n"
    )
    evidence = [speed("gpt2", 1), speed("hrm-tiny", 2.5)]
    assert checked(more, evidence)["proxy"].verdict == "PASS"
    kpi = checked(more, evidence, profile="kpi", kind="hypothesis")["proxy"]
    assert (kpi.verdict, kpi.kind, kpi.obligation) == ("FAIL", "hypothesis", "FAST/proxy@kpi")
    mvp = checked(more, evidence, profile="mvp")["proxy"]
    assert (mvp.verdict, mvp.obligation) == ("PASS", "FAST/proxy")


EVERY = PAIR.replace("controls:", "select: {of: every}\ncontrols:")


def test_every_candidate_must_hold(checked: Any, speed: Observe) -> None:
    good = [speed("gpt2", 1), *(speed("hrm-tiny", 2 + seed, f"seed {seed}") for seed in range(3))]
    proxy = checked(EVERY, good)["proxy"]
    assert proxy.verdict == "PASS"
    assert proxy.measured["select"] == {"of": "every", "candidates": 3}
    assert len(proxy.evidence) == 4
    worse = checked(EVERY, [*good, speed("hrm-tiny", 1, "seed 3")])["proxy"]
    assert (worse.verdict, worse.reason, worse.subjects["model"]) == ("FAIL", "r.value 1 is not ≥ 2", "seed 3")


BEST = """\
kind: contract
id: BEST
title: some candidate is better than chance
subjects: {it: {model: hrm-tiny}}
evidence: {v: {type: measurement/v1, stage: bench, name: speed}}
measure: {m: {fn: chance, of: [v]}}
require:
  - {id: p, left: m.p, op: le, right: 0.05}
select: {of: all, correct: holm}
controls:
  - {expect: PASS, data: {v: {value: 0.05}}}
  - {expect: FAIL, because: p, data: {v: {value: 0.051}}}
"""


def test_the_best_of_several_is_corrected(checked: Any, speed: Observe) -> None:
    def best(*values: float) -> Judgement:
        evidence = [speed("hrm-tiny", value, f"seed {seed}") for seed, value in enumerate(values)]
        result: Judgement = checked(BEST, evidence)["it"]
        return result

    assert best(0.04).verdict == "PASS"
    lucky = best(0.04, 0.5, 0.9)
    assert lucky.verdict == "FAIL"
    assert lucky.measured["m"] == {"p": pytest.approx(0.12), "value": 0.04}
    sure = best(0.5, 0.016, 0.9)
    assert (sure.verdict, sure.subjects["model"]) == ("PASS", "seed 1")
    assert sure.measured["select"] == {"of": "all", "candidates": 3}
    assert sure.measured["m"]["p"] == pytest.approx(0.048)
    assert best(0.001, float("nan")).verdict == "INVALID"


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_holm(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= a <= 1 for p, a in zip(ps, adjusted, strict=True))
    for alpha in (0.01, 0.05, 0.5):
        left = sorted(ps)
        while left and left[0] * len(left) <= alpha:  # the step-down definition: reject the least while it is small
            left.pop(0)
        assert sum(a <= alpha for a in adjusted) == len(ps) - len(left)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
