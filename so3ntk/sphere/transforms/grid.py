"""A grid of rotations as arrays for JAX, with the transform that measured fastest on it: ``benchmarks/so3_pairs.py --bandlimits``."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.plan import MANY
from so3ntk.engine.sizes import on_gpu
from so3ntk.sphere.haar import ProductGrid, RotationGrid, columns_by_class, wigner_tables
from so3ntk.sphere.transforms.dense import DenseTransform
from so3ntk.sphere.transforms.images import walsh_hadamard
from so3ntk.sphere.transforms.separable import SeparableTransform

#: Values that processors compute at a time: faster programs end no loop with single ones.
LANES = 8
#: The bandlimits up to which tables of all D^l are faster: on processors by sign classes, on a GPU in one product.
DENSE, DENSE_ON_GPU = 14, 6


class Grid(eqx.Module):
    """The rotations' weights, and how functions on SO(3) get there and back; cast from float64 to the data's dtype.

    unrolled: sums over the images of a rotation run faster so, in a program that takes three times as long to compile. fused: a sum
    over rotations joins what makes its terms, where a product of matrices would have them written first.
    """

    transform: DenseTransform | SeparableTransform
    weights: Float[Array, " q"]
    unrolled: bool = eqx.field(static=True, default=False)
    fused: bool = eqx.field(static=True, default=False)

    @classmethod
    def load(cls, grid: RotationGrid, bandlimit: int, dtype, pairs: int = 0) -> Grid:
        """Tables for degrees below the bandlimit, and by the number of pairs whether to unroll.

        There a dense table's last representative is repeated, with weight zero, up to a multiple of ``LANES``. On a GPU a low
        bandlimit's rotations have one dense table: it multiplies sixteen times as much, and moves a third of the bytes.
        """
        weights = grid.representative_weights
        if bandlimit <= DENSE_ON_GPU and grid.images > 1 and on_gpu():
            transform = DenseTransform.load(grid, bandlimit, dtype, single=True)
            return cls(transform, jnp.asarray(np.tile(weights, grid.images), dtype), fused=True)
        unrolled = pairs * grid.images * len(weights) >= MANY
        if isinstance(grid, ProductGrid) and bandlimit > (DENSE_ON_GPU if on_gpu() else DENSE):
            return cls(SeparableTransform.load(grid, bandlimit, dtype), jnp.asarray(weights, dtype), unrolled)
        padding = -len(weights) % LANES if unrolled else 0
        transform = DenseTransform.load(grid, bandlimit, dtype, padding)
        return cls(transform, jnp.asarray(np.pad(weights, (0, padding)), dtype), unrolled)

    @property
    def bandlimit(self) -> int:
        """Above all degrees of the tables."""
        return self.transform.bandlimit

    @property
    def images(self) -> int:
        """How many rotations each representative stands for: 16 or 1."""
        return self.transform.images

    @property
    def size(self) -> int:
        """The number of rotations."""
        return self.images * len(self.weights)


def sampler(grid: RotationGrid, bandlimit: int) -> Callable[[Float[np.ndarray, " p"]], Float[np.ndarray, " r"]]:
    """What takes coefficients in table order to values at all rotations, on the host in double precision."""
    if isinstance(grid, ProductGrid) and bandlimit > DENSE:
        separable = SeparableTransform.load(grid, bandlimit, None)
        return lambda values: separable.in_order(np.stack(walsh_hadamard(separable.synthesis(values, bandlimit))))
    tables, columns = wigner_tables(grid, bandlimit), columns_by_class(bandlimit, grid.images)

    def dense(values):
        classes = [values[c] @ table for c, table in zip(columns, tables, strict=True)]
        return np.concatenate(walsh_hadamard(classes))

    return dense
