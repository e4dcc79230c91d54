"""Completions of every problem: generated, or the references, or what an earlier attempt left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hrmctl_models.journal import Journal
from hrmctl_sandbox.formats import CodeTask
from hrmctl_sandbox.programs import is_complete, program_of

from hrmctl_eval.engines import Engine
from hrmctl_eval.params import EvalParams
from hrmctl_eval.problems import reads_input
from hrmctl_eval.prompts import Prompting


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion: `tokens` generated, `reason` as the engine gives it, or `reference`.

    `seconds` is the time from the start of its problem's generation to its own end, None where none was generated.
    """

    text: str
    tokens: int
    reason: str
    seconds: float | None = None

    @property
    def refused(self) -> bool:
        return self.reason == "refused"


@dataclass(frozen=True, slots=True)
class Answers:
    """All completions of one problem in order, and the seconds that making them took."""

    task_id: str
    samples: tuple[Answer, ...]
    seconds: float

    def program(self, problem: CodeTask, index: int) -> str:
        """The program to judge, which begins with the problem's prefix; a reference is taken as it is."""
        answer = self.samples[index]
        if answer.reason == "reference":
            return problem.prefix + answer.text
        return program_of(answer.text, problem.prefix, problem.entry_point, script=reads_input(problem))

    def code(self, problem: CodeTask, index: int) -> str:
        """What the program has after the problem's prefix."""
        return self.program(problem, index).removeprefix(problem.prefix)


def references(problems: Sequence[CodeTask]) -> Iterator[Answers]:
    """The data set's own completions, one a problem."""
    for problem in problems:
        yield Answers(problem.task_id, (Answer(problem.completion, 0, "reference"),), 0.0)


def generated(
    problems: Sequence[CodeTask],
    journal: Journal,
    params: EvalParams,
    prompting: Prompting,
    engine: Engine,
    on_step: Callable[[int], None],
) -> Iterator[Answers]:
    """What the journal holds, then the rest as the engine finishes it, each noted in the journal.

    `on_step(tokens)` is called after each step with the tokens that this attempt has generated.
    """
    known = _known(journal, {problem.task_id for problem in problems}, params.samples)
    yield from known.values()
    rest = [problem for problem in problems if problem.task_id not in known]
    if not rest:
        return
    prompts = [prompting.prompt(problem) for problem in rest]
    finished = engine.generate(prompts, prompting.stop(rest), _ending(rest, prompting.continues), on_step)
    since = time.monotonic()
    for index, completions in finished:
        samples = tuple(Answer(c.text, len(c.tokens), c.reason, c.seconds) for c in completions)
        answers = Answers(rest[index].task_id, samples, time.monotonic() - since)
        journal.append(_row(answers))
        yield answers
        since = time.monotonic()


def _ending(problems: Sequence[CodeTask], continues: bool) -> Callable[[int, str], bool]:
    def complete(index: int, text: str) -> bool:
        problem = problems[index]
        script = reads_input(problem)
        return is_complete(text, problem.prefix, problem.entry_point, script=script, continues=continues)

    return complete


def _row(answers: Answers) -> dict[str, Any]:
    samples = [[answer.text, answer.tokens, answer.reason, answer.seconds] for answer in answers.samples]
    return {"task_id": answers.task_id, "seconds": answers.seconds, "samples": samples}


def _known(journal: Journal, wanted: set[str], samples: int) -> Mapping[str, Answers]:
    found = {}
    for row in journal.rows:
        if row["task_id"] in wanted and len(row["samples"]) == samples:
            found[row["task_id"]] = Answers(row["task_id"], tuple(Answer(*s) for s in row["samples"]), row["seconds"])
    return found
