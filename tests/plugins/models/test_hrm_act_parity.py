"""Our HRM beside the published one: the same weights, rows and draws give the same training, step by step.

The golden file holds a run of the reference (benchmarks/reference_hrm.py --golden): float32, one thread, AdamW, 80
steps. Sums are taken in another order here, and training lets the differences grow: the losses
stay within 5e-5 of the reference's, relative to their size; steps and halting must be the very same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_models.hrm_act import HrmActConfig, HrmActForCausalLM
from hrmctl_models.hrm_act.published import from_published
from hrmctl_training.act import ActObjective
from hrmctl_training.examples import Batch
from safetensors import safe_open

from hrmctl import StageError

GOLDEN = Path(__file__).parent / "golden" / "hrm_reference.safetensors"
TOLERANCE = 5e-5
LOSSES = ("loss", "lm_loss", "q_halt_loss", "q_continue_loss")


@dataclass(frozen=True)
class Reference:
    """What the golden file says."""

    tensors: dict[str, torch.Tensor]
    about: dict[str, Any]

    def curve(self, name: str) -> torch.Tensor:
        """Values of each step."""
        return self.tensors[f"curve.{name}"]

    @property
    def initial(self) -> dict[str, torch.Tensor]:
        """Initial weights under the reference's names."""
        return {n.removeprefix("initial."): t.float() for n, t in self.tensors.items() if n.startswith("initial.")}


@pytest.fixture(scope="module")
def reference() -> Reference:
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Reference(tensors, json.loads(file.metadata()["about"]))


def model_of(reference: Reference) -> HrmActForCausalLM:
    sizes = dict(reference.about["sizes"])
    sizes["num_attention_heads"] = sizes.pop("num_heads")
    model = HrmActForCausalLM(HrmActConfig(**sizes))
    model.load_state_dict(from_published(reference.initial))
    return model.train()


@pytest.fixture(scope="module")
def repeated(reference: Reference) -> tuple[dict[str, torch.Tensor], Mapping[str, torch.Tensor]]:
    """Our curves and final weights."""
    model, training = model_of(reference), reference.about["training"]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training["lr"], betas=training["betas"], weight_decay=training["weight_decay"]
    )
    picks = reference.tensors["picks"].long()
    slots, length = picks.shape[1], reference.tensors["inputs"].shape[1]
    objective = ActObjective(model, 0, slots, length, masked=False)
    inputs, labels = (reference.tensors[name].long() for name in ("inputs", "labels"))
    kept: list[dict[str, torch.Tensor]] = []
    for step, rows in enumerate(picks):
        torch.manual_seed(training["seed"] + step)
        loss = objective.loss(Batch(inputs[rows], labels[rows], tuple(range(slots)), slots * length))
        (loss.total / slots).backward()
        optimizer.step()
        optimizer.zero_grad()
        carry = objective.state()["carries"][0]
        values = {name: torch.as_tensor(total) for name, (total, _) in loss.sums.items()}
        values |= {"loss": loss.total.detach(), "steps": carry["steps"], "halted": carry["halted"]}
        kept.append(values | {"count": carry["halted"].sum()})
    names = set.intersection(*(set(row) for row in kept))
    return {name: torch.stack([row[name].double() for row in kept]) for name in names}, model.state_dict()


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_the_references_at_every_step(
    reference: Reference, repeated: tuple[dict[str, torch.Tensor], Any], name: str
) -> None:
    expected, found = reference.curve(name).double(), repeated[0][name]
    assert ((found - expected).abs() <= TOLERANCE * expected.abs()).all()


def test_the_same_rows_halt_after_the_same_segments(
    reference: Reference, repeated: tuple[dict[str, torch.Tensor], Any]
) -> None:
    halted = reference.curve("halted").bool()
    assert torch.equal(repeated[0]["halted"].bool(), halted)
    assert torch.equal(repeated[0]["steps"].int(), reference.curve("steps").int())
    # The run shows every way to halt: by the Q-head early and late, and at the end of the steps.
    assert (reference.curve("steps")[halted].bincount(minlength=7)[1:] > 0).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("token_accuracy", "accuracy"),
        ("exact_accuracy", "exact_accuracy"),
        ("q_halt_accuracy", "q_halt_accuracy"),
        ("halt_steps", "steps_of_halted"),
        ("halting_rate", "count"),
    ],
)
def test_metrics_of_halted_rows_are_the_references(
    reference: Reference, repeated: tuple[dict[str, torch.Tensor], Any], ours: str, theirs: str
) -> None:
    if theirs == "steps_of_halted":
        expected = (reference.curve("steps") * reference.curve("halted")).sum(1).double()
    else:
        expected = reference.curve(theirs).double()
    assert torch.allclose(repeated[0][ours], expected, atol=1e-5)


def test_final_weights_are_the_references(
    reference: Reference, repeated: tuple[dict[str, torch.Tensor], Mapping[str, torch.Tensor]]
) -> None:
    renamed = from_published({name: torch.tensor(s) for name, s in reference.about["final"].items()})
    assert set(renamed) == set(repeated[1])
    for name, (norm, mix) in ((n, s.tolist()) for n, s in renamed.items()):
        flat = repeated[1][name].double().flatten()
        assert flat.norm().item() == pytest.approx(norm, rel=1e-4), name
        ramp = torch.linspace(-1, 1, len(flat), dtype=torch.float64)
        assert (flat @ ramp).item() == pytest.approx(mix, abs=1e-3 * norm), name


def test_wrapped_names_are_understood_and_puzzle_embeddings_refused(reference: Reference) -> None:
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in reference.initial.items()}
    assert (
        set(from_published(wrapped)) == set(from_published(reference.initial)) == set(model_of(reference).state_dict())
    )
    with pytest.raises(StageError, match="puzzle embeddings"):
        from_published({"model.inner.puzzle_emb.weights": torch.zeros(1)})
