"""LiveCodeBench, BigCodeBench, mapped rows, the telling of shapes, literals: rows written by hand in their shapes."""

from __future__ import annotations

import ast
import base64
import json
import math
import pickle
import subprocess
import sys
import zlib
from collections import Counter, OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hrmctl_sandbox import Case, ErrorClass, Sample, judge
from hrmctl_sandbox.formats import SHAPES, BadFile, BadRow, CodeTask, checked, read_tasks
from hrmctl_sandbox.formats.bigcodebench import packages
from hrmctl_sandbox.formats.literals import NotData, literal
from hrmctl_sandbox.formats.livecodebench import unpacked
from hrmctl_sandbox.formats.shapes import shape_of
from hypothesis import given, settings
from hypothesis import strategies as st

STDIN = {
    "question_title": "Sum",
    "question_content": 'Print the sum of two numbers.\nSample: """1 2""" gives 3',
    "platform": "atcoder",
    "question_id": "abc000_a",
    "contest_id": "abc000",
    "contest_date": "2024-01-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "-5 5\n", "output": "0\n", "testtype": "stdin"}]),
    "metadata": "{}",
}
METHOD = {
    **STDIN,
    "question_id": "2879",
    "platform": "leetcode",
    "starter_code": "class Solution:\n    def pairs(self, nums: List[int], k: int) -> List[int]:\n        ",
    "public_test_cases": json.dumps([{"input": "[1, 2, 3]\n2", "output": "[2, 1]", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[]\n0", "output": "[]", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "pairs"}),
}
BIG = {
    "task_id": "BigCodeBench/0",
    "complete_prompt": 'import collections\n\ndef task_func(words):\n    """Count the words."""\n',
    "instruct_prompt": "Write a function task_func that counts the words.",
    "canonical_solution": "    return collections.Counter(words)\n",
    "code_prompt": "import collections\n\ndef task_func(words):\n",
    "test": "import unittest\nfrom unittest.mock import patch\n\nclass TestCases(unittest.TestCase):\n"
    "    def test_counts(self):\n        self.assertEqual(task_func(['a', 'a'])['a'], 2)\n"
    "    def test_patched(self):\n        with patch('collections.Counter', return_value=7):\n"
    "            self.assertEqual(task_func([]), 7)\n",
    "entry_point": "task_func",
    "libs": "['collections', 'numpy', 'sklearn.metrics']",
}


def read_rows(tmp_path: Path, *rows: Any, shape: str = "auto", fields: Any = None) -> list[CodeTask]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_tasks(tmp_path / "rows.jsonl", shape, fields)


def grades(task: CodeTask, *programs: str, **options: Any) -> list[ErrorClass]:
    samples = [Sample(task.task_id, i, text) for i, text in enumerate(programs)]
    outcomes = judge([task.problem()], samples, workers=1, **options)
    return [outcome.error for outcome in sorted(outcomes, key=lambda outcome: outcome.index)]


# --- LiveCodeBench -------------------------------------------------------------------------------


def packed(value: Any, protocol: int = 4) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


def test_a_program_for_standard_input(tmp_path: Path) -> None:
    (task,) = read_rows(tmp_path, STDIN)
    assert task.cases == (Case("1 2\n", "3\n"), Case("-5 5\n", "0\n"))
    assert (task.task_id, task.entry_point, task.tests) == ("abc000_a", "", ())
    assert ast.get_docstring(ast.parse(task.prompt)) == STDIN["question_content"]
    right = "a, b = map(int, input().split())\nprint(a + b)\n"
    guarded = "def main():\n    print(sum(map(int, stdin.read().split())))\nif __name__ == '__main__':\n    main()\n"
    found = grades(task, *(task.program(text) for text in (right, guarded, "print(3)\n", "print(int(input()))\n")))
    assert found == [ErrorClass.PASSED, ErrorClass.PASSED, ErrorClass.WRONG_ANSWER, ErrorClass.RUNTIME]


def test_a_method_of_a_solution(tmp_path: Path) -> None:
    (task,) = read_rows(tmp_path, METHOD)
    head = "class Solution:\n    def pairs(self, nums: List[int], k: int) -> List[int]:\n        "
    bodies = ("return nums[:k][::-1]", "return tuple(reversed(nums[:k]))", "return nums", "return None")
    found = grades(task, *(task.program(head + body) for body in bodies))
    assert found == [ErrorClass.PASSED, ErrorClass.PASSED, ErrorClass.WRONG_ANSWER, ErrorClass.WRONG_ANSWER]
    assert task.prompt.endswith(METHOD["starter_code"])
    assert task.whole("x") == task.prefix + "x"


@pytest.mark.parametrize("protocol", range(6))
def test_packed_cases_are_read_and_never_unpickled(tmp_path: Path, protocol: int) -> None:
    row = {**STDIN, "private_test_cases": packed(STDIN["private_test_cases"], protocol)}
    assert read_rows(tmp_path, row) == read_rows(tmp_path, STDIN)


class Trap:
    def __reduce__(self) -> Any:
        return (Path("carried_out").touch, ())


@pytest.mark.parametrize("value", [Trap(), [Trap()], ["[]"], {"a": "[]"}, b"[]", 3, None, ("[]", "[]")])
def test_a_pickle_of_anything_else_is_refused(tmp_path: Path, monkeypatch: Any, value: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFile, match=r"rows.jsonl:1: packed test cases are a pickle of"):
        read_rows(tmp_path, {**STDIN, "private_test_cases": packed(value)})
    assert not (tmp_path / "carried_out").exists()


@pytest.mark.parametrize(
    "text", ["", "!", "AAAA", packed("[]")[:-8], base64.b64encode(zlib.compress(b"not a pickle")).decode()]
)
def test_broken_packing(text: str) -> None:
    with pytest.raises(BadRow, match="packed test cases"):
        unpacked(text)


def test_a_bomb_is_not_unpacked(monkeypatch: Any) -> None:
    monkeypatch.setattr("hrmctl_sandbox.formats.livecodebench._MOST_BYTES", 1 << 16)
    with pytest.raises(BadRow, match="over 1 GiB"):
        unpacked(base64.b64encode(zlib.compress(b"0" * (1 << 17))).decode())


@given(st.text())
def test_every_text_comes_through(text: str) -> None:
    assert unpacked(packed(text)) == text


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (STDIN, {"private_test_cases": "[]", "public_test_cases": "[]"}, "has neither public nor private"),
        (STDIN, {"public_test_cases": METHOD["public_test_cases"]}, 'testtype is "functional", "stdin"'),
        (STDIN, {"public_test_cases": "[1]"}, "'public_test_cases' is not a list of cases"),
        (STDIN, {"public_test_cases": "[{"}, "'public_test_cases' is not JSON"),
        (STDIN, {"question_id": None}, "no field 'question_id'"),
        (METHOD, {"metadata": "{}"}, "names no function"),
        (METHOD, {"metadata": json.dumps({"func_name": "a b"})}, "names no function"),
        (METHOD, {"public_test_cases": '[{"input": "x", "output": "1", "testtype": "functional"}]'}, "is not JSON"),
    ],
)
def test_faults_of_livecodebench(tmp_path: Path, row: Any, change: Any, message: str) -> None:
    with pytest.raises(BadFile, match=message):
        read_rows(tmp_path, {**row, **change})


# --- BigCodeBench --------------------------------------------------------------------------------


def test_a_unittest_runs_with_its_program(tmp_path: Path) -> None:
    (task,) = read_rows(tmp_path, BIG)
    assert (task.shared, task.prefix, task.meta) == (True, BIG["complete_prompt"], {"packages": ["numpy", "sklearn"]})
    right, wrong = task.program(task.completion), task.program("    return {}\n")
    assert grades(task, right, wrong, allow_forgeable=True)[0] is ErrorClass.PASSED
    assert grades(task, wrong, allow_forgeable=True) != [ErrorClass.PASSED]
    assert grades(task, right) == [ErrorClass.REFUSED]


def test_the_variant_with_an_instruction(tmp_path: Path) -> None:
    (task,) = read_rows(tmp_path, BIG, shape="bigcodebench-instruct")
    assert (task.prompt, task.prefix) == (BIG["instruct_prompt"], "")
    assert grades(task, task.completion, allow_forgeable=True) == [ErrorClass.PASSED]


@pytest.mark.parametrize("libs", ["__import__('os').getcwd()", "[1]", "{", 3])
def test_libraries_are_names(libs: Any) -> None:
    with pytest.raises(BadRow, match="'libs' is not a list of names"):
        packages({"libs": libs})


# --- any other shape -----------------------------------------------------------------------------


def test_mapped_rows(tmp_path: Path) -> None:
    row = {"id": 7, "question": "# add one\n", "fn": "f", "check": "assert f(1) == 2", "noise": [1]}
    fields = {"task_id": "id", "prompt": "question", "entry_point": "fn", "tests": "check"}
    (task,) = read_rows(tmp_path, row, fields=fields)
    assert task == CodeTask("7", "# add one\n", entry_point="f", tests=("assert f(1) == 2",))
    assert grades(task, "def f(x): return x + 1", "def f(x): return x") == [ErrorClass.PASSED, ErrorClass.WRONG_ANSWER]


def test_mapped_cases(tmp_path: Path) -> None:
    row = {"name": "echo", "text": "# echo\n", "io": [{"input": "a\n", "output": "a\n"}]}
    (task,) = read_rows(tmp_path, row, fields={"task_id": "name", "prompt": "text", "cases": "io"})
    assert task.cases == (Case("a\n", "a\n"),)
    assert grades(task, "print(input())") == [ErrorClass.PASSED]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task_id": "id", "promt": "q"}, "'promt' is no field of a task; those are task_id, prompt"),
        ({"task_id": "id", "prompt": "question"}, "no field 'question', which is to be 'prompt'"),
        ({"task_id": "id", "prompt": "q"}, "no field 'entry_point'"),
        ({"task_id": "id", "prompt": "q", "cases": "q"}, "'cases' is not a list of at least one"),
    ],
)
def test_faults_of_a_mapping(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    with pytest.raises(BadFile, match=message):
        read_rows(tmp_path, {"id": 7, "q": "# x"}, fields=fields)


# --- hrmctl's own shape, and which is which ------------------------------------------------------

OURS = {"task_id": "a", "prompt": "", "completion": "", "entry_point": "f", "tests": ["assert f() == 1"]}
CASES = {**OURS, "tests": [], "entry_point": "", "cases": [{"stdin": "", "stdout": "1"}]}


@pytest.mark.parametrize("row", [OURS, CASES, {**OURS, "shared": True}])
def test_rows_come_back_as_they_were(row: dict[str, Any]) -> None:
    written = checked(row).row()
    assert written.items() >= row.items()
    assert checked(written) == checked(row)


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (CASES, {"tests": ["assert f()"]}, "both 'tests' and 'cases'"),
        (CASES, {"shared": True}, "never share"),
        (CASES, {"cases": []}, "'cases' is not a list"),
        (CASES, {"cases": [{"stdin": ""}]}, "no field 'stdout'"),
        (CASES, {"cases": [{"stdin": 1, "stdout": ""}]}, "'stdin' is not text"),
        (CASES, {"entry_point": "a b"}, "entry_point 'a b' is not a name"),
        (OURS, {"entry_point": ""}, "entry_point '' is not a name"),
        (OURS, {"shared": 1}, "'shared' is neither true nor false"),
        (OURS, {"tests": []}, "'tests' is not a list"),
        (OURS, {"task_id": ""}, "'task_id' is empty"),
    ],
)
def test_faults_of_our_own_rows(row: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRow, match=message):
        checked({**row, **change})


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (OURS, "hrmctl"),
        (CASES, "hrmctl"),
        (STDIN, "livecodebench"),
        (BIG, "bigcodebench"),
        ({"test_list": []}, "mbpp"),
        ({"test_list": [], "test": ""}, "evalplus"),
        ({"base_input": [], "canonical_solution": "", "test": ""}, "evalplus"),
        ({"canonical_solution": "", "test": ""}, "humaneval"),
        ({"canonical_solution": "", "test": "import numpy as np\n"}, "evalplus"),
    ],
)
def test_shapes_by_their_fields(row: dict[str, Any], shape: str) -> None:
    assert shape_of(row) == shape
    assert shape in SHAPES


def test_an_unknown_shape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown shape 'x'; there are auto, hrmctl, mbpp"):
        read_rows(tmp_path, OURS, shape="x")


def test_infinity_is_for_the_inputs_of_evalplus_alone(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="Infinity is not a JSON number"):
        read_rows(tmp_path, {**OURS, "meta": {"x": math.inf}})
    row = {"task_id": "Mbpp/1", "prompt": "'x'", "canonical_solution": "def f(x):\n    return x\n", "entry_point": "f"}
    (task,) = read_rows(tmp_path, {**row, "base_input": [[1]], "plus_input": [[math.inf]], "atol": 0})
    assert "_plus_input = [[float('inf')]]" in task.tests[1]


def test_helpers_of_a_prompt_are_trusted() -> None:
    prompt = 'import math\n\ndef poly(x):\n    return x\n\ndef f(x):\n    """Zero."""\n'
    trusted = CodeTask("a", prompt, entry_point="f", prefix=prompt, setup="y = 1").trusted
    assert trusted == "y = 1\nimport math\ndef poly(x):\n    return x"
    assert CodeTask("a", prompt, entry_point="f", prefix="import math\n", setup="y = 1").trusted == "y = 1"


# --- literals ------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
SCALARS |= st.complex_numbers(allow_nan=False)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(SCALARS, inner)
        | st.sets(SCALARS)
        | st.frozensets(SCALARS)
    ),
    max_leaves=20,
)


def evaluated(source: str) -> Any:
    return eval(source, {})


@settings(max_examples=100)
@given(VALUES)
def test_literals_mean_the_value(value: Any) -> None:
    found = evaluated(literal(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "value",
    [
        [10**5000],
        [-(10**5000)],
        [float("-inf")],
        -0.0,
        range(3),
        bytearray(b"x"),
        Counter("aab"),
        OrderedDict(a=1),
        deque([1, 2]),
        Decimal("1.5"),
        Fraction(1, 3),
        date(2024, 2, 29),
        datetime(2024, 2, 29, 1, tzinfo=UTC),
        datetime(2024, 2, 29, 1, fold=1, tzinfo=timezone(timedelta(hours=-2), "datetime.X")),
        time(1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        timezone(timedelta(seconds=1)),
        timedelta(days=-1),
        (1,),
        (),
        set(),
    ],
)
def test_literals_of_what_json_has_not(value: Any) -> None:
    assert evaluated(literal(value)) == value
    assert math.isnan(evaluated(literal(float("nan"))))


def test_a_zone_is_bound_in_the_test_that_holds_it(tmp_path: Path) -> None:
    value = datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=2)))
    (task,) = read_rows(tmp_path, {**OURS, "tests": [f"assert f() == {literal(value)}"]})
    program = "import datetime as d\ndef f():\n    return d.datetime(2024, 2, 29, {}, tzinfo=d.timezone({}))\n"
    right, wrong = program.format(1, "d.timedelta(hours=2)"), program.format(1, "d.timedelta(hours=1)")
    assert grades(task, right, wrong) == [ErrorClass.PASSED, ErrorClass.WRONG_ANSWER]


@pytest.mark.parametrize("value", [object(), [len], {1: object}, datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))])
def test_what_has_no_literal(value: Any) -> None:
    with pytest.raises(NotData):
        literal(value)


def test_what_is_nested_too_deep() -> None:
    value: list[Any] = []
    for _ in range(200):
        value = [value]
    with pytest.raises(NotData, match="too deep"):
        literal(value)


def test_the_sandboxed_process_imports_no_reader() -> None:
    code = "import sys, hrmctl_sandbox, hrmctl_sandbox.zygote, hrmctl_sandbox.worker\n"
    code += "print([m for m in sys.modules if 'formats' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
