"""What a stage's own check says of its parameters and inputs when a plan is made, with the place of each fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hrmctl.errors import Problem
from hrmctl.model import StageSpec
from hrmctl.plugins import Catalog
from hrmctl.registry import resolve
from hrmctl.yamlio import Node


def check_stage(
    spec: StageSpec, params: Any, inputs: Mapping[str, int], entry: Node, catalog: Catalog
) -> list[Problem]:
    """The faults of one stage; `entry` is its node in the recipe, `inputs` the number of artifacts of each input."""
    if not spec.check:
        return []
    wired = {name: given(entry, name) for name in spec.inputs} | dict(inputs)
    faults = resolve(spec.check)(params, {name: count for name, count in wired.items() if count}, catalog)
    return [_placed(entry, fault.key, fault.message, fault.remedy) for fault in faults]


def given(entry: Node, name: str) -> int:
    """How many artifacts the recipe gives for an input, before its references are resolved."""
    node = (entry.get("with") or Node({})).get(name)
    if node is None or node.value in (None, ""):
        return 0
    return len(node.value) if isinstance(node.value, list) else 1


def _inside(node: Node, name: str) -> Node | None:
    """The node at a key, or at an index of a list, None where there is none."""
    if not isinstance(node.value, list):
        return node.get(name)
    return node.value[int(name)] if name.isdecimal() and int(name) < len(node.value) else None


def _placed(entry: Node, key: str, message: str, remedy: str) -> Problem:
    """The fault at its key where the recipe has it, at the parameters as a whole where it has not."""
    first, *inner = key.split(".")
    text = f"{key}: {message}"
    sections = [node for node in (entry.get("matrix"), entry.get("with")) if node is not None]
    place = next((found for section in sections if (found := section.get(first)) is not None), None)
    if place is None:
        return (entry.get("with") or entry).problem(text, remedy)
    problem = place.problem(text, remedy)
    for name in inner:
        child = _inside(place, name)
        if child is None:
            break
        problem = place.key_problem(name, text, remedy) if place.get(name) else child.problem(text, remedy)
        place = child
    return problem
