"""The shapes in which training rows are published, each read into prompts and the answers to them.

A code problem's prompt is the text that `eval` shows a model (hrmctl_sandbox.formats). Instructions, questions and
conversations go through the tokenizer's chat template where it has one, else they read

    ### Instruction:
    the user's words

    ### Response:
    the answer and the end token
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from hrmctl_models.tokenizers import chat_text
from hrmctl_sandbox.formats import BadRow
from hrmctl_sandbox.formats.humaneval import humaneval_task
from hrmctl_sandbox.formats.mbpp import mbpp_task
from hrmctl_sandbox.formats.task import CodeTask, text_of
from transformers import PreTrainedTokenizerBase

Pairs = tuple[tuple[str, str], ...]
Message = Mapping[str, str]
Entry = Mapping[str, Any]

_USER, _ANSWER = "### Instruction:\n", "### Response:\n"
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_ANSWERS = ("output", "response")
_CONTEXTS = ("input", "context")
_TELLING = (
    ("preference", ("chosen", "rejected")),
    ("chat", ("messages",)),
    ("chat", ("conversations",)),
    ("prompt-completion", ("prompt", "completion")),
    ("mbpp", ("code", "test_list")),
    ("humaneval", ("canonical_solution",)),
    ("instruction", ("instruction", "output")),
    ("instruction", ("instruction", "response")),
    ("qa", ("question", "answer")),
    ("text", ("text",)),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of training data; `line` counts from 1 in its file.

    `pairs` are prompts and answers in turn; each prompt but the first continues what precedes it. `rejected` are those
    of a preference's other answer. `key` is the prompt's content whatever the template, by which duplicates are known.
    `ended` says that the last answer brings its end token.
    """

    line: int
    pairs: Pairs
    key: str
    rejected: Pairs = ()
    ended: bool = False

    @property
    def texts(self) -> Iterator[str]:
        """Every text of the row, apart as they are encoded."""
        return (text for pair in (*self.pairs, *self.rejected) for text in pair)


class Chat:
    """How a conversation becomes text: by a tokenizer's chat template, or plainly where there is none."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None, template: str = "auto") -> None:
        wanted = tokenizer is not None and template == "auto" and getattr(tokenizer, "chat_template", None)
        self.tokenizer = tokenizer if wanted else None
        self.end = str(tokenizer.eos_token) if tokenizer is not None and tokenizer.eos_token else ""

    @property
    def name(self) -> str:
        """What writes the conversations, as evidence says it."""
        return "plain" if self.tokenizer is None else "tokenizer"

    def pairs(self, messages: Sequence[Message]) -> tuple[Pairs, bool]:
        """The prompts and answers of a conversation, and whether the last answer ends with the end token.

        What follows an answer's end token belongs to the next prompt. What follows the last answer is left off:
        nothing is learned from it. Raises BadRow where the template fails, or rewrites earlier turns.
        """
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        whole = self._text(messages[: last + 1], answering=False)
        pairs: list[tuple[str, str]] = []
        place = 0
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._text(messages[:i], answering=True)
            after = self._text(messages[: i + 1], answering=False)
            if not (whole.startswith(before) and whole.startswith(after) and place <= len(before) < len(after)):
                raise BadRow(
                    "the chat template writes earlier turns otherwise as the conversation grows; "
                    "give its turns as rows of their own, or set chat_template to plain"
                )
            end = self._end_of(whole, len(before), len(after))
            pairs.append((whole[place : len(before)], whole[len(before) : end]))
            place = end
        return tuple(pairs), bool(self.end) and pairs[-1][1].endswith(self.end)

    def _end_of(self, whole: str, first: int, last: int) -> int:
        found = whole.rfind(self.end, first, last) if self.end else -1
        return last if found < 0 else found + len(self.end)

    def _text(self, messages: Sequence[Message], *, answering: bool) -> str:
        if self.tokenizer is None:
            return "".join(self._plain(message) for message in messages) + (_ANSWER if answering else "")
        try:
            return chat_text(self.tokenizer, messages, answering=answering)
        except Exception as error:
            raise BadRow(f"the chat template refuses it: {error}") from error

    def _plain(self, message: Message) -> str:
        if message["role"] == "assistant":
            return f"{_ANSWER}{message['content']}{self.end}\n\n"
        return f"{_USER if message['role'] == 'user' else ''}{message['content']}\n\n"


def detect(entry: Entry) -> str:
    """The format of a row, by its fields. Raises BadRow where they tell nothing."""
    for name, fields in _TELLING:
        if all(field in entry for field in fields):
            return name
    known = "; ".join(f"{' and '.join(fields)} ({name})" for name, fields in _TELLING)
    raise BadRow(f"has the fields of no known format: {known}")


def convert(name: str, entry: Entry, line: int, chat: Chat) -> Row:
    """The row of an entry in the format `name`. Raises BadRow saying what is wrong with it."""
    row = _READERS[name](entry, line, chat)
    try:
        "".join(row.texts).encode()
    except UnicodeEncodeError:
        raise BadRow("holds half of a surrogate pair, which is not text; write the character itself") from None
    if not all(answer for answers in (row.pairs, row.rejected) for _, answer in answers):
        raise BadRow("the completion is empty, so there is nothing to learn")
    return row


def key_of(text: str) -> str:
    """The text in one case and with single spaces: what makes two prompts the same."""
    return " ".join(text.casefold().split())


def digest_of(text: str) -> int:
    """64 bits that stand for a text."""
    raw = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big")


def _pair(entry: Entry, line: int, chat: Chat) -> Row:
    prompt, completion = text_of(entry, "prompt"), text_of(entry, "completion")
    return Row(line, ((prompt, completion),), key_of(prompt or completion))


def _text(entry: Entry, line: int, chat: Chat) -> Row:
    text = text_of(entry, "text")
    return Row(line, (("", text),), key_of(text))


def _mbpp(entry: Entry, line: int, chat: Chat) -> Row:
    return _code(mbpp_task({"task_id": line, **entry}), line)


def _humaneval(entry: Entry, line: int, chat: Chat) -> Row:
    return _code(humaneval_task(entry), line)


def _code(task: CodeTask, line: int) -> Row:
    return Row(line, ((task.prompt, task.completion),), key_of(task.text or task.prompt))


def _asked(question: str, answers: Sequence[str], contexts: Sequence[str]) -> Callable[[Entry, int, Chat], Row]:
    def read(entry: Entry, line: int, chat: Chat) -> Row:
        context = next((text_of(entry, name) for name in contexts if entry.get(name)), "")
        asked = text_of(entry, question)
        answer = text_of(entry, next((name for name in answers if name in entry), answers[0]))
        if not answer:
            raise BadRow("the answer is empty, so there is nothing to learn")
        words = f"{asked}\n\n{context}" if context else asked
        messages = [{"role": "user", "content": words}, {"role": "assistant", "content": answer}]
        pairs, ended = chat.pairs(messages)
        return Row(line, pairs, key_of(words), ended=ended)

    return read


def _chat(entry: Entry, line: int, chat: Chat) -> Row:
    messages = _messages(entry, "messages" if "messages" in entry else "conversations")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise BadRow("has no answer of the assistant, so there is nothing to learn")
    pairs, ended = chat.pairs(messages)
    return Row(line, pairs, _key_of(messages[: roles.index("assistant")]), ended=ended)


def _preference(entry: Entry, line: int, chat: Chat) -> Row:
    if isinstance(entry.get("chosen"), str) or isinstance(entry.get("prompt"), str):
        prompt, chosen, rejected = (text_of(entry, name) for name in ("prompt", "chosen", "rejected"))
        if chosen == rejected:
            raise BadRow("chosen and rejected are the same, so neither is preferred")
        return Row(line, ((prompt, chosen),), key_of(prompt), ((prompt, rejected),))
    chosen_turns, rejected_turns = _messages(entry, "chosen"), _messages(entry, "rejected")
    if "prompt" in entry:
        prompt_turns = _messages(entry, "prompt")
    else:
        both = zip(chosen_turns[:-1], rejected_turns[:-1], strict=False)
        prompt_turns = [turn for turn, _ in takewhile(lambda pair: pair[0] == pair[1], both)]
        chosen_turns, rejected_turns = chosen_turns[len(prompt_turns) :], rejected_turns[len(prompt_turns) :]
    if [m["role"] for m in (*chosen_turns, *rejected_turns)] != ["assistant"] * 2 or chosen_turns == rejected_turns:
        raise BadRow("chosen and rejected are not two different answers of the assistant to one prompt")
    (better, ended), (worse, _) = (_last(chat, [*prompt_turns, *turns]) for turns in (chosen_turns, rejected_turns))
    return Row(line, better, _key_of(prompt_turns), worse, ended)


def _last(chat: Chat, messages: Sequence[Message]) -> tuple[Pairs, bool]:
    """The conversation as one pair: all before its last answer, and that answer."""
    pairs, ended = chat.pairs(messages)
    before = "".join(text for pair in pairs[:-1] for text in pair)
    return ((before + pairs[-1][0], pairs[-1][1]),), ended


def _messages(entry: Entry, name: str) -> list[Message]:
    value = entry.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise BadRow(f"field '{name}' is not a list of at least one message")
    found: list[Message] = []
    for item in value:
        keys = ("role", "content") if "role" in item else ("from", "value")
        said, content = (text_of(item, key) for key in keys)
        if said not in _ROLES:
            raise BadRow(f"role '{said[:40]}' is none of {', '.join(_ROLES)}")
        if _ROLES[said] == "assistant" and not content:
            raise BadRow("an answer of the assistant is empty, so there is nothing to learn")
        found.append({"role": _ROLES[said], "content": content})
    return found


def _key_of(messages: Sequence[Message]) -> str:
    return key_of("\n".join(message["content"] for message in messages))


_READERS: Mapping[str, Callable[[Entry, int, Chat], Row]] = {
    "prompt-completion": _pair,
    "text": _text,
    "mbpp": _mbpp,
    "humaneval": _humaneval,
    "instruction": _asked("instruction", _ANSWERS, _CONTEXTS),
    "qa": _asked("question", ("answer",), ("context",)),
    "chat": _chat,
    "preference": _preference,
}
