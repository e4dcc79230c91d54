"""`eval-perplexity` on tiny real models: two computations apart, and what makes them differ."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import hrmctl_eval.perplexity as stage
import pytest
import torch
from hrmctl_eval.perplexity_params import PerplexityParams
from hrmctl_eval.texts import Pairs, Texts, read_texts
from hrmctl_models import build, save, train_tokenizer
from hrmctl_models.loading import LoadedModel, load

from hrmctl import Artifact, Cancelled, InputError, StageError
from hrmctl.contract.payload import fault
from hrmctl.testing import RecordingContext, make_artifact, make_context
from tests.plugins.eval.helpers import PROBLEMS, dataset, trained_model

TEXT = "".join(row["prompt"] + row["completion"] for row in PROBLEMS)


def fresh_model(folder: Path, family: str) -> Artifact:
    """A model of the family with random weights and its own tokenizer."""
    tokenizer = train_tokenizer([TEXT], 290)
    save(build(family, len(tokenizer), {"bos": 1, "eos": 2, "pad": 0}, seed=1), tokenizer, folder)
    return make_artifact(folder, "model", family)


def text_file(folder: Path, text: str = TEXT) -> Artifact:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    return make_artifact(path, "dataset", "text@test")


def measured(model: Artifact, data: Artifact, folder: Path, **params: Any) -> dict[str, Any]:
    result = stage.run(PerplexityParams(**params), {"model": model, "data": data}, make_context(folder))
    assert all(fault(seen.type, seen.payload) == "" for seen in result.evidence)
    assert all(seen.about == {"model": model, "dataset": data} for seen in result.evidence)
    return {seen.name: dict(seen.payload) for seen in result.evidence}


def assert_alike(found: dict[str, Any]) -> None:
    ours, theirs, tensors = (found[name] for name in ("perplexity", "transformers_perplexity", "tensors_equal"))
    assert ours["value"] == pytest.approx(theirs["value"], rel=1e-4)
    assert ours["n"] == theirs["n"] > 50
    assert ours["context"] == theirs["context"]
    assert tensors["value"] == tensors["n"] > 5


@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"])
def test_both_computations_agree(family: str, tmp_path: Path) -> None:
    model = fresh_model(tmp_path / "model", family)
    pairs = measured(model, dataset(tmp_path / "rows.jsonl"), tmp_path, batch_size=5)
    assert_alike(pairs)
    assert pairs["perplexity"]["context"]["scored"] == "completions"
    assert pairs["perplexity"]["context"]["texts"] == len(PROBLEMS)
    text = measured(model, text_file(tmp_path), tmp_path, window=32, stride=20, batch_size=3)
    assert_alike(text)
    assert (text["perplexity"]["context"]["window"], text["perplexity"]["context"]["stride"]) == (32, 20)
    assert text["perplexity"]["n"] > pairs["perplexity"]["n"], "every token of running text is scored"


def test_a_model_that_learned_is_less_perplexed_than_one_that_guesses(tmp_path: Path) -> None:
    data = dataset(tmp_path / "rows.jsonl")
    learned = measured(trained_model(tmp_path / "learned"), data, tmp_path)["perplexity"]["value"]
    guesses = measured(fresh_model(tmp_path / "fresh", "hrm-tiny"), data, tmp_path)["perplexity"]["value"]
    assert 1 <= learned < guesses
    assert guesses == pytest.approx(290, rel=0.5), "fresh weights guess among the vocabulary"


def test_real_text(tmp_path: Path, shared_data: Path) -> None:
    text = (shared_data / "wikitext2-test.txt").read_text(encoding="utf-8")[:6000]
    found = measured(fresh_model(tmp_path / "model", "gpt2-micro"), text_file(tmp_path, text), tmp_path, window=256)
    assert_alike(found)
    assert found["perplexity"]["n"] > 2000


def test_weights_that_differ_are_seen_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def altered(*args: Any, **options: Any) -> LoadedModel:
        loaded = load(*args, **options)
        with torch.no_grad():
            dict(loaded.model.named_parameters())["model.layers.0.mlp.down_proj.weight"].mul_(-20)
        return loaded

    monkeypatch.setattr(stage, "load", altered)
    found = measured(fresh_model(tmp_path / "model", "llama-tiny"), dataset(tmp_path / "rows.jsonl"), tmp_path)
    assert found["tensors_equal"]["value"] == found["tensors_equal"]["n"] - 1
    ours, theirs = found["perplexity"]["value"], found["transformers_perplexity"]["value"]
    assert abs(math.log(ours / theirs)) > 1e-3


def test_of_a_quantized_model_only_our_own_is_measured(tmp_path: Path) -> None:
    from hrmctl_quantize.params import QuantizeParams
    from hrmctl_quantize.stage import run as quantize

    whole = trained_model(tmp_path / "whole")
    output = quantize(QuantizeParams(), {"model": whole}, make_context(tmp_path / "q")).artifacts["model"]
    small = make_artifact(output.path, "model", output.label)
    data = dataset(tmp_path / "rows.jsonl")
    found = measured(small, data, tmp_path)
    assert found.keys() == {"perplexity"}
    before = measured(whole, data, tmp_path, reference=False)
    assert before.keys() == {"perplexity"}
    assert found["perplexity"]["value"] != before["perplexity"]["value"]


def test_a_model_that_answers_in_place_is_refused(tmp_path: Path) -> None:
    from hrmctl_models.tokenizers import character_tokenizer

    tokenizer = character_tokenizer([TEXT])
    save(build("hrm-act-tiny", len(tokenizer), {"eos": 1, "pad": 0}, seed=1), tokenizer, tmp_path / "model")
    model = make_artifact(tmp_path / "model", "model", "hrm-act-tiny")
    with pytest.raises(StageError, match="eval-puzzles"):
        measured(model, dataset(tmp_path / "rows.jsonl"), tmp_path)


def test_only_the_first_rows_and_what_does_not_fit(tmp_path: Path) -> None:
    model = fresh_model(tmp_path / "model", "gpt2-micro")
    rows = [{"prompt": "x = 1\n" * 400, "completion": "y"}, *PROBLEMS]
    found = measured(model, dataset(tmp_path / "rows.jsonl", rows), tmp_path, limit=4)
    for name in ("perplexity", "transformers_perplexity"):
        context = found[name]["context"]
        assert (context["limit"], context["texts"], context["skipped"]) == (4, 3, 1)


def test_windows_are_of_running_text_only(tmp_path: Path) -> None:
    model = fresh_model(tmp_path / "model", "gpt2-micro")
    with pytest.raises(InputError, match="leave window out"):
        measured(model, dataset(tmp_path / "rows.jsonl"), tmp_path, window=32)


def test_it_stops_between_batches(tmp_path: Path) -> None:
    class Stopping(RecordingContext):
        calls = 0

        def check(self) -> None:
            self.calls += 1
            if self.calls == 2:
                raise Cancelled

    (tmp_path / "scratch").mkdir()
    context = Stopping(tmp_path / "scratch")
    inputs = {"model": fresh_model(tmp_path / "model", "gpt2-micro"), "data": dataset(tmp_path / "rows.jsonl")}
    with pytest.raises(Cancelled):
        stage.run(PerplexityParams(batch_size=4), inputs, context)
    assert context.calls == 2


def test_what_a_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text('{"text": "a\u2028b"}\n\n{"text": "c"}\n', encoding="utf-8")
    assert read_texts(path, "d@test", 0) == Texts(["a\u2028b", "c"])
    assert read_texts(path, "d@test", 1) == Texts(["a\u2028b"])
    path.write_text('{"prompt": "p", "completion": "c", "text": "t"}\n', encoding="utf-8")
    assert read_texts(path, "d@test", 0) == Pairs(["p"], ["c"])
    path.write_text("\ufeff = Title = \n words", encoding="utf-8")
    assert read_texts(path, "d@test", 0) == Texts([" = Title = \n words"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "nothing to score"),
        (b" \n", "nothing to score"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"text": "a"}\n{"text": 3}\n', r"d@test:2:1: no text 'text'"),
        (b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', r"d@test:2:1: no text 'completion'"),
        (b'{"text": "a"}\n[1]\n', r"d@test:2:1: not a JSON object"),
        (b'{"text": "a"}\n\n{"text"\n', r"d@test:3:1: not a JSON object"),
        (json.dumps({"question": "a"}).encode(), r"d@test:1:1: no text 'text'"),
    ],
)
def test_bad_data_is_refused_with_its_line(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(StageError, match=reason):
        read_texts(path, "d@test", 0)
