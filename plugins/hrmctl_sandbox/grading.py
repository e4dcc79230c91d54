"""Grades one program in the trusted process: open a session, run the tests against it, classify how that ended."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from .channel import Died, Stop
from .model import Case, ErrorClass, Limits, Problem
from .preparation import Prepared, Whole, run_tests
from .sandbox import Sandbox, SandboxDied, Usage
from .session import Mispredicted, Session
from .stdio import difference

Verdict = tuple[ErrorClass, str]
_DETAIL_CHARACTERS = 200
_SHARED = "the tests run in the program's own process, which could forge its verdict: set allow_forgeable to run them"


@dataclass(frozen=True)
class Grade:
    """The verdict on one program, before it is given to a sample."""

    error: ErrorClass
    detail: str
    cpu_seconds: float
    wall_seconds: float
    forgeable: bool = False


def grade(
    sandbox: Sandbox, prepared: Prepared | Whole, program: str, limits: Limits, allow_forgeable: bool = False
) -> Grade:
    """Run a problem's tests against a program. A sandbox that dies is replaced and the program tried once more."""
    for _ in range(2):
        try:
            return _grade(sandbox, prepared, program, limits, allow_forgeable)
        except SandboxDied:
            sandbox.replace()
    return Grade(ErrorClass.KILLED, "the sandbox died twice under this program", 0.0, 0.0)


def _grade(sandbox: Sandbox, prepared: Prepared | Whole, program: str, limits: Limits, allow_forgeable: bool) -> Grade:
    if isinstance(prepared, Whole) and prepared.problem.cases:
        return _grade_cases(sandbox, prepared.problem, program, limits)
    if isinstance(prepared, Whole):
        return _grade_shared(sandbox, prepared, program, limits, allow_forgeable)
    try:
        return _grade_tests(sandbox, prepared, program, limits, allow_forgeable)
    except Mispredicted:
        prepared.predicted = []
        return _grade_tests(sandbox, prepared, program, limits, allow_forgeable)


def _grade_tests(sandbox: Sandbox, prepared: Prepared, program: str, limits: Limits, allow_forgeable: bool) -> Grade:
    found = _attempt(sandbox, limits, lambda session: _run(session, prepared, program), allow_forgeable)
    return replace(found, forgeable=found.forgeable or (prepared.helpers and found.error is ErrorClass.PASSED))


def _grade_cases(sandbox: Sandbox, problem: Problem, program: str, limits: Limits) -> Grade:
    """Run a script once for each case, up to the first that fails; the times are of all these runs."""
    cpu_seconds = wall_seconds = 0.0
    for number, case in enumerate(problem.cases, 1):
        found = _attempt(sandbox, limits, lambda session, case=case: _run_case(session, case, program))  # type: ignore[misc]
        cpu_seconds, wall_seconds = cpu_seconds + found.cpu_seconds, wall_seconds + found.wall_seconds
        if found.error is not ErrorClass.PASSED:
            return Grade(found.error, one_line(f"case {number}: {found.detail}"), cpu_seconds, wall_seconds)
    return Grade(ErrorClass.PASSED, "", cpu_seconds, wall_seconds)


def _run_case(session: Session, case: Case, program: str) -> Verdict:
    try:
        written = session.run_script(program, case.stdin.encode("utf-8", "surrogatepass"))
    except Stop as stop:
        return stop.error, stop.detail
    found = difference(written.decode("utf-8", "replace"), case.stdout)
    return (ErrorClass.WRONG_ANSWER, found) if found else (ErrorClass.PASSED, "")


def _grade_shared(sandbox: Sandbox, prepared: Whole, program: str, limits: Limits, allow_forgeable: bool) -> Grade:
    if not allow_forgeable:
        return Grade(ErrorClass.REFUSED, _SHARED, 0.0, 0.0)
    found = _attempt(sandbox, limits, lambda session: _run_shared(session, prepared, program))
    return replace(found, forgeable=found.error is ErrorClass.PASSED)


def _run_shared(session: Session, prepared: Whole, program: str) -> Verdict:
    problem = prepared.problem
    try:
        found = session.run_shared(program, problem.setup, prepared.tests, problem.entry_point)
    except Stop as stop:
        return stop.error, stop.detail
    if found.error is ErrorClass.PASSED and not (prepared.asserts if found.ran is None else found.ran):
        return ErrorClass.REFUSED, "the tests assert nothing"
    return found.error, found.detail


def _attempt(
    sandbox: Sandbox, limits: Limits, run: Callable[[Session], Verdict], allow_forgeable: bool = False
) -> Grade:
    started = time.monotonic()
    session = sandbox.open(allow_forgeable)
    try:
        error, detail = run(session)
    finally:
        usage = sandbox.close_session(session)
    if isinstance(session.stopped, Mispredicted):
        raise session.stopped
    if isinstance(session.stopped, Died) or (session.ended and session.stopped is None and usage.status):
        error, detail = _how_it_died(usage, limits, "" if session.ended else " before it answered")
    if error is ErrorClass.PASSED and usage.cpu_seconds > limits.cpu_seconds:
        error, detail = ErrorClass.TIMEOUT, f"over {limits.cpu_seconds:g} s of CPU time"
    return Grade(error, one_line(detail), usage.cpu_seconds, time.monotonic() - started, session.forgeable)


def _run(session: Session, prepared: Prepared, program: str) -> Verdict:
    try:
        provided = session.load(program, prepared.imports, prepared.names, prepared.predicted)
        run_tests(prepared, dict(provided), provided)
        session.finish()
    except SandboxDied:
        raise
    except Stop as stop:
        return stop.error, stop.detail
    except BaseException as error:
        return _classify(session, prepared, error)
    return ErrorClass.PASSED, ""


def _classify(session: Session, prepared: Prepared, error: BaseException) -> Verdict:
    if session.stopped is not None:
        return session.stopped.error, session.stopped.detail
    detail = f"{type(error).__name__}: {_text(error)}"
    if isinstance(error, MemoryError):
        return ErrorClass.MEMORY, detail
    if isinstance(error, AssertionError) and error is not session.raised:
        return ErrorClass.WRONG_ANSWER, f"{_text(error)} {_failed_line(prepared, error)}".strip()
    return ErrorClass.RUNTIME, detail


def _text(error: BaseException) -> str:
    """What an exception says; its arguments may be the program's, such as a number with too many digits to show."""
    try:
        return str(error)
    except SandboxDied:
        raise
    except BaseException as failure:
        return f"({type(failure).__name__})"


def _failed_line(prepared: Prepared, error: BaseException) -> str:
    """The line of the tests that did not hold."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    texts = {code.co_filename: text for code, text in zip(prepared.tests, prepared.problem.tests, strict=True)}
    lines = [texts[name].splitlines()[line - 1 : line] for name, line in places if name in texts]
    return lines[-1][0].strip() if lines and lines[-1] else ""


def _how_it_died(usage: Usage, limits: Limits, when: str) -> Verdict:
    by = usage.status & 0x7F
    if usage.cpu_seconds >= limits.cpu_seconds or by == signal.SIGXCPU:
        return ErrorClass.TIMEOUT, f"over {limits.cpu_seconds:g} s of CPU time"
    if by == 0:
        return ErrorClass.RUNTIME, f"the program ended with exit code {usage.status >> 8}{when}"
    return ErrorClass.KILLED, f"the program ended by signal {by}"


def one_line(text: str) -> str:
    """`text` as one printable line of bounded length."""
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return "".join(char if char.isprintable() else "?" for char in line[:_DETAIL_CHARACTERS])
