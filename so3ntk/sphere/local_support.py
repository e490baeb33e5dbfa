r"""SO(3) acting on signals on the sphere, for filters on caps: one rotation, a field over positions.

The kernel at relative rotation r is that of the network without rotations for f and rho(r) f',

.. math:: K_r(x) = \mathrm{mean}_c\, f_c(x)\, f'_c(r^{-1} x), \qquad q'(r^{-1}x) = \text{the variance of } \rho(r) f' \text{ at } x,

so f' is rotated first and positions need no transport. Filters average over caps, at each rotation separately.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.filters import Cap, Everywhere, Filter
from so3ntk.engine.geometry import Geometry
from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.irreps import Irrep, require_no_parity, start_of
from so3ntk.sphere.positions import SphereGrid, cap_blocks
from so3ntk.sphere.rotations import euler_angles, real_wigner_table
from so3ntk.sphere.transforms.images import HIGHEST, walsh_hadamard

#: Columns (a pair at one rotation) of a step where there are few pairs, and the most numbers of one field that they make.
COLUMNS, NUMBERS = 256, 2**17


class Turn(eqx.Module):
    """One motion, or several along leading axes: their matrices D^l in table order, and weights times their number.

    determinant: -1 for a rotation times the inversion, whose D^l are those of harmonics, (-1)^l times the rotation's;
    None where there are rotations only.
    """

    wigner: Float[Array, "... p"]
    weight: Float[Array, " ..."]
    determinant: Float[Array, " ..."] | None
    positions: SphereGrid = eqx.field(static=True)

    @classmethod
    def load(cls, grid: Any, positions: SphereGrid, bandlimit: int, dtype: Any, mirrored: bool = False) -> Turn:
        """All rotations of a quadrature, and their products with the inversion where ``mirrored``."""
        tables = real_wigner_table(bandlimit, euler_angles(grid.rotations))
        weights, determinant = grid.weights * len(grid), None
        if mirrored:
            degrees = np.repeat(np.arange(bandlimit), (2 * np.arange(bandlimit) + 1) ** 2)
            tables = np.concatenate([tables, tables * (-1.0) ** degrees])
            weights = np.tile(weights, 2)
            determinant = jnp.repeat(jnp.asarray([1, -1], dtype), len(grid))
        return cls(jnp.asarray(tables, dtype), jnp.asarray(weights, dtype), determinant, positions)

    @property
    def size(self) -> int:
        """The positions of one rotation's field."""
        return len(self.positions)

    def grouped(self, pairs: int) -> Turn:
        """The same motions in steps of several, where ``pairs`` pairs at one would be too little work for a step."""
        most = max(1, min(COLUMNS, NUMBERS // self.size) // max(1, pairs))
        count = len(self.weight)
        step = max(k for k in range(1, most + 1) if count % k == 0)
        return jax.tree.map(lambda a: a.reshape(count // step, step, *a.shape[1:]), self)

    def rotate(self, f: Float[Array, "n p c"]) -> Float[Array, "r p c"]:
        """The coefficients of all signals at the first motion, then at the next."""
        blocks = []
        for degree in range(math.isqrt(f.shape[1])):
            matrices = self.matrix(degree).reshape(-1, 2 * degree + 1, 2 * degree + 1)
            block = f[:, degree**2 : (degree + 1) ** 2]
            blocks.append(jnp.einsum("rij,njc->rnic", matrices, block, precision=HIGHEST))
        return jnp.concatenate(blocks, axis=2).reshape(-1, *f.shape[1:])

    def matrix(self, degree: int) -> Float[Array, "... m m"]:
        """D^l of each motion."""
        start, side = start_of(degree), 2 * degree + 1
        return self.wigner[..., start : start + side**2].reshape(*self.weight.shape, side, side)

    def irrep(self, irrep: Irrep) -> Float[Array, "... m m"]:
        """The matrix of each motion, of the parity asked for. ValueError for a parity where there are no reflections."""
        if self.determinant is None:
            require_no_parity(irrep)
            return self.matrix(irrep.degree)
        swap = irrep.sign != Irrep(irrep.degree).sign
        return self.matrix(irrep.degree) * self.determinant[..., None, None] if swap else self.matrix(irrep.degree)


class LocalSphereGeometry(Geometry):
    """A batch of pairs at one rotation, or at several: the second signals come rotated, those of one after another.

    Fields are (8, q, n, m): reflections of the grid's q representatives, then n signals f and m rotated f'. With the
    batch in the last axes a cap average is one product of matrices (measured: four times as fast as batched by vmap).
    """

    positions: SphereGrid = eqx.field(static=True)
    weight: Float[Array, " ..."]
    channel_weights: Sequence[float] | Float[Array | np.ndarray, " c"] | None = None
    turn: Turn | None = None

    def correlate(self, f: Float[Array, "n p c"], g: Float[Array, "m p c"]) -> Float[Array, "8 q n m"]:
        """mean_c w_c f_c(x) g_c(x), with g rotated already."""
        first, second = self._at_positions(f) / f.shape[-1], self._at_positions(g)
        if self.channel_weights is not None:
            first = first * jnp.asarray(self.channel_weights, first.dtype)
        return jnp.einsum("kanc,kamc->kanm", first, second, precision=HIGHEST)

    def variance(self, f: Float[Array, "n p c"]) -> Float[Array, "8 q n"]:
        """mean_c w_c f_c(x)^2."""
        squares = self._at_positions(f) ** 2
        if self.channel_weights is not None:
            squares = squares * jnp.asarray(self.channel_weights, squares.dtype)
        return jnp.mean(squares, axis=-1)

    def transport(self, variance: Float[Array, "8 q n m"]) -> Float[Array, "8 q n m"]:
        """The identity: variances are those of the rotated signals."""
        return variance

    def mean(self, field: Float[Array, "8 q n rm"]) -> Float[Array, "n m"]:
        """The mean over positions, and over the geometry's rotations with weights that are one in the mean over all."""
        return jnp.mean(self._weighted_means(field), axis=1)

    def project(self, field: Float[Array, "8 q n rm"], irrep: Irrep) -> Float[Array, "n m k k"]:
        """The same times D(r)."""
        if self.turn is None:
            raise ValueError("IrrepPool: this geometry was made without its rotation.")
        matrices = self.turn.irrep(irrep).reshape(-1, 2 * irrep.degree + 1, 2 * irrep.degree + 1)
        return jnp.einsum("nrm,rab->nmab", self._weighted_means(field), matrices, precision=HIGHEST) / len(matrices)

    def average(self, field: Float[Array, "8 q n m"], filter: Filter) -> Float[Array, "8 q n m"]:
        """The mean over the cap at each position, or over all. NotImplementedError for spectra, which couple rotations."""
        if isinstance(filter, Everywhere):
            return jnp.broadcast_to(self._mean(field), field.shape)
        if not isinstance(filter, Cap):
            raise NotImplementedError(
                "GroupConv: bandlimit and variances couple rotations, which after a Lift of local support are evaluated "
                "one by one. Use support=, or lift with support=None."
            )
        return _by_classes(jnp.asarray(cap_blocks(self.positions, filter.angle), field.dtype), field)

    def average_variance(self, variance: Float[Array, "8 q n m"], filter: Filter) -> Float[Array, "8 q n m"]:
        """The same."""
        return self.average(variance, filter)

    def gather(self, fields: Float[Array, "r 8 q n m"]) -> Float[Array, "r x n m"]:
        """Axes (rotation, position) for one pair."""
        return fields.reshape(len(fields), -1, *fields.shape[3:])

    def _weighted_means(self, field: Float[Array, "8 q n rm"]) -> Float[Array, "n r m"]:
        """The mean over positions at each of the geometry's motions, times its weight."""
        weights = self.weight.reshape(-1)
        means = self._mean(field)
        return means.reshape(len(means), len(weights), -1) * weights[:, None]

    def _mean(self, field: Float[Array, "8 q n m"]) -> Float[Array, "n m"]:
        weights = jnp.asarray(self.positions.weights.reshape(8, -1), field.dtype)
        return jnp.einsum("ka,kanm->nm", weights, field, precision=HIGHEST)

    def _at_positions(self, f: Float[Array, "n p c"]) -> Float[Array, "8 q n c"]:
        bandlimit = int(np.sqrt(f.shape[1]) + 0.5)
        harmonics = real_harmonics(self.positions.directions, bandlimit).reshape(8, -1, bandlimit**2)
        return jnp.einsum("kap,npc->kanc", jnp.asarray(harmonics, f.dtype), f, precision=HIGHEST)


@jax.jit  # for tracing: once for a shape, not for each field of each layer
def _by_classes(blocks: Float[Array, "8 k q"], field: Float[Array, "8 q n m"]) -> Float[Array, "8 k n m"]:
    """The matrix with these blocks on the classes of the positions' reflections."""
    classes = jnp.stack(walsh_hadamard(list(field.reshape(*field.shape[:2], -1))))
    averaged = jnp.matmul(blocks, classes, precision=HIGHEST)
    return jnp.stack(walsh_hadamard(list(averaged))).reshape(field.shape)
