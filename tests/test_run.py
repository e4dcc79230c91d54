"""Real runs of small stages: what a run leaves, what is cached, what fails, and what runs beside what."""

from __future__ import annotations

import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from hrmctl import Evidence, Provenance
from hrmctl.run.history import History
from hrmctl.run.record import Record, file_name, metric_rows, now
from hrmctl.store import content_digest

from .lab import (
    hrmctl,
    lock_of,
    open_store,
    run_lab,
    statuses,
    write_lab,
    write_recipe,
)

CHAIN = """
vars: {steps: 3, text: hello}
stages:
  data: {uses: lab.make, with: {text: "${vars.text}"}}
  a: {uses: lab.train, with: {data: "${data.data}", steps: "${vars.steps}"}}
  report: {uses: lab.compare, with: {models: ["${a.model}"]}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


def rows_of(folder: Path, run: str) -> list[dict[str, Any]]:
    return metric_rows(open_store(folder).run_folder(run))


# --- what a run leaves ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = write_lab(tmp_path_factory.mktemp("chain"))
    return folder, run_lab(write_recipe(folder, CHAIN), argv=["pipeline", "lab.yaml"], device="cpu", jobs=2)


def test_a_run_is_done_and_its_lock_says_every_digest(chain: tuple[Path, Any]) -> None:
    folder, result = chain
    assert (result.status, result.exit_code) == ("done", 0)
    assert statuses(result) == {"data": "done", "a": "done", "report": "done"}
    lock = lock_of(folder, result.run)
    assert (lock["version"], lock["status"], lock["seed"], lock["name"]) == (1, "done", 7, "lab")
    assert lock["argv"] == ["pipeline", "lab.yaml"]
    stage = lock["stages"]["a"]
    assert stage["uses"] == "lab.train"
    assert stage["params"]["steps"] == 3
    assert stage["inputs"]["data"] == [lock["stages"]["data"]["outputs"]["data"]]
    model = stage["outputs"]["model"]
    assert (model["type"], model["label"]) == ("model", "lab-model")
    assert content_digest(open_store(folder).object_path(model["digest"])) == model["digest"]
    report = lock["stages"]["report"]["outputs"]["report"]["digest"]
    assert open_store(folder).object_path(report).read_text() == "[13.0, 6.5, 4.333333333333333]hello"


def test_evidence_has_its_whole_provenance_and_a_copy_for_people(chain: tuple[Path, Any]) -> None:
    folder, result = chain
    store, lock = open_store(folder), lock_of(folder, result.run)
    stage = lock["stages"]["a"]
    evidence = store.get_evidence(stage["evidence"][0])
    where = evidence.provenance
    assert where is not None
    assert (where.run, where.stage, where.uses, where.key) == (result.run, "a", "lab.train", stage["key"])
    assert where.subjects == {"model": stage["outputs"]["model"]["digest"]}
    assert where.labels == {"model": "lab-model"}
    assert (where.seed, where.argv, where.code_version) == (7, ["pipeline", "lab.yaml"], stage["version"])
    assert where.started <= where.ended
    assert where.tools["python"].startswith("3.")
    assert int(where.hardware["cores"]) >= 1
    copies = sorted((store.run_folder(result.run) / "evidence").iterdir())
    assert [path.name for path in copies] == [
        f"a.loss.{evidence.digest[:12]}.json",
        f"data.length.{lock['stages']['data']['evidence'][0][:12]}.json",
    ]
    copy = json.loads(copies[0].read_text())
    assert copy["digest"] == evidence.digest
    assert copy["payload"] == evidence.payload == {"value": 13 / 3, "unit": "nats", "n": 3}


def test_a_stage_gets_its_share_and_its_own_random_numbers(chain: tuple[Path, Any]) -> None:
    folder, result = chain
    digest = lock_of(folder, result.run)["stages"]["data"]["evidence"][0]
    context = open_store(folder).get_evidence(digest).payload["context"]
    assert context == {"threads": 2, "omp": "2", "device": "cpu", "draw": random.Random(7).random()}


def test_events_and_metrics_are_rows(chain: tuple[Path, Any]) -> None:
    folder, result = chain
    run = open_store(folder).run_folder(result.run)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [(e["event"], e.get("stage", "")) for e in events] == [
        ("RunStarted", ""),
        ("StageStarted", "data"),
        ("StageFinished", "data"),
        ("StageStarted", "a"),
        ("StageFinished", "a"),
        ("StageStarted", "report"),
        ("StageFinished", "report"),
        ("RunFinished", ""),
    ]
    assert [{k: v for k, v in row.items() if k != "time"} for row in metric_rows(run)] == [
        {"stage": "a", "step": step, "total": 3, "loss": 13 / step, "rate": 1.0} for step in (1, 2, 3)
    ]


def test_nothing_is_left_in_scratch(chain: tuple[Path, Any]) -> None:
    folder, _ = chain
    assert list((folder / "store" / "scratch").iterdir()) == []


# --- the cache ------------------------------------------------------------------------------------


def test_the_cache_answers_until_something_changes(lab: Path) -> None:
    recipe = write_recipe(lab, CHAIN)
    first = run_lab(recipe)
    again = run_lab(recipe)
    assert statuses(again) == {"data": "cached", "a": "cached", "report": "cached"}
    assert again.run != first.run
    outputs = [{k: s["outputs"] for k, s in lock_of(lab, r.run)["stages"].items()} for r in (first, again)]
    assert outputs[0] == outputs[1]
    assert lock_of(lab, again.run)["stages"]["a"]["evidence"] == lock_of(lab, first.run)["stages"]["a"]["evidence"]
    changed = run_lab(recipe, ["vars.steps=4"])
    assert statuses(changed) == {"data": "cached", "a": "done", "report": "done"}
    assert statuses(run_lab(recipe, ["seed=8"], only=frozenset({"data"}))) == {"data": "done"}
    forced = run_lab(recipe, force=frozenset({"a"}))
    assert statuses(forced) == {"data": "cached", "a": "done", "report": "done"}
    only = run_lab(recipe, only=frozenset({"a"}))
    assert statuses(only) == {"data": "cached", "a": "cached"}
    assert "contracts were not checked" in only.notes[0]


def test_an_edited_plugin_is_run_again(lab: Path) -> None:
    recipe = write_recipe(lab, "stages:\n  data: {uses: lab.make}\n")
    assert statuses(run_lab(recipe)) == {"data": "done"}
    with (lab / "hrmctl_plugins.py").open("a") as stream:
        stream.write("# edited\n")
    shown = hrmctl("pipeline", "lab.yaml", "--plan", "--store", "store", cwd=lab)
    assert shown.stdout.splitlines()[1].split() == ["data", "lab.make", "-", "run", "its", "code", "changed"]


def test_a_local_file_is_an_input_by_its_content(lab: Path) -> None:
    (lab / "real.txt").write_text("abc")
    (lab / "data.txt").symlink_to("real.txt")
    recipe = write_recipe(lab, "stages:\n  a: {uses: lab.train, with: {data: data.txt}}\n")
    first = run_lab(recipe)
    given = lock_of(lab, first.run)["stages"]["a"]["inputs"]["data"]
    assert given == [{"digest": content_digest(lab / "real.txt"), "type": "dataset", "label": "./data.txt"}]
    assert statuses(run_lab(recipe)) == {"a": "cached"}
    (lab / "real.txt").write_text("abcd")
    assert statuses(run_lab(recipe)) == {"a": "done"}


def test_an_altered_object_is_no_cache_hit_and_is_made_anew(lab: Path) -> None:
    recipe = write_recipe(lab, CHAIN)
    first = run_lab(recipe)
    model = lock_of(lab, first.run)["stages"]["a"]["outputs"]["model"]["digest"]
    weights = open_store(lab).object_path(model) / "weights.json"
    whole = weights.read_text()
    weights.chmod(0o644)
    weights.write_text("[0]")
    assert statuses(run_lab(recipe)) == {"data": "cached", "a": "done", "report": "cached"}
    assert weights.read_text() == whole


def test_the_same_work_is_done_once(lab: Path) -> None:
    trace = lab / "trace"
    stage = f"{{uses: lab.train, with: {{data: words.txt, pause: 0.1, trace: {trace}}}}}"
    (lab / "words.txt").write_text("words")
    result = run_lab(write_recipe(lab, f"stages:\n  a: {stage}\n  b: {stage}\n"), jobs=4)
    assert statuses(result) == {"a": "done", "b": "cached"}
    assert trace.read_text().count("begin") == 1


def test_an_optional_output_that_was_not_given_blocks_who_takes_it(lab: Path) -> None:
    body = """
    vars: {extra: false}
    stages:
      data: {uses: lab.make, with: {extra: "${vars.extra}"}}
      a: {uses: lab.train, with: {data: "${data.extra}"}}
    """
    recipe = write_recipe(lab, body)
    result = run_lab(recipe)
    assert statuses(result) == {"data": "done", "a": "blocked"}
    assert result.stages[1].error == "data gave no 'extra'"
    assert result.exit_code == 4
    shown = hrmctl("pipeline", "lab.yaml", "--plan", "--store", "store", cwd=lab).stdout
    assert "an input was not given" in shown
    assert statuses(run_lab(recipe, ["vars.extra=true"])) == {"data": "done", "a": "done"}


# --- failures -------------------------------------------------------------------------------------

FAULTS = {
    "raise": "RuntimeError: it broke; log: ",
    "stage error": "the loss became NaN at step 2; lower the learning rate",
    "input error": "the data has no rows; give more",
    "exit": "SystemExit: 3; log: ",
    "kill": "the worker was killed by SIGKILL; out of memory?; log: ",
    "orphan": "the worker was killed by SIGKILL; out of memory?; log: ",
    "bad output": "stage lab.train broke its word: there is no ",
    "nothing": "stage lab.train broke its word: it returned NoneType, not StageResult",
    "bad metric": "'step' is a column of metrics.jsonl; give the metric another name",
    "nan evidence": "evidence 'loss' is not representable as canonical JSON: Out of range float values",
}


def test_every_way_to_fail_is_told_and_the_rest_runs_with_keep_going(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    stages = "".join(
        f'  s{i}: {{uses: lab.train, with: {{data: words.txt, act: "{act}"}}}}\n' for i, act in enumerate(FAULTS)
    )
    stages += '  after: {uses: lab.compare, with: {models: ["${s0.model}"]}}\n'
    stages += '  later: {uses: lab.compare, with: {models: ["${s9.model}"]}, after: [after]}\n'
    stages += "  good: {uses: lab.make}\n"
    begun = time.monotonic()
    result = run_lab(write_recipe(lab, f"stages:\n{stages}"), keep_going=True, jobs=2)
    assert time.monotonic() - begun < 25, "a child that outlives its worker holds the run up"
    lines = {line.stage: line for line in result.stages}
    for i, (act, message) in enumerate(FAULTS.items()):
        assert lines[f"s{i}"].status == "failed"
        assert lines[f"s{i}"].error.startswith(message), act
        assert "\n" not in lines[f"s{i}"].error
    assert lines["after"].status == "blocked"
    assert lines["after"].error == "s0 failed"
    assert lines["later"].error in ("s9 failed", "s0 failed"), "what failed, not what waited for it"
    assert lines["good"].status == "done"
    assert result.exit_code == 4
    log = Path(lines["s0"].error.partition("log: ")[2])
    assert "RuntimeError: it broke" in log.read_text()
    assert lock_of(lab, result.run)["status"] == "failed"


def test_a_failure_stops_the_run_and_what_waits(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    body = """
    stages:
      slow: {uses: lab.train, with: {data: words.txt, steps: 1000, pause: 0.05}}
      bad: {uses: lab.train, with: {data: words.txt, act: stage error}}
      next: {uses: lab.make, after: [bad]}
      other: {uses: lab.make, after: [slow]}
    """
    result = run_lab(write_recipe(lab, body), jobs=2)
    lines = {line.stage: line for line in result.stages}
    assert statuses(result) == {"slow": "cancelled", "bad": "failed", "next": "blocked", "other": "cancelled"}
    assert lines["slow"].error == "stopped; the next run continues from its last checkpoint"
    assert lines["next"].error == "bad failed"
    assert lines["other"].error == "bad failed; --keep-going runs the rest"
    stages = lock_of(lab, result.run)["stages"]
    assert {name: stage["cause"] for name, stage in stages.items()} == {
        "slow": "bad", "bad": "", "next": "bad", "other": "bad"
    }  # fmt: skip
    assert result.exit_code == 4


def test_bad_input_alone_ends_with_2(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    stage = "{uses: lab.train, with: {data: words.txt, act: input error}}"
    assert run_lab(write_recipe(lab, f"stages:\n  a: {stage}\n")).exit_code == 2


def test_a_failed_stage_runs_again_from_its_checkpoint(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    trace = lab / "trace"
    stage = f"data: words.txt, steps: 6, act: kill, at: 5, every: 2, once: {lab}/once, trace: {trace}"
    recipe = write_recipe(lab, f"stages:\n  a: {{uses: lab.train, with: {{{stage}}}}}\n")
    first = run_lab(recipe)
    assert first.exit_code == 4
    assert [row["step"] for row in rows_of(lab, first.run)] == [1, 2, 3, 4]
    again = run_lab(recipe, resume=first.run)
    assert (again.run, again.exit_code) == (first.run, 0)
    words = [line.split()[0] for line in trace.read_text().splitlines()]
    assert words == ["begin", "1", "2", "3", "4", "begin", "5", "6", "end"]
    assert [row["step"] for row in rows_of(lab, first.run)] == [1, 2, 3, 4, 5, 6]


# --- metrics --------------------------------------------------------------------------------------


def test_nan_metrics_are_left_out_of_the_row(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    result = run_lab(write_recipe(lab, "stages:\n  a: {uses: lab.train, with: {data: words.txt, act: nan}}\n"))
    assert result.exit_code == 0
    assert [("loss" in row, row["rate"]) for row in rows_of(lab, result.run)] == [(True, 1), (False, 1), (True, 1)]


def test_a_resume_that_goes_back_drops_the_rows_it_repeats(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    stage = f"data: words.txt, steps: 7, act: kill, at: 6, every: 3, once: {lab}/once"
    recipe = write_recipe(lab, f"stages:\n  a: {{uses: lab.train, with: {{{stage}}}}}\n")
    first = run_lab(recipe)
    before = rows_of(lab, first.run)
    assert [row["step"] for row in before] == [1, 2, 3, 4, 5]
    run_lab(recipe, resume=first.run)
    after = rows_of(lab, first.run)
    assert [row["step"] for row in after] == [1, 2, 3, 4, 5, 6, 7]
    assert after[:3] == before[:3]
    assert after[3]["time"] > before[4]["time"]


def test_other_stages_keep_their_rows_when_one_goes_back(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    for stage, step in (("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("a", 2)):
        record.metrics(stage, step, 9, {"x": 1.0}, now())
    assert [(r["stage"], r["step"]) for r in metric_rows(record.folder)] == [("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    reopened = Record(tmp_path / "run")
    reopened.metrics("a", 2, 9, {}, now())
    assert [(r["stage"], r["step"]) for r in metric_rows(record.folder)] == [("a", 1), ("b", 1), ("b", 2), ("a", 2)]


def test_rows_that_a_killed_run_did_not_write_come_back(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.metrics("a", 1, 4, {"x": 1.0}, "t1")
    earlier = [{"done": n, "total": 4, "metrics": {"x": n, "y": None}, "time": f"t{n}"} for n in (1, 2, 3)]
    resumed = Record(tmp_path / "run")
    resumed.history("a", earlier)
    resumed.metrics("a", 3, 4, {"x": 3.5}, "later")
    rows = [(row["step"], row["x"], row["time"]) for row in metric_rows(record.folder)]
    assert rows == [(1, 1, "t1"), (2, 2, "t2"), (3, 3.5, "later")]


def test_a_history_drops_the_steps_that_an_attempt_repeats(tmp_path: Path) -> None:
    first = History(tmp_path / "progress.jsonl")
    for step in (1, 2, 3):
        first.add({"done": step, "by": "first"})
    with (tmp_path / "progress.jsonl").open("a") as stream:
        stream.write('{"done": 4, "b')
    second = History(tmp_path / "progress.jsonl")
    assert [row["done"] for row in second.earlier] == [1, 2, 3]
    second.add({"done": 3, "by": "second"})
    second.add({"done": 3, "by": "second"})
    third = History(tmp_path / "progress.jsonl")
    assert [(row["done"], row["by"]) for row in third.earlier] == [
        *((1, "first"), (2, "first")),
        *((3, "second"), (3, "second")),
    ]


def test_a_history_whose_only_row_was_torn_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text('{"done": 1, "me')
    History(path).add({"done": 1})
    assert History(path).earlier == [{"done": 1}]


def test_a_torn_last_row_is_cut_off(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.metrics("a", 1, 2, {"x": 1.0}, now())
    with (record.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"stage": "a", "st')
    assert [row["step"] for row in metric_rows(record.folder)] == [1]
    Record(tmp_path / "run").metrics("a", 2, 2, {"x": 2.0}, now())
    assert [row["step"] for row in metric_rows(record.folder)] == [1, 2]


def test_names_of_files_are_safe_and_short(tmp_path: Path) -> None:
    assert file_name("a[seed=1,lr=0.1]") == "a[seed=1,lr=0.1]"
    names = [file_name(text) for text in ("a/b", "a_b", "a b", "../x", "é" * 300, "x" * 300, "x" * 301, "")]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= 100 and "/" not in name for name in names)
    where = Provenance("r", "s", "u", "k", {}, {}, "d", 1, [], "v", {}, {}, "t", "t")
    evidence = Evidence("n" * 300, "text/v1", {}, where, "0" * 64)
    Record(tmp_path / "run").evidence("s/" * 200, evidence)
    assert len(list((tmp_path / "run" / "evidence").iterdir())) == 1


# --- the machine's budget -------------------------------------------------------------------------


def spans(path: Path) -> list[tuple[float, float]]:
    """Begin and end of each process in a trace."""
    found: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        word, process, moment = line.split()
        found.setdefault(process, {})[word] = float(moment)
    return [(words["begin"], words["end"]) for words in found.values()]


def overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def test_independent_stages_overlap_and_exclusive_ones_run_alone(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    body = "stages:\n"
    for name, uses in (("a", "train"), ("b", "train"), ("x", "race"), ("y", "race")):
        given = f"data: words.txt, steps: 2, pause: 0.5, trace: {lab}/{name}"
        body += f"  {name}: {{uses: lab.{uses}, with: {{{given}}}, threads: 1}}\n"
    assert run_lab(write_recipe(lab, body), jobs=2).exit_code == 0
    a, b, x, y = (spans(lab / name)[0] for name in "abxy")
    assert overlap(a, b)
    for alone in (x, y):
        assert not any(overlap(alone, other) for other in (a, b, x, y) if other is not alone)


def test_one_job_runs_one_stage_at_a_time(lab: Path) -> None:
    (lab / "words.txt").write_text("words")
    stage = f"{{uses: lab.train, with: {{data: words.txt, trace: {lab}/all}}, matrix: {{seed: [1, 2, 3]}}}}"
    assert run_lab(write_recipe(lab, f"stages:\n  a: {stage}\n"), jobs=1).exit_code == 0
    found = sorted(spans(lab / "all"))
    assert len(found) == 3
    assert not any(overlap(one, other) for one, other in itertools.pairwise(found))
