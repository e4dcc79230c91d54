"""Probes: what is measured of the model's own answers, that it is right, and that training does not notice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hrmctl_training.probes as probes
import pytest
import torch
from hrmctl_finetune.params import FinetuneParams
from hrmctl_models.endings import Completion
from hrmctl_models.loading import load
from hrmctl_sandbox import ErrorClass, Isolation, SandboxUnavailable
from hrmctl_training.prepare import prepare
from hrmctl_training.probes import Probe, probes_of
from hrmctl_training.questions import Question, questions_of

from hrmctl import Cancelled, InputError
from hrmctl.testing import RecordingContext, make_context
from tests.plugins.finetune.helpers import ROWS, curve, train, write_rows

TASKS = [
    {
        **row,
        "task_id": f"tiny/{i}",
        "entry_point": "f",
        "prefix": row["prompt"],
        "tests": [f"assert f(7) == {eval(row['completion'].split('return')[1], {'n': 7})}"],
    }
    for i, row in enumerate(ROWS)
]
PARAMS = FinetuneParams(
    init="gpt2-micro", steps=4, batch=8, lr=6e-3, vocab_size=300, sample_interval=2, sample_problems=3, warmup=0.0
)
SAMPLES = ("sample_exact", "sample_syntax", "sample_compile", "sample_pass", "sample_tiered")


class Dictated(Probe):
    """A probe whose model says what the test dictates; everything after the model is the real thing."""

    answers: Sequence[str] = ()

    def measure(self, monkeypatch: pytest.MonkeyPatch, context: RecordingContext) -> dict[str, float]:
        said = [[Completion(text, (), "end")] for text in self.answers]
        monkeypatch.setattr(probes, "generate", lambda *_, **__: said)
        return dict(self.after_step(self.interval, 0.0, {}, context).metrics)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of 300 tokens, barely trained, with its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    result, _ = train(folder, replace(PARAMS, steps=1, sample_interval=None))
    return load(result.artifacts["model"].path, device="cpu", dtype="float32")


def questions(model: Any, path: Path, rows: Sequence[dict[str, Any]], **more: Any) -> list[Question]:
    artifact = write_rows(path / "rows.jsonl", rows)
    return questions_of(artifact, [], model.tokenizer, replace(PARAMS, **more))


def dictated(model: Any, asked: Sequence[Question], answers: Sequence[str], context: RecordingContext) -> Dictated:
    found = Dictated(model.model, model.tokenizer, asked, 1, context)
    found.answers = answers
    return found


# --- what is measured ---------------------------------------------------------------------------


def test_each_metric_is_the_share_of_answers_that_earn_it(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(model, tmp_path, TASKS, sample_problems=5)
    answers = [
        TASKS[0]["completion"],
        TASKS[1]["completion"].replace("n", "(n)", 2).replace("retur(n)", "return"),
        "    return n * 1000\n",
        "    return n +\n",
        "    raise ValueError\n",
    ]
    context = make_context(tmp_path)
    found = dictated(model, asked, answers, context).measure(monkeypatch, context)
    assert found == {
        "sample_exact": 1 / 5,
        "sample_syntax": 4 / 5,
        "sample_compile": 4 / 5,
        "sample_pass": 2 / 5,
        "sample_tiered": (4 + 4 + 3 + 0 + 2) / 20,
    }


def test_an_answer_goes_through_the_rules_of_eval_before_it_is_judged(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(model, tmp_path, TASKS, sample_problems=1)
    context = make_context(tmp_path)
    run_on = TASKS[0]["completion"] + "# subtract\ndef g(n)\n  oops"
    found = dictated(model, asked, [run_on], context).measure(monkeypatch, context)
    assert (found["sample_exact"], found["sample_pass"], found["sample_syntax"]) == (0, 1, 1)


def test_rows_of_code_without_tests_are_compiled_and_not_passed(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(model, tmp_path, ROWS, sample_problems=3)
    context = make_context(tmp_path)
    answers = ["    return 1\n", "    return 'é\n", "    break\n"]
    found = dictated(model, asked, answers, context).measure(monkeypatch, context)
    assert found == {"sample_exact": 0, "sample_syntax": 2 / 3, "sample_compile": 1 / 3}


@pytest.mark.parametrize("words", [("capital of France?", "Paris"), ("Say: ", "x: y"), ("add 2 and 2", "4")])
def test_of_rows_that_are_no_code_only_exactness_is_measured(
    model: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    words: tuple[str, str],
) -> None:
    caplog.set_level(logging.INFO)
    rows = [*ROWS[:2], {"prompt": words[0], "completion": words[1]}]
    context = make_context(tmp_path)
    found = dictated(
        model, questions(model, tmp_path, rows), [f"{ROWS[0]['completion']} ", ROWS[1]["completion"], words[1]], context
    )
    assert found.measure(monkeypatch, context) == {"sample_exact": 2 / 3}
    assert "only sample_exact is measured" in caplog.text


def test_the_published_shapes_bring_their_tests(model: Any, tmp_path: Path) -> None:
    mbpp = {"task_id": 7, "text": "Add one.", "code": "def g(x):\n  return x + 1\n", "test_list": ["assert g(1) == 2"]}
    mbpp |= {"test_setup_code": "", "challenge_test_list": []}
    human = {"task_id": "HumanEval/0", "prompt": "def f(a):\n", "entry_point": "f"}
    human |= {"canonical_solution": "    return a\n", "test": "def check(f):\n    assert f(1) == 1\n"}
    for row, test in ((mbpp, "assert g(1) == 2"), (human, human["test"])):
        (asked,) = questions(model, tmp_path, [row])
        assert asked.task is not None
        assert test in asked.task.tests[0]


def test_tests_that_a_program_could_forge_or_that_need_packages_are_not_run(model: Any, tmp_path: Path) -> None:
    rows = [{**TASKS[0], "shared": True}, {**TASKS[1], "meta": {"packages": ["numpy"]}}, TASKS[2]]
    assert [asked.task is not None for asked in questions(model, tmp_path, rows)] == [False, False, True]


def test_rows_that_the_model_has_no_room_for_are_not_asked(model: Any, tmp_path: Path) -> None:
    long = {"prompt": "# " + "long " * 600, "completion": "x = 1\n"}
    assert [a.reference for a in questions(model, tmp_path, [long, *ROWS])] == [r["completion"] for r in ROWS[:3]]


# --- the sandbox --------------------------------------------------------------------------------


def test_where_programs_cannot_be_contained_none_is_run_and_the_log_says_so(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probes, "probe", lambda: Isolation("unavailable", (), ("seccomp",), "run on Linux"))
    monkeypatch.setattr(probes, "judge", lambda *_, **__: pytest.fail("a program was run"))
    context = make_context(tmp_path)
    found = dictated(model, questions(model, tmp_path, TASKS), [row["completion"] for row in ROWS[:3]], context)
    assert found.measure(monkeypatch, context) == {"sample_exact": 1, "sample_syntax": 1}
    assert "cannot contain programs here (unavailable; run on Linux)" in caplog.text


def test_a_sandbox_that_is_lost_ends_the_judging_and_not_the_training(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: Any, **__: Any) -> Any:
        raise SandboxUnavailable("no more processes")

    context = make_context(tmp_path)
    found = dictated(model, questions(model, tmp_path, TASKS), [row["completion"] for row in ROWS[:3]], context)
    monkeypatch.setattr(probes, "judge", lost)
    for _ in range(2):
        assert found.measure(monkeypatch, context) == {"sample_exact": 1, "sample_syntax": 1}
    assert caplog.text.count("no more processes; samples are no longer compiled nor run") == 1


def test_an_endless_loop_is_ended_and_counts_as_compiled(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(tmp_path)
    monkeypatch.setattr(probes, "_LIMITS", probes.Limits(cpu_seconds=0.2, wall_seconds=5))
    found = dictated(model, questions(model, tmp_path, TASKS, sample_problems=1), ["    while n: pass\n"], context)
    assert found._judged([TASKS[0]["prefix"] + found.answers[0]], 1) == [ErrorClass.TIMEOUT]
    assert found.measure(monkeypatch, context)["sample_compile"] == 1


# --- in a training ------------------------------------------------------------------------------


def same(a: Path, b: Path) -> bool:
    one, two = (torch.load(path, weights_only=True)["model"] for path in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def checkpoint(folder: Path) -> Path:
    return make_context(folder).scratch / "checkpoint.pt"


@pytest.mark.parametrize("architecture", [pytest.param("hrm-tiny", marks=pytest.mark.slow), "gpt2-micro"])
def test_probed_and_not_probed_trainings_end_with_the_same_weights(tmp_path: Path, architecture: str) -> None:
    params = replace(PARAMS, init=architecture, ema=0.9, dropout=0.1)
    validation = write_rows(tmp_path / "validation.jsonl", TASKS)
    result, context = train(tmp_path / "probed", params, validation=validation)
    plain, _ = train(tmp_path / "plain", replace(params, sample_interval=None), validation=validation)
    assert same(checkpoint(tmp_path / "probed"), checkpoint(tmp_path / "plain"))
    assert curve(result, "loss") == curve(plain, "loss")
    assert [step for step, _, metrics in context.rows if "sample_exact" in metrics] == [2, 4]
    for name in SAMPLES:
        assert len(curve(result, name)) == 2
        assert all(0 <= value <= 1 for value in curve(result, name))


def test_a_model_that_has_learned_its_rows_answers_them(tmp_path: Path) -> None:
    validation = write_rows(tmp_path / "validation.jsonl", TASKS[:3])
    params = replace(PARAMS, steps=40, sample_interval=40)
    result, _ = train(
        tmp_path / "run", params, data=write_rows(tmp_path / "data.jsonl", ROWS[:3]), validation=validation
    )
    for name in SAMPLES:
        assert curve(result, name)[-1] == 1.0


class _Stopping(RecordingContext):
    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == 3:
            raise Cancelled


def test_an_interrupted_probed_run_goes_on_to_the_same_weights_and_probes(tmp_path: Path) -> None:
    validation = write_rows(tmp_path / "validation.jsonl", TASKS)
    whole, _ = train(tmp_path / "whole", PARAMS, validation=validation)
    with pytest.raises(Cancelled):
        train(tmp_path / "cut", PARAMS, _Stopping(make_context(tmp_path / "cut").scratch), validation=validation)
    resumed, _ = train(tmp_path / "cut", PARAMS, validation=validation)
    assert same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "cut"))
    for name in SAMPLES:
        assert curve(whole, name) == curve(resumed, name)


def test_the_rows_that_are_probed_are_those_held_out(model: Any, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data.jsonl", TASKS)
    params = replace(PARAMS, validation_split=0.4, sample_problems=100)
    prepared = prepare([data], None, model.tokenizer, params, make_context(tmp_path))
    held = [TASKS[example.line - 1]["prompt"] for example in prepared.validation]
    assert 0 < len(held) < len(TASKS)
    assert [asked.prompt for asked in questions_of(None, [data], model.tokenizer, params)] == held


def test_without_validation_rows_a_probe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sample_interval probes validation rows.*set validation_split"):
        train(tmp_path, PARAMS)


def test_a_model_that_answers_in_place_is_not_asked_to_write(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    context = make_context(tmp_path)
    model.model.config.causal = False
    try:
        assert probes_of(model.model, model.tokenizer, [rows], rows, PARAMS, context) == []
    finally:
        del model.model.config.causal
    assert "answers in place and writes no text" in caplog.text
