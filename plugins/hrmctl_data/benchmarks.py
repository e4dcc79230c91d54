"""Readers of MBPP (Austin et al. 2021) and HumanEval (Chen et al. 2021): published rows to problem rows.

An MBPP prompt is the request and the first of its asserts in a docstring, which names the function, as in
Fried et al. 2022 (InCoder) and the BigCode evaluation harness; the other asserts stay unseen.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrmctl_data.reading import read_problems
from hrmctl_data.rows import BadRow, parsed, text_of, texts_of

_MBPP_SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}


def mbpp(path: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The rows of the full or the sanitized MBPP file by split (task ids 1-10, 11-510, 511-600, 601-974).

    Raises StageError with the line of each bad row.
    """
    splits: dict[str, list[Mapping[str, Any]]] = {}
    for row in read_problems(path, _row_of_a_split):
        splits.setdefault(_split_of(row), []).append(row)
    return splits


def _split_of(row: Mapping[str, Any]) -> str:
    return next((name for name, ids in _MBPP_SPLITS.items() if row["meta"]["number"] in ids), "")


def _row_of_a_split(entry: Mapping[str, Any]) -> dict[str, Any]:
    row = mbpp_row(entry)
    if not _split_of(row):
        raise BadRow(f"task_id {row['meta']['number']} is in no split of MBPP (1 to 974); data.jsonl takes any")
    return row


def mbpp_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A problem row from a row of the full set (`text`) or of the sanitized one (`prompt`). Raises BadRow."""
    number = entry.get("task_id")
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadRow("field 'task_id' is not an integer")
    text = text_of(entry, "text" if "text" in entry else "prompt")
    tests = [_unix(test) for test in texts_of(entry, "test_list")]
    code = _unix(text_of(entry, "code"))
    setup = [_unix(text_of(entry, "test_setup_code"))] if "test_setup_code" in entry else []
    imports = texts_of(entry, "test_imports") if entry.get("test_imports") else []
    return {
        "task_id": f"mbpp/{number}",
        "text": text,
        "prompt": f'"""\n{text}\n{tests[0]}\n"""\n',
        "completion": code.rstrip() + "\n",
        "entry_point": entry_point_of(code, tests[0]),
        "setup": "\n".join([*imports, *setup]).strip(),
        "tests": tests,
        "source": "mbpp",
        "meta": {"number": number},
    }


def _unix(text: str) -> str:
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


def humaneval(path: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The rows of the HumanEval file, plain or gzipped. Raises StageError with the line of each bad row."""
    return {"test": read_problems(path, humaneval_row)}


def humaneval_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A problem row from a row of HumanEval: the prompt is code and part of the program. Raises BadRow."""
    prompt, entry_point = text_of(entry, "prompt"), text_of(entry, "entry_point")
    return {
        "task_id": text_of(entry, "task_id"),
        "text": _docstring(prompt, entry_point),
        "prompt": prompt,
        "prefix": prompt,
        "completion": text_of(entry, "canonical_solution"),
        "entry_point": entry_point,
        "tests": [f"{text_of(entry, 'test')}\ncheck({entry_point})"],
        "source": "humaneval",
    }


def _docstring(prompt: str, entry_point: str) -> str:
    body = parsed(prompt.rstrip() + "\n    pass\n", "field 'prompt', completed by a body,").body
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == entry_point]
    if not found:
        raise BadRow(f"field 'prompt' has no function '{entry_point}'")
    return ast.get_docstring(found[0]) or ""
