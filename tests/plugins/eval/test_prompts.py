"""From problems to prompts: what each strategy gives the model, to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_eval.params import EvalParams
from hrmctl_eval.problems import read_problems
from hrmctl_eval.prompts import Prompting, prompting
from hrmctl_models.generate import encode_prompts
from hrmctl_sandbox.formats import checked

from hrmctl import Artifact, InputError, StageError
from hrmctl.testing import make_artifact
from tests.plugins.eval.chat import chatml, inst
from tests.plugins.eval.helpers import PROBLEMS, dataset


def _mbpp(number: int, **changes: Any) -> dict[str, Any]:
    """A row in MBPP's shape: add `number`."""
    tests = [f"assert add_{number}({n}) == {n + number}" for n in range(4)]
    row = {
        "task_id": f"mbpp/{number}",
        "text": f"Write a function to add {number}.",
        "prompt": f'"""\nWrite a function to add {number}.\n{tests[0]}\n"""\n',
        "completion": f"def add_{number}(n):\n    return n + {number}\n",
        "entry_point": f"add_{number}",
        "tests": tests,
    }
    return row | changes


ROWS = [_mbpp(number) for number in range(1, 7)]
MICRO = checked(PROBLEMS[0])


def _made(folder: Path, evaluated: list[dict[str, Any]] = ROWS[3:], **params: Any) -> Prompting:
    shown = dataset(folder / "shown.jsonl", ROWS[:3], "mbpp@prompt")
    chosen = EvalParams(strategy="few-shot", **params)
    return prompting(chosen, None, shown, [[checked(row) for row in evaluated]])


@pytest.mark.parametrize("row", [PROBLEMS[0], ROWS[0]])
def test_standard_is_the_prompt_itself(row: dict[str, Any]) -> None:
    made = prompting(EvalParams(), None, None, [[checked(row)]])
    assert made.prompt(checked(row)) == row["prompt"]
    assert made.stop([checked(row)]) == ()
    assert made.continues
    assert made.settings() == {"strategy": "standard", "chat": False}


def test_few_shot_in_the_shape_of_mbpp_is_that_of_the_paper(tmp_path: Path) -> None:
    made = _made(tmp_path, shots=2)
    assert made.prompt(checked(ROWS[4])) == (
        "You are an expert Python programmer, and here is your task: Write a function to add 1. "
        "Your code should pass these tests:\n\n"
        "assert add_1(0) == 1\nassert add_1(1) == 2\nassert add_1(2) == 3\n"
        "[BEGIN]\ndef add_1(n):\n    return n + 1\n[DONE]\n\n"
        "You are an expert Python programmer, and here is your task: Write a function to add 2. "
        "Your code should pass these tests:\n\n"
        "assert add_2(0) == 2\nassert add_2(1) == 3\nassert add_2(2) == 4\n"
        "[BEGIN]\ndef add_2(n):\n    return n + 2\n[DONE]\n\n"
        "You are an expert Python programmer, and here is your task: Write a function to add 5. "
        "Your code should pass these tests:\n\n"
        "assert add_5(0) == 5\nassert add_5(1) == 6\nassert add_5(2) == 7\n"
        "[BEGIN]\n"
    )
    assert made.stop([checked(ROWS[4])]) == ("[DONE]",)


def test_few_shot_of_code_to_continue_puts_solved_problems_before_it() -> None:
    made = Prompting("few-shot", (checked(PROBLEMS[1]), checked(PROBLEMS[2])))
    assert made.prompt(MICRO) == (
        "# subtract 2\ndef f(n):\n    return n - 2\n\n\n"
        "# multiply by 2\ndef f(n):\n    return n * 2\n\n\n"
        "# add 2\ndef f(n):\n"
    )
    assert made.stop([MICRO]) == ()


def test_a_test_that_is_no_assert_is_not_shown(tmp_path: Path) -> None:
    """MBPP+ has one great test; the model sees the assert that its prompt shows."""
    plus = checked(_mbpp(9, tests=["inputs = [[1], [2]]\nfor i in inputs:\n    assert add_9(*i) == i[0] + 9\n"]))
    prompt = _made(tmp_path).prompt(plus)
    assert prompt.endswith("Your code should pass these tests:\n\nassert add_9(0) == 9\n[BEGIN]\n")
    assert "inputs" not in prompt


def test_exemplars_can_be_named(tmp_path: Path) -> None:
    made = _made(tmp_path, shots=2, exemplar_ids=("mbpp/3", "mbpp/1"))
    assert [task.task_id for task in made.exemplars] == ["mbpp/3", "mbpp/1"]
    settings = made.settings()
    assert settings["shots"] == 2
    assert settings["exemplars"]["task_ids"] == ["mbpp/3", "mbpp/1"]
    assert settings["exemplars"]["dataset"] == "mbpp@prompt"
    assert len(settings["exemplars"]["digest"]) == 64


@pytest.mark.parametrize(
    ("evaluated", "params", "said"),
    [
        ([*ROWS[3:], ROWS[1]], {}, r"mbpp/2 is among the evaluated problems \(mbpp/2\)"),
        ([*ROWS[3:], ROWS[1] | {"task_id": "Mbpp/2"}], {}, r"among the evaluated problems \(Mbpp/2\)"),
        ([*ROWS[3:], ROWS[1] | {"task_id": "other/7"}], {}, r"among the evaluated problems \(other/7\)"),
        (
            [
                *ROWS[3:],
                ROWS[1] | {"task_id": "a", "completion": "c", "prompt": ROWS[1]["prompt"].replace(" ", "\n\t")},
            ],
            {},
            r"among the evaluated problems \(a\)",
        ),
        (
            [*ROWS[3:], ROWS[1] | {"task_id": "b", "prompt": "# x", "completion": f"\n{ROWS[1]['completion']}  "}],
            {},
            r"among the evaluated problems \(b\)",
        ),
        (ROWS[3:], {"shots": 4}, "holds 3 problems, shots is 4"),
        (ROWS[3:], {"shots": 1, "exemplar_ids": ("mbpp/8",)}, "has no problem mbpp/8"),
    ],
)
def test_exemplars_that_leak_or_lack_are_refused(
    evaluated: list[dict[str, Any]], params: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        _made(tmp_path, evaluated, **params)


def test_an_evaluated_problem_that_is_not_shown_does_no_harm(tmp_path: Path) -> None:
    assert len(_made(tmp_path, [*ROWS[3:], ROWS[2]], shots=2).exemplars) == 2


def test_few_shot_needs_exemplars_with_references_and_only_few_shot_takes_them(tmp_path: Path) -> None:
    empty = dataset(tmp_path / "empty.jsonl", [_mbpp(7, completion="")], "e@test")
    tasks = [[checked(ROWS[3])]]
    with pytest.raises(InputError, match="has no exemplars"):
        prompting(EvalParams(strategy="few-shot"), None, None, tasks)
    with pytest.raises(InputError, match="mbpp/7 of e@test has no reference"):
        prompting(EvalParams(strategy="few-shot", shots=1), None, empty, tasks)
    with pytest.raises(InputError, match="shows no exemplars"):
        prompting(EvalParams(), None, empty, tasks)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"source": "references", "strategy": "chain-of-thought"}, "references are given no prompt"),
        ({"source": "references", "chat": "yes"}, "references are given no prompt"),
        ({"exemplar_ids": ("a",)}, "they are for few-shot"),
        ({"strategy": "few-shot", "shots": 3, "exemplar_ids": ("a", "b")}, "as many as shots"),
        ({"strategy": "few-shot", "shots": 2, "exemplar_ids": ("a", "a")}, "twice"),
    ],
)
def test_parameters_of_prompts_that_do_not_fit_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EvalParams(**wrong)


# --- instructions and chat templates -------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "cue"), [("chain-of-thought", "Reasoning:\n"), ("code-oriented", "Answer:\n")])
def test_an_instruction_without_a_template_is_plain_text(strategy: str, cue: str) -> None:
    made = Prompting(strategy)
    prompt = made.prompt(MICRO)
    assert prompt.endswith(f"Task:\n\n```python\n# add 2\ndef f(n):\n```\n\n{cue}")
    assert "the whole of `f`" in prompt
    assert not made.continues


def test_structured_reasoning_is_asked_for_before_the_code() -> None:
    words = ["Input:", "Output:", "sequence", "branch", "loop", "Then the code", "Task:"]
    prompt = Prompting("chain-of-thought").prompt(MICRO)
    assert sorted(words, key=prompt.index) == [
        "sequence",
        "branch",
        "loop",
        "Input:",
        "Output:",
        "Then the code",
        "Task:",
    ]


def test_a_script_is_asked_for_as_a_script() -> None:
    row = {**_mbpp(1), "entry_point": "", "cases": [{"stdin": "1\n", "stdout": "2\n"}]}
    del row["tests"]
    assert "reads standard input" in Prompting("code-oriented").prompt(checked(row))


def _model(folder: Path, tokenizer: Any) -> Artifact:
    tokenizer.save_pretrained(folder)
    return make_artifact(folder, "model", "chatty")


def test_chatml_puts_the_instruction_into_the_users_message(tmp_path: Path) -> None:
    texts = [row["prompt"] for row in PROBLEMS]
    model = _model(tmp_path, chatml(texts))
    made = prompting(EvalParams(strategy="code-oriented"), model, None, [[MICRO]])
    prompt = made.prompt(MICRO)
    head = "<|im_start|>system\nYou answer briefly.<|im_end|>\n<|im_start|>user\nSolve the task below."
    assert prompt.startswith(head)
    assert prompt.endswith("# add 2\ndef f(n):\n```\n<|im_end|>\n<|im_start|>assistant\n")
    assert made.settings() == {"strategy": "code-oriented", "chat": True}
    [ids] = encode_prompts(made.tokenizer, [prompt])
    marks = made.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert [ids.count(mark) for mark in marks] == [3, 2]


def test_a_begin_token_of_the_template_is_not_doubled(tmp_path: Path) -> None:
    model = _model(tmp_path, inst([row["prompt"] for row in PROBLEMS]))
    made = prompting(EvalParams(chat="yes"), model, None, [[MICRO]])
    assert made.prompt(MICRO) == "[INST] # add 2\ndef f(n):\n [/INST]"
    [ids] = encode_prompts(made.tokenizer, [made.prompt(MICRO)])
    assert ids.count(made.tokenizer.bos_token_id) == 1
    assert not made.continues


@pytest.mark.parametrize(
    ("params", "chat"),
    [
        ({}, False),
        ({"chat": "yes"}, True),
        ({"strategy": "chain-of-thought"}, True),
        ({"strategy": "chain-of-thought", "chat": "no"}, False),
    ],
)
def test_when_a_template_is_used(params: dict[str, Any], chat: bool, tmp_path: Path) -> None:
    model = _model(tmp_path, chatml([row["prompt"] for row in PROBLEMS]))
    assert prompting(EvalParams(**params), model, None, [[MICRO]]).settings()["chat"] is chat


def test_a_template_that_is_asked_for_must_be_there_and_work(tmp_path: Path) -> None:
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] for row in PROBLEMS], 290)
    plain = _model(tmp_path / "plain", tokenizer)
    with pytest.raises(InputError, match="chatty has no chat template; set chat to auto or no"):
        prompting(EvalParams(chat="yes"), plain, None, [[MICRO]])
    assert not prompting(EvalParams(strategy="code-oriented"), plain, None, [[MICRO]]).settings()["chat"]
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    broken = _model(tmp_path / "broken", tokenizer)
    with pytest.raises(StageError, match=r"roles must alternate.*set chat to no"):
        prompting(EvalParams(chat="yes"), broken, None, [[MICRO]]).prompt(MICRO)


def test_a_date_in_a_template_does_not_move(tmp_path: Path) -> None:
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] for row in PROBLEMS], 290)
    tokenizer.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today: {{ date_string }} {{ messages[0]['content'] }}"
    )
    made = prompting(EvalParams(chat="yes"), _model(tmp_path, tokenizer), None, [[MICRO]])
    assert made.prompt(MICRO).startswith("Today: 26 Jul 2024 # add 2")


def test_a_template_can_reach_nothing(tmp_path: Path) -> None:
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] for row in PROBLEMS], 290)
    tokenizer.chat_template = "{{ messages.__class__.__base__.__subclasses__() }}"
    hostile = _model(tmp_path, tokenizer)
    with pytest.raises(StageError, match="chat template fails"):
        prompting(EvalParams(chat="yes"), hostile, None, [[MICRO]]).prompt(MICRO)


def test_the_three_shots_of_the_paper_on_real_mbpp(shared_data: Path, tmp_path: Path) -> None:
    from hrmctl_data.benchmarks import mbpp

    splits = mbpp(shared_data / "mbpp.jsonl")
    shown = dataset(tmp_path / "prompt.jsonl", splits["prompt"], "mbpp@prompt")
    test = dataset(tmp_path / "test.jsonl", splits["test"], "mbpp@test")
    params = EvalParams(strategy="few-shot", exemplar_ids=("mbpp/2", "mbpp/3", "mbpp/4"))
    problems = read_problems(test.path)
    made = prompting(params, None, shown, [problems])
    for problem in problems:
        prompt = made.prompt(problem)
        assert prompt.count("[BEGIN]") == 4
        assert prompt.count("[DONE]") == 3
        assert prompt.endswith("\n[BEGIN]\n")
        assert problem.completion not in prompt
        assert all(test.strip() in prompt for test in problem.tests[:3]), problem.task_id
    assert "def similar_elements" in prompt
    assert made.stop(problems) == ("[DONE]",)
