"""Messages of any size between two processes, over two pipes."""

from __future__ import annotations

import io
import os
import select
from collections.abc import Callable, Mapping
from typing import Any

import torch

_LENGTH = 8
_LOOK = 200


class Channel:
    """Each message is its length, eight bytes, and what it says. Raises EOFError where the other end is gone.

    `waiting` is called several times a second while nothing comes, and may raise.
    """

    def __init__(self, incoming: int, outgoing: int, waiting: Callable[[], None] = lambda: None) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.waiting = waiting
        self._poll = select.poll()
        self._poll.register(incoming, select.POLLIN)

    def send(self, message: bytes) -> None:
        """Hand over one message."""
        data = memoryview(len(message).to_bytes(_LENGTH, "little") + message)
        try:
            while data:
                data = data[os.write(self.outgoing, data) :]
        except BrokenPipeError as error:
            raise EOFError from error

    def receive(self) -> bytes:
        """Wait for one message."""
        return self._read(int.from_bytes(self._read(_LENGTH), "little"))

    def send_tensors(self, state: Mapping[str, Any]) -> None:
        """Hand over tensors and plain values."""
        stream = io.BytesIO()
        torch.save(dict(state), stream)
        self.send(stream.getvalue())

    def receive_tensors(self) -> Mapping[str, Any]:
        """Wait for tensors and plain values; the tensors are on the CPU."""
        found: Mapping[str, Any] = torch.load(io.BytesIO(self.receive()), map_location="cpu", weights_only=True)
        return found

    def close(self) -> None:
        """Close both ends."""
        os.close(self.incoming)
        os.close(self.outgoing)

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            while not self._poll.poll(_LOOK):
                self.waiting()
            part = os.read(self.incoming, min(count - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)
