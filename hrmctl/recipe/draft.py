"""One stage of a recipe against its plugin: parameters, inputs and axes, before the cells are laid out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import annotated_types as at

from hrmctl.errors import Problem
from hrmctl.model import InputSpec, StageSpec
from hrmctl.plugins import Catalog
from hrmctl.recipe.parse import REFERENCE, Recipe, StageEntry
from hrmctl.schema import decode, decode_value, fields_of
from hrmctl.yamlio import Node, nearest, suggest

_EDGE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)(?:\[([^\[\]]*)\])?\.([A-Za-z][A-Za-z0-9_-]*)\Z")


@dataclass(frozen=True)
class FromPath:
    """An input taken from a local file or folder."""

    path: Path


@dataclass(frozen=True)
class Reference:
    """An input taken from a stage that the recipe names; `cell` is what stands in brackets."""

    stage: str
    cell: str | None
    output: str
    node: Node


@dataclass(frozen=True)
class Draft:
    """A stage whose keys are sorted into parameters and inputs, before its matrix is laid out.

    What of it is `excused` may be missing: it is misspelt, or may be in what could not be read.
    """

    name: str
    node: Node
    entry: StageEntry
    spec: StageSpec
    params: Node
    inputs: Mapping[str, Sequence[Reference | FromPath]] = field(default_factory=dict)
    excused: frozenset[str] = frozenset()


def read_draft(recipe: Recipe, name: str, node: Node, catalog: Catalog, problems: list[Problem]) -> Draft | None:
    """The stage, None with its fault in `problems` where nothing provides it."""
    entry = recipe.entry.stages[name]
    spec = catalog.stages.get(entry.uses)
    if spec is None:
        uses = node.value["uses"]
        problems.append(uses.problem(f"unknown stage '{entry.uses}'", catalog.unknown(entry.uses, catalog.stages)))
        return None
    given = entry.with_ if node.get("with") else replace(node, value={}, keys={})
    if not isinstance(given.value, dict):
        problems.append(given.problem("'with' must be a mapping"))
        return None
    params = {f.name for f in fields_of(spec.params)}
    known = params | set(spec.inputs)
    unknown = [key for key in given.value if key not in known]
    for key in unknown:
        fault = f"{entry.uses} has no parameter or input '{key}'"
        problems.append(given.key_problem(key, fault, _where(key, entry.uses, known)))
    excused = known if name in recipe.faults.partial else known & {nearest(key, known) for key in unknown}
    keep = {key: value for key, value in given.value.items() if key in params}
    variables = recipe.root.get("vars") or Node({})
    for key, value in [*keep.items(), *entry.matrix.items()]:
        stray = _stray_references(key, value, variables)
        problems.extend(stray)
        if stray and key in keep:
            # What its value will be nobody knows yet.
            excused = {*excused, key}
            del keep[key]
    wanted = {k: s for k, s in spec.inputs.items() if k in given.value or k not in excused}
    inputs = {k: _sources(recipe, catalog, k, s, given, problems) for k, s in wanted.items()}
    return Draft(name, node, entry, spec, replace(given, value=keep), inputs, frozenset(excused))


def _where(key: str, uses: str, known: Collection[str]) -> str:
    """Where a key belongs, or what it may have been meant to be."""
    if key in {spec.name for spec in fields_of(StageEntry)}:
        return f"'{key}' stands beside 'with', not in it"
    return suggest(key, known) or f"see hrmctl plugins show {uses}"


def _stray_references(key: str, node: Node, variables: Node) -> list[Problem]:
    """References where none is resolved: only an input takes an artifact."""
    if isinstance(node.value, str) and (found := REFERENCE.search(node.value)):
        fault = f"'{key}' is a parameter and takes no reference, but says '{node.value}'"
        remedy = f'write "${{vars.{found[1]}}}"' if variables.get(found[1]) else "only ${vars.name} can stand here"
        return [node.problem(fault, remedy)]
    inside = node.value.values() if isinstance(node.value, dict) else node.value
    if not isinstance(node.value, (dict, list)):
        return []
    return [problem for child in inside for problem in _stray_references(key, child, variables)]


def check_parameters(draft: Draft, problems: list[Problem]) -> Any:
    """Check parameters before the cells are laid out; those of the first cell, None where some are wrong."""
    before = len(problems)
    axes = own_axes(draft, problems)
    kinds = {spec.name: spec for spec in fields_of(draft.spec.params)}
    for axis, values in axes.items():
        kind, bounds = (kinds[axis].type, kinds[axis].bounds) if axis in kinds else (int, (at.Ge(0),))
        for value in values:
            decode_value(value, kind, problems, bounds, axis)
    first = {axis: values[0] for axis, values in axes.items() if axis in kinds}
    node = replace(draft.params, value={**draft.params.value, **first})
    params: Any = decode(node, draft.spec.params, problems, {*draft.excused, *draft.entry.matrix})
    return params if len(problems) == before and not draft.excused else None


def own_axes(draft: Draft, problems: list[Problem]) -> dict[str, list[Node]]:
    """The values of each axis of its matrix, without those that are wrong."""
    axes: dict[str, list[Node]] = {}
    known = {f.name for f in fields_of(draft.spec.params)} | {"seed"}
    for axis, node in draft.entry.matrix.items():
        if axis not in known:
            fault = f"matrix: '{axis}' is no parameter of {draft.spec.name}"
            problems.append(draft.node.value["matrix"].key_problem(axis, fault, suggest(axis, known)))
        elif _stray_references(axis, node, Node(None)):
            continue  # told already
        elif not isinstance(node.value, list) or not node.value:
            problems.append(node.problem(f"matrix: '{axis}' needs a list of values"))
        else:
            axes[axis] = node.value
    return axes


def _sources(
    recipe: Recipe, catalog: Catalog, key: str, spec: InputSpec, given: Node, problems: list[Problem]
) -> list[Reference | FromPath]:
    node = given.value.get(key)
    if node is None or node.value is None or node.value == "":
        if spec.required:
            place = given.key_problem(key, f"input '{key}' is missing", spec.summary)
            problems.append(place)
        return []
    if isinstance(node.value, list) and not spec.many:
        problems.append(node.problem(f"input '{key}' takes one artifact, not a list"))
        return []
    items = node.value if isinstance(node.value, list) else [node]
    found = [_source(recipe, catalog, key, item, problems) for item in items]
    return [source for source in found if source is not None]


def _source(
    recipe: Recipe, catalog: Catalog, key: str, node: Node, problems: list[Problem]
) -> Reference | FromPath | None:
    if not isinstance(node.value, str):
        problems.append(node.problem(f"input '{key}' must be ${{stage.output}} or a path"))
        return None
    whole = REFERENCE.fullmatch(node.value)
    meant = _meant(recipe, catalog, node.value)
    if whole:
        edge = _EDGE.match(whole[1])
        if edge is None:
            problems.append(node.problem(f"'{node.value}' is not a reference", meant or "write ${stage.output}"))
            return None
        return Reference(edge[1], edge[2], edge[3], node)
    for base in (recipe.path.parent, Path()):
        # What cannot be a path (`~nobody`, a name too long) is no file either.
        with suppress(OSError, ValueError, RuntimeError):
            path = base / Path(node.value).expanduser()
            if path.is_file() or path.is_dir():
                return FromPath(path)
    fault = f"input '{key}': no file or folder '{node.value}'"
    problems.append(node.problem(fault, meant or "write a path or ${stage.output}"))
    return None


def _meant(recipe: Recipe, catalog: Catalog, text: str) -> str:
    """The reference to write for text that names a stage; empty where it names none."""
    stage, _, output = text.strip("${} ").partition(".")
    entry = recipe.entry.stages.get(stage)
    spec = catalog.stages.get(entry.uses) if entry else None
    if spec is None or not spec.outputs:
        return ""
    outputs = [output] if output in spec.outputs else sorted(spec.outputs)
    return "write " + " or ".join(f'"${{{stage}.{name}}}"' for name in outputs)
