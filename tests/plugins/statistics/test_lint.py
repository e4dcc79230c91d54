"""Warnings of `hrmctl contracts lint` on contracts that ask for more than their n can show."""

from __future__ import annotations

from pathlib import Path

import pytest
from hrmctl_statistics import power

from hrmctl.cli import run
from hrmctl.contract import load_contracts
from hrmctl.contract.advice import advice
from hrmctl.errors import Problem
from hrmctl.plugins import catalog

HEAD = """\
kind: contract
id: C
title: something holds
subjects: {it: {model: a, other: b}}
evidence:
  e: {type: samples/v1, stage: eval}
  o: {type: samples/v1, stage: eval, bind: {model: other}}
"""


def warnings(tmp_path: Path, measure: str, require: str, more: str = "", seeds: bool = False) -> list[Problem]:
    """What lint says of a contract with this measure `m` and these clauses; its controls are not proven here."""
    head = HEAD.replace("stage: eval", "stage: eval, each: seed") if seeds else HEAD
    if "o]" not in measure:
        head = head[: head.index("  o:")]
    clauses = "".join(f"  - {{{line.strip()}}}\n" for line in require.strip().splitlines())
    data = "{passed: 1, n: 2}"
    example = {"e": data, "o": data} if "o]" in measure else {"e": data}
    shown = ", ".join(f"{name}: [{text}, {text}]" if seeds else f"{name}: {text}" for name, text in example.items())
    because = clauses.split("id: ")[1].split(",")[0]
    profile = "".join(
        f"  - {{expect: FAIL, because: {because}, profile: {name}, data: {{{shown}}}}}\n"
        for name in ("low", "high")
        if f"{name}:" in more
    )
    controls = f"controls:\n  - {{expect: FAIL, because: {because}, data: {{{shown}}}}}\n{profile}"
    path = tmp_path / "c.yaml"
    path.write_text(f"{head}measure:\n  m: {{{measure}}}\nrequire:\n{clauses}{more}{controls}")
    measures = catalog().measures
    (contract,) = load_contracts([path], measures)
    return [w for w in advice(contract, measures) if "attempt" not in w.message]  # type: ignore[arg-type]


N500 = "id: whole, left: m.n, op: eq, right: 500"


def lines(*more: str) -> str:
    return "\n".join((N500, *more))


@pytest.mark.parametrize(
    ("clause", "warned"),
    [
        ("id: ahead, left: m.value, op: ge, right: 0.05", True),
        ("id: ahead, left: m.value, op: ge, right: 0.06", False),
        ("id: ahead, left: m.value, op: gt, right: 0", False),
        ("id: ahead, left: m.lo, op: ge, right: -0.02", True),
        ("id: ahead, left: m.hi, op: le, right: 0.02", True),
        ("id: ahead, left: m.lo, op: ge, right: -0.06", False),
        ("id: ahead, all: [{left: m.value, op: ge, right: 0.05}]", True),
        ("id: ahead, any: [{left: m.value, op: ge, right: 0.05}, {left: m.lo, op: gt, right: 0}]", False),
        ("id: ahead, not: {left: m.value, op: le, right: 0.05}", False),
    ],
)
def test_a_difference_below_what_n_shows_is_told(tmp_path, clause, warned):
    found = warnings(tmp_path, "fn: paired_delta, of: [e, o]", lines(clause))
    assert len(found) == warned
    if warned:
        assert "500 problems show 0.0574 with 80 % power where 20 % of them are discordant" in found[0].message
        assert found[0].remedy == "hrmctl power --n 500 --discordant 0.2"


def test_the_warning_stands_at_the_number_and_its_command_says_the_same(tmp_path, capsys):
    (found,) = warnings(
        tmp_path, "fn: paired_delta, of: [e, o]", lines("id: ahead, left: m.value, op: ge, right: 0.05")
    )
    assert str(found).startswith(f"{tmp_path / 'c.yaml'}:12:")
    line = (tmp_path / "c.yaml").read_text().splitlines()[found.line - 1]
    assert line[found.column - 1 :].startswith("0.05")
    assert run(found.remedy.split()[1:]) == 0
    assert "500 problems show a difference of 5.74 points" in capsys.readouterr().out


def test_without_n_with_samples_and_with_a_bound_on_the_discordant(tmp_path):
    ahead = "id: ahead, left: m.value, op: ge, right: 0.03"
    delta = "fn: paired_delta, of: [e, o]"
    assert not warnings(tmp_path, delta, ahead)
    assert not warnings(tmp_path, delta, lines(ahead, "id: ten, left: m.samples, op: eq, right: 10"))
    assert warnings(tmp_path, delta, lines(ahead, "id: one, left: m.samples, op: eq, right: 1"))
    assert not warnings(tmp_path, delta, lines(ahead, "id: few, left: m.discordant, op: le, right: 20"))
    (found,) = warnings(tmp_path, delta, lines(ahead, "id: few, left: m.discordant, op: le, right: 50"))
    assert found.remedy == "hrmctl power --n 500 --discordant 0.1"
    assert f"{power.detectable(500, 0.1):.4f}" in found.message


def test_of_several_n_the_greatest_counts(tmp_path):
    sizes = "id: whole, left: m.n, op: in, right: [200, 500]"
    delta = "fn: paired_delta, of: [e, o]"
    assert not warnings(tmp_path, delta, f"{sizes}\nid: ahead, left: m.value, op: ge, right: 0.06")
    (found,) = warnings(tmp_path, delta, f"{sizes}\nid: ahead, left: m.value, op: ge, right: 0.04")
    assert "--n 500" in found.remedy


def test_seeds_are_taken_as_if_they_did_not_differ(tmp_path):
    measure = "fn: clustered_delta, of: [e, o]"
    ahead = "id: ahead, left: m.value, op: ge, right: 0.03"
    assert not warnings(tmp_path, measure, lines(ahead), seeds=True)
    (found,) = warnings(tmp_path, measure, lines(ahead, "id: five, left: m.seeds, op: eq, right: 5"), seeds=True)
    assert found.remedy == "hrmctl power --n 500 --discordant 0.2 --seeds 5 --sd-seeds 0"
    assert f"show {power.clustered(500, 5, 0.2, 0.0).detectable(0.95):.4f}" in found.message


@pytest.mark.parametrize(
    ("measure", "clause", "said"),
    [
        ("fn: paired_delta, of: [e, o], resamples: 1000", "left: m.p, op: lt, right: 0.001", "the least p is 0.002"),
        ("fn: paired_delta, of: [e, o], resamples: 1000", "left: m.p, op: lt, right: 0.01", ""),
        ("fn: paired_delta, of: [e, o]", "left: m.mcnemar_p, op: lt, right: 0.05", "0.0625: no exact McNemar p of 5"),
        ("fn: holm, of: [e, o]", "left: m.max, op: lt, right: 0.05", "0.0625: no exact McNemar p of 5 problems"),
        ("fn: holm, of: [e, o]", "left: m.max, op: lt, right: 0.1", ""),
        ("fn: holm, of: [e, o], test: bootstrap, resamples: 100", "left: m.max, op: le, right: 0.01", "is 0.0198"),
        ("fn: paired_delta, of: [e, o]", "left: m.mcnemar_p, op: ge, right: 0.05", ""),
    ],
)
def test_a_p_below_the_least_there_is_is_told(tmp_path, measure, clause, said):
    five = "id: whole, left: m.n, op: eq, right: 5"
    found = [str(w) for w in warnings(tmp_path, measure, f"{five}\nid: sure, {clause}")]
    assert len(found) == bool(said)
    assert not said or said in found[0]


@pytest.mark.parametrize(
    ("measure", "clause", "said"),
    [
        (
            "fn: pass_rate, of: [e]",
            "left: m.lo, op: ge, right: 0.9",
            "20 of 20 give a lower bound of 0.8389, below 0.9",
        ),
        ("fn: pass_rate, of: [e]", "left: m.lo, op: ge, right: 0.8", ""),
        (
            "fn: pass_rate, of: [e]",
            "left: m.hi, op: le, right: 0.1",
            "0 of 20 give an upper bound of 0.1611, above 0.1",
        ),
        ("fn: pass_rate, of: [e]", "left: m.hi, op: lt, right: 0.2", ""),
        ("fn: pass_rate, of: [e], level: 0.8", "left: m.lo, op: ge, right: 0.9", ""),
        ("fn: pass_at_k, of: [e], ci: {method: wilson}", "left: m.lo, op: ge, right: 0.9", "cannot be reached"),
        ("fn: pass_at_k, of: [e]", "left: m.lo, op: ge, right: 0.9", ""),
        ("fn: outcome_rate, of: [e], outcome: timeout", "left: m.hi, op: le, right: 0.1", "cannot be reached"),
    ],
)
def test_a_bound_that_no_count_reaches_is_told(tmp_path, measure, clause, said):
    twenty = "id: whole, left: m.n, op: eq, right: 20"
    found = [str(w) for w in warnings(tmp_path, measure, f"{twenty}\nid: bound, {clause}")]
    assert len(found) == bool(said)
    assert not said or said in found[0]


def test_profiles_closer_than_the_interval_are_told(tmp_path):
    target = "id: target, left: m.value, op: ge, right: 0.2"
    close = "profiles: {low: {target: 0.22}, high: {target: 0.5}}\n"
    (found,) = warnings(tmp_path, "fn: pass_at_k, of: [e]", f"{target}\n{N500}", close)
    assert "at n = 500 the interval at 0.2 is 0.07 wide, and the contract and 'low' are 0.02 apart" in found.message
    assert found.remedy == "hrmctl power --n 500 --at-least 0.2"
    line = (tmp_path / "c.yaml").read_text().splitlines()[found.line - 1]
    assert line[found.column - 1 :].startswith("0.22")
    far = close.replace("0.22", "0.3")
    assert not warnings(tmp_path, "fn: pass_at_k, of: [e]", f"{target}\n{N500}", far)


PROVEN = """\
kind: contract
id: C
title: half of them pass
subjects: {it: {model: a}}
evidence: {e: {type: samples/v1, stage: eval}}
measure: {m: {fn: pass_rate, of: [e]}}
require:
  - {id: whole, left: m.n, op: eq, right: 20, else: INVALID}
  - {id: target, left: m.value, op: ge, right: 0.5}
profiles: {more: {target: 0.55}}
controls:
  - {expect: PASS, data: {e: {passed: 10, n: 20}}}
  - {expect: FAIL, because: target, data: {e: {passed: 9, n: 20}}}
  - {expect: PASS, profile: more, data: {e: {passed: 11, n: 20}}}
  - {expect: FAIL, because: target, profile: more, data: {e: {passed: 10, n: 20}}}
  - {expect: INVALID, because: whole, data: {e: {passed: 10, n: 19}}}
  - {expect: INVALID, because: whole, data: {e: {passed: 11, n: 21}}}
"""


def test_lint_warns_and_ends_well_unless_it_is_to_be_strict(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(PROVEN)
    assert run(["contracts", "lint", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(f"warning: {path}:10:27: target: at n = 20")
    assert printed.err.rstrip().endswith("; hrmctl power --n 20 --at-least 0.5")
    assert "1 contracts are well formed" in printed.out
    assert run(["contracts", "lint", "--strict", str(path)]) == 2
    path.write_text(PROVEN.replace("0.55", "0.95").replace("passed: 11, n: 20", "passed: 19, n: 20"))
    assert run(["contracts", "lint", "--strict", str(path)]) == 0
