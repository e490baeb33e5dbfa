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

from tests.oracles.duals import DUALS, dense
from tests.oracles.harmonics import harmonics, moved_points, sphere_grid, wigner


class GroupGrid(NamedTuple):
    """Rotation matrices, quadrature weights that sum to one, and D^l at the rotations for each l below the bandlimit."""

    matrices: np.ndarray
    weights: np.ndarray
    wigner: tuple[np.ndarray, ...]


@lru_cache(maxsize=8)
def driscoll_healy_grid(bandlimit: int) -> GroupGrid:
    """2L x 2L x 2L angles, equispaced in beta too, with the weights of Driscoll and Healy (1994)."""
    n = 2 * bandlimit
    beta = np.pi * (2 * np.arange(n) + 1) / (2 * n)
    k = 2 * np.arange(bandlimit) + 1
    return _product(n, beta, np.sin(beta) * (np.sin(np.outer(beta, k)) / k).sum(axis=1), bandlimit)


@lru_cache(maxsize=8)
def gauss_legendre_grid(bandlimit: int) -> GroupGrid:
    """2L - 1 angles alpha and gamma, L nodes in cos(beta): the smallest grid with exact transforms."""
    nodes, weights = np.polynomial.legendre.leggauss(bandlimit)
    return _product(2 * bandlimit - 1, np.arccos(nodes), weights, bandlimit)


def _product(n: int, beta: np.ndarray, beta_weights: np.ndarray, bandlimit: int) -> GroupGrid:
    azimuths = 2 * np.pi * np.arange(n) / n
    angles = np.stack(np.meshgrid(azimuths, beta, azimuths, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.tile(np.repeat(beta_weights, n), n)
    matrices = Rotation.from_euler("ZYZ", angles).as_matrix()
    return GroupGrid(matrices, weights / weights.sum(), tuple(wigner(matrices, d) for d in range(bandlimit)))


def gxg_kernels(f_coeffs, g_coeffs, bandlimit: int, layers, grid: GroupGrid, lift=(1.0, 0.0)) -> tuple[float, float]:
    """NNGP and NTK of one pair after lifting, ``layers`` and group pooling.

    f_coeffs, g_coeffs: coefficients (bandlimit^2, channels) of real harmonics. lift: (W_std, b_std).
    layers: "relu", "erf" or "gelu"; ("conv", W_std, b_std), or ("conv", W_std, b_std, v) with a filter of variance v_l
    for the degrees l < len(v). Without v, filters end at the bandlimit of the grid.
    """
    points, weights = sphere_grid(bandlimit)
    values = harmonics(moved_points(grid.matrices, points), range(bandlimit))
    f, g = (values @ np.asarray(signal) for signal in (f_coeffs, g_coeffs))

    def lifted(a, b):
        mean = np.einsum("gxc,hxc,x->gh", a, b, weights, optimize=True) / a.shape[-1]
        return lift[0] ** 2 * mean + lift[1] ** 2

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
            _, W_std, b_std, *filters = layer
            spectrum = np.asarray(filters[0] if filters else np.ones(len(grid.wigner)))
            pair, tangent = dense(convolved(pair, grid, spectrum), convolved(tangent, grid, spectrum), W_std, b_std)
            own, other = (dense(convolved(k, grid, spectrum), 0, W_std, b_std)[0] for k in (own, other))
    return float(grid.weights @ pair @ grid.weights), float(grid.weights @ tangent @ grid.weights)


def convolved(kernel: np.ndarray, grid: GroupGrid, spectrum: np.ndarray) -> np.ndarray:
    """int K[g s, g' s] ds by transforms on both axes, from D^l(g s) = D^l(g) D^l(s) and Schur's orthogonality.

    With filters of variance v_l, int int K[g s, g' s'] C(s, s') ds ds' for their covariance C: block l times v_l.
    """
    total = np.zeros_like(kernel)
    for degree, variance in enumerate(spectrum):
        matrices = grid.wigner[degree]
        size = matrices.shape[1] ** 2
        analysis = (2 * degree + 1) * grid.weights[:, None, None] * matrices
        left = np.tensordot(analysis, kernel, axes=(0, 0))
        coefficients = np.einsum("mnh,hpn->mp", left, analysis, optimize=True) / (2 * degree + 1)
        flat = np.einsum("gmk,mp->gpk", matrices, coefficients).reshape(-1, size)
        total += variance * (flat @ matrices.reshape(-1, size).T)
    return total
