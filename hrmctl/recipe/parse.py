"""Parse a recipe file into its parts, apply `--set`, and substitute `${vars.x}`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import annotated_types as at

from hrmctl.errors import InputError, Problem
from hrmctl.jsonio import digest_of
from hrmctl.schema import decode, decode_or_raise, decode_value, doc, fields_of
from hrmctl.yamlio import Node, load_faulty, nearest, parse, suggest

REFERENCE = re.compile(r"\$\{([^{}]*)\}")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")


@dataclass(frozen=True)
class StageEntry:
    """One stage of a recipe, before its parameters are checked against its plugin."""

    ELSEWHERE: ClassVar[str] = "parameters and inputs stand under 'with'"
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
class Faults:
    """What is wrong with a recipe as far as its outline tells, and where no more can be told without guessing.

    `unclear` are the places of values that are not known, such as an undeclared variable; `partial` the stages of
    which some keys could not be read.
    """

    problems: Sequence[Problem] = ()
    unclear: frozenset[tuple[str, int, int]] = frozenset()
    partial: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe: `root` keeps every position, `entry` the checked outline.

    Where there are `faults`, both hold what is right of it, and nothing else may be done with it but to plan it, which
    tells all faults.
    """

    path: Path
    root: Node
    entry: RecipeEntry
    digest: str
    contracts: Sequence[Path]
    hypotheses: Sequence[Path]
    faults: Faults = Faults()


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Parse a recipe file with its `--set` settings. Raises InputError with every fault."""
    recipe = read_recipe(path, settings)
    if recipe.faults.problems:
        raise InputError(*in_order(path, recipe.faults.problems))
    return recipe


def in_order(path: Path, problems: Iterable[Problem]) -> list[Problem]:
    """Faults of the settings, then those of the file from its beginning to its end."""
    return sorted(problems, key=lambda p: (p.file == str(path), p.line, p.column))


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """As `load_recipe`, but with the faults in the recipe; raises InputError where it has no stages to look into."""
    root, found = load_faulty(path)
    problems = list(found)
    for setting in settings:
        root = _set(root, setting, problems)
    root = _require_kind(root, problems)
    unclear: set[tuple[str, int, int]] = set()
    root = _substitute_vars(root, problems, unclear)
    readable, partial = _outline(root, problems, unclear)
    entry = decode_or_raise(readable, RecipeEntry)
    told = {*unclear, *(p.place for p in problems)}
    later = [*_bad_names(root), *_not_finite(root)]
    contracts = _find(readable, "contracts", path.parent, later)
    hypotheses = _find(readable, "hypotheses", path.parent, later)
    for file in sorted(set(contracts) & set(hypotheses)):
        later.append(root.key_problem("hypotheses", f"{file.name} is also among the contracts", "a claim is either"))
    problems += [p for p in later if p.place not in told]
    faults = Faults(problems, frozenset({*told, *(p.place for p in problems)}), partial)
    return Recipe(path, readable, entry, "" if problems else digest_of(root.plain()), contracts, hypotheses, faults)


def _require_kind(root: Node, problems: list[Problem]) -> Node:
    """The recipe as one. Raises InputError where the file is something else, or has no stages."""
    kind = root.get("kind")
    if kind is not None and kind.value == "recipe":
        return root
    found = f"'{kind.value}'" if kind else "no kind"
    if not _misspelt(root, "kind"):
        problems.append((kind or root).problem(f"not a recipe: {found}", "the file must say kind: recipe"))
    if problems and root.get("stages") is None:
        raise InputError(*problems)
    return replace(root, value={**root.value, "kind": Node("recipe", root.file)})


def _misspelt(root: Node, key: str) -> bool:
    """Whether the recipe has no `key`, but one that was probably meant to be it."""
    known = {spec.name for spec in fields_of(RecipeEntry)}
    given = root.value if isinstance(root.value, dict) else {}
    return key not in given and any(nearest(k, known) == key for k in given if k not in known)


def _outline(
    root: Node, problems: list[Problem], unclear: Collection[tuple[str, int, int]]
) -> tuple[Node, frozenset[str]]:
    """What is right of the outline, and the stages of which that is not all. Raises InputError without any stages."""
    found: list[Problem] = []
    entry = decode(root, RecipeEntry, found)
    problems += [p for p in found if p.place not in unclear]
    if entry is not None:
        return root, frozenset()
    stages = root.get("stages")
    if stages is None or not isinstance(stages.value, dict):
        raise InputError(*problems)
    right = {name: _readable(node, StageEntry) for name, node in stages.value.items()}
    partial = {name for name, node in right.items() if node.value != stages.value[name].value}
    usable = {name: node for name, node in right.items() if "uses" in node.value}
    shell = {"kind": Node("recipe"), "name": Node("recipe"), "stages": replace(stages, value=usable)}
    outline = replace(root, value={**shell, **_readable(root, RecipeEntry).value, "stages": shell["stages"]})
    return outline, frozenset({*partial, *(right.keys() - usable.keys())})


def _readable(node: Node, cls: type) -> Node:
    """The keys of a mapping that are as `cls` wants them; empty where it is none."""
    if not isinstance(node.value, dict):
        return replace(node, value={})
    known = {spec.name: spec for spec in fields_of(cls)}
    right = {}
    for key, child in node.value.items():
        faults: list[Problem] = []
        if key in known:
            decode_value(child, known[key].type, faults, known[key].bounds)
        if key in known and not faults:
            right[key] = child
    return replace(node, value=right)


def _bad_names(root: Node) -> list[Problem]:
    found = []
    title = root.get("name")
    if title is not None and not NAME.match(str(title.value)):
        found.append(title.problem(f"'{title.value}' is not a name", "letters, digits, - and _; first a letter"))
    for section in ("stages", "vars"):
        node = root.get(section)
        for name in node.value if node and isinstance(node.value, dict) else ():
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


def _set(root: Node, setting: str, problems: list[Problem]) -> Node:
    """The recipe with the setting; as it was where the setting is wrong."""
    path, equals, text = setting.partition("=")
    try:
        if not equals:
            raise InputError(f"--set {setting}: no '='; write --set vars.steps=100")
        value = parse(text, f"--set {path}") if text.strip() else Node("", f"--set {path}", 1, 1)
        return _replace(root, path.split("."), value, setting)
    except InputError as error:
        problems.extend(error.problems)
        return root


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


def _substitute_vars(root: Node, problems: list[Problem], unclear: set[tuple[str, int, int]]) -> Node:
    """The recipe with every variable's value; the places of those that have none are `unclear`."""
    section = root.get("vars")
    known = section.value if section is not None and isinstance(section.value, dict) else {}
    usable = {name: node for name, node in known.items() if not _not_finite(node)}
    without: list[Node] = []
    value = {k: n if k == "vars" else _substitute(n, usable, without) for k, n in root.value.items()}
    faults = [(node, path) for node in without for path in _missing(node.value, usable)]
    unclear.update(node.problem("").place for node, _ in faults)
    if not _misspelt(root, "vars") and (section is None or isinstance(section.value, dict)):
        problems += [_unknown(path, node, known) for node, path in faults if _name(path) not in known]
    return replace(root, value=value)


def _substitute(node: Node, known: Mapping[str, Node], unknown: list[Node]) -> Node:
    if isinstance(node.value, dict):
        return replace(node, value={k: _substitute(n, known, unknown) for k, n in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[_substitute(n, known, unknown) for n in node.value])
    if not isinstance(node.value, str) or "${vars" not in node.value:
        return node
    if any(_missing(node.value, known)):
        unknown.append(node)
        return node
    whole = REFERENCE.fullmatch(node.value)
    if whole:
        found = known[_name(whole[1])]
        return replace(node, value=found.value, keys=found.keys)
    return replace(node, value=REFERENCE.sub(lambda m: _text(m, known), node.value))


def _missing(text: str, known: Mapping[str, Node]) -> Iterator[str]:
    """The variables in `text` that there are not."""
    found = (match[1] for match in REFERENCE.finditer(text))
    return (path for path in found if path.startswith("vars") and _name(path) not in known)


def _name(path: str) -> str:
    return path.removeprefix("vars.")


def _text(match: re.Match[str], known: Mapping[str, Node]) -> str:
    return str(known[_name(match[1])].value) if match[1].startswith("vars") else match[0]


def _unknown(path: str, node: Node, known: Mapping[str, Node]) -> Problem:
    return node.problem(f"unknown variable '${{{path}}}'", suggest(_name(path), known) or "declare it under vars")


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
            problems.append(item.problem(f"no contract matches '{item.value}'", _where(item.value, folder)))
        found.extend(m for m in matches if m not in found)
    return found


def _bases(pattern: str, folder: Path) -> list[Path]:
    path = Path(pattern)
    return [Path(path.anchor)] if path.is_absolute() else list(dict.fromkeys(contract_folders(folder)))


def _where(pattern: str, folder: Path) -> str:
    """The folders that were tried, and what to do."""
    bases = [str(base) for base in _bases(pattern, folder)]
    looked = f"looked in {', '.join(bases[:-1])} and {bases[-1]}" if len(bases) > 1 else "it names an absolute path"
    return f"{looked}; correct the path, or write a contract with: hrmctl contracts new ID"


def _matches(pattern: str, folder: Path) -> list[Path]:
    path = Path(pattern)
    for base in _bases(pattern, folder):
        # What is no pattern at all (empty, `.`, `**x`) matches nothing.
        with suppress(ValueError, IndexError, NotImplementedError, OSError):
            found = sorted(p for p in base.glob(pattern.removeprefix(path.anchor)) if p.is_file())
            if found:
                return found
    return []


__all__ = ["REFERENCE", "Recipe", "RecipeEntry", "StageEntry", "contract_folders", "load_recipe", "read_recipe"]
