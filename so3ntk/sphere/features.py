r"""Features on SO(3), sampled on the quadrature's grid; convolutions are blockwise products of Wigner coefficients.

A random filter is :math:`\kappa = \sum_{l<L} \sqrt{2l+1} \sum_{mn} \kappa^l_{mn} D^l_{mn}`, a sum over functions that
are orthonormal for the normalised Haar measure. With :math:`h = \sum_l h^l_{mn} D^l_{mn}` the convolution is

.. math:: \int \kappa(g^{-1} g')\, h(g')\, dg' = \sum_l \frac{1}{\sqrt{2l+1}} \sum_{pm}
          \Big(\sum_n h^l_{pn} \kappa^l_{mn}\Big) D^l_{pm}(g),

and a lifting filter :math:`\sqrt{4\pi} \sum \kappa_{lm} Y_{lm}` on a signal with coefficients a gives
:math:`\sum a_{lp}\, \kappa_{lm} D^l_{pm}(g) / \sqrt{4\pi}`. The tables of D are those of the kernels: finite network and
kernel share one grid.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.features import HIGHEST, Components, Features, Vectors
from so3ntk.sphere.global_support import Blocks, SphereGeometry
from so3ntk.sphere.irreps import Irrep, require_no_parity
from so3ntk.sphere.transforms.grid import Grid

#: Filters or features degree by degree: (2l + 1, 2l + 1, ...) or (n, 2l + 1, 2l + 1, ...).
Degrees = tuple[Float[Array, "..."], ...]


class FeatureGrid(eqx.Module):
    """Where features are sampled, and the bandlimit of white-noise filters there."""

    grid: Grid
    bandlimit: int = eqx.field(static=True)


class RotationFeatures(Features):
    """Values (N, R, C) at the rotations of a grid; (N, 2 R, C) for O(3), then at the rotations times the inversion."""

    values: Float[Array, "n r c"]
    on: FeatureGrid

    @property
    def cosets(self) -> int:
        """1 for SO(3), 2 for O(3)."""
        return self.values.shape[1] // self.on.grid.size

    def pool(self) -> Vectors:
        """The mean over the group, by quadrature."""
        grid = self.on.grid
        weights = jnp.tile(grid.weights, grid.images * self.cosets) / self.cosets
        return Vectors(jnp.einsum("r,nrc->nc", weights, self.values, precision=HIGHEST))

    def project(self, irrep: Irrep) -> Components:
        """sqrt(2l + 1) int h(g) D^l_mk(g) dg, by quadrature, with k joining the channels: (N, 2l + 1, (2l + 1) C)."""
        halves = jnp.split(self.values, self.cosets, axis=1)
        if self.cosets == 1:
            require_no_parity(irrep)
        geometry = SphereGeometry(self.on.grid)
        moment = jax.vmap(jax.vmap(lambda h: geometry.moment(h, irrep.degree), 1, 2))  # (n, m, k, c)
        first, *second = (moment(half) for half in halves)
        total = (first + irrep.sign * second[0]) / 2 if second else first
        values = total.reshape(*total.shape[:2], -1) * irrep.size**0.5
        return Components(values, irrep)

    def convolve(self, filters: tuple[Degrees, ...], spectrum: Float[Array, " l"], bias: Any) -> RotationFeatures:
        """The convolution with filters (2l + 1, 2l + 1, C, K) for l < L, times the root of the spectrum, and a bias.

        One set of filters for each coset: with two, the features of a coset see the others' through the second set.
        """
        halves = jnp.split(self.values, self.cosets, axis=1)
        blocks = [self._analyse(half, len(spectrum)) for half in halves]
        out = []
        for s in range(self.cosets):
            parts = [_products(blocks[t], filters[s ^ t], spectrum) for t in range(self.cosets)]
            out.append(tuple(sum(degree) / self.cosets**0.5 for degree in zip(*parts, strict=True)))
        values = jnp.concatenate([synthesise(self.on.grid, blocks) for blocks in out], axis=1)
        return RotationFeatures(values + bias, self.on)

    def _analyse(self, values: Float[Array, "n r c"], bandlimit: int) -> Degrees:
        """The coefficients (n, 2l + 1, 2l + 1, c) of functions on SO(3)."""
        analyse = jax.vmap(jax.vmap(lambda h: SphereGeometry(self.on.grid)._blocks(h, bandlimit).values, 1, 1))
        return split_degrees(analyse(values))


def _products(blocks: Degrees, filters: Degrees, spectrum: Float[Array, " l"]) -> Degrees:
    return tuple(
        jnp.einsum("zpnc,mnck->zpmk", block, kappa, precision=HIGHEST) * jnp.sqrt(v / (2 * degree + 1))
        for degree, (block, kappa, v) in enumerate(zip(blocks, filters, spectrum, strict=True))
    )


def synthesise(grid: Grid, blocks: Degrees) -> Float[Array, "n r k"]:
    """Values at the rotations of functions with coefficients (n, 2l + 1, 2l + 1, k)."""
    n, k = blocks[0].shape[0], blocks[0].shape[-1]
    flat = jnp.concatenate([block.reshape(n, -1, k) for block in blocks], axis=1)
    geometry = SphereGeometry(grid)
    return jax.vmap(jax.vmap(lambda h: geometry.samples(Blocks(h, len(blocks))), 1, 1))(flat)


def split_degrees(flat: Float[Array, "n p k"]) -> Degrees:
    """Coefficients in table order (l, m, n) as (n, 2l + 1, 2l + 1, k) for each degree."""
    blocks, start, degree = [], 0, 0
    while start < flat.shape[1]:
        side = 2 * degree + 1
        blocks.append(flat[:, start : start + side**2].reshape(flat.shape[0], side, side, flat.shape[2]))
        start, degree = start + side**2, degree + 1
    return tuple(blocks)


def lift(coefficients: Float[Array, "n p c"], filters: Degrees, spectrum: Float[Array, " l"]) -> Degrees:
    """The coefficients (n, 2l + 1, 2l + 1, k) of lifted features, for filters (2l + 1, C, K)."""
    return tuple(
        jnp.einsum("zpc,mck->zpmk", coefficients[:, degree**2 : (degree + 1) ** 2], kappa, precision=HIGHEST)
        * jnp.sqrt(v / (4 * np.pi))
        for degree, (kappa, v) in enumerate(zip(filters, spectrum, strict=True))
    )
