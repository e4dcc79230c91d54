"""WikiText-2 by name: the published bytes, cut into articles that are the file again when joined."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hrmctl_data.fetch import run_get
from hrmctl_data.params import GetParams
from hrmctl_data.texts import wikitext

from hrmctl import StageError, StageResult
from hrmctl.testing import make_artifact, make_context


def fetched(tmp_path: Path, content: bytes, **params: bool) -> StageResult:
    file = tmp_path / "test.txt"
    file.write_bytes(content)
    inputs = {"file": make_artifact(file, "dataset", "./test.txt")}
    return run_get(GetParams(name="wikitext-2", **params), inputs, make_context(tmp_path))


def test_the_published_file(tmp_path: Path, shared_data: Path) -> None:
    # The shared copy lost the white space at its end and gained a byte order mark.
    published = (shared_data / "wikitext2-test.txt").read_bytes().removeprefix(b"\xef\xbb\xbf") + b" \n \n"
    result = fetched(tmp_path, published)
    output = result.artifacts["test"]
    assert output.label == "wikitext-2@test"
    rows = [json.loads(line) for line in output.path.read_text(encoding="utf-8").splitlines()]
    assert "".join(row["text"] for row in rows).encode() == published
    assert all(row["text"].lstrip().startswith("= ") for row in rows)
    (seen,) = result.evidence
    assert (seen.payload["value"], seen.payload["unit"]) == (len(rows), "texts")


def test_another_copy_is_not_the_published_one(tmp_path: Path, shared_data: Path) -> None:
    copy = (shared_data / "wikitext2-test.txt").read_bytes()
    with pytest.raises(StageError, match="is not the published wikitext-2"):
        fetched(tmp_path, copy)
    custom = fetched(tmp_path, copy, allow_other_checksum=True).artifacts["test"]
    assert custom.label == "wikitext-2-custom@test"


def test_where_an_article_begins(tmp_path: Path) -> None:
    file = tmp_path / "f.txt"
    file.write_text("\ufeff \n = One = \n \n = = Part = = \n words = words \n = Two = \n more", encoding="utf-8")
    texts = [row["text"] for row in wikitext(file)["test"]]
    assert texts == [" \n = One = \n \n = = Part = = \n words = words \n", " = Two = \n more"]


@pytest.mark.parametrize("content", [b"no article here\n", b"\xff = One = \n"])
def test_no_such_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "f.txt"
    file.write_bytes(content)
    with pytest.raises(StageError, match="give the file of the data set"):
        wikitext(file)
