"""Measures that note what they gave: the trace of a contract's proof, by the contract's own names.

`hrmctl.contract.prove` finds the function of a measure by its target, so the targets here are attributes of this
module that call the real function and remember the fields of what it returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hrmctl import MeasureSpec
from hrmctl.contract import Contract, Proof, proof_of
from hrmctl.registry import resolve

_watched: dict[str, Callable[..., Any]] = {}


def __getattr__(name: str) -> Callable[..., Any]:
    if name in _watched:
        return _watched[name]
    raise AttributeError(name)


@dataclass
class Trace:
    """`gave` has, for each measure of one contract, the fields of what its function returned in the proof."""

    gave: dict[str, set[str]] = field(default_factory=dict)

    def watch(self, name: str, spec: MeasureSpec) -> MeasureSpec:
        """The measure `spec` as the contract's `name`, noting what it returns; an exception is passed on unnoted."""

        def call(evidence: Sequence[Any], params: Any) -> Any:
            found = resolve(spec.target)(evidence, params)
            self.gave.setdefault(name, set()).update(found)
            return found

        _watched[name] = call
        return replace(spec, target=f"{__name__}:{name}")


def traced_proof(contract: Contract, measures: Mapping[str, MeasureSpec]) -> tuple[Proof, Mapping[str, set[str]]]:
    """The proof of `contract`, and for each of its measures the fields that its function returned meanwhile."""
    trace = Trace()
    own = {name: replace(measure, fn=name) for name, measure in contract.measures.items()}
    specs = {name: trace.watch(name, measures[measure.fn]) for name, measure in contract.measures.items()}
    try:
        return proof_of(replace(contract, measures=own), specs), trace.gave
    finally:
        _watched.clear()
