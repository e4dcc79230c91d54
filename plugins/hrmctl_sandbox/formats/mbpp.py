"""MBPP (Austin et al. 2021, arXiv:2108.07732), the full set and the sanitized one.

A prompt is the request and the first of its asserts in a docstring, which names the function, as in
Fried et al. 2022 (InCoder) and the BigCode evaluation harness; the other asserts stay unseen.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from .task import BadRow, CodeTask, checked_task, parsed, text_of, texts_of


def mbpp_task(entry: Mapping[str, Any]) -> CodeTask:
    """The task of a row of the full set (`text`) or of the sanitized one (`prompt`). Raises BadRow."""
    number = entry.get("task_id")
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadRow("field 'task_id' is not an integer")
    text = text_of(entry, "text" if "text" in entry else "prompt")
    tests = [unix(test) for test in texts_of(entry, "test_list")]
    code = unix(text_of(entry, "code"))
    setup = [unix(text_of(entry, "test_setup_code"))] if "test_setup_code" in entry else []
    imports = texts_of(entry, "test_imports") if entry.get("test_imports") else []
    return checked_task(
        CodeTask(
            task_id=f"mbpp/{number}",
            text=text,
            prompt=f'"""\n{text}\n{tests[0]}\n"""\n',
            completion=code.rstrip() + "\n",
            entry_point=entry_point_of(code, tests[0]),
            setup="\n".join([*imports, *setup]).strip(),
            tests=tuple(tests),
            source="mbpp",
            meta={"number": number},
        )
    )


def unix(text: str) -> str:
    """The text with Unix line ends."""
    return text.replace("\r\n", "\n")


def entry_point_of(code: str, test: str) -> str:
    """The outermost function that `test` calls and `code` defines. Raises BadRow where there is none."""
    body = parsed(code, "field 'code'").body
    defined = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    calls = [node.func for node in ast.walk(parsed(test, "the first test")) if isinstance(node, ast.Call)]
    for function in calls:
        if isinstance(function, ast.Name) and function.id in defined:
            return function.id
    raise BadRow("the first test calls no function that the code defines")
