"""Whatever a file holds, reading it gives tasks or says what is wrong with it: no other exception comes out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hrmctl_sandbox.formats import BadFile, BadRow, CodeTask, checked, files, read_tasks
from hrmctl_sandbox.formats.bigcodebench import complete_task, instruct_task
from hrmctl_sandbox.formats.evalplus import hub_task, released_task
from hrmctl_sandbox.formats.humaneval import humaneval_task
from hrmctl_sandbox.formats.livecodebench import livecodebench_task
from hrmctl_sandbox.formats.mapping import mapped_task
from hrmctl_sandbox.formats.mbpp import mbpp_task
from hrmctl_sandbox.formats.shapes import shape_of
from hypothesis import given, settings
from hypothesis import strategies as st

from .test_formats_others import BIG, CASES, METHOD, OURS, STDIN

MBPP = {
    "task_id": 12,
    "text": "Add one.",
    "code": "def f(x):\r\n    return x + 1",
    "test_setup_code": "",
    "test_imports": [],
    "test_list": ["assert f(1) == 2"],
}
HUMAN = {
    "task_id": "HumanEval/0",
    "prompt": 'def f(x):\n    """Add one."""\n',
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "entry_point": "f",
}
HUB = {**MBPP, "prompt": "Add one.", "test": "import numpy as np\nassert f(1) == 2\n"}
RELEASED = {**HUMAN, "base_input": [[1]], "plus_input": [[2]], "atol": 0}
MAPPED = {**OURS, "task_id": 7}
FIELDS = {name: name for name in OURS}


def released(entry: Mapping[str, Any]) -> CodeTask:
    return released_task(entry, lambda program, entry_point, inputs: [1 for _ in inputs])


SHAPES = {
    "hrmctl": (OURS, checked),
    "hrmctl, cases": (CASES, checked),
    "mbpp": (MBPP, mbpp_task),
    "humaneval": (HUMAN, humaneval_task),
    "evalplus, mbpp of the hub": (HUB, hub_task),
    "evalplus, humaneval of the hub": (HUMAN, hub_task),
    "evalplus, released": (RELEASED, released),
    "livecodebench, programs": (STDIN, livecodebench_task),
    "livecodebench, methods": (METHOD, livecodebench_task),
    "bigcodebench": (BIG, complete_task),
    "bigcodebench-instruct": (BIG, instruct_task),
    "mapping": (MAPPED, lambda entry: mapped_task(entry, FIELDS)),
    "mapping, cases": (CASES, lambda entry: mapped_task(entry, {name: name for name in CASES if name != "tests"})),
}
# Names and values that readers look for, so that what is drawn comes past the first check.
KEYS = st.sampled_from(["input", "output", "testtype", "stdin", "stdout", "func_name", "packages"]) | st.text(
    max_size=3
)
TEXTS = st.sampled_from(["stdin", "functional", "def f(x): pass", "[[]]", "[1]", "{", "eJw=", "\ud800", "1e999"])
SCALARS = st.none() | st.booleans() | st.integers() | st.just(10**4000) | st.floats() | TEXTS | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def altered(value: Any) -> st.SearchStrategy[Any]:
    """The value with any JSON value in place of some part of it; a text of JSON is taken for what it holds."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with suppress(ValueError):
            return altered(json.loads(value))
    if isinstance(value, list) and value:
        return altered(value[0]).map(lambda item: [item, *value[1:]])
    if isinstance(value, dict) and value:
        changed = [altered(item).map(lambda new, key=key: {**value, key: new}) for key, item in value.items()]
        return st.one_of(changed)
    return JSON


@settings(max_examples=25)
@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
def test_any_value_in_any_field_is_a_task_or_a_bad_row(shape: str, data: st.DataObject) -> None:
    row, convert = SHAPES[shape]
    assert convert(row)
    for field in dict.fromkeys([*row, "meta", "shared"]):
        value = data.draw(JSON | altered(row.get(field)), label=field)
        for written in (value, json.dumps(value)):
            entry = {**row, field: written}
            try:
                shape_of(entry)
                task = convert(entry)
            except BadRow:
                continue
            task.problem()
            json.dumps(task.row())


CASE = {"input": "1", "output": "1"}


@pytest.mark.parametrize("kind", [["a"], {}, None, 1])
def test_a_testtype_that_is_no_text(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**STDIN, "public_test_cases": [{**CASE, "testtype": kind}]}))
    with pytest.raises(BadFile, match=r"rows.jsonl:1: testtype is "):
        read_tasks(path)


@pytest.mark.parametrize("named", [5, "numpy", ["numpy", 1], {"numpy": 1}, None])
def test_packages_are_a_list_of_names(named: Any) -> None:
    with pytest.raises(BadRow, match=r"^meta\.packages is not a list of names$"):
        checked({**OURS, "meta": {"packages": named}})
    assert checked({**OURS, "meta": {"packages": ["numpy"]}}).meta == {"packages": ["numpy"]}


def test_a_prefix_nested_too_deep() -> None:
    prefix = "def helper():\n    return " + "-" * 400 + "1\n\n"
    with pytest.raises(BadRow, match=r"field 'prefix' is nested too deep"):
        checked({**OURS, "prefix": prefix})


def test_a_row_nested_too_deep(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(OURS)[:-1] + ', "meta": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}")
    with pytest.raises(BadFile, match=r"rows.jsonl:1: not JSON"):
        read_tasks(path)


# --- bombs ---------------------------------------------------------------------------------------


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.dumps(OURS).encode() + b"\n"
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 16)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(row.ljust(1 << 16)))
    assert len(read_tasks(path)) == 1
    path.write_bytes(gzip.compress(row.ljust((1 << 16) + 1)))
    with pytest.raises(BadFile, match=r"rows.jsonl.gz:0: unpacks to more than 1 GiB"):
        read_tasks(path)
    path.write_bytes(gzip.compress(row.ljust(1 << 15)) * 3)
    with pytest.raises(BadFile, match="unpacks to more"):
        read_tasks(path)


def test_no_more_of_a_bomb_is_unpacked_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(1 << 26)))
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="unpacks to more"):
            read_tasks(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [slice(0, -9), slice(0, 5)])
def test_a_file_cut_short(tmp_path: Path, cut: slice) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(OURS).encode())[cut])
    with pytest.raises(BadFile, match="cannot be read"):
        read_tasks(path)
