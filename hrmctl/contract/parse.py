"""From YAML with positions to a Contract. Every fault of a file is reported, each in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from hrmctl.contract.clauses import NAME, ClauseReader, Paths, check_id, check_name, items, section
from hrmctl.contract.examples import expand, pieces_of
from hrmctl.contract.spec import LEDGER, Clause, Contract, Control, Measure, Query, Ref, Subject
from hrmctl.errors import InputError, Problem
from hrmctl.jsonio import document_digest
from hrmctl.model import EvidenceType, MeasureSpec
from hrmctl.schema import decode, decode_value, doc
from hrmctl.yamlio import Node, kind_of, suggest


@dataclass(frozen=True, slots=True)
class SelectDoc:
    """What to do with several candidates for one subject."""

    of: Annotated[Literal["all", "every"], doc("all: one of them must hold, corrected; every: each must hold")]
    correct: Annotated[Literal["holm"] | None, doc("correction of the p values over the candidates")] = None


@dataclass(frozen=True, slots=True)
class ContractDoc:
    """A falsifiable claim: what is measured, what must hold, and the controls that show it can fail."""

    kind: Annotated[Literal["contract"], doc("what this file is")]
    id: Annotated[str, MinLen(1), doc("unique name, such as HRM-P1")]
    title: Annotated[str, MinLen(1), doc("the claim in one sentence")]
    subjects: Annotated[dict[str, Node], MinLen(1), doc("one obligation each: label by role, and `needs`")]
    evidence: Annotated[dict[str, Node], MinLen(1), doc("the observations wanted, by a name of your choice")]
    measure: Annotated[dict[str, Node], MinLen(1), doc("what is computed from them: fn, of, parameters")]
    require: Annotated[tuple[Node, ...], MinLen(1), doc("the checks, all of which must hold")]
    controls: Annotated[tuple[Node, ...], MinLen(1), doc("example evidence with the verdict it must give")]
    why: Annotated[str, doc("why it matters; prose")] = ""
    profiles: Annotated[dict[str, Node], doc("other thresholds: clause id → right")] = field(default_factory=dict)
    select: Annotated[SelectDoc | None, doc("needed only where several candidates are expected")] = None


@dataclass(frozen=True, slots=True)
class QueryDoc:
    """One observation that a contract wants."""

    type: Annotated[EvidenceType, doc("evidence type")]
    stage: Annotated[str, MinLen(1), doc("the kind of stage that reports it, such as eval")]
    name: Annotated[str, doc("name of the observation where the stage reports several of the type")] = ""
    bind: Annotated[dict[str, str], doc("role of the evidence → role of the subject")] = field(default_factory=dict)
    about: Annotated[
        tuple[str, ...] | None,
        doc("roles that the evidence must carry; model and dataset, where the subject has them, when absent"),
    ] = None
    each: Annotated[Literal["seed"] | None, doc("seed: one piece for each seed, all of them together")] = None


@dataclass(frozen=True, slots=True)
class MeasureHead:
    """The part of a measure that is not its parameters."""

    fn: Annotated[str, doc("a measure, see `hrmctl plugins list`")]
    of: Annotated[tuple[str, ...], doc("names of evidence")]


@dataclass(frozen=True, slots=True)
class ControlDoc:
    """Example evidence and the verdict it must give, because of the named clause."""

    expect: Annotated[Literal["PASS", "FAIL", "INCONCLUSIVE", "UNTESTED", "INVALID"], doc("the verdict")]
    data: Annotated[dict[str, Node], doc("evidence by name, in shorthand or whole")]
    because: Annotated[str, doc("clause id; the measure or evidence that is refused")] = ""
    profile: Annotated[str, doc("the profile that this control is for")] = ""


def parse_contract(root: Node, measures: Mapping[str, MeasureSpec], text: str = "") -> Contract:
    """The contract at `root`, checked against the measures there are. Raises InputError with every fault."""
    problems: list[Problem] = []
    head = decode(root, ContractDoc, problems)
    subjects = _subjects(root, problems)
    evidence = _evidence(root, subjects, problems)
    taken = _measures(root, evidence, measures, problems)
    known = {name: measures.get(taken[name].fn) if name in taken else None for name in section(root, "measure")}
    paths = Paths(known, problems)
    clauses = ClauseReader(problems, paths.check, paths.right)
    require = tuple(clauses.read(node, top=True) for node in items(root, "require"))
    _check_comparisons(require, taken, problems)
    _check_use(root, require, taken, problems)
    _check_ids(root, clauses.ids, problems)
    profiles = _profiles(root, require, paths, problems)
    causes = Causes([c.id for c in require], list(section(root, "measure")), list(section(root, "evidence")))
    controls = _controls(root, _fitting(evidence, taken, measures), causes, profiles, problems)
    _check_select(root, require, problems)
    if head is None or problems:
        raise InputError(*sorted(set(problems), key=lambda p: (p.line, p.column)))
    select = head.select.of if head.select else ""
    return Contract(
        head.id, head.title, subjects, evidence, taken, require, controls, profiles, select,
        head.why, document_digest(root.plain()), root.file, text, root,
    )  # fmt: skip


# --- the parts ----------------------------------------------------------------------------------


def _subjects(root: Node, problems: list[Problem]) -> dict[str, Subject]:
    holder = root.get("subjects") or root
    result: dict[str, Subject] = {}
    for name, node in section(root, "subjects").items():
        check_name(holder, name, problems)
        if not isinstance(node.value, dict):
            fault = f"subject '{name}' must be a mapping, found {kind_of(node)}"
            problems.append(node.problem(fault, "such as {model: hrm-tiny}"))
            continue
        roles = dict(node.value)
        needs_node = roles.pop("needs", None)
        needs = decode_value(needs_node, tuple[str, ...], problems, (), "needs") if needs_node else ()
        labels = {role: decode_value(label, str, problems, (MinLen(1),), role) for role, label in roles.items()}
        if not labels:
            problems.append(node.problem(f"subject '{name}' names nothing", "such as {model: hrm-tiny}"))
        result[name] = Subject(name, labels, tuple(needs or ()))
    return result


def _evidence(root: Node, subjects: Mapping[str, Subject], problems: list[Problem]) -> dict[str, Query]:
    holder = root.get("evidence") or root
    result: dict[str, Query] = {}
    seen: dict[str, str] = {}
    for name, node in section(root, "evidence").items():
        check_name(holder, name, problems)
        item = decode(node, QueryDoc, problems)
        if item is None:
            continue
        result[name] = Query(item.type, item.stage, item.name, item.bind, item.about, item.each or "")
        twin = seen.setdefault(repr(item), name)
        if twin != name:
            problems.append(holder.key_problem(name, f"'{name}' asks for the same evidence as '{twin}'", "bind it"))
        for role, target in item.bind.items():
            lacking = [s.name for s in subjects.values() if target not in s.labels]
            if lacking:
                place = node.value["bind"].value[role]
                problems.append(place.problem(f"subject '{lacking[0]}' has no role '{target}'"))
        if item.stage == LEDGER:
            _check_recorded(root, node, item, problems)
    if result and all(query.recorded for query in result.values()):
        text = "the ledger alone does not know which artifacts a subject is"
        problems.append(holder.problem(text, "ask for evidence of a stage too, such as the samples that were counted"))
    return result


def _check_recorded(root: Node, node: Node, item: QueryDoc, problems: list[Problem]) -> None:
    if (item.type, item.name) != ("measurement/v1", "attempts") or item.bind or item.about is not None or item.each:
        remedy = "write {type: measurement/v1, stage: ledger, name: attempts}"
        problems.append(node.problem("the ledger gives one thing, the number of attempts", remedy))
    if root.get("select"):
        text = "attempts belong to one candidate, and 'select' expects several"
        problems.append(node.problem(text, "bound the attempts in a contract of its own"))


def _measures(
    root: Node, evidence: Mapping[str, Query], specs: Mapping[str, MeasureSpec], problems: list[Problem]
) -> dict[str, Measure]:
    holder = root.get("measure") or root
    result: dict[str, Measure] = {}
    for name, node in section(root, "measure").items():
        check_name(holder, name, problems)
        own, rest = _split(node, ("fn", "of"))
        head = decode(own, MeasureHead, problems)
        if head is None:
            continue
        if head.fn not in specs:
            problems.append(own.value["fn"].problem(f"unknown measure function '{head.fn}'", suggest(head.fn, specs)))
            continue
        _check_of(own.value["of"], evidence, section(root, "evidence"), specs[head.fn], problems)
        params = decode(rest, specs[head.fn].params, problems)
        result[name] = Measure(name, head.fn, head.of, params)
    return result


def _fitting(
    evidence: Mapping[str, Query], taken: Mapping[str, Measure], specs: Mapping[str, MeasureSpec]
) -> dict[str, Query]:
    """The evidence that its measures take: of what does not fit, examples are neither right nor wrong."""
    users = [(name, specs[measure.fn]) for measure in taken.values() for name in measure.of]
    odd = {name for name, spec in users if name in evidence and evidence[name].type not in spec.accepts}
    return {name: query for name, query in evidence.items() if name not in odd}


def _split(node: Node, keys: tuple[str, ...]) -> tuple[Node, Node]:
    """The mapping at `node` as two: the one with `keys`, and the rest."""
    if not isinstance(node.value, dict):
        return node, Node({}, node.file, node.line, node.column)
    halves = [{k: v for k, v in node.value.items() if (k in keys) == mine} for mine in (True, False)]
    own, rest = (Node(half, node.file, node.line, node.column, node.keys) for half in halves)
    return own, rest


def _check_of(
    node: Node, evidence: Mapping[str, Query], declared: Mapping[str, Any], spec: MeasureSpec, problems: list[Problem]
) -> None:
    names = [child.value for child in node.value]
    low, high = spec.arity
    if not low <= len(names) <= high or not names:
        wanted = f"{low}" if low == high else f"{low} to {high}"
        problems.append(node.problem(f"{spec.name} takes {wanted} pieces of evidence, not {len(names)}"))
    for index, child in enumerate(node.value):
        name = child.value
        if name not in declared:
            problems.append(child.problem(f"unknown evidence '{name}'", suggest(str(name), declared)))
        elif name in names[:index]:
            problems.append(child.problem(f"{spec.name} is given '{name}' twice: it would be compared with itself"))
        elif name in evidence and evidence[name].type not in spec.accepts:
            takes = ", ".join(spec.accepts)
            problems.append(child.problem(f"{spec.name} takes {takes}, and '{name}' is {evidence[name].type}"))
        elif name in evidence and bool(evidence[name].each) != spec.by_seed:
            takes, given = ("one for each seed", "one piece") if spec.by_seed else ("one piece", "one for each seed")
            problems.append(child.problem(f"{spec.name} takes {takes}, and '{name}' is {given}", "see `each: seed`"))


def _profiles(
    root: Node, require: tuple[Clause, ...], paths: Paths, problems: list[Problem]
) -> dict[str, dict[str, Any]]:
    holder = root.get("profiles") or root
    result: dict[str, dict[str, Any]] = {}
    known = {c.id: c for top in require for c in top.walk() if c.id and not c.parts}
    for name, node in section(root, "profiles").items():
        check_name(holder, name, problems)
        result[name] = {}
        for clause, right in section(holder, name).items():
            if clause not in known:
                problems.append(node.key_problem(clause, f"no comparison '{clause}'", suggest(clause, known)))
                continue
            result[name][clause] = paths.right(right, known[clause].op)
        if not section(holder, name):
            problems.append(holder.key_problem(name, f"profile '{name}' changes nothing", "give clause: threshold"))
    return result


@dataclass(frozen=True, slots=True)
class Causes:
    """What a control may name under `because`."""

    clauses: list[str]
    measures: list[str]
    evidence: list[str]

    @property
    def whole(self) -> bool:
        """Whether all clauses could be read and have an id."""
        return bool(self.clauses) and all(self.clauses)

    def of(self, expect: str) -> list[str]:
        """The names that can cause the verdict `expect`."""
        extra = {
            "INCONCLUSIVE": [*self.clauses, *self.measures],
            "INVALID": [*self.clauses, *self.measures, *self.evidence],
            "UNTESTED": self.evidence,
            "PASS": [],
        }
        return list(dict.fromkeys(extra.get(expect, self.clauses)))


def _controls(
    root: Node, evidence: Mapping[str, Query], causes: Causes, profiles: Mapping[str, Any], problems: list[Problem]
) -> tuple[Control, ...]:
    holder = root.get("controls") or root
    read = [_control(node, evidence, causes, profiles, problems) for node in items(root, "controls")]
    if not read or None in read:
        return ()  # what could not be read may be the one that must FAIL
    failing = {_scalar(node, "profile") for node in items(root, "controls") if _scalar(node, "expect") == "FAIL"}
    for profile in ["", *profiles]:
        if profile not in failing:
            whose = f"profile '{profile}' has" if profile else "there is"
            remedy = "a check that cannot fail proves nothing; add evidence that must FAIL"
            problems.append(holder.problem(f"{whose} no control with expect: FAIL", remedy))
    return tuple(control for control in read if control)


def _scalar(node: Node, key: str) -> Any:
    child = node.get(key)
    return child.value if child is not None else ""


def _control(
    node: Node, evidence: Mapping[str, Query], causes: Causes, profiles: Mapping[str, Any], problems: list[Problem]
) -> Control | None:
    head = decode(node, ControlDoc, problems)
    if head is None:
        return None
    choices = causes.of(head.expect)
    if not head.because and head.expect not in ("PASS", "UNTESTED"):
        problems.append(node.problem(f"a control that expects {head.expect} must say because of which clause"))
    elif head.because and head.because not in choices and causes.whole:
        text = f"nothing named '{head.because}' can cause {head.expect}"
        problems.append(node.value["because"].problem(text, suggest(head.because, choices)))
    if head.profile and head.profile not in profiles:
        place = node.value["profile"]
        problems.append(place.problem(f"unknown profile '{head.profile}'", suggest(head.profile, profiles)))
    data = {}
    for name, child in head.data.items():
        if name in evidence:
            data[name] = _expanded(child, evidence[name], problems)
        elif name not in causes.evidence:
            text = f"unknown evidence '{name}'"
            problems.append(node.value["data"].key_problem(name, text, suggest(name, causes.evidence)))
    return Control(head.expect, head.because, head.profile, data, node)


def _expanded(node: Node, query: Query, problems: list[Problem]) -> Mapping[str, Any] | list[Mapping[str, Any]]:
    try:
        if not query.each:
            return expand(query.type, node.plain())
        return [expand(query.type, piece) for piece in pieces_of(node.plain())]
    except ValueError as error:
        problems.append(node.problem(f"not an example of {query.type}: {error}"))
        return {}


# --- what the parts mean together ---------------------------------------------------------------


def _check_comparisons(require: tuple[Clause, ...], taken: Mapping[str, Measure], problems: list[Problem]) -> None:
    def identity(path: str) -> tuple[Any, ...]:
        name, _, key = path.partition(".")
        measure = taken.get(name)
        return (measure.fn, measure.of, repr(measure.params), key) if measure else (path,)

    for clause in (c for top in require for c in top.walk()):
        for right in clause.rights():
            if isinstance(right, Ref) and identity(right.path) == identity(clause.left):
                text = f"{clause.left} is compared with itself ({right.path} is the same measurement)"
                problems.append(clause.place.value["right"].problem(text, "compare it with something else"))


def _check_use(root: Node, require: tuple[Clause, ...], taken: Mapping[str, Measure], problems: list[Problem]) -> None:
    fed = {name for measure in taken.values() for name in measure.of}
    read = {path.partition(".")[0] for clause in require for path in clause.paths()}
    for key, used in (("evidence", fed), ("measure", read)):
        if key == "evidence" and (len(taken) < len(section(root, "measure")) or not fed <= set(section(root, key))):
            continue  # a measure that could not be read, or names what is not there, may use it
        if key == "measure" and not all(
            c.left or c.parts for clause in require or [Clause("eq")] for c in clause.walk()
        ):
            continue  # a check that could not be read may read it
        for name in section(root, key):
            if name not in used and NAME.match(name):
                by = "measure" if key == "evidence" else "clause"
                place = root.value[key]
                problems.append(place.key_problem(name, f"no {by} uses {key} '{name}'", "use it or remove it"))


def _check_ids(root: Node, ids: Mapping[str, Node], problems: list[Problem]) -> None:
    check_id(root, problems)
    owners = dict.fromkeys(section(root, "evidence"), "evidence")
    for name in section(root, "measure"):
        if name in owners or name == "select":
            text = f"the name '{name}' is taken ({owners.get(name, 'reserved')})"
            problems.append(root.value["measure"].key_problem(name, text, "rename it"))
        owners[name] = "a measure"
    for name, place in ids.items():
        if name in owners:
            problems.append(place.problem(f"the name '{name}' is taken ({owners[name]})", "rename the clause"))


def _check_select(root: Node, require: tuple[Clause, ...], problems: list[Problem]) -> None:
    node = root.get("select")
    if node is None or _scalar(node, "of") != "all":
        return
    if _scalar(node, "correct") != "holm":
        problems.append(node.problem("the best of several needs a correction", "write {of: all, correct: holm}"))
    fields = [path.partition(".")[2] for clause in require for path in clause.paths()]
    if not any(is_p(name) for name in fields):
        remedy = "add a clause on a field p, or use {of: every}"
        problems.append(node.problem("'select: {of: all}' corrects p values, and no clause reads one", remedy))


def is_p(name: str) -> bool:
    """Whether a measured field is a p value, by its name."""
    return name == "p" or name.endswith("_p")
