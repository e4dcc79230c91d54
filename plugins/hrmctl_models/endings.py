"""When a sample has ended, and what its text is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

Reason = Literal["end", "stop", "length", "refused"]
Complete = Callable[[int, str], bool]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample of a prompt.

    `tokens` are the ids as generated, the end token included; `text` is without special tokens and
    without the stop sequence and what follows it. `reason`: `end` (the model's end token), `stop` (a
    stop sequence, or the caller's `complete` was content), `length` (the token limit or the end of the
    context window), `refused` (the prompt alone fills the context window: nothing was generated).
    `seconds` passed from the start of its prompt's computation to its end, in a batch with others; None where
    the engine did not measure. Equality leaves them out.
    """

    text: str
    tokens: tuple[int, ...]
    reason: Reason
    seconds: float | None = field(default=None, compare=False)

    @property
    def finished(self) -> bool:
        """Whether the model itself came to an end."""
        return self.reason in ("end", "stop")


def end_tokens(*sources: Any) -> frozenset[int]:
    """Every token id that ends a completion by any of a generation configuration, a configuration and a tokenizer."""
    found: set[int] = set()
    for source in sources:
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, (list, tuple)) else [] if ids is None else [ids])
    return frozenset(found)


class Endings:
    """Tells when a sample has ended, and its text."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: frozenset[int],
        stop: tuple[str, ...],
        complete: Complete | None,
    ):
        self.tokenizer = tokenizer
        self.ends = ends
        self.stop, self.complete = stop, complete
        self._watched = {text[-1] for text in self.stop} | ({"\n"} if self.complete else set())
        self._telling: dict[int, bool] = {}

    def completion(self, index: int, prompt: list[int], tokens: list[int], budget: int) -> Completion | None:
        """The completion of prompt number `index` if the latest token ends it, else None."""
        if tokens[-1] in self.ends:
            return self._cut(prompt, tokens, "end")
        full = len(tokens) >= budget
        if not full and not (self._watched and self._may_end(tokens[-1])):
            return None
        completion = self._cut(prompt, tokens, "length")
        if completion.reason == "stop" or full:
            return completion
        if self.complete and self.complete(index, completion.text):
            return Completion(completion.text, completion.tokens, "stop")
        return None

    def _may_end(self, token: int) -> bool:
        """Whether the token could end a sample by its text: decoding every row at every step would be slow."""
        if token not in self._telling:
            piece = self.tokenizer.decode([token])
            # A tokenizer may drop a leading space, and part of a character decodes to U+FFFD.
            self._telling[token] = " " in self._watched or "\ufffd" in piece or bool(self._watched & set(piece))
        return self._telling[token]

    def _cut(self, prompt: list[int], tokens: list[int], reason: Reason) -> Completion:
        text = self._decode(prompt, tokens[:-1] if reason == "end" else tokens)
        found = [at for at in (text.find(stop) for stop in self.stop) if at >= 0]
        if found:
            return Completion(text[: min(found)], tuple(tokens), "stop")
        return Completion(text, tuple(tokens), reason)

    def _decode(self, prompt: list[int], tokens: list[int]) -> str:
        # Some tokenizers drop the space before a sequence's first word: decode as the continuation it is.
        before = self._plain(prompt[-1:])
        whole = self._plain([*prompt[-1:], *tokens])
        return whole[len(before) :] if whole.startswith(before) else self._plain(tokens)

    def _plain(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
