"""Stresses as matrices and in the order of Voigt, xx, yy, zz, yz, xz, xy; which structures have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from ase import Atoms


def is_periodic(frame: Atoms) -> bool:
    """Whether a structure can be strained, and so has a stress: periodic somewhere, with a volume."""
    return bool(frame.pbc.any() and frame.cell.rank == 3)


def voigt(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 6"]:
    """The six numbers of a symmetric matrix."""
    return matrix[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def from_voigt(values: Float[np.ndarray, " 6"]) -> Float[np.ndarray, "3 3"]:
    """The symmetric matrix."""
    return values[np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])]
