"""Grades one program in the trusted process: open a session, run the tests against it, classify how that ended."""

from __future__ import annotations

import signal
import time
import traceback
from dataclasses import dataclass

from .channel import Died, Stop
from .model import ErrorClass, Limits
from .preparation import Prepared, run_tests
from .sandbox import Sandbox, SandboxDied, Usage
from .session import Mispredicted, Session

_DETAIL_CHARACTERS = 200


@dataclass(frozen=True)
class Grade:
    """The verdict on one program, before it is given to a sample."""

    error: ErrorClass
    detail: str
    cpu_seconds: float
    wall_seconds: float
    forgeable: bool = False


def grade(sandbox: Sandbox, prepared: Prepared, program: str, limits: Limits, allow_forgeable: bool = False) -> Grade:
    """Run a problem's tests against a program. A sandbox that dies is replaced and the program tried once more."""
    for _ in range(2):
        try:
            return _grade(sandbox, prepared, program, limits, allow_forgeable)
        except SandboxDied:
            sandbox.replace()
    return Grade(ErrorClass.KILLED, "the sandbox died twice under this program", 0.0, 0.0)


def _grade(sandbox: Sandbox, prepared: Prepared, program: str, limits: Limits, allow_forgeable: bool) -> Grade:
    try:
        return _attempt(sandbox, prepared, program, limits, allow_forgeable)
    except Mispredicted:
        prepared.predicted = []
        return _attempt(sandbox, prepared, program, limits, allow_forgeable)


def _attempt(sandbox: Sandbox, prepared: Prepared, program: str, limits: Limits, allow_forgeable: bool) -> Grade:
    started = time.monotonic()
    session = sandbox.open(allow_forgeable)
    try:
        error, detail = _run(session, prepared, program)
    finally:
        usage = sandbox.close_session(session)
    if isinstance(session.stopped, Mispredicted):
        raise session.stopped
    if isinstance(session.stopped, Died):
        error, detail = _how_it_died(usage, limits)
    if error is ErrorClass.PASSED and usage.cpu_seconds > limits.cpu_seconds:
        error, detail = ErrorClass.TIMEOUT, f"over {limits.cpu_seconds:g} s of CPU time"
    forgeable = session.forgeable or (prepared.helpers and error is ErrorClass.PASSED)
    return Grade(error, one_line(detail), usage.cpu_seconds, time.monotonic() - started, forgeable)


def _run(session: Session, prepared: Prepared, program: str) -> tuple[ErrorClass, str]:
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


def _classify(session: Session, prepared: Prepared, error: BaseException) -> tuple[ErrorClass, str]:
    if session.stopped is not None:
        return session.stopped.error, session.stopped.detail
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        return ErrorClass.MEMORY, detail
    if isinstance(error, AssertionError) and error is not session.raised:
        return ErrorClass.WRONG_ANSWER, f"{error} {_failed_line(prepared, error)}".strip()
    return ErrorClass.RUNTIME, detail


def _failed_line(prepared: Prepared, error: BaseException) -> str:
    """The line of the tests that did not hold."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    texts = {code.co_filename: text for code, text in zip(prepared.tests, prepared.problem.tests, strict=True)}
    lines = [texts[name].splitlines()[line - 1 : line] for name, line in places if name in texts]
    return lines[-1][0].strip() if lines and lines[-1] else ""


def _how_it_died(usage: Usage, limits: Limits) -> tuple[ErrorClass, str]:
    by = usage.status & 0x7F
    if usage.cpu_seconds >= limits.cpu_seconds or by == signal.SIGXCPU:
        return ErrorClass.TIMEOUT, f"over {limits.cpu_seconds:g} s of CPU time"
    if by == 0:
        return ErrorClass.RUNTIME, f"the program ended with exit code {usage.status >> 8} before it answered"
    return ErrorClass.KILLED, f"the program ended by signal {by}"


def one_line(text: str) -> str:
    """`text` as one printable line of bounded length."""
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return "".join(char if char.isprintable() else "?" for char in line[:_DETAIL_CHARACTERS])
