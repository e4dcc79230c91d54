"""What every form says alike: words for verdicts, totals, headline figures, text that is safe to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hrmctl import CheckReport, Judgement, Verdict
from hrmctl.errors import explained

Value = float | int | bool | str
Measured = Mapping[str, Mapping[str, Value]]

NOTHING = "Nothing was checked, which is not a pass."
REFUTED_LINE = (
    "A refuted hypothesis is the tool working: the question was fixed before the run, it was measured, "
    "and the answer is no."
)

CLAIM_WORDS = {
    Verdict.PASS: "holds",
    Verdict.FAIL: "does not hold",
    Verdict.INVALID: "instrument broken",
    Verdict.BLOCKED: "blocked",
    Verdict.UNTESTED: "not measured",
    Verdict.INCONCLUSIVE: "undecided",
}
ANSWER_WORDS = CLAIM_WORDS | {Verdict.PASS: "supported", Verdict.FAIL: "refuted"}
ANSWERS = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
"""What answers a hypothesis."""
ORDER = tuple(sorted(Verdict, key=lambda verdict: (verdict != Verdict.PASS, -verdict.severity)))
"""PASS first, then from the worst to the mildest."""


def claims(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The judgements that must hold: acceptance contracts and gates."""
    return [j for j in judgements if j.kind != "hypothesis"]


def hypotheses(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The judgements that answer a question."""
    return [j for j in judgements if j.kind == "hypothesis"]


def word(judgement: Judgement) -> str:
    """The verdict in words: `holds` for a claim, `supported` for a hypothesis."""
    return (ANSWER_WORDS if judgement.kind == "hypothesis" else CLAIM_WORDS)[judgement.verdict]


def passed(judgement: Judgement) -> bool:
    """Whether a machine may show it green: a claim on PASS only, a hypothesis with any answer."""
    return judgement.verdict in (ANSWERS if judgement.kind == "hypothesis" else (Verdict.PASS,))


def runs(check: CheckReport) -> str:
    """Which runs a check is of, in words: ` of run r1`, ` of 2 runs`, nothing where no run said anything."""
    found = {j.run for j in check.judgements if j.run} or ({check.run} - {""})
    if len(found) == 1:
        return f" of run {min(found)}"
    return f" of {len(found)} runs" if found else ""


def several_runs(check: CheckReport) -> bool:
    """Whether the judgements are not all of one run, so that each has to say its own."""
    return len({j.run for j in check.judgements}) > 1


def attempts(judgement: Judgement) -> str:
    """How many different models were tried on this obligation: `2 attempts`, empty where nothing was measured."""
    return count(judgement.attempts, "attempt") if judgement.attempts else ""


def totals(judgements: Sequence[Judgement]) -> dict[Verdict, int]:
    """How many judgements have each verdict, in `ORDER`; verdicts that none has are left out."""
    counted = Counter(j.verdict for j in judgements)
    return {verdict: counted[verdict] for verdict in ORDER if counted[verdict]}


def tally(judgements: Sequence[Judgement]) -> str:
    """The totals in words: `10 hold, 1 does not hold, 2 not measured`."""
    counted = Counter(word(j) for j in sorted(judgements, key=lambda j: ORDER.index(j.verdict)))
    return ", ".join(f"{number} {plural(name, number)}" for name, number in counted.items())


def plural(name: str, number: int) -> str:
    """The word for a verdict as it follows a number: `1 holds`, `2 hold`."""
    many = {"holds": "hold", "does not hold": "do not hold"}
    return many.get(name, name) if number != 1 else name


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 claim`, `2 claims`; `plural` where it is irregular."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def conclusion(judgements: Sequence[Judgement]) -> str:
    """What the check came to: do the claims hold, and is an instrument broken?"""
    broken = sum(j.verdict == Verdict.INVALID for j in judgements)
    said = _holding(judgements)
    return f"{said} {count(broken, 'instrument is', 'instruments are')} broken." if broken else said


def _holding(judgements: Sequence[Judgement]) -> str:
    required = claims(judgements)
    if not judgements:
        return NOTHING
    if not required:
        return f"No acceptance claims were checked, only {count(len(judgements), 'hypothesis', 'hypotheses')}."
    number = totals(required).get(Verdict.PASS, 0)
    if number < len(required):
        return f"{number} of {len(required)} acceptance claims {plural('holds', number)}."
    return "The one acceptance claim holds." if number == 1 else f"All {number} acceptance claims hold."


def plain(text: str) -> str:
    """`text` on one line, with every control, direction and surrogate character written as an escape."""
    return "".join(c if c.isprintable() else " " if c.isspace() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shown(value: Value) -> str:
    """A value to four significant digits, whole numbers whole; words as they are."""
    if isinstance(value, (bool, str)):
        return plain(str(value))
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def headline(name: str, values: Mapping[str, Value]) -> str:
    """The few figures of one measure that a reader wants first, with interval, p and n where there are any."""
    interval = f" [{shown(values['lo'])}, {shown(values['hi'])}]" if "lo" in values and "hi" in values else ""
    figures = [f"{key} {shown(values[key])}" for key in ("p", "mcnemar_p", "n") if key in values]
    return ", ".join([f"{plain(name)} {_main(values)}{interval}".rstrip(), *figures])


def _main(values: Mapping[str, Value]) -> str:
    if "value" in values:
        unit = values.get("unit", "")
        return f"{shown(values['value'])} {plain(str(unit))}".rstrip()
    if "first" in values and "last" in values:
        return f"{shown(values['first'])} → {shown(values['last'])}"
    return ", ".join(f"{plain(key)} {shown(value)}" for key, value in list(values.items())[:3])


def headlines(measured: Measured) -> list[str]:
    """The headline of every measure, in the order of the contract."""
    return [headline(name, values) for name, values in measured.items()]


def explanation(judgement: Judgement) -> str:
    """Why the verdict is what it is, empty where nothing is to be said."""
    return plain(explained(judgement.because, judgement.reason))
