"""HumanEval (Chen et al. 2021, arXiv:2107.03374): the prompt is code and part of the program."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from .task import BadRow, CodeTask, checked_task, parsed, text_of


def humaneval_task(entry: Mapping[str, Any]) -> CodeTask:
    """The task of a row of HumanEval. Raises BadRow."""
    prompt, entry_point = text_of(entry, "prompt"), text_of(entry, "entry_point")
    return checked_task(
        CodeTask(
            task_id=text_of(entry, "task_id"),
            text=docstring(prompt, entry_point),
            prompt=prompt,
            prefix=prompt,
            completion=text_of(entry, "canonical_solution"),
            entry_point=entry_point,
            tests=(f"{text_of(entry, 'test')}\ncheck({entry_point})",),
            source="humaneval",
        )
    )


def docstring(prompt: str, entry_point: str) -> str:
    """What the prompt's open function says of itself. Raises BadRow where the prompt has no such function."""
    body = parsed(prompt.rstrip() + "\n    pass\n", "field 'prompt', completed by a body,").body
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == entry_point]
    if not found:
        raise BadRow(f"field 'prompt' has no function '{entry_point}'")
    return ast.get_docstring(found[0]) or ""
