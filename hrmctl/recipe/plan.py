"""Resolve a recipe against the plugins: typed parameters, edges, cells of a matrix, and their order."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import annotated_types as at

from hrmctl.errors import InputError, Problem
from hrmctl.model import InputSpec, StageSpec
from hrmctl.plugins import Catalog
from hrmctl.recipe.check import check_stage
from hrmctl.recipe.draft import Draft, FromPath, Reference, check_parameters, own_axes, read_draft
from hrmctl.recipe.parse import Faults, Recipe, in_order
from hrmctl.schema import decode, decode_value
from hrmctl.yamlio import Node, suggest

MAX_CELLS = 1000
Cell = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class FromStage:
    """An input taken from another planned stage."""

    stage: str
    output: str


@dataclass(frozen=True)
class PlannedStage:
    """One stage (one cell of its matrix) ready to run once its inputs are there."""

    id: str
    name: str
    cell: Cell
    spec: StageSpec
    params: Any
    inputs: Mapping[str, Sequence[FromStage | FromPath]]
    seed: int
    threads: int | None
    after: Sequence[str] = ()

    @property
    def parents(self) -> list[str]:
        """The ids of the planned stages that must finish first."""
        sources = itertools.chain.from_iterable(self.inputs.values())
        return list(dict.fromkeys([*(s.stage for s in sources if isinstance(s, FromStage)), *self.after]))


@dataclass(frozen=True)
class Plan:
    """Planned stages in an order in which every stage follows its parents."""

    recipe: Recipe
    stages: Sequence[PlannedStage]

    @property
    def width(self) -> int:
        """The most stages of one depth: how many the machine may have to share itself among."""
        depth: dict[str, int] = {}
        for stage in self.stages:
            depth[stage.id] = 1 + max((depth[p] for p in stage.parents), default=0)
        levels = [depth[s.id] for s in self.stages if not s.spec.exclusive]
        return max((levels.count(level) for level in set(levels)), default=1)

    def descendants(self, ids: Iterable[str]) -> set[str]:
        """`ids` and every stage that depends on one of them."""
        found = set(ids)
        for stage in self.stages:
            if found & set(stage.parents):
                found.add(stage.id)
        return found

    def ancestors(self, ids: Iterable[str]) -> set[str]:
        """`ids` and every stage that one of them depends on."""
        found = set(ids)
        for stage in reversed(self.stages):
            if stage.id in found:
                found.update(stage.parents)
        return found


def make_plan(recipe: Recipe, catalog: Catalog) -> Plan:
    """Resolve `recipe`. Raises InputError with every fault: file, line, column and remedy."""
    problems: list[Problem] = []
    nodes = recipe.root.value["stages"].value
    made = {name: read_draft(recipe, name, nodes[name], catalog, problems) for name in nodes}
    drafts: dict[str, Draft | None] = {**dict.fromkeys(recipe.faults.partial), **made}
    good = {name: draft for name, draft in drafts.items() if draft is not None}
    for draft in good.values():
        _check_edges(draft, drafts, good, problems)
    params = {name: check_parameters(draft, problems) for name, draft in good.items()}
    order = _order(good, problems)
    if problems or recipe.faults.problems:
        for name, draft in good.items():
            if params[name] is not None and not _any_unclear(draft.node, recipe.faults):
                problems.extend(check_stage(draft.spec, params[name], {}, draft.node, catalog))
        new = [p for p in problems if p.place not in recipe.faults.unclear]
        raise InputError(*in_order(recipe.path, [*recipe.faults.problems, *new]))
    planned: dict[str, list[PlannedStage]] = {}
    for name in order:
        planned[name] = _cells(recipe, good[name], planned, problems)
        for stage in planned[name]:
            counts = {key: len(sources) for key, sources in stage.inputs.items()}
            problems.extend(check_stage(stage.spec, stage.params, counts, good[name].node, catalog))
    if problems:
        raise InputError(*in_order(recipe.path, problems))
    return Plan(recipe, [stage for name in order for stage in planned[name]])


def _any_unclear(node: Node, faults: Faults) -> bool:
    inside = node.value.values() if isinstance(node.value, dict) else node.value
    if isinstance(node.value, (dict, list)) and any(_any_unclear(child, faults) for child in inside):
        return True
    return node.problem("").place in faults.unclear


def _check_edges(
    draft: Draft, all_drafts: Mapping[str, Draft | None], good: Mapping[str, Draft], problems: list[Problem]
) -> None:
    after = draft.node.get("after")
    for item in after.value if after else ():
        if item.value not in all_drafts:
            problems.append(item.problem(f"after: no stage '{item.value}'", suggest(item.value, all_drafts)))
    for key, sources in draft.inputs.items():
        for source in sources:
            if isinstance(source, Reference):
                problems.extend(_bad_edge(source, draft.spec.inputs[key], all_drafts, good))


def _bad_edge(
    source: Reference, spec: InputSpec, all_drafts: Mapping[str, Draft | None], good: Mapping[str, Draft]
) -> list[Problem]:
    if source.stage not in all_drafts:
        return [source.node.problem(f"no stage '{source.stage}'", suggest(source.stage, all_drafts))]
    if source.stage not in good:
        return []
    outputs = good[source.stage].spec.outputs
    if source.output not in outputs:
        hint = suggest(source.output, outputs) or "it has no outputs"
        return [source.node.problem(f"stage '{source.stage}' has no output '{source.output}'", hint)]
    found = outputs[source.output].type
    if found != spec.type:
        return [source.node.problem(f"'{source.stage}.{source.output}' is a {found}, this input takes a {spec.type}")]
    if source.cell == "*" and not spec.many:
        return [source.node.problem("[*] takes every cell, but this input takes one artifact")]
    return []


def _order(drafts: Mapping[str, Draft], problems: list[Problem]) -> list[str]:
    """Kahn's algorithm in the order of the file; what is left over lies on a cycle or behind one."""
    parents = {name: _parents(draft) & drafts.keys() for name, draft in drafts.items()}
    order: dict[str, None] = {}
    rest = list(drafts)
    while ready := [n for n in rest if parents[n] <= order.keys()]:
        order |= dict.fromkeys(ready)
        rest = [n for n in rest if n not in order]
    if rest:
        cycle = _cycle(rest, parents)
        node = drafts[cycle[0]].node
        problems.append(node.problem(f"stages form a cycle: {' → '.join([*cycle, cycle[0]])}", "remove one reference"))
        return []
    return list(order)


def _parents(draft: Draft) -> set[str]:
    sources = itertools.chain.from_iterable(draft.inputs.values())
    return {s.stage for s in sources if isinstance(s, Reference)} | set(draft.entry.after)


def _cycle(rest: list[str], parents: Mapping[str, set[str]]) -> list[str]:
    path = [rest[0]]
    while True:
        step = min(parents[path[-1]] & set(rest), key=rest.index)
        if step in path:
            return path[path.index(step) :][::-1]
        path.append(step)


# --- cells ------------------------------------------------------------------------------------------


def _cells(
    recipe: Recipe, draft: Draft, planned: Mapping[str, list[PlannedStage]], problems: list[Problem]
) -> list[PlannedStage]:
    own = own_axes(draft, problems)
    inherited = _inherited(draft, planned)
    if not inherited and all(planned[name] for name in _parents(draft)):
        remedy = "name one, e.g. ${stage[seed=1].model}"
        problems.append(draft.node.problem("no cells of its inputs go together", remedy))
    count = len(inherited) * math.prod(len(values) for values in own.values())
    if count > MAX_CELLS:
        problems.append(draft.node.problem(f"{count} cells or more; the limit is {MAX_CELLS}", "shorten the matrix"))
        return []
    cells = [
        {**outer, **dict(zip(own, values, strict=True))}
        for outer in inherited
        for values in itertools.product(*own.values())
    ]
    made = [_planned(recipe, draft, cell, own, planned, problems) for cell in cells]
    found = [stage for stage in made if stage is not None]
    for name, times in Counter(stage.id for stage in found).items():
        if times > 1:
            problems.append(draft.node.problem(f"{times} cells are called '{name}'", "give each value once"))
    return found


def _inherited(draft: Draft, planned: Mapping[str, list[PlannedStage]]) -> list[dict[str, Any]]:
    """Every consistent combination of the cells of the stages that this one takes its inputs from."""
    combinations: list[dict[str, Any]] = [{}]
    for source in itertools.chain.from_iterable(draft.inputs.values()):
        if isinstance(source, FromPath) or source.cell is not None:
            continue
        cells = [dict(stage.cell) for stage in planned[source.stage]]
        joined = ({**a, **b} for a in combinations for b in cells if all(a.get(k, v) == v for k, v in b.items()))
        combinations = list(itertools.islice(joined, MAX_CELLS + 1))
    return combinations


def _planned(
    recipe: Recipe,
    draft: Draft,
    cell: dict[str, Any],
    own: Mapping[str, list[Node]],
    planned: Mapping[str, list[PlannedStage]],
    problems: list[Problem],
) -> PlannedStage | None:
    axes = {axis: value.plain() if isinstance(value, Node) else value for axis, value in cell.items()}
    overrides = {axis: cell[axis] for axis in own if axis != "seed"}
    node = replace(draft.params, value={**draft.params.value, **overrides})
    params = decode(node, draft.spec.params, problems)
    inputs = {key: _resolve(sources, axes, planned, problems) for key, sources in draft.inputs.items() if sources}
    seed = draft.entry.seed if draft.entry.seed is not None else axes.get("seed", recipe.entry.seed)
    if "seed" in own:
        seed = decode_value(cell["seed"], int, problems, [at.Ge(0)], "seed")
    if params is None or seed is None:
        return None
    after = [stage.id for name in draft.entry.after for stage in planned[name]]
    identity = draft.name + (f"[{','.join(f'{k}={v}' for k, v in axes.items())}]" if axes else "")
    return PlannedStage(
        identity, draft.name, tuple(axes.items()), draft.spec, params, inputs, seed, draft.entry.threads, after
    )


def _resolve(
    sources: Sequence[Reference | FromPath],
    axes: Mapping[str, Any],
    planned: Mapping[str, list[PlannedStage]],
    problems: list[Problem],
) -> list[FromStage | FromPath]:
    result: list[FromStage | FromPath] = []
    for source in sources:
        if isinstance(source, FromPath):
            result.append(source)
            continue
        cells = [s for s in planned[source.stage] if _chosen(s, source.cell, axes)]
        if not cells:
            known = ", ".join(s.id for s in planned[source.stage])
            problems.append(source.node.problem(f"no cell '{source.stage}[{source.cell}]'", f"cells: {known}"))
        result.extend(FromStage(stage.id, source.output) for stage in cells)
    return result


def _chosen(stage: PlannedStage, cell: str | None, axes: Mapping[str, Any]) -> bool:
    if cell == "*":
        return True
    if cell is None:
        return all(axes.get(k) == v for k, v in stage.cell)
    return ",".join(f"{k}={v}" for k, v in stage.cell) == cell.replace(" ", "")
