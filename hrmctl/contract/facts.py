"""What a check knows besides evidence: what stands in its way, and what would change a verdict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from hrmctl.contract.spec import Contract, Query, Subject
from hrmctl.model import Question, Verdict

_STEPS = {
    Verdict.FAIL: "improve what was measured, then again: ",
    Verdict.INCONCLUSIVE: "measure more of it, then: ",
    Verdict.INVALID: "mend what the reason names, then: ",
}


@dataclass(frozen=True, slots=True)
class Stop:
    """A stage that did not finish: the id of the one that is to blame, the reason, and what to do about it.

    `about` has every label that its evidence could have carried, None where that is not known.
    """

    stage: str
    reason: str
    remedy: str = ""
    about: Collection[str] | None = None

    def concerns(self, query: Query, subject: Subject) -> bool:
        """Whether its evidence could have answered `query` for `subject`."""
        roles = {query.bind.get(role, role) for role in query.required_roles(subject)} & subject.labels.keys()
        return self.about is None or all(subject.labels[role] in self.about for role in roles)


@dataclass(frozen=True, slots=True)
class Facts:
    """What stands in the way of evidence: `has` says what the machine has; `stopped` gives, for each
    kind of stage that failed or was blocked in the run, its stops; `partial` gives, for the digest of evidence
    whose stage has other cells that did not finish, which: the cells that are there may be the lucky ones.
    `again` is the command that would measure again what the run measured, empty where it is not known. `stages` are
    those that plugins provide (None where nobody asked), and `remedy` gives the command that would have a contract's
    missing evidence reported by a stage, empty where none is known; `finished` gives the recipe behind that command
    where it has run as it is and would report the same again. `labels` gives, by role, what the evidence of the type,
    the stage and the name that are asked for is about in the runs looked at, and `reported` type and name of the
    evidence that stages of a kind reported there. `attempts` says how many models were judged on the test set of a
    contract and its digests by role, those included: evidence that the ledger gives."""

    has: Callable[[str], bool] = lambda need: False
    stopped: Mapping[str, Sequence[Stop]] = field(default_factory=dict)
    partial: Mapping[str, str] = field(default_factory=dict)
    again: str = ""
    stages: Collection[str] | None = None
    remedy: Callable[[Contract, Subject, str], str] = lambda contract, subject, stage: ""
    finished: Callable[[Contract, Subject, str], str] = lambda contract, subject, stage: ""
    labels: Callable[[Query], Collection[Mapping[str, str]]] = lambda query: ()
    reported: Callable[[str], Collection[tuple[str, str]]] = lambda stage: ()
    attempts: Callable[[str, Mapping[str, str]], int] = lambda contract, subjects: 1


def step_after(verdict: Verdict, kind: Question, facts: Facts) -> str:
    """What would change the verdict on evidence that is there; empty on PASS, and where no command is known."""
    if verdict == Verdict.PASS or not facts.again:
        return ""
    if verdict == Verdict.FAIL and kind == "hypothesis":
        return f"nothing to mend, this is the answer; to measure it again: {facts.again}"
    return _STEPS.get(verdict, "") + facts.again
