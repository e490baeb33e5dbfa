"""Tables of D^l_mn at all representatives of a grid: products of matrices, the fastest at low bandlimits.

A pair costs L (4 L^2 - 1) / 3 multiplications for each of a sixteenth of the rotations: L^6 on grids of 2 L points.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from so3ntk.sphere.haar import RotationGrid, columns_by_class, wigner_tables
from so3ntk.sphere.irreps import rows_by_class
from so3ntk.sphere.rotations import block_indices
from so3ntk.sphere.transforms.images import HIGHEST, walsh_hadamard


class DenseTransform(eqx.Module):
    """Wigner tables, one for each sign class of the grid (``haar``), or a single one of all rotations."""

    tables: tuple[Float[Array, "_p q"], ...]
    bandlimit: int = eqx.field(static=True)

    @classmethod
    def load(cls, grid: RotationGrid, bandlimit: int, dtype, padding: int = 0, single: bool = False) -> DenseTransform:
        """For degrees below the bandlimit, in a dtype; the last representative is repeated ``padding`` times."""
        tables = wigner_tables(grid, bandlimit)
        if single:
            return cls((jnp.asarray(_single_table(tables, bandlimit), dtype),), bandlimit)
        return cls(
            tuple(jnp.asarray(np.pad(table, ((0, 0), (0, padding)), "edge"), dtype) for table in tables), bandlimit
        )

    @property
    def images(self) -> int:
        """How many rotations each representative stands for: 16 or 1."""
        return len(self.tables)

    def correlation(self, f: Float[Array, "p c"], g: Float[Array, "p c"]) -> list[Float[Array, " q"]]:
        """For each class its part of sum_c f_lm g_ln D^l_mn(r), whose ``walsh_hadamard`` are the values at the images."""
        bandlimit = round(np.sqrt(len(f)))
        return self.synthesis(channel_products(f, g), bandlimit)

    def synthesis(self, values: Float[Array, " p"], bandlimit: int) -> list[Float[Array, " q"]]:
        """The same for coefficients in table order, of degrees below a bandlimit."""
        ordered = values[np.concatenate(columns_by_class(bandlimit, self.images))]
        products, start = [], 0
        for table in self._tables(bandlimit):
            products.append(jnp.dot(ordered[start : start + len(table)], table, precision=HIGHEST))
            start += len(table)
        return products

    def analysis(self, classes: list[Float[Array, " q"]], bandlimit: int) -> Float[Array, " p"]:
        """The adjoint of ``synthesis``: sums over representatives, of values that were brought into classes."""
        sums = [jnp.dot(table, values, precision=HIGHEST)
                for table, values in zip(self._tables(bandlimit), classes, strict=True)]  # fmt: skip
        return jnp.concatenate(sums)[np.argsort(np.concatenate(columns_by_class(bandlimit, self.images)))]

    def moment(self, images: Float[Array, "k q"], weights: Float[Array, " q"], degree: int) -> Float[Array, " p"]:
        """The weighted sum over all rotations of values times D^l_mn, in one product with a table of them."""
        return jnp.dot(self._moments(weights, degree), images.ravel(), precision=HIGHEST)

    def in_order(self, images: Float[Array, "k q"]) -> Float[Array, " r"]:
        """Values at the images in the order of the grid's rotations."""
        return images.ravel()

    def from_order(self, values: Float[Array, " r"]) -> Float[Array, "k q"]:
        """The inverse."""
        return values.reshape(self.images, -1)

    def _moments(self, weights: Float[Array, " q"], degree: int) -> Float[Array, "p r"]:
        """w_r D^l_mn(r) at all rotations of the grid, in the order of samples."""
        parts, places, classes = [], [], []
        for index, (rows, place) in enumerate(rows_by_class(degree, self.images)):
            parts.append(self.tables[index][rows] * weights)
            places.append(place)
            classes.append(np.full(len(place), index))
        order = np.argsort(np.concatenate(places))
        representatives = jnp.concatenate(parts)[order]
        signs = np.array(walsh_hadamard(list(np.eye(self.images))))[np.concatenate(classes)[order]]
        both = jnp.asarray(signs, representatives.dtype)[:, :, None] * representatives[:, None, :]
        return both.reshape(len(both), -1)

    def _tables(self, bandlimit: int) -> list[Float[Array, "_p q"]]:
        """The rows of the tables below a bandlimit: degrees come first in every class."""
        columns = columns_by_class(bandlimit, self.images)
        return [table[: len(c)] for c, table in zip(columns, self.tables, strict=True)]


def channel_products(f: Float[Array, "p c"], g: Float[Array, "p c"]) -> Float[Array, " q"]:
    """sum_c f_lm g_ln in table order: one product of matrices for each degree, for all pairs of a tile at once."""
    bandlimit = round(np.sqrt(len(f)))
    if f.shape[1] == 1:  # there is nothing to sum, and matrices of one column take up to four times as long
        _, row, column = block_indices(bandlimit)
        return f[row, 0] * g[column, 0]
    degrees = [slice(degree**2, (degree + 1) ** 2) for degree in range(bandlimit)]
    return jnp.concatenate([jnp.dot(f[part], g[part].T, precision=HIGHEST).ravel() for part in degrees])


def _single_table(tables: tuple[np.ndarray, ...], bandlimit: int) -> Float[np.ndarray, "p r"]:
    """D^l_mn at all rotations, image by image, in table order: what ``walsh_hadamard`` makes of the tables of the classes."""
    signs = scipy.linalg.hadamard(len(tables))
    dense = np.concatenate([np.kron(signs[:, i], table) for i, table in enumerate(tables)])
    return dense[np.argsort(np.concatenate(columns_by_class(bandlimit, len(tables))))]
