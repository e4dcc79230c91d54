"""The stage `init`: fresh weights as a training would start from them, and what is refused before anything runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hrmctl_models
import pytest
import torch
from hrmctl_finetune.init_params import InitParams
from hrmctl_finetune.init_stage import run
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.plan import check_init
from safetensors.torch import load_file

from hrmctl import Artifact, InputError, StageResult
from hrmctl.plugins import catalog
from hrmctl.testing import make_artifact, make_context
from tests.plugins.finetune.helpers import observed, train, write_rows

TINY = InitParams("gpt2-micro", vocab_size=300, config={"n_layer": 1})


def _initialised(folder: Path, params: InitParams) -> tuple[StageResult, Artifact]:
    folder.mkdir()
    result = run(params, {"data": (write_rows(folder / "data.jsonl"),)}, make_context(folder))
    output = result.artifacts["model"]
    return result, make_artifact(output.path, "model", output.label)


def test_a_training_starts_from_these_very_weights_and_tokens(tmp_path: Path) -> None:
    _, start = _initialised(tmp_path / "init", TINY)
    setting = {"steps": 2, "batch": 4, "lr": 1e-3}
    by_name = FinetuneParams(init="gpt2-micro", vocab_size=300, config={"n_layer": 1}, **setting)
    first, _ = train(tmp_path / "by-name", by_name)
    second, _ = train(tmp_path / "by-model", FinetuneParams(**setting), model=start)
    ends = [load_file(one.artifacts["model"].path / "model.safetensors") for one in (first, second)]
    begun = load_file(start.path / "model.safetensors")
    assert ends[0].keys() == ends[1].keys() == begun.keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in begun)
    assert not torch.equal(begun["transformer.wte.weight"], ends[0]["transformer.wte.weight"])
    assert first.artifacts["model"].label == "gpt2-micro[n_layer=1]"
    assert second.artifacts["model"].label == start.label == "gpt2-micro[n_layer=1]@init"


def test_weights_are_written_in_the_dtype_asked_for_and_counted(tmp_path: Path) -> None:
    _, whole = _initialised(tmp_path / "float32", TINY)
    result, half = _initialised(tmp_path / "bfloat16", dataclasses.replace(TINY, dtype="bfloat16"))
    exact, rounded = (load_file(one.path / "model.safetensors") for one in (whole, half))
    assert {tensor.dtype for tensor in rounded.values()} == {torch.bfloat16}
    assert all(torch.equal(exact[name].bfloat16(), rounded[name]) for name in exact)
    counted = observed(result)["parameters"]
    assert counted.payload["value"] == sum(tensor.numel() for tensor in rounded.values())
    loaded = hrmctl_models.load(half.path, "cpu", dtype="bfloat16")
    ids = torch.tensor([loaded.tokenizer("# add 2\n")["input_ids"]])
    assert bool(loaded.model(input_ids=ids).logits.isfinite().all())


def test_an_unknown_architecture_or_setting_is_refused_with_the_nearest() -> None:
    known = catalog()
    (unknown,) = check_init(InitParams("llama-1"), {"data": 1}, known)
    assert unknown.key == "architecture"
    assert "llama-1b" in unknown.remedy
    (setting,) = check_init(InitParams("llama-1b", config={"hidden_sizes": 8}), {"data": 1}, known)
    assert setting.key == "config.hidden_sizes"
    assert "hidden_size" in setting.remedy
    assert not list(check_init(InitParams("llama-1b"), {"data": 1}, known))


def test_settings_that_make_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gpt2-micro cannot be built with"):
        _initialised(tmp_path / "odd", InitParams("gpt2-micro", vocab_size=300, config={"n_head": 7}))
