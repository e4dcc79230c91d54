"""Small wrong (and sometimes right) variations of a program, as a poor model might write them."""

from __future__ import annotations

import ast
import random
import warnings

_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.FloorDiv,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_Place = tuple[ast.AST, str, int | None]


def mutants(source: str, count: int, seed: int) -> list[str]:
    """Up to `count` distinct mutants, each with one operator swapped, constant shifted, or result wrapped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tree = ast.parse(source)
    places = [place for node in ast.walk(tree) for place in _places(node)]
    random.Random(seed).shuffle(places)
    found: list[str] = []
    for place in places:
        mutant = _with_change(tree, place)
        if mutant not in found and len(found) < count:
            found.append(mutant)
    return found


def _places(node: ast.AST) -> list[_Place]:
    if isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)) and type(node.op) in _SWAPS:
        return [(node, "op", None)]
    if isinstance(node, ast.Compare):
        return [(node, "ops", number) for number, item in enumerate(node.ops) if type(item) in _SWAPS]
    if isinstance(node, ast.Constant) and type(node.value) in (int, str):
        return [(node, "value", None)]
    return [(node, "return", None)] if isinstance(node, ast.Return) and node.value is not None else []


def _with_change(tree: ast.Module, place: _Place) -> str:
    """The tree's source with one place changed; the tree is as before afterwards."""
    node, field, number = place
    if field == "return":
        kept = node.value  # type: ignore[attr-defined]
        node.value = ast.List([kept], ast.Load())  # type: ignore[attr-defined]
        source = ast.unparse(ast.fix_missing_locations(tree))
        node.value = kept  # type: ignore[attr-defined]
        return source
    if number is not None:
        operators = getattr(node, field)
        kept, operators[number] = operators[number], _SWAPS[type(operators[number])]()
        source = ast.unparse(tree)
        operators[number] = kept
        return source
    kept = getattr(node, field)
    setattr(node, field, _SWAPS[type(kept)]() if field == "op" else kept + (1 if isinstance(kept, int) else "x"))
    source = ast.unparse(tree)
    setattr(node, field, kept)
    return source
