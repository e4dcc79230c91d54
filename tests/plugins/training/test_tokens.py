"""Rows become token ids on disk: what is learned, what is left out or cut, and what a damaged store says."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hrmctl_models import encode_pair, train_tokenizer
from hrmctl_training import tokens
from hrmctl_training.examples import IGNORED, Preference, collate
from hrmctl_training.formats import Chat, Row
from hrmctl_training.params import TrainingParams
from hrmctl_training.prepare import Prepared, prepare
from hrmctl_training.rows import Reader
from hrmctl_training.sources import encoded, training_texts
from hrmctl_training.tokens import Limits, Stored, Writer, encode
from transformers import PreTrainedTokenizerBase

from hrmctl import Artifact, Cancelled, StageError
from hrmctl.testing import RecordingContext, make_artifact, make_context
from tests.plugins.training.test_formats import TEMPLATE, TURNS, tokenizer_with

PAIRS = [{"prompt": f"# add {i}\n", "completion": " x" * (i % 7 + 1)} for i in range(2500)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer of 300 tokens with `<eos>`."""
    return train_tokenizer(["one two three"] * 3, 300)


def written(path: Path, rows: Sequence[dict[str, Any]], label: str = "tiny@train") -> Artifact:
    """A dataset artifact of these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return make_artifact(path, "dataset", label)


def prepared(tmp_path: Path, rows: Sequence[dict[str, Any]], tokenizer: Any, **params: Any) -> Prepared:
    """The rows made ready to train on."""
    data = written(tmp_path / "d.jsonl", rows)
    return prepare((data,), None, tokenizer, TrainingParams(**params), make_context(tmp_path))


def values(found: Prepared) -> dict[str, float]:
    """The figures of the evidence."""
    return {name: payload["value"] for name, payload in found.evidence}


def test_a_store_gives_back_every_row(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    examples = prepared(tmp_path, PAIRS, tokenizer).examples
    assert len(examples) == len(PAIRS)
    for i in (0, 1023, 1024, 2499):
        head, tail = encode_pair(tokenizer, PAIRS[i]["prompt"], PAIRS[i]["completion"])
        assert examples[i].ids == [*head, *tail, tokenizer.eos_token_id]
        assert (examples[i].line, examples[i].start, examples[i].gaps) == (i + 1, len(head), ())
        assert examples.lengths[i] == len(examples[i])
    with pytest.raises(IndexError):
        examples[len(PAIRS)]


def test_prompts_and_padding_are_not_learned(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "one two", "completion": " three"}, {"prompt": "", "completion": "x"}]
    examples = prepared(tmp_path, rows, tokenizer).examples
    batch = collate(list(examples), pad=0)
    head, tail = tokenizer("one two")["input_ids"], tokenizer(" three")["input_ids"]
    assert batch.input_ids[0].tolist() == [*head, *tail, tokenizer.eos_token_id]
    assert batch.labels[0].tolist() == [IGNORED] * len(head) + [*tail, tokenizer.eos_token_id]
    # An empty prompt: the first token cannot be predicted, the rest is learned, the padding is not.
    assert batch.labels[1].tolist()[:2] == [IGNORED, tokenizer.eos_token_id]
    assert set(batch.labels[1].tolist()[2:]) == {IGNORED}
    assert (batch.tokens, batch.lines) == (len(head) + len(tail) + 1 + 2, (1, 2))
    everything = prepared(tmp_path, rows, tokenizer, loss_on="all").examples
    assert collate(list(everything), pad=0).labels[0].tolist()[1:] == batch.input_ids[0].tolist()[1:]


def test_each_answer_of_a_conversation_is_learned_and_no_question(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(TEMPLATE)
    (example,) = prepared(tmp_path, [{"messages": TURNS}], tokenizer).examples
    batch = collate([example], pad=0)
    learned = [token for token, label in zip(example.ids, batch.labels[0].tolist(), strict=True) if label != IGNORED]
    assert tokenizer.decode(learned) == "1<eos>2<eos>"
    assert tokenizer.decode(example.ids).endswith("2<eos>")
    # What is trained on is what generation will be given.
    asked = tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True)
    assert example.ids[: example.start] == tokenizer(asked)["input_ids"]


def test_a_begin_token_opens_the_first_prompt_alone() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer: Any = tokenizer_with("{{ bos_token }}" + TEMPLATE)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    row = next(iter([Row(1, *_pairs(tokenizer))]))
    ((text,),) = encode([row], tokenizer, True)
    assert text.ids.count(tokenizer.bos_token_id) == 1
    assert text.ids[0] == tokenizer.bos_token_id


def _pairs(tokenizer: Any) -> tuple[Any, str]:
    return Chat(tokenizer).pairs(TURNS)[0], "key"


def test_long_rows_are_left_out_and_told_by_line(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [PAIRS[0], {"prompt": "a b c d e f g h i j k l m n", "completion": "b"}, PAIRS[0]]
    with caplog.at_level(logging.WARNING):
        found = prepared(tmp_path, rows, tokenizer, max_length=16)
    assert [example.line for example in found.examples] == [1, 3]
    assert "1 of 3 training rows are longer than 16 tokens and left out (first at line 2)" in caplog.text
    assert (values(found)["rows_too_long"], values(found)["rows_truncated"]) == (1, 0)
    payload = dict(found.evidence)["row_tokens"]
    lengths = [len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) + 1 for row in rows]
    assert payload["value"] == pytest.approx(sum(lengths) / 3)
    assert (payload["n"], payload["context"]["min"], payload["context"]["max"]) == (3, min(lengths), max(lengths))
    with pytest.raises(StageError, match=r"(?s)d.jsonl:2:1: longer than 16.*raise max_length"):
        prepared(tmp_path, rows, tokenizer, max_length=16, too_long="stop")
    with pytest.raises(StageError, match="every training row is longer than 3 tokens; raise max_length"):
        prepared(tmp_path, rows, tokenizer, max_length=3)


def test_long_rows_are_cut_where_that_is_asked_for(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [PAIRS[0], {"prompt": "a b", "completion": "b" * 40}, {"prompt": "a" * 40, "completion": "b"}]
    found = prepared(tmp_path, rows, tokenizer, max_length=16, too_long="truncate")
    # Of the last row only the prompt would be left, and nothing to learn.
    assert [(example.line, len(example)) for example in found.examples] == [(1, len(found.examples[0])), (2, 16)]
    assert found.examples[1].ids[-1] != tokenizer.eos_token_id
    assert (values(found)["rows_too_long"], values(found)["rows_truncated"]) == (1, 1)


def test_a_cut_conversation_keeps_its_answers_apart(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(TEMPLATE)
    (whole,) = prepared(tmp_path, [{"messages": TURNS}], tokenizer).examples
    ((first, last),) = whole.gaps
    for length in (whole.start + 1, first + 1, last, last + 1):
        (cut,) = prepared(tmp_path, [{"messages": TURNS}], tokenizer, max_length=length, too_long="truncate").examples
        assert cut.ids == whole.ids[:length]
        assert collate([cut], 0).labels[0].tolist() == collate([whole], 0).labels[0].tolist()[:length]


def test_bad_rows_stop_or_are_reported(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[Any] = [PAIRS[0], {"prompt": "a"}, [], PAIRS[1]]
    with pytest.raises(StageError, match="2 bad rows in all; mend them, or set bad_rows to skip"):
        prepared(tmp_path, rows, tokenizer)
    assert not [path for path in (tmp_path / "scratch").iterdir() if "tokens" in path.name]
    with caplog.at_level(logging.WARNING):
        found = prepared(tmp_path, rows, tokenizer, bad_rows="skip")
    assert "2 of 4 training rows of tiny@train are bad and left out" in caplog.text
    assert [example.line for example in found.examples] == [1, 4]
    assert values(found)["rows_bad"] == 2
    report = [json.loads(line) for line in found.sources[0].bad_rows.splitlines()]
    assert report == [
        {"line": 2, "reason": "no field 'completion'"} | report[0],
        {"line": 3, "reason": "not a JSON object"},
    ]
    with pytest.raises(StageError, match=r"d\.jsonl:1:1: "):
        prepared(tmp_path, rows[1:3], tokenizer, bad_rows="skip")


def test_preferences_come_in_pairs(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "p", "chosen": "good" * i, "rejected": "bad"} for i in range(1, 9)]
    found = prepared(tmp_path, rows, tokenizer, max_length=20)
    assert found.preference
    assert len(found.examples) == 4
    pair = found.examples[1]
    assert isinstance(pair, Preference)
    assert (pair.line, tokenizer.decode(pair.chosen.ids), tokenizer.decode(pair.rejected.ids)) == (
        2,
        "pgoodgood<eos>",
        "pbad<eos>",
    )
    assert pair.chosen.start == pair.rejected.start == 1
    assert [len(example) for example in found.examples] == found.examples.lengths.tolist()


@pytest.mark.parametrize(("vocabulary", "width"), [(1 << 16, 2), ((1 << 16) + 1, 4)])
def test_ids_are_as_wide_as_the_vocabulary_needs(tmp_path: Path, vocabulary: int, width: int) -> None:
    class Wide:
        eos_token_id = vocabulary - 1

        def __len__(self) -> int:
            return vocabulary

        def __call__(self, texts: list[str], **_: Any) -> dict[str, Any]:
            return {"input_ids": [[ord(c) for c in text] for text in texts]}

    writer = Writer(tmp_path / "s", Wide(), Limits(None, False, True))  # type: ignore[arg-type]
    writer.add(Row(1, (("a", "b"),), "a"))
    writer.close()
    stored = Stored(tmp_path / "s")
    assert stored[0].ids == [97, 98, vocabulary - 1]
    assert stored.path.stat().st_size == 3 * width


def test_a_store_that_shrinks_or_vanishes_says_so(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    examples = prepared(tmp_path, PAIRS, tokenizer).examples
    path = examples.path
    size = path.stat().st_size
    os.truncate(path, size - 1)
    assert examples[0].line == 1
    with pytest.raises(StageError, match=r"ids.bin cannot be read: it ends before token \d+; run the stage again"):
        examples[len(PAIRS) - 1]
    with pytest.raises(StageError, match=f"it has {size - 1} bytes instead of {size}"):
        Stored(path.parent)
    path.unlink()
    with pytest.raises(StageError, match="No such file"):
        Stored(path.parent)
    (path.parent / "index.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(StageError, match="cannot be read"):
        Stored(path.parent)


def test_a_finished_store_is_used_again_and_a_damaged_one_is_not(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    data, params = written(tmp_path / "d.jsonl", PAIRS), TrainingParams()

    def attempt(**changed: Any) -> tuple[bool, Any]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            given = TrainingParams(**changed) if changed else params
            source = encoded(data, tokenizer, given, make_context(tmp_path), "training")
        return "an earlier attempt" in caplog.text, source.rows

    reused, rows = attempt()
    assert not reused
    before = rows.path.stat().st_ino
    assert attempt()[0]
    assert rows.path.stat().st_ino == before
    assert not attempt(max_length=100)[0]
    os.truncate(rows.path, 10)
    reused, again = attempt()
    assert not reused
    assert len(again) == len(PAIRS)
    assert again[2499] == attempt()[1][2499]


def test_a_killed_attempt_leaves_no_half_store(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    data = written(tmp_path / "d.jsonl", PAIRS)
    child = os.fork()
    if child == 0:
        write = Writer._write

        def dying(self: Writer, row: Row, text: Any) -> None:
            if row.line == 1500:
                os.kill(os.getpid(), signal.SIGKILL)
            write(self, row, text)

        Writer._write = dying  # type: ignore[method-assign]
        try:
            encoded(data, tokenizer, TrainingParams(), make_context(tmp_path), "training")
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    names = [path.name for path in (tmp_path / "scratch").iterdir()]
    assert [name.startswith(".tokens-") for name in names] == [True]
    source = encoded(data, tokenizer, TrainingParams(), make_context(tmp_path), "training")
    assert len(source.rows) == len(PAIRS)
    assert [path.name[:7] for path in (tmp_path / "scratch").iterdir()] == ["tokens-"]


@pytest.mark.parametrize("changed", [{}, {"validation_split": 0.3}, {"max_length": 14, "bad_rows": "skip"}])
def test_cancelled_encoding_goes_on(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    class Stopping(RecordingContext):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2400:
                raise Cancelled

    params = TrainingParams(**changed)
    bad = [{"prompt": "no answer"}] if "bad_rows" in changed else []
    data = written(tmp_path / "d.jsonl", [*bad, *PAIRS])
    (tmp_path / "whole").mkdir()
    whole = encoded(data, tokenizer, params, make_context(tmp_path / "whole"), "training")
    with pytest.raises(Cancelled):
        encoded(data, tokenizer, params, Stopping(make_context(tmp_path).scratch), "training")
    rows: list[int] = []
    monkeypatch.setattr(
        tokens, "encode", lambda some, *rest: rows.extend(row.line for row in some) or encode(some, *rest)
    )
    found = encoded(data, tokenizer, params, make_context(tmp_path), "training")
    assert 0 < len(rows) < 1.2 * len(PAIRS) - 1024
    assert (found.counts, found.bad_rows) == (whole.counts, whole.bad_rows)
    for a, b in ((found.rows, whole.rows), (found.held, whole.held)):
        if a is not None and b is not None:
            assert a.path.read_bytes() == b.path.read_bytes()
            for name in ("ends", "lines", "starts", "keys", "wholes", "sizes"):
                assert np.array_equal(getattr(a, name), getattr(b, name)), name
            assert not (a.path.parent / "chunks.jsonl").exists()


def test_a_full_disk_is_told(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "_write", full)
    with pytest.raises(StageError, match=r"token ids of tiny@train cannot be written .*No space left on device"):
        prepared(tmp_path, PAIRS, tokenizer)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_rows_are_never_all_in_memory(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    alive = most = 0

    class Counted(Row):
        def __init__(self, row: Row) -> None:
            nonlocal alive, most
            super().__init__(row.line, row.pairs, row.key)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    data = written(tmp_path / "d.jsonl", PAIRS * 4)
    writer = Writer(tmp_path / "s", tokenizer, Limits(512, False, True))
    for row in Reader(data.path, "auto", Chat()):
        writer.add(Counted(row))
    writer.close()
    assert len(Stored(tmp_path / "s")) == 4 * len(PAIRS)
    assert 0 < most < len(PAIRS)


def test_a_tokenizer_is_trained_on_a_stream_of_the_same_texts(tmp_path: Path) -> None:
    data = written(tmp_path / "d.jsonl", PAIRS)
    texts = [text for row in PAIRS for text in (row["prompt"], row["completion"])]
    streamed = train_tokenizer(training_texts([data], TrainingParams()), 300)
    assert streamed.get_vocab() == train_tokenizer(texts, 300).get_vocab()
    bad = written(tmp_path / "bad.jsonl", [*PAIRS[:3], {"prompt": 3}])
    with pytest.raises(StageError, match=r"bad\.jsonl:4:1: "):
        train_tokenizer(training_texts([bad], TrainingParams()), 300)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    tokenizer = tokenizer_with()
    tokenizer.eos_token = None
    with pytest.raises(StageError, match="no end token"):
        prepared(tmp_path, PAIRS[:3], tokenizer)


def test_lengths_are_of_one_kind(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    examples = prepared(tmp_path, PAIRS, tokenizer).examples
    assert np.array_equal(examples.lengths, [len(example) for example in examples])
