"""One judge process, as the user's process sees it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cgroup, wire
from .grading import Grade
from .model import ErrorClass, Isolation, Problem, SandboxUnavailable
from .packages import ENVIRONMENT

if TYPE_CHECKING:
    from .pool import Options

_BOOT = "import sys; sys.path.append(sys.argv[1]); from hrmctl_sandbox.worker import main; main()"
_PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)
_QUEUED = 2
_START_SECONDS = 120.0
# poll takes milliseconds in 31 bits; whoever waits asks again.
_LONGEST_WAIT_SECONDS = 3600.0
# Texts of tests are compiled and their calls foreseen, which takes several times their size.
_COMPILED = 8
_MOST_KNOWN_BYTES = 512 << 20


class RemoteDied(RuntimeError):
    """The judge process is gone. `grade` is set where its program is to blame, `starting` where it never ran."""

    def __init__(self, grade: Grade | None, starting: bool = False) -> None:
        super().__init__("the judge process ended while it was starting" if starting else "a judge process died")
        self.grade = grade
        self.starting = starting


@dataclass
class Task:
    """One program on its way through a judge process."""

    key: tuple[str, bytes]
    problem: Problem
    program: str
    retried: bool = False


@dataclass
class Remote:
    """A judge process with the tasks handed to it, oldest first."""

    options: Options
    tasks: deque[Task] = field(default_factory=deque)
    known_isolation: Isolation | None = None
    mode: str = ""

    def __post_init__(self) -> None:
        self._known: set[str] = set()
        self._known_bytes = 0
        self._outgoing = bytearray()
        self._socket, remote = socket.socketpair()
        self._deadline = time.monotonic() + _START_SECONDS
        with remote:
            self._process = subprocess.Popen(
                self._command(remote.fileno()),
                pass_fds=[remote.fileno()],
                env={**ENVIRONMENT, **os.environ},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _command(self, descriptor: int) -> list[str]:
        config = {
            "limits": asdict(self.options.limits),
            "allow_unsafe": self.options.allow_unsafe,
            "allow_forgeable": self.options.allow_forgeable,
            "without": sorted(self.options.without),
            "packages": asdict(self.options.packages),
        }
        return [sys.executable, "-I", "-X", "utf8", "-c", _BOOT, _PACKAGE_PARENT, str(descriptor), json.dumps(config)]

    @property
    def has_room(self) -> bool:
        """Whether another task would find the queue short."""
        return len(self.tasks) < _QUEUED

    def submit(self, task: Task) -> None:
        """Hand over a task. A process that is already dead is noticed by `receive`."""
        self.tasks.append(task)
        if len(self.tasks) == 1:
            self._restart_clock()
        if task.problem.id not in self._known:
            self._make_room(task.problem)
            self._known.add(task.problem.id)
            self._send({"problem": asdict(task.problem)})
        self._send({"task": 0, "problem_id": task.problem.id, "program": task.program})

    def _make_room(self, problem: Problem) -> None:
        """Have the process forget the problems that it knows where one more would be too much for its memory."""
        size = sum(len(case.stdin) + len(case.stdout) for case in problem.cases)
        size += _COMPILED * sum(len(text) for text in (problem.setup, *problem.tests))
        if self._known and self._known_bytes + size > _MOST_KNOWN_BYTES:
            self._known.clear()
            self._known_bytes = 0
            self._send({"forget": True})
        self._known_bytes += size

    def _send(self, message: dict[str, Any]) -> None:
        self._outgoing += wire.pack(message)
        self._flush()

    def _flush(self) -> None:
        """Send what the socket takes: a process that is busy must not hold up the others."""
        while self._outgoing:
            try:
                del self._outgoing[: self._socket.send(self._outgoing, socket.MSG_DONTWAIT)]
            except BlockingIOError:
                return
            except OSError:
                self._outgoing.clear()

    def _restart_clock(self) -> None:
        started = _START_SECONDS if self.known_isolation is None else 0.0
        # Each case of a script has the whole limit.
        runs = max([1, *(len(task.problem.cases) for task in self.tasks)])
        self._deadline = time.monotonic() + started + 20 * runs * self.options.limits.wall_seconds + 60.0

    @staticmethod
    def ready(remotes: list[Remote], timeout: float | None) -> list[Remote]:
        """The processes that have something to say, or that have been silent for too long."""
        now = time.monotonic()
        watched = [remote for remote in remotes if remote.tasks or remote.known_isolation is None]
        patience = min((remote._deadline - now for remote in watched), default=0.0)
        wait = max(patience, 0.0) if timeout is None else timeout
        poller = select.poll()
        for remote in watched:
            poller.register(remote._socket, select.POLLIN | (select.POLLOUT if remote._outgoing else 0))
        events = dict(poller.poll(min(wait, _LONGEST_WAIT_SECONDS) * 1000)) if watched else {}
        late = time.monotonic()
        found = []
        for remote in watched:
            remote._flush()
            if events.get(remote._socket.fileno(), 0) & ~select.POLLOUT or late >= remote._deadline:
                found.append(remote)
        return found

    def receive(self) -> tuple[tuple[str, bytes], Grade] | None:
        """The next grade, or None for the greeting. Raises RemoteDied, SandboxUnavailable."""
        if not _readable([self._socket], 0):
            self._kill()
            raise RemoteDied(Grade(ErrorClass.TIMEOUT, "the judge did not answer in time", 0.0, 0.0))
        try:
            message = wire.read(self._socket.fileno())
        except wire.Closed:
            raise RemoteDied(self._blame(), starting=self.known_isolation is None) from None
        if "failed" in message:
            raise SandboxUnavailable(message["failed"])
        if "isolation" in message:
            fields = message["isolation"]
            self.known_isolation = Isolation(
                fields["mode"],
                tuple(fields["layers"]),
                tuple(fields["missing"]),
                fields["remedy"],
                tuple(fields["absent"]),
            )
            self.mode = self.known_isolation.mode
            return None
        del message["task"]
        task = self.tasks.popleft()
        self._restart_clock()
        return task.key, Grade(**{**message, "error": ErrorClass(message["error"])})

    def _blame(self) -> Grade | None:
        self._process.wait()
        if self._process.returncode == -signal.SIGPROF:
            return Grade(ErrorClass.TIMEOUT, "the tests ran out of time on the program's answers", 0.0, 0.0)
        return None

    def isolation(self) -> Isolation:
        """Wait for the greeting. Raises SandboxUnavailable."""
        while self.known_isolation is None:
            for remote in Remote.ready([self], None):
                try:
                    remote.receive()
                except RemoteDied as death:
                    raise SandboxUnavailable(str(death)) from None
        return self.known_isolation

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process; its sandbox dies with it."""
        self._kill()
        self._socket.close()
        self._process.wait()
        cgroup.remove_stale()


def _readable(sockets: list[socket.socket], seconds: float) -> set[int]:
    """The descriptors among `sockets` that can be read, or whose other end is gone."""
    poller = select.poll()
    for item in sockets:
        poller.register(item, select.POLLIN)
    return {descriptor for descriptor, _ in poller.poll(seconds * 1000)}
