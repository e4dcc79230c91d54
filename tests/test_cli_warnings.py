"""What a stage warns of is shown while it runs: once, with its name, beside the bars, and never on standard output."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hrmctl.cli.progress import Bars
from hrmctl.events import StageProgress, StageStarted, StageWarned
from hrmctl.jsonio import loads
from hrmctl.run.worker import Warnings

from .lab import hrmctl, open_store, run_lab, write_lab, write_recipe

WARNS = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}", warn: 2, pause: 0.3}}
"""
TEXTS = ["loss stands still\\x1b at [/0]", "loss stands still\\x1b at [/1]"]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


def test_warnings_are_shown_once_and_stay_in_the_log(lab: Path) -> None:
    write_recipe(lab, WARNS)
    done = hrmctl("pipeline", "lab.yaml", "--store", "store", cwd=lab)
    lines = done.stderr.splitlines()
    assert [line for line in lines if "stands still" in line] == [f"a: warning: {text}" for text in TEXTS]
    assert lines.index(f"a: warning: {TEXTS[1]}") < next(
        i for i, line in enumerate(lines) if line.startswith("a: done")
    )
    (run,) = (open_store(lab).runs).iterdir()
    assert (run / "logs" / "a.log").read_text().count("stands still") == 4
    events = [loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [e["text"] for e in events if e["event"] == "StageWarned"] == TEXTS


def test_json_on_standard_output_stays_clean(lab: Path) -> None:
    write_recipe(lab, WARNS)
    done = hrmctl("pipeline", "lab.yaml", "--json", cwd=lab)
    assert json.loads(done.stdout)["status"] == "done"
    assert done.stderr.splitlines()[:-1] == [f"a: warning: {text}" for text in TEXTS]


def test_a_warning_comes_while_the_stage_runs(lab: Path) -> None:
    heard: list[tuple[float, Any]] = []
    run_lab(write_recipe(lab, WARNS), listener=lambda event: heard.append((time.monotonic(), event)))
    warned = next(i for i, (_, e) in enumerate(heard) if isinstance(e, StageWarned))
    assert sum(isinstance(e, StageProgress) for _, e in heard[warned:]) == 3
    assert heard[-1][0] - heard[warned][0] > 0.5


def test_a_bar_stays_whole_around_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))
    monkeypatch.setenv("COLUMNS", "60")
    bars = Bars()
    bars(StageStarted("r", "a", "lab", False))
    bars(StageProgress("r", "a", 1, 3, {}))
    text = "x" * 100 + " [/red]"
    bars(StageWarned("r", "a", text))
    bars(StageProgress("r", "a", 2, 3, {}))
    bars.close()
    shown = capsys.readouterr().err
    assert shown.count("a: warning:") == 1
    before, _, after = shown.partition(f"a: warning: {text}\n")
    assert before.rpartition("\n")[2].endswith("\x1b[2K"), "the bar's line is cleared first"
    assert "2/3" in after


class Channel:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def write(self, line: str) -> None:
        self.sent.append(json.loads(line)["text"])

    def flush(self) -> None:
        return


def test_of_one_kind_only_the_first_few_are_told() -> None:
    log, channel = logging.Logger("stage"), Channel()
    log.addHandler(Warnings(channel))  # type: ignore[arg-type]
    for step in range(1000):
        log.warning("step %d is left out", step)
        log.info("step %d", step)
    log.error("of another kind\nin two lines")
    assert channel.sent[:9] == [f"step {i} is left out" for i in range(9)]
    assert channel.sent[9:] == [
        "step 9 is left out (more of this kind is only in the log)",
        r"of another kind\nin two lines",
    ]


def test_a_kind_is_the_place_that_warns_and_not_its_text() -> None:
    log, channel = logging.Logger("stage"), Channel()
    log.addHandler(Warnings(channel))  # type: ignore[arg-type]
    for step in range(1000):
        log.warning(f"step {step} is left out")
    log.warning("%s", "another place")
    assert len(channel.sent) == 11


def test_a_warning_that_cannot_be_written_out_disturbs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log, channel = logging.Logger("stage"), Channel()
    log.addHandler(Warnings(channel))  # type: ignore[arg-type]
    log.warning("%d", "x")
    assert channel.sent == []
    assert "TypeError" in capsys.readouterr().err
