"""The stage `eval-puzzles`: a model answers each puzzle once, and the puzzle's rules judge the answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hrmctl import Artifact, Context, InputError, Observation, Output, StageInputs, StageResult
from hrmctl.jsonio import canonical, write_atomic
from hrmctl_eval.evaluate import completion_digest
from hrmctl_eval.puzzle_params import PuzzleParams
from hrmctl_eval.puzzle_rules import OPEN, PASSED, PuzzleTask, read_puzzles

if TYPE_CHECKING:
    from hrmctl_eval.puzzle_answers import Answered

Payloads = dict[str, dict[str, Any]]


def run(params: PuzzleParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Answer and judge the puzzles of each task.

    Raises InputError without a task or with one twice, StageError for rows that are no puzzles and for a model that
    cannot answer them.
    """
    model: Artifact = inputs["model"]
    artifacts: Sequence[Artifact] = inputs.get("tasks", ())
    if not artifacts:
        raise InputError("eval-puzzles has no task; give at least one set of puzzles under tasks")
    if len({task.digest for task in artifacts}) < len(artifacts):
        raise InputError("a set of puzzles is given twice under tasks; give each once")
    every = [read_puzzles(artifact.path) for artifact in artifacts]
    chosen = [puzzles[: params.limit or None] for puzzles in every]

    import torch
    from hrmctl_models.loading import load

    from hrmctl_eval.puzzle_answers import answer

    torch.set_num_threads(ctx.threads)
    loaded = load(model.path, device=ctx.device, dtype=params.dtype)
    total, done = sum(map(len, chosen)), 0

    def report(puzzles: int) -> None:
        nonlocal done
        done += puzzles
        ctx.progress(done, total)

    evidence: list[Observation] = []
    rows: list[dict[str, Any]] = []
    for artifact, puzzles, whole in zip(artifacts, chosen, every, strict=True):
        answered = answer(loaded, puzzles, params.batch_size, report)
        outcomes = [task.outcome(said.text) for task, said in zip(puzzles, answered.answers, strict=True)]
        evidence += _observations(
            puzzles, len(whole), answered, outcomes, params, ctx.seed, {"model": model, "dataset": artifact}
        )
        rows += _rows(artifact.label, puzzles, answered, outcomes)
    path = ctx.scratch / "samples.jsonl"
    write_atomic(path, "".join(canonical(row) + "\n" for row in rows))
    label = f"{model.label}/{'+'.join(artifact.label for artifact in artifacts)}"
    return StageResult({"samples": Output(path, label)}, evidence)


def _rows(label: str, tasks: Sequence[PuzzleTask], answered: Answered, outcomes: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "task": label,
            "task_id": task.task_id,
            "prompt": task.prompt,
            "answer": said.text,
            "outcome": outcome,
            "tokens": said.tokens,
            **(asdict(answered.halted[index]) if answered.halted else {}),
        }
        for index, (task, said, outcome) in enumerate(zip(tasks, answered.answers, outcomes, strict=True))
    ]


def _observations(
    tasks: Sequence[PuzzleTask],
    total: int,
    answered: Answered,
    outcomes: Sequence[str],
    params: PuzzleParams,
    seed: int,
    about: Mapping[str, Artifact],
) -> list[Observation]:
    first, said = tasks[0], answered.answers[0].text
    samples = {
        "n": 1,
        "limit": len(tasks) if len(tasks) < total else 0,
        "dataset_problems": total,
        "engine": "in place" if answered.halted else "greedy",
        "dtype": params.dtype,
        "problems": [
            {
                "id": task.task_id,
                "n": 1,
                "c": int(outcome == PASSED),
                "outcomes": [outcome],
                "completions": [completion_digest(answer.text)],
            }
            for task, answer, outcome in zip(tasks, answered.answers, outcomes, strict=True)
        ],
    }
    example = {"prompt": first.prompt, "completion": said, "parts": {"task_id": first.task_id, "outcome": outcomes[0]}}
    measured = of_answers(tasks, answered, outcomes) | of_puzzles(tasks, seed)
    return [
        Observation("samples", "samples/v1", samples, about),
        Observation("example", "text/v1", example, about),
        *(Observation(name, "measurement/v1", payload, about) for name, payload in measured.items()),
    ]


def of_answers(tasks: Sequence[PuzzleTask], answered: Answered, outcomes: Sequence[str]) -> Payloads:
    """What is measured on the answers; cells are compared with the reference, answers judged by the rules.

    Of a model with a Q-head: `mean_steps` until it halted of `halt_max_steps`, and `q_halt_accuracy`, how often
    the sign of the Q-value of halting at that step says whether the answer is right (as the reference counts it).
    """
    n = len(tasks)
    texts = [answer.text for answer in answered.answers]
    found = {
        "exact_accuracy": _measured(outcomes.count(PASSED) / n, "share", n),
        **_cells("", tasks, texts),
        "tokens_generated": _measured(sum(answer.tokens for answer in answered.answers), "tokens", n),
        "solve_seconds": _measured(answered.seconds, "s", n),
    }
    if answered.halted:
        found |= _halting(answered, outcomes)
    return found


def _halting(answered: Answered, outcomes: Sequence[str]) -> Payloads:
    n = len(outcomes)
    steps = [halted.steps for halted in answered.halted]
    agree = [(h.q_halt >= 0) == (o == PASSED) for h, o in zip(answered.halted, outcomes, strict=True)]
    return {
        "mean_steps": _measured(sum(steps) / n, "steps", n),
        "halt_max_steps": _measured(answered.most_steps, "steps", n),
        "halted_early": _measured(sum(step < answered.most_steps for step in steps) / n, "share", n),
        "q_halt_accuracy": _measured(sum(agree) / n, "share", n),
    }


def of_puzzles(tasks: Sequence[PuzzleTask], seed: int) -> Payloads:
    """What the same puzzles give without a model: their references, and two ways of filling the open cells.

    `frequent_…` fills them all with the symbol that the references hold there most often, `guess_…` draws
    each by those frequencies.
    """
    n = len(tasks)
    open_ = Counter(c for t in tasks for p, c in zip(t.prompt, t.completion, strict=True) if p == OPEN)
    symbols, weights = list(open_), list(open_.values())
    common = open_.most_common(1)[0][0] if open_ else OPEN
    rng = random.Random(f"{seed}/guess")
    frequent = [task.prompt.replace(OPEN, common) for task in tasks]
    guesses = ["".join(rng.choices(symbols, weights)[0] if p == OPEN else p for p in t.prompt) for t in tasks]
    found = {
        "reference_failures": _measured(sum(t.outcome(t.completion) != PASSED for t in tasks), "puzzles", n),
        "open_cells": _measured(sum(task.prompt.count(OPEN) for task in tasks) / n, "cells", n),
    }
    for name, texts in (("frequent_", frequent), ("guess_", guesses)):
        right = sum(task.outcome(text) == PASSED for task, text in zip(tasks, texts, strict=True))
        found |= {f"{name}exact_accuracy": _measured(right / n, "share", n), **_cells(name, tasks, texts)}
    return found


def _cells(prefix: str, tasks: Sequence[PuzzleTask], texts: Sequence[str]) -> Payloads:
    """Shares of cells that are as in the reference, of those left open and of all; a cell not written is wrong."""
    pairs = [
        (cell == OPEN, text[at : at + 1] == wanted)
        for task, text in zip(tasks, texts, strict=True)
        for at, (cell, wanted) in enumerate(zip(task.prompt, task.completion, strict=True))
    ]
    opened = [right for is_open, right in pairs if is_open]
    found = {
        f"{prefix}cell_accuracy_all": _measured(sum(right for _, right in pairs) / len(pairs), "share", len(pairs))
    }
    if opened:
        found[f"{prefix}cell_accuracy"] = _measured(sum(opened) / len(opened), "share", len(opened))
    return found


def _measured(value: float, unit: str, n: int) -> dict[str, Any]:
    return {"value": value, "unit": unit, "n": n}
