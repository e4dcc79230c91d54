"""The stage `eval`: for each task generate, judge, measure; then one file of samples and the evidence."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hrmctl import Artifact, Context, InputError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl_eval.evaluate import Task, evaluate
from hrmctl_eval.evidence import observations, perplexity_payload
from hrmctl_eval.params import EvalParams
from hrmctl_eval.problems import read_problems

_REPORT_SECONDS = 0.25


def run(params: EvalParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Evaluate a model, or the references, on each task.

    Continues a killed attempt: finished completions and outcomes are read back from the scratch
    folder, and as every sample has random numbers of its own the result is that of an undisturbed run. Raises
    InputError where model and source do not fit, StageError for unusable problem sets, a model that
    cannot generate, or a machine that cannot contain programs.
    """
    model: Artifact | None = inputs.get("model")
    _check(params, model, inputs.get("tasks", ()))
    tasks = [_task(artifact, params.limit) for artifact in inputs["tasks"]]
    load = _loader(params, model, ctx)
    report = _Reporter(tasks, params.samples, ctx)
    evidence: list[Observation] = []
    for number, task in enumerate(tasks):
        folder = ctx.scratch / f"task-{number}"
        evaluate(task, params, ctx.seed, ctx.threads, folder, load, report)
        about = {"dataset": task.artifact} if model is None else {"model": model, "dataset": task.artifact}
        measured = _perplexity(task, folder / "perplexity.json", load, ctx) if model and params.perplexity else None
        evidence += observations(task, params, ctx.seed, about, measured)
    report.last()
    return StageResult({"samples": _samples(tasks, model, ctx.scratch / "samples.jsonl")}, evidence)


def _check(params: EvalParams, model: Artifact | None, tasks: Sequence[Artifact]) -> None:
    if not tasks:
        raise InputError("eval has no task; give at least one problem set under tasks")
    if params.source == "model" and model is None:
        raise InputError("eval has no model; give one, or set source to references")
    if params.source == "references" and model is not None:
        raise InputError("references are the data set's own, not a model's; leave model out, or source")
    if len({task.digest for task in tasks}) < len(tasks):
        raise InputError("a problem set is given twice under tasks; give each once")


def _task(artifact: Artifact, limit: int) -> Task:
    problems = read_problems(artifact.path)
    return Task(artifact, problems[: limit or None], len(problems))


def _loader(params: EvalParams, model: Artifact | None, ctx: Context) -> Callable[[], Any]:
    @cache
    def load() -> Any:
        import torch
        from hrmctl_models.loading import load as load_model

        assert model is not None, "references need no model"
        torch.set_num_threads(ctx.threads)
        return load_model(model.path, device=ctx.device, dtype=params.dtype)

    return load


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


def _perplexity(task: Task, path: Path, load: Callable[[], Any], ctx: Context) -> Mapping[str, Any] | None:
    """The measurement's payload, kept in `path` for a next attempt; None where no reference can be scored."""
    if path.is_file():
        kept: Mapping[str, Any] = json.loads(path.read_bytes())
        return kept
    payload = perplexity_payload(load(), task)
    if payload is None:
        ctx.log.warning("%s: no reference fits the model's context, so perplexity is not measured", task.label)
        return None
    _write(path, [json.dumps(payload)])
    return payload


def _samples(tasks: Sequence[Task], model: Artifact | None, path: Path) -> Output:
    _write(path, (json.dumps(row, allow_nan=False) for task in tasks for row in _rows(task)))
    who = model.label if model else "references"
    return Output(path, f"{who}/{'+'.join(task.label for task in tasks)}")


def _rows(task: Task) -> Iterator[dict[str, Any]]:
    for problem in task.problems:
        answers = task.answers[problem.task_id]
        for index, answer in enumerate(answers.samples):
            verdict = task.verdicts[problem.task_id][index]
            yield {
                "task": task.artifact.label,
                "task_id": problem.task_id,
                "index": index,
                "completion": answer.text,
                "program": answers.program(problem, index),
                "outcome": verdict.outcome,
                "detail": verdict.detail,
                "tokens": answer.tokens,
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
