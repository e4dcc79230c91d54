"""Completions of every problem: generated, or the references, or what an earlier attempt left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hrmctl_eval.extract import is_complete, program_of
from hrmctl_eval.journal import Journal
from hrmctl_eval.params import EvalParams
from hrmctl_eval.problems import CodeProblem


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion: `tokens` generated, `reason` as the engine gives it, or `reference`."""

    text: str
    tokens: int
    reason: str

    @property
    def refused(self) -> bool:
        return self.reason == "refused"


@dataclass(frozen=True, slots=True)
class Answers:
    """All completions of one problem in order, and the seconds that making them took."""

    task_id: str
    samples: tuple[Answer, ...]
    seconds: float

    def program(self, problem: CodeProblem, index: int) -> str:
        """The program to judge; a reference is taken as it is."""
        answer = self.samples[index]
        if answer.reason == "reference":
            return problem.prefix + answer.text
        return program_of(answer.text, problem.prefix, problem.entry_point)


def references(problems: Sequence[CodeProblem]) -> Iterator[Answers]:
    """The data set's own completions, one a problem."""
    for problem in problems:
        yield Answers(problem.task_id, (Answer(problem.completion, 0, "reference"),), 0.0)


def generated(
    problems: Sequence[CodeProblem],
    journal: Journal,
    params: EvalParams,
    seed: int,
    load: Callable[[], Any],
    on_step: Callable[[int], None],
) -> Iterator[Answers]:
    """What the journal holds, then the rest as `load()`'s model finishes it, each noted in the journal.

    `on_step(tokens)` is called after each step with the tokens that this attempt has generated.
    """
    known = _known(journal, {problem.task_id for problem in problems}, params.samples)
    yield from known.values()
    rest = [problem for problem in problems if problem.task_id not in known]
    if not rest:
        return
    from hrmctl_models.generate import iter_generate

    loaded = load()
    since = time.monotonic()
    finished = iter_generate(
        loaded,
        [problem.prompt for problem in rest],
        n=params.samples,
        max_new_tokens=params.max_new_tokens,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        repetition_penalty=params.repetition_penalty,
        seed=seed,
        stop=params.stop,
        batch_size=params.batch_size,
        complete=lambda index, text: is_complete(text, rest[index].prefix, rest[index].entry_point),
        on_step=on_step,
    )
    for index, completions in finished:
        samples = tuple(Answer(c.text, len(c.tokens), c.reason) for c in completions)
        answers = Answers(rest[index].task_id, samples, time.monotonic() - since)
        journal.append(_row(answers))
        yield answers
        since = time.monotonic()


def _row(answers: Answers) -> dict[str, Any]:
    samples = [[answer.text, answer.tokens, answer.reason] for answer in answers.samples]
    return {"task_id": answers.task_id, "seconds": answers.seconds, "samples": samples}


def _known(journal: Journal, wanted: set[str], samples: int) -> Mapping[str, Answers]:
    found = {}
    for row in journal.rows:
        if row["task_id"] in wanted and len(row["samples"]) == samples:
            found[row["task_id"]] = Answers(row["task_id"], tuple(Answer(*s) for s in row["samples"]), row["seconds"])
    return found
