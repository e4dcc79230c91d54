"""What is done once for each problem: compile its tests, find the program's names in them, foresee the calls."""

from __future__ import annotations

import ast
import builtins
import os
import pickle
import random
import signal
import symtable
from dataclasses import dataclass, field
from importlib import import_module
from types import CodeType
from typing import Any

from .codec import Encoder
from .constants import constants_of
from .model import Problem
from .session import Prediction

_MOST_PREDICTED = 2000
_MOST_PREDICTED_CHARACTERS = 8 << 20
_REHEARSAL_SECONDS = 0.5
_CHECK = "check"
_MODULES = {
    "bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools",
    "json", "math", "operator", "random", "re", "statistics", "string", "sys", "typing",
}  # fmt: skip


class Unusable(ValueError):
    """The problem's tests cannot be run; the message says why."""


@dataclass
class Prepared:
    """A problem ready to be graded. `predicted` are the calls expected of its tests, `constants` the data of its setup.

    `names` come from the program. Of these, `modules` are well-known modules that the tests use without importing them:
    the program must have the name, and the judge uses its own module. Where the tests draw random numbers they start
    from `seed`, which no program knows, so that the calls of every run are the ones foreseen.
    """

    problem: Problem
    setup: CodeType
    tests: list[CodeType]
    names: list[str]
    imports: str
    modules: list[str]
    helpers: bool
    constants: bytes | None = None
    predicted: list[Prediction] = field(default_factory=list)
    seed: int | None = None


@dataclass
class Whole:
    """A problem whose programs run as a whole: scripts, or programs in one process with `tests`.

    `asserts` says that these assert something where they have no class of unittest's.
    """

    problem: Problem
    tests: list[str]
    asserts: bool


def prepare(problem: Problem) -> Prepared | Whole:
    """Compile a problem. Raises Unusable."""
    if problem.cases:
        if problem.tests or problem.shared:
            raise Unusable("a problem has either tests or cases")
        return Whole(problem, [], asserts=False)
    if not problem.tests:
        raise Unusable("the problem has no tests")
    try:
        trees = [ast.parse(text, "<test>") for text in problem.tests]
        setup = ast.parse(problem.setup, "<setup>")
        whole = "\n".join((problem.setup, *problem.tests))
        free = _free_names(symtable.symtable(whole, "<tests>", "exec"))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise Unusable(f"the tests do not compile: {error}") from None
    if problem.entry_point is not None:
        trees = [_with_check(tree, problem.entry_point) for tree in trees]
    if problem.shared:
        return Whole(problem, [ast.unparse(tree) for tree in trees], _asserts(trees))
    names = _program_names(free, trees, problem.entry_point)
    if not names:
        raise Unusable("the tests call nothing of the program")
    modules = (names & _MODULES) - {problem.entry_point or ""}
    modules = set() if modules == names else modules
    _import_for_tests([setup, *trees])
    imports = _imports([setup, *trees])
    setup, constants = constants_of(setup)
    prepared = Prepared(
        problem,
        _compile(setup, "<setup>"),
        [_compile(tree, f"<test {number}>") for number, tree in enumerate(trees)],
        sorted(names),
        imports,
        sorted(modules),
        len(names - modules) > 1 and (problem.entry_point is not None or _judges_itself(trees, names)),
        constants,
    )
    prepared.predicted = _predict(prepared)
    return prepared


def _compile(tree: ast.Module, name: str) -> CodeType:
    return compile(tree, name, "exec", dont_inherit=True, optimize=0)


def _free_names(table: symtable.SymbolTable) -> set[str]:
    symbols = table.get_symbols()
    bound = {item.get_name() for item in symbols if item.is_assigned() or item.is_imported() or item.is_namespace()}
    return {name for name in _referenced(table, top=True) if name not in bound}


def _referenced(table: symtable.SymbolTable, top: bool) -> set[str]:
    names = {item.get_name() for item in table.get_symbols() if item.is_referenced() and (top or item.is_global())}
    return names.union(*(_referenced(child, top=False) for child in table.get_children()))


def _program_names(free: set[str], trees: list[ast.Module], entry_point: str | None) -> set[str]:
    """The names that the program provides: never a builtin, unless it is the entry point or nothing else is left."""
    names = {name for name in free if not hasattr(builtins, name)}
    if entry_point is not None:
        return names | {entry_point}
    return names or {name for tree in trees for name in _asserted_calls(tree)}


def _asserted_calls(tree: ast.Module) -> set[str]:
    """The functions called outermost on the left of the assertions, such as `sum` in `assert sum(1, 2) == 3`."""
    found = set()
    for statement in tree.body:
        test = statement.test if isinstance(statement, ast.Assert) else None
        left = test.left if isinstance(test, ast.Compare) else test
        if isinstance(left, ast.Call) and isinstance(left.func, ast.Name):
            found.add(left.func.id)
    return found


def _judges_itself(trees: list[ast.Module], names: set[str]) -> bool:
    """Whether one name of the program's judges what another gives, as in `assert close(solve(7), 1729)`."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        call = node.test if isinstance(node, ast.Assert) else node.value if isinstance(node, ast.Expr) else None
        while isinstance(call, ast.UnaryOp):
            call = call.operand
        if not isinstance(call, ast.Call):
            continue
        own = _names_in([call.func]) & names
        if own and _names_in([*call.args, *call.keywords]) & names - own:
            return True
    return False


def _names_in(nodes: list[Any]) -> set[str]:
    return {inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _with_check(tree: ast.Module, entry_point: str) -> ast.Module:
    """Call a `check` that is defined and not called, as HumanEval's tests ask for."""
    defines = any(isinstance(item, ast.FunctionDef) and item.name == _CHECK for item in tree.body)
    calls = any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _CHECK
        for item in tree.body
        if not isinstance(item, ast.FunctionDef)
        for node in ast.walk(item)
    )
    if defines and not calls:
        tree.body.extend(ast.parse(f"{_CHECK}({entry_point})").body)
    return tree


def _asserts(trees: list[ast.Module]) -> bool:
    """Whether the statements that run assert or raise something, themselves or in a function that they name."""
    statements = [item for tree in trees for item in tree.body if not isinstance(item, ast.ClassDef)]
    functions = {item.name: item for item in statements if isinstance(item, ast.FunctionDef)}
    reached: list[ast.stmt] = [item for item in statements if not isinstance(item, ast.FunctionDef)]
    while reached:
        for node in ast.walk(reached.pop()):
            called = _name_of(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, (ast.Assert, ast.Raise)) or called.startswith("assert"):
                return True
            if _name_of(node) in functions:
                reached.append(functions.pop(_name_of(node)))
    return False


def _name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _import_for_tests(trees: list[ast.Module]) -> None:
    """Import in advance what the tests import without a guard. Raises Unusable."""
    for item in (item for tree in trees for item in tree.body):
        modules = [alias.name for alias in item.names] if isinstance(item, ast.Import) else []
        modules += [item.module] if isinstance(item, ast.ImportFrom) and item.module and not item.level else []
        for name in modules:
            try:
                import_module(name)
            except ImportError as error:
                raise Unusable(f"the tests import {name}, which is not installed here: {error}") from None


def _imports(trees: list[ast.Module]) -> str:
    """The imports of the tests: in one interpreter the program would see them too."""
    kinds = (ast.Import, ast.ImportFrom)
    return "\n".join(ast.unparse(item) for tree in trees for item in tree.body if isinstance(item, kinds))


class _TooMany(BaseException):
    """The rehearsal made more calls than are worth foreseeing."""


class _Agreeable:
    """An answer that satisfies any comparison, so that a rehearsal reaches the next call."""

    def __bool__(self) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __iter__(self) -> Any:
        raise _TooMany


def _agree(self: object, *_: object) -> object:
    return self


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(_Agreeable, f"__{_name}__", lambda self, other: True)
for _name in ("add", "sub", "mul", "truediv", "mod", "pow", "radd", "rsub", "rmul", "abs", "round", "neg", "getitem"):
    setattr(_Agreeable, f"__{_name}__", _agree)


def _predict(prepared: Prepared) -> list[Prediction]:
    """Rehearse the tests with answers that satisfy everything and note the calls that they make."""
    calls: list[Prediction] = []
    room = [_MOST_PREDICTED_CHARACTERS]

    def stand_in(name: str) -> Any:
        def record(*arguments: Any, **keywords: Any) -> Any:
            if len(calls) >= _MOST_PREDICTED:
                raise _TooMany
            encoder = Encoder(_not_data)
            trees = encoder.items(arguments)
            call = Prediction(name, trees, [[key, encoder.encode(value)] for key, value in keywords.items()])
            room[0] -= len(call.text)
            if room[0] < 0:
                raise _TooMany
            calls.append(call)
            return _Agreeable()

        return record

    scope = {name: stand_in(name) for name in prepared.names}
    prepared.seed = int.from_bytes(os.urandom(8), "big")
    random.seed(prepared.seed)
    untouched = random.getstate()
    previous = signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, _REHEARSAL_SECONDS)
    try:
        run_tests(prepared, dict(scope), scope)
    except BaseException:
        return calls
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
        prepared.seed = None if random.getstate() == untouched else prepared.seed
    return calls


def _give_up(number: int, frame: object) -> None:
    raise _TooMany


def _not_data(value: object) -> Any:
    raise _TooMany


def run_tests(prepared: Prepared, scope: dict[str, Any], provided: dict[str, Any]) -> None:
    """Run setup and tests in `scope`, the entry point always being the program's. Raises what the tests raise."""
    scope["__name__"] = "tests"
    if prepared.seed is not None:
        random.seed(prepared.seed)
    scope |= {name: import_module(name) for name in prepared.modules if name in provided}
    scope |= {} if prepared.constants is None else pickle.loads(prepared.constants)
    exec(prepared.setup, scope)
    entry_point = prepared.problem.entry_point
    if entry_point in provided:
        scope[entry_point] = provided[entry_point]
    for code in prepared.tests:
        exec(code, scope)
