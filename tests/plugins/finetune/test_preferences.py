"""`finetune` on preferences: recognised by their rows, with every choice of weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
from hrmctl_finetune import stage
from hrmctl_finetune.params import FinetuneParams

from hrmctl import Artifact, InputError
from hrmctl.testing import make_artifact
from tests.plugins.finetune.helpers import ROWS, curve, observed, train, write_rows

PAIRS = [
    {"prompt": row["prompt"], "chosen": row["completion"], "rejected": row["completion"].replace("return ", "")}
    for row in ROWS
]
SHORT: dict[str, Any] = {"steps": 8, "batch": 6, "max_length": 64, "lr": 3e-3}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("parent") / "model"
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 290)
    model = hrmctl_models.build("llama-tiny", len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1)
    hrmctl_models.save(model, tokenizer, folder)
    return make_artifact(folder, "model", "parent")


@pytest.mark.parametrize("settings", [{}, {"method": "lora", "rank": 4, "lr": 1e-2}, {"precision": "bf16"}])
def test_preferences_mean_dpo_from_ln_2_downwards(tmp_path: Path, parent: Artifact, settings: dict[str, Any]) -> None:
    inputs = {
        "data": write_rows(tmp_path / "d.jsonl", PAIRS),
        "validation": write_rows(tmp_path / "v.jsonl", PAIRS[::5]),
        "model": parent,
    }
    result, _ = train(tmp_path / "t", FinetuneParams(**{**SHORT, **settings}, eval_interval=4), **inputs)
    losses, margins = curve(result, "loss"), curve(result, "reward_margin")
    assert losses[0] == pytest.approx(math.log(2), rel=1e-5)
    assert margins[0] == pytest.approx(0, abs=1e-4)
    assert losses[-1] < losses[0] - 0.02
    assert margins[-1] > 0.04
    assert curve(result, "val_loss")[1] < curve(result, "val_loss")[0] < math.log(2)
    assert curve(result, "val_reward_accuracy")[1] == 1
    assert observed(result)["examples_seen"].payload["value"] == 8 * 6


def test_orpo_is_chosen_by_its_name(tmp_path: Path, parent: Artifact) -> None:
    data = write_rows(tmp_path / "d.jsonl", PAIRS)
    params = FinetuneParams(**SHORT, objective="orpo", orpo_lambda=0.5)
    result, context = train(tmp_path / "t", params, data=data, model=parent)
    for nll, odds, loss in zip(*(curve(result, n) for n in ("nll_loss", "odds_ratio_loss", "loss")), strict=True):
        assert loss == pytest.approx(nll + 0.5 * odds, rel=1e-5)
    assert curve(result, "loss")[-1] < curve(result, "loss")[0]
    assert not list(context.scratch.glob("reference*"))


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (ROWS, {"objective": "dpo"}, "objective dpo learns from preferences"),
        (PAIRS, {"objective": "sft"}, "objective sft learns from completions"),
        (ROWS, {"beta": 0.3}, "beta: only dpo has that, and the objective is sft"),
        (PAIRS, {"orpo_lambda": 0.3}, "orpo_lambda: only orpo has that, and the objective is dpo"),
        (PAIRS, {"loss_on": "all"}, "dpo compares completions, never prompts"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, parent: Artifact, rows: list[dict[str, str]], settings: dict[str, Any], message: str
) -> None:
    data = write_rows(tmp_path / "d.jsonl", rows)
    with pytest.raises(InputError, match=message):
        train(tmp_path / "t", FinetuneParams(**SHORT, **settings), data=data, model=parent)


# --- the reference ------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"method": "lora", "rank": 4}, {"precision": "bf16"}, {"ema": 0.5}])
def test_the_reference_is_weighed_before_and_after(tmp_path: Path, parent: Artifact, settings: dict[str, Any]) -> None:
    data = write_rows(tmp_path / "d.jsonl", PAIRS)
    found = observed(train(tmp_path / "t", FinetuneParams(**{**SHORT, **settings}), data=data, model=parent)[0])
    changed = found["reference_changed"].payload
    assert changed["value"] == 0
    assert changed["n"] > 10
    assert changed["context"]["before"] == changed["context"]["after"]
    assert found["reference_drift"].payload["n"] == len(PAIRS)
    # A pair may be padded differently then and now: rounding, no more.
    assert found["reference_drift"].payload["value"] < (0.5 if "precision" in settings else 1e-4)
    assert 0 < found["policy_changed"].payload["value"] <= found["policy_changed"].payload["n"]
    assert set(found["reference_changed"].about) == {"model", "dataset"}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_reference_that_changed_is_seen(
    tmp_path: Path, parent: Artifact, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    data = write_rows(tmp_path / "d.jsonl", PAIRS)

    def spoiled(model: Any, *rest: Any) -> Any:
        training = fit(model, *rest)
        weights = stage._start(params, parent, (data,), None)[0] if method == "full" else model
        name, weight = next((n, w) for n, w in weights.named_parameters() if method == "full" or not w.requires_grad)
        weight.data[0] += 1
        monkeypatch.setattr(stage, "_start", lambda *_: (weights, None))
        assert name
        return training

    fit = stage.fit
    params = FinetuneParams(**SHORT, method=method)
    monkeypatch.setattr(stage, "fit", spoiled)
    found = observed(train(tmp_path / "t", params, data=data, model=parent)[0])
    changed = found["reference_changed"].payload
    assert changed["value"] == 1
    assert changed["context"]["before"] != changed["context"]["after"]
    assert found["reference_drift"].payload["value"] > 1e-3


def test_other_numbers_than_those_of_the_reference_are_seen(
    tmp_path: Path, parent: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(model: Any, objective: Any, examples: Any, *rest: Any) -> Any:
        training = fit(model, objective, examples, *rest)
        examples.log_probs[3, 1] += 0.25
        return training

    fit = stage.fit
    monkeypatch.setattr(stage, "fit", spoiled)
    data = write_rows(tmp_path / "d.jsonl", PAIRS)
    found = observed(train(tmp_path / "t", FinetuneParams(**SHORT), data=data, model=parent)[0])
    assert found["reference_changed"].payload["value"] == 0
    assert found["reference_drift"].payload["value"] == pytest.approx(0.25, abs=1e-3)


def test_without_a_reference_nothing_is_said_of_one(tmp_path: Path, parent: Artifact) -> None:
    params = FinetuneParams(**SHORT, objective="orpo")
    result, _ = train(tmp_path / "t", params, data=write_rows(tmp_path / "d.jsonl", PAIRS), model=parent)
    assert not [name for name in observed(result) if name.startswith(("reference", "policy"))]
