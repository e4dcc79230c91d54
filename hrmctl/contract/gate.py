"""Gates: ordered, total decision tables over the verdicts of obligations."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from hrmctl.contract.clauses import ID, NAME, ClauseReader, check_id, check_name, items, section
from hrmctl.contract.evaluate import Outcome, holds, telling
from hrmctl.contract.prove import ControlResult, Proof, Survivor, mutants
from hrmctl.contract.spec import Clause
from hrmctl.errors import InputError, Problem
from hrmctl.jsonio import document_digest
from hrmctl.model import Judgement, MeasureSpec, Verdict
from hrmctl.schema import decode, doc
from hrmctl.yamlio import Node, suggest

UNMEASURED = (Verdict.UNTESTED, Verdict.BLOCKED, Verdict.INVALID)


@dataclass(frozen=True, slots=True)
class GateDoc:
    """An ordered, total decision table over verdicts."""

    kind: Annotated[Literal["gate"], doc("what this file is")]
    id: Annotated[str, MinLen(1), doc("unique name")]
    title: Annotated[str, MinLen(1), doc("what is decided")]
    over: Annotated[dict[str, str], MinLen(1), doc("obligations by an alias: CONTRACT/subject")]
    rules: Annotated[tuple[Node, ...], MinLen(1), doc("the first rule that holds decides; the last is `otherwise`")]
    verdicts: Annotated[
        dict[str, Literal["PASS", "FAIL", "INCONCLUSIVE", "BLOCKED", "UNTESTED"]], doc("what each outcome counts as")
    ]
    controls: Annotated[tuple[Node, ...], MinLen(1), doc("example verdicts with the outcome they must give")]
    why: Annotated[str, doc("why it matters; prose")] = ""


@dataclass(frozen=True, slots=True)
class RuleDoc:
    """One rule: `when … then`, or `otherwise`."""

    id: Annotated[str, MinLen(1), doc("name of the rule")]
    when: Annotated[Node | None, doc("condition on the aliases")] = None
    then: Annotated[str, doc("outcome")] = ""
    otherwise: Annotated[str, doc("outcome of the last rule")] = ""


@dataclass(frozen=True, slots=True)
class GateControlDoc:
    """Example verdicts and the outcome they must give."""

    expect: Annotated[str, doc("an outcome, or INVALID")]
    because: Annotated[str, doc("id of the rule")]
    data: Annotated[
        dict[str, Literal["PASS", "FAIL", "INCONCLUSIVE", "UNTESTED", "BLOCKED", "INVALID"]], doc("verdict by alias")
    ]


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition and the outcome it leads to; no condition on the last one."""

    id: str
    when: Clause | None
    then: str
    place: Node = field(default=Node(None), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GateControl:
    """Verdicts by alias, the outcome expected and the rule that must give it."""

    expect: str
    because: str
    data: Mapping[str, str]
    place: Node = field(default=Node(None), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Gate:
    """A parsed gate; `over` maps aliases to obligations, `verdicts` outcomes to verdicts."""

    id: str
    title: str
    over: Mapping[str, str]
    rules: tuple[Rule, ...]
    verdicts: Mapping[str, str]
    controls: tuple[GateControl, ...]
    why: str = ""
    digest: str = ""
    file: str = ""
    text: str = field(default="", repr=False)
    place: Node = field(default=Node(None), compare=False, repr=False)


# --- parsing ------------------------------------------------------------------------------------


def parse_gate(root: Node, _measures: Mapping[str, MeasureSpec], text: str = "") -> Gate:
    """The gate at `root`. Raises InputError with every fault."""
    problems: list[Problem] = []
    head = decode(root, GateDoc, problems)
    over = section(root, "over")
    for alias, node in over.items():
        check_name(root.value["over"], alias, problems)
        _check_obligation(node, problems)
    clauses = ClauseReader(problems, _alias_check(over, problems), _verdict_reader(problems))
    rules = [_rule(node, clauses, problems) for node in items(root, "rules")]
    _check_order(root, rules, problems)
    _check_outcomes(root, [r for r in rules if r], problems)
    controls = [_control(node, over, [r for r in rules if r], problems) for node in items(root, "controls")]
    _check_covered(rules, controls, problems)
    check_id(root, problems)
    if head is None or problems:
        raise InputError(*sorted(set(problems), key=lambda p: (p.line, p.column)))
    return Gate(
        head.id, head.title, head.over, tuple(r for r in rules if r), head.verdicts,
        tuple(c for c in controls if c), head.why, document_digest(root.plain()), root.file, text, root,
    )  # fmt: skip


def _check_obligation(node: Node, problems: list[Problem]) -> None:
    contract, slash, subject = str(node.value).partition("@")[0].partition("/")
    if not slash or not ID.match(contract) or not NAME.match(subject):
        problems.append(node.problem(f"'{node.value}' is no obligation", "write CONTRACT/subject"))


def _alias_check(over: Mapping[str, Node], problems: list[Problem]) -> Any:
    def check(node: Node) -> None:
        if node.value not in over:
            problems.append(node.problem(f"unknown obligation '{node.value}'", suggest(str(node.value), over)))

    return check


def _verdict_reader(problems: list[Problem]) -> Any:
    def read(node: Node, op: str) -> Any:
        if op not in ("eq", "ne", "in"):
            problems.append(node.problem(f"verdicts are compared by eq, ne and in, not {op}"))
        nodes = node.value if op == "in" and isinstance(node.value, list) else [node]
        for child in nodes:
            if child.value not in list(Verdict):
                hint = suggest(str(child.value).upper(), list(Verdict))
                problems.append(child.problem(f"'{child.value}' is not a verdict", hint))
        return tuple(child.value for child in nodes) if op == "in" else node.value

    return read


def _rule(node: Node, clauses: ClauseReader, problems: list[Problem]) -> Rule | None:
    head = decode(node, RuleDoc, problems)
    if head is None:
        return None
    if bool(head.otherwise) == bool(head.when) or bool(head.when) != bool(head.then):
        problems.append(node.problem("a rule is {id, when, then} or {id, otherwise}"))
        return None
    when = clauses.read(head.when) if head.when else None
    return Rule(head.id, when, head.then or head.otherwise, node)


def _check_order(root: Node, rules: Sequence[Rule | None], problems: list[Problem]) -> None:
    seen: set[str] = set()
    for rule, node in zip(rules, items(root, "rules"), strict=True):
        if rule is None:
            continue
        if rule.id in seen:
            problems.append(node.value["id"].problem(f"rule '{rule.id}' occurs twice"))
        seen.add(rule.id)
        if rule is rules[-1] and rule.when is not None:
            problems.append(node.problem("the table is not total", "end it with {id: …, otherwise: OUTCOME}"))
        if rule is not rules[-1] and rule.when is None:
            problems.append(node.problem("no rule after this one can ever be reached", "move it to the end"))


def _check_outcomes(root: Node, rules: Sequence[Rule], problems: list[Problem]) -> None:
    verdicts, holder = section(root, "verdicts"), root.get("verdicts") or root
    for rule in rules:
        if rule.then not in verdicts:
            node = rule.place.value["then" if rule.when else "otherwise"]
            text = f"'verdicts' does not say what '{rule.then}' counts as"
            problems.append(node.problem(text, suggest(rule.then, verdicts)))
    for name in verdicts:
        if name not in {rule.then for rule in rules}:
            problems.append(holder.key_problem(name, f"no rule leads to '{name}'", "remove it"))
    if verdicts and all(node.value == "PASS" for node in verdicts.values()):
        problems.append(holder.problem("every outcome counts as PASS", "a gate that cannot fail decides nothing"))


def _control(
    node: Node, over: Mapping[str, Node], rules: Sequence[Rule], problems: list[Problem]
) -> GateControl | None:
    head = decode(node, GateControlDoc, problems)
    if head is None:
        return None
    for key, value, known in (
        ("because", head.because, [rule.id for rule in rules]),
        ("expect", head.expect, [*(rule.then for rule in rules), "INVALID"]),
    ):
        if value not in known:
            problems.append(node.value[key].problem(f"no rule has '{value}'", suggest(value, known)))
    for alias in head.data:
        if alias not in over:
            hint = suggest(alias, over)
            problems.append(node.value["data"].key_problem(alias, f"unknown obligation '{alias}'", hint))
    return GateControl(head.expect, head.because, head.data, node)


def _check_covered(
    rules: Sequence[Rule | None], controls: Sequence[GateControl | None], problems: list[Problem]
) -> None:
    shown = {control.because for control in controls if control}
    for rule in rules:
        if rule and rule.id not in shown and None not in controls:
            problems.append(rule.place.problem(f"no control shows rule '{rule.id}' deciding", "add one"))


# --- deciding -----------------------------------------------------------------------------------


def decide_gate(gate: Gate, verdicts: Mapping[str, str], rules: Sequence[Rule] | None = None) -> tuple[str, Outcome]:
    """The outcome of the first rule that holds, and its verdict; a missing obligation is UNTESTED.

    An outcome that counts as PASS while an obligation was not measured is `INVALID`.
    """
    given = {alias: str(verdicts.get(alias, Verdict.UNTESTED)) for alias in gate.over}
    for rule in gate.rules if rules is None else rules:
        if rule.when is not None and not holds(rule.when, given.__getitem__):
            continue
        verdict = Verdict(gate.verdicts[rule.then])
        open_ = [f"{gate.over[a]} is {v}" for a, v in given.items() if v in UNMEASURED]
        values = {"gate": {"outcome": rule.then}, "over": given}
        if verdict == Verdict.PASS and open_:
            reason = f"{rule.then} cannot count as PASS while {' and '.join(open_)}"
            return "INVALID", Outcome(Verdict.INVALID, rule.id, reason, values)
        return rule.then, Outcome(verdict, rule.id, f"{rule.then} by {_why(rule, given)}", values)
    return "INVALID", Outcome(Verdict.INVALID, "", "no rule of the table holds")


def _why(rule: Rule, given: Mapping[str, str]) -> str:
    """The rule and the verdicts that make it decide: ``rule `missing`: pass1, pass10 UNTESTED; speed BLOCKED``."""
    if rule.when is None:
        return f"the last rule, `{rule.id}`: no earlier rule holds"
    aliases: dict[str, list[str]] = {}
    for alias in _telling(rule, given):
        aliases.setdefault(given[alias], []).append(alias)
    found = "; ".join(f"{', '.join(names)} {verdict}" for verdict, names in aliases.items())
    return f"rule `{rule.id}`: {found}"


def _telling(rule: Rule, given: Mapping[str, str]) -> list[str]:
    """The aliases whose verdicts make the rule decide, each once; all of them for the last rule."""
    if rule.when is None:
        return list(given)
    return list(dict.fromkeys(leaf.left for leaf in telling(rule.when, given.__getitem__)))


def prove_gate(gate: Gate) -> Proof:
    """Run every control; delete each rule, and break each condition and each part of one."""
    base = [decide_gate(gate, control.data) for control in gate.controls]
    results = tuple(
        ControlResult(c.expect, c.because, "", replace(outcome, verdict=name), c.place)  # type: ignore[arg-type]
        for c, (name, outcome) in zip(gate.controls, base, strict=True)
    )
    survivors, tables = [], list(_mutants(gate))
    for kind, rule, rules in tables:
        found = (decide_gate(gate, control.data, rules) for control in gate.controls)
        if all((a, x.because) == (b, y.because) for (a, x), (b, y) in zip(found, base, strict=True)):
            text = f"no control notices when rule '{rule.id}' is {kind}"
            problem = rule.place.problem(text, "add a control that only this rule decides")
            survivors.append(Survivor(rule.id, kind, "", problem))
    return Proof(gate.id, results, len(tables), tuple(survivors))


def _mutants(gate: Gate) -> Iterator[tuple[str, Rule, tuple[Rule, ...]]]:
    for index, rule in enumerate(gate.rules):
        before, after = gate.rules[:index], gate.rules[index + 1 :]
        yield "deleted", rule, (*before, *after)
        for mutant in mutants((rule.when,), ()) if rule.when else ():
            changed = mutant.attempts[0]
            if changed and not mutant.kind.startswith("given else"):
                part = f" {mutant.clause.left} {mutant.clause.op}".rstrip()
                yield f"{mutant.kind} at{part}", rule, (*before, replace(rule, when=changed[0]), *after)


def check_gate(gate: Gate, judgements: Sequence[Judgement], run: str = "", profile: str = "") -> Judgement:
    """The gate's verdict on the judgements of one check."""
    by_name = {f"{j.contract}/{j.subject}": j for j in judgements}
    by_name |= {j.obligation: j for j in judgements}
    proof = prove_gate(gate)
    verdicts = {alias: by_name[name].verdict for alias, name in gate.over.items() if name in by_name}
    _, outcome = decide_gate(gate, verdicts)
    remedy = _remedy(gate, outcome, by_name)
    if not proof.ok:
        outcome = Outcome(Verdict.INVALID, "proof", f"the gate is not proven: {proof.problems[0].message}")
        remedy = f"hrmctl contracts prove {gate.file}"
    return Judgement(
        contract=gate.id, contract_digest=gate.digest, title=gate.title, subject="gate", kind="gate",
        verdict=outcome.verdict, because=outcome.because, reason=outcome.reason, remedy=remedy,
        measured=outcome.measured, profile="", run=run,
    )  # fmt: skip


def _remedy(gate: Gate, outcome: Outcome, judged: Mapping[str, Judgement]) -> str:
    """The obligations that decided, and what would change their verdicts; empty where nothing stands against PASS."""
    names = [gate.over[alias] for alias in _deciding(gate, outcome)]
    absent = [name for name in names if name not in judged]
    if absent:
        profiles = dict.fromkeys(name.partition("@")[2] for name in absent if "@" in name)
        options = "".join(f" --profile {shlex.quote(profile)}" for profile in list(profiles)[:1])
        # By custom a gate stands beside the contracts that it is over.
        folder = shlex.quote(str(Path(gate.file).parent))
        return f"not judged in this check: {_listed(absent)}; hrmctl check {folder}{options}"
    if not names:
        return ""
    remedies = {judged[name].remedy for name in names}
    how = ", as their own lines say" if len(remedies) > 1 else f": {remedies.pop()}"
    return f"settle {_listed(names)}{how}".removesuffix(": ")


def _deciding(gate: Gate, outcome: Outcome) -> list[str]:
    """The aliases that stand against PASS: of those that made the rule decide, else of all."""
    if outcome.verdict == Verdict.PASS:
        return []
    given = {alias: str(verdict) for alias, verdict in outcome.measured["over"].items()}
    bad = [alias for alias, verdict in given.items() if verdict != Verdict.PASS]
    if outcome.verdict == Verdict.INVALID:
        return [alias for alias in bad if given[alias] in UNMEASURED]
    rule = next(rule for rule in gate.rules if rule.id == outcome.because)
    return [alias for alias in _telling(rule, given) if alias in bad] or bad


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
