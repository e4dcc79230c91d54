"""What `hrmctl contracts lint` says of a contract that asks for more than its n can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from hrmctl import Problem
from hrmctl.contract.spec import Clause, Contract, Measure
from hrmctl.yamlio import Node

DISCORDANT = 0.2
"""Share of discordant problems that is assumed where a contract does not bound it."""
_AT_LEAST, _AT_MOST = ("ge", "gt"), ("le", "lt")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A comparison of one field of a measure with a number, as it is in a profile (empty: the contract itself)."""

    field: str
    op: str
    value: float
    profile: str
    clause: str
    place: Node

    def problem(self, message: str, remedy: str) -> Problem:
        """A warning at the number."""
        return self.place.problem(f"{self.clause or self.field}: {message}", remedy)


def thresholds(contract: Contract, measure: str, profile: str = "") -> Iterator[Threshold]:
    """The numbers that must hold all at once for `measure`; what is under `any` or `not` need not."""
    for clause in contract.clauses(profile):
        for leaf in _leaves(clause):
            name, _, field = leaf.left.partition(".")
            if name == measure and isinstance(leaf.right, (int, float)) and not isinstance(leaf.right, bool):
                yield Threshold(field, leaf.op, leaf.right, profile, leaf.id, _place(contract, leaf, profile))


def _leaves(clause: Clause) -> Iterator[Clause]:
    if clause.op == "all":
        for part in clause.parts:
            yield from _leaves(part)
    elif not clause.parts:
        yield clause


def _place(contract: Contract, clause: Clause, profile: str) -> Node:
    """Where the number is written: in the profile, or in the clause."""
    node = contract.place.get("profiles")
    for key in (profile, clause.id) if profile else ():
        node = node.get(key) if node is not None else None
    written = node if profile and node is not None else clause.place.get("right")
    return written or clause.place


def _own(contract: Contract, measure: str) -> Iterator[tuple[str, list[Threshold]]]:
    """The thresholds of the contract, and of each profile those that it changes."""
    for profile in ("", *contract.profiles):
        changed = contract.profiles.get(profile, {})
        found = list(thresholds(contract, measure, profile))
        yield profile, [t for t in found if not profile or t.clause in changed]


def _fixed(contract: Contract, measure: Measure, field: str, profile: str) -> float | None:
    """The number that a clause fixes for a field of the measure, or of another one of the same evidence.

    Of several that it allows (`in`), the greatest: what that cannot show, none of them can.
    """
    alike = [m.name for m in contract.measures.values() if set(m.of) & set(measure.of)]
    leaves = [leaf for clause in contract.clauses(profile) for leaf in _leaves(clause) if leaf.op in ("eq", "in")]
    for path in (f"{name}.{field}" for name in [measure.name, *alike]):
        rights = [right for leaf in leaves if leaf.left == path for right in leaf.rights()]
        numbers = [right for right in rights if isinstance(right, (int, float)) and not isinstance(right, bool)]
        if numbers and max(numbers) >= 1:
            return max(numbers)
    return None


# --- one proportion ----------------------------------------------------------------------------------------------


def proportion(contract: Contract, measure: Measure) -> Iterator[Problem]:
    """Bounds that no count reaches, and thresholds of profiles that lie closer together than the interval is wide."""
    yield from _bounds(contract, measure)
    yield from _profiles(contract, measure)


def _level(measure: Measure) -> float:
    return float(getattr(getattr(measure.params, "ci", measure.params), "level", 0.95))


def _is_wilson(measure: Measure) -> bool:
    return getattr(getattr(measure.params, "ci", None), "method", "wilson") == "wilson"


def _bounds(contract: Contract, measure: Measure) -> Iterator[Problem]:
    from hrmctl_statistics.estimators import wilson

    for profile, found in _own(contract, measure.name):
        n = _fixed(contract, measure, "n", profile)
        if n is None or not _is_wilson(measure):
            continue
        best, least = wilson(1.0, int(n), _level(measure))[0], wilson(0.0, int(n), _level(measure))[1]
        for one in found:
            beyond = one.value > best if one.op == "ge" else one.value >= best
            if one.field == "lo" and one.op in _AT_LEAST and beyond:
                text = (
                    f"{int(n)} of {int(n)} give a lower bound of {best:.4g}, below {one.value:g}; it cannot be reached"
                )
                yield one.problem(text, _shows(measure, n, one.value))
            below = one.value < least if one.op == "le" else one.value <= least
            if one.field == "hi" and one.op in _AT_MOST and below:
                text = f"0 of {int(n)} give an upper bound of {least:.4g}, above {one.value:g}; it cannot be reached"
                yield one.problem(text, _shows(measure, n, 1 - one.value))


def _shows(measure: Measure, n: float, at_least: float) -> str:
    alpha = round(1 - _level(measure), 6)
    extra = "" if alpha == 0.05 else f" --alpha {alpha:g}"
    bound = min(max(at_least, 1e-6), 0.999999)
    return f"hrmctl power --n {int(n)} --at-least {bound:g}{extra}"


def _profiles(contract: Contract, measure: Measure) -> Iterator[Problem]:
    from hrmctl_statistics.estimators import wilson

    by_clause: dict[str, list[Threshold]] = {}
    for _, found in _own(contract, measure.name):
        for one in found:
            if one.field == "value" and one.op in (*_AT_LEAST, *_AT_MOST) and one.clause and 0 < one.value < 1:
                by_clause.setdefault(one.clause, []).append(one)
    for of_clause in by_clause.values():
        for lower, upper in pairwise(sorted(of_clause, key=lambda one: one.value)):
            n = _fixed(contract, measure, "n", upper.profile) or _fixed(contract, measure, "n", lower.profile)
            if n is None or lower.value == upper.value:
                continue
            low, high = wilson(lower.value, int(n), _level(measure))
            if high - low > upper.value - lower.value:
                names = " and ".join(repr(one.profile) if one.profile else "the contract" for one in (lower, upper))
                text = f"at n = {int(n)} the interval at {lower.value:g} is {high - low:.3g} wide, and {names} are "
                text += f"{upper.value - lower.value:.3g} apart; a value near one tells little of the other"
                yield upper.problem(text, _shows(measure, n, lower.value))


# --- comparisons -------------------------------------------------------------------------------------------------


def comparison(contract: Contract, measure: Measure) -> Iterator[Problem]:
    """Differences below what n problems show, and p values below the least that there is."""
    for profile, found in _own(contract, measure.name):
        yield from _least_p(contract, measure, found, profile)
        yield from _differences(contract, measure, found, profile)


def _least_p(contract: Contract, measure: Measure, found: list[Threshold], profile: str) -> Iterator[Problem]:
    n = _fixed(contract, measure, "n", profile)
    exact = measure.fn == "holm" and measure.params.test == "mcnemar"
    drawn = f"no bootstrap p of {measure.params.resamples} resamples is below it"
    for one in found:
        if one.op not in _AT_MOST:
            continue
        least, why = 0.0, ""
        if one.field == "mcnemar_p" or (exact and one.field in ("value", "max", "min")):
            if n is not None and measure.fn != "clustered_delta":
                least, why = min(1.0, 2.0 ** (1 - n)), f"no exact McNemar p of {int(n)} problems is below it"
        elif one.field in ("p", "holm_p", "bootstrap_p") or (measure.fn == "holm" and one.field in ("value", "max")):
            least, why = 2 / (measure.params.resamples + 1), drawn
        if least > one.value or (one.op == "lt" and least == one.value):
            remedy = "give more resamples" if why is drawn else f"hrmctl power --n {int(n or 1)} --discordant 1"
            yield one.problem(f"asks for {one.value:g}, and the least p is {least:.3g}: {why}", remedy)


def _differences(contract: Contract, measure: Measure, found: list[Threshold], profile: str) -> Iterator[Problem]:
    asked = [one for one in found if one.field in ("value", "lo", "hi") and 0 < abs(one.value) < 1]
    n, seeds, samples = (_fixed(contract, measure, field, profile) for field in ("n", "seeds", "samples"))
    # Several samples a problem make its difference less than one toss of a coin; how much less is not known here.
    if measure.fn == "holm" or not asked or n is None or (samples or 1) > 1:
        return
    if measure.fn == "clustered_delta" and seeds is None:
        return
    share = _discordant(contract, measure, profile)
    smallest, command = _detectable(measure, int(n), int(seeds or 0), share)
    for one in asked:
        if smallest is None or abs(one.value) < smallest:
            shown = "no difference" if smallest is None else f"{smallest:.4f}"
            text = f"asks for {one.value:g}, and {int(n)} problems show {shown} with 80 % power"
            yield one.problem(f"{text} where {100 * share:.3g} % of them are discordant", command)


def _discordant(contract: Contract, measure: Measure, profile: str) -> float:
    """The greatest share of discordant problems that the contract allows, else the assumed one."""
    n = _fixed(contract, measure, "n", profile)
    bounds = [
        one.value
        for one in thresholds(contract, measure.name, profile)
        if one.field == "discordant" and one.op in (*_AT_MOST, "eq")
    ]
    return min(1.0, max(1e-6, min(bounds) / n)) if bounds and n else DISCORDANT


def _detectable(measure: Measure, n: int, seeds: int, share: float) -> tuple[float | None, str]:
    """The smallest difference shown with 80 % power and the command that says so; of seeds, if they did not differ."""
    from hrmctl_statistics.power import clustered, detectable

    comparisons, level = len(measure.of) - 1, float(measure.params.level)
    alpha = 1 - level
    command = f"hrmctl power --n {n} --discordant {share:g}"
    command += "" if round(alpha, 6) == 0.05 else f" --alpha {alpha:.3g}"
    if measure.fn != "clustered_delta":
        return detectable(n, share, alpha), command
    command += f" --seeds {seeds} --sd-seeds 0" + (f" --comparisons {comparisons}" if comparisons > 1 else "")
    return clustered(n, max(2, seeds), share, 0.0).detectable(1 - alpha / comparisons), command
