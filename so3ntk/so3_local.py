r"""SO(3) acting on signals on the sphere, for filters on caps: one rotation, a field over positions.

The kernel at relative rotation r is that of the network without rotations for f and rho(r) f',

.. math:: K_r(x) = \mathrm{mean}_c\, f_c(x)\, f'_c(r^{-1} x), \qquad q'(r^{-1}x) = \text{the variance of } \rho(r) f' \text{ at } x,

so f' is rotated first and positions need no transport. Filters average over caps, at each rotation separately.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.geometry import Geometry
from so3ntk.positions import SphereGrid, cap_blocks
from so3ntk.rotations import euler_angles, real_wigner_table
from so3ntk.sampling import real_harmonics
from so3ntk.so3 import HIGHEST, walsh_hadamard


class Cap(NamedTuple):
    """The support of a filter: half-angle in radians; None is the whole sphere."""

    angle: float | None


class Turn(eqx.Module):
    """One rotation, or many along a leading axis: its matrices D^l in table order, and its weight times their number."""

    wigner: Float[Array, "... p"]
    weight: Float[Array, " ..."]
    positions: SphereGrid = eqx.field(static=True)
    bandlimit: int = eqx.field(static=True)

    @classmethod
    def load(cls, grid: Any, positions: SphereGrid, bandlimit: int, dtype: Any, mirrored: bool = False) -> Turn:
        """All rotations of a quadrature, and their products with the inversion where ``mirrored``."""

        tables = real_wigner_table(bandlimit, euler_angles(grid.rotations))
        weights = grid.weights * len(grid)
        if mirrored:
            degrees = np.repeat(np.arange(bandlimit), (2 * np.arange(bandlimit) + 1) ** 2)
            tables = np.concatenate([tables, tables * (-1.0) ** degrees])
            weights = np.tile(weights, 2)
        return cls(jnp.asarray(tables, dtype), jnp.asarray(weights, dtype), positions, bandlimit)

    @property
    def size(self) -> int:
        """The positions of one rotation's field."""
        return len(self.positions)

    def rotate(self, f: Float[Array, "p c"]) -> Float[Array, "p c"]:
        """The coefficients of the rotated signal."""
        blocks, start = [], 0
        for degree in range(self.bandlimit):
            side = 2 * degree + 1
            matrix = self.wigner[start : start + side**2].reshape(side, side)
            blocks.append(jnp.matmul(matrix, f[degree**2 : (degree + 1) ** 2], precision=HIGHEST))
            start += side**2
        return jnp.concatenate(blocks)


class LocalSphereGeometry(Geometry):
    """One rotation; fields are values at the positions of a grid. The second signal comes rotated."""

    positions: SphereGrid = eqx.field(static=True)
    weight: Float[Array, ""]
    channel_weights: Float[Array, " c"] | None = None

    def correlate(self, f: Float[Array, "p c"], g: Float[Array, "p c"]) -> Float[Array, " x"]:
        """mean_c w_c f_c(x) g_c(x), with g rotated already."""
        values = self._at_positions(f) * self._at_positions(g)
        if self.channel_weights is not None:
            values = values * jnp.asarray(self.channel_weights, values.dtype)
        return jnp.mean(values, axis=-1)

    def variance(self, f: Float[Array, "p c"]) -> Float[Array, " x"]:
        """mean_c w_c f_c(x)^2."""
        return self.correlate(f, f)

    def transport(self, variance: Float[Array, " x"]) -> Float[Array, " x"]:
        """The identity: variances are those of the rotated signal."""
        return variance

    def mean(self, field: Float[Array, " x"]) -> Float[Array, ""]:
        """The mean over positions, times the rotation's weight and their number."""
        return jnp.dot(self._weights(field.dtype), field, precision=HIGHEST) * self.weight

    def average(self, field: Float[Array, " x"], support: Cap) -> Float[Array, " x"]:
        """The mean over the cap at each position."""
        if support.angle is None:
            return jnp.broadcast_to(jnp.dot(self._weights(field.dtype), field, precision=HIGHEST), field.shape)
        blocks = jnp.asarray(cap_blocks(self.positions, support.angle), field.dtype)
        classes = jnp.stack(walsh_hadamard(list(field.reshape(8, -1))))
        averaged = jnp.einsum("kab,kb->ka", blocks, classes, precision=HIGHEST)
        return jnp.concatenate(walsh_hadamard(list(averaged)))

    def average_variance(self, variance: Float[Array, " x"], support: Cap) -> Float[Array, " x"]:
        """The same."""
        return self.average(variance, support)

    def _at_positions(self, f: Float[Array, "p c"]) -> Float[Array, "x c"]:
        bandlimit = int(np.sqrt(f.shape[0]) + 0.5)
        harmonics = real_harmonics(self.positions.directions, bandlimit)
        return jnp.matmul(jnp.asarray(harmonics, f.dtype), f, precision=HIGHEST)

    def _weights(self, dtype: Any) -> Float[Array, " x"]:
        return jnp.asarray(self.positions.weights, dtype)
