"""Parameters of the stages `data.sudoku` and `data.maze`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from hrmctl.schema import doc

_GIVENS = (
    "numbers of givens, one drawn for each puzzle; 0: as few as one solution allows (a minimal puzzle); "
    "unset: 5 to 8 at size 4, minimal at 6 and 9"
)
_GUESSES = (
    "fewest guesses that a puzzle costs the solver, which settles naked and hidden singles itself (docs/puzzles.md)"
)
_IMAGES = "images of each training puzzle under random symmetries, added to the training rows"
LEAST_GIVENS = {4: 4, 6: 8, 9: 17}
"""No puzzle with one solution has fewer, by the size of the grid (9: McGuire et al. 2012)."""
_LOOPS = "share of the walls between cells that is opened after the maze is carved, so that it has loops"


@dataclass(frozen=True)
class SudokuParams:
    """Which sudoku puzzles `data.sudoku` makes. Raises ValueError for givens that no such grid can have."""

    size: Annotated[Literal[4, 6, 9], doc("digits, rows and columns; boxes are 2 by 2, 2 by 3, 3 by 3")] = 4
    givens: Annotated[tuple[int, ...], doc(_GIVENS)] = ()
    min_guesses: Annotated[int, Ge(0), Le(1000), doc(_GUESSES)] = 0
    train: Annotated[int, Ge(1), Le(100_000), doc("training puzzles, no two of one class")] = 800
    test: Annotated[int, Ge(1), Le(10_000), doc("test puzzles, of classes that training never shows")] = 200
    validation: Annotated[int, Ge(0), Le(10_000), doc("validation puzzles, of other such classes")] = 0
    augment: Annotated[int, Ge(0), Le(10_000), doc(_IMAGES)] = 0

    def __post_init__(self) -> None:
        least, most = LEAST_GIVENS[self.size], self.size * self.size - 1
        wrong = [count for count in self.givens if count and not least <= count <= most]
        if wrong:
            raise ValueError(
                f"givens holds {wrong[0]}; with one solution a grid of size {self.size} has {least} to {most}"
            )


@dataclass(frozen=True)
class MazeParams:
    """Which mazes `data.maze` makes. Raises ValueError where no path can be so long."""

    size: Annotated[int, Ge(5), Le(60), doc("rows and columns of cells, walls included")] = 7
    min_path: Annotated[int, Ge(2), doc("fewest steps of the shortest path from start to goal")] = 8
    loops: Annotated[float, Ge(0), Le(0.5), doc(_LOOPS)] = 0.05
    train: Annotated[int, Ge(1), Le(100_000), doc("training mazes, no two of one class")] = 1000
    test: Annotated[int, Ge(1), Le(10_000), doc("test mazes, of classes that training never shows")] = 200
    validation: Annotated[int, Ge(0), Le(10_000), doc("validation mazes, of other such classes")] = 0
    augment: Annotated[int, Ge(0), Le(7), doc("turned and mirrored images of each training maze, added to it")] = 0

    def __post_init__(self) -> None:
        most = self.size * self.size // 2
        if self.min_path > most:
            raise ValueError(f"min_path {self.min_path} is longer than any path in {self.size} by {self.size} cells")
