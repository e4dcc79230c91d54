"""What a run measured, in short: its losses, its measurements, and two runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from hrmctl import ledger
from hrmctl.jsonio import canonical
from hrmctl.model import Evidence
from hrmctl.run.record import metric_rows, run_lock
from hrmctl.store import Store

Lock = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Loss:
    """The first and the last value of a loss of one stage (None: not finite), and the step of each."""

    stage: str
    curve: str
    first: float | None
    last: float | None
    steps: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement/v1 of a run; `of` are the labels of what was measured."""

    stage: str
    name: str
    value: float
    unit: str
    n: int
    of: Sequence[str]
    digest: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in two runs; None where a run has none of it."""

    stage: str
    what: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs: what is different in their making, and what was measured and judged, side by side."""

    runs: tuple[str, str]
    differences: Sequence[Difference]
    measurements: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Mapping[str, Any]]


def evidence_of(store: Store, lock: Lock) -> Iterator[tuple[str, Evidence]]:
    """Every piece of a run with its stage, in the order of the plan."""
    return ((name, store.get_evidence(d)) for name, stage in lock["stages"].items() for d in stage["evidence"])


def losses(store: Store, lock: Lock) -> list[Loss]:
    """From the evidence of each stage, and from the rows reported so far where a stage has none yet."""
    found: dict[tuple[str, str], list[tuple[int, float | None]]] = {}
    for row in metric_rows(store.run_folder(lock["run"])):
        for name in (name for name in row if _is_loss(name)):
            found.setdefault((row["stage"], name), []).append((row["step"], row[name]))
    for stage, evidence in evidence_of(store, lock):
        curves = evidence.payload["series"] if evidence.type == "series/v1" else {}
        for name in (name for name in curves if _is_loss(name) and curves[name]["steps"]):
            found[stage, name] = list(zip(curves[name]["steps"], curves[name]["values"], strict=True))
    points = ((key, rows[0], rows[-1]) for key, rows in found.items())
    return [Loss(*key, first[1], last[1], (first[0], last[0])) for key, first, last in points]


def _is_loss(name: str) -> bool:
    return name == "loss" or name.endswith("_loss")


def measurements(store: Store, lock: Lock) -> list[Measured]:
    """All measurement/v1 of a run."""
    found = []
    for stage, e in evidence_of(store, lock):
        if e.type == "measurement/v1":
            of = list(e.provenance.labels.values()) if e.provenance else []
            found.append(Measured(stage, e.name, e.payload["value"], e.payload["unit"], e.payload["n"], of, e.digest))
    return found


def compare(store: Store, a: str, b: str) -> Comparison:
    """The two runs side by side. Raises StoreError when one is not there."""
    locks = run_lock(store, a), run_lock(store, b)
    return Comparison((a, b), differences(*locks), _measured(store, *locks), _verdicts(store, a, b))


_OF_RUN = ("name", "recipe", "recipe_digest", "settings", "seed", "status")
_OF_STAGE = ("uses", "version", "seed", "status")


def differences(a: Lock, b: Lock, only: tuple[str, str] | None = None) -> list[Difference]:
    """Where two runs are not made of the same; with `only`, of their stages one of each."""
    pairs = [only] if only else [(name, name) for name in dict.fromkeys([*a["stages"], *b["stages"]])]
    found = [Difference("", name, a.get(name), b.get(name)) for name in _OF_RUN]
    for pair in pairs:
        ours, theirs = (_facts(lock["stages"].get(name)) for lock, name in zip((a, b), pair, strict=True))
        place = ", ".join(dict.fromkeys(pair))
        found += [Difference(place, key, ours.get(key), theirs.get(key)) for key in ours | theirs]
    return [one for one in found if canonical(one.a) != canonical(one.b)]


def _facts(stage: Lock | None) -> dict[str, Any]:
    """What a stage was made of, each under a name of its own."""
    if stage is None:
        return {}
    found = {key: stage[key] for key in _OF_STAGE}
    params = ((name, value) for key, given in stage["params"].items() for name, value in _leaves(key, given))
    found |= {f"with.{name}" if name in found else name: value for name, value in params}
    found |= {f"input {name}": [a["digest"] for a in given] for name, given in stage["inputs"].items()}
    return found | {f"output {name}": output["digest"] for name, output in stage["outputs"].items()}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values inside nested mappings, each by its dotted path."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, child in value.items():
        yield from _leaves(f"{name}.{key}", child)


def _measured(store: Store, a: Lock, b: Lock) -> list[dict[str, Any]]:
    by_name: dict[tuple[str, str], tuple[list[Measured], list[Measured]]] = {}
    for side, lock in enumerate((a, b)):
        for one in measurements(store, lock):
            by_name.setdefault((one.stage, one.name), ([], []))[side].append(one)
    rows = []
    for (stage, name), sides in by_name.items():
        for left, right in zip_longest(*sides):
            some = left or right
            pair = {"a": left.value if left else None, "b": right.value if right else None}
            of = list(dict.fromkeys([*(left.of if left else ()), *(right.of if right else ())]))
            rows.append({"stage": stage, "name": name, "unit": some.unit, "of": of, **pair})
    return rows


def _verdicts(store: Store, a: str, b: str) -> list[dict[str, Any]]:
    sides = [_judged(store, run) for run in (a, b)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [{"obligation": name, "a": sides[0].get(name), "b": sides[1].get(name)} for name in names]


def _judged(store: Store, run: str) -> dict[str, str]:
    """Verdict by obligation of the latest check of a run, none where it was never checked."""
    rows = [row for row in ledger.rows(store.ledger) if row["run"] == run]
    latest = [row for row in rows if row["check"] == rows[-1]["check"]]
    return {_obligation(row): row["verdict"] for row in latest}


def _obligation(row: ledger.Row) -> str:
    return f"{row['contract']}/{row['subject']}" + (f"@{row['profile']}" if row["profile"] else "")
