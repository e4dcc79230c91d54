"""The judge's handle on one zygote: start it, run programs in it, replace it when it dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import cgroup, macos, wire, zygote
from .channel import Channel
from .model import Limits, SandboxUnavailable
from .packages import ENVIRONMENT, NONE, Packages
from .session import Session

# The zygote stays small: it does without the package's own __init__, and so without the model and dataclasses.
_BOOT = """
import sys
package = sys.modules["hrmctl_sandbox"] = type(sys)("hrmctl_sandbox")
package.__path__ = [sys.argv[1]]
from hrmctl_sandbox.zygote import main
main()
"""
_PACKAGE = str(Path(__file__).resolve().parent)
_START_SECONDS = 60.0
_REPLY_SECONDS = 30.0
_AHEAD = 2
# What the dynamic linker has looked up before a fork, it need not look up after each. The zygote forgets it again.
_ENVIRONMENT = {"LD_BIND_NOW": "1"}
_INT = struct.Struct("i")


class SandboxDied(BaseException):
    """The zygote is gone or does not answer; no test code may catch it."""


@dataclass(frozen=True)
class Usage:
    """What a program's process used: wait status, CPU seconds and peak resident KiB."""

    status: int
    cpu_seconds: float
    peak_kib: int


class Sandbox:
    """One contained zygote. Raises SandboxUnavailable where it cannot start."""

    def __init__(self, limits: Limits, without: frozenset[str] = frozenset(), packages: Packages = NONE) -> None:
        self._limits = limits
        self._without = without
        self._packages = packages
        self._start()

    def _start(self) -> None:
        self._control, remote = socket.socketpair()
        self._group = None if "cgroup" in self._without else cgroup.make()
        self._waiting: deque[socket.socket] = deque()
        with remote:
            self._process = subprocess.Popen(
                self._command(remote.fileno()),
                pass_fds=[remote.fileno()],
                env=_ENVIRONMENT | (ENVIRONMENT if self._packages.names else {}),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control.settimeout(_START_SECONDS)
        try:
            hello = self._hello()
        except (wire.Closed, OSError) as error:
            self.close()
            raise SandboxUnavailable("the sandboxed process ended while it was starting") from error
        self._control.settimeout(_REPLY_SECONDS)
        self.layers: list[str] = hello["layers"]
        self.missing: list[str] = hello["missing"]

    def _command(self, descriptor: int) -> list[str]:
        config = {
            "cpu_seconds": self._limits.cpu_seconds,
            "memory_bytes": self._limits.memory_bytes,
            "output_bytes": self._limits.output_bytes,
            "without": sorted(self._without),
            "wrapped": macos.available(),
            "packages": asdict(self._packages),
            "cgroup": self._group,
        }
        interpreter = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT]
        command = [*interpreter, _PACKAGE, str(descriptor), json.dumps(config)]
        return macos.wrap(command, self._packages.paths) if macos.available() else command

    def _hello(self) -> dict[str, Any]:
        header = self._exactly(wire.HEADER_BYTES)
        hello: dict[str, Any] = json.loads(self._exactly(wire.length(header)))
        if "failed" in hello:
            raise SandboxUnavailable(f"the sandboxed process failed to start:\n{hello['failed']}")
        return hello

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._control.recv(count - len(data))
            if not part:
                raise wire.Closed
            data += part
        return data

    def open(self, allow_forgeable: bool = False) -> Session:
        """Take a waiting process for one program and return the judge's session with it. Raises SandboxDied."""
        # The next program's process is made, and waits, while this program runs.
        while len(self._waiting) < _AHEAD:
            self._order(zygote.RUN)
        return Session(Channel(self._waiting.popleft(), self._limits, self), allow_forgeable)

    def _order(self, command: bytes) -> None:
        """Send a command with the channel of a new process."""
        channel, remote = socket.socketpair()
        self._waiting.append(channel)
        with remote:
            try:
                self._control.sendmsg([command], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _INT.pack(remote.fileno()))])
            except OSError as error:
                raise SandboxDied from error

    def close_session(self, session: Session) -> Usage:
        """Kill the program's process, have another made, and say what the killed one used. Raises SandboxDied."""
        # Closed only afterwards: a process that sees the end of its pipe would run before it dies.
        with session.channel.socket:
            self._order(zygote.KILL)
            return Usage(*zygote.REPORT.unpack(self._answer(zygote.REPORT.size)))

    def cpu_seconds(self) -> float:
        """The CPU time of the program's process. Raises SandboxDied."""
        try:
            self._control.sendall(zygote.CPU)
        except OSError as error:
            raise SandboxDied from error
        return float(zygote.CLOCK.unpack(self._answer(zygote.CLOCK.size))[0])

    def queued_seconds(self) -> float:
        """How long the program's process has waited for a processor; 0 where the kernel does not tell."""
        try:
            program = _first_child(_first_child(self._process.pid))
            with open(f"/proc/{program}/schedstat") as stream:
                return int(stream.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def _answer(self, size: int) -> bytes:
        try:
            return self._exactly(size)
        except (OSError, wire.Closed) as error:
            raise SandboxDied from error

    def replace(self) -> None:
        """Start a fresh zygote in place of this one."""
        self.close()
        self._start()

    def close(self) -> None:
        """Kill the zygote and with it every process inside."""
        self._control.close()
        for channel in self._waiting:
            channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._group is not None:
            cgroup.remove(self._group)


def _first_child(process: int) -> int:
    with open(f"/proc/{process}/task/{process}/children") as stream:
        return int(stream.read().split()[0])
