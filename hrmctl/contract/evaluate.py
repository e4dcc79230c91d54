"""From evidence to a verdict: pure functions, no clock, no files, no names looked up anywhere."""

from __future__ import annotations

import marshal
import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from hrmctl.contract import payload
from hrmctl.contract.spec import COMBINATORS, ORDERED, Clause, Contract, Measure, Ref, Value
from hrmctl.errors import MeasureError, Undecidable
from hrmctl.jsonio import to_json
from hrmctl.model import Evidence, MeasureSpec, Verdict
from hrmctl.registry import resolve

Lookup = Callable[[str], Value]
Values = Mapping[str, Mapping[str, Value]]
Piece = Evidence | tuple[Evidence, ...]
"""What one name of a contract stands for; several where it says `each`."""
SYMBOLS = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "between": "between", "in": "in"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that stands against PASS; the reason of a `clause` that does not hold is what `say` says of it."""

    verdict: Verdict
    because: str
    reason: str = ""
    clause: Clause | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of every measure that gave some, and the faults of those that did not."""

    values: Values = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict with the clause, measure or evidence that decided it (empty on PASS) and one sentence."""

    verdict: Verdict
    because: str
    reason: str
    measured: Values = field(default_factory=dict)


class BrokenClause(Exception):
    """A clause cannot be evaluated on what was measured: the verdict is INVALID."""


def judge(
    contract: Contract, evidence: Mapping[str, Piece], measures: Mapping[str, MeasureSpec], profile: str = ""
) -> Outcome:
    """The verdict of `contract` on `evidence` (by the contract's own names)."""
    return decide(contract.clauses(profile), take(contract, evidence, measures))


# --- measuring ----------------------------------------------------------------------------------


def pieces(item: Piece) -> tuple[Evidence, ...]:
    """All evidence that a name stands for."""
    return item if isinstance(item, tuple) else (item,)


def measured(measure: Measure, evidence: Mapping[str, Piece], spec: MeasureSpec) -> Mapping[str, Value]:
    """What one measure gives. Raises whatever its plugin raises, and MeasureError on what no clause can compare."""
    result = dict(resolve(spec.target)([_own(evidence[name]) for name in measure.of], measure.params))
    for key, value in result.items():
        if not isinstance(value, (bool, int, float, str)):
            raise MeasureError(f"{key} is a {type(value).__name__}, not a number, text or true/false")
        if isinstance(value, float) and not math.isfinite(value):
            raise MeasureError(f"{key} is {value}")
    return result


def take(
    contract: Contract,
    evidence: Mapping[str, Piece],
    measures: Mapping[str, MeasureSpec],
    fault: Callable[[str, Any], str] = payload.fault,
    values_of: Callable[[Measure, Mapping[str, Piece], MeasureSpec], Mapping[str, Value]] = measured,
) -> Measured:
    """Every measure of the contract on `evidence`; none is taken when a piece is missing or no evidence at all."""
    faults = tuple(_evidence_faults(contract, evidence, fault))
    if faults:
        return Measured(faults=faults)
    values: dict[str, Mapping[str, Value]] = {}
    found: list[Fault] = []
    for measure in contract.measures.values():
        try:
            values[measure.name] = values_of(measure, evidence, measures[measure.fn])
        except Undecidable as error:
            found.append(Fault(Verdict.INCONCLUSIVE, measure.name, f"{measure.name} cannot decide: {error}"))
        except MeasureError as error:
            found.append(Fault(Verdict.INVALID, measure.name, f"{measure.name} cannot be measured: {error}"))
        except Exception as error:  # whatever a plugin raises, it must never end in PASS
            text = f"{measure.name} broke ({type(error).__name__}: {error})"
            found.append(Fault(Verdict.INVALID, measure.name, text))
    return Measured(values, tuple(found))


def _evidence_faults(
    contract: Contract, evidence: Mapping[str, Piece], fault: Callable[[str, Any], str]
) -> Iterator[Fault]:
    for name, query in contract.evidence.items():
        item = evidence.get(name)
        if item is None:
            wanted = f"{query.type}{f' {query.name}' if query.name else ''}"
            yield Fault(Verdict.UNTESTED, name, f"no evidence {name} ({wanted} of stage {query.stage})")
            continue
        for piece in pieces(item):
            wrong = f"it is {piece.type}, not {query.type}" if piece.type != query.type else ""
            wrong = wrong or fault(query.type, piece.payload)
            if wrong:
                yield Fault(Verdict.INVALID, name, f"evidence {name} is none: {wrong}")


def _own(item: Piece) -> Piece:
    """A copy for one measure: what it does to its evidence no other measure and no other contract sees."""
    return tuple(map(_copied, item)) if isinstance(item, tuple) else _copied(item)


def _copied(item: Evidence) -> Evidence:
    try:
        payload = marshal.loads(marshal.dumps(item.payload))  # type: ignore[arg-type]
    except ValueError:  # not of plain types, as nothing read from a file is
        payload = to_json(item.payload)
    return replace(item, payload=payload, provenance=deepcopy(item.provenance))


# --- deciding -----------------------------------------------------------------------------------


def decide(clauses: tuple[Clause, ...], measured: Measured) -> Outcome:
    """The worst verdict of all clauses and faults, with its reason."""
    lookup = reader(measured.values)
    fault = worst(clauses, measured)
    if fault is None:
        return Outcome(Verdict.PASS, "", "; ".join(say(clause, lookup) for clause in clauses), measured.values)
    reason = say(fault.clause, lookup) if fault.clause else fault.reason
    return Outcome(fault.verdict, fault.because, reason, measured.values)


def worst(clauses: tuple[Clause, ...], measured: Measured) -> Fault | None:
    """The worst of all clauses and faults; among equals the first."""
    lookup = reader(measured.values)
    faults = list(measured.faults)
    broken = {fault.because for fault in faults}
    if not faults or measured.values:
        readable = (c for c in clauses if broken.isdisjoint(path.partition(".")[0] for path in c.paths()))
        faults.extend(fault for clause in readable if (fault := _clause_fault(clause, lookup)))
    return max(faults, key=lambda fault: fault.verdict.severity, default=None)


def reader(values: Values) -> Lookup:
    """A function that gives the measured value of a path."""

    def lookup(path: str) -> Value:
        name, _, key = path.partition(".")
        if key not in values.get(name, {}):
            raise BrokenClause(f"{path} was not measured")
        return values[name][key]

    return lookup


def _clause_fault(clause: Clause, lookup: Lookup) -> Fault | None:
    try:
        return None if holds(clause, lookup) else Fault(clause.otherwise, clause.id, clause=clause)
    except BrokenClause as error:
        return Fault(Verdict.INVALID, clause.id, str(error))


def holds(clause: Clause, lookup: Lookup) -> bool:
    """Whether the clause holds. Raises BrokenClause where a value is missing or of the wrong type."""
    if clause.op == "not":
        return not holds(clause.parts[0], lookup)
    if clause.op in ("all", "any"):
        results = [holds(part, lookup) for part in clause.parts]
        return all(results) if clause.op == "all" else any(results)
    left, rights = lookup(clause.left), [lookup(r.path) if isinstance(r, Ref) else r for r in clause.rights()]
    _check_types(clause, left, rights)
    if clause.op == "in":
        return left in rights
    if isinstance(left, (str, bool)):
        return (left == rights[0]) == (clause.op == "eq")
    return _compare(clause.op, [Fraction(left) - Fraction(r) for r in rights], clause.slack)


def _check_types(clause: Clause, left: Value, rights: list[Any]) -> None:
    wanted = "a number" if clause.op in ORDERED else _kind(left)
    for value in (left, *rights):
        if _kind(value) != wanted:
            text = f"{clause.left} is {_kind(left)} ({left!r}): '{clause.op}' cannot compare it with {rights}"
            raise BrokenClause(text)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true/false"
    return "text" if isinstance(value, str) else "a number"


def _compare(op: str, margins: list[Fraction], slack: tuple[Fraction, Fraction]) -> bool:
    return _HOLDS[op](margins[0], margins[-1], *slack)


_HOLDS: Mapping[str, Callable[[Fraction, Fraction, Fraction, Fraction], bool]] = {
    "eq": lambda first, _last, low, high: low <= first <= high,
    "ne": lambda first, _last, low, high: not low <= first <= high,
    "lt": lambda first, _last, _low, high: first < high,
    "le": lambda first, _last, _low, high: first <= high,
    "gt": lambda first, _last, low, _high: first > low,
    "ge": lambda first, _last, low, _high: first >= low,
    "between": lambda first, last, low, high: low <= first and last <= high,
}


# --- saying it ----------------------------------------------------------------------------------


def say(clause: Clause, lookup: Lookup) -> str:
    """The clause as it turned out, with both numbers: `p.value 0.198 is not ≥ 0.2`."""
    return " and ".join(_said(leaf, lookup) for leaf in telling(clause, lookup))


def telling(clause: Clause, lookup: Lookup) -> Iterator[Clause]:
    """The comparisons that make the clause turn out as it does."""
    if clause.op not in COMBINATORS:
        yield clause
        return
    held = holds(clause, lookup) != (clause.op == "not")
    for part in clause.parts:
        if holds(part, lookup) == held:
            yield from telling(part, lookup)


def _said(clause: Clause, lookup: Lookup) -> str:
    held = holds(clause, lookup)
    left, rights = lookup(clause.left), [lookup(r.path) if isinstance(r, Ref) else r for r in clause.rights()]
    exact = any(left != right and shown(left) == shown(right) for right in rights)
    names = [f"{r.path} " if isinstance(r, Ref) else "" for r in clause.rights()]
    texts = [name + shown(right, exact) for name, right in zip(names, rights, strict=True)]
    text = " and ".join(texts) if clause.op == "between" else ", ".join(texts)
    return f"{clause.left} {shown(left, exact)} is {'' if held else 'not '}{SYMBOLS[clause.op]} {text}"


def shown(value: Value, exact: bool = False) -> str:
    """A value for people: floats to six digits, or to all of them."""
    return f"{value:.6g}" if isinstance(value, float) and not exact else str(value)
