"""What a sound contract may still overlook: warnings of `hrmctl contracts lint`, never faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hrmctl.contract.parse import is_p
from hrmctl.contract.spec import Contract
from hrmctl.errors import Problem
from hrmctl.model import MeasureSpec
from hrmctl.registry import resolve


def advice(contract: Contract, measures: Mapping[str, MeasureSpec]) -> Iterator[Problem]:
    """All warnings on a contract: those of the core, and those of the measures that it uses."""
    yield from _uncorrected(contract)
    for measure in contract.measures.values():
        if measures[measure.fn].lint:
            yield from resolve(measures[measure.fn].lint)(contract, measure)


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
    return any(path.partition(".")[0] in measured for clause in contract.require for path in clause.paths())
