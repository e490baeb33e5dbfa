"""On the host: which signals have kernels with each other, sums over the parts of an input, and mirror images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

#: Rows of a matrix that are mirrored at a time.
MIRRORED = 512


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
    reduced = np.add.reduceat(block.astype(np.float64), row_first, axis=0)
    reduced = np.add.reduceat(reduced, column_first, axis=1)
    total[np.ix_(row_owner[row_first], column_owner[column_first])] += reduced


def add_mirror_image(matrix: Float[np.ndarray, "n n"]) -> None:
    """matrix += matrix.T in place, a few rows at a time. Sums of two terms commute: symmetric to the bit."""
    for start in range(0, len(matrix), MIRRORED):
        rows = slice(start, start + MIRRORED)
        both = matrix[rows, : start + MIRRORED] + matrix[: start + MIRRORED, rows].T
        matrix[rows, : start + MIRRORED] = both
        matrix[: start + MIRRORED, rows] = both.T
