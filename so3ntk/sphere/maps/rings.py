r"""Harmonics on rings of equal latitude, where they are products of a function of the latitude and one of the longitude.

.. math:: Y_{lm}(\theta, \phi) = Y_{l|m|}(\theta, 0)\, t_m(\phi), \qquad
          t_m = \cos m\phi\ (m \ge 0),\ \sin |m|\phi\ (m < 0)

Sums over rings cost as much as the rings have degrees and orders, not as the sphere has points.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.rotations import MAX_BANDLIMIT


def profiles(colatitudes: np.ndarray, bandlimit: int) -> Float[np.ndarray, "r p"]:
    """Y_l|m|(theta, 0) at index l^2 + l + m, of both signs of m."""
    vectors = np.stack([np.sin(colatitudes), np.zeros(len(colatitudes)), np.cos(colatitudes)], axis=-1)
    table = real_harmonics(vectors, bandlimit)
    degree, order = degrees_and_orders(bandlimit)
    positive: np.ndarray = degree**2 + degree + abs(order)
    return np.ascontiguousarray(table[:, positive])


def waves(longitudes: np.ndarray, bandlimit: int) -> Float[np.ndarray, "n m"]:
    """t_m(phi), m from 1 - L to L - 1."""
    m = np.arange(bandlimit)
    angles = np.multiply.outer(longitudes, m)
    return np.concatenate([np.sin(angles[:, :0:-1]), np.cos(angles)], axis=1)


@lru_cache(maxsize=MAX_BANDLIMIT)
def degrees_and_orders(bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
    """l and m, integers (p,), of each index l^2 + l + m."""
    degree = np.repeat(np.arange(bandlimit), 2 * np.arange(bandlimit) + 1)
    return degree, np.arange(bandlimit**2) - degree**2 - degree


@lru_cache(maxsize=MAX_BANDLIMIT)
def by_order(bandlimit: int) -> tuple[Int[np.ndarray, " l"], ...]:
    """For each m from 1 - L to L - 1 the indices of its harmonics."""
    _, order = degrees_and_orders(bandlimit)
    return tuple(np.flatnonzero(order == m) for m in range(1 - bandlimit, bandlimit))


def analysed(
    profile: Float[np.ndarray, "r p"], wave: Float[np.ndarray, "n m"], values: Float[np.ndarray, "k r n"]
) -> Float[np.ndarray, "p k"]:
    """sum_{rn} profile_rp wave_{n m(p)} values_krn."""
    fourier = values @ wave
    found = np.empty((profile.shape[1], len(values)))
    for column, places in enumerate(by_order(wave.shape[1] // 2 + 1)):
        found[places] = profile[:, places].T @ fourier[:, :, column].T
    return found


def summed(
    profile: Float[np.ndarray, "r p"], wave: Float[np.ndarray, "n m"], coefficients: Float[np.ndarray, "p k"]
) -> Float[np.ndarray, "k r n"]:
    """sum_p profile_rp wave_{n m(p)} coefficients_pk: the transpose of ``analysed``."""
    fourier = np.empty((coefficients.shape[1], len(profile), wave.shape[1]))
    for column, places in enumerate(by_order(wave.shape[1] // 2 + 1)):
        fourier[:, :, column] = (profile[:, places] @ coefficients[places]).T
    return fourier @ wave.T
