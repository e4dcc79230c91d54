"""`hrmctl compare` on runs written here as a run writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hrmctl_statistics.compare import _verdict
from hrmctl_statistics.params import PairedDeltaParams
from hrmctl_statistics.samples import paired_delta

from hrmctl import Evidence
from hrmctl.cli import run as command
from hrmctl.run.record import Record
from hrmctl.store import Store

from .evidence import provenance, samples

A, B = "20260101T000000-one-aaaa", "20260102T000000-two-bbbb"


class Lab:
    """A store in which runs are written."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.store, self.capture = Store(root), capture

    def write(self, run: str, stages: dict[str, Sequence[Evidence]], status: str = "done", **settings: Any) -> None:
        """A run whose stages reported this evidence; `settings` are parameters of all of them."""
        self.store.prepare()
        locked = {}
        for stage, reported in stages.items():
            kept = []
            for item in reported:
                labels = {"model": stage, "dataset": "mbpp@test"}
                source = provenance(run=run, stage=stage, uses="eval", labels=labels, subjects={"model": stage})
                kept.append(self.store.put_evidence(replace(item, provenance=item.provenance or source)).digest)
            locked[stage] = {
                "uses": "eval", "version": "1", "status": status, "seed": 7, "params": settings,
                "inputs": {"model": [{"digest": f"{stage:0>64}"}]}, "outputs": {}, "evidence": kept, "error": "",
            }  # fmt: skip
        about = {
            "run": run,
            "name": "lab",
            "recipe": "r.yaml",
            "recipe_digest": "d",
            "seed": 7,
            "status": "done",
            "settings": [],
            "argv": [],
        }
        Record(self.store.runs / run).lock({**about, "stages": locked})

    def compare(self, *argv: str, code: int = 0) -> tuple[str, str]:
        """What the command prints."""
        assert command(["compare", *argv, "--store", str(self.store.root)]) == code
        printed = self.capture.readouterr()
        return printed.out, printed.err

    def result(self, *argv: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.compare(*argv, "--json")[0])
        return found


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path / "store", capsys)


def size(value: float, unit: str = "bytes", **extra: Any) -> Evidence:
    return Evidence("size", "measurement/v1", {"value": value, "unit": unit, "n": 1, **extra})


LEFT = samples([1] * 103 + [1] * 53 + [0] * 27 + [0] * 317, outcomes=True)
RIGHT = samples([1] * 103 + [0] * 53 + [1] * 27 + [0] * 317, outcomes=True)

TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer"}
MAYBE = {"type": ["number", "null"]}


def strict(**properties: object) -> dict[str, object]:
    known = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return dict(known)


def listed(item: object) -> dict[str, object]:
    return {"type": "array", "items": item}


SIDE = strict(run=TEXT, stage={"type": ["string", "null"]})
CELL = strict(passed=COUNT, samples=COUNT, first={"type": ["string", "null"]})
TABLE = strict(both=COUNT, only_a=COUNT, only_b=COUNT, neither=COUNT, discordant=COUNT)
SCHEMA = strict(
    a=SIDE,
    b=SIDE,
    level=NUMBER,
    resamples=COUNT,
    seed=COUNT,
    comparisons=listed(
        strict(
            name=TEXT,
            problems=COUNT,
            samples=listed(COUNT),
            table={"anyOf": [TABLE, {"type": "null"}]},
            mcnemar_p=MAYBE,
            discordant=COUNT,
            **{
                "pass": listed(
                    strict(
                        k=COUNT,
                        a=NUMBER,
                        b=NUMBER,
                        delta=NUMBER,
                        lo=MAYBE,
                        hi=MAYBE,
                        bootstrap_p=MAYBE,
                        verdict={"enum": ["better", "worse", "undecided"]},
                    )
                )
            },
            rows=listed(strict(id=TEXT, a=CELL, b=CELL, discordant={"type": "boolean"})),
        )
    ),
    measurements=listed(strict(name=TEXT, a=NUMBER, b=NUMBER, unit=TEXT, unit_b=TEXT, ratio=MAYBE, lo=MAYBE, hi=MAYBE)),
    differences=listed(strict(stage=TEXT, what=TEXT, a={}, b={})),
)


def test_two_runs_give_the_check_figure_of_the_design(lab):
    lab.write(A, {"eval": [LEFT, size(300)]}, lr=0.1)
    lab.write(B, {"eval": [RIGHT, size(1000)]}, lr=0.2)
    result = lab.result(A, B)
    jsonschema.validate(result, SCHEMA)
    (one,) = result["comparisons"]
    (at_1,) = one["pass"]
    expected = paired_delta([LEFT, RIGHT], PairedDeltaParams())
    assert (at_1["delta"], at_1["verdict"]) == (0.052, "better")
    assert (at_1["lo"], at_1["hi"], at_1["bootstrap_p"]) == (expected["lo"], expected["hi"], expected["p"])
    assert one["mcnemar_p"] == expected["mcnemar_p"] == pytest.approx(0.0049, abs=5e-5)
    assert one["table"] == {"both": 103, "only_a": 53, "only_b": 27, "neither": 317, "discordant": 80}
    assert (one["problems"], one["discordant"], len(one["rows"])) == (500, 80, 80)
    assert result["measurements"][0]["ratio"] == 0.3
    assert {"stage": "eval", "what": "lr", "a": 0.1, "b": 0.2} in result["differences"]
    assert lab.result(B, A)["comparisons"][0]["pass"][0]["verdict"] == "worse"


def test_people_read_the_same(lab):
    lab.write(A, {"eval": [LEFT, size(300)]})
    lab.write(B, {"eval": [RIGHT, size(1000)]})
    out, err = lab.compare(A, B)
    assert "500 problems, 1 samples each, 80 differ" in out
    assert "A - B +0.0520 [+0.0" in out
    assert "103 both, 53 only A, 27 only B, 317 neither; exact McNemar p 0.0049" in out
    assert "A is better than B" in out
    assert out.count("t/") == 80
    assert "power" not in err
    assert lab.compare(A, B, "--all")[0].count("t/") == 500


def test_values_read_as_in_runs_show(lab):
    lab.write(A, {"eval": [size(1_500_000)]})
    lab.write(B, {"eval": [size(5400, "s")]})
    lines = [line.split() for line in lab.compare(A, B)[0].splitlines()]
    assert ["eval", "size", "of", "mbpp@test", "1.5", "MB", "90", "min"] in lines
    assert command(["runs", "show", B, "--store", str(lab.store.root)]) == 0
    assert "  90 min  " in lab.capture.readouterr().out


def test_settings_inside_a_setting_differ_one_by_one_as_in_runs_diff(lab):
    lab.write(A, {"eval": [LEFT]}, config={"width": 8, "depth": 2})
    lab.write(B, {"eval": [RIGHT]}, config={"width": 9, "depth": 2})
    one = {"stage": "eval", "what": "config.width", "a": 8, "b": 9}
    assert lab.result(A, B)["differences"] == [one]
    assert command(["runs", "diff", A, B, "--json", "--store", str(lab.store.root)]) == 0
    assert json.loads(lab.capture.readouterr().out)["differences"] == [one]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["compare"], "hrmctl runs diff"),
        (["runs", "diff"], "hrmctl compare"),
        (["power"], "hrmctl compare RUN_A RUN_B"),
    ],
)
def test_a_help_says_which_command_answers_the_other_question(capsys, argv, told):
    assert command([*argv, "--help"]) == 0
    assert told in " ".join(capsys.readouterr().out.split())


def test_stages_of_one_run_and_of_the_latest(lab):
    lab.write(A, {"hrm": [LEFT], "gpt2": [RIGHT]})
    for argv in ((f"{A}:hrm", f"{A}:gpt2"), (":hrm", ":gpt2")):
        result = lab.result(*argv)
        assert (result["a"]["stage"], result["b"]["stage"]) == ("hrm", "gpt2")
        assert result["comparisons"][0]["pass"][0]["delta"] == 0.052
        assert [(row["stage"], row["what"]) for row in result["differences"]] == [("hrm, gpt2", "input model")]


def test_equal_sides_and_degenerate_tables_are_undecided(lab):
    lab.write(A, {"eval": [samples([1, 0, 1])]})
    lab.write(B, {"eval": [samples([1, 0, 1])]})
    (one,) = lab.result(A, B)["comparisons"]
    assert (one["pass"][0]["verdict"], one["pass"][0]["lo"], one["mcnemar_p"]) == ("undecided", None, None)
    lab.write(B, {"eval": [samples([0, 0, 0])]})
    lab.write(A, {"eval": [samples([1, 1, 1])]})
    assert lab.result(A, B)["comparisons"][0]["pass"][0]["verdict"] == "undecided"
    lab.write(A, {"eval": [samples([1, 1, 0] * 4)]})
    lab.write(B, {"eval": [samples([0, 1, 1] * 4)]})
    out, err = lab.compare(A, B)
    assert "undecided" in out
    assert "hrmctl power --n 12 --discordant 0.667" in err


def test_few_discordant_problems_are_undecided_though_the_bootstrap_is_sure(lab):
    lab.write(A, {"eval": [samples([1] * 5 + [0] * 35)]})
    lab.write(B, {"eval": [samples([0] * 40)]})
    (one,) = lab.result(A, B)["comparisons"]
    assert one["pass"][0]["lo"] > 0
    assert one["mcnemar_p"] == pytest.approx(0.0625)
    assert one["pass"][0]["verdict"] == "undecided"


def test_several_samples_use_all_of_them(lab):
    lab.write(A, {"eval": [samples([6, 7, 8, 6, 7, 8] * 5, n=10, outcomes=True)]})
    lab.write(B, {"eval": [samples([1, 2, 2, 1, 2, 1] * 5, n=10, outcomes=True)]})
    (one,) = lab.result(A, B, "--k", "10")["comparisons"]
    assert [(row["k"], row["verdict"]) for row in one["pass"]] == [(1, "better"), (10, "undecided")]
    assert one["table"]["discordant"] == 0
    assert one["discordant"] == 30
    lab.write(A, {"eval": [samples([6, 7, 8], n=10)]})
    lab.write(B, {"eval": [samples([1, 2, 3], n=10)]})
    assert lab.result(A, B)["comparisons"][0]["table"] is None
    _, err = lab.compare(A, B, "--k", "11", code=2)
    assert "--k 11: eval samples of mbpp@test has problems with 10 samples only" in err


def test_problems_that_all_differ_alike_are_undecided(lab):
    lab.write(A, {"eval": [samples([5] * 8, n=10)]})
    lab.write(B, {"eval": [samples([1] * 8, n=10)]})
    (row,) = lab.result(A, B)["comparisons"][0]["pass"]
    assert (row["delta"], row["bootstrap_p"], row["lo"], row["verdict"]) == (0.4, None, None, "undecided")


def test_a_problem_that_differs_at_its_first_sample_only_is_listed(lab):
    ours, theirs = samples([1, 1], n=2, outcomes=True), samples([1, 1], n=2, outcomes=True)
    theirs.payload["problems"][1]["outcomes"].reverse()
    lab.write(A, {"eval": [ours]})
    lab.write(B, {"eval": [theirs]})
    assert [row["id"] for row in lab.result(A, B)["comparisons"][0]["rows"]] == ["t/1"]


def test_a_stage_that_failed_has_no_evidence(lab):
    lab.write(A, {"eval": [samples([1, 0])]}, status="failed")
    lab.write(B, {"eval": [samples([0, 0])]})
    assert "nothing comparable" in lab.compare(A, B, code=3)[1]


@pytest.mark.parametrize(
    ("delta", "interval", "p", "expected"),
    [
        (0.1, (0.01, 0.2), 0.05, "better"),
        (-0.1, (-0.2, -0.01), 0.01, "worse"),
        (0.1, (0.0, 0.2), 0.01, "undecided"),
        (0.1, (0.01, 0.2), 0.051, "undecided"),
        (0.1, (0.01, 0.2), None, "undecided"),
    ],
)
def test_a_verdict_needs_interval_and_test(delta, interval, p, expected):
    assert _verdict(delta, interval, p, 0.95) == expected


def test_unpaired_problems_are_refused_in_one_line(lab):
    lab.write(A, {"eval": [samples([1, 0, 1]), size(1)]})
    lab.write(B, {"eval": [samples([1, 0]), size(2)]})
    out, err = lab.compare(A, B, code=3)
    assert out == ""
    assert err.count("\n") == 1
    assert "unpaired: 1 problems are on one side only, the first is t/2" in err


def test_nothing_in_common_is_nothing_comparable(lab):
    lab.write(A, {"eval": [size(1)]})
    lab.write(B, {"other": [size(1)]})
    out, err = lab.compare(A, B, code=3)
    assert (out, err.count("\n")) == ("", 1)
    assert "nothing comparable" in err


def test_evidence_that_both_runs_took_from_the_cache_is_told(lab):
    source = provenance(run=A, stage="eval", uses="eval", labels={"dataset": "mbpp@test"})
    shared = replace(samples([1, 0]), provenance=source)
    lab.write(A, {"eval": [shared, size(1)]})
    lab.write(B, {"eval": [shared, size(2, "MB")]})
    out, err = lab.compare(A, B)
    assert "both sides hold the same evidence" in err
    row = lab.result(A, B)["measurements"][0]
    assert (row["ratio"], row["unit"], row["unit_b"]) == (None, "bytes", "MB")
    assert "1 bytes" in out


def test_trials_give_a_ratio_its_interval_and_zero_divides_nothing(lab):
    trials = [1.0, 2.0, 3.0, 4.0, 5.0]
    lab.write(A, {"eval": [size(3.0, "s", trials=trials)]})
    lab.write(B, {"eval": [size(6.0, "s", trials=[2 * t for t in trials])]})
    row = lab.result(A, B)["measurements"][0]
    assert (row["ratio"], row["lo"], row["hi"]) == (0.5, 0.5, 0.5)
    lab.write(B, {"eval": [size(0, "s")]})
    assert lab.result(A, B)["measurements"][0]["ratio"] is None


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((A, A), "compared with itself"),
        ((A, "nosuch"), "no run 'nosuch'"),
        ((A, f"{A}:nosuch"), "has no stage 'nosuch'; it has eval"),
        ((A,), "Missing argument 'RUN_B'"),
    ],
)
def test_misuse_is_one_line(lab, argv, said):
    lab.write(A, {"eval": [samples([1, 0])]})
    _, err = lab.compare(*argv, code=2)
    assert said in err
    assert err.count("\n") == 1


def test_an_empty_store_says_how_to_fill_it(lab):
    _, err = lab.compare(":a", ":b", code=2)
    assert "holds no run" in err
