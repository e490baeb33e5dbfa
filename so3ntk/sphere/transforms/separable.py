r"""Transforms on a product grid axis by axis: L^4 operations for a pair where dense tables take L^6.

Rotations about z turn real harmonics of the orders m and -m into each other, those about y mix neither type, cosines
(m >= 0) or sines (m < 0). With mu = abs(m), nu = abs(n) and S^l_mn the coefficients of D^l_mn,

.. math:: K(\alpha, \beta, \gamma) = \sum_{\mu \nu} \sum_{s t} T^{st}_{\mu\nu}(\beta)\, s(\mu\alpha)\, t(\nu\gamma),
          \qquad s, t \in \{\cos, \sin\},

.. math:: T^{cc} = P + M, \quad T^{ss} = M - P, \quad T^{cs} = Q + R, \quad T^{sc} = Q - R,

.. math:: (P, Q) = \sum_l (S^l_{cc} + S^l_{ss},\, S^l_{sc} - S^l_{cs})\, e^+_l, \quad
          (M, R) = \sum_l (S^l_{cc} - S^l_{ss},\, - S^l_{cs} - S^l_{sc})\, e^-_l,

with e+- = (d_cc +- d_ss) / 2 of the two types of the real d^l_{mu nu}(beta). Even and odd orders are kept apart: with four kinds of
functions on each axis (cosines and sines, of even and odd orders) values at 0 < alpha, gamma < pi / 2 give those in all quadrants by
sums and differences. Degrees below max(mu, nu) do not exist: orders are taken in bands, each with its own degrees.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.sphere.haar import ProductGrid
from so3ntk.sphere.irreps import start_of
from so3ntk.sphere.rotations import real_from_complex, wigner_d
from so3ntk.sphere.transforms.images import HIGHEST, walsh_hadamard

#: Bands of orders: more waste fewer operations and compile longer.
BANDS = 8


class SeparableTransform(eqx.Module):
    """The factors of D^l at the grid's angles.

    wigner: for each band (``bands_of``) tables (sign, mu, nu, beta, l) of e+-, those of mu in [low, high) with nu < high, and of
    mu < low with nu in [low, high). fourier (type, parity, angle, order / 2): cosines and sines in a quadrant.
    """

    wigner: tuple[tuple[Array | np.ndarray, Array | np.ndarray], ...]
    fourier: Float[Array | np.ndarray, "2 2 a h"]
    bandlimit: int = eqx.field(static=True)
    n_beta: int = eqx.field(static=True)
    images = 16

    @classmethod
    def load(cls, grid: ProductGrid, bandlimit: int, dtype) -> SeparableTransform:
        """For degrees below the bandlimit, in a dtype: of NumPy where none of JAX's is asked for."""
        as_array = np.asarray if dtype is None else lambda table: jnp.asarray(table, dtype)
        bands = tuple((as_array(rows), as_array(columns)) for rows, columns in wigner_bands(grid.n_beta, bandlimit))
        return cls(bands, as_array(fourier_table(grid.n, bandlimit)), bandlimit, grid.n_beta)

    def correlation(self, f: Float[Array, "p c"], g: Float[Array, "p c"]) -> list[Any]:
        """For each kind of functions its part of sum_c f_lm g_ln D^l_mn(r), whose ``walsh_hadamard`` are the values at the images."""
        index = orders_by_type(round(np.sqrt(len(f))))
        a, b = (jnp.pad(x, ((0, 1), (0, 0)))[index] for x in (f, g))  # (type, l, mu, c)
        if f.shape[1] == 1:
            return self._kinds(a[:, None, :, :, None, 0] * b[None, :, :, None, :, 0])
        return self._kinds(jnp.einsum("slmc,tlnc->stlmn", a, b, precision=HIGHEST))

    def synthesis(
        self, values: Float[Array | np.ndarray, " p"], bandlimit: int
    ) -> list[Float[Array | np.ndarray, " q"]]:
        """The same for coefficients in table order, of degrees below a bandlimit."""
        padded = _module_of(values).pad(values[: start_of(bandlimit)], (0, 1))
        return self._kinds(padded[blocks_by_type(bandlimit)[0]])

    def analysis(self, kinds: list[Float[Array, " q"]], bandlimit: int) -> Float[Array, " p"]:
        """The adjoint of ``synthesis``: sums over representatives, of values that were brought into kinds."""
        index, inverse = blocks_by_type(bandlimit)
        shape = jax.ShapeDtypeStruct(index.shape, kinds[0].dtype)
        (sums,) = jax.linear_transpose(self._kinds, shape)(kinds)
        return sums.ravel()[inverse]

    def moment(self, images: Float[Array, "k q"], weights: Float[Array, " q"], degree: int) -> Float[Array, " p"]:
        """The weighted sum over all rotations of values times D^l_mn."""
        return self.analysis(walsh_hadamard(list(images * weights)), degree + 1)[start_of(degree) :]

    def in_order(self, images: Float[Array | np.ndarray, "k q"]) -> Any:
        """Values at the images in the order of the grid's rotations."""
        index, flipped = _order_of_images()
        side = self.fourier.shape[2]
        ordered = images[index].reshape(16, side, self.n_beta, side)
        turned = _module_of(images).where(flipped[:, None, None, None], ordered[:, :, ::-1], ordered)
        return turned.ravel()

    def from_order(self, values: Float[Array, " r"]) -> Float[Array, "k q"]:
        """The inverse."""
        index, flipped = _order_of_images()
        side = self.fourier.shape[2]
        turned = values.reshape(16, side, self.n_beta, side)
        ordered = jnp.where(flipped[:, None, None, None], turned[:, :, ::-1], turned)
        return ordered.reshape(16, -1)[np.argsort(index)]

    def _kinds(self, s: Float[Array | np.ndarray, "2 2 l m n"]) -> list[Any]:
        """From coefficients by types, degree and orders to sixteen kinds of functions at 0 < alpha, gamma < pi / 2."""
        numpy = _module_of(s)
        (cc, cs), (sc, ss) = s
        pairs = numpy.stack([numpy.stack([cc + ss, sc - cs], -1), numpy.stack([cc - ss, -cs - sc], -1)])
        (p, q), (m, r) = numpy.moveaxis(self._by_beta(pairs, numpy), -1, 1)
        t = numpy.stack([numpy.stack([p + m, q + r]), numpy.stack([q - r, m - p])])  # (s, t, mu, nu, beta)
        half = t.shape[2] // 2
        t, fourier = t.reshape(2, 2, half, 2, half, 2, self.n_beta), self.fourier[..., :half]
        t = _einsum(numpy, "sxai,stixjyb->sxtajyb", fourier, t)
        t = _einsum(numpy, "tygj,sxtajyb->sxtyabg", fourier, t)
        return list(t.reshape(16, -1))

    def _by_beta(self, pairs: Any, numpy: Any) -> Any:
        """Sums over l at each beta, band by band: (sign, mu, nu, beta, 2) from (sign, l, mu, nu, 2)."""
        total, (degrees, orders) = None, pairs.shape[1:3]
        for (rows, columns), (low, high) in zip(self.wigner, bands_of(self.bandlimit), strict=True):
            if low >= orders:
                break
            high, end = min(high, orders), degrees - low
            rows, columns = rows[:, : high - low, :high, :, :end], columns[:, :, : high - low, :, :end]
            lower = _einsum(numpy, "smnbl,slmnq->smnbq", rows, pairs[:, low:, low:high, :high])
            if total is None:
                total = lower
                continue
            right = _einsum(numpy, "smnbl,slmnq->smnbq", columns, pairs[:, low:, :low, low:high])
            total = numpy.concatenate([numpy.concatenate([total, right], 2), lower], 1)
        return total


def _module_of(values: Any) -> Any:
    """NumPy for its own arrays: calibration computes in double precision whatever JAX is set to."""
    return np if isinstance(values, np.ndarray) else jnp


def _einsum(numpy: Any, axes: str, a: Any, b: Any) -> Any:
    return np.einsum(axes, a, b) if numpy is np else jnp.einsum(axes, a, b, precision=HIGHEST)


def bands_of(bandlimit: int) -> list[tuple[int, int]]:
    """At most ``BANDS`` ranges of orders, of an even number each, that together hold those below the bandlimit."""
    orders = bandlimit + bandlimit % 2
    width = 2 * -(-orders // (2 * BANDS))
    return [(low, min(low + width, orders)) for low in range(0, orders, width)]


@lru_cache(maxsize=4)
def wigner_bands(n_beta: int, bandlimit: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The tables of e+- of each band, zero where l < max(mu, nu); float64, 100 MiB at L = n_beta = 64."""
    beta, ranges = np.arccos(np.polynomial.legendre.leggauss(n_beta)[0]), bands_of(bandlimit)
    bands = tuple(
        (
            np.zeros((2, high - low, high, n_beta, bandlimit - low)),
            np.zeros((2, low, high - low, n_beta, bandlimit - low)),
        )
        for low, high in ranges
    )
    for degree in range(bandlimit):
        both = _halves(degree, beta)  # (sign, mu, nu, beta), mu and nu up to the degree
        for (rows, columns), (low, high) in zip(bands, ranges, strict=True):
            if low > degree:
                break
            end = min(high, degree + 1)
            rows[:, : end - low, :end, :, degree - low] = both[:, low:end, :end]
            columns[:, :, : end - low, :, degree - low] = both[:, :low, low:end]
    return bands


def _halves(degree: int, beta: Float[np.ndarray, " b"]) -> Float[np.ndarray, "2 m n b"]:
    """(d_cc +- d_ss) / 2 of real harmonics, for orders from 0 to l."""
    change = real_from_complex(degree)
    d = np.real(change.conj() @ wigner_d(degree, beta) @ change.T)
    cosines = d[:, degree:, degree:]
    sines = np.zeros_like(cosines)
    sines[:, 1:, 1:] = d[:, :degree, :degree][:, ::-1, ::-1]
    return np.moveaxis(np.stack([cosines + sines, cosines - sines]) / 2, 1, -1)


def fourier_table(n: int, bandlimit: int) -> Float[np.ndarray, "2 2 a h"]:
    """cos(mu alpha) and sin(mu alpha), even and odd orders, at the n / 4 angles of a quadrant."""
    quadrant = 2 * np.pi * (np.arange(n // 4) + 0.5) / n
    orders = np.arange(bandlimit + bandlimit % 2)
    table = np.stack([np.cos(np.outer(quadrant, orders)), np.sin(np.outer(quadrant, orders))])
    return table.reshape(2, len(quadrant), -1, 2).transpose(0, 3, 1, 2)


@lru_cache(maxsize=32)
def orders_by_type(bandlimit: int) -> np.ndarray:
    """Where a signal's coefficients (p,), with a zero after them, go: (type, l, mu)."""
    index = np.full((2, bandlimit, bandlimit + bandlimit % 2), bandlimit**2)
    for degree in range(bandlimit):
        middle = degree**2 + degree
        index[0, degree, : degree + 1] = np.arange(middle, middle + degree + 1)
        index[1, degree, 1 : degree + 1] = np.arange(middle - 1, middle - degree - 1, -1)
    return index


@lru_cache(maxsize=32)
def blocks_by_type(bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
    """Where coefficients in table order, with a zero after them, go: (type, type, l, mu, nu); and the way back."""
    orders, count = bandlimit + bandlimit % 2, start_of(bandlimit)
    index = np.full((2, 2, bandlimit, orders, orders), count)
    for degree in range(bandlimit):
        table = start_of(degree) + np.arange((2 * degree + 1) ** 2).reshape(2 * degree + 1, -1)
        types = [np.arange(degree, 2 * degree + 1), np.arange(degree - 1, -1, -1)]  # m = 0, 1, ... and m = -1, -2, ...
        for s, rows in enumerate(types):
            for t, columns in enumerate(types):
                index[s, t, degree, s : s + len(rows), t : t + len(columns)] = table[np.ix_(rows, columns)]
    inverse = np.empty(count, int)
    kept = np.flatnonzero(index.ravel() < count)
    inverse[index.ravel()[kept]] = kept
    return index, inverse


@lru_cache(maxsize=1)
def _order_of_images() -> tuple[np.ndarray, np.ndarray]:
    r"""For each image of the grid (``haar``): which image by quadrants it is, and whether its beta is pi - beta.

    Ry(pi) from the left takes (alpha, beta, gamma) to (pi - alpha, pi - beta, pi + gamma), from the right to
    (pi + alpha, pi - beta, pi - gamma). Quadrants have two bits: whether sines change sign at even orders, and what odd orders do.
    """
    index, flipped = np.empty(16, int), np.empty(16, bool)
    for image in range(16):
        left_z, left_y, right_z, right_y = ((image >> bit) & 1 for bit in (3, 2, 1, 0))
        alpha = (left_y, left_z ^ left_y ^ right_y)  # whether mirrored, alpha -> -alpha; and whether pi is added
        gamma = (right_y, right_z ^ right_y ^ left_y)
        index[image] = 8 * alpha[0] + 4 * alpha[1] + 2 * gamma[0] + gamma[1]
        flipped[image] = left_y ^ right_y
    return index, flipped
