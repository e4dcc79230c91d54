"""What a contract is once it is parsed: frozen data that keeps its place in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from hrmctl.model import EMPTY, EvidenceType, Verdict
from hrmctl.yamlio import Node

Value = bool | int | float | str
ORDERED = ("lt", "le", "gt", "ge", "between")
COMPARISONS = ("eq", "ne", *ORDERED, "in")
COMBINATORS = ("all", "any", "not")
ZERO = (Fraction(0), Fraction(0))
LEDGER = "ledger"
"""The stage of evidence that no stage reports: what the ledger itself says."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The path `measure.field` of a measured value on the right of a comparison."""

    path: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One check: a comparison of the path `left` with `right`, or a combination (`all any not`) of `parts`.

    `right` is a literal, a `Ref`, or for `in` and `between` a tuple of them. `otherwise` is the
    verdict when it does not hold. `slack` is 0 but in mutants: it moves the lower and upper bound
    that `left - right` is compared with.
    """

    op: str
    id: str = ""
    left: str = ""
    right: Any = None
    parts: tuple[Clause, ...] = ()
    otherwise: Verdict = Verdict.FAIL
    place: Node = field(default=Node(None), compare=False, repr=False)
    slack: tuple[Fraction, Fraction] = ZERO

    def rights(self) -> tuple[Any, ...]:
        """Everything on the right side as a tuple."""
        return self.right if isinstance(self.right, tuple) else (self.right,)

    def walk(self) -> Iterator[Clause]:
        """This clause and all inside it, outermost first."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def paths(self) -> Iterator[str]:
        """Every path that the clause reads."""
        for leaf in self.walk():
            if not leaf.parts:
                yield leaf.left
                yield from (right.path for right in leaf.rights() if isinstance(right, Ref))


@dataclass(frozen=True, slots=True)
class Subject:
    """What one obligation is about: labels by role, and what the machine must have to measure it."""

    name: str
    labels: Mapping[str, str]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """Which evidence is wanted: its type, the kind of stage that reports it, its name (any if empty).

    `bind` renames roles: `{model: baseline}` takes evidence about a `model` as being about the subject's `baseline`.
    `about` lists the roles that the evidence must carry; None stands for model and dataset where the subject has them.
    `each: seed` takes one piece for each seed, all of them together.
    """

    type: EvidenceType
    stage: str
    name: str = ""
    bind: Mapping[str, str] = field(default_factory=dict)
    about: tuple[str, ...] | None = None
    each: str = ""

    @property
    def recorded(self) -> bool:
        """Whether the ledger answers this, and no stage."""
        return self.stage == LEDGER

    def required_roles(self, subject: Subject) -> set[str]:
        """Roles without which evidence says nothing of `subject`: samples of no model are no model's samples."""
        if self.about is not None:
            return set(self.about)
        return {role for role in ("model", "dataset") if self.bind.get(role, role) in subject.labels}


@dataclass(frozen=True, slots=True)
class Measure:
    """A named use of a measure plugin on evidence `of`, with its decoded parameters."""

    name: str
    fn: str
    of: tuple[str, ...]
    params: Any


@dataclass(frozen=True, slots=True)
class Control:
    """Example evidence and the verdict it must give; `data` holds whole payloads by evidence name.

    Where the evidence is one piece for each seed, a list of them.
    """

    expect: str
    because: str
    profile: str
    data: Mapping[str, Mapping[str, Any] | list[Mapping[str, Any]]]
    place: Node = field(default=Node(None), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Contract:
    """A falsifiable claim. `digest` is that of the parsed document, so comments and layout do not count."""

    id: str
    title: str
    subjects: Mapping[str, Subject]
    evidence: Mapping[str, Query]
    measures: Mapping[str, Measure]
    require: tuple[Clause, ...]
    controls: tuple[Control, ...]
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    select: str = ""
    why: str = ""
    digest: str = ""
    file: str = ""
    text: str = field(default="", repr=False)
    place: Node = field(default=Node(None), compare=False, repr=False)

    @property
    def observed(self) -> Mapping[str, Query]:
        """The evidence that stages report."""
        return {name: query for name, query in self.evidence.items() if not query.recorded}

    @property
    def asks_ledger(self) -> bool:
        """Whether some of its evidence is what the ledger says."""
        return len(self.observed) < len(self.evidence)

    def clauses(self, profile: str = "") -> tuple[Clause, ...]:
        """The clauses with the thresholds of `profile`; those of the contract itself where it has no such profile."""
        changed = self.profiles.get(profile, EMPTY)
        return tuple(_override(clause, changed) for clause in self.require)


def _override(clause: Clause, changed: Mapping[str, Any]) -> Clause:
    parts = tuple(_override(part, changed) for part in clause.parts)
    return replace(clause, parts=parts, right=changed.get(clause.id, clause.right))
