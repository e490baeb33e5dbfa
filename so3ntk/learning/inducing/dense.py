r"""All training inputs induce, as they are: the dense regression, beside columns without a penalty.

With K the kernel of the training inputs, and Q an orthonormal basis of the columns C, the eigenvectors of
(1 - Q Q^T) K (1 - Q Q^T) = U diag(s^2) U^T beside those of Q are all that ``FeatureSpectrum`` needs of features F with F F^T = K, for
which no features are formed. They are found as those of the same matrix plus a multiple of Q Q^T above its eigenvalues,
which sets the span of Q apart. Eigenvalues that are zero to rounding, and those that a kernel's errors leave below zero, are left
out: of a kernel without errors k(x, .) has nothing along their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.learning.feature_ridge import FeatureSpectrum, basis_of
from so3ntk.learning.ridge import EPS

#: Bytes of the kernel, its eigenvectors, their copies and LAPACK's workspace, for each entry of the kernel.
BYTES = 48


@dataclass(frozen=True)
class DensePosterior:
    """U^T / s and s, and of the columns C^+, C^+ K and C^+ K C^+^T; all of weighted rows, where there are weights."""

    singular: Float[np.ndarray, " q"]
    right: Float[np.ndarray, "q n"]
    inverse: Float[np.ndarray, "c n"]
    crossed: Float[np.ndarray, "c n"]
    both: Float[np.ndarray, "c c"]
    weights: Float[np.ndarray, " n"] | None = None

    def variance(
        self,
        kernels: Float[np.ndarray, "m n"],
        columns: Float[np.ndarray, "m c"],
        prior: Float[np.ndarray, " m"],
        ridge: float,
    ) -> Float[np.ndarray, " m"]:
        r"""The variance of f + C* b at inputs with kernels k with the training inputs and k(x, x), in units of the amplitude.

        .. math:: k(x, x) - 2 k H^T + H K H^T + \lambda H H^T - |(k - H K)\, U s^{-1}|^2_{s^2 / (s^2 + \lambda)},
                  \qquad H = C_* C^+
        """
        kernels, along, middle = self._parts(kernels, columns, ridge)
        known = along**2 @ (self.singular**2 / (self.singular**2 + ridge))
        outside = np.einsum("ij,jk,ik->i", columns, middle, columns)
        crossing = np.einsum("ic,cn,in->i", columns, self.inverse, kernels, optimize=True)
        return np.maximum(prior - 2 * crossing + outside - known, 0)

    def covariance(
        self,
        kernels: Float[np.ndarray, "m n"],
        columns: Float[np.ndarray, "m c"],
        prior: Float[np.ndarray, "m m"],
        ridge: float,
    ) -> Float[np.ndarray, "m m"]:
        """The covariances of which the above are the diagonal, for k(x, x')."""
        kernels, along, middle = self._parts(kernels, columns, ridge)
        known = (along * (self.singular**2 / (self.singular**2 + ridge))) @ along.T
        crossing = columns @ (self.inverse @ kernels.T)
        return prior - crossing - crossing.T + columns @ middle @ columns.T - known

    def _parts(
        self, kernels: Float[np.ndarray, "m n"], columns: Float[np.ndarray, "m c"], ridge: float
    ) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m q"], Float[np.ndarray, "c c"]]:
        """The kernels with weighted rows, (k - H K) U / s, and what C* stands on both sides of."""
        if self.weights is not None:
            kernels = kernels * np.sqrt(self.weights)
        along = (kernels - columns @ self.crossed) @ self.right.T
        return kernels, along, self.both + ridge * self.inverse @ self.inverse.T


@dataclass(frozen=True)
class DenseSpectrum(FeatureSpectrum):
    """A ``FeatureSpectrum`` whose solution is that of sqrt(w_i) k(., x_i). both: C^+ K C^+^T."""

    both: Float[np.ndarray, "c c"]

    @classmethod
    def of_kernel(
        cls,
        kernel: Float[np.ndarray, "n n"],
        columns: Float[np.ndarray, "n c"],
        weights: Float[np.ndarray, " n"] | None = None,
    ) -> DenseSpectrum:
        """Of a finite symmetric matrix, which is overwritten. weights: of the rows, at least zero, and one above."""
        if weights is not None:
            roots = np.sqrt(weights)[:, None]
            kernel *= roots
            kernel *= roots.T
            columns = columns * roots
        basis, inverse = basis_of(columns)
        crossed = inverse @ kernel
        both = crossed @ inverse.T
        across = basis.T @ kernel
        inside = (across @ basis) / 2
        update = basis @ (across - inside @ basis.T)
        kernel -= update
        kernel -= update.T
        largest = float(np.abs(kernel).sum(axis=1).max(initial=0.0)) or 1.0
        kernel += 2 * largest * (basis @ basis.T)
        values, vectors = scipy.linalg.eigh(kernel, driver="evd", overwrite_a=True, check_finite=False)
        kept = len(values) - basis.shape[1]
        values, vectors = values[:kept], vectors[:, :kept]
        some = values > len(values) * EPS * largest
        values, vectors = values[some], vectors[:, some]
        singular = np.sqrt(values)
        right = vectors.T / singular[:, None]
        return cls(vectors, singular, right, basis, inverse, crossed, both, weights=weights)

    def dense_posterior(self) -> DensePosterior:
        """What variances need."""
        return DensePosterior(self.singular, self.right, self.inverse, self.crossed, self.both, self.weights)
