"""Length-prefixed JSON frames over a stream socket or pipe."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any

_HEADER = struct.Struct(">I")
dumps = json.JSONEncoder(separators=(",", ":")).encode
loads = json.JSONDecoder().decode
HEADER_BYTES = _HEADER.size
LARGEST = (1 << 32) - 1


class Closed(EOFError):
    """The other side is gone."""


def pack(message: Any) -> bytes:
    """One frame. Raises ValueError for messages of 4 GiB and more."""
    body = dumps(message).encode("ascii")
    if len(body) > LARGEST:
        raise ValueError("message too large")
    return _HEADER.pack(len(body)) + body


def length(header: bytes) -> int:
    """The number of body bytes that a header announces."""
    return int(_HEADER.unpack(header)[0])


def write(descriptor: int, frame: bytes) -> None:
    """Write a whole frame to a blocking descriptor. Raises Closed or OSError."""
    view = memoryview(frame)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None


def read_exactly(descriptor: int, count: int, wait: Callable[[], None] | None = None) -> bytes:
    """Read `count` bytes, calling `wait` before each read where given. Raises Closed at the end of the stream."""
    parts = []
    while count:
        if wait is not None:
            wait()
        try:
            part = os.read(descriptor, min(count, 1 << 20))
        except ConnectionResetError:
            part = b""
        if not part:
            raise Closed
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read(descriptor: int) -> Any:
    """Read one frame from a trusted peer. Raises Closed."""
    return loads(read_exactly(descriptor, length(read_exactly(descriptor, HEADER_BYTES))).decode("ascii"))
