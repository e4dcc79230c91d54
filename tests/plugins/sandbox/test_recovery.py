"""What dies is replaced, and no sample is lost; what never ends is ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hrmctl_sandbox import ErrorClass, Limits, Outcome, Problem, Sample, SandboxUnavailable, judge
from hrmctl_sandbox.channel import Channel, Stop
from hrmctl_sandbox.grading import grade
from hrmctl_sandbox.preparation import prepare
from hrmctl_sandbox.remote import Remote
from hrmctl_sandbox.sandbox import Sandbox
from hrmctl_sandbox.zygote import Zygote

PROBLEM = Problem("p", ("assert f(2) == 4",))
LIMITS = Limits(cpu_seconds=1, wall_seconds=8)


def good(number: int) -> str:
    """A correct program, different for each number."""
    return f"def f(x): return x + x  # {number}"


def children(process: int) -> list[int]:
    """The child processes of a process."""
    with open(f"/proc/{process}/task/{process}/children") as stream:
        return [int(number) for number in stream.read().split()]


def test_a_killed_zygote_is_replaced_and_its_program_graded() -> None:
    sandbox = Sandbox(LIMITS)
    try:
        prepared = prepare(PROBLEM)
        assert grade(sandbox, prepared, good(1), LIMITS).error is ErrorClass.PASSED
        for _ in range(2):
            os.kill(children(sandbox._process.pid)[0], signal.SIGKILL)
            assert grade(sandbox, prepared, good(2), LIMITS).error is ErrorClass.PASSED
    finally:
        sandbox.close()


def test_a_program_under_which_the_sandbox_always_dies_is_graded_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox(LIMITS)
    opened = sandbox.open

    def open_and_kill(allow_forgeable: bool = False) -> object:
        session = opened(allow_forgeable)
        os.kill(children(sandbox._process.pid)[0], signal.SIGKILL)
        return session

    monkeypatch.setattr(sandbox, "open", open_and_kill)
    try:
        found = grade(sandbox, prepare(PROBLEM), good(1), LIMITS)
        assert (found.error, found.detail) == (ErrorClass.KILLED, "the sandbox died twice under this program")
    finally:
        sandbox.close()


def test_a_zygote_that_cannot_fork_ends_and_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    zygote = object.__new__(Zygote)
    zygote._fork, zygote._children = lambda: -1, deque()
    monkeypatch.setattr(os, "_exit", sys.exit)
    mine, other = socket.socketpair()
    with mine, other, pytest.raises(SystemExit):
        zygote._run(mine.fileno())
    assert not zygote._children


def test_a_waiting_process_is_killed_before_it_sees_the_end_of_its_pipe() -> None:
    """Each session takes the process that waits and has another made; the reports are of the right ones."""
    sandbox = Sandbox(LIMITS)
    try:
        for number in (3, 0, 5):
            session = sandbox.open()
            with pytest.raises(Stop):
                session.load(f"import os\nos._exit({number})", "", ["f"], [])
            assert sandbox.close_session(session).status == number << 8
        session = sandbox.open()
        assert sandbox.close_session(session).status == signal.SIGKILL
    finally:
        sandbox.close()


def test_killed_judges_lose_no_sample() -> None:
    killed = 0

    def samples() -> Iterator[Sample]:
        nonlocal killed
        for number in range(30):
            if number in (10, 20):
                os.kill(judges()[0], signal.SIGKILL)
                killed += 1
            yield Sample("p", number, good(number))

    before = set(children(os.getpid()))

    def judges() -> list[int]:
        return [process for process in children(os.getpid()) if process not in before]

    found = list(judge([PROBLEM], samples(), limits=LIMITS, workers=1))
    assert killed == 2
    assert sorted(outcome.index for outcome in found) == list(range(30))
    assert all(outcome.passed for outcome in found), found


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_judge_that_dies_while_it_starts_is_replaced_once(monkeypatch: pytest.MonkeyPatch, deaths: int) -> None:
    start, started = Remote.__post_init__, 0

    def killed_at_first(remote: Remote) -> None:
        nonlocal started
        start(remote)
        started += 1
        if started <= deaths:
            os.kill(remote._process.pid, signal.SIGKILL)

    monkeypatch.setattr(Remote, "__post_init__", killed_at_first)
    found = judge([PROBLEM], [Sample("p", number, good(number)) for number in range(3)], limits=LIMITS, workers=1)
    if deaths == 1:
        assert [outcome.passed for outcome in found] == [True] * 3
    else:
        with pytest.raises(SandboxUnavailable, match="ended while it was starting"):
            list(found)


def test_a_judge_that_always_dies_grades_its_program_killed() -> None:
    suicidal = Problem("s", ("import os\nassert f(2) == 4\nos.kill(os.getpid(), 9)",))
    samples = [Sample("s", 0, good(0)), *(Sample("p", number, good(number)) for number in range(1, 5))]
    found = {outcome.index: outcome for outcome in judge([PROBLEM, suicidal], samples, limits=LIMITS, workers=1)}
    assert (found[0].error, found[0].detail) == (ErrorClass.KILLED, "the judge died twice under this program")
    assert [found[number].passed for number in range(1, 5)] == [True] * 4


def test_a_call_foreseen_in_vain_is_not_foreseen_again() -> None:
    sandbox = Sandbox(LIMITS)
    try:
        prepared = prepare(Problem("p", ("if f(0) > 5:\n    assert f(1) == 9",)))
        assert len(prepared.predicted) == 2
        found = grade(sandbox, prepared, "def f(x):\n    assert x == 0\n    return 1", LIMITS)
        assert (found.error, prepared.predicted) == (ErrorClass.PASSED, [])
    finally:
        sandbox.close()


def test_calls_with_random_arguments_are_foreseen_and_are_the_same_in_every_run() -> None:
    source = "import random\nfor _ in range(50):\n    x = random.random()\n    assert f(x) == x"
    sandbox = Sandbox(LIMITS)
    try:
        prepared, other = prepare(Problem("p", (source,))), prepare(Problem("p", (source,)))
        for number in range(2):
            found = grade(sandbox, prepared, f"def f(x): return x  # {number}", LIMITS)
            assert (found.error, len(prepared.predicted)) == (ErrorClass.PASSED, 50)
        assert prepared.predicted[0].arguments != other.predicted[0].arguments
        assert (prepared.seed is None, prepare(PROBLEM).seed) == (False, None)
    finally:
        sandbox.close()


@pytest.mark.slow
def test_answers_that_exhaust_the_judge_end_it_and_fail_the_program() -> None:
    colliding = (
        "import sys\nm = sys.modules['hrmctl_sandbox.codec']\nm.Encoder.encode = lambda s, v: "
        "['S', *(i * ((1 << 61) - 1) for i in range(1, 200000))]\ndef f(x): return 0"
    )
    samples = [Sample("p", 0, colliding), Sample("p", 1, good(1))]
    found: dict[int, Outcome] = {}
    for outcome in judge([PROBLEM], samples, limits=LIMITS, workers=1):
        found[outcome.index] = outcome
    assert (found[0].error, found[0].passed) == (ErrorClass.TIMEOUT, False)
    assert found[1].passed


@dataclass
class _Clocks:
    """Clocks of a process that has used and waited as long as the test says."""

    cpu: float = 0.0
    queued: float = 0.0

    def cpu_seconds(self) -> float:
        return self.cpu

    def queued_seconds(self) -> float:
        return self.queued


def _ends_after(clocks: _Clocks, limits: Limits) -> tuple[str, float]:
    mine, other = socket.socketpair()
    started = time.monotonic()
    with mine, other, pytest.raises(Stop) as caught:
        Channel(mine, limits, clocks).receive()
    return caught.value.detail, time.monotonic() - started


def test_time_in_the_queue_for_a_processor_is_forgiven() -> None:
    limits = Limits(cpu_seconds=5, wall_seconds=0.2)
    detail, idle = _ends_after(_Clocks(), limits)
    assert detail == "over 0.2 s"
    assert idle < 0.4
    assert _ends_after(_Clocks(queued=0.4), limits)[1] >= 0.6
    assert 1.9 < _ends_after(_Clocks(queued=1e9), limits)[1] < 4


def test_cpu_time_ends_a_program_before_its_wall_limit() -> None:
    detail, seconds = _ends_after(_Clocks(cpu=0.2), Limits(cpu_seconds=0.1, wall_seconds=60))
    assert detail == "over 0.1 s of CPU time"
    assert seconds < 1


@pytest.mark.parametrize(
    ("program", "wall_seconds", "detail"),
    [
        ("import time\ndef f(x):\n    while True:\n        time.sleep(0.01)\n        yield 1", 0.8, "over 0.8 s"),
        ("def f(x):\n    while True: yield 1", 60, "over 0.3 s of CPU time"),
        ("def f(x):\n    while True: yield 'x' * 60000", 60, "the program broke the protocol: a message beyond"),
    ],
)
def test_many_small_answers_are_bounded_too(program: str, wall_seconds: float, detail: str) -> None:
    limits = Limits(cpu_seconds=0.3, wall_seconds=wall_seconds, output_bytes=1_000_000)
    (outcome,) = judge(
        [Problem("p", ("assert sum(map(len, map(str, f(2)))) == 4",))], [Sample("p", 0, program)], limits=limits
    )
    assert not outcome.passed
    assert outcome.detail.startswith(detail), outcome


def test_callbacks_without_end_are_bounded() -> None:
    program = "def f(g):\n    while True: g()"
    limits = Limits(cpu_seconds=0.3, wall_seconds=5)
    (outcome,) = judge([Problem("p", ("assert f(lambda: 1) == 4",))], [Sample("p", 0, program)], limits=limits)
    assert outcome.error is ErrorClass.TIMEOUT


def test_two_judgements_at_once_do_not_disturb_each_other() -> None:
    first = judge([PROBLEM], [Sample("p", number, good(number)) for number in range(5)], limits=LIMITS, workers=1)
    second = judge([PROBLEM], [Sample("p", number, good(number)) for number in range(5)], limits=LIMITS, workers=1)
    pairs = list(zip(first, second, strict=True))
    assert all(left.passed and right.passed for left, right in pairs)
    assert len(pairs) == 5
