"""Length-prefixed JSON frames over a stream socket or pipe."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from json import encoder as json_encoder
from typing import Any, NoReturn

_HEADER = struct.Struct(">I")
_scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]
HEADER_BYTES = _HEADER.size
LARGEST = (1 << 32) - 1


class Closed(EOFError):
    """The other side is gone."""


def _foreign(value: object) -> NoReturn:
    raise TypeError(f"not JSON: {type(value).__name__}")


# JSONEncoder.encode makes a new one of these for each message; it has no state without a register of cycles.
_make_encoder = vars(json_encoder)["c_make_encoder"]
_chunks: Callable[[Any, int], tuple[str, ...]] | None = _make_encoder and _make_encoder(
    None, _foreign, json_encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)


def dumps(message: Any) -> str:
    """Compact JSON in ASCII. Raises TypeError for what is not JSON, and RecursionError for cycles."""
    if _chunks is None:
        return json.dumps(message, check_circular=False, separators=(",", ":"))
    return "".join(_chunks(message, 0))


def loads(text: str) -> Any:
    """The value of JSON without white space around it. Raises ValueError and, for deep nesting, RecursionError."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one value")
    return value


def pack(message: Any) -> bytes:
    """One frame. Raises ValueError for messages of 4 GiB and more."""
    body = dumps(message).encode("ascii")
    if len(body) > LARGEST:
        raise ValueError("message too large")
    return _HEADER.pack(len(body)) + body


def length(header: bytes | bytearray) -> int:
    """The number of body bytes that a header announces."""
    return int(_HEADER.unpack(header)[0])


def write(descriptor: int, frame: bytes) -> None:
    """Write a whole frame to a blocking descriptor. Raises Closed or OSError."""
    left: bytes | memoryview = frame
    while left:
        try:
            written = os.write(descriptor, left)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None
        if written == len(left):
            return
        left = memoryview(left)[written:]


def read_exactly(descriptor: int, count: int, wait: Callable[[], None] | None = None) -> bytes:
    """Read `count` bytes, calling `wait` before each read where given. Raises Closed at the end of the stream."""
    parts: list[bytes] = []
    while count:
        if wait is not None:
            wait()
        try:
            part = os.read(descriptor, min(count, 1 << 20))
        except ConnectionResetError:
            part = b""
        if not part:
            raise Closed
        if len(part) == count and not parts:
            return part
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read(descriptor: int) -> Any:
    """Read one frame from a trusted peer. Raises Closed."""
    return loads(read_exactly(descriptor, length(read_exactly(descriptor, HEADER_BYTES))).decode("ascii"))
