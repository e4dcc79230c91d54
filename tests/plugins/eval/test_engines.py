"""The stage with vLLM as its engine: no vLLM here, so a stand-in of its server answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_eval.params import EvalParams, TransformersParams
from hrmctl_eval.reference_engine import iter_generate
from hrmctl_eval.stage import run, run_transformers

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


def test_transformers_own_generation_writes_what_the_engine_writes(tmp_path: Path) -> None:
    ours, theirs = (
        _evaluated(tmp_path / "ours", stop=("return",)),
        _evaluated(tmp_path / "theirs", engine="transformers"),
    )
    assert [row["tokens"] for row in rows_of(theirs)] == [6] * 4
    for mine, its in zip(rows_of(ours), rows_of(theirs), strict=True):
        assert its["text"].startswith(mine["text"])
        assert its["reason"] == "length"
    assert observed(theirs)["samples"].payload["engine"] == "transformers"


def test_transformers_generation_is_cut_at_a_stop_and_refuses_what_has_no_room(tmp_path: Path) -> None:
    loaded = hrmctl_models.load(_trained(tmp_path))
    steps: list[int] = []
    prompts = [PROBLEMS[0]["prompt"], "x " * 5000]
    settings: dict[str, Any] = {"max_new_tokens": 12, "on_step": steps.append}
    (_, [whole]), (_, [refused]) = iter_generate(loaded, prompts, stop=(), **settings)
    assert (refused.reason, refused.text) == ("refused", "")
    mark = whole.text[3:6]
    [(_, [cut])] = iter_generate(loaded, prompts[:1], stop=("\0", mark), **settings)
    assert (cut.text, cut.reason) == (whole.text[: whole.text.index(mark)], "stop")
    assert steps == [12, 12]


def _trained(folder: Path) -> Path:
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] + row["completion"] for row in PROBLEMS], 290)
    model = hrmctl_models.build("gpt2-micro", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1)
    hrmctl_models.save(model, tokenizer, folder / "model")
    return folder / "model"


def test_the_comparison_is_a_stage_whose_settings_are_fixed(tmp_path: Path) -> None:
    given = {
        "tasks": (dataset(tmp_path / "a.jsonl", PROBLEMS[:3], "a@test"),),
        "model": make_artifact(_trained(tmp_path), "model", "gpt2-micro"),
    }
    found = observed(run_transformers(TransformersParams(max_new_tokens=6), given, make_context(tmp_path)))
    assert found["temperature"].payload["value"] == 0
    assert found["solved"].payload == {"value": 0, "unit": "problems", "n": 3}
    assert "perplexity" not in found


@pytest.mark.parametrize("params", [{"temperature": 0.8}, {"temperature": 0, "samples": 2}])
def test_transformers_samples_nothing(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one greedy sample"):
        EvalParams(engine="transformers", **params)
