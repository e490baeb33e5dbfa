r"""Positions on the sphere at which local fields are sampled, and the averages over caps there.

The average over the cap of half-angle t about x multiplies the harmonics of degree l by

.. math:: w_l = \frac{1}{1 - \cos t} \int_{\cos t}^1 P_l(z)\,dz
              = \frac{P_{l-1}(\cos t) - P_{l+1}(\cos t)}{(2l + 1)(1 - \cos t)}, \qquad w_0 = 1 .

On a grid that is the matrix Y diag(w) Y^T diag(weights), exact for fields below the grid's bandlimit. The grid is a union
of free orbits of D2h, the eight reflections (x, y, z) -> (+-x, +-y, +-z). Real harmonics are even or odd under each, so
the matrix falls into eight blocks of an eighth of the size: an eighth of the operations of the dense product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import eval_jacobi

from so3ntk.sphere.harmonics import real_harmonics

#: The reflections in the order of the grid: bit k of the index changes the sign of coordinate k.
FLIPS = np.array([[-1 if image >> axis & 1 else 1 for axis in range(3)] for image in range(8)])


@dataclass(frozen=True)
class SphereGrid:
    """n Gauss-Legendre rings of 2 n points, half a step off the coordinate planes; ordered by reflections.

    n is even. Integrates products of harmonics of degrees below n, its ``bandlimit``, exactly. ValueError for other n.
    """

    n: int

    def __post_init__(self):
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 2 or self.n % 2:
            raise ValueError(
                f"SphereGrid: expected n, the number of rings, to be a positive even integer, got {self.n!r}."
            )

    def __len__(self) -> int:
        return 2 * self.n**2

    @property
    def bandlimit(self) -> int:
        """Degrees below it are told apart by the grid."""
        return self.n

    @property
    def representatives(self) -> Float[np.ndarray, "q 3"]:
        """The points with positive coordinates."""
        z = np.polynomial.legendre.leggauss(self.n)[0][self.n // 2 :]
        phi = np.pi * (np.arange(self.n // 2) + 0.5) / self.n
        z, phi = (a.ravel() for a in np.meshgrid(z, phi, indexing="ij"))
        ring = np.sqrt(1 - z**2)
        return np.stack([ring * np.cos(phi), ring * np.sin(phi), z], axis=-1)

    @property
    def directions(self) -> Float[np.ndarray, "p 3"]:
        """All points, reflection by reflection."""
        return (FLIPS[:, None] * self.representatives).reshape(-1, 3)

    @property
    def weights(self) -> Float[np.ndarray, " p"]:
        """The weight of each point; they are positive and sum to one."""
        rings = np.polynomial.legendre.leggauss(self.n)[1][self.n // 2 :]
        return np.tile(np.repeat(rings, self.n // 2), 8) / (4 * self.n)

    def refined(self) -> SphereGrid:
        """Half as many rings again: errors fall geometrically with their number, and the cost grows with its fourth power."""
        return SphereGrid(2 * math.ceil(0.75 * self.n))


def cap_multipliers(support: float, bandlimit: int) -> Float[np.ndarray, " l"]:
    """w_l of the head of this file for l < bandlimit; ``support`` is the half-angle in radians."""
    degrees = np.arange(1, bandlimit)
    # P_{l-1} - P_{l+1} = (2l + 1) (1 - z^2) P_l' / l(l + 1): the difference itself would cancel for small caps
    jacobi = eval_jacobi(degrees - 1, 1, 1, math.cos(support))
    return np.concatenate([[1.0], math.cos(support / 2) ** 2 * jacobi / degrees])


def harmonic_class(degree: int, m: int) -> int:
    """The reflections under which a real harmonic is odd, one bit for each coordinate."""
    odd_x = (abs(m) + (m < 0)) % 2
    odd_y = int(m < 0)
    odd_z = (degree + m) % 2
    return odd_x | odd_y << 1 | odd_z << 2


@lru_cache(maxsize=64)
def cap_blocks(grid: SphereGrid, support: float) -> Float[np.ndarray, "8 q q"]:
    """The average over caps on each class of fields, from sums over the images of a point to values at it."""
    multipliers = cap_multipliers(support, grid.bandlimit)
    harmonics = real_harmonics(grid.representatives, grid.bandlimit)
    columns = [(degree, m) for degree in range(grid.bandlimit) for m in range(-degree, degree + 1)]
    kinds = np.array([harmonic_class(*column) for column in columns])
    factors = np.array([multipliers[degree] for degree, _ in columns])
    weights = grid.weights[: len(harmonics)] * 4 * np.pi  # real_harmonics are orthonormal for the area 4 pi
    blocks = []
    for kind in range(8):
        here = harmonics[:, kinds == kind]
        blocks.append(here * factors[kinds == kind] @ here.T * weights)
    return np.stack(blocks)
