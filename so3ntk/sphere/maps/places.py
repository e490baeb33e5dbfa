r"""Where a map's values are, and the three sums over them that least squares need.

.. math:: (Y^T W Y)_{pq} = \sum_x w_x Y_p(x) Y_q(x), \qquad (Y^T f)_p = \sum_x Y_p(x) f_x, \qquad (Y a)_x = \sum_p Y_p(x) a_p
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.maps import rings
from so3ntk.sphere.sampling import named

#: Entries of the harmonics that are in memory at once (32 MiB).
BLOCK = 2**22


@runtime_checkable
class Places(Protocol):
    """Points x of the sphere, in the order of the values there."""

    def normal(self, weights: np.ndarray, bandlimit: int) -> Float[np.ndarray, "p q"]:
        """Y^T W Y of weights (x,)."""
        ...

    def analysed(self, values: np.ndarray, bandlimit: int) -> Float[np.ndarray, "p k"]:
        """Y^T f of values (k, x)."""
        ...

    def summed(self, coefficients: np.ndarray) -> Float[np.ndarray, "k x"]:
        """Y a of coefficients (p, k)."""
        ...


@dataclass(frozen=True)
class Scattered:
    """Points anywhere, as unit vectors (x, 3)."""

    vectors: np.ndarray

    def normal(self, weights: np.ndarray, bandlimit: int) -> Float[np.ndarray, "p q"]:
        """See ``Places``."""
        found = np.zeros((bandlimit**2, bandlimit**2))
        for block, harmonics in self._blocks(bandlimit):
            found += harmonics.T @ (weights[block, None] * harmonics)
        return found

    def analysed(self, values: np.ndarray, bandlimit: int) -> Float[np.ndarray, "p k"]:
        """See ``Places``."""
        found = np.zeros((bandlimit**2, len(values)))
        for block, harmonics in self._blocks(bandlimit):
            found += harmonics.T @ values[:, block].T
        return found

    def summed(self, coefficients: np.ndarray) -> Float[np.ndarray, "k x"]:
        """See ``Places``."""
        values = np.empty((coefficients.shape[1], len(self.vectors)))
        for block, harmonics in self._blocks(round(len(coefficients) ** 0.5)):
            values[:, block] = (harmonics @ coefficients).T
        return values

    def _blocks(self, bandlimit: int) -> Iterator[tuple[slice, np.ndarray]]:
        step = max(BLOCK // bandlimit**2, 1)
        for start in range(0, len(self.vectors), step):
            block = slice(start, start + step)
            yield block, real_harmonics(self.vectors[block], bandlimit)


@dataclass(frozen=True)
class Band:
    """Rings with the same longitudes; angles in radians."""

    colatitudes: Float[np.ndarray, " r"]
    longitudes: Float[np.ndarray, " n"]
    #: Where the values of the rings are among all.
    pixels: Int[np.ndarray, "r n"]


@dataclass(frozen=True)
class Rings:
    """Points on rings of equal latitude: see ``rings``."""

    bands: tuple[Band, ...]

    def normal(self, weights: np.ndarray, bandlimit: int) -> Float[np.ndarray, "p q"]:
        """See ``Places``. For each ring the products of waves, then for each order the sums over rings."""
        products = []
        for band in self.bands:
            wave = rings.waves(band.longitudes, bandlimit)
            products.extend(wave.T @ (weights[ring, None] * wave) for ring in band.pixels)
        joined = np.stack(products, axis=1)  # (m, r, m')
        profile = rings.profiles(np.concatenate([band.colatitudes for band in self.bands]), bandlimit)
        columns = rings.degrees_and_orders(bandlimit)[1] + bandlimit - 1
        found = np.empty((bandlimit**2, bandlimit**2))
        for places, of_order in zip(rings.by_order(bandlimit), joined, strict=True):
            found[places] = profile[:, places].T @ (of_order[:, columns] * profile)
        return found

    def analysed(self, values: np.ndarray, bandlimit: int) -> Float[np.ndarray, "p k"]:
        """See ``Places``."""
        found = np.zeros((bandlimit**2, len(values)))
        for band in self.bands:
            found += rings.analysed(*_tables(band, bandlimit), values[:, band.pixels])
        return found

    def summed(self, coefficients: np.ndarray) -> Float[np.ndarray, "k x"]:
        """See ``Places``."""
        bandlimit = round(len(coefficients) ** 0.5)
        values = np.empty((coefficients.shape[1], sum(band.pixels.size for band in self.bands)))
        for band in self.bands:
            values[:, band.pixels] = rings.summed(*_tables(band, bandlimit), coefficients)
        return values


def _tables(band: Band, bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
    return rings.profiles(band.colatitudes, bandlimit), rings.waves(band.longitudes, bandlimit)


def grid(lat: np.ndarray, lon: np.ndarray) -> Rings:
    """A grid of latitudes and longitudes in degrees, values (lat, lon)."""
    pixels = np.arange(len(lat) * len(lon)).reshape(len(lat), len(lon))
    return Rings((Band(np.radians(90 - lat), np.radians(lon), pixels),))


def points(lat: np.ndarray, lon: np.ndarray) -> Scattered:
    """Points at latitudes and longitudes in degrees."""
    theta, phi = np.radians(90 - lat), np.radians(lon)
    return Scattered(np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1))


def healpix(nside: int, nest: bool) -> Rings:
    """The pixels of HEALPix in RING or NESTED order. Rings with as many pixels at the same longitudes share a band."""
    theta, phi = named("healpix").angles(nside)
    order = _ring_to_nest(nside) if nest else np.arange(len(theta))
    lengths = _ring_lengths(nside)
    ends = np.cumsum(lengths)
    alike: dict[tuple[int, float], list[int]] = {}
    for length, end in zip(lengths, ends, strict=True):
        alike.setdefault((int(length), float(phi[end - length])), []).append(int(end - length))
    bands = []
    for (length, _), starts in alike.items():
        pixels = np.array(starts)[:, None] + np.arange(length)
        bands.append(Band(theta[starts], phi[starts[0] : starts[0] + length], order[pixels]))
    return Rings(tuple(bands))


def _ring_to_nest(nside: int) -> Int[np.ndarray, " x"]:
    """The NESTED number of each pixel in RING order. nside is a power of two. Source: Gorski et al. (2005), section 4.1."""
    number = np.arange(12 * nside**2)
    face, inside = number // nside**2, number % nside**2
    x, y = (sum(((inside >> (2 * bit + odd)) & 1) << bit for bit in range(nside.bit_length())) for odd in (0, 1))
    ring = (2 + face // 4) * nside - x - y - 1  # from the north pole, from 1
    lengths = _ring_lengths(nside)
    length = lengths[ring - 1]
    column = np.where(face // 4 == 1, 2 * (face % 4), 2 * (face % 4) + 1)  # of the face's middle, in eighths of a turn
    place = (column * length // 4 + x - y) // 2  # rings of the belt are shifted by half a pixel in turn: rounded down
    order = np.empty(len(number), int)
    order[(np.cumsum(lengths) - lengths)[ring - 1] + place % length] = number
    return order


def _ring_lengths(nside: int) -> Int[np.ndarray, " r"]:
    """The number of pixels of each ring of HEALPix."""
    number = np.arange(1, 4 * nside)
    return 4 * np.minimum(nside, np.minimum(number, 4 * nside - number))
