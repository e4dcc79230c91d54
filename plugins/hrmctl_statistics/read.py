"""Evidence payloads as checked values. Nothing is repaired: what is not plainly a number is a MeasureError."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hrmctl import Evidence, MeasureError

PLACEHOLDERS = frozenset(
    ["", "?", "-", "tbd", "tba", "todo", "fixme", "n/a", "na", "nan", "none", "null", "unknown", "placeholder"]
)
LARGEST = 1e100
"""Sums and squares of anything smaller stay finite; nothing that is measured here comes near."""
SHA256 = re.compile(r"[0-9a-f]{64}")

Values = Mapping[str, float | int | bool | str]


@dataclass(frozen=True, slots=True)
class Measurement:
    """`measurement/v1`: one value in one unit over `n` ≥ 1 observations, with the repeated trials if there are any."""

    value: float | int
    unit: str
    n: int
    trials: tuple[float | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of `samples/v1`: `c` of `n` samples passed. `outcomes` and `completions` have n entries or none."""

    id: str
    n: int
    c: int
    outcomes: tuple[str, ...]
    completions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """One file of `files/v1`."""

    path: str
    bytes: int
    sha256: str


def number(raw: Any, what: str) -> float | int:
    """An int or float of at most 1e100. Raises MeasureError on booleans, strings, null, NaN and infinities."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise MeasureError(f"{what} is {raw!r}, not a number")
    if not abs(raw) <= LARGEST:
        raise MeasureError(f"{what} is not a finite number")
    return raw


def whole(raw: Any, what: str, least: int = 0) -> int:
    """An int of at least `least`. Raises MeasureError otherwise, also on 3.0."""
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise MeasureError(f"{what} is {raw!r}, not a whole number")
    if raw < least:
        raise MeasureError(f"{what} is {raw}; it must be at least {least}")
    return raw


def word(raw: Any, what: str) -> str:
    """A string that says something. Raises MeasureError on other types and on placeholders such as `TBD`."""
    if not isinstance(raw, str):
        raise MeasureError(f"{what} is {raw!r}, not text")
    if raw.strip().casefold() in PLACEHOLDERS:
        raise MeasureError(f"{what} is the placeholder {raw!r}")
    return raw


def words(raw: Any, what: str) -> tuple[str, ...]:
    """A list of strings that each say something. Raises MeasureError otherwise."""
    found = tuple(items(raw, what))
    if set(map(type, found)) == {str} and PLACEHOLDERS.isdisjoint(map(str.casefold, map(str.strip, found))):
        return found
    return tuple(word(item, what) for item in found)


def items(raw: Any, what: str) -> Sequence[Any]:
    """A list with at least one entry. Raises MeasureError otherwise."""
    if isinstance(raw, (str, bytes)) or not isinstance(raw, Sequence):
        raise MeasureError(f"{what} is not a list")
    if not raw:
        raise MeasureError(f"{what} is empty; there is nothing to measure")
    return raw


def record(raw: Any, what: str) -> Mapping[str, Any]:
    """A mapping. Raises MeasureError otherwise."""
    if not isinstance(raw, Mapping):
        raise MeasureError(f"{what} is {raw!r}, not an object")
    return raw


def finite(values: Values) -> Values:
    """`values` unchanged. Raises MeasureError when a computed number is not finite."""
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise MeasureError(f"the computed {name} is not a finite number")
    return values


def measurement(evidence: Evidence) -> Measurement:
    """The value of `measurement/v1` evidence, unit and trials included.

    Raises MeasureError on anything that is not a finite number, n < 1, a placeholder unit, or a
    value outside the range of its own trials.
    """
    payload = record(evidence.payload, evidence.name)
    value = number(payload.get("value"), f"{evidence.name}.value")
    n = whole(payload.get("n"), f"{evidence.name}.n", least=1)
    unit = payload.get("unit", "")
    if unit != "":
        unit = word(unit, f"{evidence.name}.unit")
    trials: tuple[float | int, ...] = ()
    if "trials" in payload:
        rows = items(payload["trials"], f"{evidence.name}.trials")
        trials = tuple(number(raw, f"{evidence.name}.trials[{i}]") for i, raw in enumerate(rows))
        _within(value, trials, evidence.name)
    return Measurement(value, unit, n, trials)


def _within(value: float, trials: Sequence[float], name: str) -> None:
    slack = 1e-9 * max(abs(t) for t in trials)
    if not min(trials) - slack <= value <= max(trials) + slack:
        raise MeasureError(f"{name}.value {value} lies outside its own trials ({min(trials)} to {max(trials)})")


def problems(evidence: Evidence) -> tuple[Problem, ...]:
    """The problems of `samples/v1` evidence in their own order.

    Raises MeasureError on no problems, repeated ids, counts that do not fit the outcomes, or a
    stated number of samples that is not the smallest found.
    """
    payload = record(evidence.payload, evidence.name)
    rows = items(payload.get("problems"), f"{evidence.name}.problems")
    found = tuple(_problem(raw, f"{evidence.name}.problems[{i}]") for i, raw in enumerate(rows))
    if len({p.id for p in found}) != len(found):
        raise MeasureError(f"{evidence.name}: a problem id occurs twice")
    fewest = min(p.n for p in found)
    if "n" in payload and whole(payload["n"], f"{evidence.name}.n", least=1) != fewest:
        raise MeasureError(f"{evidence.name}.n says {payload['n']} samples, the problems hold {fewest}")
    return found


def _problem(raw: Any, what: str) -> Problem:
    row = record(raw, what)
    name = word(row.get("id"), f"{what}.id")
    n = whole(row.get("n"), f"{name}: n", least=1)
    c = whole(row.get("c"), f"{name}: c")
    if c > n:
        raise MeasureError(f"{name}: {c} of {n} samples passed")
    outcomes = _column(row, "outcomes", n, name)
    if outcomes and outcomes.count("passed") != c:
        raise MeasureError(f"{name}: c is {c}, but {outcomes.count('passed')} outcomes are `passed`")
    return Problem(name, n, c, outcomes, _column(row, "completions", n, name))


def _column(row: Mapping[str, Any], key: str, n: int, name: str) -> tuple[str, ...]:
    if key not in row:
        return ()
    column = words(row[key], f"{name}: {key}")
    if len(column) != n:
        raise MeasureError(f"{name}: {len(column)} {key} for {n} samples")
    return column


def first_passed(problem: Problem) -> bool:
    """Whether the first sample passed. Raises MeasureError where several samples come without their outcomes."""
    if problem.outcomes:
        return problem.outcomes[0] == "passed"
    if problem.n > 1:
        raise MeasureError(f"{problem.id}: {problem.n} samples without outcomes; which one is the first is not known")
    return problem.c == 1


def curve(evidence: Evidence, metric: str) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """Steps and values of one curve of `series/v1`; None where a value was not finite (recorded as null).

    Raises MeasureError on an absent curve, unequal lengths, steps that do not increase, NaN.
    """
    series = record(record(evidence.payload, evidence.name).get("series"), f"{evidence.name}.series")
    if metric not in series:
        raise MeasureError(f"{evidence.name} has no curve {metric!r}; it has: {', '.join(sorted(series))}")
    what = f"{evidence.name}.{metric}"
    row = record(series[metric], what)
    steps = tuple(whole(raw, f"{what}: step") for raw in items(row.get("steps"), f"{what}.steps"))
    rows = items(row.get("values"), f"{what}.values")
    values = tuple(None if raw is None else number(raw, f"{what}: value") for raw in rows)
    if len(steps) != len(values):
        raise MeasureError(f"{what}: {len(steps)} steps and {len(values)} values")
    if any(b <= a for a, b in pairwise(steps)):
        raise MeasureError(f"{what}: steps do not increase")
    return steps, values


def ended(evidence: Evidence, metric: str, window: int = 1) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The curve as `curve` gives it. Raises MeasureError also where one of its last `window` points was not finite."""
    steps, values = curve(evidence, metric)
    lost = [s for s, v in zip(steps[-window:], values[-window:], strict=True) if v is None]
    if lost:
        raise MeasureError(f"{metric} was not finite at step {lost[0]}; how the curve ends is not known")
    return steps, values


def files(evidence: Evidence) -> tuple[File, ...]:
    """The files of `files/v1` evidence. Raises MeasureError on an empty list, repeated paths, bad sizes or digests."""
    rows = items(record(evidence.payload, evidence.name).get("files"), f"{evidence.name}.files")
    found = tuple(_file(raw, f"{evidence.name}.files[{i}]") for i, raw in enumerate(rows))
    if len({f.path for f in found}) != len(found):
        raise MeasureError(f"{evidence.name}: a path occurs twice")
    return found


def _file(raw: Any, what: str) -> File:
    row = record(raw, what)
    path = word(row.get("path"), f"{what}.path")
    digest = row.get("sha256")
    if not isinstance(digest, str) or not SHA256.fullmatch(digest):
        raise MeasureError(f"{path}: {digest!r} is not a sha256 digest")
    return File(path, whole(row.get("bytes"), f"{path}: bytes"), digest)


def distinct_evidence(left: Evidence, right: Evidence) -> None:
    """Raises MeasureError when both sides are one observation, or one subject observed alike by one stage run."""
    same = left is right or (left.digest != "" and left.digest == right.digest)
    if same or _observed_alike(left, right):
        raise MeasureError(f"{left.name} is compared with itself; name two different subjects")


def _observed_alike(left: Evidence, right: Evidence) -> bool:
    a, b = left.provenance, right.provenance
    if a is None or b is None or left.name != right.name:
        return False
    return (a.run, a.stage, a.key, dict(a.subjects)) == (b.run, b.stage, b.key, dict(b.subjects))
