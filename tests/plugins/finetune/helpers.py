"""A small data set and a run of the stage, shared by the tests of `finetune`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.stage import run

from hrmctl import Artifact, Observation, StageResult
from hrmctl.testing import RecordingContext, make_artifact, make_context

ROWS = [
    {"prompt": f"# {verb} {k}\ndef f(n):\n", "completion": f"    return n {sign} {k}\n"}
    for k in range(2, 10)
    for verb, sign in (("add", "+"), ("subtract", "-"), ("multiply by", "*"))
]


def write_rows(path: Path, rows: Sequence[dict[str, Any]] = ROWS) -> Artifact:
    """A dataset artifact of these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return make_artifact(path, "dataset", "tiny@train")


def train(
    folder: Path, params: FinetuneParams, context: RecordingContext | None = None, **inputs: Artifact
) -> tuple[StageResult, RecordingContext]:
    """Run the stage in `folder` (on the small data set unless `data` is given)."""
    folder.mkdir(parents=True, exist_ok=True)
    context = context or make_context(folder)
    data = inputs.pop("data", None) or write_rows(folder / "data.jsonl")
    return run(params, {"data": (data,), **inputs}, context), context


def observed(result: StageResult) -> dict[str, Observation]:
    """The observations by name."""
    return {observation.name: observation for observation in result.evidence}


def curve(result: StageResult, name: str) -> list[float]:
    """The values of one training curve."""
    return list(observed(result)["training"].payload["series"][name]["values"])
