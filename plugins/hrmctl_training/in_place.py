"""Examples of models that answer in place: as many answer tokens as question tokens, position by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hrmctl import Problem, StageError
from hrmctl_training.examples import IGNORED, Batch, Example
from hrmctl_training.order import Mixed

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class InPlaceExample:
    """Question `ids` and answer `labels` of equal number; `line` counts from 1 in the row's file."""

    line: int
    ids: list[int]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.ids)


class InPlaceExamples(Sequence[InPlaceExample]):
    """Encoded rows (prompt, completion, end token) as examples in place, under the same numbers.

    `file_of` names the file of a row by its number. Raises StageError naming the lines of the first ten rows whose
    prompt and completion differ in length, or hold a character that the tokenizer does not know.
    """

    def __init__(
        self, rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase, file_of: Callable[[int], str]
    ) -> None:
        self.rows = rows
        self._unknown = tokenizer.unk_token_id
        self.lengths = np.empty(len(rows), np.int64)
        if isinstance(rows, Mixed):
            self.drawn, self.epoch_size = rows.drawn, rows.epoch_size
        problems: list[Problem] = []
        for number, row in enumerate(rows):
            self.lengths[number] = row.start
            fault = self._fault(row)
            if fault:
                problems.append(Problem(fault, file_of(number), row.line, 1))
                if len(problems) == _SHOWN:
                    break
        if problems:
            raise StageError(*problems)

    def _fault(self, row: Example) -> str | None:
        answer = len(row.ids) - row.start - 1
        if row.gaps:
            return "several questions and answers in one row; a model that answers in place takes one"
        if answer != row.start:
            return (
                f"the prompt has {row.start} tokens and the completion {answer}; "
                "a model that answers in place needs as many"
            )
        if self._unknown is not None and self._unknown in row.ids:
            place = row.ids.index(self._unknown)
            return f"character {place % row.start + 1} of the {_side(place < row.start)} is not in the vocabulary"
        return None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> InPlaceExample:  # type: ignore[override]
        row = self.rows[index]
        return InPlaceExample(row.line, row.ids[: row.start], row.ids[row.start : -1])


def _side(first: bool) -> str:
    return "prompt" if first else "completion"


def collate_in_place(examples: Sequence[Any], pad: int) -> Batch:
    """Right-pad examples into one batch; padding carries the ignored label."""
    width = max(map(len, examples))
    input_ids = torch.full((len(examples), width), pad, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        input_ids[row, : len(example)] = torch.tensor(example.ids)
        labels[row, : len(example)] = torch.tensor(example.labels)
    return Batch(input_ids, labels, tuple(e.line for e in examples), sum(map(len, examples)))
