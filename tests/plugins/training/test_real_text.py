"""Preference training and distillation on real text: MBPP's programs and WikiText-2. `-s` prints the figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hrmctl_distill.params import DistillParams
from hrmctl_distill.stage import run as distill
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.stage import run as finetune

from hrmctl import Artifact, StageResult
from hrmctl.testing import make_artifact, make_context

pytestmark = pytest.mark.slow
MBPP_TRAIN = range(601, 975)


def _curves(result: StageResult) -> dict[str, list[float]]:
    series = next(o for o in result.evidence if o.name == "training").payload["series"]
    return {name: curve["values"] for name, curve in series.items()}


def _rows(path: Path, rows: list[dict[str, Any]], label: str) -> Artifact:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return make_artifact(path, "dataset", label)


def _model(result: StageResult) -> Artifact:
    output = result.artifacts["model"]
    return make_artifact(output.path, "model", output.label)


def _show(name: str, values: list[float], every: int) -> None:
    print(f"{name:>24}: {' '.join(f'{value:.3f}' for value in [*values[::every], values[-1]])}")


@pytest.fixture(scope="module")
def problems(shared_data: Path) -> list[dict[str, Any]]:
    """The shorter training problems of MBPP."""
    rows = [json.loads(line) for line in (shared_data / "mbpp.jsonl").read_text("utf-8").splitlines()]
    return [row for row in rows if row["task_id"] in MBPP_TRAIN and len(row["code"]) < 160]


@pytest.fixture(scope="module")
def base(problems: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A model that has seen the programs for a while."""
    folder = tmp_path_factory.mktemp("base")
    rows = [{"prompt": row["text"] + "\n", "completion": row["code"]} for row in problems]
    params = FinetuneParams(init="llama-tiny", steps=50, batch=8, lr=5e-3, max_length=128)
    result = finetune(params, {"data": (_rows(folder / "d.jsonl", rows, "mbpp@train"),)}, make_context(folder))
    _show("base: loss", _curves(result)["loss"], 20)
    return _model(result)


@pytest.mark.parametrize("objective", ["dpo", "orpo"])
def test_preferences_of_real_programs_are_learned(
    objective: str, problems: list[dict[str, Any]], base: Artifact, tmp_path: Path
) -> None:
    # Chosen is the problem's own reference, rejected the reference of the next problem.
    rows = [
        {"prompt": row["text"] + "\n", "chosen": row["code"], "rejected": other["code"]}
        for row, other in zip(problems, [*problems[1:], problems[0]], strict=True)
    ]
    train, held = rows[:-40], rows[-40:]
    inputs = {
        "model": base,
        "data": (_rows(tmp_path / "d.jsonl", train, "mbpp-pairs@train"),),
        "validation": _rows(tmp_path / "v.jsonl", held, "mbpp-pairs@held"),
    }
    params = FinetuneParams(
        objective=objective,  # type: ignore[arg-type]
        **{"steps": 50, "batch": 8, "lr": 4e-4, "max_length": 128, "eval_interval": 25},
    )
    curves = _curves(finetune(params, inputs, make_context(tmp_path)))
    for name in ("loss", "reward_margin", "reward_accuracy", "logp_chosen", "logp_rejected"):
        _show(f"{objective}: {name}", curves[name], 10)
    for name in ("val_loss", "val_reward_margin", "val_reward_accuracy"):
        _show(f"{objective}: {name}", curves[name], 1)
    if objective == "dpo":
        assert curves["loss"][0] == pytest.approx(math.log(2), rel=1e-5)
        assert sum(curves["loss"][-5:]) / 5 < 0.6
    assert sum(curves["loss"][-5:]) < sum(curves["loss"][:5])
    assert sum(curves["reward_margin"][-5:]) > sum(curves["reward_margin"][:5])


def test_a_teacher_helps_on_real_text(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "wikitext2-test.txt").read_text("utf-8")
    (tmp_path / "train.txt").write_text(text[:500_000], "utf-8")
    (tmp_path / "held.txt").write_text(text[-40_000:], "utf-8")
    train = make_artifact(tmp_path / "train.txt", "dataset", "wikitext2[:500k]")
    held = make_artifact(tmp_path / "held.txt", "dataset", "wikitext2[-40k:]")
    common: dict[str, Any] = {"batch": 8, "max_length": 128, "packing": "pack", "lr": 5e-3}
    inputs = {"data": (train,), "validation": held}
    (tmp_path / "teacher").mkdir()
    params = FinetuneParams(init="gpt2-tiny", steps=200, **common)
    taught = finetune(params, inputs, make_context(tmp_path / "teacher"))
    print(f"teacher: val_loss {_curves(taught)['val_loss'][-1]:.3f}")
    found: dict[float, list[float]] = {0.0: [], 0.7: []}
    for seed in (0, 1):
        for alpha, losses in found.items():
            context = make_context(tmp_path / f"{seed}-{alpha}", seed=seed)
            arm = DistillParams(init="llama-tiny", steps=60, alpha=alpha, temperature=1.5, **common)
            curves = _curves(distill(arm, {"teacher": _model(taught), **inputs}, context))
            losses.append(curves["val_loss"][-1])
            agreement = curves["val_teacher_agreement"][-1]
            print(f"seed {seed}, alpha {alpha}: val_loss {losses[-1]:.3f}, agreement {agreement:.3f}")
            if alpha:
                _show("kd_loss", curves["kd_loss"], 12)
                _show("hard_loss", curves["hard_loss"], 12)
    assert sum(found[0.7]) < sum(found[0.0])
