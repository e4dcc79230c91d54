"""What the rules of extraction ask of a piece of Python source. Nothing here raises, whatever a model wrote."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

_LONGEST = 200_000
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)


def too_long(*texts: str) -> bool:
    """Whether texts are together longer than anything that is looked at (200,000 characters)."""
    return sum(map(len, texts)) > _LONGEST


def parsed(source: str) -> ast.Module | None:
    """The syntax tree, None where this Python's grammar does not accept the source."""
    if too_long(source):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def parses(source: str) -> bool:
    """Whether this Python's grammar accepts the source."""
    return parsed(source) is not None


def lines_of(text: str) -> list[str]:
    """Lines with their ends; str.splitlines also breaks at form feeds and Unicode separators, Python does not."""
    return _LINE.findall(text)


def defines(text: str, name: str) -> bool:
    """Whether a line at the margin defines the function or class `name`, or gives the name a value."""
    word = re.escape(name)
    defined = rf"^(?:(?:(?:async[ \t]+)?def|class)[ \t]+{word}\b|{word}[ \t]*=[^=])"
    return re.search(defined, text, re.MULTILINE) is not None


def opens_body(prefix: str) -> bool:
    """Whether text after the prefix continues a function or class that the prefix leaves open."""
    if not prefix.strip():
        return False
    tree = parsed(prefix)
    if tree is None:
        return True
    return bool(tree.body) and isinstance(tree.body[-1], DEFINITIONS)


def closed(prefix: str) -> str:
    """The prefix with a body for what it leaves open, where it needs one to parse."""
    if parses(prefix):
        return prefix
    last = next((line for line in reversed(prefix.splitlines()) if line.strip()), "")
    indent = last[: len(last) - len(last.lstrip())]
    return f"{prefix}{'' if prefix.endswith(chr(10)) else chr(10)}{indent}    pass\n"


def bound(node: ast.stmt) -> set[str]:
    """Names that a statement at the margin gives a meaning."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    if isinstance(node, IMPORTS):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def changed(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> set[str]:
    """Names that an assignment changes: those it binds, and `memo` of `memo[0] = 1`."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def wanted(node: ast.stmt) -> set[str]:
    """Names that a statement reads and does not give a meaning itself: what it needs of others."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    shared = {name for n in ast.walk(node) if isinstance(n, (ast.Global, ast.Nonlocal)) for name in n.names}
    return {n.id for n in names if isinstance(n.ctx, ast.Load)} - (own - shared)


def statements(source: str) -> Iterator[ast.stmt]:
    """The statements at the margin; none where the source does not parse."""
    tree = parsed(source)
    yield from tree.body if tree else ()
