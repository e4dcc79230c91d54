"""BigCodeBench (Zhuo et al. 2024, arXiv:2406.15877): unittest classes that run in the program's own process.

They patch the program's imports and read its files, so they cannot run in another process than the program: the tasks
are `shared`, and their verdicts forgeable.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from typing import Any

from .task import BadRow, CodeTask, checked_task, text_of


def complete_task(entry: Mapping[str, Any]) -> CodeTask:
    """The task of a row, in the variant in which a model completes code. Raises BadRow."""
    prompt = text_of(entry, "complete_prompt")
    return _task(entry, prompt, prompt, text_of(entry, "canonical_solution"))


def instruct_task(entry: Mapping[str, Any]) -> CodeTask:
    """The task of a row, in the variant in which a model is asked for a whole program. Raises BadRow."""
    reference = text_of(entry, "complete_prompt") + text_of(entry, "canonical_solution")
    return _task(entry, text_of(entry, "instruct_prompt"), "", reference)


def _task(entry: Mapping[str, Any], prompt: str, prefix: str, reference: str) -> CodeTask:
    return checked_task(
        CodeTask(
            task_id=text_of(entry, "task_id"),
            text=text_of(entry, "instruct_prompt") if entry.get("instruct_prompt") else "",
            prompt=prompt,
            prefix=prefix,
            completion=reference,
            entry_point=text_of(entry, "entry_point"),
            tests=(text_of(entry, "test"),),
            source="bigcodebench",
            meta={"packages": packages(entry)},
            shared=True,
        )
    )


def packages(entry: Mapping[str, Any]) -> list[str]:
    """The packages outside of the standard library that the row names in `libs`. Raises BadRow."""
    value = entry.get("libs") or []
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = None
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise BadRow("field 'libs' is not a list of names")
    return sorted({item.partition(".")[0] for item in value} - sys.stdlib_module_names)
