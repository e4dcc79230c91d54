"""Contracts and gates from files, folders and globs, each id once."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hrmctl.contract.gate import Gate, parse_gate
from hrmctl.contract.parse import parse_contract
from hrmctl.contract.spec import Contract
from hrmctl.errors import InputError, Problem
from hrmctl.model import MeasureSpec
from hrmctl.yamlio import Node, parse, read_text, suggest

Parser = Callable[[Node, Mapping[str, MeasureSpec], str], Contract | Gate]
KINDS: Mapping[str, Parser] = {"contract": parse_contract, "gate": parse_gate}


def load_contracts(paths: Sequence[Path], measures: Mapping[str, MeasureSpec]) -> list[Contract | Gate]:
    """All contracts and gates of `paths` (files, folders with everything below, globs), sorted by file.

    Raises InputError with every fault of every file.
    """
    problems: list[Problem] = []
    result: list[Contract | Gate] = []
    for path in _files(paths, problems):
        try:
            result.append(load_one(path, measures))
        except InputError as error:
            problems.extend(error.problems)
    _check_ids(result, problems)
    _check_gates(result, problems)
    if problems:
        raise InputError(*problems)
    return result


def load_one(path: Path, measures: Mapping[str, MeasureSpec]) -> Contract | Gate:
    """The contract or gate in one file. Raises InputError with every fault."""
    return parse_text(read_text(path), measures, str(path))


def parse_text(text: str, measures: Mapping[str, MeasureSpec], file: str = "<text>") -> Contract | Gate:
    """The contract or gate that `text` is. Raises InputError with every fault."""
    root = parse(text, file)
    kind = root.get("kind")
    if kind is None or not isinstance(kind.value, str):
        raise InputError((kind or root).problem("missing key 'kind'", "kind: contract, or kind: gate"))
    if kind.value not in KINDS:
        raise InputError(kind.problem(f"'{kind.value}' is neither contract nor gate", suggest(kind.value, KINDS)))
    return KINDS[kind.value](root, measures, text)


def require_free(id: str, folder: Path) -> None:
    """Raises InputError with the place of the contract or gate in or below `folder` that is called `id`, if any."""
    taken = next((node for file in sorted(_expand(folder)) if (node := _id(file, id)) is not None), None)
    if taken is not None:
        raise InputError(taken.problem(f"the id '{id}' is taken", "choose another id"))


def _id(file: Path, id: str) -> Node | None:
    """The node of the id where the file is of a contract or gate called `id`; one that cannot be read has none."""
    with suppress(InputError):
        text = read_text(file)
        root = parse(text, str(file)) if id in text else Node({})
        kind, found = root.get("kind"), root.get("id")
        if kind is not None and kind.value in [*KINDS] and found is not None and str(found.value) == id:
            return found
    return None


def _files(paths: Iterable[Path], problems: list[Problem]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        files = sorted(_expand(path))
        if not files:
            remedy = "name a .yaml file, a folder that holds some, or a glob"
            problems.append(Problem("no contract is there", str(path), remedy=remedy))
        for file in files:
            found.setdefault(file.resolve(), file)
    return sorted(found.values())


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        found = [p for pattern in ("*.yaml", "*.yml") for p in path.rglob(pattern) if p.is_file()]
        # Hidden folders are not the user's contracts: a store keeps copies of those it has judged.
        return [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if path.exists() or not glob.has_magic(str(path)):
        return [path] if path.exists() else []
    return [file for name in glob.glob(str(path), recursive=True) for file in _expand(Path(name))]


def _check_ids(items: Sequence[Contract | Gate], problems: list[Problem]) -> None:
    first: dict[str, Contract | Gate] = {}
    for item in items:
        place = item.place.value["id"]
        twin = first.setdefault(item.id, item)
        if twin is not item:
            where = twin.place.value["id"]
            remedy = f"first given in {where.file}:{where.line}:{where.column}"
            problems.append(place.problem(f"the id '{item.id}' is taken", remedy))


def _check_gates(items: Sequence[Contract | Gate], problems: list[Problem]) -> None:
    contracts = {item.id: item for item in items if isinstance(item, Contract)}
    for gate in (item for item in items if isinstance(item, Gate)):
        for alias, name in gate.over.items():
            contract, _, subject = name.partition("@")[0].partition("/")
            known = contracts.get(contract)
            if known and subject not in known.subjects:
                place = gate.place.value["over"].value[alias]
                text = f"{contract} has no subject '{subject}'"
                problems.append(place.problem(text, suggest(subject, known.subjects)))
