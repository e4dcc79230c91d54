"""The stage `eval`: for each task generate, judge, measure; then one file of samples and the evidence."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrmctl import Artifact, Context, InputError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl_eval.engines import Engine
from hrmctl_eval.evaluate import Task, evaluate
from hrmctl_eval.evidence import observations
from hrmctl_eval.measurements import of_references
from hrmctl_eval.params import EvalParams, TransformersParams
from hrmctl_eval.problems import read_problems
from hrmctl_eval.prompts import prompting

_REPORT_SECONDS = 0.25


def run(params: EvalParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Evaluate a model, or the references, on each task.

    Continues a killed attempt: finished completions and outcomes are read back from the scratch
    folder, and as every sample has random numbers of its own the result is that of an undisturbed run.
    Raises InputError where model, source, strategy and exemplars do not fit, StageError for unusable
    problem sets, a model that cannot generate, or a machine that cannot contain programs.
    """
    model: Artifact | None = inputs.get("model")
    _check(params, model, inputs.get("tasks", ()))
    tasks = _tasks(params, inputs, model)
    report = _Reporter(tasks, params.samples, ctx)
    folders = [ctx.scratch / f"task-{number}" for number in range(len(tasks))]
    with Engine(params, model, ctx) as engine:
        for task, folder in zip(tasks, folders, strict=True):
            evaluate(task, params, ctx.threads, folder, engine, report)
    evidence: list[Observation] = []
    for task, folder in zip(tasks, folders, strict=True):
        about = {"dataset": task.artifact} if model is None else {"model": model, "dataset": task.artifact}
        scored = _scored(task, folder / "references.json", engine, ctx) if model and params.perplexity else {}
        evidence += observations(task, params, ctx.seed, about, scored)
    report.last()
    return StageResult({"samples": _samples(tasks, model, ctx.scratch / "samples.jsonl")}, evidence)


def run_transformers(params: TransformersParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """`run` with transformers' own generation, as a stage of its own: its evidence never passes for that of `eval`."""
    return run(params.whole, inputs, ctx)


def _check(params: EvalParams, model: Artifact | None, tasks: Sequence[Artifact]) -> None:
    if not tasks:
        raise InputError("eval has no task; give at least one problem set under tasks")
    if params.source == "model" and model is None:
        raise InputError("eval has no model; give one, or set source to references")
    if params.source == "references" and model is not None:
        raise InputError("references are the data set's own, not a model's; leave model out, or source")
    if len({task.digest for task in tasks}) < len(tasks):
        raise InputError("a problem set is given twice under tasks; give each once")


def _tasks(params: EvalParams, inputs: StageInputs, model: Artifact | None) -> list[Task]:
    every = [read_problems(artifact.path) for artifact in inputs["tasks"]]
    problems = [found[: params.limit or None] for found in every]
    prompts = prompting(params, model, inputs.get("exemplars"), problems)
    return [
        Task(artifact, some, len(found), prompts)
        for artifact, found, some in zip(inputs["tasks"], every, problems, strict=True)
    ]


class _Reporter:
    """Progress in samples judged, at most a few times a second; also where the stage is cancelled."""

    def __init__(self, tasks: Sequence[Task], samples: int, ctx: Context):
        self._tasks, self._ctx = tasks, ctx
        self._total = sum(len(task.problems) for task in tasks) * samples
        self._tokens = 0
        self._spoke = float("-inf")

    def __call__(self, tokens: int) -> None:
        self._tokens += tokens
        if time.monotonic() - self._spoke >= _REPORT_SECONDS:
            self.last()

    def last(self) -> None:
        judged, passed = sum(t.judged for t in self._tasks), sum(t.passed for t in self._tasks)
        rate = {"pass_rate": passed / judged} if judged else {}
        self._ctx.progress(judged, self._total, tokens=self._tokens, **rate)
        self._spoke = time.monotonic()


def _scored(task: Task, path: Path, engine: Engine, ctx: Context) -> Mapping[str, Any]:
    """Payloads measured on the references, kept in `path` for a next attempt; none where no reference can be scored."""
    if path.is_file():
        kept: Mapping[str, Any] = json.loads(path.read_bytes())
        return kept
    payloads = of_references(engine.loaded, task)
    if not payloads:
        ctx.log.warning("%s: no reference fits the model's context, so perplexity is not measured", task.label)
        return {}
    _write(path, [json.dumps(payloads)])
    return payloads


def _samples(tasks: Sequence[Task], model: Artifact | None, path: Path) -> Output:
    _write(path, (json.dumps(row, allow_nan=False) for task in tasks for row in _rows(task)))
    who = model.label if model else "references"
    return Output(path, f"{who}/{'+'.join(task.label for task in tasks)}")


def _rows(task: Task) -> Iterator[dict[str, Any]]:
    for problem in task.problems:
        answers = task.answers[problem.task_id]
        for index, answer in enumerate(answers.samples):
            verdict = task.verdicts[problem.task_id][index]
            program = answers.program(problem, index)
            yield {
                "task": task.artifact.label,
                "task_id": problem.task_id,
                "index": index,
                "text": answer.text,
                "completion": program.removeprefix(problem.prefix),
                "solution": program,
                "program": program,
                "outcome": verdict.outcome,
                "detail": verdict.detail,
                "tokens": answer.tokens,
                "seconds": answer.seconds,
                "reason": answer.reason,
                "mode": verdict.mode,
                "forgeable": verdict.forgeable,
                "cpu_seconds": verdict.cpu_seconds,
            }


def _write(path: Path, lines: Iterator[str] | Sequence[str]) -> None:
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{line}\n" for line in lines)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StageError(f"cannot write {path}: {error.strerror or error}; free space and run again") from error
