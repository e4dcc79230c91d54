"""Data that a problem's setup computes: computed once, and given to each program's tests afresh."""

from __future__ import annotations

import ast
import pickle
from typing import Any

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
# Modules without a state that a function of the setup could change.
_PURE = {
    *("bisect", "cmath", "collections", "copy", "fractions", "functools", "heapq", "itertools", "math", "operator"),
    *("re", "string", "typing"),
}
_REACHING = {
    *("setattr", "delattr", "globals", "vars", "exec", "eval", "__import__"),
    *("__dict__", "__defaults__", "__kwdefaults__", "__globals__"),
}
_COMPUTED = (ast.Call, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def constants_of(setup: ast.Module) -> tuple[ast.Module, bytes | None]:
    """What of a setup must run for each program, and the pickled data of the rest; all of it and None where unsafe.

    Safe is a setup of imports, functions and single assignments to names, where the values can be pickled and nothing
    is called but to compute them: expected results of a reference solution, say. Where a function may keep something
    from call to call (a default, an attribute, a global name, a class, a module with a state) it is not. The pickle is
    loaded for each program, so that what one program's tests change no other's see.
    """
    assigned, defined = _assigned(setup), _defined(setup)
    once = len(set(assigned)) == len(assigned) and not set(assigned) & set(defined)
    computed = any(isinstance(node, _COMPUTED) for item in _assignments(setup) for node in ast.walk(item))
    simple = all(_is_simple(item) for item in setup.body)
    if not (computed and once and simple) or any(_keeps_something(node) for node in ast.walk(setup)):
        return setup, None
    scope: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(setup, "<setup>", "exec", dont_inherit=True, optimize=0), scope)
        constants = pickle.dumps({name: scope[name] for name in assigned}, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return setup, None
    kept: list[ast.stmt] = [item for item in setup.body if isinstance(item, _DEFINITIONS)]
    return ast.Module(kept, type_ignores=[]), constants


def _assignments(setup: ast.Module) -> list[ast.Assign]:
    return [item for item in setup.body if isinstance(item, ast.Assign)]


def _assigned(setup: ast.Module) -> list[str]:
    targets = [target for item in _assignments(setup) for target in item.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _defined(setup: ast.Module) -> list[str]:
    names = [item.name for item in setup.body if isinstance(item, (ast.FunctionDef, ast.ClassDef))]
    imports = [item for item in setup.body if isinstance(item, (ast.Import, ast.ImportFrom))]
    return names + [alias.asname or alias.name.partition(".")[0] for item in imports for alias in item.names]


def _keeps_something(node: ast.AST) -> bool:
    """Whether a call may leave something behind that is no value of a name: it would be there for one program alone."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        return not all(isinstance(item, ast.Constant) for item in defaults) or bool(getattr(node, "decorator_list", ()))
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        return not _PURE.issuperset(name.partition(".")[0] for name in modules)
    if isinstance(node, ast.Attribute):
        return not isinstance(node.ctx, ast.Load) or node.attr in _REACHING
    return isinstance(node, (ast.ClassDef, ast.Global)) or (isinstance(node, ast.Name) and node.id in _REACHING)


def _is_simple(item: ast.stmt) -> bool:
    if isinstance(item, ast.Assign):
        return all(isinstance(target, ast.Name) for target in item.targets)
    return isinstance(item, _DEFINITIONS) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
