"""The trusted judge process of one core: prepares problems, grades programs, reports to the pool."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, NoReturn

from . import canaries, wire
from .grading import Grade, grade, one_line
from .isolation import assess
from .model import Case, ErrorClass, Limits, Problem
from .packages import Packages
from .preparation import Prepared, Unusable, Whole, prepare
from .sandbox import Sandbox

# CPU seconds that the tests (or the comparison of a case) may use beyond the program's limit, and memory of the judge.
_OWN_CPU_SECONDS = 5.0
_OWN_MEMORY_BYTES = 4 << 30
# An idle judge sees the hang-up by itself, and has this long to close its sandbox in order.
_GRACE_SECONDS = 1.0


def main() -> NoReturn:
    """Entry point of a judge process: argv holds the package's folder, the pool's socket and the configuration."""
    channel = int(sys.argv[2])
    os.set_inheritable(channel, False)
    config = json.loads(sys.argv[3])
    threading.Thread(target=_end_with_pool, args=(channel,), daemon=True).start()
    try:
        worker = Worker(config)
    except Exception as error:
        wire.write(channel, wire.pack({"failed": str(error)}))
        os._exit(1)
    try:
        wire.write(channel, wire.pack({"isolation": asdict(worker.isolation)}))
        if worker.isolation.acceptable or config["allow_unsafe"]:
            worker.loop(channel)
    finally:
        worker.close()
        os._exit(0)


class Worker:
    """One judge with its sandbox. Raises SandboxUnavailable where the sandbox cannot start."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._limits = Limits(**config["limits"])
        self._allow_forgeable = bool(config["allow_forgeable"])
        self._prepared: dict[str, Prepared | Whole | Unusable] = {}
        self._sandbox = Sandbox(self._limits, frozenset(config["without"]), Packages(**config["packages"]))
        escaped = canaries.survived(self._sandbox)
        self.isolation = assess(self._sandbox.layers, self._sandbox.missing, escaped)

    def loop(self, channel: int) -> None:
        """Serve the pool until it hangs up. The profiling timer's signal ends this process, and the pool sees that."""
        _limit_memory()
        while True:
            try:
                message = wire.read(channel)
            except wire.Closed:
                return
            if "forget" in message:
                self._prepared.clear()
                continue
            if "problem" in message:
                self._prepare(message["problem"])
                continue
            result = self._judge(message["problem_id"], message["program"])
            # The next message may be large, and its reading is not the program's time.
            signal.setitimer(signal.ITIMER_PROF, 0)
            wire.write(channel, wire.pack({"task": message["task"], **vars(result)}))

    def _prepare(self, fields: dict[str, Any]) -> None:
        tests, cases = tuple(fields["tests"]), tuple(Case(**case) for case in fields["cases"])
        problem = Problem(**{**fields, "tests": tests, "cases": cases})
        signal.setitimer(signal.ITIMER_PROF, self._limits.cpu_seconds + _OWN_CPU_SECONDS)
        try:
            self._prepared[problem.id] = prepare(problem)
        except Unusable as error:
            self._prepared[problem.id] = error

    def _judge(self, problem_id: str, program: str) -> Grade:
        prepared = self._prepared[problem_id]
        if isinstance(prepared, Unusable):
            return Grade(ErrorClass.REFUSED, one_line(str(prepared)), 0.0, 0.0)
        runs = max(1, len(prepared.problem.cases))
        signal.setitimer(signal.ITIMER_PROF, self._limits.cpu_seconds + _OWN_CPU_SECONDS * runs)
        return grade(self._sandbox, prepared, program, self._limits, self._allow_forgeable)

    def close(self) -> None:
        """Kill the sandbox."""
        self._sandbox.close()


def _end_with_pool(channel: int) -> None:
    """End this process, and its sandbox with it, when the pool's is gone: a program may have minutes left.

    The kernel's signal at a parent's death will not do, for it comes when the thread ends that started this process.
    """
    poller = select.poll()
    poller.register(channel, 0)
    poller.poll()
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _limit_memory() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > _OWN_MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (_OWN_MEMORY_BYTES, hard))
