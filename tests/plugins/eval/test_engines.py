"""The stage with vLLM as its engine: no vLLM here, so a stand-in of its server answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_eval.params import EvalParams
from hrmctl_eval.stage import run

from hrmctl import StageError, StageResult
from hrmctl.testing import make_artifact, make_context
from tests.plugins.eval.helpers import PROBLEMS, dataset, observed, rows_of

STANDIN = Path(__file__).parents[1] / "generate" / "vllm_standin.py"


def _evaluated(folder: Path, **params: Any) -> StageResult:
    folder.mkdir()
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] + row["completion"] for row in PROBLEMS], 290)
    model = hrmctl_models.build("qwen2-tiny", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1)
    hrmctl_models.save(model, tokenizer, folder / "model")
    inputs = {
        "tasks": (dataset(folder / "a.jsonl", PROBLEMS[:2], "a@test"), dataset(folder / "b.jsonl", PROBLEMS[2:4], "b")),
        "model": make_artifact(folder / "model", "model", "qwen2-tiny"),
    }
    return run(EvalParams(max_new_tokens=6, temperature=0, **params), inputs, make_context(folder))


def test_without_vllm_the_stage_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRMCTL_VLLM", "no-such-command")
    with pytest.raises(StageError, match=r"no-such-command.*install"):
        _evaluated(tmp_path / "vllm", engine="vllm")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_one_server_for_all_tasks_gives_what_the_other_engine_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, record = tmp_path / "vllm", tmp_path / "record.jsonl"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("HRMCTL_VLLM", str(command))
    monkeypatch.setenv("STANDIN_RECORD", str(record))
    ours, theirs = _evaluated(tmp_path / "ours"), _evaluated(tmp_path / "theirs", engine="vllm")
    assert [row["text"] for row in rows_of(theirs)] == [row["text"] for row in rows_of(ours)]
    assert all(row["seconds"] > 0 for row in rows_of(theirs))
    assert record.read_text().count('"argv"') == 1
    engines = [observed(result)["samples"].payload["engine"] for result in (ours, theirs)]
    assert engines == ["hrmctl", "vllm"]
    assert observed(theirs)["perplexity"].payload == observed(ours)["perplexity"].payload
