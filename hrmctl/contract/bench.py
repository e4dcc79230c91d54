"""Contracts show each other's examples again: what one gave is measured once for all that are proven together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from hrmctl.contract import payload
from hrmctl.contract.evaluate import Piece, measured
from hrmctl.contract.spec import Measure, Value
from hrmctl.jsonio import to_json
from hrmctl.model import MeasureSpec


class Bench:
    """Looks at examples and measures them, remembering by the payload itself, its measure and the parameters.

    Lives as long as one list of contracts is proven: nothing is kept for another process or other code.
    """

    def __init__(self) -> None:
        self._faults: dict[Hashable, str] = {}
        self._found: dict[Hashable, Mapping[str, Value] | Exception] = {}

    def fault(self, kind: str, example: Any) -> str:
        """As `payload.fault`."""
        key = (kind, _Itself(example))
        if key not in self._faults:
            self._faults[key] = payload.fault(kind, example)
        return self._faults[key]

    def measured(self, measure: Measure, evidence: Mapping[str, Piece], spec: MeasureSpec) -> Mapping[str, Value]:
        """As `evaluate.measured`, for evidence without provenance; raises again what the measure raised."""
        params = type(measure.params), repr(to_json(measure.params))
        key = (spec.target, params, tuple(_key(evidence[name]) for name in measure.of))
        if key not in self._found:
            self._found[key] = _result(measure, evidence, spec)
        found = self._found[key]
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found


def _result(measure: Measure, evidence: Mapping[str, Piece], spec: MeasureSpec) -> Mapping[str, Value] | Exception:
    try:
        return measured(measure, evidence, spec)
    except Exception as error:
        return error


def _key(item: Piece) -> Hashable:
    """One piece, or those of all seeds, be it a single one: a measure may tell the two apart."""
    if isinstance(item, tuple):
        return tuple(map(_key, item))
    return item.name, item.type, _Itself(item.payload)


class _Itself:
    """A payload as a key: that object, whatever it holds. It is kept, so that no other takes its place in memory."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item = item

    def __hash__(self) -> int:
        return id(self.item)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.item is other.item
