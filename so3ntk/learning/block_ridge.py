r"""Kernel ridge regression of vectors and tensors: ``ridge`` with blocks of M components for each input.

.. math:: \alpha = A^{-1} y, \quad A = K + \lambda I \in \mathbb{R}^{nM \times nM}, \qquad
          y_B - \hat y_B^{(-B)} = \bigl((A^{-1})_{BB}\bigr)^{-1} \alpha_B,

the last being the residual of all components B of one input as predicted from all other inputs: exact, without
refits. There is no intercept: a constant vector is not equivariant. Source: the inverse of a partitioned matrix.

On features, of which an input has M rows F_B (``feature_ridge``), with F = U diag(s) V^T

.. math:: y_B - \hat y_B^{(-B)} = (1 - H_{BB})^{-1} (y_B - \hat y_B), \qquad
          1 - H_{BB} = 1 - U_B U_B^T + U_B \frac{\lambda}{s^2 + \lambda} U_B^T.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from so3ntk.learning.feature_ridge import ROWS, FeatureFit, FeatureSpectrum, error_of
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


@dataclass(frozen=True)
class BlockSpectrum:
    """Features (n M, r) decomposed, of which whole inputs are left out. components: M."""

    rows: FeatureSpectrum
    components: int

    @classmethod
    def of(cls, features: Float[np.ndarray, "nm r"], components: int) -> BlockSpectrum:
        """Of finite features, the components of an input side by side; they are overwritten."""
        return cls(FeatureSpectrum.of(features, np.zeros((len(features), 0))), components)

    def solve(self, y: Float[np.ndarray, "n m"], ridge: float) -> FeatureFit:
        """As of ``FeatureSpectrum``, with weights (r, 1), one amplitude, and residuals (n, M) of leaving out whole inputs."""
        flat = self.rows.solve(y.reshape(-1, 1), ridge)
        return flat._replace(loo=self._left_out(y, np.array([ridge]))[0])

    def path(self, y: Float[np.ndarray, "n m"], ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """The root mean square error of each ridge, per component."""
        return np.array([error_of(loo) for loo in self._left_out(y, ridges)])

    def _left_out(self, y: Float[np.ndarray, "n m"], ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p n m"]:
        """The residuals for all ridges at once."""
        vectors, left = self.rows.vectors, ridges / (self.rows.singular[:, None] ** 2 + ridges)
        projected = vectors.T @ y.ravel()
        residuals = vectors @ (left * projected[:, None])
        free = self._own(left)
        if not self.rows.complete:
            residuals = residuals + (y.ravel() - vectors @ projected)[:, None]
            free = free + np.eye(self.components) - self._own(np.ones((len(left), 1)))
        return np.linalg.solve(free, residuals.T.reshape(len(ridges), *y.shape, 1))[..., 0]

    def _own(self, weights: Float[np.ndarray, "q p"]) -> Float[np.ndarray, "p n m m"]:
        """U_B diag(weights) U_B^T of each input, some at a time: products of all vectors would be as large as the vectors."""
        blocks = self.rows.vectors.reshape(-1, self.components, len(weights))
        found = np.empty((weights.shape[1], len(blocks), self.components, self.components))
        for start in range(0, len(blocks), ROWS):
            some = slice(start, start + ROWS)
            for a, b in zip(*np.tril_indices(self.components), strict=True):
                found[:, some, a, b] = found[:, some, b, a] = ((blocks[some, a] * blocks[some, b]) @ weights).T
        return found
