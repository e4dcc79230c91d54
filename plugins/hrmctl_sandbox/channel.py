"""Bounded, timed messages between the judge and one program's process."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import wire
from .model import ErrorClass, Limits

_CHUNK = 1 << 16
# A program that never gets the processor is not waited for longer than this many wall limits.
_PATIENCE = 10
# All messages of a program together may be this many times as large as one.
_MESSAGES = 4


class Stop(BaseException):
    """The program's verdict is settled; no test code may catch it. `error` and `detail` say what it is."""

    def __init__(self, error: ErrorClass, detail: str) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail


class Died(Stop):
    """The program closed its pipe or ended before it answered."""

    def __init__(self) -> None:
        super().__init__(ErrorClass.KILLED, "the program ended before it answered")


def violation(what: str) -> Stop:
    """The verdict on a program that sends what no honest process would."""
    return Stop(ErrorClass.KILLED, f"the program broke the protocol: {what}")


class Clocks(Protocol):
    """Time as the kernel accounts it to the program's process, in seconds."""

    def cpu_seconds(self) -> float:
        """CPU time used."""

    def queued_seconds(self) -> float:
        """Time spent ready to run while other processes had the processor."""


@dataclass
class Channel:
    """The judge's end of the pipe. Every message is sent and received within the program's limits."""

    socket: socket.socket
    limits: Limits
    clocks: Clocks
    _started: float = field(default_factory=time.monotonic)
    _buffer: bytearray = field(default_factory=bytearray)
    _received: int = 0

    def __post_init__(self) -> None:
        self._check_at = self._started + min(self.limits.cpu_seconds, self.limits.wall_seconds)
        self._poller = select.poll()
        self._descriptor = self.socket.fileno()

    def send(self, message: Any) -> None:
        """Send one message. Raises Stop."""
        view = memoryview(wire.pack(message))
        while view:
            try:
                view = view[self.socket.send(view, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except OSError:
                raise Died from None

    def receive(self) -> Any:
        """Receive one message. Raises Stop."""
        self._check_time()
        self._await(wire.HEADER_BYTES)
        size = wire.length(self._buffer[: wire.HEADER_BYTES])
        self._received += size
        if size > self.limits.output_bytes or self._received > _MESSAGES * self.limits.output_bytes:
            raise violation("a message beyond the output limit")
        end = wire.HEADER_BYTES + size
        self._await(end)
        body = self._buffer[wire.HEADER_BYTES : end]
        del self._buffer[:end]
        try:
            return wire.loads(body.decode("ascii"))
        except (ValueError, RecursionError):
            raise violation("a malformed message") from None

    def exchange(self, data: bytes) -> bytes:
        """Send raw bytes and their end, and return all that comes until the other end closes. Raises Stop."""
        view, written = memoryview(data), bytearray()
        self._hang_up(view)
        while True:
            self._check_time()
            if view:
                view = view[self._push(view) :]
                self._hang_up(view)
            try:
                part = self.socket.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLIN | (select.POLLOUT if view else 0))
                continue
            except ConnectionResetError:
                part = b""
            if not part:
                return bytes(written)
            written += part
            if len(written) > self.limits.output_bytes:
                raise Stop(ErrorClass.KILLED, f"wrote more than {self.limits.output_bytes} bytes")

    def _push(self, view: memoryview) -> int:
        """Send what fits; all that is left where nobody reads it any more."""
        try:
            return self.socket.send(view, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            return len(view)

    def _hang_up(self, view: memoryview) -> None:
        if not view:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def _await(self, count: int) -> None:
        """Read until `count` bytes are there. Raises Stop."""
        while len(self._buffer) < count:
            self._check_time()
            self._wait(select.POLLIN)
            try:
                part = self.socket.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                raise Died from None
            if not part:
                raise Died
            self._buffer += part

    def _wait(self, event: int) -> None:
        self._poller.register(self._descriptor, event)
        while not self._poller.poll(max(self._check_at - time.monotonic(), 0.0) * 1000 + 1):
            self._check_time()

    def _check_time(self) -> None:
        """Ask the kernel for the program's time where it may be up, and set the next check. Raises Stop."""
        now = time.monotonic()
        if now < self._check_at:
            return
        cpu, wall = self.limits.cpu_seconds, self.limits.wall_seconds
        used, elapsed = self.clocks.cpu_seconds(), now - self._started
        if used >= cpu:
            raise Stop(ErrorClass.TIMEOUT, f"over {cpu:g} s of CPU time")
        if elapsed >= wall:
            elapsed -= min(self.clocks.queued_seconds(), (_PATIENCE - 1) * wall)
        if elapsed >= wall:
            raise Stop(ErrorClass.TIMEOUT, f"over {wall:g} s")
        self._check_at = now + min(cpu - used, wall - elapsed)
