"""The evidence of one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hrmctl_sandbox

from hrmctl import Artifact, Observation
from hrmctl_eval.evaluate import Task, Verdict, completion_digest
from hrmctl_eval.params import EvalParams


def observations(
    task: Task,
    params: EvalParams,
    seed: int,
    about: Mapping[str, Artifact],
    perplexity: Mapping[str, Any] | None,
) -> list[Observation]:
    """Outcomes, an example and the measurements of a task that is wholly judged."""
    measured: dict[str, Mapping[str, Any]] = dict(_measurements(task, params))
    if perplexity is not None:
        measured["perplexity"] = perplexity
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
    verdicts = _verdicts(task)
    settings: dict[str, Any] = {"source": params.source, "k": list(params.k), "limit": _limit(task)}
    if params.source == "model":
        settings |= {
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "repetition_penalty": params.repetition_penalty,
            "max_new_tokens": params.max_new_tokens,
            "stop": list(params.stop),
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


def _verdicts(task: Task) -> list[Verdict]:
    return [verdict for found in task.verdicts.values() for verdict in found.values()]


def _mode(task: Task) -> str:
    """The sandbox's mode; where a run was continued on another machine every mode is named, not the best."""
    modes = {verdict.mode for verdict in _verdicts(task)} - {""}
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
    problem = task.problems[0]
    answers = task.answers[problem.task_id]
    return {
        "prompt": problem.prompt,
        "completion": answers.samples[0].text,
        "parts": {
            "task_id": problem.task_id,
            "program": answers.program(problem, 0),
            "outcome": task.verdicts[problem.task_id][0].outcome,
        },
    }


def _measurements(task: Task, params: EvalParams) -> Mapping[str, dict[str, Any]]:
    verdicts, answers = _verdicts(task), list(task.answers.values())
    judged = {"syntax_rate": _measurement(sum(v.parses for v in verdicts) / len(verdicts), "share", len(verdicts))}
    judged["judge_seconds"] = _measurement(sum(v.seconds for v in verdicts), "s", len(verdicts))
    if params.source == "references":
        return judged
    # Greedy samples of a problem are one generation, handed out n times.
    share = 1 if params.temperature else params.samples
    tokens = sum(sample.tokens for found in answers for sample in found.samples) // share
    return judged | {
        "tokens_generated": _measurement(tokens, "tokens", len(verdicts)),
        "generate_seconds": _measurement(sum(found.seconds for found in answers), "s", len(verdicts)),
    }


def _measurement(value: float, unit: str, n: int, **context: Any) -> dict[str, Any]:
    return {"value": value, "unit": unit, "n": n, **({"context": context} if context else {})}


def perplexity_payload(loaded: Any, task: Task) -> dict[str, Any] | None:
    """Perplexity of the reference completions given their prompts; n counts the problems scored.

    None where no reference fits the model's context. Raises StageError where it is not finite.
    """
    from hrmctl_models.perplexity import NothingToScore, completion_perplexity

    try:
        found = completion_perplexity(loaded, [p.prompt for p in task.problems], [p.completion for p in task.problems])
    except NothingToScore:
        return None
    skipped = len(task.problems) - found.texts
    return _measurement(found.value, "perplexity", found.texts, tokens=found.tokens, skipped=skipped)
