"""Which evidence a subject is judged on: found by label, held together by digest, never guessed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hrmctl.contract.evaluate import Fault, Measured, Outcome, Piece, decide, pieces, take
from hrmctl.contract.facts import Facts, Stop, step_after
from hrmctl.contract.parse import is_p
from hrmctl.contract.prove import Proof, prove
from hrmctl.contract.spec import Contract, Query, Subject, Value
from hrmctl.model import Evidence, Judgement, MeasureSpec, Question, Verdict
from hrmctl.yamlio import nearest

MOST_CANDIDATES = 10_000
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """The evidence for each name, all about the same artifacts; `digests` are those by role of the subject.

    Where a name stands for one piece for each seed, the digest of a role that differs between them is all of
    them in the order of the seeds, joined by `+`.
    """

    items: Mapping[str, Piece]
    digests: Mapping[str, str]

    def join(self, name: str, other: Candidate) -> Candidate | None:
        """Both together under `name`, or None where they are about different artifacts."""
        if any(self.digests.get(role, digest) != digest for role, digest in other.digests.items()):
            return None
        return Candidate({**self.items, name: other.items[""]}, {**self.digests, **other.digests})


class Unbound(Exception):
    """No evidence can be bound: carries the fault and the remedy."""

    def __init__(self, verdict: Verdict, because: str, reason: str, remedy: str = ""):
        super().__init__(reason)
        self.fault = Fault(verdict, because, reason)
        self.remedy = remedy


def check(
    contract: Contract,
    evidence: Sequence[Evidence],
    measures: Mapping[str, MeasureSpec],
    *,
    run: str = "",
    profile: str = "",
    facts: Facts | None = None,
    kind: Question = "acceptance",
    proof: Proof | None = None,
) -> list[Judgement]:
    """One judgement for each subject of `contract` on the evidence of one run.

    A contract that is not proven (proven here unless a `proof` of it is handed in) gives INVALID
    for every subject. A profile that the contract does not have leaves its own thresholds.
    """
    proof = proof or prove(contract, measures)
    return [
        check_subject(
            contract, subject, evidence, measures, run=run, profile=profile, facts=facts, kind=kind, proof=proof
        )
        for subject in contract.subjects.values()
    ]


def check_subject(
    contract: Contract,
    subject: Subject,
    evidence: Sequence[Evidence],
    measures: Mapping[str, MeasureSpec],
    *,
    proof: Proof,
    run: str = "",
    profile: str = "",
    facts: Facts | None = None,
    kind: Question = "acceptance",
) -> Judgement:
    """The judgement of one subject of `contract`; see `check`."""
    profile = profile if profile in contract.profiles else ""
    facts = facts or Facts()
    blank = Judgement(
        contract.id, contract.digest, contract.title, subject.name, kind, Verdict.INVALID,
        labels=dict(subject.labels), profile=profile, run=run,
    )  # fmt: skip
    try:
        _require_proof(contract, proof)
        candidates = bind(contract, subject, evidence, facts)
    except Unbound as error:
        fault = error.fault
        return replace(blank, verdict=fault.verdict, because=fault.because, reason=fault.reason, remedy=error.remedy)
    outcome, chosen = _select(contract, candidates, measures, profile)
    digests = dict.fromkeys(
        piece.digest
        for candidate in candidates
        for item in candidate.items.values()
        for piece in pieces(item)
        if piece.digest
    )
    return replace(
        blank, verdict=outcome.verdict, because=outcome.because, reason=outcome.reason,
        measured=outcome.measured, evidence=tuple(digests), subjects=dict(chosen.digests),
        remedy=step_after(outcome.verdict, kind, facts),
    )  # fmt: skip


def _require_proof(contract: Contract, proof: Proof) -> None:
    if not proof.ok:
        first = proof.problems[0] if proof.problems else contract.place.problem("nothing was proven")
        reason = f"the contract is not proven: {first.file}:{first.line}:{first.column}: {first.message}"
        raise Unbound(Verdict.INVALID, "proof", reason, f"hrmctl contracts prove {contract.file}")


# --- binding ------------------------------------------------------------------------------------

Speech = Literal["nothing", "in part", "whole"]
Stopped = Mapping[str, Sequence[Stop]]


def speech(contract: Contract, subject: Subject, evidence: Sequence[Evidence], stopped: Stopped) -> Speech:
    """How much a run says of an obligation, by what its evidence is about (payloads are not read).

    All of what the contract asks for, or some of it; a stage of a wanted kind among `stopped`, those that did not
    finish, says something too.
    """
    try:
        missing = [q for name, q in contract.observed.items() if not _found(name, q, subject, evidence)]
    except Unbound:
        return "whole"
    if not missing:
        return "whole"
    some = len(missing) < len(contract.observed) or any(_stops(query, subject, stopped) for query in missing)
    return "in part" if some else "nothing"


def _stops(query: Query, subject: Subject, stopped: Stopped) -> list[Stop]:
    return [stop for stop in stopped.get(query.stage, ()) if stop.concerns(query, subject)]


def bind(contract: Contract, subject: Subject, evidence: Sequence[Evidence], facts: Facts) -> list[Candidate]:
    """The candidates for `subject`: one, or several where the contract selects. Raises Unbound."""
    found = {name: _found(name, query, subject, evidence) for name, query in contract.observed.items()}
    _require_all(contract, subject, found, facts)
    candidates = [_with_recorded(contract, candidate, facts) for candidate in _joined(found)]
    for candidate in candidates:
        _require_apart(subject, candidate)
        _require_whole(candidate, facts)
    if len(candidates) > 1 and not contract.select:
        raise Unbound(Verdict.INVALID, "select", _ambiguity(subject, candidates, found), "label each, or say select")
    return candidates


def _with_recorded(contract: Contract, candidate: Candidate, facts: Facts) -> Candidate:
    """The candidate with what the ledger says of it; only what was observed has a digest."""
    made: dict[str, Piece] = {}
    for name, query in contract.evidence.items():
        if query.recorded:
            value = facts.attempts(contract.id, candidate.digests)
            made[name] = Evidence(query.name, query.type, {"value": value, "unit": "models", "n": max(value, 1)})
    return replace(candidate, items={**candidate.items, **made}) if made else candidate


def _found(name: str, query: Query, subject: Subject, evidence: Sequence[Evidence]) -> list[Candidate]:
    result: dict[str, Candidate] = {}
    for index, item in enumerate(evidence):
        if item.type != query.type or (query.name and item.name != query.name):
            continue
        if item.provenance is None or not item.provenance.run or not item.digest:
            reason = f"evidence for {name} says of no run where it comes from"
            raise Unbound(Verdict.INVALID, name, reason, "only stages of a run give evidence")
        digests = _about(query, subject, item) if item.provenance.uses == query.stage else {}
        if digests:
            result.setdefault(item.digest or str(index), Candidate({"": item}, digests))
    return _together(name, list(result.values())) if query.each and result else list(result.values())


def _together(name: str, found: Sequence[Candidate]) -> list[Candidate]:
    """The evidence of all seeds as one candidate. Raises Unbound where one seed has two pieces."""
    by_seed: dict[int, Candidate] = {}
    for candidate in found:
        (piece,) = pieces(candidate.items[""])
        seed = piece.provenance.seed if piece.provenance else 0
        if by_seed.setdefault(seed, candidate) is not candidate:
            reason = f"two pieces of evidence for {name} have the seed {seed}"
            raise Unbound(Verdict.INVALID, name, reason, "label the models differently, or name the observation")
    ordered = [by_seed[seed] for seed in sorted(by_seed)]
    roles = [role for role in ordered[0].digests if all(role in candidate.digests for candidate in ordered)]
    digests = {role: [candidate.digests[role] for candidate in ordered] for role in roles}
    _require_own(name, digests)
    joined = {role: several[0] if len(set(several)) == 1 else "+".join(several) for role, several in digests.items()}
    return [Candidate({"": tuple(piece for c in ordered for piece in pieces(c.items[""]))}, joined)]


def _require_own(name: str, digests: Mapping[str, Sequence[str]]) -> None:
    """What is sampled five times under five seeds is one thing: each seed needs an artifact that is its own."""
    seeds = max(len(several) for several in digests.values())
    kinds = {role: len(set(several)) for role, several in digests.items()}
    shared = [role for role, kind in kinds.items() if 1 < kind < seeds]
    if seeds > 1 and (shared or seeds not in kinds.values()):
        reason = f"several seeds of {name} are about the same {shared[0] if shared else ' and '.join(digests)}"
        raise Unbound(Verdict.INVALID, name, reason, "train one model for each seed: matrix on the stage that makes it")


def _about(query: Query, subject: Subject, item: Evidence) -> dict[str, str]:
    """The digests of `item` by the subject's roles; empty where it is about something else."""
    source = item.provenance
    if source is None or not {*query.bind, *query.required_roles(subject)} <= set(source.labels):
        return {}
    taken = set(query.bind.values())
    roles = {query.bind.get(r, r): r for r in source.labels if r in query.bind or r not in taken}
    shared = {target: role for target, role in roles.items() if target in subject.labels}
    if any(source.labels[role] != subject.labels[target] for target, role in shared.items()):
        return {}
    return {target: source.subjects.get(role, "") for target, role in shared.items()}


def _require_all(contract: Contract, subject: Subject, found: Mapping[str, Sequence[Candidate]], facts: Facts) -> None:
    missing = [name for name, options in found.items() if not options]
    if not missing:
        return
    unmet = [need for need in subject.needs if not facts.has(need)]
    if unmet:
        wanted = " and ".join(unmet)
        reason = f"no evidence {missing[0]}: it needs {wanted}, which this machine has not"
        stage = contract.evidence[missing[0]].stage
        how = facts.remedy(contract, subject, stage) or f"run the stage {stage}"
        raise Unbound(Verdict.BLOCKED, missing[0], reason, f"on a machine with {wanted}: {how}")
    for name in missing:
        stops = _stops(contract.evidence[name], subject, facts.stopped)
        if stops:
            stop = next((s for s in stops if s.stage.partition("[")[0] in subject.labels.values()), stops[0])
            raise Unbound(Verdict.BLOCKED, name, f"no evidence {name}: {stop.reason}", stop.remedy)
    raise Unbound(Verdict.UNTESTED, missing[0], *_untested(contract, subject, missing, facts))


def _untested(contract: Contract, subject: Subject, missing: Sequence[str], facts: Facts) -> tuple[str, str]:
    """Why the evidence is missing, and what would change that."""
    things = " and ".join(subject.labels.values())
    known = facts.stages
    for name in missing:
        stage = contract.evidence[name].stage
        if known is not None and stage not in known:
            reason = f"no evidence {name}: no plugin provides the stage {stage}{_meant(stage, known)}"
            return reason, f"install a plugin whose hrmctl_stages gives the stage {stage}, and run it on {things}"
    query = contract.evidence[missing[0]]
    what = f"{query.name} ({query.type})" if query.name else query.type
    reason = f"no evidence {missing[0]}: no {what} of a stage {query.stage} about {things}"
    reason += _misnamed(query, facts.reported(query.stage))
    finished = facts.finished(contract, subject, query.stage)
    if finished:
        return reason, f"{finished} has run without it: {_instead(query, subject, facts.labels(query))}"
    command = facts.remedy(contract, subject, query.stage)
    return reason, command or f"no recipe here names it: run the stage {query.stage} on {things}"


def _instead(query: Query, subject: Subject, seen: Collection[Mapping[str, str]]) -> str:
    """What the evidence there is of the kind is about, and which of its labels was probably meant."""
    source = {target: role for role, target in query.bind.items()}
    known = {r: {labels[source.get(r, r)] for labels in seen if source.get(r, r) in labels} for r in subject.labels}
    about = sorted({" and ".join(labels[s] for r in known if (s := source.get(r, r)) in labels) for labels in seen})
    meant = [_meant(subject.labels[r], labels) for r, labels in known.items() if subject.labels[r] not in labels]
    listed = ", or ".join(text for text in about[:MOST_NAMED] if text)
    hint = next((text for text in meant if text), "; mend the labels of the contract, or the recipe")
    return f"such evidence is about {listed}{hint}" if listed else "mend the contract, or the recipe"


def _misnamed(query: Query, reported: Collection[tuple[str, str]]) -> str:
    """What stages of this kind reported that was probably meant; a stage may give names that nobody knows before."""
    types = sorted(kind for kind, name in reported if name == query.name)
    if not query.name or query.type in types:
        return ""
    if types:
        return f"; its {query.name} is {types[0]}"
    return _meant(query.name, {name for kind, name in reported if kind == query.type})


def _meant(name: str, known: Collection[str]) -> str:
    close = nearest(name, known)
    return f"; did you mean '{close}'?" if close else ""


def _joined(found: Mapping[str, Sequence[Candidate]]) -> list[Candidate]:
    result = [Candidate({}, {})]
    for name, options in found.items():
        before = result
        result = [both for one in before for option in options if (both := one.join(name, option))]
        if not result:
            reason = f"{name} and {', '.join(before[0].items)} are not about the same artifacts"
            raise Unbound(Verdict.INVALID, name, reason, "run the stages again, in one run")
        if len(result) > MOST_CANDIDATES:
            raise Unbound(Verdict.INVALID, name, f"more than {MOST_CANDIDATES:,} candidates", "bind more roles")
    return result


def _require_apart(subject: Subject, candidate: Candidate) -> None:
    """Every role is known, and nothing is compared with itself."""
    for role in subject.labels:
        if not candidate.digests.get(role):
            raise Unbound(Verdict.INVALID, role, f"no evidence says which {role} it is about", "bind the role")
    _require_distinct(candidate.digests, "the same artifact: it would be compared with itself")
    digests = {name: "+".join(piece.digest for piece in pieces(item)) for name, item in candidate.items.items()}
    _require_distinct(digests, "the same evidence: it would be compared with itself")


def _require_whole(candidate: Candidate, facts: Facts) -> None:
    for name, item in candidate.items.items():
        partial = [facts.partial[piece.digest] for piece in pieces(item) if piece.digest in facts.partial]
        if partial:
            reason = f"{name} comes from some cells of a matrix only: {partial[0]}"
            remedy = f"run every cell of the matrix{f': {facts.again}' if facts.again else ''}"
            raise Unbound(Verdict.BLOCKED, name, reason, remedy)


def _require_distinct(digests: Mapping[str, str], what: str) -> None:
    first: dict[str, str] = {}
    for name, digest in digests.items():
        twin = first.setdefault(digest, name)
        if twin != name:
            raise Unbound(Verdict.INVALID, name, f"{twin} and {name} are {what}", "bind them to different things")


def _ambiguity(subject: Subject, candidates: Sequence[Candidate], found: Mapping[str, Sequence[Candidate]]) -> str:
    for role, label in subject.labels.items():
        number = len({candidate.digests[role] for candidate in candidates})
        if number > 1:
            return f"{number} candidates for {role} {label}; say select"
    name = next(name for name, options in found.items() if len(options) > 1)
    return f"{len(found[name])} pieces of evidence for {name}; name the observation, or say select"


# --- choosing among candidates ------------------------------------------------------------------


def _select(
    contract: Contract, candidates: Sequence[Candidate], measures: Mapping[str, MeasureSpec], profile: str
) -> tuple[Outcome, Candidate]:
    clauses = contract.clauses(profile)
    taken = [take(contract, candidate.items, measures) for candidate in candidates]
    if contract.select == "all":
        taken = _corrected(taken)
    pairs = [(decide(clauses, measured), candidate) for measured, candidate in zip(taken, candidates, strict=True)]
    worst = max(pairs, key=lambda pair: pair[0].verdict.severity)
    best = min(pairs, key=lambda pair: pair[0].verdict.severity)
    # A broken candidate breaks the comparison: it must not hide behind a better one.
    one_suffices = contract.select == "all" and worst[0].verdict != Verdict.INVALID
    outcome, chosen = best if one_suffices else worst
    if contract.select:
        note: Mapping[str, Value] = {"of": contract.select, "candidates": len(candidates)}
        outcome = replace(outcome, measured={**outcome.measured, "select": note})
    return outcome, chosen


def _corrected(taken: Sequence[Measured]) -> list[Measured]:
    """Every p value adjusted over the candidates; one that could not be measured counts as 1."""
    paths = {(name, key) for m in taken for name, values in m.values.items() for key in values if is_p(key)}
    changed: list[dict[str, dict[str, Value]]] = [
        {name: dict(values) for name, values in m.values.items()} for m in taken
    ]
    for name, key in sorted(paths):
        found = [values.get(name, {}).get(key) for values in changed]
        numbers = [float(p) if isinstance(p, (int, float)) else 1.0 for p in found]
        for values, p, old in zip(changed, holm(numbers), found, strict=True):
            if isinstance(old, (int, float)):
                values[name][key] = p
    return [replace(m, values=values) for m, values in zip(taken, changed, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given (Holm 1979, Scand. J. Statist. 6, 65)."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, (len(ps) - rank) * ps[index])
        adjusted[index] = min(1.0, largest)
    return adjusted
