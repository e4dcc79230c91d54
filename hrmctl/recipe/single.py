"""A recipe of one stage, for a stage's own command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrmctl.jsonio import digest_of
from hrmctl.recipe.parse import Recipe, RecipeEntry
from hrmctl.schema import decode_or_raise
from hrmctl.yamlio import Node


def single_stage(uses: str, given: Mapping[str, Any], seed: int) -> Recipe:
    """The recipe that runs `uses` with these parameters and input paths."""
    name = uses.replace(".", "-")
    plain = {
        "kind": "recipe",
        "name": name,
        "seed": seed,
        "stages": {name: {"uses": uses, "with": {**given}}},
    }
    root = Node.of(plain, f"hrmctl {uses.replace('.', ' ')}")
    return Recipe(Path(f"{name}.yaml"), root, decode_or_raise(root, RecipeEntry), digest_of(root.plain()), [], [])
