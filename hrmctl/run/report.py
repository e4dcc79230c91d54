"""Everything a report of one run shows, read back from the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrmctl import ledger
from hrmctl.errors import StoreError
from hrmctl.events import EvidenceReport, RunReport, StageFinished
from hrmctl.jsonio import canonical, loads, write_atomic
from hrmctl.model import CheckReport
from hrmctl.plugins import Catalog
from hrmctl.registry import resolve
from hrmctl.run.kept import kept_lock
from hrmctl.run.record import metric_rows, read_lock, whole_rows
from hrmctl.run.witness import Witness
from hrmctl.store import Store

_CURVES = ("loss", "val_loss")


def write_report(store: Store, catalog: Catalog, run: str, check: CheckReport | None) -> Path | None:
    """Write report.html into the run's folder; None when nothing was checked or no plugin draws pages."""
    spec = catalog.reporters.get("html")
    if spec is None or check is None:
        return None
    path = store.run_folder(run) / "report.html"
    write_atomic(path, resolve(spec.target)(run_report(store, run, check)))
    return path


def run_report(store: Store, run: str, check: CheckReport) -> RunReport:
    """The run's stages, curves and provenance beside its check. Raises StoreError as `require_as_judged`."""
    require_as_judged(store, check, [run])
    folder = store.run_folder(run)
    lock = read_lock(folder)
    stages = [
        StageFinished(run, name, stage["status"], _seconds(folder, name), stage["error"])
        for name, stage in lock["stages"].items()
    ]
    return RunReport(check, lock["name"], stages, _series(folder), _provenance(store, lock))


def evidence_report(store: Store, check: CheckReport) -> EvidenceReport:
    """The check with the evidence of its runs as they were judged, each piece once.

    Raises StoreError when any is missing or altered.
    """
    runs, locks = _runs(check), _judged_locks(store, check)
    digests = [d for run in runs for d in Witness(store, run, locks.get(run)).digests()]
    digests += [digest for judgement in check.judgements for digest in judgement.evidence]
    return EvidenceReport(check, [store.get_evidence(digest) for digest in dict.fromkeys(digests)])


def ledger_texts(store: Store, check: str) -> dict[str, str]:
    """By name of file, the ledger's rows from the first of `check` to the head, and the head; none if unrecorded."""
    place = ledger.head_path(store.ledger)
    # Read before the rows: what is recorded meanwhile lies beyond this head.
    head = place.read_text(encoding="utf-8") if place.exists() else ""
    rows = ledger.rows(store.ledger)[: loads(head)["seq"]] if head else []
    first = next((i for i, row in enumerate(rows) if row["check"] == check), len(rows))
    text = "".join(canonical(row) + "\n" for row in rows[first:])
    return {"ledger.jsonl": text, "ledger.head.json": head} if text else {}


def require_as_judged(store: Store, check: CheckReport, runs: Sequence[str] = ()) -> None:
    """Raises StoreError where one of `runs` (all of the check's when empty) has another lock than it was judged on."""
    locks = _judged_locks(store, check)
    for run in runs or _runs(check):
        if run in locks and Witness(store, run).text != locks[run]:
            text = f"run {run} is no longer what was judged: it was resumed, or its lock altered"
            raise StoreError(f"{text}; check it again: hrmctl check CONTRACTS --run {run}")


def _runs(check: CheckReport) -> list[str]:
    return sorted({j.run for j in check.judgements if j.run} or {check.run} - {""})


def _judged_locks(store: Store, check: CheckReport) -> dict[str, bytes]:
    """The lock of each run as the ledger says that the check judged it."""
    kept = {r["run"]: r["lock"] for r in ledger.rows(store.ledger) if r["check"] == check.check and r.get("lock")}
    return {run: kept_lock(store, digest) for run, digest in kept.items()}


def _seconds(folder: Path, stage: str) -> float:
    rows = whole_rows(folder / "events.jsonl")
    ends = [r for r in rows if r["event"] == "StageFinished" and r["stage"] == stage]
    return float(ends[-1]["seconds"]) if ends else 0.0


def _series(folder: Path) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    result: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in metric_rows(folder):
        for name in _CURVES:
            if name in row:
                steps, values = result.setdefault(row["stage"], {}).setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(row[name])
    return result


def _provenance(store: Store, lock: dict[str, Any]) -> dict[str, str]:
    shown = {
        "run": lock["run"],
        "recipe": lock["recipe"],
        "recipe digest": lock["recipe_digest"],
        "seed": str(lock["seed"]),
        "command": " ".join(["hrmctl", *lock["argv"]]),
        "started": lock["started"],
    }
    digests = [d for stage in lock["stages"].values() for d in stage["evidence"]]
    if digests:
        seen = store.get_evidence(digests[0]).provenance
        if seen is not None:
            shown |= {**seen.hardware, **seen.tools}
    return shown
