"""Files are read row by row, whatever they are packed in, and every bad row is known by its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hrmctl_training.formats import Chat, Row
from hrmctl_training.rows import Reader

from hrmctl import StageError

GOOD = '{"prompt": "a", "completion": "b"}\n'


def read(path: Path, form: str = "auto") -> tuple[list[Row], Reader]:
    """The usable rows of a file and its reader."""
    reader = Reader(path, form, Chat())
    return list(reader), reader


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"not json\n", "not a JSON object"),
        (b"\n", "not a JSON object"),
        (b"[1]\n", "not a JSON object"),
        (b'{"prompt": "a"}\n', "no field 'completion'"),
        (b'{"text": "a"}\n', "no field 'prompt'"),
        (b'{"prompt": "\xff", "completion": "b"}\n', "utf-8"),
        (b'{"prompt": "\\ud800", "completion": "b"}\n', "surrogate"),
        (b'{"prompt": "a", "completion": "b"', "not a JSON object"),
        (b"[" * 100_000 + b"\n", "not a JSON object"),
    ],
)
def test_bad_row_is_named_by_its_line(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD.encode() * 2 + raw)
    rows, reader = read(path)
    assert [row.line for row in rows] == [1, 2]
    with pytest.raises(StageError, match=reason) as caught:
        reader.faults.refuse("bad rows", "mend them")
    assert f"{path}:3:1: " in str(caught.value)
    assert "1 bad rows in all; mend them" in str(caught.value)


def test_the_first_ten_bad_rows_are_named_and_all_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(GOOD if i % 2 else "x\n" for i in range(40)))
    rows, reader = read(path)
    with pytest.raises(StageError) as caught:
        reader.faults.refuse("bad rows", "mend them")
    assert [problem.line for problem in caught.value.problems] == [*range(1, 20, 2), 0]
    assert "20 bad rows in all" in caught.value.problems[-1].message
    assert (reader.rows, len(rows), reader.format) == (40, 20, "prompt-completion")


def test_no_row_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(StageError, match="holds no row"):
        read(tmp_path / "empty.jsonl")


def test_a_gzipped_file_and_an_array_hold_the_same_rows(tmp_path: Path) -> None:
    plain, zipped, array = (tmp_path / name for name in ("d.jsonl", "d.gz", "d.json"))
    plain.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() * 3)
    zipped.write_bytes(gzip.compress(GOOD.encode() * 3))
    array.write_text("[" + ",\n".join([GOOD.strip()] * 3) + "]")
    rows, _ = read(plain)
    assert len(rows) == 3
    assert read(zipped)[0] == read(array)[0] == rows


def test_a_truncated_gzip_is_not_a_shorter_data_set(tmp_path: Path) -> None:
    path = tmp_path / "d.gz"
    path.write_bytes(gzip.compress(GOOD.encode() * 30_000)[:-20])
    with pytest.raises(StageError, match=r"cannot be read after row \d+"):
        read(path)


def test_a_fault_in_an_array_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text("[" + GOOD + "," + GOOD + ",{]")
    rows, reader = read(path)
    assert len(rows) == 2
    assert [problem.line for problem in reader.faults.first] == [3]


def test_plain_text_is_read_by_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "d.txt"
    path.write_text(" \n = Title = \n \n one\n two\n\n\nthree")
    rows, reader = read(path)
    assert reader.format == "text"
    assert [(row.line, row.pairs[0][1]) for row in rows] == [(2, " = Title = \n"), (4, " one\n two\n"), (8, "three")]


def test_code_is_plain_text_where_it_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "d.c"
    path.write_text('int a[] = {\n{ "x" }\n};\n\nint b;\n')
    assert len(read(path, "text")[0]) == 2
    rows = tmp_path / "d.jsonl"
    rows.write_text('{"text": "a"}\n')
    assert read(rows, "text")[0][0].pairs == (("", "a"),)


def test_rows_of_wikitext_are_all_there(shared_data: Path) -> None:
    path = shared_data / "wikitext2-test.txt"
    rows, reader = read(path)
    assert reader.faults.count == 0
    written = "".join(row.pairs[0][1] for row in rows)
    assert "".join(written.split()) == "".join(path.read_text("utf-8-sig").split())


def test_all_bad_rows_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text((GOOD + "x\n") * 30)
    reader = Reader(path, "auto", Chat(), tmp_path / "report.jsonl")
    assert len(list(reader)) == 30
    report = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [row["line"] for row in report] == list(range(2, 61, 2))
    assert all("not a JSON object" in row["reason"] for row in report)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrmctl_training.rows.LONGEST_LINE", 1 << 20)
    path = tmp_path / "d.jsonl"
    path.write_text(GOOD + "x" * ((5 << 20) + 7) + "\n" + GOOD)
    rows, reader = read(path)
    assert [row.line for row in rows] == [1, 3]
    assert [(problem.line, problem.message) for problem in reader.faults.first] == [(2, "longer than 1 MiB")]
