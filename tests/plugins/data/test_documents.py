"""Reading training documents of any shape, one at a time, with the line of every bad row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hrmctl_data import documents
from hrmctl_data.documents import Document, Format, Reader, strings
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import Cancelled, StageError
from hrmctl.testing import RecordingContext, make_artifact, make_context


def reader(folder: Path, body: str | bytes, form: Format = "auto") -> Reader:
    path = folder / "object"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return Reader(make_artifact(path, "dataset", "train.jsonl"), form, make_context(folder))


def read(folder: Path, body: str | bytes, form: Format = "auto") -> list[Document]:
    return list(reader(folder, body, form))


def faults(folder: Path, body: str | bytes, form: Format = "auto") -> list[str]:
    with pytest.raises(StageError) as caught:
        read(folder, body, form)
    return str(caught.value).splitlines()


def test_every_text_of_a_row_counts_and_prompts_come_before_answers(tmp_path: Path) -> None:
    row = {"zeta": ["z", {"deep": "d"}], "completion": "c", "prompt": "p", "n": 3, "messages": [{"content": "m"}]}
    [document] = read(tmp_path, json.dumps(row))
    assert document.text == "p\nm\nc\nz\nd"
    assert list(strings({"b": "2", "a": "1"})) == ["1", "2"]


@pytest.mark.parametrize(
    "wrap", [bytes, gzip.compress, lambda raw: b"\xef\xbb\xbf" + raw], ids=["plain", "gzip", "mark"]
)
def test_lines_and_bytes_are_those_of_the_file(tmp_path: Path, wrap: Any) -> None:
    found = read(tmp_path, wrap(b'\n{"text": "a", "task_id": "t/1"}\r\n\n{"text":"b", "id": 7}'))
    assert [(d.line, d.raw, d.text, d.name) for d in found] == [
        (2, b'{"text": "a", "task_id": "t/1"}\r\n', "a\nt/1", "t/1"),
        (4, b'{"text":"b", "id": 7}', "b", "7"),
    ]


def test_plain_text_is_paragraphs_or_lines(tmp_path: Path) -> None:
    body = "one\ntwo\n \n\nthree\n"
    assert [(d.line, d.text) for d in read(tmp_path, body)] == [(1, "one\ntwo\n"), (5, "three\n")]
    assert [(d.line, d.raw) for d in read(tmp_path, body, "lines")] == [(1, b"one\n"), (2, b"two\n"), (5, b"three\n")]


def test_a_paragraph_is_cut_so_that_memory_stays_bounded(tmp_path: Path) -> None:
    found = read(tmp_path, "x\n" * 250)
    assert [(d.line, d.text.count("\n")) for d in found] == [(1, 100), (101, 100), (201, 50)]


@given(
    st.lists(st.sampled_from([b"word\n", b"more words\n", b"\n", b" \r\n"]), max_size=12), st.integers(1, 3), st.data()
)
def test_documents_that_are_left_are_read_again_as_they_were(
    lines: list[bytes], longest: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PARAGRAPH_LINES", longest)
        found = read(Path(name), b"first\n" + b"".join(lines) + b"\nlast")
        kept = [document for document in found if data.draw(st.booleans())]
        again = read(Path(name), b"".join(document.written for document in kept)) if kept else []
    assert [document.text for document in again] == [document.text.rstrip("\n") + "\n" for document in kept]


def test_every_bad_row_is_reported_with_its_line(tmp_path: Path) -> None:
    lines = [b'{"text": "good"}', b"{", b"[1]", b'{"n": 1}', b"{}", b"\xff", b'{"a": NaN}', b'"text"']
    found = faults(tmp_path, b"\n".join(lines))
    starts = ["not JSON", "not a JSON object", "holds no text", "holds no text", "not UTF-8", "not JSON", "not a JSON"]
    assert len(found) == len(starts)
    for line, (text, start) in enumerate(zip(found, starts, strict=True), start=2):
        assert text.startswith(f"train.jsonl:{line}:1: {start}"), text


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    found = faults(tmp_path, '{"text": "good"}\n' + "{}\n" * 30)
    assert len(found) == 21
    assert found[-1] == "train.jsonl: 10 more bad rows"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "holds no document"),
        (b"\n \n", "holds no document"),
        (b'[{"text": "a"}]', "1:1: begins with '['"),
        (gzip.compress(b'{"text": "a"}\n' * 999, mtime=0)[:-9], "cannot be read"),
        (b'{"a":' * 100_000, "1:1: not JSON"),
    ],
)
def test_bad_files(tmp_path: Path, body: bytes, message: str) -> None:
    assert message in faults(tmp_path, body)[0]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="is a folder"):
        Reader(make_artifact(tmp_path, "dataset", "x"), "auto", make_context(tmp_path))


def test_an_endless_line_is_refused_before_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_LINE", 1 << 20)
    assert (
        "2:1: the line is longer than 1 MiB"
        in faults(tmp_path, '{"text": "a"}\n{"text": "' + "x" * (1 << 21) + '"}')[0]
    )


def test_what_the_stage_rejects_is_reported_too(tmp_path: Path) -> None:
    source = reader(tmp_path, '{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(StageError, match=r"train.jsonl:2:1: why not"):
        all(document.text == "a" or source.reject(document.line, "why not") is None for document in source)


def test_progress_grows_to_the_whole_and_cancels(tmp_path: Path) -> None:
    source = reader(tmp_path, '{"text": "some words"}\n' * 3500)
    list(source)
    rows = source.ctx.rows  # type: ignore[attr-defined]
    done = [row[0] for row in rows]
    assert done == sorted(done)
    assert [row[2]["documents"] for row in rows] == [1000, 2000, 3000, 3500]
    assert rows[-1][0] == rows[-1][1] > rows[0][0]

    class Stopped(RecordingContext):
        def progress(self, done: int, total: int, **metrics: float) -> None:
            raise Cancelled

    source.ctx = Stopped(tmp_path)
    with pytest.raises(Cancelled):
        list(source)


def test_names_are_short_and_writable(tmp_path: Path) -> None:
    [document] = read(tmp_path, json.dumps({"text": "a", "id": "\ud800" + "x" * 999}))
    assert len(document.name) == 200
    assert document.name.encode()
