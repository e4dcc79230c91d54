"""Exit codes of verdicts, and what may not be taken on trust: profiles, subjects of evidence, recorded contracts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrmctl import Artifact, HrmctlError, InputError, Judgement, Verdict
from hrmctl.contract import load_contracts
from hrmctl.contract.template import template
from hrmctl.execution import StageCall
from hrmctl.plugins import catalog
from hrmctl.run.judge import Claims, exit_code, judge_runs
from hrmctl.run.replay import replay
from hrmctl.run.worker import _subject
from hrmctl.store import Store


def verdict(found: Verdict, kind: str = "acceptance") -> Judgement:
    return Judgement("C", "d", "t", "s", kind, found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "accepted", "asked"),
    [
        (Verdict.PASS, 0, 0),
        (Verdict.FAIL, 1, 0),
        (Verdict.INCONCLUSIVE, 3, 0),
        (Verdict.UNTESTED, 3, 3),
        (Verdict.BLOCKED, 3, 3),
        (Verdict.INVALID, 3, 3),
    ],
)
def test_an_answer_to_a_hypothesis_passes_and_its_absence_does_not(found: Verdict, accepted: int, asked: int) -> None:
    assert exit_code([verdict(found)]) == accepted
    assert exit_code([verdict(found, "hypothesis")]) == asked
    assert exit_code([]) == 3


def claims(folder: Path) -> Claims:
    (folder / "c.yaml").write_text(template("MINE-1"))
    return Claims(load_contracts([folder / "c.yaml"], catalog().measures), frozenset())


def test_an_unknown_profile_is_refused_before_anything(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no contract has a profile 'typo'"):
        claims(tmp_path).require_profile("typo")


def test_a_replay_notices_an_altered_contract(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    judge_runs(store, catalog(), None, claims(tmp_path))
    assert replay(store, catalog())[1] == []
    (kept,) = (store.root / "contracts").glob("*.yaml")
    kept.write_text(template("MINE-1", "another title"))
    count, problems = replay(store, catalog())
    assert len(problems) == count > 0
    assert all("was altered" in str(problem) for problem in problems)


def test_evidence_is_about_what_the_stage_was_given_or_made() -> None:
    given = {"digest": "1" * 64, "type": "model", "label": "hrm-tiny"}
    call = StageCall("r", "s", "u", "k", "v", {}, {"model": [given]}, 0, "cpu", 1, "", "", "", [])
    known = Artifact("1" * 64, "model", "hrm-27m", Path(), 0)
    assert _subject(call, known, {}, {}) == ("1" * 64, "hrm-tiny"), "the label is the run's, not the stage's"
    with pytest.raises(HrmctlError, match="neither an input nor an output"):
        _subject(call, Artifact("0" * 64, "model", "hrm-27m", Path(), 0), {}, {})
