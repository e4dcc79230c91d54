"""The stage as a whole: it learns, it reports what it measured, and it stops at what is not finite."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace

import hrmctl_models
import pytest
import torch
from hrmctl_finetune.params import FinetuneParams
from hrmctl_training import fit
from hrmctl_training.causal import only_positions
from hrmctl_training.examples import IGNORED, Example, collate
from hrmctl_training.libraries import loaded_libraries
from hrmctl_training.memory import PeakMemory, anonymous_bytes
from torch.nn import functional

from hrmctl import InputError, StageError
from hrmctl.testing import make_artifact, make_context
from tests.plugins.finetune.helpers import ROWS, curve, observed, train, write_rows

IDS = {"bos": 1, "eos": 2, "pad": 0}
FAMILIES = ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"]


def _parent(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Path:
    tokenizer = hrmctl_models.train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 290)
    hrmctl_models.save(hrmctl_models.build(name, len(tokenizer), IDS, seed=1).to(dtype), tokenizer, folder)
    return folder


def test_a_trained_model_writes_what_it_was_taught(tmp_path: Path) -> None:
    rows = ROWS[:6]
    params = FinetuneParams(init="hrm-tiny", steps=90, batch=6, lr=6e-3, vocab_size=300)
    result, context = train(tmp_path, params, data=write_rows(tmp_path / "d.jsonl", rows))
    output = result.artifacts["model"]
    assert output.label == "hrm-tiny"
    loaded = hrmctl_models.load(output.path, "cpu")
    right = 0
    for row in rows:
        prompt = torch.tensor([loaded.tokenizer(row["prompt"])["input_ids"]])
        written = loaded.model.generate(prompt, max_new_tokens=20, do_sample=False)[0, prompt.shape[1] :].tolist()
        ended = loaded.tokenizer.eos_token_id in written
        right += ended and loaded.tokenizer.decode(written, skip_special_tokens=True) == row["completion"]
    assert right == len(rows)
    losses = curve(result, "loss")
    assert losses[0] == pytest.approx(math.log(len(loaded.tokenizer)), rel=0.2)
    assert losses[-1] < 0.1
    assert [done for done, _, _ in context.rows] == list(range(1, 91))


def test_evidence_is_what_happened(tmp_path: Path) -> None:
    validation = write_rows(tmp_path / "validation.jsonl", ROWS[:5])
    params = FinetuneParams(init="hrm-tiny", epochs=2, batch=7, lr=2e-3, vocab_size=290, eval_interval=3, warmup=0.25)
    result, context = train(tmp_path, params, validation=validation)
    seen = observed(result)
    steps = 2 * 4
    values = {name: o.payload["value"] for name, o in seen.items() if o.type == "measurement/v1"}
    weights = hrmctl_models.load(result.artifacts["model"].path, "cpu")
    assert values["vocabulary"] == len(weights.tokenizer) <= 290
    assert values["parameters"] == weights.parameters
    assert (values["nonfinite"], values["examples_seen"], values["rows_too_long"]) == (0, 2 * len(ROWS), 0)
    eos = [weights.tokenizer.eos_token_id]
    ids = [hrmctl_models.encode_pair(weights.tokenizer, row["prompt"], row["completion"]) for row in ROWS]
    assert values["tokens_seen"] == 2 * sum(len(head + tail + eos) for head, tail in ids)
    assert values["train_seconds"] > 0
    assert 0 < values["train_cpu_seconds"] < 100 * values["train_seconds"]
    assert 50e6 < values["peak_rss"] < 8e9
    assert values["peak_memory"] == values["peak_rss"], "on the CPU there is no other memory"
    assert all(o.payload["n"] >= 1 for o in seen.values() if o.type == "measurement/v1")
    assert seen["nonfinite"].payload["n"] == steps
    series = seen["training"].payload["series"]
    validated = {"val_loss", "val_token_accuracy", "val_exact_accuracy"}
    assert set(series) == {"loss", "lr", "grad_norm", "tokens_per_second", "epoch"} | validated
    assert series["epoch"]["values"] == [step / 4 for step in range(1, steps + 1)]
    assert values["epochs"] == 2
    assert values["tokens_per_step"] == values["tokens_seen"] / steps
    assert values["train_tokens_per_second"] == pytest.approx(values["tokens_seen"] / values["train_seconds"])
    assert series["loss"]["steps"] == list(range(1, steps + 1))
    assert series["val_loss"]["steps"] == [3, 6, 8]
    assert series["lr"]["values"][1] == pytest.approx(2e-3)
    assert [row[2]["loss"] for row in context.rows] == series["loss"]["values"]
    json.dumps([o.payload for o in seen.values()], allow_nan=False)
    for observation in seen.values():
        assert observation.about["model"] is result.artifacts["model"]
        assert observation.about["dataset"].label == "tiny@train"


@pytest.mark.parametrize("name", FAMILIES)
def test_any_causal_model_folder_can_be_trained_further(tmp_path: Path, name: str) -> None:
    parent = make_artifact(_parent(tmp_path / "parent", name, torch.bfloat16), "model", "someone/else")
    params = FinetuneParams(steps=12, batch=8, lr=3e-3, max_length=64)
    result, _ = train(tmp_path / "t", params, model=parent)
    losses = curve(result, "loss")
    assert losses[-1] < losses[0] - 0.5
    assert result.artifacts["model"].label == "someone/else"
    trained = hrmctl_models.load(result.artifacts["model"].path, "cpu")
    assert trained.model.dtype == torch.float32
    assert trained.model.config.model_type == hrmctl_models.load(parent.path, "cpu").model.config.model_type


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_is_the_models_own_loss(name: str) -> None:
    model = hrmctl_models.build(name, 300, IDS, seed=0)
    batch = collate([Example(1, [5, 6, 7, 8, 9, 2], 3), Example(2, [11, 12, 13, 2], 1)], pad=1)
    own = model(input_ids=batch.input_ids, labels=batch.labels).loss
    targets = batch.labels[:, 1:]
    wanted = targets != IGNORED
    with only_positions(model, wanted) as selected:
        logits = model(input_ids=batch.input_ids[:, :-1], use_cache=False).logits
    assert selected == [True]
    assert logits.shape == (int(wanted.sum()), 300)
    assert functional.cross_entropy(logits, targets[wanted]).item() == pytest.approx(own.item(), rel=1e-5)
    assert model(input_ids=batch.input_ids).logits.shape == (2, 6, 300)


def test_accumulation_gives_the_gradient_of_the_whole(tmp_path: Path) -> None:
    one, _ = train(tmp_path / "a", FinetuneParams(init="hrm-tiny", steps=1, batch=24, vocab_size=290, warmup=0))
    two, _ = train(
        tmp_path / "b", FinetuneParams(init="hrm-tiny", steps=1, batch=6, accumulation=4, vocab_size=290, warmup=0)
    )
    assert curve(two, "loss")[0] == pytest.approx(curve(one, "loss")[0], rel=1e-5)
    assert curve(two, "grad_norm")[0] == pytest.approx(curve(one, "grad_norm")[0], rel=1e-4)
    assert observed(two)["examples_seen"].payload["value"] == 24


@pytest.mark.parametrize(
    "params",
    [
        FinetuneParams(init="hrm-tiny", steps=8, batch=8, precision="bf16", lr=3e-3),
        FinetuneParams(init="gpt2-micro", steps=8, batch=8, optimizer="adamw", schedule="cosine", lr=3e-3),
        FinetuneParams(
            init="llama-tiny", steps=8, batch=8, loss_on="all", grad_clip=None, schedule="constant", lr=3e-3
        ),
    ],
)
def test_other_settings_learn_too(tmp_path: Path, params: FinetuneParams) -> None:
    result, _ = train(tmp_path, params)
    assert curve(result, "loss")[-1] < curve(result, "loss")[0] - 0.5


def test_long_rows_are_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS, {"prompt": "".join(map(chr, range(33, 120))), "completion": "y"}]
    data = write_rows(tmp_path / "d.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        result, _ = train(tmp_path, FinetuneParams(init="hrm-tiny", epochs=1, max_length=64), data=data)
    payload = observed(result)["rows_too_long"].payload
    assert (payload["value"], payload["n"]) == (1, len(rows))
    assert "1 of 25 training rows" in caplog.text
    assert "line 25" in caplog.text
    assert observed(result)["examples_seen"].payload["value"] == len(ROWS)
    with pytest.raises(StageError, match="raise max_length"):
        train(tmp_path / "b", FinetuneParams(init="hrm-tiny", steps=1, max_length=4))


def test_exactly_one_start_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither was given"):
        train(tmp_path, FinetuneParams(steps=1))
    parent = make_artifact(_parent(tmp_path / "parent", "hrm-tiny"), "model", "p")
    with pytest.raises(InputError, match="both were given"):
        train(tmp_path, FinetuneParams(init="hrm-tiny", steps=1), model=parent)
    with pytest.raises(InputError, match="no architecture named 'hrm-huge'"):
        train(tmp_path, FinetuneParams(init="hrm-huge", steps=1))


def test_more_tokens_than_the_model_has_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set max_length to 512"):
        train(tmp_path, FinetuneParams(init="gpt2-micro", steps=1, max_length=513))


def test_a_value_that_is_not_finite_stops_and_keeps_the_batch(tmp_path: Path) -> None:
    folder = _parent(tmp_path / "parent", "hrm-tiny")
    loaded = hrmctl_models.load(folder, "cpu")
    rows = [*ROWS[:20], {"prompt": "~", "completion": "z"}, *ROWS[20:]]
    poison = loaded.tokenizer("~")["input_ids"]
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[poison] = math.nan
    hrmctl_models.save(loaded.model, loaded.tokenizer, folder)
    context = make_context(tmp_path)
    with pytest.raises(StageError, match="loss nan") as caught:
        train(
            tmp_path,
            FinetuneParams(epochs=1, batch=4, max_length=64, checkpoint_interval=1),
            context,
            data=write_rows(tmp_path / "d.jsonl", rows),
            model=make_artifact(folder, "model", "poisoned"),
        )
    kept = torch.load(context.scratch / "nonfinite.pt", weights_only=True)
    assert 21 in kept["lines"]
    assert "21" in str(caught.value)
    assert kept["step"] == len(context.rows) + 1
    assert not (context.scratch / "model").exists()
    # What was kept is enough to see it again.
    model = loaded.model
    model.load_state_dict(kept["model"])
    assert math.isnan(model(input_ids=kept["input_ids"][0], labels=kept["labels"][0]).loss.item())


def test_weights_that_the_last_step_broke_are_not_handed_over(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    folder = _parent(tmp_path / "parent", "hrm-tiny")
    loaded = hrmctl_models.load(folder, "cpu")
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[loaded.tokenizer("~")["input_ids"]] = math.inf
    hrmctl_models.save(loaded.model, loaded.tokenizer, folder)
    params = FinetuneParams(steps=1, max_length=64)
    with pytest.raises(StageError, match=r"not finite in model\.embed_tokens"):
        train(tmp_path, params, context, model=make_artifact(folder, "model", "poisoned"))
    assert not (context.scratch / "model").exists()


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    params = FinetuneParams(init="hrm-tiny", steps=3, batch=8, vocab_size=290)
    weights = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        (tmp_path / name).mkdir()
        result, _ = train(tmp_path / name, params, make_context(tmp_path / name, seed=seed))
        weights.append((result.artifacts["model"].path / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_threads_are_those_of_the_context(tmp_path: Path) -> None:
    try:
        train(tmp_path, FinetuneParams(init="hrm-tiny", steps=1), make_context(tmp_path, threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_memory_is_that_of_this_process() -> None:
    before = anonymous_bytes()
    with PeakMemory() as memory:
        block = bytearray(b"x" * 200_000_000)
        memory.sample()
        del block
    assert memory.peak > before + 150_000_000
    assert memory.samples >= 3
    memory.include(10**12, 5)
    assert memory.peak == 10**12


def test_long_runs_keep_a_bounded_curve() -> None:
    from hrmctl_training.checkpoint import Progress

    progress = Progress()
    for _ in range(10_000):
        progress.step += 1
        progress.record(10_000, loss=1.0)
    kept = progress.series["loss"]["steps"]
    assert len(kept) <= 2001
    assert (kept[0], kept[-1]) == (1, 10_000)


def test_another_setting_of_the_architecture_is_another_model_and_says_so(tmp_path: Path) -> None:
    params = FinetuneParams(
        init="hrm-tiny", steps=1, batch=8, vocab_size=290, config={"H_cycles": 3, "L_bp_cycles": (1, 1, 1)}
    )
    result, _ = train(tmp_path, params)
    output = result.artifacts["model"]
    assert output.label == "hrm-tiny[H_cycles=3,L_bp_cycles=[1, 1, 1]]"
    config = json.loads((output.path / "config.json").read_text())
    assert (config["H_cycles"], config["L_bp_cycles"]) == (3, [1, 1, 1])


def test_a_model_keeps_its_own_settings(tmp_path: Path) -> None:
    first, _ = train(tmp_path / "a", FinetuneParams(init="hrm-tiny", steps=1, batch=8, vocab_size=290))
    model = make_artifact(first.artifacts["model"].path, "model", "hrm-tiny")
    with pytest.raises(InputError, match="a model keeps its own"):
        train(tmp_path / "b", FinetuneParams(steps=1, batch=8, config={"H_cycles": 3}), model=model)


def test_the_cpu_of_an_apple_chip_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(fit, "platform", SimpleNamespace(machine=lambda: "arm64"))
    params = FinetuneParams(init="hrm-tiny", vocab_size=290, steps=2, batch=4, max_length=64)
    found = observed(train(tmp_path, params)[0])
    assert found["steps_on_cpu"].payload["value"] == found["steps_on_apple_cpu"].payload["value"] == 2


def test_the_device_and_the_libraries_of_cuda_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = FinetuneParams(init="hrm-tiny", vocab_size=290, steps=2, batch=4, max_length=64)
    found = observed(train(tmp_path / "plain", params)[0])
    assert found["steps_on_cpu"].payload["value"] == 2
    assert not {"steps_on_cuda", "steps_on_mps", "steps_on_apple_cpu"} & found.keys()
    assert found["cuda_libraries"].payload["n"] > 10
    loaded = [
        "/usr/lib/libc.so.6",
        "/usr/lib/libcuda.so.1",
        "/x/libcublasLt.so.13",
        "/x/libtorch_cuda.so",
        "/x/libcudas.so",
    ]
    monkeypatch.setattr("hrmctl_training.fit.loaded_libraries", lambda: loaded)
    told = observed(train(tmp_path / "cuda", params)[0])["cuda_libraries"].payload
    assert told == {"value": 3, "unit": "libraries", "n": 5, "context": {"cuda": loaded[1:4]}}


def test_a_library_is_seen_once_it_is_loaded() -> None:
    assert any("libtorch_cpu" in path for path in loaded_libraries())
