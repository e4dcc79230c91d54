"""Tokenizers: any text survives the round trip, and the seam of prompt and completion is that of generation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hrmctl_models import encode_pair, train_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hrmctl import StageError

BODIES = [f"    return n + {k}\n" for k in range(10)] * 3
CODE = [*BODIES, *(f"# add it\ndef f(n):\n{body}" for body in BODIES)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(CODE, 300)


@given(st.text())
def test_any_text_survives(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    "text", ["\x00\ufeff\u200b", "héé 😀\r\n\t  def", "a  b   c\n\n    d ", "12 34", " , .", "<eo s>"]
)
def test_awkward_texts_survive(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_special_tokens_have_their_places_and_are_not_added(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert not {0, 1, 2} & set(tokenizer("def f(n):\n")["input_ids"])
    assert len(tokenizer) <= 300


def test_learned_merges_shorten_text_and_indentation_is_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("def f(n):\n    return n + 7\n")["input_ids"])
    assert "Ġ7" in tokens
    assert len(tokens) < 14
    assert tokens[tokens.index("ĊĠĠĠĠ") :] == ["ĊĠĠĠĠ", "return", "Ġn", "Ġ+", "Ġ7", "Ċ"]
    first = tokenizer.convert_ids_to_tokens(tokenizer("    return n + 7\n")["input_ids"])
    assert first == ["ĠĠĠĠ", "return", "Ġn", "Ġ+", "Ġ7", "Ċ"]


def test_training_twice_in_other_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from hrmctl_models import train_tokenizer;"
        "train_tokenizer([f'word{i % 7} text{i % 5} x{i}' for i in range(500)], 320).save_pretrained(sys.argv[1])"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_saved_tokenizer_loads_as_it_was(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert again("def f(n):\n    return é")["input_ids"] == tokenizer("def f(n):\n    return é")["input_ids"]
    assert (again.pad_token_id, again.eos_token_id, again.padding_side) == (0, 2, "left")


@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_seam_keeps_the_tokens_of_the_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> None:
    head, tail = encode_pair(tokenizer, prompt, completion)
    assert head == tokenizer(prompt)["input_ids"]
    assert tokenizer.decode(head + tail) == (prompt + completion)


def test_seam_that_a_token_would_straddle(tokenizer: PreTrainedTokenizerBase) -> None:
    whole = tokenizer("def f(n):\n    return n")["input_ids"]
    head, tail = encode_pair(tokenizer, "def f(n):\n", "    return n")
    assert head + tail != whole
    assert tokenizer.decode(head + tail) == "def f(n):\n    return n"


def test_too_small_a_vocabulary_and_no_text_are_refused() -> None:
    with pytest.raises(StageError, match="259"):
        train_tokenizer(CODE, 258)
    with pytest.raises(StageError, match="no text"):
        train_tokenizer(["", ""], 300)
