"""Several data sets in fixed shares, and validation rows that no training row leaks into."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hrmctl_models import train_tokenizer
from hrmctl_training.examples import Example, Order
from hrmctl_training.order import Mixed, draws_of
from hrmctl_training.params import TrainingParams
from hrmctl_training.prepare import Prepared, prepare
from hrmctl_training.sources import training_texts
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from hrmctl import Artifact, InputError, Output, StageError
from hrmctl.testing import make_artifact, make_context
from tests.plugins.training.test_tokens import values, written


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer of 300 tokens."""
    return train_tokenizer(["one two three"] * 3, 300)


def rows_of(name: str, count: int) -> list[dict[str, str]]:
    """Rows that name their set."""
    return [{"prompt": f"{name} {i}\n", "completion": "x" * (1 + i % 5)} for i in range(count)]


def ready(tmp_path: Path, data: tuple[Artifact, ...], validation: Artifact | None = None, **params: Any) -> Prepared:
    """The data sets made ready to train on."""
    tokenizer = train_tokenizer(["one two three"] * 3, 300)
    return prepare(data, validation, tokenizer, TrainingParams(**params), make_context(tmp_path))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.data(), st.integers(0, 3))
def test_shares_hold_and_no_row_is_shown_again_before_all_are(sizes: list[int], data: Any, seed: int) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 5), min_size=len(sizes), max_size=len(sizes)))
    draws = draws_of(sizes, weights)
    epoch = max(n / w for n, w in zip(sizes, weights, strict=True))
    assert all(abs(d - w * epoch) <= 0.5 + 1e-6 or d == n for d, w, n in zip(draws, weights, sizes, strict=True))
    assert all(d >= n for d, n in zip(draws, sizes, strict=True))
    mixed = Mixed([[Example(i, [3, 3], 1) for i in range(n)] for n in sizes], draws)
    seen: Counter[int] = Counter()
    for n in range(3):
        shown = mixed.drawn(seed, n).tolist()
        seen.update(shown)
        assert Counter(mixed.part_of(index) for index in shown) == Counter(dict(enumerate(draws)))
    for part, size in enumerate(sizes):
        counts = [seen[i] for i in range(len(mixed)) if mixed.part_of(i) == part]
        assert len(counts) == size
        assert max(counts) - min(counts) <= 1


def test_the_mix_depends_on_seed_and_position_alone() -> None:
    parts = [[Example(100 * p + i, [3] * (2 + i % 3), 1) for i in range(n)] for p, n in enumerate((40, 9))]
    order = Order(Mixed(parts, (40, 20)), 4, 1)
    walked = [[e.line for e in order.at(i)] for i in range(40)]
    assert [e.line for e in Order(Mixed(parts, (40, 20)), 4, 1).at(39)] == walked[39]
    assert [e.line for e in order.at(3)] == walked[3]
    assert order.batches_per_epoch == 15
    assert walked[:15] != walked[15:30]


def test_without_weights_every_row_is_shown_once_an_epoch(tmp_path: Path) -> None:
    data = tuple(written(tmp_path / f"{n}.jsonl", rows_of(n, c), n) for n, c in (("a", 20), ("b", 5)))
    found = ready(tmp_path, data)
    order = Order(found.examples, 4, 0)
    assert order.batches_per_epoch == 7
    shown = Counter(index for i in range(7) for index in order.indices(i))
    assert shown == Counter(range(25))


def test_the_evidence_counts_what_each_set_gave(tmp_path: Path) -> None:
    data = tuple(written(tmp_path / f"{n}.jsonl", rows_of(n, c), n) for n, c in (("a", 20), ("b", 5)))
    found = ready(tmp_path, data, mix=(1.0, 3.0))
    order = Order(found.examples, 4, 0)
    position = 2 * order.batches_per_epoch + 3
    indices = [index for i in range(position) for index in order.indices(i)]
    names = ["ab"[found.examples.part_of(index)] for index in indices]
    prompts = _prompts([example for i in range(position) for example in order.at(i)])
    assert [prompt[0] for prompt in prompts] == names
    assert found.drawn(order, position) == [names.count("a"), names.count("b")]
    assert names.count("b") > 2 * names.count("a")
    output = Output(tmp_path / "m", "m")
    seen = {o.name: o for o in found.observations(output, order, position)}
    assert seen["rows"].about["dataset"] is data[0]
    assert seen["rows-2"].about["dataset"] is data[1]
    assert seen["rows-2"].payload["context"] == {
        "format": "prompt-completion",
        "chat_template": "plain",
        "drawn": names.count("b"),
        "trained": 5,
        "held_out": 0,
    }
    assert "rows_held_out" not in seen
    assert dict(seen["row_tokens"].about) == {"model": output, "dataset-1": data[0], "dataset-2": data[1]}


def test_rows_that_are_held_out_are_told_from_those_trained_on(tmp_path: Path) -> None:
    data = tuple(written(tmp_path / f"{n}.jsonl", rows_of(n, 40), n) for n in "ab")
    found = ready(tmp_path, data, validation_split=0.3)
    seen = {o.name: o for o in found.observations(Output(tmp_path / "m", "m"), Order(found.examples, 4, 0), 1)}
    for suffix, artifact in (("", data[0]), ("-2", data[1])):
        held, trained = (seen[f"rows_{name}{suffix}"] for name in ("held_out", "trained"))
        assert 0 < held.payload["value"] < 20
        assert held.payload["value"] + trained.payload["value"] == seen[f"rows{suffix}"].payload["value"] == 40
        assert held.about["dataset"] is trained.about["dataset"] is artifact
    assert sum(seen[f"rows_trained{suffix}"].payload["value"] for suffix in ("", "-2")) == len(found.examples)
    context = seen["rows"].payload["context"]
    assert context["held_out"] == seen["rows_held_out"].payload["value"]


def test_weights_go_with_data_sets(tmp_path: Path) -> None:
    data = (written(tmp_path / "a.jsonl", rows_of("a", 5)),)
    with pytest.raises(InputError, match="mix has 2 weights for 1 data sets"):
        ready(tmp_path, data, mix=(1.0, 2.0))
    with pytest.raises(ValueError, match="every weight is over 0"):
        TrainingParams(mix=(1.0, 0.0))
    pairs = written(tmp_path / "p.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    with pytest.raises(InputError, match="not trained on together with prompt-completion"):
        ready(tmp_path, (*data, pairs))
    with pytest.raises(InputError, match="those of training are not"):
        ready(tmp_path, data, pairs)


def test_prompts_never_lie_on_both_sides_of_a_split(tmp_path: Path) -> None:
    rows = rows_of("a", 400)
    # The same prompts, with other answers, other case and other spaces, and in another data set.
    twins = [{"prompt": row["prompt"].upper().replace(" ", "  "), "completion": "y"} for row in rows]
    data = (written(tmp_path / "a.jsonl", rows + twins, "a"), written(tmp_path / "b.jsonl", rows[::2], "b"))
    found = ready(tmp_path, data, validation_split=0.2)
    assert len(found.examples) + len(found.validation) == 1000
    assert 0.14 < len(found.validation) / 1000 < 0.26
    train, held = ({prompt.casefold().split()[1] for prompt in _prompts(part)} for part in _sides(found))
    assert train.isdisjoint(held)
    assert values(found)["split_overlap"] == 0
    assert dict(found.evidence)["split_overlap"]["n"] == len(found.validation)
    # Another seed does not move a row to the other side.
    params, context = TrainingParams(validation_split=0.2), make_context(tmp_path, seed=8)
    again = prepare(data, None, train_tokenizer(["x"], 300), params, context)
    assert len(again.validation) == len(found.validation)


def _sides(found: Prepared) -> tuple[Any, Any]:
    return found.examples, found.validation


def _prompts(part: Any) -> list[str]:
    tokenizer = train_tokenizer(["one two three"] * 3, 300)
    return [tokenizer.decode(example.ids[: example.start]) for example in part]


def test_the_overlap_is_counted_and_not_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A split that breaks its promise: by line instead of by prompt.
    monkeypatch.setattr("hrmctl_training.sources.is_held", lambda row, split: split > 0 and row.line % 2 == 0)
    data = (written(tmp_path / "a.jsonl", rows_of("a", 10) + rows_of("a", 1) + rows_of("b", 3)),)
    found = ready(tmp_path, data, validation_split=0.5)
    assert values(found)["split_overlap"] == 0
    data = (written(tmp_path / "a.jsonl", [row for row in rows_of("a", 5) for _ in range(2)]),)
    found = ready(tmp_path, data, validation_split=0.5)
    assert (values(found)["split_overlap"], len(found.validation)) == (5, 5)


def test_a_tokenizer_is_not_trained_on_what_is_held_out(tmp_path: Path) -> None:
    data = (written(tmp_path / "a.jsonl", rows_of("a", 50)),)
    params = TrainingParams(validation_split=0.3)
    found = ready(tmp_path, data, validation_split=0.3)
    prompts = [text for text in training_texts(data, params) if text.startswith("a ")]
    assert len(prompts) == len(found.examples) == 50 - len(found.validation)


def test_training_rows_in_the_validation_set_are_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of("a", 30)
    other = [{"prompt": rows[0]["prompt"], "completion": "another"}]
    data = (written(tmp_path / "a.jsonl", rows),)
    validation = written(tmp_path / "v.jsonl", rows[3:7] + rows_of("b", 5) + other)
    with caplog.at_level(logging.WARNING):
        found = ready(tmp_path, data, validation)
    assert values(found)["validation_overlap"] == 4
    assert "4 training rows are validation rows too" in caplog.text
    assert len(found.validation) == 10
    assert "split_overlap" not in values(found)


def test_a_split_that_leaves_one_side_empty_is_refused(tmp_path: Path) -> None:
    data = (written(tmp_path / "a.jsonl", rows_of("a", 1)),)
    with pytest.raises(StageError, match=r"leaves no row of tiny@train for (validation|training)"):
        ready(tmp_path, data, validation_split=0.5)
    with pytest.raises(InputError, match="both were given"):
        ready(tmp_path, data, data[0], validation_split=0.5)


def test_a_real_benchmark_splits_without_overlap(tmp_path: Path, shared_data: Path) -> None:
    data = make_artifact(shared_data / "mbpp.jsonl", "dataset", "mbpp")
    found = ready(tmp_path, (data,), validation_split=0.1, max_length=2048)
    assert values(found)["split_overlap"] == 0
    assert len(found.validation) > 50
