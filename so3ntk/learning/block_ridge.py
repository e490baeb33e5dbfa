r"""Kernel ridge regression of vectors and tensors: ``ridge`` with blocks of M components for each input.

.. math:: \alpha = A^{-1} y, \quad A = K + \lambda I \in \mathbb{R}^{nM \times nM}, \qquad
          y_B - \hat y_B^{(-B)} = \bigl((A^{-1})_{BB}\bigr)^{-1} \alpha_B,

the last being the residual of all components B of one input as predicted from all other inputs: exact, without
refits. There is no intercept: a constant vector is not equivariant. Source: the inverse of a partitioned matrix.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from so3ntk.learning.ridge import RidgeFit, Spectrum, solve


def as_matrix(blocks: Float[np.ndarray, "n k m m"]) -> Float[np.ndarray, "nm km"]:
    """Blocks (n, k, M, M) as one matrix, the components of an input side by side."""
    n, k, rows, columns = blocks.shape
    return np.asarray(blocks, np.float64).transpose(0, 2, 1, 3).reshape(n * rows, k * columns)


def solve_blocks(spectrum: Spectrum, y: Float[np.ndarray, "n m"], ridge: float) -> RidgeFit:
    """``ridge.solve`` for alpha (n, M) and one amplitude, with the residuals (n, M) of leaving out whole inputs."""
    n, size = y.shape
    flat = solve(spectrum, y.reshape(-1, 1), ridge)
    dual_coef = flat.dual_coef.reshape(n, size)
    rows = spectrum.vectors.reshape(n, size, -1)
    own = np.einsum("nar,nbr->nab", rows / (spectrum.values + ridge), rows, optimize=True)
    return RidgeFit(dual_coef, np.zeros(size), np.linalg.solve(own, dual_coef[..., None])[..., 0], flat.amplitude)


def posterior_covariance(
    spectrum: Spectrum, ridge: float, cross: Float[np.ndarray, "t n m m"], prior: Float[np.ndarray, "t m m"]
) -> Float[np.ndarray, "t m m"]:
    """K(x, x) - k A^-1 k^T of each test input, k (M, nM) its row of blocks; in units of K and without the noise."""
    tests, _, size, _ = cross.shape
    rows = (as_matrix(cross) @ spectrum.vectors).reshape(tests, size, -1)
    explained = np.einsum("tar,tbr->tab", rows / (spectrum.values + ridge), rows, optimize=True)
    return prior - explained
