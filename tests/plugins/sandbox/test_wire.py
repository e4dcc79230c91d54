"""The frames between the processes are plain JSON, however they are made."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hrmctl_sandbox import wire
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
MESSAGES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(MESSAGES)
def test_messages_are_compact_ascii_json(message: Any) -> None:
    text = wire.dumps(message)
    assert text == json.dumps(message, separators=(",", ":"))
    assert wire.loads(text) == message


@pytest.mark.parametrize("text", ["", " ", "[1] ", " [1]", "[1][2]", "[1", "nul", "{1:2}"])
def test_what_is_not_one_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|value|Expecting|Unterminated|property"):
        wire.loads(text)


def test_what_is_not_json_is_not_sent() -> None:
    with pytest.raises(TypeError, match="not JSON: object"):
        wire.dumps([object()])


def test_without_the_compiled_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_chunks", None)
    assert wire.dumps(["ä", {"a": 1.5}, None]) == '["\\u00e4",{"a":1.5},null]'


def test_a_frame_in_pieces_is_read_whole() -> None:
    reader, writer = os.pipe()
    try:
        frame = wire.pack(["x" * 5000, 1])
        for start in range(0, len(frame), 700):
            os.write(writer, frame[start : start + 700])
        assert wire.read(reader) == ["x" * 5000, 1]
        os.write(writer, frame[:6])
        os.close(writer)
        with pytest.raises(wire.Closed):
            wire.read(reader)
    finally:
        os.close(reader)
