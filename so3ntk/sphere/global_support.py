r"""SO(3) acting on signals on the sphere, for filters of global support: one geometry of the protocol.

With global support a field does not depend on the position: it is one function on SO(3). It is kept either as
Wigner coefficients (``Blocks``), K_r = sum K^l_mn D^l_mn(r), where a layer acts on blocks, or as an array of samples on
a grid of rotations (image-major), where a nonlinearity needs values. No transform multiplies by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.filters import Filter, Spectrum
from so3ntk.engine.geometry import PositionFree
from so3ntk.sphere.coupling import coupled_count, coupled_squares
from so3ntk.sphere.irreps import Irrep, require_no_parity, start_of
from so3ntk.sphere.rotations import block_indices
from so3ntk.sphere.transforms.dense import channel_products
from so3ntk.sphere.transforms.images import HIGHEST, images_of, walsh_hadamard

#: Multiplications in one product of large matrices that take as long as one in the program of pairs: measured, 3 to 6; and
#: how many fewer there are where pairs are summed, at least.
FASTER, SUMMED = 4, 4


class Blocks(eqx.Module):
    """A function on SO(3) as Wigner coefficients: values[p] multiplies D^l_mn, p = (l, m, n) in table order."""

    values: Float[Array, " p"]
    bandlimit: int = eqx.field(static=True)


class SphereGeometry(PositionFree):
    """Rotations of signals on the sphere, global support. Signals are coefficient arrays (p, c)."""

    grid: Any  # a Grid, or None where nothing is sampled
    channel_weights: Sequence[float] | Float[Array | np.ndarray, " c"] | None = None
    degree_weights: Sequence[float] | Float[Array | np.ndarray, " l"] | None = None
    bandlimit: int | None = eqx.field(static=True, default=None)

    def correlate(self, f: Float[Array, "p c"], g: Float[Array, "p c"]) -> Blocks:
        r"""K^l_mn = (1/C) (1/4 pi) sum_c a^c_lm b^c_ln."""
        return Blocks(channel_products(self._weighted(f), self._truncated(g)), self._bandlimit(f))

    def variance(self, f: Float[Array, "p c"]) -> Float[Array, ""]:
        """(1/C) (1/4 pi) sum of the squared coefficients: the value of the correlation at the identity."""
        return jnp.sum(self._weighted(f) * self._truncated(f))

    def mean(self, field: Blocks | Array) -> Float[Array, ""]:
        """The l = 0 coefficient."""
        if isinstance(field, Blocks):
            return field.values[0]
        return jnp.dot(jnp.tile(self.grid.weights, self.grid.images), field, precision=HIGHEST)

    def project(self, field: Blocks | Array, irrep: Irrep) -> Float[Array, "m m"]:
        """K^l_mn / (2l + 1), or by quadrature. ValueError for a parity, of which SO(3) knows nothing."""
        require_no_parity(irrep)
        return self.moment(field, irrep.degree)

    def moment(self, field: Blocks | Array, degree: int) -> Float[Array, "m m"]:
        """int D^l(r) K_r dr."""
        side = 2 * degree + 1
        if not isinstance(field, Blocks):
            return self._moment(self.grid.transform.from_order(field), degree)
        if degree >= field.bandlimit:
            return jnp.zeros((side, side), field.values.dtype)
        start = start_of(degree)
        return field.values[start : start + side**2].reshape(side, side) / side

    def mean_of(
        self,
        function: Callable,
        parameters: Any,
        f: Float[Array, "p c"],
        g: Float[Array, "p c"],
        irrep: Irrep | None = None,
    ) -> tuple[Float[Array, " k ..."], Float[Array, ""]]:
        """As in the protocol, without writing the field: the images' values are added first, then one weighted sum.

        For an irrep the values of a tile's pairs are written, and meet D^l in one product of matrices: fused, XLA would
        compute them anew for each component.
        """
        if irrep is not None:
            require_no_parity(irrep)
        transform = self.grid.transform
        classes = transform.correlation(self._weighted(f), self._truncated(g))
        together = images_of(classes)
        images = walsh_hadamard(classes) if self.grid.unrolled else [together]

        def mean(p):
            values = [function(p, image) for image in images]
            total = sum(values) if self.grid.unrolled else jnp.sum(values[0], axis=0)
            if self.grid.fused:
                return jnp.sum(total * self.grid.weights)
            return jnp.dot(total, self.grid.weights, precision=HIGHEST)

        def moment(p, degree):
            return self._moment(function(p, together), degree)

        read = mean if irrep is None else functools.partial(moment, degree=irrep.degree)
        # A loop over kernels, not one fused evaluation of all: XLA would write the images to memory.
        return jax.lax.map(read, parameters), jnp.max(functools.reduce(jnp.maximum, images))

    def moments(
        self, f: Float[Array, "a p c"], irrep: Irrep | None = None
    ) -> tuple[Float[Array, " *k"], Float[Array, " *q"]]:
        r"""Coefficients of degree 0, and power spectra, both scaled by the weights of ``correlate``.

        .. math:: \int K_r\, dr = \sum_c a^c_0 b^c_0, \qquad
                  \int K_r^2\, dr = \sum_l \frac{1}{2l + 1} \sum_{cc'} \Big(\sum_m a^c_{lm} a^{c'}_{lm}\Big)
                  \Big(\sum_n b^c_{ln} b^{c'}_{ln}\Big)

        Of an irrep, vectors and tensors: see ``coupling``.
        """
        if irrep is not None:
            require_no_parity(irrep)
            return self.coupled_moments(f, irrep.degree, None)
        signals, bandlimit = self._scaled(f), self._bandlimit(f[0])
        first, second = np.triu_indices(f.shape[2])
        twice = np.where(first == second, 1, np.sqrt(2))
        spectra = []
        for degree in range(bandlimit):
            rows = signals[:, degree**2 : (degree + 1) ** 2].reshape(-1, f.shape[2])
            product = jnp.dot(rows.T, rows, precision=HIGHEST)[first, second]
            spectra.append(product * jnp.asarray(twice / np.sqrt(2 * degree + 1), f.dtype))
        return signals[:, 0].sum(axis=0), jnp.concatenate(spectra)

    def coupled_moments(
        self, f: Float[Array, "a p c"], degree: int, sign: int | None
    ) -> tuple[Float[Array, "m k"], Float[Array, "m q"]]:
        """Those of one degree, and for a sign of what improper motions multiply by it."""
        signals, side = self._scaled(f), 2 * degree + 1
        kept = degree < self._bandlimit(f[0]) and sign in (None, (-1) ** degree)
        first = signals[:, degree**2 : (degree + 1) ** 2].sum(axis=0) if kept else jnp.zeros((side, 0), f.dtype)
        return first / np.sqrt(side).astype(f.dtype), coupled_squares(signals, degree, sign)

    def moments_pay(self, f: Float[Array | np.ndarray, "p c"], summed: bool, irrep: Irrep | None = None) -> bool:
        """Compares multiplications: c (c + 1) / 2 for each degree with those of blocks and of a polynomial at all rotations."""
        if irrep is not None:
            return irrep.parity is None and self.coupled_pay(f, summed, irrep.degree, None)
        channels, bandlimit = f.shape[1], self._bandlimit(f)
        return self._cheaper(f, bandlimit * channels * (channels + 1) // 2, 5, summed)

    def coupled_pay(self, f: Float[Array | np.ndarray, "p c"], summed: bool, degree: int, sign: int | None) -> bool:
        """The same for an irrep, each component of a block a product. Not for what squares do not reach at all."""
        components, count = (2 * degree + 1) ** 2, coupled_count(degree, self._bandlimit(f), f.shape[1], sign)
        return count > 0 and self._cheaper(f, components * count, 5 + components, summed)

    def _cheaper(self, f: Float[Array | np.ndarray, "p c"], products: int, each: int, summed: bool) -> bool:
        """Whether inner products of so many multiplications cost less than pairs, with so many at each rotation."""
        weights = (self.channel_weights, self.degree_weights)
        if any(given is not None and not np.all(np.asarray(given) >= 0) for given in weights):
            return False
        pair = f.shape[1] * start_of(self._bandlimit(f)) + each * self.grid.size
        return products <= FASTER * pair * (SUMMED if summed else 1)

    def _scaled(self, f: Float[Array, "a p c"]) -> Float[Array, "a k c"]:
        """The signals, whose products are those of ``correlate``."""
        return f[:, : self._bandlimit(f[0]) ** 2] * jnp.sqrt(self._weighted(jnp.ones_like(f[0])))

    def average(self, field: Blocks | Array, filter: Filter) -> Blocks | Array:
        """A spectrum, of finite bandlimit: block l times the filter's variance of degree l; else the identity."""
        if not isinstance(filter, Spectrum):
            return super().average(field, filter)
        bandlimit = len(filter.variances)
        if bandlimit > self.grid.bandlimit:
            raise ValueError(f"the grid's tables end at bandlimit {self.grid.bandlimit}, the filter has {bandlimit}.")
        blocks = self._blocks(field, bandlimit)
        degrees, _, _ = block_indices(blocks.bandlimit)
        return Blocks(blocks.values * jnp.asarray(filter.variances, blocks.values.dtype)[degrees], blocks.bandlimit)

    def at_identity(self, field: Blocks | Array) -> Float[Array, ""]:
        """sum_l trace K^l."""
        if not isinstance(field, Blocks):
            raise ValueError("a sampled kernel has no value at the identity motion; convert it to blocks first.")
        _, row, column = block_indices(field.bandlimit)
        return jnp.sum(field.values[row == column])

    def samples(self, field: Blocks | Array) -> Float[Array, " r"]:
        """Values at all rotations of the grid."""
        if not isinstance(field, Blocks):
            return field
        transform = self.grid.transform
        return transform.in_order(images_of(transform.synthesis(field.values, field.bandlimit)))

    def add(self, a: Blocks | Array, b: Blocks | Array) -> Blocks | Array:
        """The sum, as blocks if both are."""
        if isinstance(a, Blocks) and isinstance(b, Blocks):
            short, long = sorted((a, b), key=lambda blocks: blocks.bandlimit)
            return Blocks(long.values.at[: len(short.values)].add(short.values), long.bandlimit)
        return self.samples(a) + self.samples(b)

    def scale(self, field: Blocks | Array, factor: Any) -> Blocks | Array:
        """The field times a number."""
        return jax.tree.map(lambda values: values * factor, field)

    def shift(self, field: Blocks | Array, constant: Any) -> Blocks | Array:
        """The field plus a constant, which is its l = 0 coefficient."""
        if isinstance(field, Blocks):
            return Blocks(field.values.at[0].add(constant), field.bandlimit)
        return field + constant

    def _moment(self, images: Float[Array, "k q"], degree: int) -> Float[Array, "m m"]:
        """Of values at the images."""
        side = 2 * degree + 1
        return self.grid.transform.moment(images, self.grid.weights, degree).reshape(side, side)

    def _bandlimit(self, f: Float[Array | np.ndarray, "p c"]) -> int:
        signal = int(np.sqrt(f.shape[0]) + 0.5)
        return signal if self.bandlimit is None else min(signal, self.bandlimit)

    def _truncated(self, f: Float[Array, "p c"]) -> Float[Array, "k c"]:
        return f[: self._bandlimit(f) ** 2]

    def _weighted(self, f: Float[Array, "p c"]) -> Float[Array, "k c"]:
        """The coefficients kept by the filter, times (1/C)(1/4 pi), channel weights and filter variances."""
        f = self._truncated(f) / (4 * np.pi * f.shape[1])
        if self.channel_weights is not None:
            f = f * jnp.asarray(self.channel_weights, f.dtype)
        if self.degree_weights is not None:
            degrees = np.arange(self._bandlimit(f))
            weights = jnp.asarray(self.degree_weights, f.dtype)[np.repeat(degrees, 2 * degrees + 1)]
            f = f * weights[:, None]
        return f

    def _blocks(self, field: Blocks | Array, bandlimit: int) -> Blocks:
        """The coefficients below a bandlimit: truncated, or (2l + 1) times the mean of K_r D^l_mn(r) on the grid."""
        if isinstance(field, Blocks):
            bandlimit = min(bandlimit, field.bandlimit)
            return Blocks(field.values[: start_of(bandlimit)], bandlimit)
        transform = self.grid.transform
        classes = walsh_hadamard(list(transform.from_order(field) * self.grid.weights))
        degrees, _, _ = block_indices(bandlimit)
        sizes = np.asarray(2 * degrees + 1, field.dtype)
        return Blocks(transform.analysis(classes, bandlimit) * sizes, bandlimit)
