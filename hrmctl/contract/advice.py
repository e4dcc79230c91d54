"""What a sound contract may still overlook: warnings of `hrmctl contracts lint`, never faults."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from hrmctl.contract.parse import is_p
from hrmctl.contract.spec import Clause, Contract, Ref
from hrmctl.errors import Problem
from hrmctl.model import MeasureSpec
from hrmctl.registry import resolve
from hrmctl.yamlio import nearest


def advice(contract: Contract, measures: Mapping[str, MeasureSpec], stages: Collection[str] = ()) -> Iterator[Problem]:
    """All warnings on a contract: those of the core, told the `stages` there are, and those of its measures."""
    yield from _misspelt(contract, stages)
    yield from _uncorrected(contract)
    for measure in contract.measures.values():
        if measures[measure.fn].lint:
            yield from resolve(measures[measure.fn].lint)(contract, measure)


def _misspelt(contract: Contract, stages: Collection[str]) -> Iterator[Problem]:
    """A stage that no plugin provides, where one has nearly that name; a contract may be ahead of its stage."""
    for name, query in contract.observed.items():
        close = nearest(query.stage, stages)
        if query.stage not in stages and close:
            place = contract.place.value["evidence"].value[name].value["stage"]
            yield place.problem(f"no plugin provides the stage '{query.stage}'", f"did you mean '{close}'?")


def _uncorrected(contract: Contract) -> Iterator[Problem]:
    """A clause on a p value that nothing corrects for the attempts on its test set."""
    if contract.select == "all" or _bounds_attempts(contract):
        return
    for clause in (leaf for top in contract.require for leaf in top.walk() if not leaf.parts):
        if any(is_p(path.partition(".")[2]) for path in clause.paths()):
            name = clause.id or clause.left
            text = f"the p value of '{name}' holds for one attempt, and nothing here bounds the attempts"
            remedy = "a clause on {type: measurement/v1, stage: ledger, name: attempts}, or select with holm"
            yield clause.place.problem(text, remedy)
            return


def _bounds_attempts(contract: Contract) -> bool:
    recorded = {name for name, query in contract.evidence.items() if query.recorded}
    measured = {measure.name for measure in contract.measures.values() if recorded & set(measure.of)}
    bounded = (path for top in contract.require for leaf in _required(top) for path in _bounded(leaf))
    return any(path.partition(".")[0] in measured for path in bounded)


def _required(clause: Clause) -> Iterator[Clause]:
    """The comparisons that must hold where the clause does."""
    if not clause.parts:
        yield clause
    for part in clause.parts if clause.op == "all" else ():
        yield from _required(part)


def _bounded(leaf: Clause) -> Iterator[str]:
    """The paths that the comparison bounds from above."""
    if leaf.op in ("le", "lt", "eq", "between", "in"):
        yield leaf.left
    elif leaf.op in ("ge", "gt") and isinstance(leaf.right, Ref):
        yield leaf.right.path
