"""Local files: three shapes, and every bad row with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hrmctl_data import local
from hrmctl_data.microcode import problems
from hrmctl_data.params import JsonlParams

from hrmctl import InputError, StageError
from hrmctl.testing import make_artifact, make_context

from .test_benchmarks import FULL, HUMAN

OURS = {
    "task_id": "mine/1",
    "prompt": "def f(x):\n",
    "prefix": "def f(x):\n",
    "completion": "    return x\n",
    "entry_point": "f",
    "tests": ["assert f(1) == 1"],
}


def read(tmp_path: Path, body: str | bytes, params: JsonlParams | None = None) -> Any:
    path = tmp_path / "0123abcd"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    given = make_artifact(path, "dataset", "mine.jsonl")
    return local.run(params or JsonlParams(), {"file": given}, make_context(tmp_path))


def rows_of(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.artifacts["data"].path.read_text(encoding="utf-8").splitlines()]


def faults(tmp_path: Path, body: str | bytes, params: JsonlParams | None = None) -> list[str]:
    with pytest.raises(StageError) as caught:
        read(tmp_path, body, params)
    return str(caught.value).splitlines()


def test_all_three_shapes(tmp_path: Path) -> None:
    result = read(tmp_path, "\n".join(map(json.dumps, (OURS, FULL, HUMAN))), JsonlParams("mix", "train"))
    assert [row["task_id"] for row in rows_of(result)] == ["mine/1", "mbpp/12", "HumanEval/0"]
    assert result.artifacts["data"].label == "mix@train"
    assert [(o.name, o.payload) for o in result.evidence] == [("problems", {"value": 3, "unit": "problems", "n": 3})]
    assert result.evidence[0].about == {"dataset": result.artifacts["data"]}


def test_fields_of_any_other_shape(tmp_path: Path) -> None:
    fields = {"task_id": "id", "prompt": "question", "entry_point": "fn", "tests": "check"}
    row = {"id": 3, "question": "# one", "fn": "f", "check": "assert f() == 1", "noise": 1}
    (found,) = rows_of(read(tmp_path, json.dumps(row), JsonlParams(fields=fields)))
    assert (found["task_id"], found["prompt"], found["tests"]) == ("3", "# one", ["assert f() == 1"])
    assert "mine.jsonl:1:1: no field 'id'" in faults(tmp_path, json.dumps(OURS), JsonlParams(fields=fields))[0]


def test_cases_and_shared_tests_are_kept(tmp_path: Path) -> None:
    echo = {**OURS, "task_id": "b", "entry_point": "", "cases": [{"stdin": "a", "stdout": "a"}]}
    del echo["tests"]
    rows = rows_of(read(tmp_path, "\n".join(map(json.dumps, (OURS, echo, {**OURS, "task_id": "c", "shared": True})))))
    assert [(row.get("cases"), row.get("shared"), len(row["tests"])) for row in rows] == [
        (None, None, 1),
        (echo["cases"], None, 0),
        (None, True, 1),
    ]


def test_optional_fields_are_filled_in(tmp_path: Path) -> None:
    assert rows_of(read(tmp_path, json.dumps(OURS))) == [{**OURS, "text": "", "setup": "", "source": "", "meta": {}}]


def test_generated_rows_go_through_unchanged(tmp_path: Path) -> None:
    rows = list(problems("test", 20, 1))
    assert rows_of(read(tmp_path, "\n".join(map(json.dumps, rows)))) == rows


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n\r\n").encode() + b"\n\n",
        lambda text: gzip.compress(text.encode()),
        lambda text: json.dumps([json.loads(line) for line in text.splitlines()], indent=2).encode(),
    ],
    ids=["plain", "byte order mark", "blank lines", "gzip", "array"],
)
def test_forms_of_files(tmp_path: Path, wrap: Any) -> None:
    text = "\n".join(json.dumps({**OURS, "task_id": f"é/{i}"}, ensure_ascii=False) for i in range(3))
    assert [row["task_id"] for row in rows_of(read(tmp_path, wrap(text)))] == ["é/0", "é/1", "é/2"]


def test_every_bad_row_is_reported_with_its_line(tmp_path: Path) -> None:
    lines: list[Any] = [
        OURS,
        "{",
        {**OURS, "task_id": "b", "tests": []},
        [1],
        {**OURS, "task_id": "c", "colour": 1},
        {**OURS, "task_id": "d", "entry_point": "not a name"},
        OURS,
        {**OURS, "task_id": "e", "tests": ["assert ("]},
        {**OURS, "task_id": "g", "setup": "import"},
        {**OURS, "task_id": "h", "meta": 3},
        {"x": 1},
        {**OURS, "task_id": 7},
        {k: v for k, v in OURS.items() if k != "completion"},
    ]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    expected = [
        "2:1: not JSON: Expecting property name",
        "3:1: field 'tests' is not a list",
        "4:1: not a JSON object",
        "5:1: unknown field 'colour'",
        "6:1: entry_point 'not a name'",
        "7:1: task_id 'mine/1' repeats line 1",
        "8:1: field 'tests' is not Python",
        "9:1: field 'setup' is not Python",
        "10:1: field 'meta' is not a mapping",
        "11:1: has none of the fields 'tests'",
        "12:1: field 'task_id' is not text",
        "13:1: no field 'completion'",
    ]
    found = faults(tmp_path, text)
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"mine.jsonl:{start}"), line


def test_bad_rows_of_an_array_have_lines(tmp_path: Path) -> None:
    entries = [OURS, {**OURS, "task_id": "b", "tests": 3}, OURS]
    found = faults(tmp_path, "[\n" + ",\n\n".join(map(json.dumps, entries)) + "\n]")
    assert [line.split(": ")[0] for line in found] == ["mine.jsonl:4:1", "mine.jsonl:6:1"]


@pytest.mark.parametrize("tail", [" nonsense]", "", ", ]", "}"])
def test_broken_arrays(tmp_path: Path, tail: str) -> None:
    assert faults(tmp_path, f"[\n{json.dumps(OURS)}{tail}")[0].startswith("mine.jsonl:2:1: not JSON")


def test_text_after_an_array(tmp_path: Path) -> None:
    assert "after the array" in faults(tmp_path, f"[{json.dumps(OURS)}]\n{json.dumps(OURS)}")[0]


def test_many_bad_rows_are_cut_short(tmp_path: Path) -> None:
    found = faults(tmp_path, "{}\n" * 100)
    assert len(found) == 21
    assert found[-1] == "mine.jsonl: 80 more bad rows"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\n\n", "holds no problem"),
        (b"", "holds no problem"),
        (b"[]", "holds no problem"),
        (json.dumps(OURS).encode() + b"\n\xff\xfe", "mine.jsonl:2:1: not UTF-8"),
        (b"[\n\n\xff]", "mine.jsonl:3:1: not UTF-8"),
        (gzip.compress(json.dumps(OURS).encode() * 99, mtime=0)[:-20], "cannot be read"),
        (b'{"task_id": NaN}', "NaN is not a JSON number"),
        (b"[" * 100_000, "mine.jsonl:1:1"),
        (b'{"a":' * 100_000, "mine.jsonl:1:1: not JSON"),
    ],
)
def test_bad_files(tmp_path: Path, body: bytes, message: str) -> None:
    assert message in faults(tmp_path, body)[0]


def test_a_shape_can_be_demanded(tmp_path: Path) -> None:
    assert "1:1: field 'task_id' is not an integer" in faults(tmp_path, json.dumps(OURS), JsonlParams(shape="mbpp"))[0]


@pytest.mark.parametrize("name", ["mbpp", "humaneval", "microcode", "mbpp-sanitized"])
def test_a_local_file_never_stands_for_a_published_set(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name of a published data set"):
        read(tmp_path, json.dumps(OURS), JsonlParams(name))


@pytest.mark.parametrize("name", ["", "a@b", "A", "a b", "../x", "mbpp\n"])
def test_names_that_cannot_be_labels(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a data set"):
        JsonlParams(name)


def test_nothing_is_written_where_a_row_is_bad(tmp_path: Path) -> None:
    faults(tmp_path, "{}")
    assert list((tmp_path / "scratch").iterdir()) == []
