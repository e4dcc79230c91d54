"""Tool-use tasks: the references do what is asked, planted wrong chains do not, and the sandbox says so too."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hrmctl_data import tooluse
from hrmctl_data import tooluse_world as world
from hrmctl_data.params import ToolUseParams
from hrmctl_sandbox import Limits, Sample, SandboxUnavailable, judge
from hrmctl_sandbox.formats import read_tasks

from hrmctl import StageError
from hrmctl.testing import make_context

LIMITS = Limits(cpu_seconds=5, wall_seconds=60)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The result of the stage, and the tasks of each output as `eval` reads them."""
    result = tooluse.run(ToolUseParams(), {}, make_context(tmp_path_factory.mktemp("tooluse")))
    return result, {name: read_tasks(output.path, "hrmctl") for name, output in result.artifacts.items()}


def judged(tasks, completions):
    """Whether each completion passes its task in the real sandbox, by (task, index)."""
    samples = [
        Sample(task.task_id, index, task.program(text))
        for task in tasks
        for index, text in enumerate(completions[task.task_id])
    ]
    outcomes = judge([task.problem() for task in tasks], samples, limits=LIMITS)
    return {(o.problem_id, o.index): o for o in outcomes}


def test_there_are_enough_tasks_and_no_two_alike(written):
    result, sets = written
    assert len(tooluse.TASKS) >= 10
    assert len({task.request for task in tooluse.TASKS}) == len(tooluse.TASKS)
    assert [o.label for o in result.artifacts.values()] == ["tooluse@test", "tooluse-chains@test"]
    assert [t.prompt for t in sets["test"]] == [t.prompt for t in sets["chains"]]
    assert {tool for task in tooluse.TASKS for tool, _ in task.chain} == set(world.TOOLS)


def test_what_the_stage_measures(written):
    result, _ = written
    measured = {o.name: o.payload for o in result.evidence}
    assert measured["tasks"]["value"] == len(tooluse.TASKS)
    assert measured["reference_failures"]["value"] == 0
    assert measured["planted_passes"]["value"] == 0
    assert measured["planted_passes"]["n"] >= 8 * len(tooluse.TASKS)


def test_every_reference_passes_in_the_sandbox(written):
    _, sets = written
    for tasks in sets.values():
        found = judged(tasks, {task.task_id: [task.completion] for task in tasks})
        assert [o.detail for o in found.values() if not o.passed or o.forgeable] == []
        assert len(found) == len(tooluse.TASKS)


def test_every_planted_chain_fails_in_the_sandbox(written):
    _, sets = written
    wrong = {
        f"tooluse/{number}": [tooluse.source_of(chain) for chain in tooluse.wrong_chains(task)]
        for number, task in enumerate(tooluse.TASKS, 1)
    }
    found = judged(sets["test"], wrong)
    assert [key for key, outcome in found.items() if outcome.passed] == []
    assert {outcome.error for outcome in found.values()} <= {"wrong_answer", "runtime"}


def test_valid_and_doing_are_told_apart(written):
    """A valid chain to another end is valid and does not pass; a malformed one is neither."""
    _, sets = written
    other = tooluse.source_of([("find_user", {"email": tooluse.ADA})])
    malformed = tooluse.source_of([("find_user", {"mail": tooluse.ADA})])
    answers = {task.task_id: [other, malformed] for task in sets["test"]}
    does, valid = judged(sets["test"], answers), judged(sets["chains"], answers)
    assert not any(outcome.passed for outcome in does.values())
    assert {index: all(valid[t.task_id, index].passed for t in sets["test"]) for index in (0, 1)} == {0: True, 1: False}
    assert not any(valid[task.task_id, 1].passed for task in sets["test"])


def test_a_program_cannot_bring_tools_or_a_judge_of_its_own(written):
    """What the tests call is the judge's; names of the same kind in the answer change nothing."""
    _, sets = written
    attack = "    return [['find_user', {'mail': 1}]]\ndef execute(chain, shop):\n    return ['desk', []]\n"
    attack += "def fault(chain):\n    return ''\nTOOLS = {}\nFIRST = SECOND = {}\n"
    for tasks in sets.values():
        found = judged(tasks, {task.task_id: [attack] for task in tasks})
        assert not any(outcome.passed for outcome in found.values())


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ([], "at least one"), (None, "at least one"), ("find_user", "at least one"), ([["find_user"]], "not [tool"),
        ([["nope", {}]], "no tool"), ([["find_user", {}]], "takes email"), ([["find_user", {"email": 1}]], "no str"),
        ([["find_user", {"email": "$0"}]], "no str"), ([["find_user", {"email": "$x"}]], "no str"),
        ([["add", {"a": 1, "b": True}]], "no int"), ([["add", {"a": 1, "b": 1.0}]], "no int"),
        ([["add", {"a": 1, "b": 2}], ["find_user", {"email": "$0"}]], "no str"),
        ([["add", {"a": 1, "b": 2}], ["add", {"a": "$0", "b": 3}]], ""),
    ],
)  # fmt: skip
def test_what_a_valid_chain_is(chain, why):
    assert (why in world.fault(chain)) if why else world.fault(chain) == ""


def test_running_a_chain_changes_no_shop():
    before = json.dumps([world.FIRST, world.SECOND])
    for task in tooluse.TASKS:
        for shop, wanted in ((world.FIRST, task.first), (world.SECOND, task.second)):
            assert world.execute([list(call) for call in task.chain], shop) == list(wanted)
    assert json.dumps([world.FIRST, world.SECOND]) == before


def test_a_wrong_reference_or_a_right_planted_chain_is_counted(tmp_path, monkeypatch):
    wrong = replace(tooluse.TASKS[0], first=("lamp", []))
    monkeypatch.setattr(tooluse, "TASKS", (wrong, tooluse.TASKS[1]))
    monkeypatch.setattr(tooluse, "wrong_chains", lambda task: iter([list(task.chain)]))
    result = tooluse.run(ToolUseParams(), {}, make_context(tmp_path))
    measured = {o.name: (o.payload["value"], o.payload["n"]) for o in result.evidence}
    assert measured == {"tasks": (2, 2), "reference_failures": (1, 4), "planted_passes": (1, 2)}


def test_a_machine_without_a_sandbox_says_so(tmp_path, monkeypatch):
    def unavailable(*given, **named):
        raise SandboxUnavailable("no namespaces; use Linux")

    monkeypatch.setattr(tooluse, "judge", unavailable)
    with pytest.raises(StageError, match="no namespaces; use Linux"):
        tooluse.run(ToolUseParams(), {}, make_context(tmp_path))
