"""Tests that run in the program's own process: only where asked for, never without a test, always marked."""

from __future__ import annotations

import pytest
from hrmctl_sandbox import ErrorClass, Limits, Outcome, Problem, Sample, judge

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=20.0)
TESTS = """
import unittest
from unittest import TestCase, mock
from unittest.mock import MagicMock, patch

class TestCases(unittest.TestCase):
    def setUp(self):
        self.data = MagicMock(return_value=2)

    def test_plain(self):
        self.assertEqual(task_func(1), self.data())

    @patch("os.getcwd", return_value="/patched")
    def test_patched_module(self, getcwd):
        self.assertEqual(where(), "/patched")
        getcwd.assert_called_once()

    @patch("__test__.helper", return_value=7)
    def test_patched_helper(self, helper):
        self.assertEqual(task_func(1), 8)
        with self.assertRaises(TypeError):
            task_func("x")
"""
GOOD = (
    "import os\ndef helper(): return 1\ndef task_func(x): return x + helper()\ndef where(): return os.getcwd()\n"
    "if __name__ == '__main__':\n    raise SystemExit(task_func(3))\n"
)
SUITE = Problem("p", (TESTS,), "task_func", shared=True)


def outcomes(problems: list[Problem], programs: list[str], allow_forgeable: bool = True) -> list[Outcome]:
    """The outcomes of each problem's own program, or of all programs for the one problem."""
    pairs = zip(problems * len(programs) if len(problems) == 1 else problems, programs, strict=True)
    samples = [Sample(problem.id, number, program) for number, (problem, program) in enumerate(pairs)]
    found = judge(
        problems, samples, limits=LIMITS, workers=1, allow_forgeable=allow_forgeable, packages=["unittest.mock"]
    )
    return sorted(found, key=lambda outcome: outcome.index)


def test_refused_unless_asked_for() -> None:
    (found,) = outcomes([SUITE], [GOOD], allow_forgeable=False)
    assert (found.error, found.passed, found.forgeable) == (ErrorClass.REFUSED, False, False)
    assert "allow_forgeable" in found.detail
    assert found.cpu_seconds == 0


T = "__test__.TestCases."
OTHERS = "import unittest\nclass TestMine(unittest.TestCase):\n    def test(self): self.fail()"
CLASSES = [
    (GOOD, ErrorClass.PASSED, ""),
    (GOOD.replace("x + helper()", "x + 2"), ErrorClass.WRONG_ANSWER,
     T + "test_patched_helper: AssertionError: 3 != 8"),
    (GOOD.replace("x + helper()", "1 / 0"), ErrorClass.RUNTIME, T + "test_patched_helper: ZeroDivisionError"),
    (GOOD.replace("os.getcwd()", "'/patched'"), ErrorClass.WRONG_ANSWER,
     T + "test_patched_module: AssertionError:"),
    (GOOD.replace("x + helper()", "bytearray(1 << 50)"), ErrorClass.MEMORY, T + "test_patched_helper: MemoryError"),
    ("def task_func(", ErrorClass.SYNTAX, "SyntaxError: '(' was never closed"),
    ("1 / 0", ErrorClass.RUNTIME, "ZeroDivisionError: division by zero"),
    ("import sys\nsys.exit(0)", ErrorClass.RUNTIME, "SystemExit: 0"),
    ("import os\nos._exit(0)", ErrorClass.RUNTIME, "the program ended with exit code 0 before it answered"),
    (GOOD.replace("return x + helper()", "\n while True: pass"), ErrorClass.TIMEOUT, "over 1 s of CPU time"),
    (GOOD + OTHERS, ErrorClass.PASSED, ""),
    (GOOD + "class TestCases: pass", ErrorClass.PASSED, ""),
    ("", ErrorClass.RUNTIME, T + "test_patched_helper: AttributeError"),
]  # fmt: skip


def test_error_classes_of_a_suite() -> None:
    for (program, error, detail), outcome in zip(CLASSES, outcomes([SUITE], [row[0] for row in CLASSES]), strict=True):
        assert (outcome.error, outcome.forgeable) == (error, error is ErrorClass.PASSED), (program, outcome)
        assert outcome.detail.startswith(detail), (program, outcome.detail)


HEAD = "import unittest\nclass T(unittest.TestCase):\n"
PLAIN = [
    (Problem("assert", ("assert f(1) == 2",)), ErrorClass.PASSED, ""),
    (Problem("several", ("x = f(1)", "assert x == f(1)", "assert f(x) == 4")), ErrorClass.WRONG_ANSWER,
     "AssertionError assert f(x) == 4"),
    (Problem("check", ("def check(c):\n    assert c(1) == 2",), "f"), ErrorClass.PASSED, ""),
    (Problem("error", ("assert f('x') == 2",)), ErrorClass.RUNTIME, "TypeError: "),
    (Problem("own", ("assert bad() == 2",)), ErrorClass.RUNTIME, "AssertionError: mine assert bad() == 2"),
    (Problem("setup", ("assert f(1) == g(1)",), "f", "def g(x): return x + 1\ndef f(x): return 0"),
     ErrorClass.PASSED, ""),
    (Problem("raise", ("if f(1) != 3:\n    raise ValueError('no')",)), ErrorClass.RUNTIME, "ValueError: no"),
    (Problem("unequal", ("class C: pass\nassert f(1) < f(2)",)), ErrorClass.PASSED, ""),
    (Problem("fails", (HEAD + "    @unittest.expectedFailure\n    def test(self): pass\nassert f(1) == 2",)),
     ErrorClass.WRONG_ANSWER, "__test__.T.test: unexpected success"),
    (Problem("nothing", ("f(1)",)), ErrorClass.REFUSED, "the tests assert nothing"),
    (Problem("uncalled", ("def check(c):\n    assert c(1) == 3",)), ErrorClass.REFUSED, "the tests assert nothing"),
    (Problem("uncollected", (HEAD + "    def nope(self):\n        assert f(1) == 3",)), ErrorClass.REFUSED,
     "the tests assert nothing"),
    (Problem("skipped", (HEAD + "    @unittest.skip('')\n    def test(self):\n        assert f(1) == 3",)),
     ErrorClass.REFUSED, "the tests assert nothing"),
    (Problem("broken", ("assert f(",)), ErrorClass.REFUSED, "the tests do not compile"),
    (Problem("none", ()), ErrorClass.REFUSED, "the problem has no tests"),
]  # fmt: skip
PROGRAM = "def g(x): return 0\ndef f(x): return x + 1\ndef bad():\n    assert False, 'mine'\n"


def test_a_name_that_begins_with_assert_asserts_nothing() -> None:
    task = Problem("name", ("asserted = 1\nf(asserted)",), shared=True)
    (outcome,) = judge([task], [Sample("name", 0, "def f(x): return x")], workers=1, allow_forgeable=True)
    assert outcome.error is ErrorClass.REFUSED


def test_plain_tests_and_tests_that_prove_nothing() -> None:
    problems = [Problem(item.id, item.tests, item.entry_point, item.setup, shared=True) for item, _, _ in PLAIN]
    for (problem, error, detail), outcome in zip(PLAIN, outcomes(problems, [PROGRAM] * len(PLAIN)), strict=True):
        assert (outcome.error, outcome.forgeable) == (error, error is ErrorClass.PASSED), (problem.id, outcome)
        assert outcome.detail.startswith(detail), (problem.id, outcome.detail)


def test_the_verdict_of_a_shared_process_is_data_that_is_checked() -> None:
    """A program that writes its own report may pass, for that is what forgeable means, but can break nothing."""
    report = (
        "import sys, json, os, struct\nidentity = sys._getframe(1).f_locals['identity']\n"
        "body = json.dumps([identity, 'tested', {report}]).encode()\n"
        "os.write(3, struct.pack('>I', len(body)) + body)\nos._exit(0)"
    )
    reports = [
        "'passed', '', 1",
        "'passed', '', 'x'",
        "'perfect', '', 1",
        "'passed'",
        "['passed'], {}, None",
        "'passed', '', 0",
    ]
    found = outcomes([SUITE], [report.replace("{report}", text) for text in reports])
    assert [(outcome.passed, outcome.forgeable) for outcome in found] == [(True, True)] + [(False, False)] * 5
    assert {outcome.error for outcome in found[1:5]} == {ErrorClass.KILLED}
    assert found[5].error is ErrorClass.REFUSED


@pytest.mark.parametrize("attack", ["open('/etc/passwd')", "__import__('socket').socket()", "__import__('os').fork()"])
def test_a_shared_process_is_contained_like_any_other(attack: str) -> None:
    (found,) = outcomes([SUITE], [f"{attack}\n{GOOD}"])
    assert found.error is ErrorClass.RUNTIME
    assert "Error: " in found.detail


def test_tests_that_cannot_be_split_stay_refused_where_not_marked_shared() -> None:
    problem = Problem("p", ("class T: pass\nassert f(T()) == 1",))
    (found,) = outcomes([problem], ["def f(x): return 1"])
    assert (found.error, found.detail) == (ErrorClass.REFUSED, "the tests pass a T, which cannot leave the judge")
