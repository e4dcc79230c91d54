"""The command that would measure what was not measured: a recipe that lists the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from hrmctl.contract import Contract
from hrmctl.errors import HrmctlError
from hrmctl.recipe import Recipe, load_recipe

RECIPES = Path("recipes")
_MOST = 3


class Remedies:
    """The recipes of `folder`, read when something is first found missing; one that does not load is passed over."""

    def __init__(self, folder: Path = RECIPES):
        self._folder = folder

    def of(self, contract: Contract, stage: str) -> str:
        """The commands that run a `stage` and ask this contract, in the order of the recipes; empty where none does."""
        file = Path(contract.file).resolve() if contract.file else None
        known = self._recipes.get(file, ()) if file else ()
        found = [r.path for r in known if any(entry.uses == stage for entry in r.entry.stages.values())]
        return " or ".join(f"hrmctl pipeline {path}" for path in found[:_MOST])

    @cached_property
    def _recipes(self) -> Mapping[Path, Sequence[Recipe]]:
        result: dict[Path, list[Recipe]] = {}
        for recipe in _load(self._folder):
            for path in (*recipe.contracts, *recipe.hypotheses):
                result.setdefault(path.resolve(), []).append(recipe)
        return result


def _load(folder: Path) -> Iterator[Recipe]:
    for path in sorted(folder.glob("*.yaml")):
        try:
            yield load_recipe(path)
        except HrmctlError:
            continue
