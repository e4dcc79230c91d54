"""Inputs for microcode tests: drawn at random, chosen so that near-miss programs fail."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any

from hrmctl_data.operations import Kind, Operation, function_of

Step = tuple[Operation, int | None]
POOL = 10
LEAST_TESTS = 3
MOST_TESTS = 6
_FAILED = object()
_WORDS = ("Apple", "Banana", "cat", "Data", "Panama", "grass", "Ant", "Lake", "moon", "River", "salad", "Tea", "a")


def draw_input(kind: Kind, rng: random.Random) -> Any:
    """One value of a type: ints of −20…60, one to three words, lists of 4 to 8 items, ranges of 4 to 16 numbers."""
    if kind == "int":
        return rng.randrange(-20, 61)
    if kind == "str":
        return " ".join(rng.choice(_WORDS) for _ in range(rng.randrange(1, 4)))
    if kind == "list":
        return [rng.randrange(-5, 13) for _ in range(rng.randrange(4, 9))]
    start = rng.randrange(0, 6)
    return range(start, start + rng.randrange(4, 17))


def run_steps(steps: Sequence[Step], value: Any) -> Any:
    """The value after all steps, or a marker that equals nothing else where a step fails on it."""
    try:
        for operation, constant in steps:
            value = function_of(operation)(value, constant)
    except (TypeError, ValueError, AttributeError, IndexError):
        return _FAILED
    return value


def near_misses(steps: Sequence[Step]) -> tuple[list[Sequence[Step]], list[Sequence[Step]]]:
    """Wrong programs close to `steps`: those that every test set must refute, and those it should where it can.

    The first lack one or more of the operations (all of them: the identity); the second swap
    neighbours or move a constant by one.
    """
    must: list[Sequence[Step]] = [kept for n in range(len(steps)) for kept in combinations(steps, n)]
    should: list[Sequence[Step]] = [
        (*steps[:i], steps[i + 1], steps[i], *steps[i + 2 :]) for i in range(len(steps) - 1)
    ]
    for i, (operation, constant) in enumerate(steps):
        if constant is not None:
            should += [(*steps[:i], (operation, constant + d), *steps[i + 1 :]) for d in (-1, 1)]
    return must, should


def choose_inputs(steps: Sequence[Step], rng: random.Random) -> list[tuple[Any, Any]] | None:
    """Three to six (input, expected) pairs that tell `steps` from its near misses; None where no such set was found.

    At least two expected values differ, so no constant answer passes; dropping any of the operations
    fails some pair, so none is idle. Results are small enough to write in one assert.
    """
    pool = _usable_inputs(steps, rng)
    if len(pool) < LEAST_TESTS:
        return None
    must, should = near_misses(steps)
    kills = [_refuted_by(miss, pool) for miss in must]
    if not all(kills):
        return None
    chosen = cover([*kills, *(_refuted_by(miss, pool) for miss in should)], pool)
    return [pool[i] for i in chosen] if chosen and all(k & chosen.keys() for k in kills) else None


def _usable_inputs(steps: Sequence[Step], rng: random.Random) -> list[tuple[Any, Any]]:
    pool: list[tuple[Any, Any]] = []
    for _ in range(POOL):
        value = draw_input(steps[0][0].source, rng)
        expected = run_steps(steps, value)
        if expected is not _FAILED and _is_small(expected) and all(value != seen for seen, _ in pool):
            pool.append((value, expected))
    return pool


def _is_small(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < 100_000
    return len(value) <= 24


def _refuted_by(miss: Sequence[Step], pool: list[tuple[Any, Any]]) -> set[int]:
    return {i for i, (value, expected) in enumerate(pool) if run_steps(miss, value) != expected}


def cover(kills: list[set[int]], pool: list[tuple[Any, Any]]) -> dict[int, None]:
    """Three to six indices into the pool, greedily by the misses newly refuted; none where all results are equal.

    `kills` holds for each miss the indices that refute it. Two of the results chosen differ.
    """
    first = max(range(len(pool)), key=lambda i: sum(i in k for k in kills))
    other = [i for i, (_, expected) in enumerate(pool) if expected != pool[first][1]]
    if not other:
        return {}
    chosen = {first: None}
    candidates: Sequence[int] = other
    while len(chosen) < MOST_TESTS:
        open_kills = [k for k in kills if k and not k & chosen.keys()]
        if not open_kills and len(chosen) >= LEAST_TESTS:
            break
        best = max(candidates, key=lambda i: (sum(i in k for k in open_kills), _is_new(i, chosen, pool)))
        chosen[best] = None
        candidates = [i for i in range(len(pool)) if i not in chosen]
        if not candidates:
            break
    return chosen


def _is_new(index: int, chosen: Collection[int], pool: list[tuple[Any, Any]]) -> bool:
    return all(pool[index][1] != pool[i][1] for i in chosen)
