r"""The kernel recursion on G x G for G = SO(3), as it stands in the literature: slow, and in plain NumPy.

Nothing here knows of relative motions. A kernel is a matrix K[g, g'] over two rotation grids, and

    lifting            K[g, g'] = W^2 (1 / 4 pi) int mean_c f_c(g x) f'_c(g' x) dx + b^2, on a grid of the sphere
    group convolution  K[g, g'] <- W^2 int K[g s, g' s] ds + b^2, by transforms on both rotation axes
    nonlinearity       pointwise, with the variances K[g, g] of f and of f'
    group pooling      the mean over g and over g'

The transforms end at the bandlimit of the rotation grid, and the kernel after a nonlinearity has no bandlimit: on a
Driscoll-Healy grid of bandlimit 3 the aliasing is 2 to 14 %. It vanishes as the grid is refined.
Source: Misof, Kessel, Gerken, Equivariant Neural Tangent Kernels (2025).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from tests.oracles.duals import DUALS, dense


class GroupGrid(NamedTuple):
    """Rotations (as ZYZ angles), quadrature weights that sum to one, and the bandlimit of transforms on the grid."""

    angles: np.ndarray
    weights: np.ndarray
    bandlimit: int


@lru_cache(maxsize=8)
def driscoll_healy_grid(bandlimit: int) -> GroupGrid:
    """2L x 2L x 2L angles, equispaced in beta too, with the weights of Driscoll and Healy (1994)."""
    n = 2 * bandlimit
    beta = np.pi * (2 * np.arange(n) + 1) / (2 * n)
    k = np.arange(bandlimit)
    weights = np.sin(beta) * (np.sin(np.outer(beta, 2 * k + 1)) / (2 * k + 1)).sum(axis=1)
    return _product(2 * np.pi * np.arange(n) / n, beta, weights, bandlimit)


@lru_cache(maxsize=8)
def gauss_legendre_grid(bandlimit: int) -> GroupGrid:
    """2L - 1 angles alpha and gamma, L nodes in cos(beta): the smallest grid with exact transforms."""
    nodes, weights = np.polynomial.legendre.leggauss(bandlimit)
    n = 2 * bandlimit - 1
    return _product(2 * np.pi * np.arange(n) / n, np.arccos(nodes), weights, bandlimit)


def _product(azimuths, beta, weights, bandlimit) -> GroupGrid:
    angles = np.stack(np.meshgrid(azimuths, beta, azimuths, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.broadcast_to(weights[None, :, None], (len(azimuths), len(beta), len(azimuths))).ravel()
    return GroupGrid(angles, weights / weights.sum(), bandlimit)


def gxg_kernels(f_coeffs, g_coeffs, bandlimit: int, layers, grid: GroupGrid, lift=(1.0, 0.0)) -> tuple[float, float]:
    """NNGP and NTK of one pair after lifting, ``layers`` and group pooling.

    f_coeffs, g_coeffs: coefficients (bandlimit^2, channels) of real harmonics. lift: (W_std, b_std).
    layers: "relu", "erf" or "gelu"; ("conv", W_std, b_std) or ("conv", W_std, b_std, filter bandlimit).
    """
    _, weights = _sphere(bandlimit)
    matrices = Rotation.from_euler("ZYZ", grid.angles).as_matrix()
    f, g = (_moved(np.asarray(signal), bandlimit, matrices) for signal in (f_coeffs, g_coeffs))
    channels = f.shape[-1]

    def lifted(a, b):
        return lift[0] ** 2 * np.einsum("gxc,hxc,x->gh", a, b, weights, optimize=True) / channels + lift[1] ** 2

    pair, own, other = lifted(f, g), lifted(f, f), lifted(g, g)
    tangent = pair
    for layer in layers:
        q1, q2 = np.diag(own), np.diag(other)
        if isinstance(layer, str):
            dual = DUALS[layer]
            pair, slope = dual(pair, q1[:, None], q2[None, :])
            tangent = tangent * slope
            own, other = (dual(k, q[:, None], q[None, :])[0] for k, q in ((own, q1), (other, q2)))
        else:
            _, W_std, b_std, *filter_bandlimit = layer
            degrees = min([grid.bandlimit, *filter_bandlimit])
            pair, tangent = dense(_averaged(pair, grid, degrees), _averaged(tangent, grid, degrees), W_std, b_std)
            own, other = (dense(_averaged(k, grid, degrees), 0, W_std, b_std)[0] for k in (own, other))
    return grid.weights @ pair @ grid.weights, grid.weights @ tangent @ grid.weights


@lru_cache(maxsize=16)
def _sphere(bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) and weights that sum to one: exact for products of two functions of the bandlimit."""
    nodes, weights = np.polynomial.legendre.leggauss(bandlimit)
    azimuths = np.pi * np.arange(2 * bandlimit) / bandlimit
    z, phi = (a.ravel() for a in np.meshgrid(nodes, azimuths, indexing="ij"))
    sine = np.sqrt(1 - z**2)
    return np.stack([sine * np.cos(phi), sine * np.sin(phi), z], axis=-1), np.repeat(weights, 2 * bandlimit) / (
        4 * bandlimit
    )


def _harmonics(points: np.ndarray, degrees) -> np.ndarray:
    """Real orthonormal harmonics (..., sum of 2l + 1) at unit vectors (..., 3), from scipy's complex ones."""
    theta, phi = np.arccos(np.clip(points[..., 2], -1, 1)), np.arctan2(points[..., 1], points[..., 0])
    columns = []
    for degree in degrees:
        for m in range(-degree, degree + 1):
            y = sph_harm_y(degree, abs(m), theta, phi)
            columns.append(y.real if m == 0 else np.sqrt(2) * (-1) ** m * (y.real if m > 0 else y.imag))
    return np.stack(columns, axis=-1)


def _moved(signal: np.ndarray, bandlimit: int, matrices: np.ndarray) -> np.ndarray:
    """f_c(g x) for each rotation matrix g and each point x of the sphere's grid: (g, x, c)."""
    points, _ = _sphere(bandlimit)
    return _harmonics(np.einsum("gij,xj->gxi", matrices, points), range(bandlimit)) @ signal


@lru_cache(maxsize=8)
def _wigner(angles: bytes, degree: int) -> np.ndarray:
    """D^l_mn(g) = int Y_lm(g x) Y_ln(x) dx, (g, 2l + 1, 2l + 1), by integration over the sphere."""
    matrices = Rotation.from_euler("ZYZ", np.frombuffer(angles).reshape(-1, 3)).as_matrix()
    points, weights = _sphere(degree + 1)
    moved = _harmonics(np.einsum("gij,xj->gxi", matrices, points), [degree])
    return 4 * np.pi * np.einsum("gxm,xn,x->gmn", moved, _harmonics(points, [degree]), weights, optimize=True)


def _averaged(kernel: np.ndarray, grid: GroupGrid, degrees: int) -> np.ndarray:
    r"""int K[g s, g' s] ds by transforms on both axes, with D^l(g s) = D^l(g) D^l(s) and Schur's orthogonality.

    Filters of bandlimit ``degrees`` keep the blocks l < degrees.
    """
    total = np.zeros_like(kernel)
    for degree in range(degrees):
        wigner = _wigner(grid.angles.tobytes(), degree)
        analysis = (2 * degree + 1) * grid.weights[:, None, None] * wigner
        left = np.tensordot(analysis, kernel, axes=(0, 0))
        coefficients = np.einsum("mnh,hpn->mp", left, analysis, optimize=True) / (2 * degree + 1)
        size = wigner.shape[1] ** 2
        flat = np.einsum("gmk,mp->gpk", wigner, coefficients).reshape(-1, size)
        total += flat @ wigner.reshape(-1, size).T
    return total
