"""The command that would measure what was not measured: a recipe that lists the contract and names what it is about."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from hrmctl.contract import Contract
from hrmctl.contract.spec import Subject
from hrmctl.errors import HrmctlError
from hrmctl.recipe import Recipe, load_recipe
from hrmctl.recipe.parse import StageEntry
from hrmctl.yamlio import Node

FOLDERS = (Path("recipes"), Path())
_MOST = 3
_MOST_FILES = 1_000  # of a folder: a check must not read through whatever it is started in
_MOST_BYTES = 1 << 18
_KIND = re.compile(rb"""\bkind["']?\s*:\s*["']?recipe\b""")


class Remedies:
    """The recipes of `folders`, read when something is first found missing; one that does not load is passed over.

    `ran` says of the digest of a recipe whether a run of it is there of which every stage finished.
    """

    def __init__(self, folders: Sequence[Path] = FOLDERS, ran: Callable[[str], bool] = lambda digest: False):
        self._folders = folders
        self._ran = ran

    def of(self, contract: Contract, subject: Subject, stage: str) -> str:
        """The commands that run a `stage` on what `subject` is about and ask this contract, as the recipes are ordered.

        Empty where none does: a recipe that builds the proxy is no remedy for the claim.
        """
        found = [recipe.path for recipe in self._naming(contract, subject, stage)]
        return " or ".join(f"hrmctl pipeline {shlex.quote(str(path))}" for path in found[:_MOST])

    def finished(self, contract: Contract, subject: Subject, stage: str) -> str:
        """The first of the recipes behind `of` where all ran as they are: they would measure the same again."""
        found = self._naming(contract, subject, stage)
        return str(found[0].path) if found and all(self._ran(recipe.digest) for recipe in found) else ""

    def _naming(self, contract: Contract, subject: Subject, stage: str) -> list[Recipe]:
        file = Path(contract.file).resolve() if contract.file else None
        known = self._recipes.get(file, ()) if file else ()
        running = [r for r in known if any(entry.uses == stage for entry in r.entry.stages.values())]
        return [r for r in running if _names(r, subject.labels)]

    @cached_property
    def _recipes(self) -> Mapping[Path, Sequence[Recipe]]:
        result: dict[Path, list[Recipe]] = {}
        for recipe in (recipe for folder in self._folders for recipe in _load(folder)):
            for path in (*recipe.contracts, *recipe.hypotheses):
                result.setdefault(path.resolve(), []).append(recipe)
        return result


def _load(folder: Path) -> Iterator[Recipe]:
    for path in sorted(folder.glob("*.y*ml"))[:_MOST_FILES]:
        with suppress(HrmctlError, OSError):
            if path.suffix in (".yaml", ".yml") and _is_recipe(path):
                yield load_recipe(path)


def _is_recipe(path: Path) -> bool:
    """Whether it is worth parsing: other files of the folder may be anything, and many."""
    known = path.is_file() and path.stat().st_size <= _MOST_BYTES
    return known and _KIND.search(path.read_bytes()) is not None


def _names(recipe: Recipe, labels: Mapping[str, str]) -> bool:
    """Whether the recipe's text names the subject's model, and where it has none, each thing that it is about.

    A stage makes its label of what it is given (the stage's own name, an `init`, a `source`, a file) and adds to it.
    """
    wanted = [labels["model"]] if "model" in labels else list(labels.values())
    words = {word for entry in recipe.entry.stages.values() for word in _words(entry)}
    named = re.compile(rf"(?:\./)?(?:{'|'.join(map(re.escape, words))})(?:[@/\[]|-\d+[-@]|$)")
    return all(named.match(label) for label in wanted)


def _words(entry: StageEntry) -> Iterator[str]:
    yield entry.uses.rpartition(".")[2]
    for text in _texts([entry.with_, *entry.matrix.values()]):
        yield text
        yield Path(text).name  # of a path it is all that the label has


def _texts(value: object) -> Iterator[str]:
    value = value.value if isinstance(value, Node) else value
    if isinstance(value, str):
        yield from [value] if value else []
    elif isinstance(value, Mapping | Sequence):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
