"""Real harmonics, integrals over the sphere and rotations of coefficients, from scipy's complex harmonics alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import sph_harm_y


@lru_cache(maxsize=16)
def sphere_grid(bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) and weights that sum to one: exact for products of two functions of the bandlimit."""
    nodes, weights = np.polynomial.legendre.leggauss(bandlimit)
    azimuths = np.pi * np.arange(2 * bandlimit) / bandlimit
    z, phi = (a.ravel() for a in np.meshgrid(nodes, azimuths, indexing="ij"))
    sine = np.sqrt(1 - z**2)
    points = np.stack([sine * np.cos(phi), sine * np.sin(phi), z], axis=-1)
    return points, np.repeat(weights, 2 * bandlimit) / (4 * bandlimit)


def harmonics(points: np.ndarray, degrees) -> np.ndarray:
    """Real orthonormal harmonics (..., sum of 2l + 1) of the given degrees at unit vectors (..., 3)."""
    theta = np.arctan2(np.hypot(points[..., 0], points[..., 1]), points[..., 2])  # arccos is inaccurate at the poles
    phi = np.arctan2(points[..., 1], points[..., 0])
    columns = []
    for degree in degrees:
        positive = [sph_harm_y(degree, m, theta, phi) for m in range(degree + 1)]
        for m in range(-degree, degree + 1):
            y = positive[abs(m)]
            columns.append(y.real if m == 0 else np.sqrt(2) * (-1) ** m * (y.real if m > 0 else y.imag))
    return np.stack(columns, axis=-1)


def moved_points(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """g x for each rotation matrix and each point: (g, x, 3)."""
    return np.einsum("gij,xj->gxi", matrices, points)


def wigner(matrices: np.ndarray, degree: int) -> np.ndarray:
    """D^l_mn(g) = int Y_lm(g x) Y_ln(x) dx, (g, 2l + 1, 2l + 1): a_lm <- sum_n D^l_mn a_ln rotates by g."""
    points, weights = sphere_grid(degree + 1)
    moved = harmonics(moved_points(matrices, points), [degree])
    return 4 * np.pi * np.einsum("gxm,xn,x->gmn", moved, harmonics(points, [degree]), weights, optimize=True)


def rotated(coefficients: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Coefficients (n, p, c) of every signal rotated by every matrix: (g, n, p, c)."""
    bandlimit = round(coefficients.shape[1] ** 0.5)
    parts = [np.einsum("gml,nlc->gnmc", wigner(matrices, d), coefficients[:, d**2 : (d + 1) ** 2])
             for d in range(bandlimit)]  # fmt: skip
    return np.concatenate(parts, axis=2)


def white_signals(n: int, bandlimit: int, channels: int, seed: int) -> np.ndarray:
    """Random coefficients (n, p, c), each signal scaled to unit variance: sum of squares 4 pi c."""
    values = np.random.default_rng([seed, bandlimit, channels]).normal(size=(n, bandlimit**2, channels))
    return values * np.sqrt(4 * np.pi * channels / np.sum(values**2, axis=(1, 2), keepdims=True))
