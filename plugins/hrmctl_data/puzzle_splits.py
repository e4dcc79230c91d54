"""Puzzles into splits that share no class, training images of them, and the proof over the rows as written.

A class is all the puzzles that are one puzzle in other words: a family says by `key` which puzzles those
are. The split of a class follows from its key and the seed alone, so no class is in two splits, and a
split does not change when the sizes of the others do.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hrmctl import Context, Observation, Output, StageError, StageResult
from hrmctl_data.rows import write_rows

# Where the digest of a class falls in [0, 1) decides its split.
_SHARES = {"train": 0.6, "test": 0.85, "validation": 1.0}
_TRIES = 20_000
_REPORT_EVERY = 50


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A puzzle with its solution, one character a cell; `facts` join its row."""

    prompt: str
    completion: str
    facts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class, and how to make its puzzle where one is wanted (None: it has none that is hard enough)."""

    key: str
    finish: Callable[[], Puzzle | None]


@dataclass(frozen=True)
class Family:
    """A kind of puzzle. `name` labels the data sets, `source` names the rules that a row is judged by.

    `proven` solves a puzzle anew: whether it has one solution and that is its completion.
    """

    name: str
    source: str
    draw: Callable[[random.Random], Candidate]
    key: Callable[[str, str], str]
    image: Callable[[Puzzle, random.Random], Puzzle]
    proven: Callable[[str, str], bool]


@dataclass(frozen=True)
class Sizes:
    """Puzzles of each split, and images of each training puzzle."""

    splits: Mapping[str, int]
    augment: int


def make(family: Family, sizes: Sizes, ctx: Context, extra: Mapping[str, Any]) -> StageResult:
    """Write one JSONL file a split and measure over its rows. `extra` are measurements of the family's own.

    Raises StageError where there are not so many classes.
    """
    found = fill(family, sizes.splits, ctx)
    rows = {split: list(_rows(family, split, puzzles)) for split, puzzles in found.items()}
    images, repeated = _images(family, found["train"], sizes.augment, ctx.seed)
    rows["train"] += images
    outputs = {}
    for split, written in rows.items():
        path = ctx.scratch / f"{family.name}-{split}.jsonl"
        write_rows(path, written)
        outputs[split] = Output(path, f"{family.name}@{split}")
    about = {"dataset": outputs["test"], "train": outputs["train"]}
    measured = measure(family, rows) | {name: of(rows) for name, of in extra.items()}
    measured["images"] = count(len(images), "rows", len(rows["train"]), repeated=repeated)
    evidence = [Observation(name, "measurement/v1", payload, about) for name, payload in measured.items()]
    return StageResult(outputs, evidence)


def fill(family: Family, sizes: Mapping[str, int], ctx: Context) -> dict[str, list[Puzzle]]:
    """As many puzzles for each split as are asked for, no two of one class."""
    wanted = {split: size for split, size in sizes.items() if size}
    found: dict[str, list[Puzzle]] = {split: [] for split in wanted}
    total, done, misses, number = sum(wanted.values()), 0, 0, 0
    seen: set[str] = set()
    while done < total:
        # Random numbers of its own for each: what is left out does not change what comes after.
        candidate = family.draw(random.Random(f"{ctx.seed}/{family.source}/{number}"))
        number += 1
        split = split_of(candidate.key, ctx.seed)
        open_ = len(found.get(split, ())) < wanted.get(split, 0) and candidate.key not in seen
        puzzle = candidate.finish() if open_ else None
        if puzzle is None:
            misses += 1
            _check(misses, family, found, wanted)
            continue
        misses = 0
        seen.add(candidate.key)
        found[split].append(puzzle)
        done += 1
        if done % _REPORT_EVERY == 0 or done == total:
            ctx.progress(done, total, drawn=number)
    return found


def _check(misses: int, family: Family, found: Mapping[str, Sequence[Puzzle]], wanted: Mapping[str, int]) -> None:
    if misses < _TRIES:
        return
    short = next(split for split in wanted if len(found[split]) < wanted[split])
    raise StageError(
        f"{family.name}: {_TRIES} draws gave no further {short} puzzle after {len(found[short])}; "
        f"ask for at most {len(found[short])}, or for easier or more various ones"
    )


def split_of(key: str, seed: int) -> str:
    """The split that a class belongs to: 60 % of all to train, 25 % to test, 15 % to validation."""
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return next(split for split, end in _SHARES.items() if place < end)


def _rows(family: Family, split: str, puzzles: Sequence[Puzzle]) -> Iterator[dict[str, Any]]:
    for number, puzzle in enumerate(puzzles, start=1):
        yield _row(family, f"{family.name}/{split}-{number}", puzzle)


def _row(family: Family, task_id: str, puzzle: Puzzle) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "prompt": puzzle.prompt,
        "completion": puzzle.completion,
        "source": family.source,
        **puzzle.facts,
    }


def _images(family: Family, puzzles: Sequence[Puzzle], augment: int, seed: int) -> tuple[list[dict[str, Any]], int]:
    """Rows of images, and how many were left out because that very row was there."""
    seen = {puzzle.prompt for puzzle in puzzles}
    rows, repeated = [], 0
    for number, puzzle in enumerate(puzzles, start=1):
        rng = random.Random(f"{seed}/{family.source}/image/{number}")
        for index in range(1, augment + 1):
            image = family.image(puzzle, rng)
            if image.prompt in seen:
                repeated += 1
                continue
            seen.add(image.prompt)
            original = f"{family.name}/train-{number}"
            rows.append({**_row(family, f"{original}.{index}", image), "image_of": original})
    return rows, repeated


def measure(family: Family, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What every family is measured by, over the rows as written; images are training rows.

    `class_overlap` and `prompt_overlap` count the test puzzles whose class or whose very prompt occurs in
    training, `validation_overlap` the validation puzzles whose class occurs in training or test,
    `not_proven` the puzzles (images aside) of which a new search finds another solution or none.
    """
    keys = {split: [family.key(row["prompt"], row["completion"]) for row in some] for split, some in rows.items()}
    taught, prompts = set(keys["train"]), {row["prompt"] for row in rows["train"]}
    test = rows["test"]
    originals = [row for some in rows.values() for row in some if "image_of" not in row]
    unproven = sum(not family.proven(row["prompt"], row["completion"]) for row in originals)
    found = {
        "class_overlap": count(sum(key in taught for key in keys["test"]), "puzzles", len(test)),
        "prompt_overlap": count(sum(row["prompt"] in prompts for row in test), "puzzles", len(test)),
        "classes": count(len(taught), "classes", len(rows["train"])),
        "test_classes": count(len(set(keys["test"])), "classes", len(test)),
        "not_proven": count(unproven, "puzzles", len(originals)),
        "difficulty": count(mean([row["difficulty"] for row in test]), "mean", len(test)),
    }
    if "validation" in rows:
        others = taught | set(keys["test"])
        shared = sum(key in others for key in keys["validation"])
        found["validation_overlap"] = count(shared, "puzzles", len(keys["validation"]))
    return found


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def count(value: float, unit: str, n: int, **context: Any) -> dict[str, Any]:
    """The payload of a measurement/v1."""
    return {"value": value, "unit": unit, "n": n, **({"context": context} if context else {})}
