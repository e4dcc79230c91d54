"""The validation rows that a probe asks a model: prompt, reference, and the tests where a row carries some."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hrmctl_sandbox.formats import BadRow, CodeTask, checked
from hrmctl_sandbox.formats.humaneval import humaneval_task
from hrmctl_sandbox.formats.mbpp import mbpp_task
from hrmctl_sandbox.programs.source import DEFINITIONS, IMPORTS, statements
from transformers import PreTrainedTokenizerBase

from hrmctl import Artifact
from hrmctl_training.formats import Chat, Row
from hrmctl_training.params import TrainingParams
from hrmctl_training.rows import Reader
from hrmctl_training.sources import is_held

_CODE = (*DEFINITIONS, *IMPORTS, ast.Assign, ast.AugAssign, ast.Return)


@dataclass(frozen=True, slots=True)
class Question:
    """One validation row. `task` holds its tests, None where it has none that can be run."""

    prompt: str
    reference: str
    task: CodeTask | None

    @property
    def prefix(self) -> str | None:
        """What stands before an answer in its program; None where prompt and reference are no program."""
        if self.task is not None:
            return self.task.prefix
        return next((prefix for prefix in ("", self.prompt) if _is_code(prefix + self.reference)), None)


def questions_of(
    validation: Artifact | None, data: Sequence[Artifact], tokenizer: PreTrainedTokenizerBase, params: TrainingParams
) -> list[Question]:
    """The first `sample_problems` validation rows, in the order of the data; none where there is no validation."""
    split = params.validation_split if validation is None else 0.0
    if validation is None and not split:
        return []
    sources = data if validation is None else (validation,)
    chat = Chat(tokenizer, params.chat_template)
    rows = (
        _question(row, entry, tokenizer)
        for source in sources
        for row, entry in Reader(source.path, params.format, chat).with_entries()
        if not split or is_held(row, split)
    )
    return list(islice(_fitting(rows, tokenizer, params.max_length), params.sample_problems))


def _question(row: Row, entry: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> Question:
    """The first turn of the row; of a preference, the answer that is preferred."""
    prompt, reference = row.pairs[0]
    reference = reference.removesuffix(str(tokenizer.eos_token)) if row.ended else reference
    return Question(prompt, reference, _task(entry, row, prompt))


def _task(entry: Mapping[str, Any], row: Row, prompt: str) -> CodeTask | None:
    """The row as a coding task whose tests the sandbox can run apart from the program and without packages."""
    try:
        if "test_list" in entry:
            task = mbpp_task({"task_id": row.line, **entry})
        elif "canonical_solution" in entry:
            task = humaneval_task(entry)
        else:
            task = checked(entry)
    except BadRow:
        return None
    usable = task.prompt == prompt and not task.shared and not task.meta.get("packages")
    return task if usable else None


def _fitting(questions: Iterator[Question], tokenizer: PreTrainedTokenizerBase, longest: int) -> Iterator[Question]:
    for question in questions:
        ids = tokenizer(question.prompt + question.reference)["input_ids"]
        if len(ids) < longest:
            yield question


def _is_code(source: str) -> bool:
    """Whether the text is Python that does something: a single word parses too."""
    return any(isinstance(node, _CODE) for node in statements(source))
