"""From a data set's rows to token batches whose order depends on the seed and the position alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from hrmctl_models.tokenizers import encode_pairs
from transformers import PreTrainedTokenizerBase

from hrmctl import Problem, StageError

IGNORED = -100
_SHOWN = 10
# Rows are sorted by length within pools of this many batches: wide enough that a batch holds rows of
# one length, narrow enough that which rows meet differs from epoch to epoch.
_POOL = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One training text; `line` counts from 1 in its file."""

    line: int
    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one row with the end token; the loss is taken over `ids[start:]`."""

    line: int
    ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class Batch:
    """`input_ids` and `labels` (rows, length), right-padded; labels are shifted by the model's loss, not here."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    lines: tuple[int, ...]
    tokens: int

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.input_ids.to(device), self.labels.to(device), self.lines, self.tokens)


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file. Raises StageError naming file and line of the first ten that are not usable."""
    rows: list[Row] = []
    problems: list[Problem] = []
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            row = _parse(raw, number)
            if isinstance(row, Row):
                rows.append(row)
            else:
                problems.append(Problem(row, str(path), number, 1))
            if len(problems) == _SHOWN:
                break
    if problems:
        raise StageError(*problems)
    if not rows:
        raise StageError(Problem("the data set holds no row", str(path), remedy="generate or import it again"))
    return rows


def _parse(raw: bytes, number: int) -> Row | str:
    try:
        value = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return f"not a JSON object on one line ({error})"
    if not isinstance(value, dict):
        return "not a JSON object; each line needs the keys prompt and completion"
    prompt, completion = value.get("prompt"), value.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str):
        return "prompt and completion must both be there, as text"
    if not completion:
        return "the completion is empty, so there is nothing to learn"
    try:
        (prompt + completion).encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not text; write the character itself"
    return Row(number, prompt, completion)


def encode_rows(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int, loss_on: Literal["completion", "all"]
) -> tuple[list[Example], list[int]]:
    """Examples of the rows that fit into `max_length` tokens, and the lines of those that do not."""
    if tokenizer.eos_token_id is None:
        raise StageError("the model's tokenizer has no end token, so it could never learn to stop; set eos_token in it")
    heads, tails = encode_pairs(tokenizer, [row.prompt for row in rows], [row.completion for row in rows])
    examples, too_long = [], []
    for row, head, tail in zip(rows, heads, tails, strict=True):
        ids = [*head, *tail, tokenizer.eos_token_id]
        if len(ids) > max_length:
            too_long.append(row.line)
        else:
            # The first token has nothing before it to be predicted from.
            examples.append(Example(row.line, ids, max(1, len(head)) if loss_on == "completion" else 1))
    return examples, too_long


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """Right-pad examples into one batch; padding and prompts carry the ignored label."""
    width = max(len(example.ids) for example in examples)
    input_ids = torch.full((len(examples), width), pad, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.ids, dtype=torch.long)
        input_ids[row, : len(ids)] = ids
        labels[row, example.start : len(ids)] = ids[example.start :]
    tokens = sum(len(example.ids) for example in examples)
    return Batch(input_ids, labels, tuple(example.line for example in examples), tokens)


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any parts, equal on every machine."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass
class Order:
    """Which examples make up forward pass number `position`, for ever: a function of seed and position.

    Each epoch shows every example once, in batches of like length whose order is shuffled.
    """

    examples: Sequence[Example]
    batch: int
    seed: int
    _epoch: int = -1
    _plan: list[list[int]] = field(default_factory=list)

    @property
    def batches_per_epoch(self) -> int:
        """Forward passes of one epoch; the last batch of an epoch may be smaller."""
        return -(-len(self.examples) // self.batch)

    def at(self, position: int) -> list[Example]:
        """The examples of forward pass `position`, counted from 0 over all epochs."""
        epoch, index = divmod(position, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._plan_of(epoch)
        return [self.examples[i] for i in self._plan[index]]

    def _plan_of(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
        shuffled = torch.randperm(len(self.examples), generator=generator).tolist()
        pool = self.batch * _POOL
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), pool):
            alike = sorted(shuffled[start : start + pool], key=lambda i: len(self.examples[i].ids))
            batches += [alike[i : i + self.batch] for i in range(0, len(alike), self.batch)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def in_order(examples: Sequence[Example], batch: int) -> Iterator[list[Example]]:
    """All examples once, the shortest first, in batches."""
    alike = sorted(examples, key=lambda example: len(example.ids))
    for start in range(0, len(alike), batch):
        yield alike[start : start + batch]
