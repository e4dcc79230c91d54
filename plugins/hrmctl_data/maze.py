"""The stage `data.maze`: square mazes with one shortest path from start to goal, split by class.

A row is the maze, one character a cell, row by row: `#` wall, `.` open, `S` start, `G` goal. Its
completion is the same with the cells of the shortest path between S and G as `o` (Wang et al. 2025,
Maze-Hard).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hrmctl import Context, StageInputs, StageResult
from hrmctl_data.puzzle_params import MazeParams
from hrmctl_data.puzzle_splits import Candidate, Family, Puzzle, Sizes, make

WALL, OPEN, START, GOAL, PATH = "#.SGo"


def run(params: MazeParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Write the splits and measure that they share no walls and that each shortest path is the only one.

    Deterministic in the seed. Raises StageError where there are not so many mazes with paths so long.
    """
    splits = {"train": params.train, "test": params.test, "validation": params.validation}
    return make(family(params), Sizes(splits, params.augment), ctx, {})


def family(params: MazeParams) -> Family:
    """The mazes that these parameters describe."""
    return Family(
        name=f"maze-{params.size}",
        source="maze",
        draw=lambda rng: _draw(params, rng),
        key=lambda prompt, _: class_key(prompt),
        image=lambda puzzle, rng: _image(puzzle, rng),
        proven=_proven,
    )


def _draw(params: MazeParams, rng: random.Random) -> Candidate:
    maze = carved(params.size, params.loops, rng)
    return Candidate(class_key(maze), lambda: _puzzle(maze, params.min_path, rng))


def carved(size: int, loops: float, rng: random.Random) -> str:
    """A maze without start and goal: a random spanning tree over every other cell, by depth-first search.

    A share `loops` of the walls left is opened then, which makes loops. An even size leaves its last
    row and column to those openings.
    """
    cells = [WALL] * (size * size)
    first = rng.randrange(0, size, 2) * size + rng.randrange(0, size, 2)
    cells[first] = OPEN
    trail = [first]
    while trail:
        ahead = [(step, at) for step, at in _two_on(trail[-1], size) if cells[at] == WALL]
        if not ahead:
            trail.pop()
            continue
        step, at = rng.choice(ahead)
        cells[step] = cells[at] = OPEN
        trail.append(at)
    return "".join(OPEN if sign == OPEN or rng.random() < loops else WALL for sign in cells)


def _two_on(cell: int, size: int) -> Iterator[tuple[int, int]]:
    """The cell between and the cell two away, in each direction that stays inside."""
    row, column = divmod(cell, size)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        if 0 <= row + 2 * down < size and 0 <= column + 2 * right < size:
            yield cell + down * size + right, cell + 2 * (down * size + right)


def _puzzle(maze: str, least: int, rng: random.Random) -> Puzzle | None:
    """Start and goal at random among those with one shortest path of at least `least` steps; None without any."""
    starts = [cell for cell, sign in enumerate(maze) if sign == OPEN]
    rng.shuffle(starts)
    for start in starts:
        paths = Paths.of(maze, start)
        goals = [cell for cell, steps in paths.steps.items() if steps >= least and paths.ways[cell] == 1]
        if goals:
            goal = rng.choice(goals)
            prompt = _with(maze, {start: START, goal: GOAL})
            completion = _with(prompt, dict.fromkeys(paths.between(goal), PATH))
            return Puzzle(prompt, completion, {"difficulty": paths.steps[goal]})
    return None


@dataclass(frozen=True, slots=True)
class Paths:
    """Shortest paths from one cell: `steps` to each cell that can be reached, and by how many `ways`."""

    steps: Mapping[int, int]
    ways: Mapping[int, int]
    before: Mapping[int, int]

    @classmethod
    def of(cls, maze: str, start: int) -> Paths:
        """By breadth-first search; `before` names the cell before each, on one of its shortest paths."""
        size = round(len(maze) ** 0.5)
        steps, ways, before = {start: 0}, {start: 1}, {}
        queue = [start]
        for cell in queue:
            for other in _next_to(cell, size):
                if maze[other] == WALL:
                    continue
                if other not in steps:
                    steps[other], ways[other], before[other] = steps[cell] + 1, 0, cell
                    queue.append(other)
                if steps[other] == steps[cell] + 1:
                    ways[other] += ways[cell]
        return cls(steps, ways, before)

    def between(self, goal: int) -> Iterator[int]:
        """The cells between start and goal, from the goal on."""
        cell = self.before[goal]
        while cell in self.before:
            yield cell
            cell = self.before[cell]


def _next_to(cell: int, size: int) -> Iterator[int]:
    row, column = divmod(cell, size)
    if row:
        yield cell - size
    if row < size - 1:
        yield cell + size
    if column:
        yield cell - 1
    if column < size - 1:
        yield cell + 1


def _with(maze: str, signs: Mapping[int, str]) -> str:
    return "".join(signs.get(cell, sign) for cell, sign in enumerate(maze))


def class_key(maze: str) -> str:
    """The least of the eight turned and mirrored images of the walls: start and goal are no part of it.

    So the same walls never stand in two splits, whatever their start and goal.
    """
    walls = "".join(WALL if sign == WALL else OPEN for sign in maze)
    return min(images(walls))


def images(grid: str) -> list[str]:
    """The eight images of a square grid under turning and mirroring, itself first."""
    size = round(len(grid) ** 0.5)
    found = []
    for _ in range(4):
        found += [grid, "".join(grid[row * size : (row + 1) * size][::-1] for row in range(size))]
        grid = "".join(grid[column::size][::-1] for column in range(size))
    return found


def _image(puzzle: Puzzle, rng: random.Random) -> Puzzle:
    which = rng.randrange(8)
    return Puzzle(images(puzzle.prompt)[which], images(puzzle.completion)[which], puzzle.facts)


def _proven(prompt: str, completion: str) -> bool:
    paths = Paths.of(prompt, prompt.index(START))
    goal = prompt.index(GOAL)
    return paths.ways.get(goal) == 1 and completion == _with(prompt, dict.fromkeys(paths.between(goal), PATH))
