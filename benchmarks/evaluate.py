"""How long 500 MBPP problems x 10 samples take end to end, and where the time goes: `python benchmarks/evaluate.py`.

Runs the stage `eval` of recipes/mbpp-smoke.yaml through the command line, as anybody would, on a tiny HRM that is
first trained for a short while (or on --model FOLDER), and reads the times from the run's own record:
events, progress rows and evidence. Nothing is simulated; programs run in the sandbox.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "recipes/mbpp-smoke.yaml"
STAGE = "eval-hrm"
TERMINAL = sys.stderr


def pipeline(asked: argparse.Namespace, store: Path, stage: str) -> tuple[float, float]:
    """Run one stage and what it needs, without contracts; when the command began and ended, seconds since 1970."""
    settings = {
        "vars.mbpp": asked.mbpp.resolve() if asked.mbpp else "",
        "vars.steps": asked.steps,
        "vars.limit": asked.limit,
        f"stages.{STAGE}.with.samples": asked.samples,
        f"stages.{STAGE}.with.k": f"[1, {asked.samples}]",
        f"stages.{STAGE}.with.max_new_tokens": asked.max_new_tokens,
    }
    if asked.model:
        settings[f"stages.{STAGE}.with.model"] = asked.model.resolve()
    if asked.threads:
        settings[f"stages.{STAGE}.threads"] = asked.threads
    command = [sys.executable, "-m", "hrmctl", "pipeline", RECIPE, "--store", str(store), "--only", stage]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    begun = time.time()
    done = subprocess.run(command, cwd=ROOT, stdout=TERMINAL, check=False)
    ended = time.time()
    if done.returncode:
        raise SystemExit(f"hrmctl ended with {done.returncode}")
    return begun, ended


@dataclass(frozen=True)
class Record:
    """What the run wrote down about the stage."""

    events: Sequence[dict[str, Any]]
    progress: Sequence[dict[str, Any]]
    evidence: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> Record:
        """Read the folder of one run."""
        events = _rows(folder / "events.jsonl")
        progress = [row for row in _rows(folder / "metrics.jsonl") if row["stage"] == STAGE]
        found = {}
        for path in folder.glob(f"evidence/{STAGE}.*.json"):
            content = json.loads(path.read_text())
            found[content["name"]] = content
        return cls(events, progress, found)

    def event(self, kind: str) -> float:
        """When the event of that kind about the stage came."""
        return next(_time(row["time"]) for row in self.events if row["event"] == kind and row["stage"] == STAGE)

    def reached(self, name: str) -> float:
        """When the progress rows first showed the greatest value of `name`."""
        most = max(row.get(name, 0) for row in self.progress)
        return next(_time(row["time"]) for row in self.progress if row.get(name, 0) == most)

    def first_tokens(self) -> float:
        """When the first progress row with tokens came."""
        return next(_time(row["time"]) for row in self.progress if row.get("tokens"))

    def value(self, name: str) -> float:
        """The value of a measurement."""
        return float(self.evidence[name]["payload"]["value"])

    def provenance(self, name: str) -> float:
        """When the stage's own function `started` or `ended`."""
        return _time(self.evidence["samples"]["provenance"][name])


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def phases(record: Record, begun: float, ended: float) -> dict[str, float]:
    """Seconds of each phase, one after the other: together the whole command. Good to a quarter of a second."""
    generated = record.reached("tokens")
    judged = max(generated, record.reached("step"))
    marks = {
        "start of the command, plan, store": record.event("StageStarted"),
        "start of the stage's process": record.provenance("started"),
        "imports, model, first tokens": record.first_tokens(),
        "generating, judging meanwhile": generated,
        "judging what was left": judged,
        "scoring references, evidence, samples": record.provenance("ended"),
        "storing, report, exit": ended,
    }
    edges = pairwise([begun, *marks.values()])
    return {name: after - before for name, (before, after) in zip(marks, edges, strict=True)}


def report(record: Record, begun: float, ended: float) -> dict[str, Any]:
    """Print the phases and what was done in them."""
    found = phases(record, begun, ended)
    payload = record.evidence["samples"]["payload"]
    outcomes = [outcome for problem in payload["problems"] for outcome in problem["outcomes"]]
    tokens, generate, judge = (record.value(name) for name in ("tokens_generated", "generate_seconds", "judge_seconds"))
    total = ended - begun
    print(f"{len(payload['problems'])} problems x {payload['n']}: {total:.1f} s, {len(outcomes) / total:.1f} samples/s")
    for name, seconds in found.items():
        print(f"  {seconds:7.1f} s  {seconds / total:4.0%}  {name}")
    print(f"  {tokens / len(outcomes):.1f} tokens a sample; engine {generate:.1f} s, {tokens / generate:.0f} tokens/s")
    print(f"  judge busy {judge:.1f} s, sandbox {payload['mode']}, syntax rate {record.value('syntax_rate'):.2f}")
    counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    print(f"  outcomes {counts}")
    return {
        "problems": len(payload["problems"]),
        "samples": payload["n"],
        "seconds": total,
        "phases": found,
        "tokens": tokens,
        "generate_seconds": generate,
        "judge_seconds": judge,
        "mode": payload["mode"],
        "outcomes": counts,
        "cores": os.cpu_count(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("HRMCTL_TEST_DATA")
    known = Path(folder) / "mbpp.jsonl" if folder else None
    parser.add_argument("--mbpp", type=Path, default=known, help="mbpp.jsonl; where there is none it is downloaded")
    parser.add_argument("--model", type=Path, help="a model folder; otherwise a tiny HRM is trained first")
    parser.add_argument("--steps", type=int, default=200, help="training steps of the tiny HRM")
    parser.add_argument("--limit", type=int, default=0, help="only the first N problems")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0, help="of the stage; 0 for its share of the machine")
    parser.add_argument("--store", type=Path, help="keep the store here, and with it the trained model")
    parser.add_argument("--out", type=Path, help="write what was measured as JSON")
    return parser.parse_args()


def main() -> None:
    """Train if need be, then time the evaluation."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or Path(folder) / "store"
        if not asked.model:
            pipeline(asked, store, "hrm")
        begun, ended = pipeline(asked, store, STAGE)
        run = max((store / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
        record = Record.of(run)
        if not record.progress:
            raise SystemExit("the evaluation came from the store's cache; there is nothing to time")
        measured = report(record, begun, ended)
    if asked.out:
        asked.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
