"""Who decides: what the judge compares itself, what ends a loop of the tests, and what marks a pass as forgeable."""

from __future__ import annotations

import pytest
from hrmctl_sandbox import ErrorClass, Limits, Outcome, Problem, Sample, judge

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=20.0)


def judged(*pairs: tuple[str, str]) -> list[Outcome]:
    """The outcomes of (tests, program) pairs, in their order."""
    problems = [Problem(str(number), (tests,)) for number, (tests, _) in enumerate(pairs)]
    samples = [Sample(str(number), number, program) for number, (_, program) in enumerate(pairs)]
    return sorted(judge(problems, samples, limits=LIMITS, workers=1), key=lambda outcome: outcome.index)


def test_a_program_cannot_end_the_loops_of_the_tests() -> None:
    stop, ends = "def f(x): raise StopIteration", "RuntimeError: the program raised StopIteration"
    sized = "class f:\n    def __init__(self, x): pass\n    def __len__(self): raise StopIteration"
    found = judged(
        ("assert all(map(lambda n: f(n) == n, [1, 2]))", stop),
        ("assert list(filter(lambda n: f(n) != n, [1, 2])) == []", stop),
        ("assert sum(map(len, map(f, [1]))) == 0", sized),
        ("assert next(f(1), 3) == 3", "def f(x): return iter(())"),
        ("assert list(f(2)) == [0, 1]", "def f(x):\n    yield from range(x)"),
    )  # fmt: skip
    assert [outcome.detail for outcome in found[:3]] == [ends] * 3
    assert [outcome.passed for outcome in found[3:]] == [True, True]


def test_members_are_compared_in_the_judge() -> None:
    liar = "class f(list):\n    def __contains__(s, o): return True"
    box = "class Box:\n    def __init__(s, *a): s.a = a\n    def __iter__(s): return iter(s.a)\n"
    looks = box + "    def __contains__(s, o): raise ValueError(o)\n"
    found = judged(
        ("assert 1729 in f()", liar),
        ("assert 1729 in f()", looks + "def f(): return Box(1, 2)"),
        ("assert 2 in f() and 3 not in f()", looks + "def f(): return Box(1, 2)"),
        ("assert 2 in f()", "def f(): return iter([1, 2])"),
        ("assert 3 in f()", "class E:\n    def __contains__(s, o): return True\ndef f(): return E()"),
    )
    assert [outcome.passed for outcome in found] == [False, False, True, True, False]
    assert {outcome.error for outcome in found[:2]} == {ErrorClass.WRONG_ANSWER}


@pytest.mark.parametrize("answer", ["10 ** 5000", "E(SystemExit)", "E(__import__('os')._exit)"])
def test_an_answer_that_cannot_be_shown_is_a_wrong_one(answer: str) -> None:
    program = f"class E:\n    def __init__(s, k): s.k = k\n    def __repr__(s): raise s.k(3)\ndef f(): return {answer}"
    found, honest = judged(("found = f()\nassert found == 1, found", program), ("assert f() == 1", "def f(): return 1"))
    assert not found.passed
    assert "died" not in found.detail
    assert honest.passed


def test_a_name_that_judges_another_of_the_programs_makes_a_pass_forgeable() -> None:
    pair = "class Pair:\n    def __init__(s, a, b): s.a = a\ndef f(x): return len(x)\ndef close(a, b): return True\n"
    found = judged(
        ("assert close(f([1]), 2)", pair),
        ("assert not np.differ(f([1]), 2)", pair + "class np: differ = lambda a, b: False"),
        ("assert f([Pair(1, 2)]) == 1", pair),
        ("p = Pair(1, 2)\nassert f([p]) == 1\nassert f([1])", pair),
    )
    assert [(outcome.passed, outcome.forgeable) for outcome in found] == [(True, True)] * 2 + [(True, False)] * 2
