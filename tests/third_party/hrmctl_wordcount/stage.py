"""Count the words of a data set row by row, with a checkpoint after every row."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from hrmctl import Artifact, Context, Observation, Output, StageError, StageInputs, StageResult
from hrmctl_wordcount.params import WordcountParams


def run(params: WordcountParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Count the words. Raises StageError on a row that is no JSON object or lacks the field."""
    data: Artifact = inputs["data"]
    rows = data.path.read_text(encoding="utf-8").splitlines()
    state = ctx.scratch / "state.json"
    done, counts = _resume(state)
    for number in range(done, len(rows)):
        words = _text(rows[number], params.field, f"{data.label}:{number + 1}").split()
        counts.update(word for word in words if len(word) >= params.shortest)
        _save(state, {"done": number + 1, "counts": counts})
        ctx.progress(number + 1, len(rows), words=counts.total())
    report = ctx.scratch / "report.json"
    report.write_text(json.dumps(dict(sorted(counts.items())), ensure_ascii=False), encoding="utf-8")
    payload = {"value": counts.total(), "unit": "words", "n": max(1, len(rows))}
    seen = Observation("words", "measurement/v1", payload, about={"dataset": data})
    return StageResult({"report": Output(report, "words")}, [seen])


def _text(row: str, field: str, place: str) -> str:
    try:
        return str(json.loads(row)[field])
    except (ValueError, TypeError, KeyError) as error:
        raise StageError(f"{place}: no '{field}' ({type(error).__name__}); name another --field") from error


def _resume(state: Path) -> tuple[int, Counter[str]]:
    if not state.exists():
        return 0, Counter()
    saved = json.loads(state.read_text(encoding="utf-8"))
    return saved["done"], Counter(saved["counts"])


def _save(state: Path, value: dict[str, Any]) -> None:
    fresh = state.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, state)
