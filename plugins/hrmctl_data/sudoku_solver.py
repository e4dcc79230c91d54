"""A sudoku solver: naked and hidden singles to a fixed point, then a guess in a cell with fewest candidates.

A state is one bit mask of cells for each digit (bit `row * size + column`: the digit is still possible
there), so that a step of the propagation treats all cells at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

BLANK = "."
BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Rows and columns of a box by the size of the grid."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The cells of a grid: `units` are rows, columns and boxes as masks, `apart[i]` what i does not see, and i."""

    size: int
    full: int
    units: tuple[int, ...]
    apart: tuple[int, ...]


@cache
def geometry(size: int) -> Geometry:
    """The geometry of a grid of 4, 6 or 9 digits."""
    height, width = BOXES[size]
    masks: dict[tuple[str, int], int] = {}
    homes = []
    for cell in range(size * size):
        row, column = divmod(cell, size)
        homes.append((("row", row), ("column", column), ("box", row // height * height + column // width)))
        for unit in homes[-1]:
            masks[unit] = masks.get(unit, 0) | 1 << cell
    full = (1 << size * size) - 1
    seen = [masks[a] | masks[b] | masks[c] for a, b, c in homes]
    return Geometry(size, full, tuple(masks.values()), tuple(full & ~mask | 1 << i for i, mask in enumerate(seen)))


@dataclass(slots=True)
class Grid:
    """The cells where each digit is still possible, and the cells that are settled."""

    geometry: Geometry
    places: list[int]
    settled: int = 0

    @classmethod
    def empty(cls, size: int) -> Grid:
        """A grid without givens."""
        return cls(geometry(size), [geometry(size).full] * size)

    @classmethod
    def of(cls, puzzle: str) -> Grid:
        """The grid of a puzzle: one character a cell, row by row, digits from 1, '.' for a blank cell."""
        grid = cls.empty(round(len(puzzle) ** 0.5))
        for cell, sign in enumerate(puzzle):
            if sign != BLANK:
                grid.put(1 << cell, int(sign) - 1)
        return grid

    def put(self, bit: int, digit: int) -> None:
        """Leave no other digit in this cell."""
        for other in range(len(self.places)):
            if other != digit:
                self.places[other] &= ~bit

    def copy(self) -> Grid:
        """The same state, apart."""
        return Grid(self.geometry, self.places.copy(), self.settled)

    def propagate(self) -> bool:
        """Settle what singles settle. False where a cell has no digit left, or a unit no cell for a digit."""
        while True:
            alive, several = self._counts()
            if alive != self.geometry.full:
                return False
            fresh = alive & ~several & ~self.settled
            if fresh:
                if not self._settle(fresh):
                    return False
            elif not several:
                return True
            else:
                found = self._hidden_singles()
                if found is not True:
                    return found is None

    def _counts(self) -> tuple[int, int]:
        """Cells with at least one and with at least two digits left."""
        alive = several = 0
        for place in self.places:
            several |= alive & place
            alive |= place
        return alive, several

    def _settle(self, fresh: int) -> bool:
        apart = self.geometry.apart
        self.settled |= fresh
        for digit, place in enumerate(self.places):
            cells = place & fresh
            while cells:
                bit = cells & -cells
                cells ^= bit
                if not self.places[digit] & bit:
                    return False
                self.places[digit] &= apart[bit.bit_length() - 1]
        return True

    def _hidden_singles(self) -> bool | None:
        """True where a digit's only cell of a unit was found, None where there is none, False at a contradiction."""
        found = None
        for digit in range(len(self.places)):
            for unit in self.geometry.units:
                cells = self.places[digit] & unit
                if not cells:
                    return False
                if not cells & (cells - 1) and not cells & self.settled:
                    self.put(cells, digit)
                    found = True
        return found

    def branch(self) -> tuple[int, list[int]]:
        """The first cell, in reading order, with fewest digits left of those not settled, and its digits."""
        left = self.geometry.full & ~self.settled
        best: tuple[int, list[int]] = (0, [])
        while left:
            bit = left & -left
            left ^= bit
            digits = [digit for digit, place in enumerate(self.places) if place & bit]
            if not best[1] or len(digits) < len(best[1]):
                best = (bit, digits)
            if len(digits) == 2:
                break
        return best

    def text(self) -> str:
        """The settled grid as digits."""
        cells = range(len(self.places) ** 2)
        return "".join(str(next(d for d, place in enumerate(self.places) if place >> cell & 1) + 1) for cell in cells)


@dataclass(slots=True)
class Search:
    """A depth-first search; `guesses` counts the values tried in branching cells so far."""

    rng: random.Random | None = None
    guesses: int = 0

    def solutions(self, grid: Grid) -> Iterator[str]:
        """Every solution of the grid, which is used up; values are tried in rising order, or in a random one."""
        if not grid.propagate():
            return
        bit, digits = grid.branch()
        if not digits:
            yield grid.text()
            return
        if self.rng:
            self.rng.shuffle(digits)
        for digit in digits:
            self.guesses += 1
            trial = grid.copy()
            trial.put(bit, digit)
            yield from self.solutions(trial)


def solve(puzzle: str, limit: int = 2) -> tuple[list[str], int]:
    """At most `limit` solutions of a puzzle, and the guesses made until the search ended.

    With one solution, the search is exhausted: the guesses are those of finding it and of proving
    that there is no other, and do not depend on how the digits are named.
    """
    search = Search()
    found: list[str] = []
    for solution in search.solutions(Grid.of(puzzle)):
        found.append(solution)
        if len(found) == limit:
            break
    return found, search.guesses


def random_solution(size: int, rng: random.Random) -> str:
    """A solved grid drawn by a search with values in random order (every grid can come; not all equally often)."""
    return next(Search(rng).solutions(Grid.empty(size)))


def can_lose(puzzle: str, cell: int) -> bool:
    """Whether the puzzle, which has one solution, still has one without the given of that cell."""
    grid = Grid.of(puzzle[:cell] + BLANK + puzzle[cell + 1 :])
    grid.places[int(puzzle[cell]) - 1] &= ~(1 << cell)
    return next(Search().solutions(grid), None) is None


def thinned(solution: str, givens: int, rng: random.Random) -> str:
    """A puzzle with this one solution: givens taken out in random order until `givens` are left or none can go."""
    puzzle, left = solution, len(solution)
    for cell in rng.sample(range(len(solution)), len(solution)):
        if left > givens and can_lose(puzzle, cell):
            puzzle = puzzle[:cell] + BLANK + puzzle[cell + 1 :]
            left -= 1
    return puzzle
