"""Evidence for the tests of the measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hrmctl import Evidence, Provenance


def samples(passed: Sequence[int], n: int = 1, *, outcomes: bool = False, **extra: Any) -> Evidence:
    """`samples/v1` whose i-th problem has `passed[i]` of `n` passes; passes come first where outcomes are given."""
    rows = []
    for i, c in enumerate(passed):
        row: dict[str, Any] = {"id": f"t/{i}", "n": n, "c": c}
        if outcomes:
            row["outcomes"] = ["passed"] * c + ["wrong_answer"] * (n - c)
        rows.append(row)
    return Evidence("samples", "samples/v1", {"n": n, "problems": rows, **extra})


def measured(value: Any, unit: str = "bytes", n: Any = 1, **extra: Any) -> Evidence:
    """`measurement/v1`."""
    return Evidence("size", "measurement/v1", {"value": value, "unit": unit, "n": n, **extra})


def curve(values: Sequence[Any], steps: Sequence[int] | None = None) -> Evidence:
    """`series/v1` with one curve called loss."""
    steps = list(range(1, len(values) + 1)) if steps is None else steps
    return Evidence("training", "series/v1", {"series": {"loss": {"steps": steps, "values": list(values)}}})


def listing(**sizes: int) -> Evidence:
    """`files/v1`; a double underscore in a name is a dot."""
    rows = [{"path": name.replace("__", "."), "bytes": size, "sha256": "ab" * 32} for name, size in sizes.items()]
    return Evidence("files", "files/v1", {"files": rows})


def provenance(**changes: Any) -> Provenance:
    """Provenance of a benchmark stage, with changes."""
    given: dict[str, Any] = {
        "run": "r1",
        "stage": "bench",
        "uses": "benchmark",
        "key": "k1",
        "subjects": {"model": "m1"},
        "labels": {},
        "params_digest": "p",
        "seed": 7,
        "argv": (),
        "code_version": "1",
        "tools": {},
        "hardware": {},
        "started": "2025-01-01T00:00:00Z",
        "ended": "2025-01-01T00:00:01Z",
    }
    return Provenance(**(given | changes))
