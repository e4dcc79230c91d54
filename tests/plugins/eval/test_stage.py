"""The stage as a whole, on a model that was really trained and a sandbox that really runs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_eval import hrmctl_stages, judging
from hrmctl_eval.params import EvalParams
from hrmctl_eval.stage import run
from hrmctl_models.loading import load_tokenizer
from hrmctl_sandbox import SandboxUnavailable

from hrmctl import Cancelled, InputError, StageError, StageResult
from hrmctl.contract.payload import fault
from hrmctl.schema import fields_of
from hrmctl.testing import RecordingContext, make_artifact, make_context
from tests.plugins.eval.helpers import (
    PROBLEMS,
    TAUGHT,
    dataset,
    evaluate,
    observed,
    rows_of,
    trained_model,
    without_times,
)

SAMPLED = EvalParams(samples=4, k=(1, 4), temperature=1.6, max_new_tokens=24, batch_size=8)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, RecordingContext]:
    return evaluate(tmp_path_factory.mktemp("sampled"), SAMPLED)


def test_a_model_that_knows_the_answers_passes(tmp_path: Path) -> None:
    result, _ = evaluate(tmp_path, EvalParams(temperature=0, max_new_tokens=24), TAUGHT)
    payload = observed(result)["samples"].payload
    assert [problem["c"] for problem in payload["problems"]] == [1] * len(TAUGHT)
    assert [row["text"] for row in rows_of(result)] == [problem["completion"] for problem in TAUGHT]
    assert observed(result)["perplexity"].payload["value"] == pytest.approx(1, abs=0.1)


def test_the_evidence_adds_up(sampled: tuple[StageResult, RecordingContext]) -> None:
    result, _ = sampled
    found = observed(result)
    for observation in result.evidence:
        assert fault(observation.type, observation.payload) == ""
        assert set(observation.about) == {"model", "dataset"}
    payload, rows = found["samples"].payload, rows_of(result)
    assert (payload["n"], payload["k"], payload["limit"], payload["seed"]) == (4, [1, 4], 0, 7)
    assert [problem["id"] for problem in payload["problems"]] == [problem["task_id"] for problem in PROBLEMS]
    assert len(rows) == 4 * len(PROBLEMS)
    for problem in payload["problems"]:
        own = [row for row in rows if row["task_id"] == problem["id"]]
        assert [row["index"] for row in own] == [0, 1, 2, 3]
        assert [row["outcome"] for row in own] == problem["outcomes"]
        assert [hashlib.sha256(row["text"].encode()).hexdigest() for row in own] == problem["completions"]
        assert sum(row["outcome"] == "passed" for row in own) == problem["c"]
    assert {row["mode"] for row in rows} == {payload["mode"]}
    assert found["tokens_generated"].payload["value"] == sum(row["tokens"] for row in rows)
    assert found["tokens_generated"].payload["n"] == found["syntax_rate"].payload["n"] == len(rows)
    assert found["generate_seconds"].payload["value"] > 0
    assert found["judge_seconds"].payload["value"] > 0
    assert found["perplexity"].payload["n"] == found["exact_accuracy"].payload["n"] == len(PROBLEMS)
    assert len(TAUGHT) / len(PROBLEMS) <= found["exact_accuracy"].payload["value"] < 1
    assert found["exact_accuracy"].payload["value"] < found["token_accuracy"].payload["value"] < 1
    example = found["example"].payload
    assert (example["prompt"], example["completion"]) == (PROBLEMS[0]["prompt"], rows[0]["text"])
    assert example["parts"]["outcome"] == rows[0]["outcome"]
    assert result.artifacts["samples"].label == "hrm-tiny/tiny@test"


def test_outcomes_are_those_of_a_plain_interpreter(sampled: tuple[StageResult, RecordingContext]) -> None:
    tests = {problem["task_id"]: problem["tests"] for problem in PROBLEMS}
    rows = rows_of(sampled[0])
    for row in rows:
        try:
            exec("\n".join([row["solution"], *tests[row["task_id"]]]), {})
            passed = True
        except Exception:
            passed = False
        assert (row["outcome"] == "passed") == passed, row
    assert {True, False} == {row["outcome"] == "passed" for row in rows}


def test_syntax_rate_is_the_share_of_programs_that_compile_reads(sampled: tuple[StageResult, RecordingContext]) -> None:
    def reads(program: str) -> bool:
        try:
            compile(program, "program", "exec", 0x400)
        except (SyntaxError, ValueError):
            return False
        return True

    rows = rows_of(sampled[0])
    share = sum(reads(row["solution"]) for row in rows) / len(rows)
    assert observed(sampled[0])["syntax_rate"].payload["value"] == pytest.approx(share)
    assert 0 < share < 1


def test_progress_ends_with_everything_judged_and_the_pass_rate(sampled: tuple[StageResult, RecordingContext]) -> None:
    result, context = sampled
    total = 4 * len(PROBLEMS)
    passed = sum(problem["c"] for problem in observed(result)["samples"].payload["problems"])
    done, of, metrics = context.rows[-1]
    assert (done, of) == (total, total)
    assert metrics["pass_rate"] == pytest.approx(passed / total)
    assert [row[0] for row in context.rows] == sorted(row[0] for row in context.rows)


# --- continuing ------------------------------------------------------------------------------------


class _Stopped(RecordingContext):
    """A context that is cancelled once so many samples are judged, or tokens generated."""

    judged: int = 10**9
    tokens: int = 10**9

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done >= self.judged or metrics["tokens"] >= self.tokens:
            raise Cancelled


def _stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, **when: int) -> None:
    monkeypatch.setattr("hrmctl_eval.stage._REPORT_SECONDS", 0)
    context = _Stopped(scratch=make_context(folder).scratch)
    for name, value in when.items():
        setattr(context, name, value)
    with pytest.raises(Cancelled):
        evaluate(folder, SAMPLED, context=context)
    monkeypatch.undo()


def _asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    import hrmctl_models.generate as engine

    asked: list[str] = []
    real = engine.iter_generate

    def noted(loaded: Any, prompts: list[str], **settings: Any) -> Iterator[Any]:
        asked.extend(prompts)
        return real(loaded, prompts, **settings)

    monkeypatch.setattr(engine, "iter_generate", noted)
    return asked


@pytest.mark.parametrize("when", [{"tokens": 1}, {"tokens": 250}, {"judged": 20}])
def test_a_stopped_attempt_is_continued_to_the_same_result(
    when: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled: tuple[StageResult, RecordingContext]
) -> None:
    _stopped(tmp_path, monkeypatch, **when)
    generated = (tmp_path / "scratch/task-0/generated.jsonl").read_text().splitlines()
    judged = (tmp_path / "scratch/task-0/judged.jsonl").read_text().splitlines()
    asked = _asked(monkeypatch)
    result, _ = evaluate(tmp_path, SAMPLED)
    assert without_times(rows_of(result)) == without_times(rows_of(sampled[0]))
    assert observed(result)["samples"].payload == observed(sampled[0])["samples"].payload
    assert len(asked) == len(PROBLEMS) - len(generated)
    assert (tmp_path / "scratch/task-0/generated.jsonl").read_text().splitlines()[: len(generated)] == generated
    assert (tmp_path / "scratch/task-0/judged.jsonl").read_text().splitlines()[: len(judged)] == judged


def test_a_torn_line_costs_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled: tuple[StageResult, RecordingContext]
) -> None:
    _stopped(tmp_path, monkeypatch, judged=4 * len(PROBLEMS))
    path = tmp_path / "scratch/task-0/generated.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    asked = _asked(monkeypatch)
    result, _ = evaluate(tmp_path, SAMPLED)
    assert len(asked) == 1
    assert without_times(rows_of(result)) == without_times(rows_of(sampled[0]))


def test_outcomes_are_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stopped(tmp_path, monkeypatch, judged=4 * len(PROBLEMS))
    submitted: list[Any] = []
    monkeypatch.setattr(judging.Bench, "submit", lambda self, sample: submitted.append(sample))
    evaluate(tmp_path, SAMPLED)
    assert submitted == []


# --- references, limits, several tasks ----------------------------------------------------------------


def test_references_are_judged_as_they_are(tmp_path: Path) -> None:
    broken = {**PROBLEMS[1], "task_id": "tiny/broken", "completion": "    return n\nprint(\n"}
    wrong = {**PROBLEMS[2], "task_id": "tiny/wrong", "completion": "    return n + 100\n"}
    result, _ = evaluate(tmp_path, EvalParams(source="references"), [*PROBLEMS, broken, wrong])
    found = observed(result)
    outcomes = {problem["id"]: problem["outcomes"][0] for problem in found["samples"].payload["problems"]}
    assert outcomes.pop("tiny/broken") == "syntax"
    assert outcomes.pop("tiny/wrong") == "wrong_answer"
    assert set(outcomes.values()) == {"passed"}
    judged = {"syntax_rate", "compile_rate", "solved", "tiered_accuracy", "judge_seconds"}
    assert set(found) == {"samples", "example", *judged}
    assert all(set(observation.about) == {"dataset"} for observation in result.evidence)
    assert "temperature" not in found["samples"].payload
    assert all(fault(o.type, o.payload) == "" for o in result.evidence)
    assert result.artifacts["samples"].label == "references/tiny@test"


def test_a_completion_cannot_replace_what_the_prefix_gives_the_tests(tmp_path: Path) -> None:
    prefix = 'def helper(x):\n    return x + 1\n\n\ndef f(x):\n    """ Add one. """\n'
    given = {"prompt": prefix, "prefix": prefix, "tests": ["assert helper(f(1)) == 3"]}
    honest = {**PROBLEMS[0], **given, "task_id": "honest", "completion": "    return helper(x)\n"}
    forged = "    global helper\n    helper = lambda x: 3\n    return 0\n"
    forging = {**PROBLEMS[0], **given, "task_id": "forging", "completion": forged}
    result, _ = evaluate(tmp_path, EvalParams(source="references"), [honest, forging])
    payload = observed(result)["samples"].payload
    assert [problem["outcomes"] for problem in payload["problems"]] == [["passed"], ["wrong_answer"]]
    assert payload["forgeable"] == 0


def test_a_limit_is_recorded_and_the_label_does_not_claim_the_whole(tmp_path: Path) -> None:
    result, context = evaluate(tmp_path, EvalParams(source="references", limit=5))
    payload = observed(result)["samples"].payload
    assert (len(payload["problems"]), payload["limit"], payload["dataset_problems"]) == (5, 5, len(PROBLEMS))
    assert result.artifacts["samples"].label == "references/tiny@test[:5]"
    assert context.rows[-1][:2] == (5, 5)
    more, _ = evaluate(tmp_path / "more", EvalParams(source="references", limit=99))
    assert observed(more)["samples"].payload["limit"] == 0
    assert more.artifacts["samples"].label == "references/tiny@test"


def test_each_task_has_its_own_evidence(tmp_path: Path) -> None:
    first = dataset(tmp_path / "a.jsonl", PROBLEMS[:4], "a@test")
    second = dataset(tmp_path / "b.jsonl", PROBLEMS[:6], "b@test")
    result = run(EvalParams(source="references"), {"tasks": (first, second)}, make_context(tmp_path))
    sizes = {o.about["dataset"].label: len(o.payload["problems"]) for o in result.evidence if o.name == "samples"}
    assert sizes == {"a@test": 4, "b@test": 6}
    assert [row["task"] for row in rows_of(result)] == ["a@test"] * 4 + ["b@test"] * 6


def test_a_prompt_that_fills_the_window_is_refused_and_counts_as_not_passed(tmp_path: Path) -> None:
    long = {**PROBLEMS[0], "task_id": "tiny/long", "prompt": "# " + "word " * 3000 + "\ndef f(n):\n"}
    tokenizer = load_tokenizer(trained_model(tmp_path / "hrm").path)
    model = hrmctl_models.build("gpt2-micro", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1)
    hrmctl_models.save(model, tokenizer, tmp_path / "gpt2")
    inputs = {
        "model": make_artifact(tmp_path / "gpt2", "model", "gpt2-micro"),
        "tasks": (dataset(tmp_path / "t.jsonl", [long, *PROBLEMS[:2]]),),
    }
    result = run(EvalParams(samples=2, max_new_tokens=4), inputs, make_context(tmp_path))
    payload = observed(result)["samples"].payload
    assert payload["problems"][0]["outcomes"] == ["refused", "refused"]
    assert payload["problems"][0]["c"] == 0
    assert payload["refused"] == 2
    assert observed(result)["perplexity"].payload["n"] == 2


# --- what is wrong is said ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": 5, "k": (1, 10)}, "pass@10 needs 10 samples"),
        ({"k": (0,)}, "each k is at least 1"),
        ({"source": "references", "samples": 2}, "one sample a problem"),
        ({"stop": ("",)}, "empty stop text"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EvalParams(**wrong)


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    task = dataset(tmp_path / "t.jsonl")
    context = make_context(tmp_path)
    with pytest.raises(InputError, match="has no model"):
        run(EvalParams(), {"tasks": (task,)}, context)
    with pytest.raises(InputError, match="not a model's"):
        run(EvalParams(source="references"), {"tasks": (task,), "model": task}, context)
    with pytest.raises(InputError, match="no task"):
        run(EvalParams(source="references"), {"tasks": ()}, context)
    with pytest.raises(InputError, match="twice"):
        run(EvalParams(source="references"), {"tasks": (task, task)}, context)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"{}", "no field 'task_id'"),
        (json.dumps({**PROBLEMS[0], "prefix": 3}).encode(), "'prefix' is not text"),
        (json.dumps({**PROBLEMS[0], "tests": []}).encode(), "'tests' is not a list of at least one"),
        (json.dumps({**PROBLEMS[0], "tests": [1]}).encode(), "'tests' is not a list"),
        (json.dumps(PROBLEMS[3]).encode(), "repeats line 1"),
    ],
)
def test_unusable_rows_are_named_by_file_and_line(line: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    good = json.dumps(PROBLEMS[3]).encode()
    path.write_bytes(good + b"\n" + line + b"\n")
    with pytest.raises(StageError, match=f"t.jsonl:2:1: .*{said}"):
        run(
            EvalParams(source="references"),
            {"tasks": (make_artifact(path, "dataset", "t@test"),)},
            make_context(tmp_path),
        )


def test_an_empty_problem_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no problem"):
        evaluate(tmp_path, EvalParams(source="references"), [])


def test_a_machine_that_cannot_contain_programs_fails_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*args: Any, **kwargs: Any) -> Iterator[Any]:
        raise SandboxUnavailable("programs cannot be contained here (missing: seccomp)")
        yield

    monkeypatch.setattr(judging, "judge", unavailable)
    with pytest.raises(StageError, match=r"missing: seccomp.*allow_unsafe"):
        evaluate(tmp_path, EvalParams(source="references"))


def test_a_failure_of_the_judge_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(problems: Any, samples: Iterator[Any], **kwargs: Any) -> Iterator[Any]:
        next(samples)
        raise RuntimeError("the judge broke")
        yield

    monkeypatch.setattr(judging, "judge", failing)
    with pytest.raises(RuntimeError, match="the judge broke"):
        evaluate(tmp_path, EvalParams(source="references"))


def test_a_lost_outcome_is_an_error_not_a_smaller_n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = judging.judge

    def losing(problems: Any, samples: Iterator[Any], **kwargs: Any) -> Iterator[Any]:
        for number, outcome in enumerate(real(problems, samples, **kwargs)):
            if number != 3:
                yield outcome

    monkeypatch.setattr(judging, "judge", losing)
    with pytest.raises(StageError, match="1 of 12 samples came back without an outcome"):
        evaluate(tmp_path, EvalParams(source="references"))


def test_no_reference_that_fits_leaves_perplexity_unmeasured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{**row, "completion": ""} for row in PROBLEMS[:2]]
    with caplog.at_level(logging.WARNING):
        result, _ = evaluate(tmp_path, EvalParams(max_new_tokens=4), rows)
    assert "perplexity" not in observed(result)
    assert "perplexity is not measured" in caplog.text


def test_the_plugin_declares_the_stage_and_documents_every_field() -> None:
    found = {stage.name: stage for stage in hrmctl_stages()}
    targets = {
        "eval": "hrmctl_eval.stage:run",
        "eval-puzzles": "hrmctl_eval.puzzles:run",
        "eval-perplexity": "hrmctl_eval.perplexity:run",
        "eval-transformers": "hrmctl_eval.stage:run_transformers",
    }
    assert {name: stage.target for name, stage in found.items()} == targets
    assert all(field.doc for stage in found.values() for field in fields_of(stage.params))
    spec = found["eval"]
    assert spec.inputs["tasks"].many
    assert not spec.inputs["model"].required
