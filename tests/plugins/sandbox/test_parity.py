"""Reference solutions and mutants of them are graded as a plain interpreter grades them; every exception has a name."""

from __future__ import annotations

import pytest
import sandbox_data
import sandbox_plain
from hrmctl_sandbox import Limits, Problem, Sample, judge
from sandbox_mutants import mutants

# problem: why a plain interpreter and the sandbox may disagree on a program of it
REFERENCE_EXCEPTIONS: dict[str, str] = {}
MUTANT_EXCEPTIONS: dict[str, str] = {
    "HumanEval/32": "the tests use the prompt's helper poly: the judge's own, where plainly a mutant of it counts",
    "HumanEval/38": "the tests use the prompt's helper encode_cyclic: the judge's own",
    "HumanEval/50": "the tests use the prompt's helper encode_shift: the judge's own",
}

Row = tuple[Problem, str]
LIMITS = Limits(cpu_seconds=30, wall_seconds=120)
MUTANT_LIMITS = Limits(cpu_seconds=1, wall_seconds=20)


def rows(every: int) -> list[Row]:
    """Every so many-th problem of both benchmarks."""
    return [(problem, program) for problem, _, program in sandbox_data.human_eval()[::every]] + sandbox_data.mbpp()[
        ::every
    ]


def plain_source(problem: Problem, program: str) -> str:
    """The program with its tests below, as the benchmarks' own harnesses run it."""
    call = f"check({problem.entry_point})" if problem.entry_point else ""
    setup = "" if problem.entry_point else problem.setup
    return "\n".join([program, setup, *problem.tests, call])


def differences(pairs: list[Row], limits: Limits, exceptions: dict[str, str]) -> list[str]:
    """The programs on which the plain interpreter and the judge disagree, but for the named exceptions."""
    sources = [plain_source(problem, program) for problem, program in pairs]
    plain = sandbox_plain.passes(sources, int(limits.cpu_seconds))
    problems = {problem.id: problem for problem, _ in pairs}
    samples = [Sample(problem.id, number, program) for number, (problem, program) in enumerate(pairs)]
    found = {outcome.index: outcome for outcome in judge(problems.values(), samples, limits=limits)}
    assert len(found) == len(pairs)
    return [
        f"{found[number]} where a plain interpreter {'passes' if expected else 'fails'}:\n{pairs[number][1]}"
        for number, expected in enumerate(plain)
        if found[number].passed != expected and found[number].problem_id not in exceptions
    ]


def all_pass(pairs: list[Row]) -> list[str]:
    """The reference programs that do not pass."""
    samples = [Sample(problem.id, 0, program) for problem, program in pairs]
    found = list(judge([problem for problem, _ in pairs], samples, limits=LIMITS))
    assert len(found) == len(pairs)
    assert not [outcome for outcome in found if outcome.forgeable]
    return [str(outcome) for outcome in found if not outcome.passed and outcome.problem_id not in REFERENCE_EXCEPTIONS]


def mutated(pairs: list[Row], each: int) -> list[Row]:
    """Mutants of reference programs."""
    return [
        (problem, mutant)
        for number, (problem, program) in enumerate(pairs)
        for mutant in mutants(program.replace("\r", ""), each, number)
    ]


def test_reference_solutions_sample() -> None:
    pairs = rows(19)
    assert len(pairs) >= 60
    assert all_pass(pairs) == []


def test_mutants_sample() -> None:
    assert differences(mutated(rows(24), 2), MUTANT_LIMITS, MUTANT_EXCEPTIONS) == []


@pytest.mark.slow
def test_all_reference_solutions() -> None:
    pairs = rows(1)
    assert len(pairs) == 164 + 974
    assert all_pass(pairs) == []


@pytest.mark.slow
def test_thousands_of_mutants() -> None:
    pairs = mutated(rows(1), 6)
    assert len(pairs) > 4000
    assert differences(pairs, MUTANT_LIMITS, MUTANT_EXCEPTIONS) == []
