"""The public API: verdicts, error classes, streaming, limits, and what the tests may do with the program."""

# ruff: noqa: E501
from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hrmctl_sandbox import ErrorClass, Limits, Outcome, Problem, Sample, judge, pool

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=8.0)


def outcomes(problem: Problem, *programs: str, limits: Limits = LIMITS, allow_forgeable: bool = False) -> list[Outcome]:
    """The outcomes of some programs for one problem, in the order of the programs."""
    samples = [Sample(problem.id, number, program) for number, program in enumerate(programs)]
    found = judge([problem], samples, limits=limits, workers=1, allow_forgeable=allow_forgeable)
    return sorted(found, key=lambda outcome: outcome.index)


def verdict(tests: str | tuple[str, ...], program: str, entry_point: str | None = None, setup: str = "") -> Outcome:
    """The outcome of one program for one problem."""
    texts = (tests,) if isinstance(tests, str) else tests
    return outcomes(Problem("p", texts, entry_point, setup), program)[0]


ADD = Problem("add", ("assert add(1, 2) == 3", "assert add([1], [2]) == [1, 2]"))


CLASSES = [
    ("def add(a, b): return a + b", ErrorClass.PASSED, ""),
    ("def add(a, b): return a - b", ErrorClass.WRONG_ANSWER, "assert add(1, 2) == 3"),
    ("def add(a, b) return a", ErrorClass.SYNTAX, "SyntaxError: expected ':'"),
    ("add = " + "-" * 100_000 + "1", ErrorClass.COMPILE, "MemoryError:"),
    ("def add(a, b): return a + c", ErrorClass.RUNTIME, "NameError: name 'c' is not defined"),
    ("raise ValueError('at\\nimport')", ErrorClass.RUNTIME, "ValueError: at import"),
    ("def other(a, b): return a + b", ErrorClass.RUNTIME, "NameError: name 'add' is not defined"),
    ("def add(a, b): assert False, 'mine'", ErrorClass.RUNTIME, "AssertionError: mine"),
    ("def add(a, b): return bytearray(1 << 40)", ErrorClass.MEMORY, "MemoryError:"),
    ("x = bytearray(1 << 40)", ErrorClass.MEMORY, "MemoryError:"),
    ("def add(a, b):\n while True: pass", ErrorClass.TIMEOUT, "over 0.3 s of CPU time"),
    ("import os\ndef add(a, b): os._exit(3)", ErrorClass.RUNTIME, "the program ended with exit code 3"),
    ("import ctypes\ndef add(a, b): ctypes.string_at(0)", ErrorClass.KILLED, "the program ended by signal 11"),
]


def test_error_classes() -> None:
    found = outcomes(ADD, *(program for program, _, _ in CLASSES), limits=Limits(cpu_seconds=0.3, wall_seconds=8))
    for (program, error, detail), outcome in zip(CLASSES, found, strict=True):
        assert (outcome.error, outcome.passed) == (error, error is ErrorClass.PASSED), (program, outcome)
        assert outcome.detail.startswith(detail)
        assert len(outcome.detail) <= 200
        assert "\n" not in outcome.detail


def test_outcome_carries_its_sample_and_its_cost() -> None:
    (outcome,) = judge([ADD], [Sample("add", 41, "def add(a, b): return a + b")], limits=LIMITS)
    assert (outcome.problem_id, outcome.index, outcome.forgeable) == ("add", 41, False)
    assert 0 < outcome.cpu_seconds < 1
    assert outcome.wall_seconds > 0
    assert outcome.mode == pool.isolation().mode


def test_cpu_time_decides_not_wall_time() -> None:
    sleeper = "import time\ndef add(a, b):\n    time.sleep(0.6)\n    return a + b"
    (outcome,) = outcomes(ADD, sleeper, limits=Limits(cpu_seconds=0.3, wall_seconds=20))
    assert outcome.passed, outcome
    assert outcome.wall_seconds > 1
    assert outcome.cpu_seconds < 0.3


def test_wall_limit_ends_a_sleeper() -> None:
    (outcome,) = outcomes(
        ADD, "import time\ndef add(a, b): time.sleep(60)", limits=Limits(cpu_seconds=1, wall_seconds=0.5)
    )
    assert (outcome.error, outcome.detail) == (ErrorClass.TIMEOUT, "over 0.5 s")


def test_identical_programs_run_once_and_all_get_an_outcome() -> None:
    program = "import random\ndef add(a, b): return random.random()"
    found = outcomes(ADD, program, program, program, program)
    assert len(found) == 4
    assert len({(outcome.cpu_seconds, outcome.wall_seconds) for outcome in found}) == 1


def test_samples_are_pulled_only_as_workers_come_free() -> None:
    pulled: list[int] = []

    def samples() -> Iterator[Sample]:
        for number in range(30):
            pulled.append(number)
            yield Sample("add", number, f"def add(a, b): return a + b  # {number}")

    found = judge([ADD], samples(), limits=LIMITS, workers=1)
    first = next(found)
    assert first.passed
    assert len(pulled) < 10
    assert sum(outcome.passed for outcome in found) == 29


def test_workers_share_the_samples() -> None:
    samples = [Sample("add", number, f"def add(a, b): return a + b  # {number}") for number in range(40)]
    found = list(judge([ADD], samples, limits=LIMITS, workers=3))
    assert sorted(outcome.index for outcome in found) == list(range(40))
    assert all(outcome.passed for outcome in found)


def test_closing_early_leaves_no_process() -> None:
    samples = (Sample("add", number, f"def add(a, b): return a + b  # {number}") for number in range(100))
    before = set(_descendants(os.getpid()))
    found = judge([ADD], samples, limits=LIMITS, workers=1)
    next(found)
    # Another test of this process may have left its own judge open.
    started = set(_descendants(os.getpid())) - before
    assert len(started) >= 3
    found.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 30
    while _alive(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(started)


def _descendants(process: int) -> list[int]:
    try:
        with open(f"/proc/{process}/task/{process}/children") as stream:
            children = [int(number) for number in stream.read().split()]
    except OSError:
        return []
    return children + [number for child in children for number in _descendants(child)]


def _alive(processes: set[int]) -> set[int]:
    return {process for process in processes if os.path.exists(f"/proc/{process}")}


def test_bad_requests_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="two problems have the id 'add'"):
        judge([ADD, ADD], [])
    with pytest.raises(ValueError, match="unknown problem: 'sub'"):
        list(judge([ADD], [Sample("sub", 0, "")], workers=1))
    with pytest.raises(ValueError, match="workers"):
        judge([ADD], [], workers=0)
    with pytest.raises(ValueError, match="cpu_seconds must be positive"):
        Limits(cpu_seconds=float("nan"))


def test_a_program_seen_before_gets_its_outcome_again() -> None:
    def samples() -> Iterator[Sample]:
        for number in range(20):
            yield Sample("add", number, f"def add(a, b): return a + b  # {0 if number == 19 else number}")

    found = {outcome.index: outcome for outcome in judge([ADD], samples(), limits=LIMITS, workers=1)}
    assert found[19].cpu_seconds == found[0].cpu_seconds
    assert found[19].wall_seconds == found[0].wall_seconds


def test_memory_limit() -> None:
    tests = Problem("p", ("assert f(100 << 20) == 100 << 20", "assert f(300 << 20) == 300 << 20"))
    program = "def f(n): return len(bytearray(n))"
    assert outcomes(tests, program)[0].passed
    small = outcomes(tests, program, limits=Limits(cpu_seconds=1, wall_seconds=8, memory_bytes=256 << 20))[0]
    assert (small.error, small.detail) == (ErrorClass.MEMORY, "MemoryError:")


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of Linux")
def test_resource_limits_hold_in_the_program() -> None:
    names = ("FSIZE", "CORE", "NPROC", "MEMLOCK")
    program = "import resource\ndef f(n): return resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[1]"
    tests = (*(f"assert f({name!r}) == 0" for name in names), "assert f('CPU') == 4", "assert f('NOFILE') <= 64")
    assert outcomes(Problem("p", tests), program)[0].passed


def test_an_answer_in_advance_is_not_an_answer() -> None:
    program = (
        "import json, os, struct\nfor reply in (['x', 'loaded', {'add': ['h', 0, None]}], ['x', 'value', 3, None], "
        "['x', 'value', ['l', 1, 2], None]):\n    body = json.dumps(reply).encode()\n"
        "    os.write(3, struct.pack('>I', len(body)) + body)\ndef add(a, b): return 0"
    )
    (outcome,) = outcomes(ADD, program)
    assert (outcome.error, outcome.detail) == (
        ErrorClass.KILLED,
        "the program broke the protocol: an answer to no question",
    )


def test_a_builtin_stays_the_judges_own_unless_it_is_the_entry_point() -> None:
    tests = ("def check(candidate):\n    assert abs(candidate(2) - 4) < 1e-6\n",)
    assert not outcomes(Problem("p", tests, "square"), "def square(x): return 0\ndef abs(x): return 0")[0].passed
    assert outcomes(Problem("p", ("assert max(1) == 2",), "max"), "def max(x): return 2")[0].passed


def test_no_samples_no_outcomes() -> None:
    assert list(judge([ADD], [])) == []


REFUSED = [
    ((), None, "the problem has no tests"),
    (("assert True",), None, "the tests call nothing of the program"),
    (("def check(candidate):\n    assert True\n",), "f", "the tests never call the program"),
    (("assert f(",), None, "the tests do not compile"),
    (("class T: pass\nassert f(T()) == 1",), None, "the tests pass a T, which cannot leave the judge"),
    (("assert f(1) == f(2)",), None, "the tests compare two objects of the program"),
    (("assert f(1) < 3",), None, "the tests leave the operator lt to the program"),
]


def test_tests_that_prove_nothing_are_refused() -> None:
    program = "class f:\n    def __init__(self, x): pass\n    def __lt__(self, o): return True"
    problems = [Problem(str(number), texts, entry_point) for number, (texts, entry_point, _) in enumerate(REFUSED)]
    samples = [Sample(problem.id, int(problem.id), program) for problem in problems]
    for outcome in judge(problems, samples, limits=LIMITS, workers=1):
        assert (outcome.error, outcome.passed) == (ErrorClass.REFUSED, False), outcome
        assert outcome.detail.startswith(REFUSED[outcome.index][2])


def test_a_test_that_catches_everything_cannot_save_a_refused_program() -> None:
    tests = "try:\n    assert f(1) < 3\nexcept BaseException:\n    pass"
    assert verdict(tests, "class f:\n    def __init__(self, x): pass").error is ErrorClass.REFUSED


def test_forgeable_where_asked_for_and_marked() -> None:
    problem = Problem("p", ("assert f(1) == f(1)", "assert f(1) < 3", "assert 2 + f(1) == 3"))
    program = (
        "class f:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n"
        "    def __lt__(self, o): return self.x < o\n    def __radd__(self, o): return o + self.x"
    )
    (outcome,) = outcomes(problem, program, allow_forgeable=True)
    assert (outcome.passed, outcome.forgeable) == (True, True)


def test_helpers_of_the_program_make_a_pass_forgeable_and_setup_makes_it_sure() -> None:
    tests = ("def check(candidate):\n    assert close(candidate(2), 4)\n",)
    cheat = "def square(x): return 0\ndef close(a, b): return True"
    loose = outcomes(Problem("p", tests, "square"), cheat)[0]
    assert (loose.passed, loose.forgeable) == (True, True)
    setup = "def close(a, b):\n    return abs(a - b) < 1e-6\ndef square(x): pass\n"
    strict = Problem("p", tests, "square", setup)
    assert outcomes(strict, cheat)[0].error is ErrorClass.WRONG_ANSWER
    honest = outcomes(strict, "def square(x): return x * x")[0]
    assert (honest.passed, honest.forgeable) == (True, False)


def test_check_is_called_once_whether_or_not_the_tests_call_it() -> None:
    check = "calls = []\ndef check(candidate):\n    calls.append(candidate())\n    assert calls == [1]\n"
    assert verdict(check, "def one(): return 1", "one").passed
    assert verdict(check + "check(one)\n", "def one(): return 1", "one").passed
    assert not verdict(check, "def one(): return 2", "one").passed


ALLOWED = [
        ("x = [3, 1]\nf(x)\nassert x == [1, 3]", "def f(x): x.sort()"),
        ("x = {'a': [1]}\nassert f(x) is None\nassert x == {'a': [1, 2], 'b': 3}", "def f(x): x['a'] += [2]; x['b'] = 3"),
        ("x = [1]\nassert f(x) is x", "def f(x): return x"),
        ("x = [1]\ny = f([x, x])\nassert y[0] is y[1]", "def f(x): return x"),
        ("x = []\nx.append(x)\nassert f(x) == 1", "def f(x): return len(x) if x[0] is x else 0"),
        ("x = {1}\nf(x)\nassert x == {1, 2}", "def f(x): x.add(2)"),
        ("x = bytearray(b'a')\nf(x)\nassert x == b'ab'", "def f(x): x.append(98)"),
        ("n = f(1)\nn.left = f(2)\nassert n.left.value == 2 and n.total() == 3", "class f:\n    left = None\n"
         "    def __init__(s, v): s.value = v\n    def total(s): return s.value + (s.left.total() if s.left else 0)"),
        ("assert list(f(3)) == [0, 1, 2]", "def f(n): yield from range(n)"),
        ("assert [a + b for a, b in f()] == [3]", "def f(): return zip([1], [2])"),
        ("o = f()\no[1] = 2\nassert len(o) == 1 and o[1] == 2 and 1 in o and bool(o)", "from collections import UserDict\n"
         "def f(): return UserDict()"),
        ("assert f(lambda x: x + 1, [1, 2]) == [2, 3]", "def f(g, x): return [g(y) for y in x]"),
        ("assert f(int, ['1']) == [1]", "def f(g, x): return [g(y) for y in x]"),
        ("def g(n):\n    return 1 if n == 0 else n * f(g, n - 1)\nassert f(g, 5) == 120", "def f(g, n): return g(n)"),
        ("def g(x):\n    raise KeyError(x)\ntry:\n    f(g)\nexcept ValueError as e:\n    assert str(e) == \"'k'\"",
         "def f(g):\n    try: g('k')\n    except KeyError as e: raise ValueError(str(e))"),
        ("try:\n    f(0)\n    assert False\nexcept ZeroDivisionError as e:\n    assert 'zero' in str(e)", "def f(x): return 1 / x"),
        ("try:\n    f()\n    assert False\nexcept LookupError:\n    pass", "class E(KeyError): pass\ndef f(): raise E('x')"),
        ("assert f(a=1, b=[2]) == (1, [2])", "def f(*, a, b): return a, b"),
        ("assert math.isclose(f(), 0.3)", "import math\ndef f(): return 0.1 + 0.2"),
        ("import math\nassert f(2.0) == 2", "def f(x): return math.floor(x)"),
        ("assert sum(10, 15) == 6", "def sum(a, b): return 6"),
        ("assert f() == LIMIT", "LIMIT = [7]\ndef f(): return LIMIT"),
        ("assert isinstance(f(), float) and type(f()) is float", "def f(): return 1.0"),
        ("assert str(f()) == 'me' and repr(f()) == 'me' and f().__dict__ == {'x': 1}", "class f:\n"
         "    def __init__(s): s.x = 1\n    def __repr__(s): return 'me'"),
        ("c = f\nassert isinstance(f(), c)", "class f: pass"),
        ("x = f()\nassert x == x and x != 3 and x in [x]", "class f: pass"),
        ("assert f(float('nan')) != 0 and f(float('inf')) == float('inf')", "def f(x): return x"),
        ("import random\nfor _ in range(5):\n    n = random.random()\n    assert f(n) == n", "def f(x): return x"),
]  # fmt: skip
FORBIDDEN = [
        ("assert math.isclose(f(), 0.3)", "class math:\n    isclose = lambda *a: True\ndef f(): return 0"),
        ("assert math.isclose(f(), 0.3)", "import math\nmath.isclose = lambda *a: True\ndef f(): return 0"),
        ("assert len(f()) == 3", "def len(x): return 3\ndef f(): return []"),
        ("assert abs(f() - 3) < 1e-6", "def abs(x): return 0\ndef f(): return 0"),
        ("assert f() == 3", "f = lambda: 4\nassert True"),
        ("assert f() == True", "class T:\n    def __eq__(s, o): return True\nf = T"),
        ("assert f() in [1, 2]", "class T:\n    def __eq__(s, o): return True\nf = T"),
        ("assert f() != 3", "def f(): return 3"),
        ("assert not f()", "class f:\n    def __bool__(s): return 'no'"),
        ("assert sorted(f()) == [1]", "def f(): return iter(int, 0)"),
        ("d = {1: 2}\nf(d)\nassert d == {1: 2}", "def f(d): d.clear()"),
        ("try:\n    f()\nexcept ValueError:\n    pass\nelse:\n    assert False", "def f(): raise KeyError"),
]  # fmt: skip


def judged(table: list[tuple[str, str]]) -> list[Outcome]:
    """The outcomes of (tests, program) pairs, in their order."""
    problems = [Problem(str(number), (tests,)) for number, (tests, _) in enumerate(table)]
    samples = [Sample(str(number), number, program) for number, (_, program) in enumerate(table)]
    return sorted(judge(problems, samples, limits=LIMITS, workers=1), key=lambda outcome: outcome.index)


def test_what_tests_may_do_with_a_program() -> None:
    assert [(*ALLOWED[outcome.index], outcome) for outcome in judged(ALLOWED) if not outcome.passed] == []


def test_what_does_not_pass() -> None:
    assert [(*FORBIDDEN[outcome.index], outcome) for outcome in judged(FORBIDDEN) if outcome.passed] == []


def test_foreseen_calls_give_the_verdict_of_calls_made_one_by_one() -> None:
    stateful = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)"
    tests = ("assert f(1) == 1", "assert f(1) == 2", "y = f(2)\nassert f(y) == 4")
    assert verdict(tests, stateful).passed
    branching = ("if f(0) > 5:\n    assert f(1) == 9\nelse:\n    assert f(2) == 2",)
    assert verdict(branching, stateful).passed


def test_a_program_is_loaded_like_a_module() -> None:
    program = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "if __name__ == '__main__':\n    raise SystemExit\ndef f(): return P(3).x"
    )
    assert verdict("assert f() == 3", program).passed


def test_assertions_hold_in_an_optimised_interpreter() -> None:
    script = (
        "from hrmctl_sandbox import *\n"
        "found = list(judge([Problem('p', ('assert f() == 1',))], [Sample('p', 0, 'def f(): return 2')], workers=1))\n"
        "raise SystemExit(found[0].passed)"
    )
    assert subprocess.run([sys.executable, "-O", "-c", script], timeout=60, check=False).returncode == 0
    direct = (
        "from hrmctl_sandbox import Problem\nfrom hrmctl_sandbox.preparation import prepare, run_tests\n"
        "run_tests(prepare(Problem('p', ('assert f() == 1',))), {'f': lambda: 2}, {})"
    )
    done = subprocess.run([sys.executable, "-O", "-c", direct], timeout=60, check=False, capture_output=True, text=True)
    assert "AssertionError" in done.stderr
