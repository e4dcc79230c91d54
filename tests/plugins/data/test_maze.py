"""Mazes: shortest paths against brute force, images, the stage and its measurements."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hrmctl_data import maze, puzzle_splits
from hrmctl_data.maze import Paths, carved, class_key, images
from hrmctl_data.puzzle_params import MazeParams
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl import StageError, StageResult
from hrmctl.testing import make_context


def simple_paths(grid: str, size: int, start: int, goal: int) -> list[list[int]]:
    """Every path that visits no cell twice, by plain search."""
    found = []

    def walk(path: list[int]) -> None:
        if path[-1] == goal:
            found.append(path)
            return
        row, column = divmod(path[-1], size)
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            cell = r * size + c
            if 0 <= r < size and 0 <= c < size and grid[cell] != "#" and cell not in path:
                walk([*path, cell])

    walk([start])
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([4, 5]), st.floats(0.4, 0.8))
def test_steps_and_ways_are_those_of_all_paths(seed: int, size: int, share: float) -> None:
    rng = random.Random(seed)
    grid = "".join("." if rng.random() < share else "#" for _ in range(size * size))
    start = rng.randrange(size * size)
    grid = grid[:start] + "." + grid[start + 1 :]
    paths = Paths.of(grid, start)
    for goal in range(size * size):
        every = simple_paths(grid, size, start, goal) if grid[goal] == "." else []
        if not every:
            assert goal not in paths.steps
            continue
        shortest = min(map(len, every))
        assert paths.steps[goal] == shortest - 1
        assert paths.ways[goal] == sum(len(path) == shortest for path in every)
        if goal != start:
            assert [start, *reversed(list(paths.between(goal))), goal] in every
            assert len(list(paths.between(goal))) == shortest - 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 12))
def test_without_loops_every_open_cell_is_reached_in_one_way(seed: int, size: int) -> None:
    grid = carved(size, 0.0, random.Random(seed))
    cells = [cell for cell, sign in enumerate(grid) if sign == "."]
    paths = Paths.of(grid, cells[0])
    assert sorted(paths.steps) == cells
    assert set(paths.ways.values()) == {1}
    nodes = ((size + 1) // 2) ** 2
    assert len(cells) == 2 * nodes - 1


def test_loops_open_walls() -> None:
    closed, opened = (carved(15, loops, random.Random(4)) for loops in (0.0, 0.3))
    assert opened.count("#") < closed.count("#")


def test_the_eight_images() -> None:
    grid = "abcdefghi"
    assert set(images(grid)) == {
        "abcdefghi",
        "cbafedihg",
        "gdahebifc",
        "adgbehcfi",
        "ihgfedcba",
        "ghidefabc",
        "cfibehadg",
        "ifchebgda",
    }
    assert images(grid)[0] == grid


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 9), st.integers(0, 7))
def test_images_and_other_ends_are_of_the_same_class(seed: int, size: int, which: int) -> None:
    grid = carved(size, 0.1, random.Random(seed))
    cells = [cell for cell, sign in enumerate(grid) if sign == "."]
    marked = "".join({cells[0]: "S", cells[-1]: "G"}.get(cell, sign) for cell, sign in enumerate(grid))
    assert class_key(images(marked)[which]) == class_key(grid)
    wall = grid.index("#")
    assert class_key(grid[:wall] + "." + grid[wall + 1 :]) != class_key(grid)


def made(folder: Path, params: MazeParams) -> tuple[StageResult, dict[str, list[dict[str, Any]]]]:
    result = maze.run(params, {}, make_context(folder))
    rows = {
        split: [json.loads(line) for line in output.path.read_text(encoding="utf-8").splitlines()]
        for split, output in result.artifacts.items()
    }
    return result, rows


@pytest.mark.parametrize("size", [7, 8])
def test_files_and_evidence(tmp_path: Path, size: int) -> None:
    params = MazeParams(size=size, train=40, test=20, validation=10, augment=7)
    result, rows = made(tmp_path, params)
    assert made(tmp_path / "again", params)[1] == rows
    assert result.artifacts["test"].label == f"maze-{size}@test"
    found = {o.name: (o.payload["value"], o.payload["n"]) for o in result.evidence}
    assert found["class_overlap"] == found["prompt_overlap"] == (0, 20)
    assert found["validation_overlap"] == (0, 10)
    assert found["not_proven"] == (0, 70)
    assert found["classes"] == (40, len(rows["train"]))
    assert found["images"][0] == len(rows["train"]) - 40 > 40
    for row in (row for some in rows.values() for row in some):
        every = simple_paths(row["prompt"], size, row["prompt"].index("S"), row["prompt"].index("G"))
        (shortest,) = [path for path in every if len(path) == min(map(len, every))]
        marked = {cell for cell, sign in enumerate(row["completion"]) if sign == "o"}
        assert marked == set(shortest[1:-1])
        assert row["completion"].replace("o", ".") == row["prompt"]
        assert row["difficulty"] == len(shortest) - 1 >= 8


def test_a_leak_and_a_second_path_are_counted() -> None:
    family = maze.family(MazeParams(size=5))
    one = {"task_id": "a", "prompt": "S...G" + "#####" * 4, "completion": "SoooG" + "#####" * 4, "difficulty": 4}
    turned = images(one["prompt"])[2], images(one["completion"])[2]
    same_walls = {**one, "prompt": turned[0], "completion": turned[1]}
    two = {**one, "prompt": "S.#########.G" + "#" * 12, "completion": "So#########oG" + "#" * 12}
    square = {**one, "prompt": "S.####.G###" + "#" * 14, "completion": "So####.G###" + "#" * 14}
    found = puzzle_splits.measure(family, {"train": [same_walls], "test": [one, two, square]})
    assert found["class_overlap"]["value"] == 1
    assert found["prompt_overlap"]["value"] == 0
    assert found["not_proven"]["value"] == 2


def test_paths_that_no_maze_has_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="min_path 25 is longer"):
        MazeParams(size=7, min_path=25)
    monkeypatch.setattr(puzzle_splits, "_TRIES", 20)
    with pytest.raises(StageError, match="20 draws gave no further train puzzle"):
        made(tmp_path, MazeParams(size=7, min_path=24, loops=0.5, train=3, test=2))
