"""Sudoku: the solver against brute force, symmetries against the known counts, the stage and its measurements."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hrmctl_data import puzzle_splits, sudoku
from hrmctl_data.puzzle_params import SudokuParams
from hrmctl_data.puzzle_splits import split_of
from hrmctl_data.sudoku_solver import Grid, Search, can_lose, random_solution, solve, thinned
from hrmctl_data.sudoku_symmetry import canonical, class_key, fingerprint, random_image
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import StageError, StageResult
from hrmctl.testing import make_context

SIZES = st.sampled_from([4, 6, 9])
SEEDS = st.integers(0, 2**32)


def solved_by_hand(grid: str, size: int, height: int) -> bool:
    """The rules in other words than the solver's: every pair of cells that see each other differs."""
    width = size // height

    def sees(a: int, b: int) -> bool:
        (r, c), (s, d) = divmod(a, size), divmod(b, size)
        return r == s or c == d or (r // height == s // height and c // width == d // width)

    cells = range(size * size)
    return all(grid[a] != grid[b] for a in cells for b in cells if a < b and sees(a, b))


def all_4x4() -> list[str]:
    """Every solved grid of size 4, from all arrangements of its rows."""
    lines = ["".join(line) for line in product("1234", repeat=4) if len(set(line)) == 4]
    found = []
    for a, b in product(lines, repeat=2):
        if any(x == y for x, y in zip(a, b, strict=True)) or len(set(a[:2] + b[:2])) < 4:
            continue
        for c, d in product(lines, repeat=2):
            columns_differ = all(len({w, x, y, z}) == 4 for w, x, y, z in zip(a, b, c, d, strict=True))
            if columns_differ and len(set(c[:2] + d[:2])) == 4:
                found.append(a + b + c + d)
    return found


def test_every_grid_of_size_4_is_found_once() -> None:
    found = list(Search().solutions(Grid.empty(4)))
    assert len(found) == 288
    assert sorted(found) == sorted(all_4x4())
    assert all(solved_by_hand(grid, 4, 2) for grid in found)


def unique_masks(grids: list[str], which: int) -> np.ndarray:
    """Which sets of givens (bit masks) leave grid number `which` the only one: those that meet each difference."""
    cells = np.array([list(map(int, grid)) for grid in grids])
    differences = (cells != cells[which]) @ (1 << np.arange(16))
    masks = np.arange(1 << 16)
    unique = np.ones(1 << 16, dtype=bool)
    for difference in differences[differences > 0]:
        unique &= (masks & difference) != 0
    return unique


def puzzle_of(grid: str, mask: int) -> str:
    return "".join(digit if mask >> cell & 1 else "." for cell, digit in enumerate(grid))


def test_the_solver_counts_as_brute_force_does() -> None:
    grids = all_4x4()
    unique = unique_masks(grids, 17)
    rng = random.Random(3)
    for mask in rng.sample(range(1 << 16), 400):
        found, _ = solve(puzzle_of(grids[17], mask))
        assert (found == [grids[17]]) == unique[mask]
        assert grids[17] in found or len(found) == 2


def test_minimal_puzzles_of_size_4_fall_into_the_36_known_classes() -> None:
    """13 of four givens, 22 of five, 1 of six: the published census of minimal 4x4 puzzles."""
    grids = all_4x4()
    # One grid of each of the two classes of grids is enough.
    chosen = {canonical(grid): number for number, grid in enumerate(grids)}
    assert len(chosen) == 2
    classes: set[str] = set()
    for number in chosen.values():
        unique = unique_masks(grids, number)
        bits = 1 << np.arange(16)
        for mask in np.flatnonzero(unique):
            if not any(unique[mask & ~bit] for bit in bits if mask & bit):
                classes.add(canonical(puzzle_of(grids[number], int(mask))))
    assert Counter(16 - key.count(".") for key in classes) == {4: 13, 5: 22, 6: 1}


def test_a_puzzle_known_to_be_hard_is_solved() -> None:
    puzzle = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    found, guesses = solve(puzzle)
    assert found == ["812753649943682175675491283154237896369845721287169534521974368438526917796318452"]
    assert guesses > 20


def test_singles_alone_cost_no_guess_and_contradictions_have_no_solution() -> None:
    assert solve("1234341221434321") == (["1234341221434321"], 0)
    assert solve("1..............1")[0]
    assert solve("11..............") == ([], 0)
    # The cell at the corner has no digit left, though no two givens clash.
    assert solve(".12..4..3.......")[0] == []


@settings(max_examples=15, deadline=None)
@given(SIZES, SEEDS)
def test_thinned_puzzles_have_one_solution_and_no_given_too_many(size: int, seed: int) -> None:
    rng = random.Random(seed)
    solution = random_solution(size, rng)
    assert solved_by_hand(solution, size, {4: 2, 6: 2, 9: 3}[size])
    puzzle = thinned(solution, 0, rng)
    assert solve(puzzle)[0] == [solution]
    for cell in [cell for cell, sign in enumerate(puzzle) if sign != "."][:8]:
        assert len(solve(puzzle[:cell] + "." + puzzle[cell + 1 :])[0]) == 2
        assert not can_lose(puzzle, cell)


@settings(max_examples=30, deadline=None)
@given(SIZES, SEEDS)
def test_images_are_valid_of_the_same_class_and_as_hard_to_prove(size: int, seed: int) -> None:
    rng = random.Random(seed)
    solution = random_solution(size, rng)
    puzzle = thinned(solution, size * size // 2, rng)
    image, answer = random_image(puzzle, solution, rng)
    assert solved_by_hand(answer, size, {4: 2, 6: 2, 9: 3}[size])
    assert solve(image)[0] == [answer]
    assert class_key(image, answer) == class_key(puzzle, solution)
    assert image.count(".") == puzzle.count(".")


def test_random_images_reach_every_member_of_a_class() -> None:
    rng = random.Random(5)
    grid = all_4x4()[0]
    members = sum(canonical(other) == canonical(grid) for other in all_4x4())
    assert len({random_image(grid, grid, rng)[0] for _ in range(3000)}) == members


def test_the_fingerprint_tells_grids_apart_and_the_two_of_size_4() -> None:
    grids = [random_solution(9, random.Random(seed)) for seed in range(300)]
    assert len({fingerprint(grid) for grid in grids}) == 300
    by_key = {(canonical(grid), fingerprint(grid)) for grid in all_4x4()}
    assert len(by_key) == len({key for key, _ in by_key}) == len({mark for _, mark in by_key}) == 2


def made(folder: Path, params: SudokuParams, seed: int = 7) -> tuple[StageResult, dict[str, list[dict[str, Any]]]]:
    result = sudoku.run(params, {}, make_context(folder, seed=seed))
    rows = {
        split: [json.loads(line) for line in output.path.read_text(encoding="utf-8").splitlines()]
        for split, output in result.artifacts.items()
    }
    return result, rows


def values(result: StageResult) -> dict[str, tuple[float, int]]:
    return {o.name: (o.payload["value"], o.payload["n"]) for o in result.evidence}


SMALL = SudokuParams(train=60, test=25, validation=15, augment=4)


def test_files_labels_and_evidence(tmp_path: Path) -> None:
    result, rows = made(tmp_path, SMALL)
    assert {split: o.label for split, o in result.artifacts.items()} == {
        split: f"sudoku-4@{split}" for split in ("train", "test", "validation")
    }
    assert (len(rows["test"]), len(rows["validation"])) == (25, 15)
    images = [row for row in rows["train"] if "image_of" in row]
    found = values(result)
    assert found["images"] == (len(images), len(rows["train"]))
    assert (
        found["images"][0] + next(o for o in result.evidence if o.name == "images").payload["context"]["repeated"]
        == 60 * 4
    )
    for name in ("class_overlap", "prompt_overlap"):
        assert found[name] == (0, 25)
    assert found["validation_overlap"] == (0, 15)
    assert found["not_proven"] == (0, 100)
    assert (found["classes"], found["test_classes"]) == ((60, len(rows["train"])), (25, 25))
    assert 5 <= found["givens"][0] <= 8
    for observation in result.evidence:
        assert observation.about == {"dataset": result.artifacts["test"], "train": result.artifacts["train"]}
    for row in (row for some in rows.values() for row in some):
        assert row["source"] == "sudoku"
        assert row["givens"] == 16 - row["prompt"].count(".")
        assert solve(row["prompt"])[0] == [row["completion"]]
    ids = [row["task_id"] for some in rows.values() for row in some]
    assert len(set(ids)) == len(ids)


def test_no_image_is_written_twice(tmp_path: Path) -> None:
    result, rows = made(tmp_path, SudokuParams(train=5, test=1, augment=200))
    assert len({row["prompt"] for row in rows["train"]}) == len(rows["train"]) < 5 * 201
    assert values(result)["images"] == (len(rows["train"]) - 5, len(rows["train"]))


def test_shared_solutions_are_counted(tmp_path: Path) -> None:
    """Size 4 has 288 solved grids: most of the test's are known from training, under other puzzles."""
    result, rows = made(tmp_path, SMALL)
    taught = {row["completion"] for row in rows["train"]}
    assert values(result)["shared_solutions"] == (sum(row["completion"] in taught for row in rows["test"]), 25)
    assert values(result)["shared_solutions"][0] > 0


def test_bytes_depend_on_the_seed_and_a_split_not_on_the_others(tmp_path: Path) -> None:
    first = made(tmp_path / "a", SMALL)[1]
    assert first == made(tmp_path / "b", SMALL)[1]
    assert first["test"] != made(tmp_path / "c", SMALL, seed=8)[1]["test"]
    other = made(tmp_path / "d", SudokuParams(train=10, test=25, validation=3))[1]
    assert other["test"] == first["test"]
    assert other["validation"] == first["validation"][:3]


def test_extreme_puzzles_are_hard_and_split_by_solution(tmp_path: Path) -> None:
    result, rows = made(tmp_path, SudokuParams(size=9, min_guesses=3, train=6, test=4, augment=2))
    assert result.artifacts["test"].label == "sudoku-9-guesses3@test"
    for row in (row for some in rows.values() for row in some if "image_of" not in row):
        assert solve(row["prompt"])[1] == row["difficulty"] >= 3
    assert values(result)["shared_solutions"] == (0, 4)
    seed = 7
    assert {split_of(fingerprint(row["completion"]), seed) for row in rows["test"]} == {"test"}


def test_size_6_is_made_too(tmp_path: Path) -> None:
    result, rows = made(tmp_path, SudokuParams(size=6, train=8, test=5, augment=1))
    assert values(result)["not_proven"] == (0, 13)
    assert all(len(row["prompt"]) == 36 for row in rows["train"])


def test_a_leak_is_counted() -> None:
    """A turned and renamed test puzzle among the training rows, and one that is there as it is."""
    family = sudoku.family(SudokuParams())
    rng = random.Random(2)
    rows = []
    for number in range(4):
        solution = random_solution(4, rng)
        rows.append(
            {"task_id": f"x-{number}", "prompt": thinned(solution, 6, rng), "completion": solution, "difficulty": 0}
        )
    image, answer = random_image(rows[0]["prompt"], rows[0]["completion"], random.Random(1))
    assert image != rows[0]["prompt"]
    train = [{**rows[0], "prompt": image, "completion": answer}, rows[1]]
    found = puzzle_splits.measure(family, {"train": train, "test": rows, "validation": [rows[3]]})
    assert found["class_overlap"]["value"] == 2
    assert found["prompt_overlap"]["value"] == 1
    assert found["validation_overlap"]["value"] == 1


def test_a_puzzle_with_another_solution_or_two_is_counted() -> None:
    family = sudoku.family(SudokuParams())
    good = {"task_id": "a", "prompt": "1234341221434..1", "completion": "1234341221434321", "difficulty": 0}
    wrong = {**good, "completion": "1234341221434231"}
    open_ = {**good, "prompt": "................"}
    found = puzzle_splits.measure(family, {"train": [good, wrong], "test": [open_]})
    assert found["not_proven"] == {"value": 2, "unit": "puzzles", "n": 3}


def test_more_classes_than_there_are_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puzzle_splits, "_TRIES", 300)
    with pytest.raises(StageError, match=r"sudoku-4: 300 draws gave no further train puzzle after \d+"):
        made(tmp_path, SudokuParams(givens=(0,), train=100, test=1))
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(("size", "givens"), [(4, 3), (6, 7), (9, 16), (4, 16)])
def test_givens_that_no_puzzle_can_have_are_refused(size: Any, givens: int) -> None:
    with pytest.raises(ValueError, match=f"givens holds {givens}"):
        SudokuParams(size=size, givens=(0, givens))
