r"""Ridge regression on features, beside columns without a penalty: all ridges from one decomposition, exact leave-one-out.

.. math:: \min_{w, b} \|y - F w - C b\|^2 + \lambda \|w\|^2

With Q an orthonormal basis of the columns C and (1 - Q Q^T) F = U diag(s) V^T

.. math:: \hat y = Q Q^T y + U \frac{s^2}{s^2 + \lambda} U^T y, \qquad
          1 - h_i = 1 - |Q_i|^2 - |U_i|^2 + \sum_k U_{ik}^2 \frac{\lambda}{s_k^2 + \lambda}, \qquad
          y_i - \hat y_i^{(-i)} = \frac{y_i - \hat y_i}{1 - h_i},

the last being the residual of row i as predicted from all others, unpenalised columns included. A row that alone determines
one of these columns (the only molecule with an element) has h_i = 1, and no such residual: NaN, and not counted.

Under the amplitude s^2, y = F w + C b + noise with covariance s^2 (F F^T + lambda) and b flat, so that

.. math:: s^2 = \frac{1}{n - c} \Big(\sum_k \frac{(U_k^T y)^2}{s_k^2 + \lambda} + \frac{|y - Q Q^T y - U U^T y|^2}{\lambda}\Big).

Decomposed are the features, never their normal equations, whose eigenvalues would have twice the digits to lose.

Where rows have weights, the noise of row i has the variance s^2 lambda / w_i: F, C and y are then sqrt(w_i) times what is given, for
which all of the above holds, but for the residuals of left out rows, which are divided by sqrt(w_i) again. Rows of weight zero count
nowhere and have no such residual.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.learning.ridge import EPS

#: Rows that are projected at a time.
ROWS = 512
#: 1 - |Q_i|^2 below which a row alone determines a column.
ALONE = 1e-9


class FeatureFit(NamedTuple):
    """Of k outputs: weights of the features and of the columns, leave-one-out residuals, and amplitudes."""

    weights: Float[np.ndarray, "r k"]
    columns: Float[np.ndarray, "c k"]
    loo: Float[np.ndarray, "n k"]
    amplitude: Float[np.ndarray, " k"]


@dataclass(frozen=True)
class Posterior:
    """V^T and s of F = U diag(s) V^T beside the columns, (C^T C)^+ and C^+ F."""

    singular: Float[np.ndarray, " q"]
    right: Float[np.ndarray, "q r"]
    gram: Float[np.ndarray, "c c"]
    crossed: Float[np.ndarray, "c r"]

    def variance(
        self, features: Float[np.ndarray, "m r"], columns: Float[np.ndarray, "m c"], ridge: float
    ) -> Float[np.ndarray, " m"]:
        r"""The variance of F* w + C* b given the rows, in units of the amplitude.

        .. math:: \lambda\, C_* (C^T C)^{-1} C_*^T + \lambda R (F^T (1 - Q Q^T) F + \lambda)^{-1} R^T, \qquad
                  R = F_* - C_* C^+ F
        """
        rest = features - columns @ self.crossed
        along = rest @ self.right.T
        outside = np.maximum(np.einsum("ij,ij->i", rest, rest) - np.einsum("ij,ij->i", along, along), 0)
        inside = along**2 @ (ridge / (self.singular**2 + ridge))
        return ridge * np.einsum("ij,jk,ik->i", columns, self.gram, columns) + outside + inside

    def covariance(
        self, features: Float[np.ndarray, "m r"], columns: Float[np.ndarray, "m c"], ridge: float
    ) -> Float[np.ndarray, "m m"]:
        """The covariances of which the above are the diagonal."""
        rest = features - columns @ self.crossed
        along = rest @ self.right.T
        known = (along * (self.singular**2 / (self.singular**2 + ridge))) @ along.T
        return ridge * columns @ self.gram @ columns.T + rest @ rest.T - known


@dataclass(frozen=True)
class FeatureSpectrum:
    """F and C decomposed, see the head of this file. basis: Q; inverse: C^+ (c, n); crossed: C^+ F (c, r); weights: None for ones."""

    vectors: Float[np.ndarray, "n q"]
    singular: Float[np.ndarray, " q"]
    right: Float[np.ndarray, "q r"]
    basis: Float[np.ndarray, "n p"]
    inverse: Float[np.ndarray, "c n"]
    crossed: Float[np.ndarray, "c r"]
    weights: Float[np.ndarray, " n"] | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "n r"],
        columns: Float[np.ndarray, "n c"],
        weights: Float[np.ndarray, " n"] | None = None,
    ) -> FeatureSpectrum:
        """Of finite features; they are overwritten. weights: of the rows, at least zero, and one above."""
        if weights is not None:
            roots = np.sqrt(weights)[:, None]
            features *= roots
            columns = columns * roots
        basis, inverse = basis_of(columns)
        # What the projection leaves of the columns is rounding of what was there, and no direction of its own
        rounding = max(features.shape) * EPS * float(np.linalg.norm(features))
        free = (len(features) if weights is None else int(np.count_nonzero(weights))) - basis.shape[1]
        crossed = inverse @ features
        inside = basis.T @ features
        for start in range(0, len(features), ROWS):  # the product of all rows would be as large as the features
            features[start : start + ROWS] -= basis[start : start + ROWS] @ inside
        return cls(*_svd(features, rounding, free), basis, inverse, crossed, weights=weights)

    def solve(self, y: Float[np.ndarray, "n k"], ridge: float) -> FeatureFit:
        """The solution for a ridge > 0."""
        shrunk = self.singular / (self.singular**2 + ridge)
        left = ridge / (self.singular**2 + ridge)
        y = self.roots[:, None] * y
        rest = y - self.basis @ (self.basis.T @ y)
        projected = self.vectors.T @ rest
        outside = np.zeros_like(rest) if self.complete else rest - self.vectors @ projected
        weights = self.right.T @ (shrunk[:, None] * projected)
        residuals = outside + self.vectors @ (left[:, None] * projected)
        free = self._outside + _weighted_squares(self.vectors, left)
        scale = (free * self.roots)[:, None]
        loo = np.divide(residuals, scale, out=np.full(y.shape, np.nan), where=self._others_known[:, None])
        energy = (projected**2 / (self.singular**2 + ridge)[:, None]).sum(axis=0) + (outside**2).sum(axis=0) / ridge
        freedom = int(np.count_nonzero(self.roots)) - self.basis.shape[1]
        amplitude = np.sqrt(energy / freedom) if freedom else np.full(y.shape[1], np.nan)
        return FeatureFit(weights, self.inverse @ y - self.crossed @ weights, loo, amplitude)

    def path(self, y: Float[np.ndarray, "n k"], ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """The root mean square leave-one-out error of each ridge, over the rows that have one."""
        return np.array([error_of(self.solve(y, float(ridge)).loo, self.weights) for ridge in ridges])

    def posterior(self) -> Posterior:
        """What variances need."""
        return Posterior(self.singular, self.right, self.inverse @ self.inverse.T, self.crossed)

    @property
    def roots(self) -> Float[np.ndarray, " n"]:
        """Of the weights."""
        return np.ones(len(self.basis)) if self.weights is None else np.sqrt(self.weights)

    @property
    def _outside(self) -> Float[np.ndarray, " n"]:
        """1 - |Q_i|^2 - |U_i|^2."""
        inside = np.einsum("ij,ij->i", self.basis, self.basis) + np.einsum("ij,ij->i", self.vectors, self.vectors)
        return np.zeros(len(inside)) if self.complete else np.maximum(1 - inside, 0)

    @property
    def complete(self) -> bool:
        """Whether Q and U span everything: more features than rows. What is outside is zero then, and not rounding."""
        return self.basis.shape[1] + self.vectors.shape[1] >= int(np.count_nonzero(self.roots))

    @property
    def _others_known(self) -> np.ndarray:
        """Which rows have a leave-one-out error, whatever the ridge: those that weigh something and do not determine a column alone."""
        return (np.einsum("ij,ij->i", self.basis, self.basis) < 1 - ALONE) & (self.roots > 0)


def _weighted_squares(vectors: Float[np.ndarray, "n q"], weights: Float[np.ndarray, " q"]) -> Float[np.ndarray, " n"]:
    """sum_k U_ik^2 weights_k, some rows at a time: the squares of all would be as large as the vectors."""
    parts = [vectors[start : start + ROWS] ** 2 @ weights for start in range(0, len(vectors), ROWS)]
    return np.concatenate(parts) if parts else np.zeros(0)


def error_of(loo: Float[np.ndarray, "n k"], weights: Float[np.ndarray, " n"] | None = None) -> float:
    """The root mean square, weighted, of leave-one-out residuals, of those that there are; NaN for none."""
    known = np.isfinite(loo)
    if not known.any():
        return float("nan")
    shares = None if weights is None else np.broadcast_to(weights[:, None], loo.shape)[known]
    return float(np.sqrt(np.average(loo[known] ** 2, weights=shares)))


def basis_of(columns: Float[np.ndarray, "n c"]) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis of some columns, which may depend on each other, and their pseudo-inverse."""
    left, values, right = scipy.linalg.svd(columns, full_matrices=False, check_finite=False)
    kept = values > len(columns) * EPS * np.max(values, initial=0.0)
    return left[:, kept], (right[kept].T / values[kept]) @ left[:, kept].T


def _svd(features: Float[np.ndarray, "n r"], rounding: float, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, s, V^T of at most so many singular values, above rounding; by QR first where there are many more rows than features."""
    n, r = features.shape
    if n > 1.5 * r:
        decomposed: Any = scipy.linalg.qr(features, mode="economic", overwrite_a=True, check_finite=False)
        q, triangle = decomposed
        # Of the transpose, whose rows are the columns that LAPACK takes without a copy
        turned, values, rotation = scipy.linalg.svd(
            np.ascontiguousarray(triangle).T, overwrite_a=True, check_finite=False
        )
        for start in range(0, n, ROWS):  # in place: the product of all rows would be as large again
            q[start : start + ROWS] = q[start : start + ROWS] @ rotation.T
        left, right = q, turned.T
    else:
        left, values, right = scipy.linalg.svd(features, full_matrices=False, check_finite=False)
    kept = min(int(np.count_nonzero(values > rounding)), most)  # the first ones: they descend
    return left[:, :kept], values[:kept], right[:kept]
