"""The stage `data.tooluse`: requests to a small shop that are answered by a chain of calls of its tools.

Every task is written by hand, with its chain and with what must come of it in two shops; neither is computed from the
other. The same tasks come twice: judged by what the chain does, and by whether it is a valid chain at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl_sandbox import Sample, SandboxUnavailable, judge
from hrmctl_sandbox.formats import read_tasks

from hrmctl import Context, Observation, Output, StageError, StageInputs, StageResult
from hrmctl_data import tooluse_world as world
from hrmctl_data.params import ToolUseParams
from hrmctl_data.rows import write_rows

Call = tuple[str, dict[str, Any]]
ADA, BOB, EVE = (f"{name}@example.org" for name in ("ada", "bob", "eve"))
HEADER = "def chain():\n"


@dataclass(frozen=True, slots=True)
class Task:
    """A request, the chain that answers it, and what comes of it in either shop: the result and every effect."""

    request: str
    chain: tuple[Call, ...]
    first: tuple[Any, list[list[Any]]]
    second: tuple[Any, list[list[Any]]]


def _latest(email: str, *rest: Call) -> tuple[Call, ...]:
    return (("find_user", {"email": email}), ("latest_order", {"user": "$0"}), *rest)


def _value(order: int) -> tuple[Call, ...]:
    """The value of an order that is the result of call `order`: four calls, the last of which multiplies."""
    item, price = ("item_of", {"order": f"${order}"}), ("price_of", {"item": f"${order + 1}"})
    quantity = ("quantity_of", {"order": f"${order}"})
    return (item, price, quantity, ("multiply", {"a": f"${order + 2}", "b": f"${order + 3}"}))


_ITEM = ("item_of", {"order": "$1"})
TASKS = (
    Task("What did ada@example.org order last?", _latest(ADA, _ITEM), ("desk", []), ("lamp", [])),
    Task(
        "How many pieces are in the latest order of bob@example.org?",
        _latest(BOB, ("quantity_of", {"order": "$1"})),
        (5, []),
        (2, []),
    ),
    Task(
        "What does one piece of the item in the latest order of eve@example.org cost?",
        _latest(EVE, _ITEM, ("price_of", {"item": "$2"})),
        (4200, []),
        (1700, []),
    ),
    Task(
        "What is the latest order of bob@example.org worth, price times quantity?",
        _latest(BOB, *_value(1)),
        (7500, []),
        (16000, []),
    ),
    Task(
        "How many orders has ada@example.org?",
        (("find_user", {"email": ADA}), ("order_count", {"user": "$0"})),
        (2, []),
        (3, []),
    ),
    Task(
        "How many pieces of the item that ada@example.org ordered last are in stock?",
        _latest(ADA, _ITEM, ("stock_of", {"item": "$2"})),
        (0, []),
        (2, []),
    ),
    Task(
        "Cancel the latest order of bob@example.org.",
        _latest(BOB, ("cancel_order", {"order": "$1"})),
        ("cancelled", [["cancel_order", "o3"]]),
        ("cancelled", [["cancel_order", "o5"]]),
    ),
    Task(
        "Refund eve@example.org what her latest order is worth, price times quantity.",
        _latest(EVE, *_value(1), ("refund", {"user": "$0", "amount": "$5"})),
        (16800, [["refund", "u3", 16800]]),
        (10200, [["refund", "u9", 10200]]),
    ),
    Task(
        "Which city's warehouse holds the item that bob@example.org ordered last?",
        _latest(BOB, _ITEM, ("warehouse_of", {"item": "$2"})),
        ("Lyon", []),
        ("Rome", []),
    ),
    Task(
        "Ship the latest order of ada@example.org to the city where she lives.",
        _latest(ADA, ("city_of", {"user": "$0"}), ("ship", {"order": "$1", "city": "$2"})),
        ("shipped", [["ship", "o2", "Paris"]]),
        ("shipped", [["ship", "o6", "Oslo"]]),
    ),
    Task(
        "Mail bob@example.org the name of the item that he ordered last.",
        _latest(BOB, _ITEM, ("send_mail", {"user": "$0", "text": "$2"})),
        ("sent", [["send_mail", "u2", "lamp"]]),
        ("sent", [["send_mail", "u8", "desk"]]),
    ),
    Task(
        "How many pieces stay in stock when the latest order of eve@example.org is delivered, stock minus quantity?",
        _latest(
            EVE,
            _ITEM,
            ("stock_of", {"item": "$2"}),
            ("quantity_of", {"order": "$1"}),
            ("subtract", {"a": "$3", "b": "$4"}),
        ),
        (-1, []),
        (-4, []),
    ),
    Task(
        "What are the latest orders of ada@example.org and bob@example.org worth together?",
        (
            *_latest(ADA, *_value(1)),
            ("find_user", {"email": BOB}),
            ("latest_order", {"user": "$6"}),
            *_value(7),
            ("add", {"a": "$5", "b": "$11"}),
        ),
        (17400, []),
        (17700, []),
    ),
    Task(
        "Cancel the latest order of ada@example.org, then mail her the name of its item.",
        _latest(ADA, ("cancel_order", {"order": "$1"}), _ITEM, ("send_mail", {"user": "$0", "text": "$3"})),
        ("sent", [["cancel_order", "o2"], ["send_mail", "u1", "desk"]]),
        ("sent", [["cancel_order", "o6"], ["send_mail", "u7", "lamp"]]),
    ),
    Task(
        "Who has more orders, ada@example.org or bob@example.org? Give the larger number.",
        (
            ("find_user", {"email": ADA}),
            ("order_count", {"user": "$0"}),
            ("find_user", {"email": BOB}),
            ("order_count", {"user": "$2"}),
            ("larger", {"a": "$1", "b": "$3"}),
        ),
        (2, []),
        (3, []),
    ),
    Task(
        "Send the latest order of eve@example.org back: ship it to the city whose warehouse holds its item.",
        _latest(EVE, _ITEM, ("warehouse_of", {"item": "$2"}), ("ship", {"order": "$1", "city": "$3"})),
        ("shipped", [["ship", "o4", "Lyon"]]),
        ("shipped", [["ship", "o7", "Oslo"]]),
    ),
)


def run(params: ToolUseParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Write both sets and measure in the sandbox that every reference passes and no planted wrong chain does.

    Raises StageError where this machine can isolate no program.
    """
    executes = Output(ctx.scratch / "tooluse-test.jsonl", "tooluse@test")
    valid = Output(ctx.scratch / "tooluse-chains-test.jsonl", "tooluse-chains@test")
    count = write_rows(executes.path, rows(valid_only=False))
    write_rows(valid.path, rows(valid_only=True))
    references = [source_of(task.chain) for task in TASKS]
    planted = [[source_of(chain) for chain in wrong_chains(task)] for task in TASKS]
    right = [passes(path, [[text] for text in references], ctx.threads) for path in (executes.path, valid.path)]
    wrong = passes(executes.path, planted, ctx.threads)
    ctx.progress(count, count)
    measured = {
        "tasks": {"value": count, "unit": "problems", "n": count},
        "reference_failures": {"value": sum(found.count(False) for found in right), "unit": "programs", "n": 2 * count},
        "planted_passes": {"value": wrong.count(True), "unit": "programs", "n": len(wrong)},
    }
    about = {"dataset": executes, "chains": valid}
    evidence = [Observation(name, "measurement/v1", payload, about) for name, payload in measured.items()]
    return StageResult({"test": executes, "chains": valid}, evidence)


def passes(path: Path, completions: Sequence[Sequence[str]], threads: int) -> list[bool]:
    """Whether each completion of each problem in the file at `path` passes its tests in the sandbox, in order."""
    tasks = read_tasks(path, "hrmctl")
    samples = [
        Sample(task.task_id, index, task.program(text))
        for task, given in zip(tasks, completions, strict=True)
        for index, text in enumerate(given)
    ]
    try:
        found = judge([task.problem() for task in tasks], samples, workers=max(threads, 1))
        passed = {(outcome.problem_id, outcome.index): outcome.passed for outcome in found}
    except SandboxUnavailable as error:
        raise StageError(f"data.tooluse runs its chains in the sandbox: {error}") from error
    return [passed[sample.problem_id, sample.index] for sample in samples]


def rows(valid_only: bool) -> Iterator[dict[str, Any]]:
    """The problems in the shape of docs/data.md; with `valid_only` the tests ask only whether the chain is valid."""
    setup = inspect.getsource(world)
    for number, task in enumerate(TASKS, 1):
        expected = {"FIRST": list(task.first), "SECOND": list(task.second)}
        tests = [f"assert execute(chain(), {shop}) == {wanted!r}" for shop, wanted in expected.items()]
        yield {
            "task_id": f"tooluse/{number}",
            "text": task.request,
            "prompt": prompt(task),
            "prefix": HEADER,
            "completion": source_of(task.chain),
            "entry_point": "chain",
            "setup": setup,
            "tests": ["assert fault(chain()) == ''"] if valid_only else tests,
            "source": "tooluse",
            "meta": {"calls": len(task.chain)},
        }


def prompt(task: Task) -> str:
    """What the model is given: the tools with their types, how a chain is written, and the request."""
    shown = [f"# {name}({_typed(given)}) -> {result}" for name, (given, result) in _signatures().items()]
    how = '# A chain is a list of [tool, {argument: value}]; "$0" is the result of the first call.'
    return "\n".join(["# Tools:", *shown, how, f"# {task.request}", HEADER])


def _signatures() -> Mapping[str, tuple[Mapping[str, str], str]]:
    return world.TOOLS  # type: ignore[return-value]


def _typed(given: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in given.items())


def source_of(chain: Sequence[Call]) -> str:
    """The body of the function that answers with `chain`."""
    return f"    return {[[tool, given] for tool, given in chain]!r}\n"


def wrong_chains(task: Task) -> Iterator[list[Call]]:
    """Chains that are wrong for `task`, each by one change: they are planted, and every one must fail."""
    chain = list(task.chain)
    tool, given = chain[-1]
    other = {"email": EVE if chain[0][1]["email"] != EVE else BOB}
    yield chain[:-1]
    yield [("find_user", other), *chain[1:]]
    yield [*chain[:-1], ("no_such_tool", given)]
    yield [*chain[:-1], (tool, dict(list(given.items())[1:]))]
    yield [*chain[:-1], (tool, {**given, "why": "more"})]
    yield [*chain[:-1], (tool, {name: f"${len(chain)}" for name in given})]
    yield [*chain, ("cancel_order", {"order": "$1"})]
    yield [*chain, ("find_user", {"email": ADA})]
    if isinstance(task.first[0], int):
        # The right number of the first shop, without looking.
        yield [("add", {"a": task.first[0], "b": 0})]
