r"""Irreducible representations of SO(3) and O(3): what a readout projects on, and in which basis.

A kernel of motions K_r has the block :math:`\int D^l(r)\, K_r\, dr` of each degree l, a matrix of 2l + 1 components in
the basis of real harmonics (``rotations``): for l = 1 in the order y, z, x.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from so3ntk.sphere.haar import columns_by_class
from so3ntk.sphere.rotations import MAX_BANDLIMIT


@dataclass(frozen=True)
class Irrep:
    """Degree l and parity p, D(-R) = p D(R).

    parity None: that of harmonics, (-1)^l, where reflections act; nothing to say where they do not.
    """

    degree: int
    parity: int | None = None

    def __post_init__(self):
        degree, parity = self.degree, self.parity
        if isinstance(degree, bool) or not isinstance(degree, int | np.integer) or not 0 <= degree < MAX_BANDLIMIT:
            raise ValueError(f"IrrepPool: expected l to be an integer from 0 to {MAX_BANDLIMIT - 1}, got {degree!r}.")
        if parity is not None and (isinstance(parity, bool) or parity not in (1, -1)):
            raise ValueError(f"IrrepPool: expected parity to be 1, -1 or None, got {parity!r}.")

    def __str__(self) -> str:
        return f"l={self.degree}"

    @property
    def size(self) -> int:
        """2l + 1."""
        return 2 * self.degree + 1

    @property
    def sign(self) -> int:
        """The parity under reflections, (-1)^l where none is given."""
        return (-1) ** self.degree if self.parity is None else self.parity

    @property
    def is_trivial(self) -> bool:
        """Whether it is that of scalars, which constants belong to."""
        return self.degree == 0 and self.sign == 1


@lru_cache(maxsize=64)
def rows_by_class(degree: int, images: int) -> tuple[tuple[slice, np.ndarray], ...]:
    """For each sign class of a Wigner table: the rows of one degree in it, and their places in the flat matrix D^l."""
    upto = columns_by_class(degree + 1, images)
    before = [int(np.sum(columns < start_of(degree))) for columns in upto]
    return tuple((slice(n, len(c)), c[n:] - start_of(degree)) for n, c in zip(before, upto, strict=True))


def start_of(degree: int) -> int:
    """The column of a Wigner table where D^l begins: the number of those of lower degrees."""
    return degree * (4 * degree**2 - 1) // 3


def require_no_parity(irrep: Irrep) -> None:
    """ValueError for a parity where only rotations act."""
    if irrep.parity is not None:
        raise ValueError(
            f"IrrepPool: parity={irrep.parity} says how reflections act, and there are none in this network. Use "
            'Lift(group="O3"), or parity=None.'
        )


def cartesian_from_real(degree: int) -> Float[np.ndarray, "a m"]:
    r"""The isometry from components of real harmonics to Cartesian ones, for l = 1 and l = 2.

    l = 1: vectors, (x, y, z). l = 2: symmetric traceless tensors t, the nine entries t_ab at 3 a + b, with
    :math:`\sum_{ab} t_{ab}^2 = \sum_m c_m^2`; the harmonic of c is proportional to :math:`\sum_{ab} t_{ab} x_a x_b`.
    ValueError for other degrees.
    """
    if degree == 1:
        return np.eye(3)[[2, 0, 1]]  # the harmonics are y, z, x
    if degree == 2:
        xy, yz, zz, xz, xx_yy = np.zeros((5, 3, 3))
        for matrix, (a, b) in ((xy, (0, 1)), (yz, (1, 2)), (xz, (0, 2))):
            matrix[a, b] = matrix[b, a] = 0.5**0.5
        zz[:] = np.diag([-1.0, -1.0, 2.0]) / 6**0.5
        xx_yy[:] = np.diag([1.0, -1.0, 0.0]) / 2**0.5
        return np.stack([xy, yz, zz, xz, xx_yy], axis=-1).reshape(9, 5)
    raise ValueError(
        f'IrrepPool: basis="cartesian" is there for l = 1 (vectors) and l = 2 (symmetric traceless tensors), got l = {degree}. '
        'Use basis="real".'
    )
