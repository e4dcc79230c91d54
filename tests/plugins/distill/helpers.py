"""A teacher that knows a small data set, and a run of the stage, shared by the tests of `distill`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hrmctl_models
from hrmctl_distill.params import DistillParams
from hrmctl_distill.stage import run

from hrmctl import Artifact, Observation, StageResult
from hrmctl.testing import RecordingContext, make_artifact, make_context

IDS = {"bos": 1, "eos": 2, "pad": 0}
ROWS = [
    {"prompt": f"# {verb} {k}\ndef f(n):\n", "completion": f"    return n {sign} {k}\n"}
    for k in range(2, 10)
    for verb, sign in (("add", "+"), ("subtract", "-"), ("multiply by", "*"))
]


def write_rows(path: Path, rows: Sequence[dict[str, Any]] = ROWS, label: str = "tiny@train") -> Artifact:
    """A dataset artifact of these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return make_artifact(path, "dataset", label)


def write_model(folder: Path, name: str, seed: int, vocab_size: int = 290, text: str = "") -> Artifact:
    """A model artifact with fresh weights, and a tokenizer trained on the rows (or on `text`)."""
    # As finetune does it, so that it is the tokenizer of the teacher.
    texts = [text] if text else [text for row in ROWS for text in (row["prompt"], row["completion"])]
    tokenizer = hrmctl_models.train_tokenizer(texts, vocab_size)
    hrmctl_models.save(hrmctl_models.build(name, len(tokenizer), IDS, seed), tokenizer, folder)
    return make_artifact(folder, "model", name)


def distill(
    folder: Path, params: DistillParams, context: RecordingContext | None = None, **inputs: Artifact
) -> tuple[StageResult, RecordingContext]:
    """Run the stage in `folder` (on the small data set unless `data` is given)."""
    context = context or make_context(folder)
    data = inputs.pop("data", None) or write_rows(folder / "data.jsonl")
    return run(params, {"data": (data,), **inputs}, context), context


def observed(result: StageResult) -> dict[str, Observation]:
    """The observations by name."""
    return {observation.name: observation for observation in result.evidence}


def curve(result: StageResult, name: str) -> list[float]:
    """The values of one training curve."""
    return list(observed(result)["training"].payload["series"][name]["values"])


def weights(result: StageResult) -> bytes:
    """The bytes of the trained weights."""
    return (result.artifacts["model"].path / "model.safetensors").read_bytes()
