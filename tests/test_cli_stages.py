"""The command of a stage: its help by topics, and parameters that have keys of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrmctl.model import StageSpec
from hrmctl.plugins import catalog
from hrmctl.schema import fields_of

from .lab import command, hrmctl, installed_lab, listing


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with installed_lab(tmp_path, monkeypatch) as work:
        yield work


def sections(text: str) -> dict[str, str]:
    """The text of a help page by heading."""
    found: dict[str, str] = {}
    heading = ""
    for line in text.splitlines():
        if line and not line.startswith(" ") and line.endswith(":"):
            heading = line[:-1]
        found[heading] = found.get(heading, "") + line + "\n"
    return found


def test_the_help_of_a_stage_has_headings(tmp_path: Path) -> None:
    found = sections(hrmctl("finetune", "--help", cwd=tmp_path, COLUMNS="80").stdout)
    assert list(found)[1:] == [
        *("Inputs", "Model", "Length and optimisation", "Data", "Validation and stopping", "Checkpoints"),
        *("Adapters", "Preferences", "Options"),
    ]
    assert "--data " in found["Inputs"]
    assert "--rank " in found["Adapters"]
    assert "--lr " in found["Length and optimisation"]
    assert "--seed " in found["Options"]
    words = " ".join(found["Validation and stopping"].split())
    assert "--interventions YAML" in words
    assert (
        "(YAML, JSON or @FILE: [{at_step, at_epoch, when: {metric, op, value}, lr_scale, stop, message}, …])" in words
    )
    assert "(YAML, JSON or @FILE: {window, threshold, after, unit, metric})" in words
    assert max(len(line) for text in found.values() for line in text.splitlines()) <= 80


def with_topics() -> list[StageSpec]:
    return [spec for spec in catalog().stages.values() if spec.topics]


@pytest.mark.parametrize("spec", with_topics(), ids=lambda spec: spec.name)
def test_every_parameter_has_one_topic(spec: StageSpec) -> None:
    named = [name for names in spec.topics.values() for name in names]
    assert sorted(named) == sorted(field.name for field in fields_of(spec.params))


def test_a_stage_without_topics_has_its_parameters_under_one_heading(alone: Path) -> None:
    found = sections(hrmctl("lab", "train", "--help", cwd=alone).stdout)
    assert list(found)[1:] == ["Inputs", "Parameters", "Options"]
    assert "--points YAML" in found["Parameters"]


def test_a_parameter_with_keys_is_given_inline_or_from_a_file(alone: Path) -> None:
    (alone / "points.yaml").write_text("- {at: 2, word: two}\n- at: 3\n")
    ways = ["[{at: 2, word: two}, {at: 3}]", '[{"at": 2, "word": "two"}, {"at": 3}]', "@points.yaml"]
    keys = set()
    for way in ways:
        hrmctl("lab", "train", "--data", "words.txt", "--points", way, "--first", "{at: 1}", cwd=alone)
        stage = json.loads(command("runs", "show", "--json", cwd=alone).stdout)["stages"]["lab-train"]
        assert stage["params"]["points"] == [{"at": 2, "word": "two"}, {"at": 3, "word": ""}]
        assert stage["params"]["first"] == {"at": 1, "word": ""}
        keys.add(stage["key"])
    assert len(keys) == 1
    hrmctl("lab", "train", "--data", "words.txt", "--first", "null", cwd=alone)
    stage = json.loads(command("runs", "show", "--json", cwd=alone).stdout)["stages"]["lab-train"]
    assert stage["params"]["first"] is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[{at: 0}]", "--points:1:7: at: an integer ('0') is out of range; must be at least 1"),
        ("[{att: 1, at: 1}]", "--points:1:3: unknown key 'att'; did you mean 'at'?"),
        ("{at: 1}", "--points:1:1: points: expected a list, found a mapping"),
        ("[", "--points:2:1: not YAML: "),
        ("@absent.yaml", "absent.yaml: cannot read: No such file or directory"),
        ("@bad.yaml", "bad.yaml:2:7: at: expected an integer, found text ('two')"),
    ],
)
def test_a_fault_in_it_has_its_place(alone: Path, given: str, message: str) -> None:
    (alone / "bad.yaml").write_text("- at: 1\n- at: two\n")
    before = listing(alone)
    done = command("lab", "train", "--data", "words.txt", "--points", given, cwd=alone, check=2)
    assert done.stderr.startswith(f"hrmctl: {message}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert listing(alone) == before
