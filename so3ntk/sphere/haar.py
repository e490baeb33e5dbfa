r"""Quadratures of the Haar measure on SO(3), and the symmetry that makes them cheap.

A product grid has n points in alpha and in gamma (trapezoid, offset by half a step) and Gauss-Legendre points in
cos(beta). With n even it is closed under inversion, so K(f', f) = K(f, f')^T to rounding. With n a multiple of four it
is also the union of free orbits of D2 x D2, D2 = {1, Rz(pi), Ry(pi), Rx(pi)} acting from either side. Real harmonics
are eigenvectors of D2 with eigenvalues +-1, so the coefficients (l, m, n) fall into 4 x 4 sign classes, and

.. math:: K(g r h) = \sum_{\text{classes}} \chi(g, h)\, z_{\text{class}}(r), \qquad
          z_{\text{class}}(r) = \sum_{(l,m,n) \in \text{class}} K^l_{mn} D^l_{mn}(r).

Sixteen products with a sixteenth of the coefficients at a sixteenth of the rotations, then sums and differences,
replace one dense product: a sixteenth of its operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from so3ntk.engine.quadrature import Quadrature
from so3ntk.sphere.rotations import block_indices, euler_angles, real_wigner_D, real_wigner_table


class RotationGrid(Quadrature, ABC):
    """Rotations with positive weights that sum to one: a quadrature of the normalised Haar measure.

    ``representatives`` and ``images`` say how the rotations arise: each representative stands for its images under
    D2 x D2 (16 of them), or for itself alone (1). The order of the rotations is image-major.
    """

    images: int

    @property
    @abstractmethod
    def representatives(self) -> Float[np.ndarray, "q 3"]:
        """ZYZ angles of one rotation of each orbit, in radians."""

    @property
    @abstractmethod
    def representative_weights(self) -> Float[np.ndarray, " q"]:
        """The weight of each image of a representative; ``images`` times their sum is one."""

    @abstractmethod
    def refined(self) -> RotationGrid:
        """A grid twice as fine along each axis."""

    def __len__(self) -> int:
        return self.images * len(self.representatives)

    @property
    def weights(self) -> Float[np.ndarray, " r"]:
        """The weight of each rotation; they are positive and sum to one."""
        return np.tile(self.representative_weights, self.images)

    @property
    def rotations(self) -> Rotation:
        """All rotations of the grid, in the order of ``weights``."""
        base = Rotation.from_euler("ZYZ", self.representatives)
        if self.images == 1:
            return base
        halves = [half_turn(bits) for bits in range(4)]
        return Rotation.concatenate([halves[i >> 2] * base * halves[i & 3] for i in range(16)])


@dataclass(frozen=True)
class ProductGrid(RotationGrid):
    """The grid of n x n_beta x n rotations described at the head of this file.

    n: points in alpha and in gamma, a multiple of four; n_beta: Gauss-Legendre points in cos(beta), n / 2 by default,
    which integrates degrees below n exactly on every axis. Raises ValueError for other counts.
    """

    n: int
    n_beta: int = 0

    images = 16

    def __post_init__(self):
        if self.n < 4 or self.n % 4:
            raise ValueError(
                f"ProductGrid: expected n, the points in alpha and gamma, to be a positive multiple of 4, got {self.n}. "
                "Only then is the grid closed under inversion and half turns. For other sets of rotations use "
                "ExplicitGrid(rotations, weights)."
            )
        if self.n_beta < 0:
            raise ValueError(f"ProductGrid: expected a positive n_beta, got {self.n_beta}.")
        if self.n_beta == 0:
            object.__setattr__(self, "n_beta", self.n // 2)

    @property
    def representatives(self) -> Float[np.ndarray, "q 3"]:
        """The rotations with 0 < alpha, gamma < pi / 2."""
        quarter = 2 * np.pi * (np.arange(self.n // 4) + 0.5) / self.n
        beta = np.arccos(np.polynomial.legendre.leggauss(self.n_beta)[0])
        return np.stack(np.meshgrid(quarter, beta, quarter, indexing="ij"), axis=-1).reshape(-1, 3)

    @property
    def representative_weights(self) -> Float[np.ndarray, " q"]:
        """Gauss-Legendre weights over the number of (alpha, gamma)."""
        weights = np.polynomial.legendre.leggauss(self.n_beta)[1] / (2 * self.n**2)
        return np.tile(np.repeat(weights, self.n // 4), self.n // 4)

    def refined(self) -> ProductGrid:
        """Twice as many points on each axis."""
        return ProductGrid(2 * self.n, 2 * self.n_beta)


class ExplicitGrid(RotationGrid):
    """Rotations of the user's choice, with weights (equal ones by default); evaluated without the symmetry.

    Raises ValueError for weights that are not positive, finite and as many as the rotations, or do not sum to one.
    """

    images = 1

    def __init__(self, rotations, weights=None):
        self._angles = euler_angles(rotations)
        n = len(self._angles)
        if n == 0:
            raise ValueError("ExplicitGrid: expected at least one rotation, got none.")
        self._weights = np.full(n, 1 / n) if weights is None else np.asarray(weights, np.float64)
        if self._weights.shape != (n,) or not np.all(self._weights > 0) or not np.isfinite(self._weights).all():
            raise ValueError(f"ExplicitGrid: expected {n} positive weights, one per rotation, got {weights!r}.")
        if abs(self._weights.sum() - 1) > 1e-6:
            raise ValueError(
                f"ExplicitGrid: the weights must sum to one (normalised Haar measure), got {self._weights.sum():.8g}. "
                "Divide them by their sum."
            )
        self._key = (self._angles.tobytes(), self._weights.tobytes())

    def __eq__(self, other):
        return isinstance(other, ExplicitGrid) and self._key == other._key

    def __hash__(self):
        return hash(self._key)

    def __repr__(self):
        return f"ExplicitGrid({len(self)} rotations)"

    @property
    def representatives(self) -> Float[np.ndarray, "q 3"]:
        """All rotations."""
        return self._angles

    @property
    def representative_weights(self) -> Float[np.ndarray, " q"]:
        """All weights."""
        return self._weights

    def refined(self) -> RotationGrid:
        """The smallest product grid with at least eight times as many rotations: a list cannot be refined itself."""
        return product_grid(8 * len(self))


def product_grid(at_least: int) -> ProductGrid:
    """The smallest product grid with n_beta = n / 2 and at least so many rotations."""
    n = 4
    while n**3 // 2 < at_least:
        n += 4
    return ProductGrid(n)


def half_turn(bits: int) -> Rotation:
    """Rz(pi)^(bits >> 1) Ry(pi)^(bits & 1): the four elements of D2."""
    return Rotation.from_euler("ZY", [np.pi * (bits >> 1), np.pi * (bits & 1)])


@lru_cache(maxsize=64)
def sign_class(bandlimit: int) -> Int[np.ndarray, " p"]:
    """For each harmonic, two bits: whether Rz(pi) (bit 1) and Ry(pi) (bit 0) change its sign."""
    bits = []
    for degree in range(bandlimit):
        rz, ry = (np.diagonal(real_wigner_D(degree, half_turn(b))[0]) < 0 for b in (2, 1))
        bits.append(2 * rz.astype(int) + ry.astype(int))
    return np.concatenate(bits)


@lru_cache(maxsize=64)
def columns_by_class(bandlimit: int, images: int) -> tuple[np.ndarray, ...]:
    """The columns (l, m, n) of a Wigner table in each sign class: 16 classes for 16 images, or one of them all."""
    degrees, row, column = block_indices(bandlimit)
    if images == 1:
        return (np.arange(len(degrees)),)
    bits = sign_class(bandlimit)
    classes = 4 * bits[row] + bits[column]
    return tuple(np.flatnonzero(classes == i) for i in range(16))


@lru_cache(maxsize=16)
def wigner_tables(grid: RotationGrid, bandlimit: int) -> tuple[Float[np.ndarray, "_p q"], ...]:
    """D^l_mn at the representatives, one table (columns of the class, representatives) for each sign class."""
    table = real_wigner_table(bandlimit, grid.representatives).T
    return tuple(np.ascontiguousarray(table[columns]) for columns in columns_by_class(bandlimit, grid.images))
