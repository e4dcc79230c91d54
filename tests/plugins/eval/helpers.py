"""Problems made here, a model that has learned some of them by heart, and a run of the stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hrmctl_models
import torch
from hrmctl_eval.params import EvalParams
from hrmctl_eval.stage import run

from hrmctl import Artifact, Observation, StageResult
from hrmctl.testing import RecordingContext, make_artifact, make_context

_SIGNS = {"add": "+", "subtract": "-", "multiply by": "*"}


def problem(verb: str, k: int) -> dict[str, Any]:
    """A problem in the shape of microcode: the prefix opens the function, the completion is its body."""
    sign = _SIGNS[verb]
    header = "def f(n):\n"
    return {
        "task_id": f"tiny/{verb.split()[0]}-{k}",
        "text": f"{verb} {k}",
        "prompt": f"# {verb} {k}\n{header}",
        "prefix": header,
        "completion": f"    return n {sign} {k}\n",
        "entry_point": "f",
        "setup": "",
        "tests": [f"assert f({n}) == {n} {sign} {k}" for n in (0, 3, 10)],
        "source": "tiny",
        "meta": {},
    }


PROBLEMS = [problem(verb, k) for k in (2, 3, 5, 7) for verb in _SIGNS]
TAUGHT = PROBLEMS[:6]


@cache
def _weights() -> Any:
    """hrm-tiny after a hundred steps on the first six problems, which it then writes without fault."""
    tokenizer = hrmctl_models.train_tokenizer([p["prompt"] + p["completion"] for p in PROBLEMS], 290)
    model = hrmctl_models.build("hrm-tiny", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1)
    pairs = [hrmctl_models.encode_pair(tokenizer, p["prompt"], p["completion"]) for p in TAUGHT]
    longest = max(len(head) + len(tail) for head, tail in pairs) + 1
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    labels = torch.full((len(pairs), longest), -100)
    for row, (head, tail) in enumerate(pairs):
        end = len(head) + len(tail) + 1
        ids[row, :end] = torch.tensor([*head, *tail, 2])
        labels[row, len(head) : end] = ids[row, len(head) : end]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval(), tokenizer


def trained_model(folder: Path) -> Artifact:
    """That model as an artifact."""
    hrmctl_models.save(*_weights(), folder)
    return make_artifact(folder, "model", "hrm-tiny")


def dataset(path: Path, rows: Sequence[dict[str, Any]] = PROBLEMS, label: str = "tiny@test") -> Artifact:
    """A dataset artifact of these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return make_artifact(path, "dataset", label)


def evaluate(
    folder: Path, params: EvalParams, rows: Sequence[dict[str, Any]] = PROBLEMS, context: RecordingContext | None = None
) -> tuple[StageResult, RecordingContext]:
    """Run the stage in `folder`, on the trained model where the parameters ask for one."""
    folder.mkdir(parents=True, exist_ok=True)
    context = context or make_context(folder)
    inputs: dict[str, Any] = {"tasks": (dataset(folder / "tasks.jsonl", rows),)}
    if params.source == "model":
        inputs["model"] = trained_model(folder / "model")
    return run(params, inputs, context), context


def observed(result: StageResult) -> dict[str, Observation]:
    """The observations by name."""
    return {observation.name: observation for observation in result.evidence}


def rows_of(result: StageResult) -> list[dict[str, Any]]:
    """The rows of the samples file."""
    return [json.loads(line) for line in result.artifacts["samples"].path.read_text(encoding="utf-8").splitlines()]


def without_times(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows but for what a clock measured."""
    return [{key: value for key, value in row.items() if key not in ("cpu_seconds", "seconds")} for row in rows]
