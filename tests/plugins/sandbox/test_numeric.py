"""Tests in the manner of HumanEval+ and MBPP+: numpy in the judge, many calls, expected values of a reference."""

from __future__ import annotations

import ast
import pickle
import sys
import types
from typing import Any

import pytest
from hrmctl_sandbox import ErrorClass, Limits, Outcome, Problem, Sample, constants, judge
from hrmctl_sandbox.constants import constants_of
from hrmctl_sandbox.preparation import Prepared, prepare, run_tests

np = pytest.importorskip("numpy")
LIMITS = Limits(cpu_seconds=2.0, wall_seconds=40.0)
MANY = 700
# The helpers of those sets, in our words: floats within a tolerance, all else equal.
HELPERS = """
import numpy as np
from math import inf

def is_floats(x) -> bool:
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)):
        return all(isinstance(item, float) for item in x)
    return isinstance(x, np.ndarray) and x.dtype in (np.float64, np.float32)

def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp, f"out: {out}, exp: {exp}"
"""
INPUTS = [[[float(number), 0.5, -1.0], number % 7] for number in range(MANY)]
HALVES = [[item / (scale + 2) for item in items] for items, scale in INPUTS]
SORTED = [sorted(items) for items, _ in INPUTS]
CHECK = """
def check(candidate):
    inputs = {inputs!r}
    results = {results!r}
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 0)
"""
LOOP = """
inputs = {inputs!r}
results = {results!r}
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(f(*inp), exp, 0)
"""


def problem(shape: str, results: list[Any]) -> Problem:
    """A problem with all of INPUTS, in one of the two shapes."""
    text = HELPERS + shape.format(inputs=INPUTS, results=results)
    return Problem("p", (text,), "f" if shape is CHECK else None)


def outcomes(task: Problem, *programs: str) -> list[Outcome]:
    """The outcomes of some programs for one problem, in the order of the programs."""
    samples = [Sample(task.id, number, program) for number, program in enumerate(programs)]
    return sorted(judge([task], samples, limits=LIMITS, workers=1), key=lambda outcome: outcome.index)


def ready(task: Problem) -> Prepared:
    """The problem as a judge prepares it."""
    found = prepare(task)
    assert isinstance(found, Prepared)
    return found


@pytest.mark.parametrize("shape", [CHECK, LOOP])
def test_numbers_within_a_tolerance(shape: str) -> None:
    found = outcomes(
        problem(shape, HALVES),
        "def f(x, n): return [i / (n + 2) for i in x]",
        "def f(x, n): return [i / (n + 2) + 1e-9 for i in x]",
        "def f(x, n):\n    for i in range(len(x)): x[i] /= n + 2\n    return tuple(x)",
        "def f(x, n): return [i / (n + 2) + 1e-4 for i in x]",
        "def f(x, n): return [i / (n + 2) for i in x] if x[0] < 699 else [0.0, 0.0, 0.0]",
        "def f(x, n): return None",
        "class f(list):\n    def __init__(self, *a): pass\n    def __eq__(self, o): return True",
    )
    assert [outcome.passed for outcome in found] == [True] * 3 + [False] * 4
    assert [outcome.error for outcome in found[3:5]] == [ErrorClass.WRONG_ANSWER] * 2
    assert found[3].detail == "assert np.allclose(out, exp, rtol=1e-07, atol=atol)"
    assert not any(outcome.forgeable for outcome in found)


def test_arguments_changed_in_place_come_back_and_are_the_next_programs_fresh() -> None:
    setup = "inputs = [[[float(n), 0.5, -1.0], n % 7] for n in range(40)]\nresults = [sorted(x) for x, _ in inputs]"
    loop = "for inp, exp in zip(inputs, results):\n    assertion(f(*inp), exp, 0)\nassert inputs[3] == [[], 3]"
    spoil = "def f(x, n):\n    x.sort()\n    y = x[:]\n    x.clear()\n    return y  # {}"
    task = Problem("p", (HELPERS + loop,), None, setup)
    found = outcomes(task, *(spoil.format(number) for number in range(3)), "def f(x, n): return x")
    assert [outcome.passed for outcome in found] == [True] * 3 + [False]


@pytest.mark.parametrize("results", [HALVES, SORTED])
@pytest.mark.parametrize("shape", [CHECK, LOOP])
def test_every_call_is_foreseen(shape: str, results: list[Any]) -> None:
    assert len(ready(problem(shape, results)).predicted) == MANY


def test_what_is_foreseen_is_bounded() -> None:
    large = Problem("p", ("for n in range(100):\n    assert f('x' * (1 << 20)) == n",))
    assert len(ready(large).predicted) == 7
    assert len(ready(Problem("p", ("for n in range(9999):\n    assert f(n) == n",))).predicted) == 2000
    assert outcomes(Problem("p", ("for n in range(2500):\n    assert f(n) == n",)), "def f(n): return n")[0].passed


def test_a_module_that_the_judge_lacks_is_no_fault_of_the_program() -> None:
    texts = ("import nonesuch\nassert f() == 1", "from nonesuch.part import x\nassert f() == 1")
    for task in (*(Problem("p", (text,)) for text in texts), Problem("p", ("assert f() == 1",), None, texts[0])):
        (found,) = outcomes(task, "def f(): return 1")
        assert found.error is ErrorClass.REFUSED
        assert found.detail.startswith("the tests import nonesuch")
    guarded = "try:\n    import nonesuch\nexcept ImportError:\n    nonesuch = None\nassert f() == 1"
    assert outcomes(Problem("p", (guarded,)), "def f(): return 1")[0].passed


def test_imports_of_the_tests_that_the_program_lacks_do_not_take_others_away() -> None:
    assert outcomes(
        Problem("p", ("import numpy as np\nimport math\nassert f(4) == 2",)), "def f(x): return math.sqrt(x)"
    )[0].passed


REFERENCE = """
import sandbox_counter
'''Expected values of a reference.'''
inputs = [[1, 2], [3]]
def reference(items, start=1):
    sandbox_counter.calls.append(items)
    return sum(items) + start
expected = [reference(items) for items in inputs]
"""
COMPARE = (
    "for items, value in zip(inputs, expected):\n    assert f(items) == value\n",
    "inputs.clear()\nexpected.append(f([9]))",
)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Lists what the reference of REFERENCE is called with."""
    module = types.ModuleType("sandbox_counter")
    module.calls = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sandbox_counter", module)
    monkeypatch.setattr(constants, "_PURE", constants._PURE | {"sandbox_counter"})
    return module.calls  # type: ignore[attr-defined, no-any-return]


def test_expected_values_are_computed_once_and_fresh_for_each_program(counter: list[Any]) -> None:
    prepared = ready(Problem("p", COMPARE, "f", REFERENCE))
    assert counter == [[1, 2], [3]]
    assert len(prepared.predicted) == 3
    for _ in range(3):
        scope: dict[str, Any] = {}
        provided = {"f": lambda items: sum(items) + 1}
        run_tests(prepared, scope, provided)
        assert (scope["inputs"], scope["expected"]) == ([], [4, 4, 10])
    assert counter == [[1, 2], [3]]
    with pytest.raises(AssertionError):
        run_tests(prepared, {}, {"f": sum})
    assert scope["reference"]([1]) == 2
    assert len(counter) == 3


SAFE = [
    "x = [i for i in range(3)]",
    "def f(n): return n\nx = f(2)\ny = [x, x]",
    "import math\nfrom math import pi as p\nx = max(p, 3)",
    "a = b = sorted([2, 1])\n'''text'''",
]
UNSAFE = [
    "x = [1, 2]",
    "class C:\n    n = 3\nx = list(range(C.n))",
    "import random\nr = random.Random(3)\nx = r.random()",
    "import random\nrandom.seed(1)\nx = [random.random()]",
    "x = [i for i in 'ab']\nx = x + [1]",
    "x = list('ab')\nx += [1]",
    "x = list('ab')\nx[0] = 1",
    "for i in range(3):\n    x = list('ab')",
    "x = (lambda n: n)(print)\ny = lambda: 0",
    "class C: pass\nx = C()",
    "x = iter(list('ab'))\ny = (n for n in x)",
    "x, y = map(int, '12')",
    "x = entry(3)",
    "def x(): return 1\nx = x()",
    "import math\nmath = list('ab')",
    "if True:\n    x = list('ab')",
    "x: list = list('ab')",
    "x = 1 / int('0')",
    "class Box: items = []\ndef build(): Box.items.append(5); return 1\nx = build()",
    "def build(memo=[]): memo.append(5); return len(memo)\nx = build()",
    "def build(*, memo={}): memo[1] = 1; return len(memo)\nx = build()",
    "total = 0\ndef build():\n    global more\n    more = 1\n    return 2\nx = build()",
    "def build(): build.times = 1; return 2\nx = build()",
    "def build(): setattr(build, 'times', 1); return 2\nx = build()",
    "from functools import lru_cache\n@lru_cache\ndef build(): return []\nx = build()",
    "import random\ndef build(): random.seed(3); return 1\nx = build()",
    "import decimal\ndef build(): decimal.getcontext().prec = 3; return 1\nx = build()",
    "def build(): globals()['more'] = 1; return 2\nx = build()",
]


@pytest.mark.parametrize("source", SAFE)
def test_data_is_separated_where_that_changes_nothing(source: str) -> None:
    setup, constants = constants_of(ast.parse(source))
    assert constants is not None
    whole: dict[str, Any] = {}
    exec(source, whole)
    parts: dict[str, Any] = pickle.loads(constants)
    exec(compile(setup, "", "exec"), parts)
    assert whole.keys() == parts.keys()
    data = pickle.loads(constants)
    for name in data:
        assert parts[name] == whole[name]


@pytest.mark.parametrize("source", UNSAFE)
def test_a_setup_that_does_more_runs_for_each_program(source: str) -> None:
    tree = ast.parse(source)
    assert constants_of(tree) == (tree, None)


def test_a_setup_that_uses_the_program_runs_for_each_program() -> None:
    task = Problem("p", ("assert first == 3",), None, "first = f(1)")
    assert [outcome.passed for outcome in outcomes(task, "def f(x): return 3", "def f(x): return 4")] == [True, False]
