"""Two runs, or two stages of one, side by side: samples paired by problem, measurements as ratios, what differs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hrmctl import Evidence, InputError, MeasureError
from hrmctl.run.record import run_lock
from hrmctl.run.summary import Difference, differences
from hrmctl.store import Store
from hrmctl_statistics import estimators
from hrmctl_statistics.measurements import ratio
from hrmctl_statistics.params import CompareParams
from hrmctl_statistics.read import Problem, first_passed, measurement
from hrmctl_statistics.samples import discordance, paired

_GOOD = ("done", "cached")
Key = tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """A run, or one stage of it (empty: all of them), with what it measured: the stage's name beside each evidence."""

    run: str
    stage: str
    lock: Mapping[str, Any]
    evidence: Sequence[tuple[str, Evidence]]

    @property
    def text(self) -> str:
        """As the command line says it."""
        return f"{self.run}:{self.stage}" if self.stage else self.run

    def keyed(self, kind: str) -> dict[Key, Evidence]:
        """Evidence of one type by what makes it comparable: stage (where none was chosen), name, data set, roles."""
        found: dict[Key, Evidence] = {}
        seen: Counter[Key] = Counter()
        for stage, item in self.evidence:
            if item.type != kind:
                continue
            labels = item.provenance.labels if item.provenance else {}
            roles = ",".join(sorted(labels))
            key = ("" if self.stage else stage, item.name, labels.get("dataset", ""), roles)
            seen[key] += 1
            found[(*key, str(seen[key]))] = item
        return found


def side_of(store: Store, text: str) -> Side:
    """The side `RUN` or `RUN:STAGE`; without a run the latest. Raises InputError, StoreError."""
    name, _, stage = text.partition(":")
    run = name or store.latest_run()
    if run is None:
        raise InputError(f"{store.root} holds no run; make one with: hrmctl pipeline RECIPE")
    lock = run_lock(store, run)
    stages = lock["stages"]
    if stage and stage not in stages:
        raise InputError(f"run {run} has no stage '{stage}'; it has {', '.join(stages)}")
    chosen = {stage: stages[stage]} if stage else stages
    evidence = [
        (place, store.get_evidence(digest))
        for place, found in chosen.items()
        if found["status"] in _GOOD
        for digest in found["evidence"]
    ]
    return Side(run, stage, lock, evidence)


def sides_of(store: Store, a: str, b: str) -> tuple[Side, Side]:
    """Both sides. Raises InputError, also where they are one and the same."""
    left, right = side_of(store, a), side_of(store, b)
    if (left.run, left.stage) == (right.run, right.stage):
        raise InputError(f"{left.text} is compared with itself; name two runs, or two stages as RUN:STAGE")
    return left, right


def sample_pairs(left: Side, right: Side) -> list[tuple[str, Evidence, Evidence]]:
    """Samples of both sides that are of the same stage, name and data set; the only ones of each where none are."""
    ours, theirs = left.keyed("samples/v1"), right.keyed("samples/v1")
    shared = [key for key in ours if key in theirs]
    if not shared and len(ours) == len(theirs) == 1:
        return [(_name(next(iter(ours))), next(iter(ours.values())), next(iter(theirs.values())))]
    return [(_name(key), ours[key], theirs[key]) for key in shared]


def _name(key: Key) -> str:
    stage, name, dataset, *_ = key
    return " ".join(part for part in (stage, name, f"of {dataset}" if dataset else "") if part)


# --- samples ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    """How differences are judged."""

    ks: Sequence[int]
    resamples: int
    seed: int
    level: float


def compared(name: str, left: Evidence, right: Evidence, settings: Settings) -> dict[str, Any]:
    """One comparison as `--json` prints it.

    Raises MeasureError on sides that are not paired, InputError where a k is above the samples of a problem.
    """
    pairs = paired(left, right)
    fewest = min(min(a.n, b.n) for a, b in pairs)
    if max(settings.ks) > fewest:
        raise InputError(f"--k {max(settings.ks)}: {name} has problems with {fewest} samples only")
    table = _table(pairs)
    p = estimators.mcnemar(table["only_a"], table["only_b"]) if table and table["discordant"] else None
    return {
        "name": name,
        "problems": len(pairs),
        "samples": [min(a.n for a, _ in pairs), min(b.n for _, b in pairs)],
        "table": table,
        "mcnemar_p": p,
        "pass": [_pass(pairs, k, p, settings) for k in settings.ks],
        "rows": [_row(a, b) for a, b in pairs],
    }


def _table(pairs: Sequence[tuple[Problem, Problem]]) -> dict[str, int] | None:
    """Who passed at the first sample; None where several samples come without their outcomes."""
    try:
        return discordance(pairs)
    except MeasureError:
        return None


def _pass(
    pairs: Sequence[tuple[Problem, Problem]], k: int, mcnemar_p: float | None, settings: Settings
) -> dict[str, Any]:
    scores = [[estimators.pass_at_k(p.n, p.c, k) for p in side] for side in zip(*pairs, strict=True)]
    deltas = [a - b for a, b in zip(*scores, strict=True)]
    means = estimators.bootstrap_means(deltas, settings.resamples, settings.seed)
    low, high = estimators.percentile(means, settings.level)
    varied = round(max(deltas) - min(deltas), estimators.DECIMALS) > 0
    single = all(a.n == b.n == 1 for a, b in pairs)
    p = estimators.bootstrap_p(means) if varied else None
    delta = round(math.fsum(deltas) / len(deltas), estimators.DECIMALS)
    return {
        "k": k,
        "a": math.fsum(scores[0]) / len(pairs),
        "b": math.fsum(scores[1]) / len(pairs),
        "delta": delta,
        "lo": low if varied else None,
        "hi": high if varied else None,
        "bootstrap_p": p,
        # With one sample a problem the exact test is the one to ask; with several it would look at the first only.
        "verdict": _verdict(delta, (low, high), mcnemar_p if single else p, settings.level),
    }


def _verdict(delta: float, interval: tuple[float, float], p: float | None, level: float) -> str:
    """`better` or `worse` where interval and test agree; `undecided` else, and where there is no test."""
    if p is None or p > 1 - level or interval[0] <= 0 <= interval[1]:
        return "undecided"
    return "better" if delta > 0 else "worse"


def _row(a: Problem, b: Problem) -> dict[str, Any]:
    differ = a.c * b.n != b.c * a.n or _first(a) != _first(b)
    return {"id": a.id, "a": _cell(a), "b": _cell(b), "discordant": differ}


def _cell(problem: Problem) -> dict[str, Any]:
    return {"passed": problem.c, "samples": problem.n, "first": problem.outcomes[0] if problem.outcomes else None}


def _first(problem: Problem) -> bool | None:
    return first_passed(problem) if problem.outcomes or problem.n == 1 else None


# --- measurements ------------------------------------------------------------------------------------------------


def measurements(left: Side, right: Side) -> list[dict[str, Any]]:
    """Every measurement of the same name and role on both sides, first divided by second where units agree."""
    ours, theirs = left.keyed("measurement/v1"), right.keyed("measurement/v1")
    rows = []
    for key in (key for key in ours if key in theirs):
        try:
            a, b = measurement(ours[key]), measurement(theirs[key])
        except MeasureError:
            continue
        found = _ratio(ours[key], theirs[key])
        values = {"a": a.value, "b": b.value, "unit": a.unit, "unit_b": b.unit}
        rows.append({"name": _name(key), **values, **{name: found.get(name) for name in ("ratio", "lo", "hi")}})
    return rows


def _ratio(left: Evidence, right: Evidence) -> dict[str, float]:
    """The ratio with its interval; none of two units or by zero, and 1 of one observation that both sides share."""
    if left.digest == right.digest:
        return {"ratio": 1.0} if left.payload["value"] else {}
    try:
        found = dict(ratio([left, right], CompareParams()))
    except MeasureError:
        return {}
    return {"ratio": float(found["value"]), **{name: float(found[name]) for name in ("lo", "hi") if name in found}}


# --- what differs ------------------------------------------------------------------------------------------------


def differs(left: Side, right: Side) -> list[Difference]:
    """What the two sides are not made of alike, as `hrmctl runs diff` says it."""
    only = (left.stage or right.stage, right.stage or left.stage)
    return differences(left.lock, right.lock, only if left.stage or right.stage else None)
