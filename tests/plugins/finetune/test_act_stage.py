"""The stage with a model that halts by itself: rows in place, the character tokenizer, and a run that is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hrmctl_finetune.params import FinetuneParams
from hrmctl_models.loading import load
from safetensors.torch import load_file

from hrmctl import Artifact, Cancelled, InputError, StageError
from hrmctl.testing import RecordingContext, make_context

from .helpers import curve, observed, train, write_rows

TINY = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "halt_max_steps": 3}
PARAMS = FinetuneParams(
    init="hrm-act-tiny", config=TINY, steps=6, batch=8, lr=1e-3, checkpoint_interval=100, eval_interval=3
)
PAIRS = [(f"{a}.{b}.", f"{a}{b}{b}{a}") for a in "1234" for b in "1234"]


def rows_of(folder: Path, pairs: list[tuple[str, str]] = PAIRS, name: str = "puzzles.jsonl") -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    return write_rows(folder / name, [{"prompt": p, "completion": c} for p, c in pairs])


class Stopping(RecordingContext):
    """Cancels after the fourth step."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if done == 4:
            raise Cancelled


def test_puzzles_are_learned_in_place_and_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    data, held = rows_of(tmp_path), rows_of(tmp_path, PAIRS[:5], "held.jsonl")
    whole, _ = train(tmp_path / "whole", PARAMS, data=data, validation=held)
    stopping = Stopping(make_context(tmp_path / "parts").scratch)
    with pytest.raises(Cancelled):
        train(tmp_path / "parts", PARAMS, stopping, data=data, validation=held)
    parts, _ = train(tmp_path / "parts", PARAMS, data=data, validation=held)
    first, second = (load_file(r.artifacts["model"].path / "model.safetensors") for r in (whole, parts))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert curve(whole, "lm_loss") == curve(parts, "lm_loss")

    names = observed(whole)["training"].payload["series"]
    assert {"halting_rate", "halt_steps", "q_halt_accuracy", "val_halt_steps", "val_halted_exact_accuracy"} <= set(
        names
    )
    assert names["val_lm_loss"]["steps"] == [3, 6]
    loaded = load(whole.artifacts["model"].path)
    ids = loaded.tokenizer("1.2.", return_tensors="pt")["input_ids"]
    assert ids.shape == (1, 4)
    assert loaded.model.solve(ids).tokens.shape == (1, 4)
    assert observed(whole)["vocabulary"].payload["value"] == 3 + len("1234.")


def test_causal_model_takes_ordinary_text(tmp_path: Path) -> None:
    config = {**TINY, "num_attention_heads": 2}
    params = replace(PARAMS, init="hrm-act-text-tiny", config=config, vocab_size=270, eval_interval=None)
    result, _ = train(tmp_path, params)
    loaded = load(result.artifacts["model"].path)
    assert loaded.model.config.causal
    assert loaded.tokenizer.decode(loaded.tokenizer("def f(n):")["input_ids"]) == "def f(n):"
    assert len(curve(result, "loss")) == 6


def test_unequal_row_is_named_and_nothing_trained(tmp_path: Path) -> None:
    data = rows_of(tmp_path, [*PAIRS[:3], ("1.2.", "12")])
    with pytest.raises(StageError, match=r"puzzles\.jsonl:4:.*4 tokens and the completion 2"):
        train(tmp_path / "run", PARAMS, data=data)


@pytest.mark.parametrize("changed", [{"packing": "pack"}, {"loss_on": "all"}])
def test_options_that_do_not_go_with_it_are_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(InputError):
        train(tmp_path / "run", replace(PARAMS, **changed), data=rows_of(tmp_path))
