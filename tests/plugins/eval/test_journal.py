"""The journal keeps what was written whole and drops what was not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hrmctl_models.journal import Journal

from hrmctl import StageError


def _written(path: Path, count: int) -> None:
    with Journal(path) as journal:
        for number in range(count):
            journal.append({"number": number, "text": "ä\n\u2028"})


def test_rows_come_back_in_order_and_more_are_added(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    _written(path, 3)
    with Journal(path) as journal:
        assert [row["number"] for row in journal.rows] == [0, 1, 2]
        assert journal.rows[0]["text"] == "ä\n\u2028"
        journal.append({"number": 3})
    with Journal(path) as journal:
        assert [row["number"] for row in journal.rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    _written(path, 3)
    os.truncate(path, path.stat().st_size - cut)
    with Journal(path) as journal:
        assert [row["number"] for row in journal.rows] == [0, 1]
        journal.append({"number": "new"})
    with Journal(path) as journal:
        assert [row["number"] for row in journal.rows] == [0, 1, "new"]


@pytest.mark.parametrize("damage", [b"\0" * 20 + b"\n", b"[1]\n", b'{"number": \n', b"[" * 100_000 + b"\n"])
def test_nothing_after_a_damaged_line_is_believed(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "j.jsonl"
    _written(path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + damage + whole)
    with Journal(path) as journal:
        assert [row["number"] for row in journal.rows] == [0, 1]
    assert path.read_bytes() == whole


def test_a_row_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"number": 1})
    assert (tmp_path / "j.jsonl").read_bytes() == b'{"number": 1}\n'


def test_a_full_disk_is_an_expected_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(tmp_path / "j.jsonl") as journal:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StageError, match=r"j.jsonl: No space left on device; free space"):
            journal.append({"number": 1})


def test_a_folder_that_cannot_be_written_is_an_expected_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot write"):
        Journal(tmp_path / "missing" / "j.jsonl")
