"""HumanEval+ and MBPP+: rows written by hand in the shape of the releases, judged as evalplus judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hrmctl_sandbox import ErrorClass, Sample, judge
from hrmctl_sandbox.formats import BadFile, BadRow, CodeTask, evalplus, oracle, read_tasks
from hrmctl_sandbox.formats.expected import References, Unanswered

# The real files cannot be had by the tests: these rows have their fields, the problems of HumanEval and MBPP, and a
# handful of inputs.
ADD = {
    "task_id": "HumanEval/53",
    "prompt": '\n\ndef add(x: int, y: int):\n    """Add two numbers x and y\n    >>> add(2, 3)\n    5\n    """\n',
    "canonical_solution": "\n    return x + y\n\n",
    "entry_point": "add",
    "test": "",
    "contract": '\n    assert isinstance(x, int), "invalid inputs" # $_CONTRACT_$\n',
    "base_input": [[0, 1], [1, 0]],
    "plus_input": [[-5, 5], [10**30, 1]],
    "atol": 0,
}
ROOT = {
    "task_id": "HumanEval/32",
    "prompt": "import math\n\ndef poly(xs: list, x: float):\n"
    "    return sum([coeff * math.pow(x, i) for i, coeff in enumerate(xs)])\n\n\n"
    'def find_zero(xs: list):\n    """ xs are coefficients of a polynomial; find x such that poly(x) = 0."""\n',
    "canonical_solution": "    begin, end = -1., 1.\n    while poly(xs, begin) * poly(xs, end) > 0:\n"
    "        begin *= 2.0\n        end *= 2.0\n    while end - begin > 1e-10:\n"
    "        center = (begin + end) / 2.0\n        if poly(xs, center) * poly(xs, begin) > 0:\n"
    "            begin = center\n        else:\n            end = center\n    return begin\n",
    "entry_point": "find_zero",
    "test": "",
    "contract": "",
    "base_input": [[[1, 2]]],
    "plus_input": [[[3, -4]]],
    "atol": 0.0001,
}
TRUNCATE = {
    "task_id": "HumanEval/2",
    "prompt": 'def truncate_number(number: float) -> float:\n    """Return the decimal part of the number."""\n',
    "canonical_solution": "    return number % 1.0\n",
    "entry_point": "truncate_number",
    "test": "",
    "contract": "",
    "base_input": [[3.5]],
    "plus_input": [[1.33], [123.456]],
    "atol": 1e-06,
}
SIMILAR = {
    "task_id": "Mbpp/2",
    "prompt": '"""\nWrite a function to find the shared elements from the given two lists.\n'
    'assert set(similar_elements((3, 4, 5, 6),(5, 7, 4, 10))) == set((4, 5))\n"""\n',
    "canonical_solution": "\ndef similar_elements(test_tup1, test_tup2):\n"
    "  return tuple(set(test_tup1) & set(test_tup2))\n",
    "entry_point": "similar_elements",
    "contract": "\n  assert isinstance(test_tup1, tuple)\n",
    "assertion": "",
    "base_input": [[[3, 4, 5, 6], [5, 7, 4, 10]]],
    "plus_input": [[[], []], [[1, 2, 3], [3, 2]]],
    "atol": 0,
}
ENDS = {
    **SIMILAR,
    "task_id": "Mbpp/794",
    "prompt": '"""\nWrite a function that matches an \'a\' followed by anything, ending in \'b\'.\n"""\n',
    "canonical_solution": "\nimport re\ndef text_starta_endb(text):\n    return re.search('a.*?b$', text)\n",
    "entry_point": "text_starta_endb",
    "base_input": [["aabbbb"], ["aabAbbbc"]],
    "plus_input": {},
}
ROWS = (ADD, ROOT, TRUNCATE, SIMILAR, ENDS)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CodeTask]:
    """The rows above, read as one file: their references run once, in the sandbox."""
    path = tmp_path_factory.mktemp("plus") / "Plus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return {task.task_id: task for task in read_tasks(path)}


def grades(task: CodeTask, *programs: str) -> list[ErrorClass]:
    outcomes = judge([task.problem()], [Sample(task.task_id, i, text) for i, text in enumerate(programs)], workers=1)
    return [outcome.error for outcome in sorted(outcomes, key=lambda outcome: outcome.index)]


def passes(task: CodeTask, *programs: str) -> list[bool]:
    return [error is ErrorClass.PASSED for error in grades(task, *programs)]


def test_what_a_row_becomes(tasks: dict[str, CodeTask]) -> None:
    human, mbpp = tasks["HumanEval/53"], tasks["Mbpp/2"]
    assert (human.prompt, human.prefix, human.source) == (ADD["prompt"], ADD["prompt"], "humaneval-plus")
    assert human.text.startswith("Add two numbers")
    assert (mbpp.prefix, mbpp.source, mbpp.text.splitlines()[0]) == (
        "",
        "mbpp-plus",
        "Write a function to find the shared elements from the given two lists.",
    )
    assert mbpp.completion.startswith("def similar_elements")
    assert mbpp.meta == {"atol": 0, "base_inputs": 1, "plus_inputs": 2}
    assert "_plus_input = [[(), ()], [(1, 2, 3), (3, 2)]]\n_plus_input_expected = [(), (2, 3)]" in mbpp.tests[1]
    assert len(tasks["Mbpp/794"].tests) == 1


def test_rows_survive_being_written(tasks: dict[str, CodeTask], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(task.row()) + "\n" for task in tasks.values()))
    assert read_tasks(path) == list(tasks.values())


def test_every_reference_passes(tasks: dict[str, CodeTask]) -> None:
    samples = [Sample(task.task_id, 0, task.program(task.completion)) for task in tasks.values()]
    outcomes = list(judge([task.problem() for task in tasks.values()], samples, workers=1))
    assert {outcome.problem_id for outcome in outcomes if outcome.passed} == tasks.keys()


def test_the_added_inputs_decide(tasks: dict[str, CodeTask]) -> None:
    task = tasks["HumanEval/53"]
    weak = task.program("    return x + y if x + y in (0, 1) else 7\n")
    base_only = CodeTask("b", "", entry_point="add", setup=task.setup, tests=task.tests[:1])
    assert passes(base_only, weak) == [True]
    assert grades(task, weak) == [ErrorClass.WRONG_ANSWER]


def read_one(tmp_path: Path, row: dict[str, Any]) -> CodeTask:
    (tmp_path / "one.jsonl").write_text(json.dumps(row))
    (task,) = read_tasks(tmp_path / "one.jsonl")
    return task


def test_a_reference_that_changes_its_arguments(tmp_path: Path) -> None:
    code = "\ndef f(items):\n    items.append(len(items))\n    return items.pop(0)\n"
    row = {**SIMILAR, "task_id": "Mbpp/9999", "canonical_solution": code, "entry_point": "f"}
    task = read_one(tmp_path, {**row, "base_input": [[[7, 8]]], "plus_input": [[[]], [[5]]]})
    assert "_plus_input = [[[]], [[5]]]\n_plus_input_expected = [0, 5]" in task.tests[1]
    assert passes(task, code, "def f(items): return (items + [0])[0]", "def f(items): return 7") == [True, True, False]


@pytest.mark.parametrize("name", ["check", "compare", "inputs", "sum"])
def test_a_function_of_any_name(tmp_path: Path, name: str) -> None:
    row = {**SIMILAR, "task_id": "Mbpp/9999", "entry_point": name, "canonical_solution": f"def {name}(a): return a\n"}
    task = read_one(tmp_path, {**row, "base_input": [[1], [2]], "plus_input": [[3]]})
    assert passes(task, task.completion, f"def {name}(a): return 1") == [True, False]


def test_floats_have_a_tolerance(tasks: dict[str, CodeTask]) -> None:
    task = tasks["HumanEval/2"]
    bodies = ("number - int(number) + 5e-7", "number - int(number) + 1e-5", "int(number % 1.0)", "str(number % 1)")
    assert passes(task, *(task.program(f"    return {body}\n") for body in bodies)) == [True, False, False, False]


def test_a_root_is_whatever_the_polynomial_says(tasks: dict[str, CodeTask]) -> None:
    task = tasks["HumanEval/32"]
    bodies = ("-xs[0] / xs[1]", "-xs[0] / xs[1] + 1e-5", "-xs[0] / xs[1] + 1e-3", "None")
    assert passes(task, *(task.program(f"    return {body}\n") for body in bodies)) == [True, True, False, False]


def test_a_root_is_one_of_the_polynomial_that_was_given(tasks: dict[str, CodeTask]) -> None:
    task = tasks["HumanEval/32"]
    assert passes(task, task.program("    xs[:] = [0.0]\n    return 0.0\n")) == [False]


def test_members_in_any_order(tasks: dict[str, CodeTask]) -> None:
    head = "def similar_elements(a, b):\n    return "
    bodies = ("[x for x in b if x in a] * 2", "{x: 0 for x in a if x in b}", "set(a) | set(b)", "None")
    assert passes(tasks["Mbpp/2"], *(head + body for body in bodies)) == [True, True, False, False]


def test_only_whether_there_is_an_output(tasks: dict[str, CodeTask]) -> None:
    head = "import re\ndef text_starta_endb(text):\n    return "
    bodies = ("'yes' if text.endswith('b') else None", "text.endswith('b')", "'yes'", "False")
    assert passes(tasks["Mbpp/794"], *(head + body for body in bodies)) == [True, True, False, False]


# --- the rules, as the judge runs them -----------------------------------------------------------


def comparison(rule: str = "plain", atol: float = 0) -> Any:
    scope: dict[str, Any] = {}
    exec(oracle.SOURCE, scope)
    return scope["EvalPlus"](rule, atol)


@pytest.mark.parametrize(
    ("rule", "arguments", "output", "expected", "verdict"),
    [
        ("plain", [], 3, 3.0, True),
        ("plain", [], 2, 3, False),
        ("plain", [], [1.0, 2.0 + 5e-7], [1.0, 2.0], True),
        ("plain", [], (1.0, 2.0), [1.0, 2.0], False),
        ("plain", [], [1.0], [1.0, 2.0], False),
        ("plain", [], [1.0, 3], [1.0, 2], False),
        ("plain", [], float("inf"), float("inf"), True),
        ("plain", [], 1e308, float("inf"), False),
        ("plain", [], float("nan"), 1.0, False),
        ("plain", [], "a", 1.0, False),
        ("or zero", [7], 0, 1, True),
        ("or zero", [7], 2, 1, False),
        ("or pyramid", [3, 4], 34, 33, False),
        ("or pyramid", [3, 4], 35, 33, True),
        ("or pyramid", [6, 4], 96, 84, True),
        ("or digits", [123, 2560], 9, 8, False),
        ("or digits", [23, 256], 8, 9, True),
        ("same members", [], [2, 1, 1], (1, 2), True),
        ("same members", [], 5, (1, 2), False),
        ("root", [[1, 2]], -0.5, None, True),
        ("root", [[1, 2]], "x", None, False),
    ],
)
def test_rules(rule: str, arguments: list[Any], output: Any, expected: Any, verdict: bool) -> None:
    assert comparison(rule)(arguments, output, expected) is verdict


def test_once_a_float_was_expected_the_tolerance_stays() -> None:
    compare = comparison()
    assert not compare([], 10**9 + 1, 10**9)
    assert compare([], 1.0, 1.0)
    assert compare([], 10**9 + 1, 10**9)
    assert not compare([], 10**30 + 1, 10**30)


def test_the_rules_import_nothing() -> None:
    assert "\nimport" not in oracle.SOURCE
    assert "\nfrom" not in oracle.SOURCE


# --- types, references, faults -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_id", "arguments", "wanted"),
    [
        ("Mbpp/2", [[1], [2]], [(1,), (2,)]),
        ("Mbpp/63", [[[1, 2], [3]]], [[(1, 2), (3,)]]),
        ("Mbpp/75", [[[1]], 6], [[(1,)], 6]),
        ("Mbpp/106", [[1], [2]], [[1], (2,)]),
        ("Mbpp/115", [[[1, 1], [], {}]], [[{1}, {}, {}]]),
        ("Mbpp/124", ["1", "2j"], [1.0, 2j]),
        ("Mbpp/250", [[1], [2]], [(1,), [2]]),
        ("Mbpp/259", [[[1], [2]], [[3]]], [((1,), (2,)), ((3,),)]),
        ("Mbpp/278", [[1, [2]]], [(1, (2,))]),
        ("Mbpp/307", [[1], 2, 50], [(1,), 2, 50]),
        ("Mbpp/722", [{"a": [1]}, 2, [3]], [{"a": (1,)}, 2, [3]]),
        ("Mbpp/252", ["3j"], [3j]),
        ("Mbpp/580", [[1, [2, [3]]]], [(1, (2, (3,)))]),
        ("Mbpp/3", [[1]], [[1]]),
        ("HumanEval/2", [[1]], [[1]]),
    ],
)
def test_types_that_json_has_not(task_id: str, arguments: list[Any], wanted: list[Any]) -> None:
    assert evalplus.typed(task_id, arguments) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canonical_solution": "    return x +\n"}, "the reference is not Python"),
        ({"canonical_solution": "    return x + y + nothing\n"}, "gives no answers: NameError"),
        ({"canonical_solution": "    return lambda: x\n"}, "cannot be written down: a Handle"),
        (
            {"canonical_solution": "    return open('/etc/passwd').read(1)\n"},
            "no answers",
        ),
        ({"base_input": [], "plus_input": {}}, "has no input"),
        ({"base_input": [1]}, "'base_input' is not a list of lists"),
        ({"plus_input": {"a": 1}}, "'plus_input' is not a list of lists"),
        ({"plus_input": None}, "'plus_input' is not a list of lists"),
        ({"atol": "0"}, "'atol' is not a number"),
        ({"atol": None}, "'atol' is not a number"),
        ({"task_id": "Mbpp/124", "entry_point": "add"}, "does not have the types of Mbpp/124"),
        ({"task_id": "Mbpp/252", "base_input": [[10**400]]}, "does not have the types of Mbpp/252"),
    ],
)
def test_faults(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    row = {**ADD, "base_input": [["x", 1]] if "task_id" in change else ADD["base_input"], **change}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    with pytest.raises(BadFile, match=message):
        read_tasks(tmp_path / "p.jsonl")


def test_a_reference_does_not_see_what_another_left() -> None:
    with References() as references:
        assert references.answers(
            "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n", "f", [[1], [2]]
        ) == [1, 2]
        with pytest.raises(Unanswered, match="NameError"):
            references.answers("def f(x):\n    return seen\n", "f", [[1]])
        with pytest.raises(Unanswered, match="ended before"):
            references.answers("import os\ndef f(x):\n    os._exit(0)\n", "f", [[1]])
        assert references.answers("def f(x):\n    x.append(1)\n    return x\n", "f", [[[]], [[2]]]) == [[1], [2, 1]]


# --- rows of the hub -----------------------------------------------------------------------------

HUB_TEST = """import numpy as np

def is_floats(x) -> bool:
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)):
        return all(isinstance(i, float) for i in x)
    if isinstance(x, np.ndarray):
        return x.dtype == np.float64 or x.dtype == np.float32
    return False


def assertion(out, exp, atol):
    exact_match = out == exp
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if not exact_match and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert exact_match

"""
CHECK = """
def check(candidate):
    inputs = [[3.5], [1.25]]
    results = [0.5, 0.25]
    for inp, exp in zip(inputs, results):
        assertion(candidate(*inp), exp, 0)
"""
LOOP = """
inputs = [[[1, 2], [2, 3]]]
results = [(2,)]
for inp, exp in zip(inputs, results):
    assertion(similar_elements(*inp), exp, 0)
"""


def test_a_hub_row_of_humaneval_needs_no_numpy(tmp_path: Path) -> None:
    fields = ("task_id", "prompt", "canonical_solution", "entry_point")
    task = read_one(tmp_path, {**{name: TRUNCATE[name] for name in fields}, "test": HUB_TEST + CHECK})
    assert (task.source, "import numpy" in task.tests[0]) == ("humaneval-plus", False)
    bodies = ("number % 1", "number % 1 + 5e-7", "number % 1 + 1e-5", "np.float64(number % 1)")
    assert passes(task, *(task.program(f"    return {body}\n") for body in bodies)) == [True, True, False, False]


def test_a_hub_row_of_mbpp_needs_no_numpy(tmp_path: Path) -> None:
    row = {
        "task_id": 2,
        "code": SIMILAR["canonical_solution"],
        "prompt": "Write a function.",
        "source_file": "x",
        "test_imports": [],
        "test_list": ["assert similar_elements((1, 2), (2, 3)) == (2,)"],
        "test": HUB_TEST + LOOP,
    }
    task = read_one(tmp_path, row)
    assert (task.task_id, task.source) == ("Mbpp/2", "mbpp-plus")
    assert passes(task, task.completion, "def similar_elements(a, b): return (1,)") == [True, False]


def test_a_test_that_needs_numpy_keeps_it() -> None:
    test = "import numpy as np\ndef check(f):\n    assert (f() == np.zeros(2)).all()\n"
    assert evalplus.without_numpy(test) == ("", test)
    with pytest.raises(BadRow, match="field 'test' is not Python"):
        evalplus.without_numpy("def check(:")
