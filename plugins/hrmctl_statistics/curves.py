"""Measures of `series/v1` and `files/v1`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fnmatch import fnmatchcase

from hrmctl import Evidence, MeasureError
from hrmctl_statistics import estimators
from hrmctl_statistics.params import FilesParams, SeriesParams
from hrmctl_statistics.read import File, Values, curve, files, finite


def series(evidence: Sequence[Evidence], params: SeriesParams) -> Values:
    """Both ends of a curve, its extremes, slope per step and relative drop.

    Values that were not finite when they were recorded (null) are counted in `nonfinite` and left
    out. Raises MeasureError on a curve shorter than two windows, or a gap within a window.
    """
    steps, values = curve(evidence[0], params.metric)
    if len(values) < 2 * params.window:
        raise MeasureError(f"{params.metric} has {len(values)} points; two windows of {params.window} need more")
    head, tail = values[: params.window], values[-params.window :]
    if None in head or None in tail:
        raise MeasureError(f"{params.metric} was not finite within the first or last {params.window} points")
    points = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    finite_values = [v for _, v in points]
    first, last = _mean(head), _mean(tail)
    result: dict[str, float | int] = {
        "first": first,
        "last": last,
        "min": min(finite_values),
        "max": max(finite_values),
        "median": statistics.median(finite_values),
        "n": len(points),
        "slope": estimators.slope([s for s, _ in points], finite_values),
        "nonfinite": len(values) - len(points),
    }
    if first != 0:
        result["drop"] = (first - last) / abs(first)
    return finite(result)


def _mean(values: Sequence[float | None]) -> float:
    return math.fsum(v for v in values if v is not None) / len(values)


def total_bytes(evidence: Sequence[Evidence], params: FilesParams) -> Values:
    """Bytes of the files that match, added up. Raises MeasureError when none does."""
    found = _matching(evidence[0], params.match)
    return finite({"value": sum(f.bytes for f in found), "n": len(found)})


def count(evidence: Sequence[Evidence], params: FilesParams) -> Values:
    """Number of files that match, of `n` listed; zero is an answer."""
    listed = files(evidence[0])
    return {"value": sum(fnmatchcase(f.path, params.match) for f in listed), "n": len(listed)}


def _matching(evidence: Evidence, pattern: str) -> list[File]:
    found = [f for f in files(evidence) if fnmatchcase(f.path, pattern)]
    if not found:
        raise MeasureError(f"{evidence.name}: no file matches {pattern!r}")
    return found
