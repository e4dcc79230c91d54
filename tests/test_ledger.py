"""The ledger: appended whole or not at all, and every kind of tampering is found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrmctl import HrmctlError, InputError, Judgement, Verdict, ledger
from hrmctl.jsonio import canonical, digest_of

ONE = Judgement(
    "HRM-P1", "digest", "title", "proxy", "acceptance", Verdict.PASS,
    reason="p.value 0.2 is ≥ 0.2", measured={"p": {"value": 0.2, "n": 500}}, evidence=("e1",),
    subjects={"model": "m1", "dataset": "d1"}, labels={"model": "hrm-tiny", "dataset": "microcode@test"}, run="r1",
)  # fmt: skip


def judgements(*subjects: str, verdict: Verdict = Verdict.PASS) -> list[Judgement]:
    return [replace(ONE, subject=subject, verdict=verdict) for subject in subjects]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def filled(path: Path) -> Path:
    """Three checks of two rows."""
    for check in ("c1", "c2", "c3"):
        ledger.append(path, check, judgements("claim", "proxy"))
    return path


def said(path: Path) -> list[str]:
    return [str(problem).replace(f"{path.parent}/", "") for problem in ledger.verify(path)]


# --- appending ----------------------------------------------------------------------------------


def test_rows_say_everything_and_are_chained(filled: Path) -> None:
    rows = ledger.rows(filled)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert set(rows[0]) == {
        "seq", "time", "check", "run", "kind", "contract", "contract_digest", "title", "subject", "profile", "verdict",
        "because", "reason", "remedy", "measured", "evidence", "subjects", "labels", "attempts", "lock", "prev", "hash",
    }  # fmt: skip
    assert rows[1]["verdict"] == "PASS"
    assert rows[1]["measured"] == {"p": {"value": 0.2, "n": 500}}
    assert rows[0]["prev"] == "0" * 64
    for before, row in pairwise(rows):
        assert row["prev"] == before["hash"]
        assert row["hash"] == digest_of({k: v for k, v in row.items() if k != "hash"})
    assert all(line == canonical(json.loads(line)) for line in filled.read_text().splitlines())
    head = json.loads(ledger.head_path(filled).read_text())
    assert head == {"version": 1, "seq": 6, "hash": rows[-1]["hash"], "bytes": filled.stat().st_size}
    assert said(filled) == []


def test_no_ledger_is_no_rows(path: Path) -> None:
    assert ledger.rows(path) == []
    assert ledger.verify(path) == []
    assert ledger.append(path, "c1", []) == []
    assert not path.exists()


def test_one_verdict_per_obligation_per_check(path: Path) -> None:
    with pytest.raises(InputError, match="two verdicts for HRM-P1/proxy in one check"):
        ledger.append(path, "c1", judgements("proxy", "proxy"))
    assert ledger.rows(path) == []
    ledger.append(path, "c1", [ONE, replace(ONE, profile="kpi")])
    ledger.append(path, "c1", judgements("proxy"))  # by hand: two appends under one name
    assert said(path) == ["ledger.jsonl:3:1: a second verdict for HRM-P1/proxy in check c1; the first is in line 1"]


def test_nan_is_not_recorded(path: Path) -> None:
    ledger.append(path, "c1", [ONE])
    with pytest.raises(HrmctlError, match="canonical JSON"):
        ledger.append(path, "c2", [replace(ONE, measured={"p": {"value": float("nan")}})])
    assert len(ledger.rows(path)) == 1
    assert said(path) == []


def test_the_seeds_of_one_training_are_one_attempt_together_and_alone(path: Path) -> None:
    def attempts(check: str, model: str) -> int:
        return ledger.append(path, check, [replace(ONE, subjects={"model": model, "dataset": "d1"})])[0].attempts

    assert attempts("c1", "a") == 1
    assert attempts("c2", "b") == 2, "nothing says yet that they belong together"
    assert attempts("c3", "a+b+c") == 1
    assert attempts("c4", "c") == 1
    assert attempts("c5", "x+y") == 2


def test_attempts_count_different_models_on_one_test_set(path: Path) -> None:
    def attempts(check: str, model: str, data: str = "d1", contract: str = "HRM-P1") -> int:
        subjects = {"model": model, "dataset": data} if model else {}
        one = replace(ONE, contract=contract, subjects=subjects)
        return ledger.append(path, check, [one])[0].attempts

    assert attempts("c1", "m1") == 1
    assert attempts("c2", "m1") == 1, "the same model again is no other attempt"
    assert attempts("c3", "m2") == 2
    assert attempts("c4", "m3", data="d2") == 1
    assert attempts("c5", "m3", contract="OTHER") == 3, "whatever the contract"
    assert attempts("c6", "") == 0
    assert attempts("c7", "m1") == 3
    assert attempts("c8", "m1", data="", contract="SIZE") == 1
    assert attempts("c9", "m2", data="", contract="OTHER") == 1, "without a data set, by contract"
    assert ledger.append(path, "c9b", [replace(ONE, contract="OTHER", subjects={})])[0].attempts == 0
    pairs = [{"dataset": "d3"} | others for others in ({}, {"small": "a", "big": "b"}, {"small": "a", "big": "c"})]
    counted = [ledger.append(path, f"p{n}", [replace(ONE, subjects=s)])[0].attempts for n, s in enumerate(pairs)]
    assert counted == [0, 1, 2]
    both = [replace(ONE, subject=m, subjects={"model": m, "dataset": "d1"}) for m in ("m8", "m9")]
    assert [j.attempts for j in ledger.append(path, "c10", both)] == [5, 5], "one check, one count"
    assert [row["attempts"] for row in ledger.rows(path)] == [1, 1, 2, 1, 3, 0, 3, 1, 1, 0, 0, 1, 2, 5, 5]


def test_nothing_is_appended_where_the_ledger_has_moved(path: Path) -> None:
    ledger.append(path, "c1", [ONE], after=0)
    with pytest.raises(ledger.Moved, match="another check was recorded meanwhile"):
        ledger.append(path, "c2", [ONE], after=0)
    assert len(ledger.rows(path)) == 1


# --- tampering ----------------------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def change_verdict(path: Path) -> None:
    path.write_text(path.read_text().replace('"PASS"', '"FAIL"', 1))


def change_and_rehash(path: Path) -> None:
    rows = lines(path)
    row = json.loads(rows[2])
    row["verdict"] = "FAIL"
    row["hash"] = digest_of({k: v for k, v in row.items() if k != "hash"})
    rows[2] = canonical(row) + "\n"
    path.write_text("".join(rows))


def reformat(path: Path) -> None:
    rows = lines(path)
    rows[1] = rows[1].replace('":', '": ', 1)
    path.write_text("".join([*rows[:1], rows[1], *rows[2:]]))
    resize(path)


def remove_middle(path: Path) -> None:
    rows = lines(path)
    path.write_text("".join(rows[:2] + rows[3:]))
    resize(path)


def remove_first(path: Path) -> None:
    path.write_text("".join(lines(path)[1:]))
    resize(path)


def reorder(path: Path) -> None:
    rows = lines(path)
    path.write_text("".join([*rows[:2], rows[3], rows[2], *rows[4:]]))


def repeat(path: Path) -> None:
    rows = lines(path)
    path.write_text("".join(rows[:3] + rows[2:]))
    resize(path)


def repeat_last(path: Path) -> None:
    path.write_text("".join([*lines(path), lines(path)[-1]]))


def truncate(path: Path) -> None:
    path.write_text("".join(lines(path)[:-1]))


def truncate_with_head(path: Path) -> None:
    path.write_text("".join(lines(path)[:-1]))
    resize(path)


def cut_inside(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])
    resize(path)


def delete_ledger(path: Path) -> None:
    path.unlink()


def delete_head(path: Path) -> None:
    ledger.head_path(path).unlink()


def change_head(path: Path) -> None:
    head = json.loads(ledger.head_path(path).read_text())
    ledger.head_path(path).write_text(canonical({**head, "hash": "0" * 64}) + "\n")


def garble_head(path: Path) -> None:
    ledger.head_path(path).write_text("{}")


def not_json(path: Path) -> None:
    rows = lines(path)
    path.write_text("".join([rows[0], "x" + rows[1][1:], *rows[2:]]))


def not_utf8(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:20] + b"\xff" + raw[21:])


def resize(path: Path) -> None:
    """Make the head agree with the length, as a careful forger would."""
    head = json.loads(ledger.head_path(path).read_text())
    ledger.head_path(path).write_text(canonical({**head, "bytes": path.stat().st_size}) + "\n")


TAMPERING: list[tuple[Callable[[Path], None], str]] = [
    (change_verdict, "ledger.jsonl:1:1: changed: the row does not have the hash that it says"),
    (change_and_rehash, "ledger.jsonl:4:1: changed: row 4 does not follow from the row before it"),
    (reformat, "ledger.jsonl:2:1: changed: the row does not have the hash that it says"),
    (remove_middle, "ledger.jsonl:3:1: missing: row 3 before row 4"),
    (remove_first, "ledger.jsonl:1:1: missing: row 1 before row 2"),
    (reorder, "ledger.jsonl:3:1: missing: row 3 before row 4"),
    (repeat, "ledger.jsonl:4:1: out of order or repeated: row 3 where row 4 belongs"),
    (repeat_last, "ledger.jsonl:7:1: "),
    (truncate, "ledger.jsonl:6:1: truncated: "),
    (truncate_with_head, "ledger.head.json: the head record names row 6, the ledger ends with row 5"),
    (cut_inside, "ledger.jsonl:6:1: the head record ends inside a row"),
    (delete_ledger, "ledger.jsonl:1:1: truncated: 0 bytes of the"),
    (delete_head, "ledger.head.json: the head record is missing; restore it"),
    (change_head, "ledger.head.json: the head record names row 6, the ledger ends with row 6 or another hash"),
    (garble_head, "ledger.head.json: not a head record"),
    (not_json, "ledger.jsonl:2:1: changed: "),
    (not_utf8, "ledger.jsonl:1:1: changed: not UTF-8"),
]


@pytest.mark.parametrize(("tamper", "found"), TAMPERING, ids=[tamper.__name__ for tamper, _ in TAMPERING])
def test_tampering_is_found_and_nothing_is_appended(filled: Path, tamper: Callable[[Path], None], found: str) -> None:
    tamper(filled)
    assert any(text.startswith(found) for text in said(filled)), said(filled)
    if tamper is repeat_last:
        return  # bytes beyond the head: see the next tests
    before = {p: p.read_bytes() for p in filled.parent.iterdir()}
    with pytest.raises(HrmctlError):
        ledger.append(filled, "c9", [ONE])
    assert {p: p.read_bytes() for p in filled.parent.iterdir()} == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None)
@given(place=st.integers(0, 10**9), byte=st.integers(0, 255))
def test_no_byte_can_be_changed(tmp_path: Path, place: int, byte: int) -> None:
    path = tmp_path / "h" / "ledger.jsonl"
    if not path.exists():
        ledger.append(path, "c1", judgements("claim", "proxy"))
        ledger.append(path, "c2", judgements("proxy"))
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    try:
        assert (ledger.verify(path) == []) == (byte == whole[place])
    finally:
        path.write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(checks=st.lists(st.lists(st.sampled_from("abcdef"), unique=True, max_size=4), max_size=5))
def test_any_sequence_of_checks_verifies(tmp_path: Path, checks: list[list[str]]) -> None:
    folder = tmp_path / f"{time.monotonic_ns()}"
    path = folder / "ledger.jsonl"
    for number, subjects in enumerate(checks):
        ledger.append(path, f"c{number}", judgements(*subjects))
    assert ledger.verify(path) == []
    assert [row["subject"] for row in ledger.rows(path)] == [s for subjects in checks for s in subjects]
