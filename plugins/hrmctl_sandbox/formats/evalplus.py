"""HumanEval+ and MBPP+ (Liu et al. 2023, arXiv:2305.01210), as evalplus releases them and as rows of the hub.

A released row has inputs and no outputs: what is expected comes from its reference, run once in the sandbox when the
row is read (`expected`), and stands in the tests as literals. The rules of comparison are those of `oracle`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from . import oracle
from .expected import Unanswered
from .humaneval import docstring, humaneval_task
from .literals import NotData, literal
from .mbpp import entry_point_of, unix
from .task import BadRow, CodeTask, checked_task, parsed, text_of, texts_of

Answers = Callable[[str, str, list[list[Any]]], list[Any]]
_NUMPY = {"allclose", "ndarray", "float32", "float64"}
_MBPP = "Mbpp/"


def released_task(entry: Mapping[str, Any], answers: Answers) -> CodeTask:
    """The task of a row of HumanEvalPlus.jsonl or MbppPlus.jsonl.

    `answers(program, entry_point, inputs)` runs the reference. Raises BadRow, also where the reference fails.
    """
    task_id, entry_point, prompt = (text_of(entry, name) for name in ("task_id", "entry_point", "prompt"))
    solution, atol = text_of(entry, "canonical_solution"), _atol(entry)
    mbpp = task_id.startswith(_MBPP)
    inputs = {name: _inputs(entry, name, task_id) for name in ("base_input", "plus_input")}
    if not any(inputs.values()):
        raise BadRow("has no input to run the program on")
    program = solution if mbpp else prompt + solution
    rule = _rule(entry_point, mbpp)
    compare = f"EvalPlus({rule!r}, {atol!r})"
    tests = [
        _test(name, entry_point, found, _expected(answers, program, entry_point, found, rule), compare)
        for name, found in inputs.items()
        if found
    ]
    return checked_task(
        CodeTask(
            task_id=task_id,
            text=_request(prompt) if mbpp else docstring(prompt, entry_point),
            prompt=prompt,
            prefix="" if mbpp else prompt,
            completion=solution.strip("\n") + "\n" if mbpp else solution,
            entry_point=entry_point,
            setup=oracle.SOURCE,
            tests=tuple(tests),
            source="mbpp-plus" if mbpp else "humaneval-plus",
            meta={"atol": atol, **{f"{name}s": len(found) for name, found in inputs.items()}},
        )
    )


def _atol(entry: Mapping[str, Any]) -> float:
    value = entry.get("atol")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise BadRow("field 'atol' is not a number from 0 to 1")
    return value


def _inputs(entry: Mapping[str, Any], name: str, task_id: str) -> list[list[Any]]:
    value = entry.get(name)
    # A release writes {} where no inputs were added.
    if value == {}:
        return []
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise BadRow(f"field '{name}' is not a list of lists of arguments")
    try:
        return [typed(task_id, arguments) for arguments in value]
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise BadRow(f"field '{name}' does not have the types of {task_id}: {error}") from None


def _expected(answers: Answers, program: str, entry_point: str, inputs: list[list[Any]], rule: str) -> list[Any]:
    parsed(program, "the reference")
    try:
        found = answers(program, entry_point, inputs)
    except Unanswered as error:
        raise BadRow(f"the reference gives no answers: {error}") from None
    return [answer is not None for answer in found] if rule == oracle.NOT_NONE else found


def _rule(entry_point: str, mbpp: bool) -> str:
    """The name of the rule by which evalplus compares the outputs of a task."""
    if not mbpp:
        return "root" if entry_point == "find_zero" else "plain"
    return oracle.MBPP_RULES.get(entry_point, "plain")


def _test(name: str, entry_point: str, inputs: list[list[Any]], expected: list[Any], compare: str) -> str:
    try:
        given, wanted = literal(inputs), literal(expected)
    except NotData as error:
        raise BadRow(f"the reference's answers cannot be written down: {error}") from None
    # No function stands here: a task of MBPP+ may be called `check`, or what else it would be called.
    return (
        f"_{name} = {given}\n"
        f"_{name}_expected = {wanted}\n"
        f"_compare = {compare}\n"
        f"for _number, (_arguments, _expected) in enumerate(zip(_{name}, _{name}_expected, strict=True)):\n"
        # A copy: the rule looks at the arguments too, and a program may change what it is given.
        f"    _output = {entry_point}(*__import__('copy').deepcopy(_arguments))\n"
        f'    assert _compare(_arguments, _output, _expected), f"{name} {{_number}}"\n'
    )


def _request(prompt: str) -> str:
    return ast.get_docstring(parsed(prompt, "field 'prompt'")) or prompt.strip()


# --- rows of the hub ----------------------------------------------------------------------------


def hub_task(entry: Mapping[str, Any]) -> CodeTask:
    """The task of a row of evalplus/humanevalplus or evalplus/mbppplus: `test` holds everything. Raises BadRow."""
    setup, test = without_numpy(unix(text_of(entry, "test")))
    if "test_list" not in entry:
        task = humaneval_task({**entry, "test": test})
        return _changed(task, setup=setup, source="humaneval-plus")
    number, code = entry.get("task_id"), unix(text_of(entry, "code"))
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadRow("field 'task_id' is not an integer")
    text, first = text_of(entry, "prompt"), unix(texts_of(entry, "test_list")[0])
    imports = texts_of(entry, "test_imports") if entry.get("test_imports") else []
    return checked_task(
        CodeTask(
            task_id=f"{_MBPP}{number}",
            text=text,
            prompt=f'"""\n{text}\n{first}\n"""\n',
            completion=code.strip("\n") + "\n",
            entry_point=entry_point_of(code, first),
            setup="\n".join([*imports, setup]).strip(),
            tests=(test,),
            source="mbpp-plus",
        )
    )


def _changed(task: CodeTask, **changes: Any) -> CodeTask:
    return CodeTask(**{name: getattr(task, name) for name in CodeTask.__slots__} | changes)


def without_numpy(test: str) -> tuple[str, str]:
    """Setup and test for a test that imports numpy for `allclose` and its types alone: both without numpy.

    A test that uses more of numpy is left as it is, for a sandbox that is given the package.
    """
    tree = parsed(test, "field 'test'")
    imported = [
        node
        for node in tree.body
        if isinstance(node, ast.Import) and [(item.name, item.asname) for item in node.names] == [("numpy", "np")]
    ]
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_np(node.value)}
    if not imported or not used <= _NUMPY:
        return "", test
    lines = test.split("\n")
    for node in imported:
        lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return oracle.SOURCE + oracle.NUMPY, "\n".join(lines)


def _is_np(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "np"


# --- types that JSON has not --------------------------------------------------------------------


def _tuples(value: list[Any]) -> list[Any]:
    return [tuple(item) for item in value]


def _deep(value: Any) -> Any:
    return tuple(_deep(item) for item in value) if isinstance(value, list) else value


def _some_tuples(value: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def _sets(value: list[Any]) -> list[Any]:
    return [set(item) if isinstance(item, list) and item else {} for item in value]


def _values(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(item) for key, item in value.items()}


def _same(value: Any) -> Any:
    return value


# Which arguments of MBPP+ are what: the first converter for the first argument and so on, the last for all that follow
# (evalplus/data/mbpp.py of evalplus 0.3.1, Apache-2.0, says it in the same task numbers).
_TYPES: Mapping[tuple[Callable[[Any], Any], ...], str] = {
    (tuple,): "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
    (_tuples,): "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780",
    (_tuples, _same): "75 413 444 753",
    (_same, tuple): "106 750",
    (_sets, _same): "115",
    (float, complex): "124",
    (tuple, _same): "250 405 446 617 720 763 808 307",
    (lambda value: tuple(_tuples(value)),): "259 401 445",
    (_some_tuples,): "278",
    (_values, _same): "722",
    (complex,): "252",
    (_deep,): "580 615 791",
}
_CONVERTERS = {f"{_MBPP}{number}": kinds for kinds, numbers in _TYPES.items() for number in numbers.split()}


def typed(task_id: str, arguments: list[Any]) -> list[Any]:
    """The arguments with the tuples, sets and complex numbers that JSON could not hold."""
    kinds = _CONVERTERS.get(task_id, (_same,))
    padded = (*kinds, *[kinds[-1]] * len(arguments))
    return [kind(value) for kind, value in zip(padded, arguments, strict=False)]
