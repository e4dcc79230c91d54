"""FLOPs of training: against formulas by hand and a count of the whole run; budgets, and sums that resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hrmctl_distill.progressive import LayerwiseObjective
from hrmctl_models.loading import build
from hrmctl_training.act import ActObjective
from hrmctl_training.budget import steps_within
from hrmctl_training.causal import CausalObjective
from hrmctl_training.distillation import DistillObjective
from hrmctl_training.examples import Batch, Example, Preference
from hrmctl_training.fit import fit, observations
from hrmctl_training.flops import Phase, count_flops, counter
from hrmctl_training.in_place import InPlaceExample
from hrmctl_training.loop import Training
from hrmctl_training.memory import PeakMemory
from hrmctl_training.objective import Loss
from hrmctl_training.packing import PackedExamples
from hrmctl_training.params import TrainingParams
from hrmctl_training.preference import DpoObjective, OrpoObjective, Referenced
from hrmctl_training.switches import checkpoint_activations
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

from hrmctl import Cancelled, InputError
from hrmctl.testing import RecordingContext, make_context

from .helpers import IDS

Setup = tuple[Any, Any, Sequence[Any]]


def varied(count: int) -> list[Example]:
    """Rows of 5 to 24 tokens, of which the second half is learned."""
    rows = [[3 + (i * k) % 13 for k in range(5 + i * 7 % 20)] for i in range(count)]
    return [Example(i + 1, ids, len(ids) // 2) for i, ids in enumerate(rows)]


def pairs(count: int) -> list[Preference]:
    """Pairs of such rows and rows with another end."""
    rows = varied(count)
    return [Preference(i + 1, row, Example(i + 1, [*row.ids[:-1], 9, 2], row.start)) for i, row in enumerate(rows)]


def trained(folder: Path, setup: Setup, context: Any = None, validation: int = 0, **params: Any) -> Training:
    torch.set_num_threads(1)
    model, objective, examples = setup
    made = TrainingParams(**{"batch": 8, "lr": 1e-3, **params})
    with PeakMemory() as memory:
        return fit(model, objective, examples, varied(validation), made, memory, context or make_context(folder))


def causal(architecture: str = "gpt2-micro") -> Setup:
    model = build(architecture, 16, IDS, 3)
    return model, CausalObjective(model, 1), varied(64)


def run(folder: Path, architecture: str = "gpt2-micro", **params: Any) -> Training:
    return trained(folder, causal(architecture), **params)


def flops_of(training: Training) -> dict[str, Any]:
    (found,) = [o for o in observations(training, {}) if o.name == "train_flops"]
    return dict(found.payload)


class TooGreat(CausalObjective):
    """A loss whose scaled gradient overflows fp16's first scale."""

    def loss(self, batch: Batch) -> Loss:
        return Loss(super().loss(batch).total * 1e4)


def too_great() -> Setup:
    model = build("gpt2-micro", 16, IDS, 3)
    return model, TooGreat(model, 1), varied(64)


def act() -> Setup:
    model = build("hrm-act-tiny", 12, IDS, 3)
    rows = [InPlaceExample(i + 1, [3 + i % 5] * 4, [3 + i % 7] * 4) for i in range(64)]
    return model, ActObjective.for_examples(model, 0, rows, 8), rows


def distilled() -> DistillObjective:
    model, teacher = (build("gpt2-micro", 40, IDS, seed) for seed in (3, 4))
    return DistillObjective(model, teacher, 1, 40, 2.0, 0.5)


def logits() -> Setup:
    objective = distilled()
    return objective.causal.model, objective, varied(64)


def layers() -> Setup:
    objective = distilled()
    return objective.causal.model, LayerwiseObjective(objective, 2, 24, 0), varied(64)


def orpo() -> Setup:
    model = build("gpt2-micro", 16, IDS, 3)
    return model, OrpoObjective(model, 1, 0.1), pairs(64)


def dpo() -> Setup:
    model = build("gpt2-micro", 16, IDS, 3)
    return model, DpoObjective(model, 1, 0.1), [Referenced(pair, -9.0, -9.0) for pair in pairs(64)]


def recomputed() -> Setup:
    setup = causal("llama-tiny")
    checkpoint_activations(setup[0])
    return setup


def frozen() -> Setup:
    setup = causal()
    setup[0].transformer.h[0].requires_grad_(False)
    return setup


def adapted() -> Setup:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(build("llama-tiny", 16, IDS, 3), peft.LoraConfig(r=4, target_modules="all-linear"))
    return model, CausalObjective(model, 1), varied(64)


def packed() -> Setup:
    model, objective, rows = causal("llama-tiny")
    return model, objective, PackedExamples(rows, 32, 0)


CASES: dict[str, tuple[Callable[[], Setup], dict[str, Any]]] = {
    "hrm": (lambda: causal("hrm-tiny"), {}),
    "qwen2": (lambda: causal("qwen2-tiny"), {}),
    "act": (act, {}),
    "logits of a teacher": (logits, {}),
    "layers of a teacher": (layers, {"steps": 24}),
    "dpo": (dpo, {}),
    "orpo": (orpo, {}),
    "recomputed activations": (recomputed, {}),
    "frozen weights": (frozen, {}),
    "adapters": (adapted, {"optimizer": "adamw"}),
    "packed": (packed, {"batch": 4}),
    "accumulated": (causal, {"steps": 6, "accumulation": 2}),
    "fp16 with updates left out": (too_great, {"precision": "fp16"}),
    "four batches an epoch": (causal, {"batch": 16}),
    "two batches an epoch": (causal, {"batch": 32}),
    "one batch an epoch": (causal, {"batch": 64}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_reported_is_what_a_count_of_the_whole_run_finds(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several chunks of logits a pass, which are computed twice; those of one chunk are not.
    monkeypatch.setattr("hrmctl_training.outputs._CHUNK_ELEMENTS", 16 * 16)
    make, params = CASES[case]
    setup, made = make(), []
    counted = count_flops(lambda: made.append(trained(tmp_path, setup, **{"steps": 12, **params})))
    (training,) = made
    found = flops_of(training)
    # One step of a copy of the optimizer before the first.
    counted -= training.meter.per_update
    assert abs(found["value"] / counted - 1) < 0.01
    assert found["context"]["counted"] < training.progress.position, "something was not counted but fitted"
    assert found["context"]["residual"] < 0.01
    assert bool(training.progress.overflows) == ("left out" in case)


def test_the_passes_of_gpt2_are_those_of_the_formula_by_hand(tmp_path: Path) -> None:
    training = run(tmp_path, steps=12, optimizer="adamw")
    config, order, by_hand = training.model.config, training.order, 0
    width, layers = config.n_embd, config.n_layer
    for batch in [training.objective.collate(order.at(i)) for i in range(12)]:
        rows, length = batch.input_ids.shape[0], batch.input_ids.shape[1] - 1
        learned = training.objective.units(batch)
        # The gradient of an input is not needed below the first layer, but embeddings are looked up, not multiplied.
        matrices = 3 * 2 * rows * length * 12 * width**2 * layers
        attention = (2 + 5) * 2 * rows * length**2 * width * layers
        by_hand += matrices + attention + 3 * 2 * learned * width * config.vocab_size
    found = flops_of(training)
    assert found["value"] == pytest.approx(by_hand, rel=1e-9)
    assert (found["unit"], found["n"]) == ("FLOPs", 12)
    parts = found["context"]
    assert parts == {"passes": found["value"], "optimizer": 0, "counted": parts["counted"], "residual": 0.0}


def test_muon_takes_the_products_of_its_iteration(tmp_path: Path) -> None:
    training = run(tmp_path, steps=4, optimizer="muon")
    width, per_step = training.model.config.n_embd, 0
    for columns in (3 * width, width, 4 * width, 4 * width):
        # Five times X X^T, (X X^T)^2 and its product with X.
        per_step += training.model.config.n_layer * 5 * (4 * width**2 * columns + 2 * width**3)
    assert flops_of(training)["context"]["optimizer"] == 4 * per_step


def test_attention_on_the_cpu_is_counted() -> None:
    query = torch.randn(2, 3, 10, 16, requires_grad=True)

    def attend() -> None:
        functional.scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()

    assert count_flops(attend) == (2 + 5) * 2 * 2 * 3 * 10 * 10 * 16


def test_counting_a_pass_keeps_no_activation_that_is_recomputed() -> None:
    """Of a model that computes each layer's activations again, those of one layer at a time are in memory."""
    model = build("llama-tiny", 64, IDS, 1, {"num_hidden_layers": 8})
    checkpoint_activations(model)
    model.train()
    saved: list[StorageWeakRef] = []
    most = 0

    class Seen(torch.autograd.Function):
        """Saves its output, as a layer saves its activations, and notes how many of those are there."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            kept = x * 1
            ctx.save_for_backward(kept)
            saved.append(StorageWeakRef(kept.untyped_storage()))
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            nonlocal most
            (kept,) = ctx.saved_tensors
            most = max(most, sum(not one.expired() for one in saved))
            assert kept.shape == gradient.shape
            return gradient

    for layer in model.model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda module, given, out: Seen.apply(out))
    ids = torch.arange(32).reshape(2, 16)
    with counter() as counted:
        model(input_ids=ids, labels=ids).loss.backward()
    assert counted.get_total_flops() > 0
    assert 1 <= most <= 2


def test_compiled_code_is_counted_too() -> None:
    def closed(graph: Any, inputs: Any) -> Any:
        """A backend whose kernels show no operation."""
        return lambda *_: (torch.zeros(4, 8),)

    compiled = torch.compile(nn.Linear(8, 8, bias=False), backend=closed)
    compiled(torch.randn(4, 8))
    assert count_flops(lambda: compiled(torch.randn(4, 8))) == 2 * 4 * 8 * 8


def phase_of(work: Callable[[int], int], widths: Sequence[int]) -> Phase:
    """A phase that has seen passes of one row of these widths, each of which takes `work` of its width."""
    phase = Phase()
    for width in widths:
        product = torch.zeros(1, work(width))
        if phase.planned((1, 1, width, width**2, width)):
            phase.flops.append(count_flops(lambda product=product: product @ product.T))
    return phase


def test_a_pass_unlike_those_counted_is_counted() -> None:
    phase = phase_of(lambda width: 5 + width, [7] * 9)
    assert len(phase.flops) == 7, "the first five, the seventh and the ninth"
    assert not phase.is_due((1, 1, 7, 49, 7))
    assert phase.is_due((1, 1, 8, 64, 8))


def test_few_passes_are_counted_whatever_their_shapes() -> None:
    widths = [3 + (i * 37) % 101 for i in range(1000)]
    phase = phase_of(lambda width: width**2 + 5, widths)
    assert len(phase.flops) < 40
    assert phase.total() == pytest.approx(sum(2 * (width**2 + 5) for width in widths), rel=1e-9)


def test_work_that_is_no_function_of_the_shape_leaves_a_residual() -> None:
    turns = iter(range(100))
    phase = phase_of(lambda _: 100 + 50 * (next(turns) // 3 % 2), [7] * 40)
    assert phase.residual() > 0.1


def test_a_fit_that_is_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    run(tmp_path / "right", steps=3)
    assert "train_flops" not in caplog.text
    monkeypatch.setattr("hrmctl_training.fit._RESIDUAL", -1.0)
    run(tmp_path / "off", steps=3)
    assert "train_flops is a fit that is up to 0.0% off" in caplog.text


@pytest.mark.parametrize("make", [causal, act])
def test_a_budget_becomes_the_nearest_number_of_steps(tmp_path: Path, make: Callable[[], Setup]) -> None:
    one = flops_of(trained(tmp_path / "one", make(), steps=1))["value"]
    budget = one * 13.2
    training = trained(tmp_path / "many", make(), flops=budget)
    found = flops_of(training)
    assert found["n"] == training.steps == training.progress.step
    assert abs(found["value"] - budget) <= 0.8 * found["value"] / found["n"]
    assert found["context"]["budget"] == budget


def test_a_budget_of_less_than_half_a_step_or_more_than_can_be_done_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="less than half of the first step"):
        run(tmp_path, flops=1000.0)
    with pytest.raises(InputError, match="more than 10,000,000 steps"):
        run(tmp_path, flops=1e20)
    with pytest.raises(ValueError, match="steps and flops both"):
        TrainingParams(steps=3, flops=1e9)


def test_a_budget_is_reckoned_once_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, context = trained(tmp_path / "before", act(), steps=1), make_context(tmp_path / "before")
    weights = {name: weight.clone() for name, weight in training.model.named_parameters()}
    turn, random = training.objective.state()["turn"], torch.get_rng_state()
    carry = training.objective.state()["carries"][0]["z_H"].clone()
    steps = steps_within(1e10, training, context)
    assert torch.equal(torch.get_rng_state(), random)
    assert training.objective.state()["turn"] == turn
    assert torch.equal(training.objective.state()["carries"][0]["z_H"], carry)
    for name, weight in training.model.named_parameters():
        assert torch.equal(weight, weights[name]), name
        assert weight.grad is None, name
    monkeypatch.setattr("hrmctl_training.budget._costs", None)
    assert steps_within(1e10, training, context) == steps


class Interrupted(RecordingContext):
    """Asked to stop before anything has begun."""

    def check(self) -> None:
        raise Cancelled


def test_reckoning_a_budget_can_be_cancelled(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        run(tmp_path, context=Interrupted(tmp_path), flops=1e9)
    assert not list(tmp_path.glob("*.pt"))


def test_no_validation_is_counted(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", steps=4)
    validated = run(tmp_path / "validated", steps=4, eval_interval=1, validation=8)
    assert flops_of(plain) == flops_of(validated)


def test_counting_leaves_training_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = run(tmp_path / "counted", steps=4)
    assert counted.meter.counted == 4
    monkeypatch.setattr(Phase, "is_due", lambda phase, _: phase.passes == 0)
    plain = run(tmp_path / "plain", steps=4)
    assert plain.meter.counted == 1
    for name, weight in plain.model.named_parameters():
        assert torch.equal(weight, counted.model.get_parameter(name)), name


class Killed(RecordingContext):
    """Ends the run after its tenth step, which no checkpoint holds."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        if done == 10:
            raise KeyboardInterrupt


def test_a_resumed_run_has_the_same_sum(tmp_path: Path) -> None:
    whole = flops_of(run(tmp_path / "whole", steps=14, checkpoint_interval=9))
    (tmp_path / "killed/scratch").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", context=Killed(tmp_path / "killed/scratch"), steps=14, checkpoint_interval=9)
    assert flops_of(run(tmp_path / "killed", steps=14, checkpoint_interval=9)) == whole
