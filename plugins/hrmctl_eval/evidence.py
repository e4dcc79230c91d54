"""The evidence of one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hrmctl_sandbox

from hrmctl import Artifact, Observation
from hrmctl_eval.evaluate import Task, completion_digest
from hrmctl_eval.measurements import of_samples
from hrmctl_eval.params import EvalParams
from hrmctl_eval.reasoning import parts_of


def observations(
    task: Task, params: EvalParams, seed: int, about: Mapping[str, Artifact], scored: Mapping[str, Mapping[str, Any]]
) -> list[Observation]:
    """Outcomes, an example and the measurements of a task that is wholly judged; `scored` are those of references."""
    measured: dict[str, Mapping[str, Any]] = {**of_samples(task, params), **scored}
    return [
        Observation("samples", "samples/v1", samples_payload(task, params, seed), about),
        Observation("example", "text/v1", _example(task), about),
        *(Observation(name, "measurement/v1", payload, about) for name, payload in measured.items()),
    ]


def samples_payload(task: Task, params: EvalParams, seed: int) -> dict[str, Any]:
    """The `samples/v1` payload: outcomes of every sample by problem, and how they came about.

    `limit` is 0 where the whole set was evaluated; `dataset_problems` is its size. `forgeable` and
    `refused` count samples.
    """
    verdicts = task.all_verdicts
    settings: dict[str, Any] = {"source": params.source, "k": list(params.k), "limit": _limit(task)}
    if params.packages:
        settings["packages"] = list(params.packages)
    if params.source == "model":
        settings |= {
            **task.prompting.settings(),
            "engine": params.engine,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "repetition_penalty": params.repetition_penalty,
            "max_new_tokens": params.max_new_tokens,
            "stop": [*params.stop, *task.prompting.stop(task.problems)],
            "dtype": params.dtype,
            "seed": seed,
        }
    return {
        "n": params.samples,
        "mode": _mode(task),
        **settings,
        "dataset_problems": task.total,
        "forgeable": sum(verdict.forgeable for verdict in verdicts),
        "refused": sum(verdict.outcome == "refused" for verdict in verdicts),
        "problems": [_problem(task, problem.task_id, params.samples) for problem in task.problems],
    }


def _limit(task: Task) -> int:
    return len(task.problems) if len(task.problems) < task.total else 0


def _mode(task: Task) -> str:
    """The sandbox's mode; where a run was continued on another machine every mode is named, not the best."""
    modes = {verdict.mode for verdict in task.all_verdicts} - {""}
    return "+".join(sorted(modes)) or hrmctl_sandbox.probe().mode


def _problem(task: Task, task_id: str, samples: int) -> dict[str, Any]:
    verdicts = [task.verdicts[task_id][index] for index in range(samples)]
    return {
        "id": task_id,
        "n": samples,
        "c": sum(verdict.passed for verdict in verdicts),
        "outcomes": [verdict.outcome for verdict in verdicts],
        "completions": [completion_digest(answer.text) for answer in task.answers[task_id].samples],
    }


def _example(task: Task) -> dict[str, Any]:
    """The first problem's first sample: the prompt as the model was given it, and the parts of the answer."""
    problem = task.problems[0]
    answers = task.answers[problem.task_id]
    answer, parts = answers.samples[0], parts_of(answers.samples[0].text, answers.code(problem, 0))
    return {
        "prompt": problem.prompt if answer.reason == "reference" else task.prompting.prompt(problem),
        "completion": answer.text,
        "parts": {
            "task_id": problem.task_id,
            "strategy": task.prompting.strategy,
            "reasoning": parts.reasoning,
            "code": parts.code,
            "reasoning_first": parts.first,
            "program": answers.program(problem, 0),
            "outcome": task.verdicts[problem.task_id][0].outcome,
        },
    }
