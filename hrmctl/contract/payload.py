"""Whether a payload is evidence at all: shape, finite numbers, no placeholders, counts that add up."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

PLACEHOLDERS = {"?", "??", "???", "-", "--", "...", "…", "n/a", "na", "nan", "inf", "-inf", "infinity"}
PLACEHOLDERS |= {"tbd", "tba", "todo", "fixme", "xxx", "placeholder", "unknown"}
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def fault(kind: str, payload: Any) -> str:
    """Why `payload` is no evidence of type `kind`, in one phrase; empty when it is."""
    if not isinstance(payload, Mapping):
        return "the payload is not a mapping"
    return next(_leaf_faults(payload), "") or next(_CHECKS[kind](payload), "")


def _leaf_faults(payload: Mapping[str, Any]) -> Iterator[str]:
    stack: list[tuple[str, Any]] = [("", payload)]
    while stack:
        where, value = stack.pop()
        if isinstance(value, Mapping):
            stack.extend((f"{where}.{key}".lstrip("."), value[key]) for key in reversed(list(value)))
        elif isinstance(value, (list, tuple)):
            if _says_something(value):
                continue
            stack.extend((where, child) for child in reversed(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{where} holds {value}, not a finite number"
        elif isinstance(value, str) and value.strip().lower() in PLACEHOLDERS:
            yield f"{where} holds the placeholder '{value}'"


def _says_something(items: Sequence[Any]) -> bool:
    """Whether all of `items` are texts and none a placeholder; most lists of a payload are such."""
    return set(map(type, items)) == {str} and PLACEHOLDERS.isdisjoint(map(str.lower, map(str.strip, items)))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _samples(payload: Mapping[str, Any]) -> Iterator[str]:
    problems = _items(payload.get("problems"))
    if not problems:
        yield "problems is empty"
    if "n" in payload and not _count(payload["n"], 1):
        yield f"n is {payload['n']!r}, not a count of at least 1"
    seen: set[str] = set()
    for problem in problems:
        yield from _problem(problem, payload.get("n"), seen)


def _problem(problem: Any, samples: Any, seen: set[str]) -> Iterator[str]:
    name = problem.get("id") if isinstance(problem, Mapping) else None
    if not isinstance(name, str) or not name:
        yield "a problem has no id"
        return
    n, c = problem.get("n"), problem.get("c")
    if name in seen:
        yield f"problem {name} occurs twice"
    seen.add(name)
    if not _count(n, 1) or not _count(c) or c > n:
        yield f"problem {name} says {c!r} of {n!r} passed"
    if samples is not None and n != samples:
        yield f"problem {name} has {n} samples, not {samples}"
    for key in ("outcomes", "completions"):
        texts = _items(problem.get(key))
        if key in problem and (len(texts) != n or not all(isinstance(text, str) for text in texts)):
            yield f"problem {name} has {n} samples, and its {key} are not as many texts"
    if "outcomes" in problem and _items(problem["outcomes"]).count("passed") != c:
        yield f"problem {name} says {c} of {n} passed, its outcomes say otherwise"


def _series(payload: Mapping[str, Any]) -> Iterator[str]:
    series = payload.get("series")
    if not isinstance(series, Mapping) or not series:
        yield "series is empty"
        return
    for name, curve in series.items():
        steps = _items(curve.get("steps")) if isinstance(curve, Mapping) else ()
        values = _items(curve.get("values")) if isinstance(curve, Mapping) else ()
        if not steps or len(steps) != len(values):
            yield f"series {name} has {len(steps)} steps and {len(values)} values"
        # null is how a stage records a value that was not finite; whether that may be is for a measure to say.
        elif not all(_count(step) for step in steps) or not all(v is None or _number(v) for v in values):
            yield f"series {name} holds something that is not a number"
        elif any(b <= a for a, b in pairwise(steps)):
            yield f"series {name} has steps out of order"


def _measurement(payload: Mapping[str, Any]) -> Iterator[str]:
    if not _number(payload.get("value")):
        yield f"value is {payload.get('value')!r}, not a number"
    if not isinstance(payload.get("unit"), str):
        yield "unit is missing"
    if not _count(payload.get("n"), 1):
        yield f"n is {payload.get('n')!r}, not a count of at least 1"
    trials = payload.get("trials", [0])
    if not _items(trials) or not all(_number(trial) for trial in trials):
        yield "trials is not a list of numbers"


def _files(payload: Mapping[str, Any]) -> Iterator[str]:
    files = _items(payload.get("files"))
    if not files:
        yield "files is empty"
    seen: set[str] = set()
    for file in files:
        path = file.get("path") if isinstance(file, Mapping) else None
        if not isinstance(path, str) or not path or path in seen:
            yield f"file path {path!r} is empty or occurs twice"
            return
        seen.add(path)
        if not _count(file.get("bytes")) or not _SHA256.match(str(file.get("sha256"))):
            yield f"file {path} lacks its bytes or sha256"


def _text(payload: Mapping[str, Any]) -> Iterator[str]:
    for key in ("prompt", "completion"):
        if not isinstance(payload.get(key), str):
            yield f"{key} is missing"


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "samples/v1": _samples,
    "series/v1": _series,
    "measurement/v1": _measurement,
    "files/v1": _files,
    "text/v1": _text,
}
