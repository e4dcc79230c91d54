"""Parse a recipe file into its parts, apply `--set`, and substitute `${vars.x}`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import annotated_types as at

from hrmctl.errors import InputError, Problem
from hrmctl.jsonio import digest_of
from hrmctl.schema import decode, decode_or_raise, doc
from hrmctl.yamlio import Node, load, parse, suggest

REFERENCE = re.compile(r"\$\{([^{}]*)\}")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")


@dataclass(frozen=True)
class StageEntry:
    """One stage of a recipe, before its parameters are checked against its plugin."""

    uses: Annotated[str, doc("the stage's name, e.g. finetune or data.generate")]
    with_: Annotated[Node, doc("parameters and inputs; ${stage.output} makes an edge")] = field(
        default_factory=lambda: Node({})
    )
    matrix: Annotated[Mapping[str, Node], doc("axis → values; one cell for each combination")] = field(
        default_factory=dict
    )
    seed: Annotated[int | None, at.Ge(0), doc("seed of this stage; the recipe's when absent")] = None
    threads: Annotated[int | None, at.Ge(1), doc("threads of this stage; its share of the machine when absent")] = None
    after: Annotated[tuple[str, ...], doc("stages that must finish first although nothing is taken from them")] = ()


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe file."""

    kind: Annotated[Literal["recipe"], doc("always recipe")]
    name: Annotated[str, at.MinLen(1), at.MaxLen(64), doc("names the runs")]
    stages: Annotated[Mapping[str, StageEntry], doc("stages by id")]
    seed: Annotated[int, at.Ge(0), doc("seed of every stage that has none of its own")] = 0
    vars: Annotated[Mapping[str, Node], doc("values for ${vars.x}; --set vars.x=… overrides one")] = field(
        default_factory=dict
    )
    contracts: Annotated[tuple[str, ...], doc("acceptance: contract files; these decide the exit code")] = ()
    hypotheses: Annotated[tuple[str, ...], doc("questions: contract files; their verdict is the answer")] = ()


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe: `root` keeps every position, `entry` the checked outline."""

    path: Path
    root: Node
    entry: RecipeEntry
    digest: str
    contracts: Sequence[Path]
    hypotheses: Sequence[Path]


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Parse a recipe file with its `--set` settings. Raises InputError with every fault."""
    root = load(path)
    for setting in settings:
        root = _set(root, setting)
    _require_kind(root)
    root = _substitute_vars(root)
    entry = decode_or_raise(root, RecipeEntry)
    problems = [*_bad_names(root), *_not_finite(root)]
    contracts = _find(root, "contracts", path.parent, problems)
    hypotheses = _find(root, "hypotheses", path.parent, problems)
    both = set(contracts) & set(hypotheses)
    for file in sorted(both):
        problems.append(root.key_problem("hypotheses", f"{file.name} is also among the contracts", "a claim is either"))
    if problems:
        raise InputError(*problems)
    return Recipe(path, root, entry, digest_of(root.plain()), contracts, hypotheses)


def _require_kind(root: Node) -> None:
    kind = root.get("kind")
    if kind is None or kind.value != "recipe":
        found = f"'{kind.value}'" if kind else "no kind"
        raise InputError((kind or root).problem(f"not a recipe: {found}", "the file must say kind: recipe"))


def _bad_names(root: Node) -> list[Problem]:
    found = []
    title = root.value["name"]
    if not NAME.match(title.value):
        found.append(title.problem(f"'{title.value}' is not a name", "letters, digits, - and _; first a letter"))
    for section in ("stages", "vars"):
        node = root.get(section)
        for name in node.value if node else ():
            if not NAME.match(name):
                fault = f"'{name}' is not a name"
                found.append(node.key_problem(name, fault, "letters, digits, - and _; first a letter"))  # type: ignore[union-attr]
    stages = root.get("stages")
    if stages is not None and not stages.value:
        found.append(stages.problem("a recipe needs at least one stage"))
    if stages is not None and "vars" in stages.value:
        found.append(stages.key_problem("vars", "'vars' cannot be the name of a stage"))
    return found


def _not_finite(node: Node) -> list[Problem]:
    if isinstance(node.value, float) and not math.isfinite(node.value):
        return [node.problem(f"{node.value} is not a number that a recipe can hold", "write a finite number")]
    inside = node.value.values() if isinstance(node.value, dict) else node.value
    return [p for child in inside for p in _not_finite(child)] if isinstance(node.value, (dict, list)) else []


# --- --set ----------------------------------------------------------------------------------------


def _set(root: Node, setting: str) -> Node:
    path, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: no '='; write --set vars.steps=100")
    value = parse(text, f"--set {path}") if text.strip() else Node("", f"--set {path}", 1, 1)
    return _replace(root, path.split("."), value, setting)


def _replace(node: Node, path: list[str], value: Node, setting: str) -> Node:
    if not path:
        return value
    if not isinstance(node.value, dict):
        raise InputError(f"--set {setting}: '{path[0]}' is inside something that is not a mapping")
    key = path[0]
    child = node.value.get(key)
    if child is None and (len(path) > 1 or "vars" in setting.split("=")[0].split(".")[:1]):
        raise InputError(f"--set {setting}: the recipe has no '{key}' there; {suggest(key, node.value)}")
    changed = _replace(child or Node(None), path[1:], value, setting)
    keys = {**node.keys, key: node.keys.get(key, (value.line, value.column))}
    return replace(node, value={**node.value, key: changed}, keys=keys)


# --- ${vars.x} ------------------------------------------------------------------------------------


def _substitute_vars(root: Node) -> Node:
    section = root.get("vars")
    known = section.value if section is not None and isinstance(section.value, dict) else {}
    problems: list[Problem] = []
    value = {k: n if k == "vars" else _substitute(n, known, problems) for k, n in root.value.items()}
    if problems:
        raise InputError(*problems)
    return replace(root, value=value)


def _substitute(node: Node, known: Mapping[str, Node], problems: list[Problem]) -> Node:
    if isinstance(node.value, dict):
        return replace(node, value={k: _substitute(n, known, problems) for k, n in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[_substitute(n, known, problems) for n in node.value])
    if not isinstance(node.value, str) or "${vars" not in node.value:
        return node
    whole = REFERENCE.fullmatch(node.value)
    if whole:
        found = _variable(whole[1], node, known, problems)
        return replace(node, value=found.value, keys=found.keys) if found else node
    return replace(node, value=REFERENCE.sub(lambda m: _text(m, node, known, problems), node.value))


def _text(match: re.Match[str], node: Node, known: Mapping[str, Node], problems: list[Problem]) -> str:
    if not match[1].startswith("vars"):
        return match[0]
    found = _variable(match[1], node, known, problems)
    return str(found.value) if found else ""


def _variable(path: str, node: Node, known: Mapping[str, Node], problems: list[Problem]) -> Node | None:
    name = path.removeprefix("vars.")
    if name not in known:
        problems.append(
            node.problem(f"unknown variable '${{{path}}}'", suggest(name, known) or "declare it under vars")
        )
        return None
    return known[name]


# --- contract files -------------------------------------------------------------------------------


def contract_folders(folder: Path) -> list[Path]:
    """Where a recipe's contract patterns are looked for, in order."""
    return [folder, folder / "contracts", folder.parent / "contracts", Path("contracts")]


def _find(root: Node, key: str, folder: Path, problems: list[Problem]) -> list[Path]:
    found: list[Path] = []
    section = root.get(key)
    for item in section.value if section is not None else ():
        matches = _matches(item.value, folder)
        if not matches:
            problems.append(
                item.problem(
                    f"no contract matches '{item.value}'",
                    f"looked beside the recipe and in {folder.parent / 'contracts'}",
                )
            )
        found.extend(m for m in matches if m not in found)
    return found


def _matches(pattern: str, folder: Path) -> list[Path]:
    path = Path(pattern)
    bases = [Path(path.anchor)] if path.is_absolute() else contract_folders(folder)
    for base in bases:
        # What is no pattern at all (empty, `.`, `**x`) matches nothing.
        with suppress(ValueError, IndexError, NotImplementedError, OSError):
            found = sorted(p for p in base.glob(pattern.removeprefix(path.anchor)) if p.is_file())
            if found:
                return found
    return []


__all__ = ["REFERENCE", "Recipe", "RecipeEntry", "StageEntry", "contract_folders", "decode", "load_recipe"]
