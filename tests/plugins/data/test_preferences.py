"""`data.generate` with preferences: each pair is one program that passes the asserts and one that does not."""

from __future__ import annotations

import json

import pytest
from hrmctl_data import microcode_pairs
from hrmctl_data.generate import run
from hrmctl_data.microcode import problems
from hrmctl_data.microcode_pairs import preferences, unproven
from hrmctl_data.params import GenerateParams

from hrmctl import StageError
from hrmctl.testing import make_context


def executed(row, completion):
    scope = {}
    try:
        exec("\n".join([row["prefix"] + completion, *row["tests"]]), scope)
    except Exception:
        return False
    return True


def test_chosen_passes_and_rejected_fails_and_both_are_programs_of_the_set():
    rows = list(preferences(80, seed=3))
    known = {problem["completion"] for problem in problems("train", 80, 3)}
    assert [row["prompt"] for row in rows] == [problem["prompt"] for problem in problems("train", 80, 3)]
    for row in rows:
        assert executed(row, row["chosen"])
        assert not executed(row, row["rejected"])
        assert row["rejected"] in known
        compile(row["prefix"] + row["rejected"], "rejected", "exec")


def test_they_depend_on_the_seed_alone():
    assert list(preferences(64, 5)) == list(preferences(64, 5))
    assert list(preferences(64, 5)) != list(preferences(64, 6))


def test_unproven_runs_both_again():
    [row, *_] = preferences(64, 3)
    assert not unproven(row)
    assert unproven(row | {"chosen": row["rejected"]})
    assert unproven(row | {"rejected": row["chosen"]})


def test_where_nothing_fails_the_stage_says_so(monkeypatch):
    monkeypatch.setattr(microcode_pairs, "passes_own_tests", lambda row: True)
    with pytest.raises(StageError, match="ask for more than 64"):
        list(preferences(64, 3))


def test_the_stage_writes_and_measures_them(tmp_path):
    result = run(GenerateParams(train=64, test=4, preferences=64), {}, make_context(tmp_path))
    output = result.artifacts["preferences"]
    assert output.label == "microcode@preferences"
    rows = [json.loads(line) for line in output.path.read_text().splitlines()]
    assert {"prompt", "chosen", "rejected"} <= rows[0].keys()
    [seen] = [o for o in result.evidence if o.name == "unproven"]
    assert (seen.payload["value"], seen.payload["n"], seen.about) == (0, 64, {"dataset": output})


def test_without_them_nothing_is_written(tmp_path):
    assert "preferences" not in run(GenerateParams(train=64, test=4), {}, make_context(tmp_path)).artifacts
