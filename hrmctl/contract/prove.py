"""Whether a contract can fail: every control behaves, and every mutant of every clause is noticed by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from hrmctl.contract.bench import Bench
from hrmctl.contract.evaluate import BrokenClause, Measured, Outcome, Piece, decide, reader, take, worst
from hrmctl.contract.spec import Clause, Contract, Control, Query, Ref
from hrmctl.errors import Problem
from hrmctl.model import Evidence, MeasureSpec, Verdict
from hrmctl.yamlio import Node

# Smaller than any difference between two differences of floats, so that "just past" passes nothing else.
JUST = Fraction(1, 1 << 1100)
NOTHING = "\0no value is this"
Clauses = tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class ControlResult:
    """What one control was expected to give and gave."""

    expect: str
    because: str
    profile: str
    outcome: Outcome
    place: Node

    @property
    def ok(self) -> bool:
        """Whether verdict and cause are those that the control names."""
        same = self.outcome.verdict == self.expect
        return same and (self.outcome.because == self.because or (self.expect == "UNTESTED" and not self.because))

    @property
    def problem(self) -> Problem:
        """The fault of a control that misbehaves."""
        wanted = f"{self.expect}{f' because of {self.because}' if self.because else ''}"
        got = f"{self.outcome.verdict}{f' because of {self.outcome.because}' if self.outcome.because else ''}"
        return self.place.problem(f"this control must give {wanted} and gives {got} ({self.outcome.reason})")


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no control noticed."""

    clause: str
    kind: str
    profile: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Proof:
    """Controls in order, mutants counted, and everything that is wrong with its place."""

    contract: str
    controls: tuple[ControlResult, ...]
    total: int
    survivors: tuple[Survivor, ...]

    @property
    def killed(self) -> int:
        """How many mutants some control noticed."""
        return self.total - len(self.survivors)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Misbehaving controls; where all behave, surviving mutants (a lying control makes those meaningless)."""
        broken = tuple(c.problem for c in self.controls if not c.ok)
        return broken or tuple(s.problem for s in self.survivors)

    @property
    def ok(self) -> bool:
        """Whether the contract may give verdicts."""
        return bool(self.controls) and self.total > 0 and not self.problems


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to break a clause. It is killed when any of `attempts` (nearest first) changes any control."""

    kind: str
    clause: Clause
    attempts: tuple[Clauses, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A control with its evidence measured once and for all mutants."""

    control: Control
    measured: Measured
    outcome: Outcome

    @property
    def result(self) -> ControlResult:
        """The control and what it gave."""
        control = self.control
        return ControlResult(control.expect, control.because, control.profile, self.outcome, control.place)


def prove(contract: Contract, measures: Mapping[str, MeasureSpec], bench: Bench | None = None) -> Proof:
    """Run every control and every mutant, for the contract itself and for each of its profiles.

    A `bench` that is handed in serves several contracts: what it has measured is not measured again.
    """
    bench = bench or Bench()
    results: list[ControlResult] = []
    survivors: list[Survivor] = []
    total = 0
    for profile in ["", *contract.profiles]:
        clauses = contract.clauses(profile)
        cases = [_case(contract, clauses, c, measures, bench) for c in contract.controls if c.profile == profile]
        results.extend(case.result for case in cases)
        changed = contract.profiles.get(profile)
        for mutant in mutants(clauses, cases):
            if changed is not None and mutant.clause.id not in changed:
                continue  # proven by the controls of the contract itself
            total += 1
            if not any(_noticed(attempt, cases) for attempt in mutant.attempts):
                survivors.append(_survivor(mutant, profile))
    return Proof(contract.id, tuple(results), total, tuple(survivors))


def _case(
    contract: Contract, clauses: Clauses, control: Control, measures: Mapping[str, MeasureSpec], bench: Bench
) -> Case:
    evidence = {name: _example(name, contract.evidence[name], data) for name, data in control.data.items()}
    measured = take(contract, evidence, measures, bench.fault, bench.measured)
    return Case(control, measured, decide(clauses, measured))


def _example(name: str, query: Query, data: Any) -> Piece:
    if query.each:
        return tuple(Evidence(query.name or name, query.type, payload) for payload in data)
    return Evidence(query.name or name, query.type, data)


def _noticed(clauses: Clauses, cases: Sequence[Case]) -> bool:
    for case in cases:
        fault, before = worst(clauses, case.measured), case.outcome
        after = (fault.verdict, fault.because) if fault else (Verdict.PASS, "")
        if after != (before.verdict, before.because):
            return True
    return False


def _survivor(mutant: Mutant, profile: str) -> Survivor:
    clause = mutant.clause
    name = clause.id or f"{clause.left} {clause.op}".strip()
    where = f" in profile {profile}" if profile else ""
    needs = "add a control that only this clause decides"
    text = f"no control notices when '{name}' is {mutant.kind}{where}"
    if not mutant.attempts:
        text = f"no control shows '{name}' {mutant.kind}{where}"
    return Survivor(name, mutant.kind, profile, clause.place.problem(text, needs))


# --- mutants ------------------------------------------------------------------------------------


def mutants(clauses: Clauses, cases: Sequence[Case]) -> Iterator[Mutant]:
    """Every mutant of every clause and part of one, in the order of the file."""
    for index in range(len(clauses)):
        for path in _addresses(clauses[index], (index,)):
            clause = _at(clauses, path)

            def tried(*changes: Clause | None, path: tuple[int, ...] = path) -> tuple[Clauses, ...]:
                return tuple(_changed(clauses, path, change) for change in changes)

            if len(path) == 1 or _at(clauses, path[:-1]).op != "not":
                yield Mutant("deleted", clause, tried(None))
            inverse = Clause("not", clause.id, parts=(clause,), otherwise=clause.otherwise)
            yield Mutant("inverted", clause, tried(inverse))
            for verdict in (Verdict.INVALID, Verdict.FAIL, Verdict.INCONCLUSIVE):
                if len(path) == 1 and verdict != clause.otherwise:
                    yield Mutant(f"given else: {verdict}", clause, tried(replace(clause, otherwise=verdict)))
            if not clause.parts:
                for kind, changes in (*_comparisons(clause, cases), *_fixed(clause, cases)):
                    yield Mutant(kind, clause, tried(*changes))


def _addresses(clause: Clause, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    yield path
    for index, part in enumerate(clause.parts):
        yield from _addresses(part, (*path, index))


def _at(clauses: Clauses, path: tuple[int, ...]) -> Clause:
    clause = clauses[path[0]]
    for index in path[1:]:
        clause = clause.parts[index]
    return clause


def _changed(clauses: Clauses, path: tuple[int, ...], change: Clause | None) -> Clauses:
    index, rest = path[0], path[1:]
    old = clauses[index]
    new = replace(old, parts=_changed(old.parts, rest, change)) if rest else change
    return (*clauses[:index], *([new] if new is not None else []), *clauses[index + 1 :])


def _comparisons(clause: Clause, cases: Sequence[Case]) -> Iterator[tuple[str, list[Clause]]]:
    """The mutants of a comparison's right side: its kind, and the changed clauses from near to far."""
    if clause.op == "in":
        for index, value in enumerate(clause.right):
            fewer = clause.right[:index] + clause.right[index + 1 :]
            yield f"without its element {value!r}", [replace(clause, right=fewer)]
    elif isinstance(clause.right, (str, bool)) or _compares_text(clause, cases):
        other = not clause.right if isinstance(clause.right, bool) else NOTHING
        yield "given another value", [replace(clause, right=other)]
    else:
        margins = [found for case in cases if (found := _margins(clause, case.measured))]
        for kind, slacks in _SHIFTS[clause.op]([m[0] for m in margins], [m[-1] for m in margins]):
            yield kind, [replace(clause, slack=slack) for slack in slacks]


def _fixed(clause: Clause, cases: Sequence[Case]) -> Iterator[tuple[str, list[Clause]]]:
    """For each measured value on the right: the clause with the first value that a control shows in its place.

    It survives where no evidence shown can change that value, and then the clause compares with a constant.
    """
    shown = [sides[1:] for case in cases if (sides := _sides(clause, case.measured))]
    rights = clause.rights()
    for index, right in enumerate(rights):
        if isinstance(right, Ref):
            fixed = [(*rights[:index], values[index], *rights[index + 1 :]) for values in shown[:1]]
            single = not isinstance(clause.right, tuple)
            changes = [replace(clause, right=values[0] if single else values) for values in fixed]
            yield f"given a fixed value for {right.path}", changes


def _compares_text(clause: Clause, cases: Sequence[Case]) -> bool:
    sides = (side for case in cases for side in _sides(clause, case.measured))
    return clause.op in ("eq", "ne") and any(isinstance(side, str) for side in sides)


def _sides(clause: Clause, measured: Measured) -> list[Any]:
    """The left value and those on the right; empty where one was not measured."""
    lookup = reader(measured.values)
    try:
        return [lookup(clause.left), *(lookup(r.path) if isinstance(r, Ref) else r for r in clause.rights())]
    except BrokenClause:
        return []


def _margins(clause: Clause, measured: Measured) -> list[Fraction]:
    sides = _sides(clause, measured)
    if not all(isinstance(side, (int, float)) and not isinstance(side, bool) for side in sides):
        return []
    return [Fraction(sides[0]) - Fraction(right) for right in sides[1:]]


Margins = list[Fraction]
Slack = tuple[Fraction, Fraction]
Shifts = Iterator[tuple[str, list[Slack]]]
HOLDING, FAILING = "failing past a value that holds", "holding past a value that fails"


def _at_least(low: Margins, _high: Margins, strict: bool = False) -> Shifts:
    """`left - right` must reach a bound: raise it past what holds, lower it past what fails."""
    edge = Fraction(0) if strict else JUST
    holding = sorted({m for m in low if m > 0 or (m == 0 and not strict)})
    failing = sorted({m for m in low if m < 0 or (m == 0 and strict)}, reverse=True)
    yield HOLDING, [(m + edge, m + edge) for m in holding]
    yield FAILING, [(m - JUST + edge, m - JUST + edge) for m in failing]


def _at_most(low: Margins, high: Margins, strict: bool = False) -> Shifts:
    for kind, slacks in _at_least([-m for m in high], [-m for m in low], strict):
        yield kind, [(-a, -b) for a, b in slacks]


def _between(low: Margins, high: Margins) -> Shifts:
    inside = [(a, b) for a, b in zip(low, high, strict=True) if a >= 0 and b <= 0]
    zero = Fraction(0)
    yield f"{HOLDING} (lower bound)", [(a + JUST, zero) for a in sorted({a for a, _ in inside})]
    yield f"{HOLDING} (upper bound)", [(zero, b - JUST) for b in sorted({b for _, b in inside}, reverse=True)]
    yield f"{FAILING} (lower bound)", [(a, zero) for a in sorted({a for a in low if a < 0}, reverse=True)]
    yield f"{FAILING} (upper bound)", [(zero, b) for b in sorted({b for b in high if b > 0})]


def _equal(low: Margins, _high: Margins) -> Shifts:
    """Moved off the value, and widened to the nearest other value on each side that a control shows."""
    zero = Fraction(0)
    yield "moved off its value", [(JUST, JUST)]
    below = [(m, zero) for m in sorted({m for m in low if m < 0}, reverse=True)]
    above = [(zero, m) for m in sorted({m for m in low if m > 0})]
    if below or not above:
        yield "widened below its value", below
    if above:
        yield "widened above its value", above


_SHIFTS: Mapping[str, Callable[[Margins, Margins], Shifts]] = {
    "ge": _at_least,
    "gt": lambda low, high: _at_least(low, high, strict=True),
    "le": _at_most,
    "lt": lambda low, high: _at_most(low, high, strict=True),
    "between": _between,
    "eq": _equal,
    "ne": _equal,
}
