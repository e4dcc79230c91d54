"""Measures of a merge, from what it reports of each tensor: norms of its inputs and result, conflicts of sign."""

from __future__ import annotations

from collections.abc import Sequence

from hrmctl import Evidence, MeasureError
from hrmctl_statistics.params import NoParams, NormParams
from hrmctl_statistics.read import Values, curve, finite, record, whole

RESULT = "result"


def norm_deviation(evidence: Sequence[Evidence], params: NormParams) -> Values:
    """How far the norm of a merged tensor is from the range of its inputs' norms, as a share of the nearer end.

    Raises MeasureError without a curve `result` and two others, on tensors that differ between curves, on norms below
    zero, and where a result has a norm while every input is zero.
    """
    names = sorted(record(evidence[0].payload.get("series"), f"{evidence[0].name}.series"))
    inputs = [_norms(evidence[0], name) for name in names if name != RESULT]
    if len(inputs) < 2:
        raise MeasureError(f"{evidence[0].name} has the norms of {len(inputs)} inputs; a merge has at least 2")
    tensors, result = _norms(evidence[0], RESULT)
    if any(steps != tensors for steps, _ in inputs):
        raise MeasureError(f"{evidence[0].name}: the curves are of different tensors")
    columns = zip(*(norms for _, norms in inputs), strict=True)
    away = [_away(norm, min(of), max(of)) for norm, of in zip(result, columns, strict=True)]
    if None in away:
        raise MeasureError(f"tensor {tensors[away.index(None)]} is zero in every input and not in the result")
    distances = [distance for distance in away if distance is not None]
    worst = max(range(len(tensors)), key=distances.__getitem__)
    return finite(
        {
            "value": distances[worst],
            "n": len(tensors),
            "outside": sum(distance > params.tolerance for distance in distances),
            "worst": tensors[worst],
            "inputs": len(inputs),
        }
    )


def _norms(evidence: Evidence, name: str) -> tuple[tuple[int, ...], list[float]]:
    tensors, values = curve(evidence, name)
    norms = [v for v in values if v is not None and v >= 0]
    if len(norms) < len(values):
        raise MeasureError(f"{evidence.name}.{name} holds something that is no norm; all must be at least 0")
    return tensors, norms


def _away(norm: float, low: float, high: float) -> float | None:
    """0 within the range, the relative distance outside of it, None where everything but the norm is zero."""
    if low <= norm <= high:
        return 0.0
    nearer = low if norm < low else high
    return abs(norm - nearer) / nearer if nearer else None


def sign_conflicts(evidence: Sequence[Evidence], params: NoParams) -> Values:
    """Share of elements that got contributions of both signs, in the merged result and in the plain sum.

    Raises MeasureError on counts that are not whole, above the tensor's elements, or of different tensors.
    """
    tensors, elements = _counts(evidence[0], "elements")
    sides = {name: _counts(evidence[0], name) for name in (RESULT, "sum")}
    for name, (steps, counts) in sides.items():
        if steps != tensors:
            raise MeasureError(f"{evidence[0].name}: `{name}` and `elements` are of different tensors")
        over = [t for t, c, most in zip(tensors, counts, elements, strict=True) if c > most]
        if over:
            raise MeasureError(f"{evidence[0].name}: tensor {over[0]} has more conflicts in `{name}` than elements")
    total, result, plain = sum(elements), sum(sides[RESULT][1]), sum(sides["sum"][1])
    if not total:
        raise MeasureError(f"{evidence[0].name}: no element was merged")
    return finite(
        {
            "value": result / total,
            "result": result,
            "sum": plain,
            "sum_share": plain / total,
            "difference": (result - plain) / total,
            "n": total,
            "tensors": len(tensors),
        }
    )


def _counts(evidence: Evidence, name: str) -> tuple[tuple[int, ...], list[int]]:
    tensors, values = curve(evidence, name)
    return tensors, [whole(v, f"{evidence.name}.{name}: value") for v in values]
