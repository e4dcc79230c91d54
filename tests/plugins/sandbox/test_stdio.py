"""Scripts with standard input: how they may read and write, what is compared, and what every case has to itself."""

from __future__ import annotations

import pytest
from hrmctl_sandbox import Case, ErrorClass, Limits, Outcome, Problem, Sample, judge, remote
from hrmctl_sandbox.stdio import difference
from hypothesis import given
from hypothesis import strategies as st

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=20.0)
SUM = (Case("1 2\n", "3\n"), Case("5 6", "11"))


def outcomes(cases: tuple[Case, ...], *programs: str, limits: Limits = LIMITS) -> list[Outcome]:
    """The outcomes of some scripts on the same cases, in the order of the scripts."""
    samples = [Sample("p", number, program) for number, program in enumerate(programs)]
    found = judge([Problem("p", cases=cases)], samples, limits=limits, workers=1)
    return sorted(found, key=lambda outcome: outcome.index)


SAME = [
    ("3", "3\n"), ("  3 \n\n", "3"), ("1 \n 2", "1\n2"), ("1.50 2", "1.5 2.0"), ("1e3", "1000"), ("-0", "0"),
    ("1   2", "1 2"), ("", "\n"), ("a\r\n b", "a\nb"), ("a b", "a b"), ("Infinity", "inf"),
]  # fmt: skip
DIFFERENT = [
    ("3", "4", "line 1 is '3' instead of '4'"),
    ("1\n2", "1\n3", "line 2 is '2' instead of '3'"),
    ("1 2", "1\n2", "1 lines instead of 2"),
    ("1\n\n2", "1\n2", "3 lines instead of 2"),
    ("yes", "Yes", "line 1 is 'yes' instead of 'Yes'"),
    ("a  b", "a b", "line 1 is 'a  b' instead of 'a b'"),
    ("0.1", "0.10000000000000001", "line 1 is '0.1' instead of '0.10000000000000001'"),
    ("50000000000000000", "50000000000000001", "line 1 is '50000000000000000' instead of '50000000000000001'"),
    ("1 2", "1", "line 1 is '1 2' instead of '1'"),
    ("1 x", "1.0 x", "line 1 is '1 x' instead of '1.0 x'"),
    ("nan x", "NaN x", "line 1 is 'nan x' instead of 'NaN x'"),
    ("snan", "1", "line 1 is 'snan' instead of '1'"),
    ("", "3", "line 1 is '' instead of '3'"),
    ("x" * 100, "y", f"line 1 is '{'x' * 60}...' instead of 'y'"),
]


@pytest.mark.parametrize(("written", "expected"), SAME)
def test_same(written: str, expected: str) -> None:
    assert difference(written, expected) == ""


@pytest.mark.parametrize(("written", "expected", "found"), DIFFERENT)
def test_different(written: str, expected: str, found: str) -> None:
    assert difference(written, expected) == found


@given(st.lists(st.lists(st.integers(), min_size=1), min_size=1), st.data())
def test_only_numbers_count_not_how_they_are_written(table: list[list[int]], data: st.DataObject) -> None:
    written = "\n".join(" ".join(f"{number}.0" for number in line) + " " for line in table)
    assert difference(written, "\n".join("  ".join(map(str, line)) for line in table)) == ""
    row = data.draw(st.integers(0, len(table) - 1))
    column = data.draw(st.integers(0, len(table[row]) - 1))
    table[row][column] += data.draw(st.sampled_from((-1, 1)))
    assert difference(written, "\n".join(" ".join(map(str, line)) for line in table)).startswith(f"line {row + 1} is")


WAYS = [
    "a, b = map(int, input().split())\nprint(a + b)",
    "import sys\nif __name__ == '__main__':\n    print(sum(map(int, sys.stdin.read().split())))",
    "import sys\nfor line in sys.stdin:\n    sys.stdout.write(str(sum(map(int, line.split()))))",
    "import sys\nread = sys.stdin.buffer.readline\nsys.stdout.buffer.write(b'%d' % sum(map(int, read().split())))",
    "print(sum(map(int, open(0).read().split())))\nraise SystemExit",
    "print(*[sum(map(int, open(0, 'rb').read().split()))])\nexit(0)",
    "import sys\nprint(eval(sys.stdin.readline().replace(' ', '+')))\nsys.exit()",
    "import os\nos.write(1, b'%d' % sum(map(int, os.read(0, os.fstat(0).st_size or 100).split())))\nos._exit(0)",
    "import atexit, io, os, sys\nsys.stdin = io.BytesIO(os.read(0, 100))\nsys.stdout = io.StringIO()\n"
    "atexit.register(lambda: os.write(1, sys.stdout.getvalue().encode()))\n"
    "print(sum(map(int, sys.stdin.readline().split())))",
    "import sys, threading\ndef main():\n    print(sum(map(int, input().split())))\nsys.setrecursionlimit(10 ** 6)\n"
    "threading.stack_size(1 << 26)\nwork = threading.Thread(target=main)\nwork.start()\nwork.join()",
    "import sys\nsys.stderr.write('debug')\nprint(sum(map(int, input().split())), end='.0')",
    "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass P:\n"
    "    x: int\n    y: int\nimport __main__ as m\nprint(sum(dataclasses.astuple(m.P(*map(int, input().split())))))",
]


def test_ways_to_read_and_write() -> None:
    found = outcomes(SUM, *WAYS)
    assert [(WAYS[outcome.index], outcome.detail) for outcome in found if not outcome.passed] == []
    assert not any(outcome.forgeable for outcome in found)


FAILURES = [
    ("print(3)", ErrorClass.WRONG_ANSWER, "case 2: line 1 is '3' instead of '11'"),
    ("", ErrorClass.WRONG_ANSWER, "case 1: line 1 is '' instead of '3'"),
    ("print(3)\nimport sys\nsys.exit(3)", ErrorClass.RUNTIME, "case 1: SystemExit: 3"),
    ("print(3)\nimport os\nos._exit(4)", ErrorClass.RUNTIME, "case 1: the program ended with exit code 4"),
    ("print(3)\n1 / 0", ErrorClass.RUNTIME, "case 1: ZeroDivisionError: division by zero"),
    ("input()\ninput()", ErrorClass.RUNTIME, "case 1: EOFError: EOF when reading a line"),
    ("print(3", ErrorClass.SYNTAX, "case 1: SyntaxError: '(' was never closed"),
    ("x = " + "-" * 100_000 + "1", ErrorClass.COMPILE, "case 1: MemoryError:"),
    ("x = bytearray(1 << 40)", ErrorClass.MEMORY, "case 1: MemoryError:"),
    ("while True: pass", ErrorClass.TIMEOUT, "case 1: over 0.3 s of CPU time"),
    ("while True: print('x' * 4096)", ErrorClass.KILLED, "case 1: wrote more than 100000 bytes"),
    ("import ctypes\nctypes.string_at(0)", ErrorClass.KILLED, "case 1: the program ended by signal 11"),
    ("import os\nos.closerange(0, 64)\nwhile True: pass", ErrorClass.KILLED, "case 1: the program ended by signal 9"),
]


def test_error_classes_name_the_case() -> None:
    limits = Limits(cpu_seconds=0.3, wall_seconds=20, output_bytes=100_000)
    found = outcomes(SUM, *(program for program, _, _ in FAILURES), limits=limits)
    for (program, error, detail), outcome in zip(FAILURES, found, strict=True):
        assert (outcome.error, outcome.passed) == (error, False), (program, outcome)
        assert outcome.detail.startswith(detail), (program, outcome.detail)
        assert len(outcome.detail) <= 200
        assert "\n" not in outcome.detail


def test_no_state_passes_from_case_to_case() -> None:
    program = (
        "import builtins, math, sys\nprint(getattr(builtins, 'seen', 0) + getattr(math, 'seen', 0) + len(input()))\n"
        "builtins.seen = math.seen = 1\nsys.stdin = None"
    )
    assert outcomes((Case("ab", "2"),) * 3, program)[0].passed


def test_limits_are_for_each_case_and_the_outcome_has_the_sum() -> None:
    burn = "import time\nn = float(input())\nwhile time.process_time() < n: pass\nprint(1)"
    limits = Limits(cpu_seconds=0.5, wall_seconds=20)
    (found,) = outcomes((Case("0.3", "1"),) * 3, burn, limits=limits)
    assert found.passed, found
    assert found.cpu_seconds > 0.9
    (found,) = outcomes((Case("0.1", "1"), Case("9", "1")), burn, limits=limits)
    assert (found.error, found.detail) == (ErrorClass.TIMEOUT, "case 2: over 0.5 s of CPU time")


def test_the_first_case_that_fails_is_the_last_that_runs() -> None:
    program = "if input() == 'loop':\n    while True: pass\nprint(0)"
    (found,) = outcomes((Case("", "0"), Case("go\n", "1"), Case("loop", "0")), "n = 0\n" + program)
    assert (found.error, found.detail) == (ErrorClass.RUNTIME, "case 1: EOFError: EOF when reading a line")
    (found,) = outcomes((Case("go\n", "1"), Case("loop", "0")), program)
    assert (found.error, found.detail) == (ErrorClass.WRONG_ANSWER, "case 1: line 1 is '0' instead of '1'")


def test_texts_larger_than_any_pipe() -> None:
    numbers = "\n".join(map(str, range(200_000))) + "\n"
    programs = [
        "import sys\nprint(sys.stdin.read(), end='')",
        "import sys\nprint('\\n'.join(map(str, range(200_000))))",
        "for number in range(200_000): print(number)\nassert input() == '0'",
    ]
    assert [outcome.detail for outcome in outcomes((Case(numbers, numbers),) * 2, *programs)] == [""] * 3


def test_text_beyond_ascii() -> None:
    assert outcomes((Case("žluť 🐎\n", "🐎 ťulž"),), "print(' '.join(word[::-1] for word in input().split()[::-1]))")[
        0
    ].passed


# The expected output is looked for and printed, the end of a run forged, the wall tried.
HOSTILE = [
    "import gc, re\nkinds = list, tuple, bytes, bytearray\nitems = [i for i in gc.get_objects() if type(i) in kinds]\n"
    "print(*{*re.findall(r'secret-[0-9]+', ' '.join(repr(i) for i in items if len(i) < 50))})",
    "import re, sys\nframe, found = sys._getframe(), set()\nwhile frame:\n"
    "    found |= {*re.findall(r'secret-[0-9]+', repr(frame.f_locals))}\n    frame = frame.f_back\nprint(*found)",
    "import sys, os\nidentity = sys._getframe(2).f_locals['identity']\n"
    'os.write(3, b\'["%s","passed","",[]]\' % identity.encode())\nos._exit(0)',
    "import os\nos.write(1, b'[\"passed\"]')\nos._exit(0)",
    "import sys\nsys.stdin.seek(0, 2)\nprint(sys.stdin.read())",
    "print(open('/etc/passwd').read())",
    "import socket\nsocket.socket()\nprint(1)",
    "import os\nos.fork()\nprint(1)",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
]


def test_scripts_can_neither_forge_nor_escape() -> None:
    found = outcomes((Case("", "secret-5021"),), *HOSTILE)
    assert [outcome for outcome in found if outcome.passed] == []
    kinds = [outcome.error for outcome in found]
    assert kinds[:5] == [ErrorClass.WRONG_ANSWER] * 2 + [
        ErrorClass.RUNTIME,
        ErrorClass.WRONG_ANSWER,
        ErrorClass.RUNTIME,
    ]
    assert all(outcome.error is ErrorClass.RUNTIME and "Error" in outcome.detail for outcome in found[5:]), found[5:]


def test_a_judge_forgets_problems_before_they_fill_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    send = remote.Remote._send
    monkeypatch.setattr(remote, "_MOST_KNOWN_BYTES", 3000)
    monkeypatch.setattr(remote.Remote, "_send", lambda self, message: [sent.extend(message), send(self, message)][1])
    problems = [Problem(str(number), cases=(Case("x" * 1000, str(number)),)) for number in range(6)]
    samples = [Sample(str(number % 6), number, f"print({number % 6})  # {number}") for number in range(12)]
    assert all(outcome.passed for outcome in judge(problems, samples, limits=LIMITS, workers=1))
    assert sent.count("forget") == 5
    assert sent.count("problem") == 12


def test_a_problem_has_tests_or_cases() -> None:
    both = [Problem("0", ("assert f()",), cases=SUM), Problem("1", cases=SUM, shared=True), Problem("2")]
    found = sorted(judge(both, [Sample(item.id, int(item.id), "") for item in both], workers=1), key=lambda o: o.index)
    assert {outcome.error for outcome in found} == {ErrorClass.REFUSED}
    assert [outcome.detail for outcome in found] == [
        "a problem has either tests or cases", "a problem has either tests or cases", "the problem has no tests",
    ]  # fmt: skip


def test_methods_of_a_solution_as_tests() -> None:
    tests = (
        "assert Solution().twoSum([2, 7], 9) == [0, 1]",
        "assert Solution().twoSum(nums=[3, 3], target=6) == [0, 1]",
    )
    right = (
        "from typing import List\nclass Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:\n"
        "        return next([i, j] for j in range(len(nums)) for i in range(j) if nums[i] + nums[j] == target)"
    )
    programs = [
        right,
        right.replace("[i, j]", "[j, i]"),
        "class Solution: pass",
        right.replace("return next", "while True: pass\n        return next"),
    ]
    samples = [Sample("p", number, program) for number, program in enumerate(programs)]
    limits = Limits(cpu_seconds=0.3, wall_seconds=20)
    found = sorted(judge([Problem("p", tests)], samples, limits=limits, workers=1), key=lambda outcome: outcome.index)
    assert [outcome.error for outcome in found] == [
        ErrorClass.PASSED, ErrorClass.WRONG_ANSWER, ErrorClass.RUNTIME, ErrorClass.TIMEOUT,
    ]  # fmt: skip
    assert not found[0].forgeable
