"""LoRA and QLoRA through the stage: what is trained, what is handed over, and that a killed run loses nothing."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
import torch
from hrmctl_finetune import stage
from hrmctl_finetune.adapters import Adapted, adapt, target_names
from hrmctl_finetune.params import FinetuneParams
from hrmctl_models import adapters
from hrmctl_training.switches import checkpoint_activations, return_freed_memory, set_dropout
from torch import nn

from hrmctl import Artifact, Cancelled, InputError
from hrmctl.testing import RecordingContext, make_artifact, make_context
from tests.plugins.finetune.helpers import ROWS, curve, observed, train, write_rows

pytest.importorskip("peft", reason="needs the extra peft")
pytest.importorskip("bitsandbytes", reason="needs the extra peft")

CPU = torch.device("cpu")
METHODS = ["lora", "qlora"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A briefly trained model of each architecture, by name."""
    found = {}
    for name in ("hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"):
        folder = tmp_path_factory.mktemp(name)
        result, _ = train(folder, FinetuneParams(init=name, steps=12, batch=8, lr=4e-3, vocab_size=290))
        found[name] = make_artifact(result.artifacts["model"].path, "model", name)
    return found


def _params(method: str, **changes: Any) -> FinetuneParams:
    return FinetuneParams(**{"method": method, "steps": 12, "batch": 8, "lr": 5e-3, "rank": 4, **changes})


def _digest(model: nn.Module) -> str:
    """Of all frozen tensors, under the names that they have without an adapter."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name not in trained:
            digest.update(name.encode() + tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "name",
    [
        "hrm-tiny",
        "gpt2-micro",
        pytest.param("qwen2-tiny", marks=pytest.mark.slow),
        pytest.param("llama-tiny", marks=pytest.mark.slow),
    ],
)
def test_every_architecture_learns_and_is_merged(
    tmp_path: Path, bases: dict[str, Artifact], name: str, method: str
) -> None:
    # Every step sees all rows, so that losses can be compared.
    result, context = train(tmp_path, _params(method, steps=8, batch=len(ROWS), lr=1e-2), model=bases[name])
    losses = curve(result, "loss")
    assert losses[-1] < 0.97 * losses[0]
    seen = {key: o.payload for key, o in observed(result).items()}
    loaded = hrmctl_models.load(result.artifacts["model"].path, device="cpu")
    assert seen["parameters"]["value"] == loaded.parameters
    checkpoint = torch.load(context.scratch / "checkpoint.pt", weights_only=True)
    trained = {key: tensor.numel() for key, tensor in checkpoint["model"].items()}
    assert all("lora_" in key for key in trained)
    assert seen["trainable_parameters"]["value"] == sum(trained.values())
    assert seen["trainable_share"]["value"] == sum(trained.values()) / loaded.parameters < 0.1
    assert 0 < seen["merge_difference"]["value"] < 1e-4
    assert seen["merge_difference"]["context"]["nf4"] == (method == "qlora")
    assert seen["peak_rss"]["context"]["method"] == method
    assert seen["peak_memory"]["context"]["method"] == method
    assert result.artifacts["model"].label == f"{name}/{method}"


@pytest.mark.parametrize("method", METHODS)
def test_the_base_is_frozen(
    tmp_path: Path, bases: dict[str, Artifact], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []

    def watched(*args: Any) -> Adapted:
        adapted = adapt(*args)
        digests.append(_digest(adapted.model))
        return adapted

    def checked(adapted: Adapted, *args: Any) -> Any:
        digests.append(_digest(adapted.model))
        return hand_over(adapted, *args)

    hand_over = stage.hand_over
    monkeypatch.setattr(stage, "adapt", watched)
    monkeypatch.setattr(stage, "hand_over", checked)
    validation = write_rows(tmp_path / "validation.jsonl", ROWS[:6])
    # bf16, and validations in between: without gradients bitsandbytes would repack an NF4 base.
    params = _params(method, steps=4, eval_interval=2, base_dtype="bfloat16", merge=False)
    train(tmp_path, params, model=bases["qwen2-tiny"], validation=validation)
    assert len(digests) == 2
    assert digests[0] == digests[1]


class _Ending(RecordingContext):
    """Ends the attempt after step 7."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == 7:
            raise self.error

    error: type[BaseException] = Cancelled


@pytest.mark.parametrize(("method", "error"), [("lora", Cancelled), ("qlora", MemoryError)])
def test_a_resumed_run_ends_with_the_same_bytes(
    tmp_path: Path, bases: dict[str, Artifact], method: str, error: type[BaseException]
) -> None:
    params = _params(method, steps=9, lora_dropout=0.1, eval_interval=3, checkpoint_interval=3)
    validation = write_rows(tmp_path / "validation.jsonl", ROWS[:6])
    given = {"model": bases["hrm-tiny"], "validation": validation}
    whole, _ = train(tmp_path / "whole", params, **given)
    ending = _Ending(make_context(tmp_path / "cut").scratch)
    ending.error = error
    with pytest.raises(error):
        train(tmp_path / "cut", params, ending, **given)
    result, context = train(tmp_path / "cut", params, **given)
    assert context.rows[0][0] > 1
    for name, file in (("model", "model.safetensors"), ("adapter", "adapter_model.safetensors")):
        first, second = (r.artifacts[name].path / file for r in (whole, result))
        assert first.read_bytes() == second.read_bytes(), name
    assert curve(result, "val_loss") == curve(whole, "val_loss")


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_folder_stands_for_itself(tmp_path: Path, bases: dict[str, Artifact], method: str) -> None:
    merged, _ = train(tmp_path / "merged", _params(method), model=bases["gpt2-micro"])
    apart, _ = train(tmp_path / "apart", _params(method, merge=False), model=bases["gpt2-micro"])
    folder = apart.artifacts["model"].path
    models = [hrmctl_models.load(r.artifacts["model"].path, device="cpu").model for r in (merged, apart)]
    for (name, a), b in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert adapters.read_manifest(folder).digest == bases["gpt2-micro"].digest
    assert make_artifact(folder / "base", "model", "base").digest == bases["gpt2-micro"].digest
    assert sorted(p.name for p in apart.artifacts["adapter"].path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "hrmctl_adapter.json",
    ]
    assert observed(apart)["parameters"].payload["value"] == observed(merged)["parameters"].payload["value"]


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_on_an_adapter_goes_on_from_its_model(
    tmp_path: Path, bases: dict[str, Artifact], method: str
) -> None:
    first, _ = train(tmp_path / "a", _params(method, merge=False), model=bases["llama-tiny"])
    parent = make_artifact(first.artifacts["model"].path, "model", "llama-tiny/lora")
    second, _ = train(tmp_path / "b", _params("lora", steps=6, merge=False), model=parent)
    assert curve(second, "loss")[0] < curve(first, "loss")[0] - 0.1
    base = hrmctl_models.load(second.artifacts["model"].path / "base", device="cpu").model
    merged = hrmctl_models.load(parent.path, device="cpu").model
    assert all(torch.equal(a, b) for a, b in zip(base.parameters(), merged.parameters(), strict=True))


def test_an_adapter_starts_from_the_seed_alone(tmp_path: Path, bases: dict[str, Artifact]) -> None:
    def started(seed: int, before: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(before)
        state = torch.get_rng_state()
        context = make_context(tmp_path / f"{seed}-{before}", seed=seed)
        adapted = adapt(_params("lora"), bases["hrm-tiny"], CPU, context)
        assert torch.equal(torch.get_rng_state(), state)
        return {n: p for n, p in adapted.model.named_parameters() if p.requires_grad}

    first, again, other = started(1, 5), started(1, 6), started(2, 5)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first if "lora_A" in n)
    assert not any(first[n].any() for n in first if "lora_B" in n)


def test_optimizer_is_adamw_unless_muon_is_asked_for(tmp_path: Path, bases: dict[str, Artifact]) -> None:
    def kinds(optimizer: str) -> list[set[str]]:
        params = _params("lora", steps=1, optimizer=optimizer, merge=False)
        _, context = train(tmp_path / optimizer, params, model=bases["hrm-tiny"])
        states = torch.load(context.scratch / "checkpoint.pt", weights_only=True)["optimizers"]
        return [set(state["state"][0]) for state in states]

    assert kinds("auto") == [{"step", "exp_avg", "exp_avg_sq"}]
    assert kinds("muon") == [{"momentum_buffer"}]


def test_target_modules(bases: dict[str, Artifact]) -> None:
    model = hrmctl_models.load(bases["llama-tiny"].path, device="cpu").model
    every = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert target_names(model, ["all-linear"]) == every
    assert target_names(model, ["v_proj", "q_proj"]) == ["q_proj", "v_proj"]
    assert target_names(model, ["layers.1.mlp.up_proj"]) == ["layers.1.mlp.up_proj"]
    with pytest.raises(InputError, match=r"no linear layer is named 'q_porj'; did you mean q_proj"):
        target_names(model, ["v_proj", "q_porj"])
    with pytest.raises(InputError, match="'lm_head'; there are down_proj, gate_proj"):
        target_names(model, ["lm_head"])
    gpt2 = hrmctl_models.load(bases["gpt2-micro"].path, device="cpu").model
    assert target_names(gpt2, ["all-linear"]) == ["c_attn", "c_fc", "c_proj"]


def test_only_the_target_modules_are_adapted(tmp_path: Path, bases: dict[str, Artifact]) -> None:
    params = _params("lora", steps=1, target_modules=("q_proj",), merge=False)
    _, context = train(tmp_path, params, model=bases["llama-tiny"])
    names = torch.load(context.scratch / "checkpoint.pt", weights_only=True)["model"]
    assert len(names) == 4
    assert all(".q_proj.lora_" in name for name in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lora", "init": "hrm-tiny"}, "adapts a trained base: give `model`"),
        ({"rank": 8}, "rank: only lora and qlora"),
        ({"merge": False, "base_dtype": "bfloat16"}, "base_dtype, merge: only lora and qlora"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneParams(**options)


def test_a_quantized_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hrmctl_quantization.json").write_text("{}")
    base = make_artifact(tmp_path, "model", "x/int4")
    with pytest.raises(InputError, match="x/int4 is quantized already"):
        adapt(_params("lora"), base, CPU, make_context(tmp_path))


def test_a_missing_extra_is_named(tmp_path: Path, bases: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(adapters, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'hrmctl\[peft\]'"):
        train(tmp_path, _params("lora"), model=bases["hrm-tiny"])


@pytest.mark.parametrize("name", ["hrm-tiny", "gpt2-micro"])
def test_recomputed_activations_change_nothing(tmp_path: Path, bases: dict[str, Artifact], name: str) -> None:
    options = {"steps": 2, "merge": False, "dropout": 0.1, "lora_dropout": 0.1}
    kept, _ = train(tmp_path / "kept", _params("lora", **options), model=bases[name])
    again, _ = train(tmp_path / "again", _params("lora", **options, gradient_checkpointing=True), model=bases[name])
    assert curve(again, "loss") == pytest.approx(curve(kept, "loss"), rel=1e-4)
    assert curve(again, "grad_norm") == pytest.approx(curve(kept, "grad_norm"), rel=1e-3)


@pytest.mark.parametrize("name", ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"])
def test_dropout_drops_in_training_alone_and_is_not_saved(bases: dict[str, Artifact], name: str) -> None:
    model = hrmctl_models.load(bases[name].path, device="cpu").model
    settings = model.config.to_dict()
    assert set_dropout(model, 0.5) >= 2
    assert model.config.to_dict() == settings
    ids = torch.arange(3, 23)[None]
    model.train()
    assert not torch.equal(*(model(input_ids=ids).logits for _ in range(2)))
    model.eval()
    assert torch.equal(*(model(input_ids=ids).logits for _ in range(2)))


def test_what_a_model_cannot_do_is_said() -> None:
    class Bare(nn.Module):
        supports_gradient_checkpointing = False
        config = type("Config", (), {"model_type": "bare"})

    with pytest.raises(InputError, match="bare has no dropout"):
        set_dropout(Bare(), 0.1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bare cannot recompute activations"):
        checkpoint_activations(Bare())  # type: ignore[arg-type]


def test_another_c_library_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("hrmctl_training.switches.ctypes.CDLL", lambda _: object())
    with caplog.at_level(logging.WARNING):
        return_freed_memory(logging.getLogger("test"))
    assert "cannot be told to return freed memory" in caplog.text
