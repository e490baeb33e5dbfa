"""On the host: which signals have kernels with each other, sums over the parts of an input, and mirror images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from so3ntk.engine.layers.readout import Block

#: Rows and columns of a matrix that are mirrored at a time, in the cache.
MIRRORED = 128


def groups_of(row_kinds: np.ndarray, column_kinds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns that have kernels with each other: all, or the atoms of each element."""
    for kind in np.intersect1d(row_kinds, column_kinds):
        yield np.flatnonzero(row_kinds == kind), np.flatnonzero(column_kinds == kind)


def add_by_owner(
    total: Float[np.ndarray, "n m ..."], block: Float[np.ndarray, "a b ..."], row_owner, column_owner
) -> None:
    """total[i, j] += sum of block over rows owned by i and columns owned by j; owners are sorted."""
    row_first = np.flatnonzero(np.diff(row_owner, prepend=-1))
    column_first = np.flatnonzero(np.diff(column_owner, prepend=-1))
    bounds = [*row_first.tolist(), len(block)]
    # A few rows at a time: as ``np.add.reduceat`` on the whole block, from the cache
    reduced = np.stack([block[rows].astype(np.float64).sum(axis=0) for rows in map(slice, bounds[:-1], bounds[1:])])
    reduced = np.add.reduceat(reduced, column_first, axis=1)
    total[np.ix_(row_owner[row_first], column_owner[column_first])] += reduced


def mirrored(kernel: Block, axis: int = 0) -> Block:
    """K(f', f) from K(f, f'): with the inputs, at axis and axis + 1, the two axes of a kernel's block are exchanged."""
    turned = kernel.swapaxes(axis, axis + 1)
    return turned.swapaxes(-1, -2) if kernel.ndim > axis + 2 else turned


def add_mirror_image(matrix: Float[np.ndarray, "n n ..."]) -> None:
    """matrix += mirrored(matrix) in place, square by square. Sums of two terms commute: symmetric to the bit."""
    parts = [slice(start, start + MIRRORED) for start in range(0, len(matrix), MIRRORED)]
    for i, rows in enumerate(parts):
        for columns in parts[: i + 1]:
            both = matrix[rows, columns] + mirrored(matrix[columns, rows])
            matrix[rows, columns] = both
            matrix[columns, rows] = mirrored(both)
