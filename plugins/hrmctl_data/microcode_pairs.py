"""Preferences over microcode: the reference of a problem, and another problem's that fails its asserts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from hrmctl import StageError
from hrmctl_data.microcode import passes_own_tests, problems

_TRIES = 100


def preferences(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` rows of prompt, chosen and rejected, over the first training problems of this seed.

    The rejected completion is a reference of another problem with the same header, drawn until one really fails the
    problem's asserts. Raises StageError where none does.
    """
    rng = random.Random(f"{seed}/preferences")
    rows = list(problems("train", count, seed))
    for number, row in enumerate(rows, 1):
        others = [other["completion"] for other in rows if other["prefix"] == row["prefix"]]
        rejected = next((text for text in _drawn(others, rng) if not _passes(row, text)), None)
        if rejected is None:
            raise StageError(f"no other program fails {row['task_id']}; ask for more than {count} preferences")
        yield {
            "task_id": f"microcode/preference-{number}",
            "prompt": row["prompt"],
            "chosen": row["completion"],
            "rejected": rejected,
            "prefix": row["prefix"],
            "tests": row["tests"],
        }


def _drawn(texts: list[str], rng: random.Random) -> Iterator[str]:
    return (rng.choice(texts) for _ in range(_TRIES))


def _passes(row: dict[str, Any], completion: str) -> bool:
    return passes_own_tests({**row, "completion": completion})


def unproven(row: dict[str, Any]) -> bool:
    """Whether, run again, the chosen completion fails its asserts or the rejected one passes them."""
    return not _passes(row, row["chosen"]) or _passes(row, row["rejected"])
