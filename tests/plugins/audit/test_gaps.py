"""`audit.gaps`: a row is closed by what is there, never by what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hrmctl_audit import gaps
from hrmctl_audit.gaps import anchors, run
from hrmctl_audit.params import GapsParams

from hrmctl import InputError, StageError
from hrmctl.plugins import catalog
from hrmctl.testing import make_artifact, make_context

PAGE = "# Top of it\n\n```\n# no heading\n```\n## What's *not* covered: `x`\n## Twice\n## Twice\n"


def audited(rows: str, tmp_path):
    (tmp_path / "docs").mkdir(exist_ok=True)
    (tmp_path / "docs" / "a.md").write_text(PAGE)
    (tmp_path / "gaps.yaml").write_text(f"kind: gaps\ngaps:\n{rows}")
    given = {
        "register": make_artifact(tmp_path / "gaps.yaml", "report", "./gaps.yaml"),
        "docs": make_artifact(tmp_path / "docs", "report", "./docs"),
    }
    result = run(GapsParams(), given, make_context(tmp_path))
    seen = {o.name: (o.payload["value"], o.payload["n"]) for o in result.evidence}
    return seen, [json.loads(line) for line in result.artifacts["gaps"].path.read_text().splitlines()]


def test_what_can_be_imported_and_what_is_documented_closes_a_gap(tmp_path):
    rows = "".join(
        f"  - {{gap: {name}, {kind}: {name}}}\n"
        for kind, name in {
            "stage": "audit.gaps",
            "measure": "ratio",
            "command": "score",
            "boundary": "a.md#twice-1",
        }.items()
    )
    seen, found = audited(rows, tmp_path)
    assert seen == {"gaps_closed": (4, 4), "gaps_wired": (3, 4), "gaps_outside": (1, 4)}
    assert not any(row["fault"] for row in found)


def test_a_core_command_closes_a_gap(tmp_path):
    assert audited("  - {gap: x, command: ledger}\n", tmp_path)[0]["gaps_wired"] == (1, 1)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("stage: teleport", "there is no stage 'teleport'"),
        ("measure: hope", "there is no measure 'hope'"),
        ("command: wish", "there is no command 'wish'"),
        ("boundary: a.md#elsewhere", "a.md has no heading #elsewhere"),
        ("boundary: a.md#no-heading", "a.md has no heading #no-heading"),
        ("boundary: a.md", "a.md is no PAGE.md#ANCHOR of the documentation"),
        ("boundary: ../gaps.md#twice", "../gaps.md#twice is no PAGE.md#ANCHOR of the documentation"),
    ],
)
def test_what_is_not_there_leaves_the_gap_open(answer, fault, tmp_path):
    (tmp_path / "gaps.md").write_text(PAGE)
    seen, [row] = audited(f"  - {{gap: x, {answer}}}\n", tmp_path)
    assert seen["gaps_closed"] == (0, 1)
    assert row["fault"] == fault


def test_a_stage_whose_function_is_gone_leaves_the_gap_open(tmp_path, monkeypatch):
    known = catalog()
    broken = {**known.stages, "audit.gaps": replace(known.stages["audit.gaps"], target="hrmctl_audit.gaps:walk")}
    monkeypatch.setattr(gaps, "catalog", lambda: replace(known, stages=broken))
    seen, [row] = audited("  - {gap: x, stage: audit.gaps}\n", tmp_path)
    assert seen["gaps_wired"] == (0, 1)
    assert "has no function 'walk'" in row["fault"]


@pytest.mark.parametrize(
    "row", ["{gap: x}", "{gap: x, stage: eval, measure: ratio}", "{gap: x, page: y}", "{stage: eval}"]
)
def test_a_row_that_says_nothing_or_too_much_is_refused_with_its_line(row, tmp_path):
    with pytest.raises(InputError, match=r"\./gaps\.yaml:3:"):
        audited(f"  - {row}\n", tmp_path)


def test_one_gap_twice_is_refused(tmp_path):
    with pytest.raises(StageError, match="'x' twice"):
        audited("  - {gap: x, stage: eval}\n  - {gap: x, stage: data.quality}\n", tmp_path)


def test_anchors_are_those_of_github():
    assert list(anchors(PAGE)) == ["top-of-it", "whats-not-covered-x", "twice", "twice-1"]
