"""Canonical JSON, digests, and writes that happen whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl.errors import HrmctlError, StoreError
from hrmctl.jsonio import canonical, digest_of, file_digest, loads, to_json, write_atomic

WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=20
)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int
    tags: tuple[str, ...] = ()


@given(TREES)
@settings(deadline=None)
def test_canonical_json_is_one_line_that_reads_back(tree: Any) -> None:
    text = canonical(tree)
    assert "\n" not in text
    assert loads(text) == json.loads(text) == tree
    assert canonical(loads(text)) == text


@given(st.dictionaries(WORDS, SCALARS, min_size=2, max_size=6))
@settings(deadline=None)
def test_the_order_of_keys_does_not_count(tree: dict[str, Any]) -> None:
    turned = dict(reversed(tree.items()))
    assert canonical(turned) == canonical(tree)
    assert digest_of(turned) == digest_of(tree) == hashlib.sha256(canonical(tree).encode()).hexdigest()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_canonical_json_refuses_what_is_not_finite(bad: float) -> None:
    for value in (bad, [1, [bad]], {"a": {"b": bad}}, Point(bad)):  # type: ignore[arg-type]
        with pytest.raises(HrmctlError, match="not representable as canonical JSON: Out of range float"):
            canonical(value)


def test_canonical_json_refuses_what_json_has_not() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), {1, 2}, b"bytes", "\udcff", 1 + 2j, deep):
        with pytest.raises(HrmctlError, match="not representable"):
            canonical(value)


def test_dataclasses_enums_paths_and_tuples_become_plain() -> None:
    value = {"p": Point(1, ("a",)), "c": Colour.RED, "f": Path("x/y"), "t": (1, (2,))}
    assert to_json(value) == {"p": {"x": 1, "tags": ["a"]}, "c": "red", "f": "x/y", "t": [1, [2]]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[Infinity]", "Infinity is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e999]", "1e999 is too large for a number"),
        ('{"a": 1, "a": 2}', "duplicate key"),
        ('{"a": 1', "Expecting"),
        ("", "Expecting value"),
        ("1" * 5000, "Exceeds the limit"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_reading_refuses_with_the_place(text: str, message: str) -> None:
    with pytest.raises(HrmctlError, match=f"^here: .*{message}"):
        loads(text, "here")


@given(st.text(max_size=40) | TREES.map(json.dumps))
@settings(deadline=None)
def test_reading_raises_nothing_but_expected_errors(text: str) -> None:
    with suppress(HrmctlError):
        assert loads(canonical(loads(text))) == loads(text)


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(os.urandom(3_000_000))
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


# --- atomic writes --------------------------------------------------------------------------------


def test_a_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two\xff")
    assert path.read_bytes() == b"two\xff"
    assert os.listdir(path.parent) == ["f.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(StoreError, match=r"cannot write .*f: .*; make room for a file there, or choose another place"):
        write_atomic(target, "text")
    assert os.listdir(tmp_path) == ["f"]
    assert os.listdir(target) == ["inside"]


def test_a_parent_that_is_a_file_is_an_expected_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write"):
        write_atomic(tmp_path / "file" / "f", "text")


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "f", ["a" * 400_000, "b" * 400_000]
    write_atomic(path, texts[0])
    stop = threading.Event()
    seen: list[str] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(30):
        write_atomic(path, texts[turn % 2])
    stop.set()
    reader.join()
    assert seen
    assert set(seen) <= set(texts)
