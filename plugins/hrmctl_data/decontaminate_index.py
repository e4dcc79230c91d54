"""The problems of benchmarks, ready to be found in documents: request, solution and tests, each on its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hrmctl_sandbox.formats import CodeTask

from hrmctl_data.decontaminate_params import DecontaminateParams
from hrmctl_data.documents import strings
from hrmctl_data.ngrams import Table, code_tokens, unescaped, words

Tokens = Callable[[str], list[str]]

# The fewest tokens that say something by themselves: 8 words as in Brown et al. 2020; 20 tokens of code hold as much.
_KINDS: Mapping[str, tuple[Tokens, int]] = {"words": (words, 8), "code": (code_tokens, 20)}
# Extended benchmarks hold megabytes of inputs; the beginning of a problem's tests tells it from all others.
MOST_TEST_TOKENS = 1000
RENAMED_N = 30
RENAMED_LEAST = 20
RENAMED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark as it is compared: its label and its problems."""

    label: str
    tasks: Sequence[CodeTask]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of one problem, by the places of its benchmark and of the problem in it."""

    benchmark: int
    problem: int
    task_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """A document holds part of a field: which share of its n-grams, word for word or with other names."""

    field: Field
    match: str
    share: float
    excerpt: str


class Index:
    """All fields of all benchmarks in one table, and their solutions in a second one that sees through renaming."""

    def __init__(self, benchmarks: Sequence[Benchmark], params: DecontaminateParams):
        self._tokens, least = _KINDS[params.granularity]
        self._threshold = params.threshold
        self._fields: list[Field] = []
        self._solutions: list[Field] = []
        exact: list[list[str]] = []
        solutions: list[list[str]] = []
        for number, benchmark in enumerate(benchmarks):
            for place, task in enumerate(benchmark.tasks):
                for name, tokens in _fields_of(task, self._tokens, params.n, min(least, params.n)):
                    self._fields.append(Field(number, place, task.task_id, name))
                    exact.append(tokens)
                tokens = code_tokens(unescaped(task.completion))
                if params.renamed and len(tokens) >= RENAMED_LEAST:
                    self._solutions.append(Field(number, place, task.task_id, "solution"))
                    solutions.append(tokens)
        self._exact = Table(exact, params.n, min(least, params.n))
        self._renamed = Table(solutions, RENAMED_N, RENAMED_LEAST, renamed=True)

    def find(self, text: str) -> list[Overlap]:
        """What a document holds of the benchmarks, in their order; what overlaps word for word is not told twice."""
        text = unescaped(text)
        found = [
            Overlap(self._fields[match.field], "same", match.share, match.excerpt)
            for match in self._exact.find(self._tokens(text))
            if match.share >= self._threshold
        ]
        known = {overlap.field for overlap in found}
        if self._solutions:
            found += [
                Overlap(field, "renamed", match.share, match.excerpt)
                for match in self._renamed.find(code_tokens(text))
                if match.share >= RENAMED_SHARE and (field := self._solutions[match.field]) not in known
            ]
        return sorted(found, key=lambda overlap: (overlap.field.benchmark, overlap.field.problem))


def _fields_of(task: CodeTask, tokens_of: Tokens, n: int, least: int) -> list[tuple[str, list[str]]]:
    """Request, solution and tests as tokens. One too short to say something is widened by what stands beside it."""
    prompt, solution = tokens_of(unescaped(task.prompt)), tokens_of(unescaped(task.completion))
    cases = [text for case in task.cases for text in (case.stdin, case.stdout)]
    tests = tokens_of(unescaped("\n".join((*task.tests, *cases))))[:MOST_TEST_TOKENS]
    request = tokens_of(unescaped(task.text)) if task.text.strip() else prompt
    fields = {
        "request": _widened([], request, [*solution, *tests], n, least),
        "solution": _widened(prompt, solution, tests, n, least),
        "tests": _widened([*prompt, *solution], tests, [], n, least),
    }
    return [(name, tokens) for name, tokens in fields.items() if tokens]


def _widened(before: list[str], own: list[str], after: list[str], n: int, least: int) -> list[str]:
    if len(own) >= least or not own:
        return own
    return [*before, *own][-n:] if before else [*own, *after][:n]


def self_overlap(index: Index, benchmark: Benchmark, number: int) -> int:
    """How many problems are found when the benchmark itself is the training data: the instrument's own control."""
    texts = ["\n".join(strings(task.row())) for task in benchmark.tasks]
    return sum(_finds(index, text, number, place) for place, text in enumerate(texts))


def planted(index: Index, benchmark: Benchmark, number: int) -> tuple[int, int]:
    """How many problems are found in a document that holds the program of the reference under another function name.

    And of how many that was asked: some benchmarks publish no references.
    """
    asked = [(place, task) for place, task in enumerate(benchmark.tasks) if task.completion.strip()]
    texts = [(place, _renamed(task.program(task.completion), task.entry_point)) for place, task in asked]
    return sum(_finds(index, text, number, place) for place, text in texts), len(asked)


def _renamed(program: str, name: str) -> str:
    return re.sub(rf"\b{re.escape(name)}\b", f"planted_{name}", program) if name else program


def _finds(index: Index, text: str, number: int, place: int) -> bool:
    return any((o.field.benchmark, o.field.problem) == (number, place) for o in index.find(text))
