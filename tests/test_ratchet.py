"""The ratchet lets nothing become worse without a reviewed diff."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from hrmctl import InputError, Judgement, Verdict
from hrmctl.ratchet import Accepted, accept, compare, load_accepted

ACCEPTABLE = ["PASS", "FAIL", "INCONCLUSIVE", "UNTESTED", "BLOCKED"]
ONE = Judgement("C", "digest", "title", "proxy", "acceptance", Verdict.PASS, reason="because so")


def after(old: str, new: str, kind: str = "acceptance") -> list[str]:
    accepted = {"C/proxy": Accepted(old, kind, "digest")}  # type: ignore[arg-type]
    return compare(accepted, [replace(ONE, verdict=Verdict(new), kind=kind)])  # type: ignore[arg-type]


@pytest.mark.parametrize(("old", "new"), list(product(ACCEPTABLE, Verdict)))
def test_worse_is_refused_and_as_good_or_better_is_not(old: str, new: str) -> None:
    measured = ("PASS", "FAIL", "INCONCLUSIVE")
    lost = old in measured and new not in measured
    fine = new != "INVALID" and not lost and Verdict(new).severity <= Verdict(old).severity
    assert (after(old, new) == []) == fine
    answer = new in measured or (new != "INVALID" and not lost and Verdict(new).severity <= Verdict(old).severity)
    assert (after(old, new, "hypothesis") == []) == answer


def test_what_it_says() -> None:
    assert after("PASS", "FAIL") == ["C/proxy: PASS became FAIL (because so)"]
    assert after("FAIL", "UNTESTED") == ["C/proxy: was measured (FAIL), is UNTESTED now (because so)"]
    assert after("PASS", "INVALID") == ["C/proxy: INVALID (because so)"]
    assert compare({}, [ONE]) == ["C/proxy: PASS, not accepted yet; review and --accept"]
    old = Accepted("PASS", "acceptance", "digest")
    assert compare({"C/proxy": old}, []) == ["C/proxy: accepted as PASS, missing now"]
    changed = replace(ONE, contract_digest="other")
    assert compare({"C/proxy": old}, [changed]) == [
        "C/proxy: the contract changed since it was accepted; review and --accept"
    ]
    demoted = replace(ONE, kind="hypothesis")
    assert compare({"C/proxy": old}, [demoted]) == [
        "C/proxy: was accepted as acceptance, is hypothesis now; review and --accept"
    ]


def test_what_is_accepted_compares_equal(tmp_path: Path) -> None:
    path = tmp_path / "accepted.json"
    many = [
        replace(ONE, subject=s, verdict=v)
        for s, v in zip("zyx", [Verdict.FAIL, Verdict.PASS, Verdict.BLOCKED], strict=True)
    ]
    many.append(replace(ONE, profile="kpi"))
    accept(path, many)
    assert compare(load_accepted(path), many) == []
    text = path.read_text()
    assert list(json.loads(text)["obligations"]) == ["C/proxy@kpi", "C/x", "C/y", "C/z"]
    accept(path, many[::-1])
    assert path.read_text() == text
    assert compare(load_accepted(path), many[1:]) == ["C/z: accepted as FAIL, missing now"]


def test_invalid_and_nothing_cannot_be_accepted(tmp_path: Path) -> None:
    path = tmp_path / "accepted.json"
    with pytest.raises(InputError, match="C/proxy is INVALID"):
        accept(path, [replace(ONE, verdict=Verdict.INVALID)])
    with pytest.raises(InputError, match="nothing was checked"):
        accept(path, [])
    assert not path.exists()


ENTRY = '{"verdict": "PASS", "kind": "acceptance", "contract_digest": "d"}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  "version": 1\n}', "1:1: missing key 'obligations'"),
        (
            '{"version": 2,\n "obligations": {}}',
            "1:13: written by a newer hrmctl (version 2, this one reads 1); upgrade",
        ),
        ('{"version": 1, "obligations": {\n"a": {"verdict": "GOOD"}}}', "2:18: verdict: text ('GOOD') is not a choice"),
        (f'{{"version": 1, "obligations": {{\n"a": {ENTRY},\n"a": {ENTRY}}}}}', "3:1: duplicate key 'a'"),
        ('{"version": 1, "obligations": {\n"a": {"verdict": "INVALID"}}}', "2:18: verdict: text ('INVALID') is not"),
        ("", "1:1: the file is empty"),
        ('{"version": ', "2:1: not YAML"),
    ],
)
def test_a_broken_file_is_refused_in_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "accepted.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_accepted(path)
    faults = [str(problem) for problem in caught.value.problems]
    assert any(fault.startswith(f"{path}:{said}") for fault in faults), faults
