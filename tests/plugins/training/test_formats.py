"""Each published shape of row is read as what it is, and what is wrong with a row is said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hrmctl_models import train_tokenizer
from hrmctl_models.tokenizers import chat_text
from hrmctl_sandbox.formats import BadRow, read_tasks
from hrmctl_training.formats import Chat, Row, convert, detect
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.role == 'assistant' %}<eos>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Templates of reasoning models leave out what an earlier answer thought; this one changes it as quietly.
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if loop.last or m.role != 'assistant' %}{{ m.content }}"
    "{% else %}{{ m.content | upper }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "three?"},
]
MBPP = {"task_id": 9, "text": "Add one.", "code": "def f(n):\r\n    return n + 1", "test_list": ["assert f(1) == 2"]}


def tokenizer_with(template: str | None = None) -> PreTrainedTokenizerBase:
    """A small tokenizer, with a chat template if one is given."""
    tokenizer = train_tokenizer(["one two three"] * 3, 300)
    tokenizer.chat_template = template
    return tokenizer


def read(entry: dict[str, Any], tokenizer: PreTrainedTokenizerBase | None = None, template: str = "auto") -> Row:
    """The row of an entry in the format that it is detected as."""
    return convert(detect(entry), entry, 7, Chat(tokenizer, template))


@pytest.mark.parametrize(
    ("entry", "form", "pairs"),
    [
        ({"prompt": "a", "completion": "b", "tests": []}, "prompt-completion", (("a", "b"),)),
        ({"text": "a b"}, "text", (("", "a b"),)),
        (MBPP, "mbpp", (('"""\nAdd one.\nassert f(1) == 2\n"""\n', "def f(n):\n    return n + 1\n"),)),
        (
            {"instruction": "Add.", "input": "", "output": "x"},
            "instruction",
            (("### Instruction:\nAdd.\n\n### Response:\n", "x<eos>"),),
        ),
        (
            {"instruction": "Add.", "context": "1 2", "response": "3"},
            "instruction",
            (("### Instruction:\nAdd.\n\n1 2\n\n### Response:\n", "3<eos>"),),
        ),
        ({"question": "q", "answer": "a"}, "qa", (("### Instruction:\nq\n\n### Response:\n", "a<eos>"),)),
    ],
)
def test_formats_are_known_by_their_fields(entry: dict[str, Any], form: str, pairs: Any) -> None:
    assert detect(entry) == form
    row = read(entry, tokenizer_with())
    assert row.pairs == pairs
    assert row.line == 7
    assert row.ended == pairs[0][1].endswith("<eos>")


def test_code_problems_have_the_prompt_that_a_model_is_shown(shared_data: Path) -> None:
    lines = (shared_data / "mbpp.jsonl").read_text().splitlines()
    tasks = read_tasks(shared_data / "mbpp.jsonl", "mbpp")
    assert [read(json.loads(line)).pairs for line in lines] == [((task.prompt, task.completion),) for task in tasks]
    opened = gzip.decompress((shared_data / "HumanEval.jsonl.gz").read_bytes()).decode().splitlines()
    tasks = read_tasks(shared_data / "HumanEval.jsonl.gz", "humaneval")
    assert [detect(json.loads(line)) for line in opened] == ["humaneval"] * 164
    assert [read(json.loads(line)).pairs for line in opened] == [((task.prompt, task.completion),) for task in tasks]


def test_a_code_problem_needs_no_number() -> None:
    unnumbered = {name: value for name, value in MBPP.items() if name != "task_id"}
    assert read(unnumbered) == read(MBPP)


def test_every_answer_of_a_conversation_is_one_to_learn() -> None:
    row = read({"messages": TURNS}, tokenizer_with(TEMPLATE))
    assert row.pairs == (
        ("<|system|>be brief\n<|user|>one?\n<|assistant|>", "1<eos>"),
        # The line end after an end token is no part of the answer, and the last question has none.
        ("\n<|user|>two?\n<|assistant|>", "2<eos>"),
    )
    assert row.ended
    assert row.key == "be brief one?"


def test_the_first_prompt_is_what_generation_shows() -> None:
    tokenizer = tokenizer_with(TEMPLATE)
    asked = read({"question": "one?", "answer": "1"}, tokenizer).pairs[0][0]
    assert asked == chat_text(tokenizer, [{"role": "user", "content": "one?"}], answering=True)


def test_sharegpt_is_the_same_conversation() -> None:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    turns = [{"from": names[turn["role"]], "value": turn["content"]} for turn in TURNS]
    tokenizer = tokenizer_with(TEMPLATE)
    assert read({"conversations": turns}, tokenizer) == read({"messages": TURNS}, tokenizer)


def test_without_a_template_a_conversation_is_written_plainly() -> None:
    row = read({"messages": TURNS}, tokenizer_with())
    assert row.pairs == (
        ("be brief\n\n### Instruction:\none?\n\n### Response:\n", "1<eos>"),
        ("\n\n### Instruction:\ntwo?\n\n### Response:\n", "2<eos>"),
    )
    assert read({"messages": TURNS}, tokenizer_with(TEMPLATE), "plain") == row


def test_a_template_without_an_end_token_leaves_it_to_be_added() -> None:
    row = read({"messages": TURNS}, tokenizer_with(TEMPLATE.replace("<eos>", "")))
    assert [answer for _, answer in row.pairs] == ["1\n", "2\n"]
    assert not row.ended


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    with pytest.raises(BadRow, match="otherwise as the conversation grows"):
        read(
            {"messages": [*TURNS[:2], {"role": "assistant", "content": "long"}, *TURNS[3:]]}, tokenizer_with(FORGETFUL)
        )
    assert read({"question": "q", "answer": "a"}, tokenizer_with(FORGETFUL)).pairs[-1][1] == "a\n"


def test_a_template_that_fails_is_a_fault_of_the_row() -> None:
    with pytest.raises(BadRow, match="the chat template refuses it: no system"):
        read({"messages": TURNS}, tokenizer_with("{{ raise_exception('no system') }}"))


def test_preferences_as_texts_and_as_messages() -> None:
    row = read({"prompt": "p", "chosen": "good", "rejected": "bad"})
    assert (row.pairs, row.rejected) == ((("p", "good"),), (("p", "bad"),))
    asked = [{"role": "user", "content": "p"}]
    good, bad = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))
    tokenizer = tokenizer_with(TEMPLATE)
    explicit = read({"prompt": asked, "chosen": good, "rejected": bad}, tokenizer)
    assert explicit.pairs == (("<|user|>p\n<|assistant|>", "good<eos>"),)
    assert explicit.rejected == (("<|user|>p\n<|assistant|>", "bad<eos>"),)
    assert read({"chosen": asked + good, "rejected": asked + bad}, tokenizer) == explicit
    # Of a longer conversation only the last answer is compared.
    later = read({"chosen": TURNS[:4] + good, "rejected": TURNS[:4] + bad}, tokenizer)
    assert later.pairs[0][0].endswith("<|assistant|>1<eos>\n<|user|>two?\n<|assistant|>")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"a": 1}, "fields of no known format"),
        ({"prompt": "a", "completion": 3}, "'completion' is not text"),
        ({"prompt": None, "completion": "b"}, "no field 'prompt'"),
        ({"prompt": "a", "completion": ""}, "completion is empty"),
        ({"prompt": "\ud800", "completion": "b"}, "surrogate"),
        ({"text": ""}, "nothing to learn"),
        ({"instruction": "a", "output": ""}, "answer is empty"),
        ({"instruction": "a", "output": "b", "input": 3}, "'input' is not text"),
        ({"messages": []}, "at least one message"),
        ({"messages": "hello"}, "at least one message"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no answer of the assistant"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role 'tool' is none of"),
        ({"messages": [{"role": "assistant", "content": None}]}, "no field 'content'"),
        ({"messages": [TURNS[1], {"role": "assistant", "content": ""}]}, "answer of the assistant is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "completion is empty"),
        ({"chosen": "b", "rejected": "c"}, "no field 'prompt'"),
        ({"chosen": TURNS[:3], "rejected": TURNS[:3]}, "not two different answers"),
        ({**MBPP, "code": "def g(:"}, "field 'code' is not Python"),
        ({"canonical_solution": "x"}, "no field 'prompt'"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(entry, tokenizer_with(TEMPLATE))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "from"]), inner),
    max_leaves=6,
)
FIELDS = ["prompt", "completion", "chosen", "rejected", "messages", "text", "code", "test_list", "question", "answer"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_any_object_is_a_row_or_a_bad_row(entry: dict[str, Any]) -> None:
    try:
        row = read(entry)
    except BadRow:
        return
    assert all(answer for _, answer in row.pairs)
