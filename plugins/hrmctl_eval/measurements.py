"""What is measured on a task: from its samples, and from its references under the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

from hrmctl_sandbox.programs import TIERS, compiled, tier

from hrmctl_eval.answers import Answer
from hrmctl_eval.evaluate import Task
from hrmctl_eval.params import EvalParams
from hrmctl_eval.reasoning import parts_of

Payloads = dict[str, dict[str, Any]]


def of_samples(task: Task, params: EvalParams) -> Payloads:
    """Measurements of a task that is wholly judged; n counts samples."""
    verdicts = task.all_verdicts
    n = len(verdicts)
    judged = {
        "syntax_rate": _measurement(sum(v.parses for v in verdicts) / n, "share", n),
        "compile_rate": _measurement(sum(compiled(v.outcome) for v in verdicts) / n, "share", n),
        "solved": _solved(task),
        "tiered_accuracy": _measurement(sum(tier(v.outcome, v.parses) for v in verdicts) / (TIERS * n), "score", n),
        "judge_seconds": _measurement(sum(v.seconds for v in verdicts), "s", n),
    }
    return judged if params.source == "references" else judged | _generated(task, params) | _reasoning(task)


def _solved(task: Task) -> dict[str, Any]:
    """Problems whose first sample passed: a count, which two evaluations can be compared by where all are alike."""
    return _measurement(sum(found[0].passed for found in task.verdicts.values()), "problems", len(task.verdicts))


def _generated(task: Task, params: EvalParams) -> Payloads:
    # Greedy samples of a problem are one generation, handed out n times.
    own = slice(None) if params.temperature or params.greedy_anew else slice(1)
    made = [sample for found in task.answers.values() for sample in found.samples[own]]
    judged = len(task.all_verdicts)
    return {
        "temperature": _measurement(params.temperature, "1", judged),
        "generations": _measurement(len(made) / len(task.answers), "a problem", judged),
        "tokens_generated": _measurement(sum(sample.tokens for sample in made), "tokens", judged),
        "generate_seconds": _measurement(sum(found.seconds for found in task.answers.values()), "s", judged),
        **_spread("tokens", "tokens", [sample.tokens for sample in made if not sample.refused]),
        **_spread("latency", "s", _latencies(made)),
    }


def _latencies(made: Sequence[Answer]) -> list[float]:
    return [sample.seconds for sample in made if sample.seconds is not None]


def _spread(name: str, unit: str, values: Sequence[float]) -> Payloads:
    """Median and 95th percentile, interpolated between the nearest values; nothing where there are none."""
    if not values:
        return {}
    high = quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return {
        f"{name}_median": _measurement(median(values), unit, len(values)),
        f"{name}_p95": _measurement(high, unit, len(values)),
    }


def _reasoning(task: Task) -> Payloads:
    if task.prompting.strategy != "chain-of-thought":
        return {}
    first = [
        parts_of(sample.text, task.answers[problem.task_id].code(problem, index)).first
        for problem in task.problems
        for index, sample in enumerate(task.answers[problem.task_id].samples)
    ]
    return {"reasoning_first_rate": _measurement(sum(first) / len(first), "share", len(first))}


def of_references(loaded: Any, task: Task) -> Payloads:
    """How the model predicts the reference completions given the problems' own prompts, whatever the strategy.

    Perplexity and exact accuracy (n: problems scored) and token accuracy (n: tokens); the token that is
    predicted is that of the greatest logit. Empty where no reference fits the model's context. Raises
    StageError where the perplexity is not finite.
    """
    from hrmctl_models.perplexity import NothingToScore, completion_perplexity

    try:
        found = completion_perplexity(loaded, [p.prompt for p in task.problems], [p.completion for p in task.problems])
    except NothingToScore:
        return {}
    context = {"tokens": found.tokens, "skipped": found.skipped}
    return {
        "perplexity": _measurement(found.value, "perplexity", found.texts, **context),
        "token_accuracy": _measurement(found.correct / found.tokens, "share", found.tokens, skipped=found.skipped),
        "exact_accuracy": _measurement(found.exact / found.texts, "share", found.texts, **context),
    }


def _measurement(value: float, unit: str, n: int, **context: Any) -> dict[str, Any]:
    assert math.isfinite(value), f"{value} {unit} is not finite"
    return {"value": value, "unit": unit, "n": n, **({"context": context} if context else {})}
