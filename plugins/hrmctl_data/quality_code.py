"""What a program lacks: it does not parse, was cut off, uses names that nothing defines, or computes nothing."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

from hrmctl_data.quality_parts import Parts

_LONGEST = 1 << 20
_KNOWN = {*dir(builtins), "__file__", "__name__", "__doc__"}
_EFFECTS = (ast.Yield, ast.YieldFrom, ast.Raise, ast.Global, ast.Nonlocal, ast.Delete, ast.Assert)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Program:
    """A reading of the answer as Python: its tree, or the reason why there is none and whether it just ends early."""

    tree: ast.Module | None
    source: str
    reason: str = ""
    truncated: bool = False


def program_of(parts: Parts) -> Program:
    """The first reading that parses, else what is wrong with the likeliest one. Warnings are the caller's affair."""
    found = [_parsed(source) for source in parts.programs]
    return next((program for program in found if program.tree), found[0])


def _parsed(source: str) -> Program:
    if len(source) > _LONGEST:
        return Program(None, source, "longer than 1 MiB")
    try:
        return Program(ast.parse(source), source)
    except SyntaxError as error:
        return Program(None, source, error.msg, _ends_early(error, source))
    except (ValueError, RecursionError, MemoryError) as error:
        return Program(None, source, str(error) or type(error).__name__)


def _ends_early(error: SyntaxError, source: str) -> bool:
    """Whether more text could have made it a program: the fault is at its end or in something never closed."""
    last = len(source.rstrip().splitlines())
    unclosed = "was never closed" in error.msg or "unterminated triple" in error.msg
    return unclosed or "EOF" in error.msg or (error.lineno or 0) >= last


def undefined_names(program: Program, given: str) -> list[str]:
    """Names that are read somewhere and bound nowhere, neither in the program nor in what it is given; sorted."""
    if program.tree is None:
        return []
    bound = set(_KNOWN)
    read: set[str] = set()
    for tree in (program.tree, _parsed(given).tree):
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                return []
            bound.update(_bound_by(node))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read.add(node.id)
    return sorted(read - bound)


def _bound_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.arg):
        return [node.arg]
    name = getattr(node, "name", None) if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) else None
    rest = node.rest if isinstance(node, ast.MatchMapping) else None
    return [found for found in (name, rest) if found]


def idle_functions(program: Program) -> list[str]:
    """Top-level functions that return nothing, raise nothing and change nothing: stubs, or cut off before their end."""
    body = program.tree.body if program.tree else []
    functions = [node for node in body if isinstance(node, _Function)]
    return [function.name for function in functions if not any(_has_effect(node) for node in ast.walk(function))]


def _has_effect(node: ast.AST) -> bool:
    if isinstance(node, ast.Return):
        return node.value is not None
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call | ast.Await)
    if isinstance(node, ast.Attribute | ast.Subscript):
        return isinstance(node.ctx, ast.Store | ast.Del)
    return isinstance(node, _EFFECTS)


def has_structure(program: Program) -> bool:
    """Whether it defines a function or a class."""
    body = program.tree.body if program.tree else []
    return any(isinstance(node, _Function | ast.ClassDef) for node in body)


def comment_share(program: Program) -> float:
    """Characters of comment lines and docstrings, of all (Li et al. 2023 count the same)."""
    if program.tree is None or not program.source.strip():
        return 0.0
    comments = sum(len(line) for line in program.source.splitlines() if line.lstrip().startswith("#"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        ast.get_docstring(node, clean=False) for node in ast.walk(program.tree) if isinstance(node, documented)
    ]
    return min(1.0, (comments + sum(len(text) for text in docstrings if text)) / len(program.source))


def holds_tests(parts: Parts) -> bool:
    """Whether the answer holds one of the tests it will be judged by, whitespace aside."""
    answer = "".join(parts.answer.split())
    return any(len(test) >= 8 and test in answer for test in ("".join(text.split()) for text in parts.tests))
