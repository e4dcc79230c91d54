"""Programs that run as a whole, in their own process: a script with its input, or a program with its tests."""

from __future__ import annotations

import atexit
import builtins
import io
import os
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn, TextIO, cast

from . import candidate

# BigCodeBench's name of the module; its tests patch names in it.
_MODULE = "__test__"


class Server(candidate.Server):
    """Runs a script, or a program with its tests, where the judge asks for that; else answers calls."""

    def _load(self, request: list[Any]) -> None:
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()
        kind, *rest = request
        if kind == "script":
            self._script(*rest)
        if kind == "shared":
            self._shared(*rest)
        super()._load(request)

    def _script(self, identity: str, source: str) -> NoReturn:
        """Run the source as `__main__`. The pipe to the judge is its standard input and output."""
        os.dup2(self._descriptor, 0)
        os.dup2(self._descriptor, 1)
        sys.stdin, sys.stdout = _stream(0, "r"), _stream(1, "w")
        sys.__stdin__, sys.__stdout__ = sys.stdin, sys.stdout  # type: ignore[assignment,misc]
        # What the site module, which is left out, gives to scripts.
        builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
        if "threading" in source:
            _run_threads_at_once()
        written = sys.stdout
        self._execute(identity, source, "__main__")
        atexit._run_exitfuncs()
        for stream in (sys.stdout, written):
            with suppress(Exception):
                stream.flush()
        os._exit(0)

    def _shared(self, identity: str, source: str, setup: str, tests: list[str], entry_point: str | None) -> NoReturn:
        """Run program, setup and tests in one module, and say how that ended."""
        scope = self._execute(identity, source, _MODULE)
        try:
            self._send([identity, "tested", *_tested(scope, setup, tests, entry_point)], identity)
        except BaseException as error:
            self._send([identity, "tested", _class_of(error), _detail(error, tests), None], identity)
        os._exit(0)


def _stream(descriptor: int, mode: str) -> TextIO:
    return cast(TextIO, open(descriptor, mode, encoding="utf-8", errors="surrogateescape", closefd=False))


def _run_threads_at_once() -> None:
    """Do a thread's work when it is started: threads are denied, and scripts use one for the size of its stack."""
    import threading

    def start(self: threading.Thread) -> None:
        self._started.set()  # type: ignore[attr-defined]
        self.run()

    threading.Thread.start = start  # type: ignore[method-assign]
    threading.Thread.join = lambda self, timeout=None: None  # type: ignore[method-assign]


def _tested(
    scope: dict[str, Any], setup: str, tests: list[str], entry_point: str | None
) -> tuple[str, str, int | None]:
    """The error class, a detail and the number of unittest's tests that ran. Raises what plain assertions raise."""
    program = dict(scope)
    scope |= {"sys": sys, "os": os}
    _run(setup, "<setup>", scope)
    if entry_point in program:
        scope[entry_point] = program[entry_point]
    known = {id(value) for value in scope.values()}
    for number, text in enumerate(tests):
        _run(text, f"<test {number}>", scope)
    return _unittest([value for value in scope.values() if isinstance(value, type) and id(value) not in known])


def _run(source: str, name: str, scope: dict[str, Any]) -> None:
    exec(compile(source, name, "exec", dont_inherit=True, optimize=0), scope)


def _unittest(classes: list[type]) -> tuple[str, str, int | None]:
    """Run the classes of unittest's that the tests have defined, up to the first test that does not pass."""
    if "unittest" not in sys.modules:
        return "passed", "", None
    import unittest

    cases = [kind for kind in classes if issubclass(kind, unittest.TestCase) and kind.__module__ == _MODULE]
    if not cases:
        return "passed", "", None
    suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(kind) for kind in cases)
    result = unittest.TextTestRunner(io.StringIO(), failfast=True).run(suite)
    ran = result.testsRun - len(result.skipped)
    for found, error in ((result.failures, "wrong_answer"), (result.errors, "runtime")):
        for test, text in found:
            last = text.rstrip().splitlines()[-1]
            return ("memory" if last.startswith("MemoryError") else error), f"{test.id()}: {last}", ran
    if not result.wasSuccessful():
        return "wrong_answer", f"{result.unexpectedSuccesses[0].id()}: unexpected success", ran
    return "passed", "", ran


def _class_of(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    # An assertion of the program's own is one of its bugs, not a test of it.
    own = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)][-1:] == ["<program>"]
    return "wrong_answer" if isinstance(error, AssertionError) and not own else "runtime"


def _detail(error: BaseException, tests: list[str]) -> str:
    """The exception and the line of the tests that raised it."""
    lines = {f"<test {number}>": text.splitlines() for number, text in enumerate(tests)}
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    found = [lines[name][line - 1].strip() for name, line in places if name in lines]
    return " ".join([traceback.format_exception_only(error)[-1].strip()[:1000], *found[-1:]])
