"""Answers of a model to puzzles: in place where the model solves so, token after token where it is a language model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hrmctl_models.generate import iter_generate
from hrmctl_models.loading import LoadedModel, answers_in_place

from hrmctl import StageError
from hrmctl_eval.puzzle_rules import PuzzleTask

_NO_CELL = "?"


@dataclass(frozen=True, slots=True)
class PuzzleAnswer:
    """The text of an answer and the tokens that were generated for it."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Halt:
    """The segment (from 1) at which a model stopped, and its Q-value (logit) of halting there."""

    steps: int
    q_halt: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers in the order of the puzzles, and the seconds that they took together.

    `halted` holds where each stopped of `most_steps` segments; empty for a model that does not answer in place.
    """

    answers: Sequence[PuzzleAnswer]
    seconds: float
    halted: Sequence[Halt] = ()
    most_steps: int = 0


def answer(
    loaded: LoadedModel, tasks: Sequence[PuzzleTask], batch_size: int, report: Callable[[int], None]
) -> Answered:
    """Answer each puzzle once, greedily. `report(puzzles)` is called as they are answered.

    Raises StageError where a puzzle holds a character that an in-place model does not know.
    """
    start = time.monotonic()
    if not answers_in_place(loaded.model.config):
        return Answered(_written(loaded, tasks, batch_size, report), time.monotonic() - start)
    found = _solved(loaded, tasks, batch_size, report)
    answers, halted = [said for said, _ in found], [halt for _, halt in found]
    return Answered(answers, time.monotonic() - start, halted, loaded.model.config.halt_max_steps)


def _solved(
    loaded: LoadedModel, tasks: Sequence[PuzzleTask], batch_size: int, report: Callable[[int], None]
) -> list[tuple[PuzzleAnswer, Halt]]:
    vocabulary = loaded.tokenizer.get_vocab()
    ids = [_cells(task, vocabulary) for task in tasks]
    by_length: dict[int, list[int]] = {}
    for index, cells in enumerate(ids):
        by_length.setdefault(len(cells), []).append(index)
    answers: dict[int, tuple[PuzzleAnswer, Halt]] = {}
    names: dict[int, str] = {}
    model: Any = loaded.model
    # Puzzles of one size together, so that no batch needs padding.
    for alike in by_length.values():
        for at in range(0, len(alike), batch_size):
            chosen = alike[at : at + batch_size]
            found = model.solve(torch.tensor([ids[i] for i in chosen], device=loaded.device))
            for row, index in enumerate(chosen):
                text = "".join(_name(loaded.tokenizer, token, names) for token in found.tokens[row].tolist())
                halt = Halt(int(found.steps[row]), float(found.q_halt[row]))
                answers[index] = PuzzleAnswer(text, len(text)), halt
            report(len(chosen))
    return [answers[index] for index in range(len(tasks))]


def _cells(task: PuzzleTask, vocabulary: Mapping[str, int]) -> list[int]:
    """One token for each cell, as training makes them."""
    strange = sorted(set(task.prompt) - vocabulary.keys())
    if strange:
        raise StageError(
            f"{task.task_id}: the character {strange[0]!r} is not in the model's vocabulary; "
            "train it on puzzles of this kind and size"
        )
    return [vocabulary[cell] for cell in task.prompt]


def _name(tokenizer: Any, token: int, names: dict[int, str]) -> str:
    """The one character that a token stands for; '?' for a token of any other text, which is right nowhere."""
    if token not in names:
        text = tokenizer.decode([token], skip_special_tokens=True)
        names[token] = text if len(text) == 1 else _NO_CELL
    return names[token]


def _written(
    loaded: LoadedModel, tasks: Sequence[PuzzleTask], batch_size: int, report: Callable[[int], None]
) -> list[PuzzleAnswer]:
    prompts = [task.prompt for task in tasks]
    # A token is at least one cell; one more is the end token.
    longest = max(map(len, prompts)) + 1
    answers: dict[int, PuzzleAnswer] = {}
    for index, (completion,) in iter_generate(
        loaded, prompts, n=1, max_new_tokens=longest, temperature=0, batch_size=batch_size
    ):
        answers[index] = PuzzleAnswer(completion.text, len(completion.tokens))
        report(1)
    return [answers[index] for index in range(len(tasks))]
