"""The stage `data.sudoku`: puzzles of size 4, 6 and 9 with one solution each, split by class."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from hrmctl import Context, StageInputs, StageResult
from hrmctl_data.puzzle_params import SudokuParams
from hrmctl_data.puzzle_splits import Candidate, Family, Puzzle, Sizes, count, make, mean
from hrmctl_data.sudoku_solver import BLANK, random_solution, solve, thinned
from hrmctl_data.sudoku_symmetry import class_key, fingerprint, random_image

_GIVENS = {4: (5, 6, 7, 8), 6: (0,), 9: (0,)}


def run(params: SudokuParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Write the splits and measure that they share no class and that each puzzle has one solution.

    Deterministic in the seed. Raises StageError where there are not so many classes of such puzzles.
    """
    splits = {"train": params.train, "test": params.test, "validation": params.validation}
    return make(family(params), Sizes(splits, params.augment), ctx, {"givens": _givens, "shared_solutions": _shared})


def family(params: SudokuParams) -> Family:
    """The puzzles that these parameters describe; the label says where easy ones are left out."""
    hard = f"-guesses{params.min_guesses}" if params.min_guesses else ""
    return Family(
        name=f"sudoku-{params.size}{hard}",
        source="sudoku",
        draw=lambda rng: _draw(params, rng),
        key=class_key,
        image=_image,
        proven=lambda prompt, completion: solve(prompt)[0] == [completion],
    )


def _draw(params: SudokuParams, rng: random.Random) -> Candidate:
    solution = random_solution(params.size, rng)
    if params.size == 9:
        # The class is that of the solution, known before the costly part.
        return Candidate(fingerprint(solution), lambda: _puzzle(params, solution, rng))
    puzzle = _puzzle(params, solution, rng)
    return Candidate(class_key(puzzle.prompt, solution) if puzzle else "", lambda: puzzle)


def _puzzle(params: SudokuParams, solution: str, rng: random.Random) -> Puzzle | None:
    """None where the puzzle is too easy, or the givens drawn are fewer than this grid's order of removal allows."""
    givens = rng.choice(params.givens or _GIVENS[params.size])
    prompt = thinned(solution, givens, rng)
    left = len(prompt) - prompt.count(BLANK)
    guesses = solve(prompt)[1]
    if guesses < params.min_guesses or (givens and left != givens):
        return None
    return Puzzle(prompt, solution, {"givens": left, "difficulty": guesses})


def _image(puzzle: Puzzle, rng: random.Random) -> Puzzle:
    return Puzzle(*random_image(puzzle.prompt, puzzle.completion, rng), puzzle.facts)


def _givens(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Mean number of givens of the test puzzles."""
    return count(mean([row["givens"] for row in rows["test"]]), "mean", len(rows["test"]))


def _shared(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Test puzzles whose very solution is that of a training row, too: another puzzle of the same solved grid."""
    taught = {row["completion"] for row in rows["train"]}
    return count(sum(row["completion"] in taught for row in rows["test"]), "puzzles", len(rows["test"]))
