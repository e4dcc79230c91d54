"""What leaves a sudoku the same puzzle in other words, and a key that tells two classes of them apart.

Bands and the rows inside a band, stacks and the columns inside a stack, and the digits may change places;
where boxes are square the grid may also be transposed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, combinations, permutations, product

import numpy as np

from hrmctl_data.sudoku_solver import BLANK, BOXES


def class_key(puzzle: str, solution: str) -> str:
    """Equal for two puzzles that are images of each other; never equal for two whose classes differ, at sizes 4 and 6.

    Sizes 4 and 6: the canonical form of the puzzle. Size 9: a fingerprint of the solution that no
    symmetry changes. Different fingerprints prove that not even the solved grids are images of each
    other; equal ones only make them count as one class.
    """
    if len(puzzle) == 81:
        return fingerprint(solution)
    return canonical(puzzle)


def canonical(puzzle: str) -> str:
    """The least of all images of a puzzle of size 4 or 6, digits named in the order in which they appear."""
    size = round(len(puzzle) ** 0.5)
    cells = np.array([0 if sign == BLANK else int(sign) for sign in puzzle], dtype=np.int8)
    images = cells[_symmetries(size)]
    # Where each digit first appears; a digit that never does comes last.
    first = np.stack(
        [np.where((images == d).any(1), (images == d).argmax(1), len(puzzle) + d) for d in range(1, size + 1)], axis=1
    )
    names = np.zeros((len(images), size + 1), dtype=np.int8)
    names[:, 1:] = first.argsort(1).argsort(1) + 1
    renamed = np.take_along_axis(names, images.astype(np.intp), axis=1)
    least = min(map(bytes, renamed))
    return "".join(map(str, least)).replace("0", BLANK)


def fingerprint(solution: str) -> str:
    """A digest of a solved grid that no symmetry changes.

    Two rows map the digits of one to those of the other; how long the cycles of that permutation are
    depends on no digit's name and no column's place. Counted for the rows of each band, for each pair
    of bands, and the same for columns.
    """
    size = round(len(solution) ** 0.5)
    rows = [solution[i * size : (i + 1) * size] for i in range(size)]
    columns = [solution[i::size] for i in range(size)]
    height, width = BOXES[size]
    both = sorted([_cycles(rows, height), _cycles(columns, width)])
    return hashlib.blake2b(repr(both).encode(), digest_size=16).hexdigest()


def _cycles(lines: Sequence[str], group: int) -> tuple[list[list[tuple[int, ...]]], list[list[tuple[int, ...]]]]:
    bands = [lines[i : i + group] for i in range(0, len(lines), group)]
    inside = sorted(sorted(_cycle_type(a, b) for a, b in combinations(band, 2)) for band in bands)
    across = sorted(sorted(_cycle_type(a, b) for a in one for b in two) for one, two in combinations(bands, 2))
    return inside, across


def _cycle_type(a: str, b: str) -> tuple[int, ...]:
    left = dict(zip(a, b, strict=True))
    lengths = []
    while left:
        start, at = left.popitem()
        length = 1
        while at != start:
            at = left.pop(at)
            length += 1
        lengths.append(length)
    return tuple(sorted(lengths))


@cache
def _symmetries(size: int) -> np.ndarray:
    """Every order of the cells that keeps rows, columns and boxes: 128 at size 4, 3,456 at size 6."""
    height, width = BOXES[size]
    orders = [
        _cells(rows, columns, turned)
        for rows, columns in product(_orders(size, height), _orders(size, width))
        for turned in ((False, True) if height == width else (False,))
    ]
    return np.array(orders)


def _orders(size: int, group: int) -> Iterator[tuple[int, ...]]:
    """Every order of the lines that keeps those of a band together."""
    bands = [range(i, i + group) for i in range(0, size, group)]
    for order in permutations(bands):
        for inside in product(*(list(permutations(band)) for band in order)):
            yield tuple(chain(*inside))


def _cells(rows: Sequence[int], columns: Sequence[int], turned: bool) -> list[int]:
    size = len(rows)
    return [c * size + r if turned else r * size + c for r in rows for c in columns]


def random_image(puzzle: str, solution: str, rng: random.Random) -> tuple[str, str]:
    """Puzzle and solution under one symmetry drawn at random."""
    size = round(len(puzzle) ** 0.5)
    height, width = BOXES[size]
    cells = _cells(
        _random_order(size, height, rng), _random_order(size, width, rng), height == width and rng.random() < 0.5
    )
    digits = [str(digit) for digit in range(1, size + 1)]
    names = dict(zip(digits, rng.sample(digits, size), strict=True)) | {BLANK: BLANK}
    return "".join(names[puzzle[i]] for i in cells), "".join(names[solution[i]] for i in cells)


def _random_order(size: int, group: int, rng: random.Random) -> list[int]:
    bands = [range(i, i + group) for i in range(0, size, group)]
    return [line for band in rng.sample(bands, len(bands)) for line in rng.sample(band, group)]
