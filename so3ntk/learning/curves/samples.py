"""Samples of a regression, decomposed once for all ridges: kernels with columns of targets, kernels of blocks, features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.feature_ridge import FeatureSpectrum
from so3ntk.learning.ridge import EPS, Spectrum, mean_of


class Sample(ABC):
    """n inputs and their targets. An author says what the eigenvalues are, what is left out, and what a part is.

    ``rows`` are those of the kernel, several to an input where targets are vectors, less the unpenalised columns.
    """

    y: Float[np.ndarray, "n k"]

    @abstractmethod
    def part(self, inputs: Int[np.ndarray, " m"]) -> Sample:
        """Some of the inputs, in this order."""

    @property
    @abstractmethod
    def eigenvalues(self) -> Float[np.ndarray, " rows"]:
        """Of K, on what unpenalised columns leave, ascending."""

    @property
    @abstractmethod
    def rounding(self) -> float:
        """How large the errors of the eigenvalues can be."""

    @abstractmethod
    def noise(self, eps: float) -> float:
        """The size of eigenvalues that are rounding, where the matrix has the precision eps."""

    @abstractmethod
    def left_out(self, ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p n k"]:
        """y - prediction for each input by all others, at ridges that are admitted; NaN where they do not determine it."""

    @property
    @abstractmethod
    def powers(self) -> Float[np.ndarray, " rows"]:
        """(u_i^T y)^2 / n k of each eigenvector: what the targets have along it, in mean squares."""

    @property
    def components(self) -> int:
        """Rows of the kernel to an input."""
        return 1

    @property
    def rows(self) -> int:
        """See the class."""
        return len(self.eigenvalues)

    @property
    def unpenalised(self) -> int:
        """How many rows the unpenalised columns take."""
        return len(self) * self.components - self.rows

    def __len__(self) -> int:
        return len(self.y)

    @property
    def scale(self) -> float:
        """The mean of K's diagonal, on what the columns leave; 1 for K = 0."""
        return float(np.sum(self.eigenvalues)) / max(self.rows, 1) or 1.0

    def admits(self, ridge: Float[np.ndarray, " p"]) -> np.ndarray:
        """Which ridges leave K + ridge I positive definite, and are above twice what K has below zero: that is its error."""
        smallest = float(np.min(self.eigenvalues, initial=np.inf))
        return (smallest + ridge > self.rounding) & (ridge >= -2 * min(smallest, 0.0))

    def require(self, ridge: float, where: str) -> None:
        """NotPositiveDefiniteError for a ridge that is not admitted."""
        if not self.admits(np.array([ridge]))[0]:
            smallest, largest = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
            needed = 1.1 * (max(0.0, -2 * smallest) + 2 * self.rounding) or EPS * largest
            raise NotPositiveDefiniteError(where, smallest, largest, ridge, needed)


class MatrixSample(Sample):
    """A kernel as a matrix, decomposed when it is asked for. An author says which rows are whose, and what leaving them out leaves."""

    intercept: bool = False

    def __init__(self, kernel: Float[np.ndarray, "rows rows"], y: Float[np.ndarray, "n k"]):
        self.kernel, self.y = kernel, y

    @cached_property
    def spectrum(self) -> Spectrum:
        """The decomposition."""
        return Spectrum.of(self.kernel, self.intercept)

    @property
    def eigenvalues(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``."""
        return self.spectrum.values

    @property
    def rounding(self) -> float:
        """See ``Sample``."""
        return self.spectrum.rounding

    def noise(self, eps: float) -> float:
        """Errors of the entries, independent of each other."""
        return max(eps * float(np.abs(self.eigenvalues).max(initial=0.0)) / np.sqrt(self.rows), self.rounding)


class KernelSample(MatrixSample):
    """A kernel (n, n), with an unpenalised intercept or without one."""

    def __init__(self, kernel: Float[np.ndarray, "n n"], y: Float[np.ndarray, "n k"], intercept: bool = False):
        super().__init__(kernel, y)
        self.intercept = intercept

    @classmethod
    def of_spectrum(cls, spectrum: Spectrum, y: Float[np.ndarray, "n k"]) -> KernelSample:
        """Of a kernel that is decomposed: with an intercept of K on vectors that sum to zero, which has the same regressions."""
        kernel = (spectrum.vectors * spectrum.values) @ spectrum.vectors.T
        found = cls((kernel + kernel.T) / 2, y, spectrum.row_means is not None)
        found.spectrum = spectrum
        return found

    def part(self, inputs: Int[np.ndarray, " m"]) -> KernelSample:
        """See ``Sample``."""
        return KernelSample(self.kernel[np.ix_(inputs, inputs)], self.y[inputs], self.intercept)

    def left_out(self, ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p n k"]:
        """See ``Sample``; the formula of ``ridge``, for all ridges at once."""
        vectors, inverse = self.spectrum.vectors, 1 / (self.spectrum.values[:, None] + ridges)
        y = self.y - mean_of(self.y) if self.intercept else self.y
        dual_coef = _dual_coefs(vectors, inverse, vectors.T @ y)
        return dual_coef / (vectors**2 @ inverse).T[:, :, None]

    @property
    def powers(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``."""
        return np.sum((self.spectrum.vectors.T @ self.y) ** 2, axis=1) / self.y.size


class BlockSample(MatrixSample):
    """A kernel of vectors or tensors: a matrix (n M, n M), the M components of an input side by side; targets (n, M)."""

    @property
    def components(self) -> int:
        """M."""
        return self.y.shape[1]

    def part(self, inputs: Int[np.ndarray, " m"]) -> BlockSample:
        """See ``Sample``."""
        rows = (inputs[:, None] * self.components + np.arange(self.components)).ravel()
        return BlockSample(self.kernel[np.ix_(rows, rows)], self.y[inputs])

    def left_out(self, ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p n m"]:
        """See ``Sample``; the formula of ``block_ridge``, for all ridges at once."""
        vectors, inverse = self.spectrum.vectors, 1 / (self.spectrum.values[:, None] + ridges)
        size, n = self.components, len(self.y)
        dual_coef = _dual_coefs(vectors, inverse, vectors.T @ self.y.reshape(-1, 1)).reshape(len(ridges), n, size, 1)
        blocks, own = vectors.reshape(n, size, -1), np.empty((len(ridges), n, size, size))
        for a, b in zip(*np.tril_indices(size), strict=True):
            own[:, :, a, b] = own[:, :, b, a] = ((blocks[:, a] * blocks[:, b]) @ inverse).T
        return np.linalg.solve(own, dual_coef)[..., 0]

    @property
    def powers(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``."""
        return (self.spectrum.vectors.T @ self.y.ravel()) ** 2 / self.y.size


class FeatureSample(Sample):
    """Features F (n, m), of kernel F F^T, beside unpenalised columns (n, c)."""

    def __init__(
        self, features: Float[np.ndarray, "n m"], columns: Float[np.ndarray, "n c"], y: Float[np.ndarray, "n k"]
    ):
        self.features, self.columns, self.y = features, columns, y

    @classmethod
    def of_spectrum(cls, spectrum: FeatureSpectrum, y: Float[np.ndarray, "n k"]) -> FeatureSample:
        """Of features that are decomposed: what their columns leave of them, U diag(s), has the same regressions."""
        found = cls(spectrum.vectors * spectrum.singular, spectrum.basis, y)
        found.spectrum = spectrum
        return found

    @cached_property
    def spectrum(self) -> FeatureSpectrum:
        """The decomposition."""
        return FeatureSpectrum.of(np.array(self.features, order="F"), self.columns)

    def part(self, inputs: Int[np.ndarray, " m"]) -> FeatureSample:
        """See ``Sample``."""
        return FeatureSample(self.features[inputs], self.columns[inputs], self.y[inputs])

    @cached_property
    def eigenvalues(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``; zero along what no feature has."""
        rows = len(self.y) - self.spectrum.basis.shape[1]
        return np.concatenate([np.zeros(max(rows - len(self.spectrum.singular), 0)), self.spectrum.singular[::-1] ** 2])

    @property
    def rounding(self) -> float:
        """Zero: squares of singular values have no sign to lose."""
        return 0.0

    def noise(self, eps: float) -> float:
        """Of squares of singular values."""
        return eps**2 * float(self.eigenvalues.max(initial=0.0))

    def left_out(self, ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p n k"]:
        """See ``Sample``."""
        return np.array([self.spectrum.solve(self.y, float(ridge)).loo for ridge in ridges]).reshape(-1, *self.y.shape)

    @property
    def powers(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``; what is outside of all features is the power of the first, whose eigenvalue is zero."""
        rest = self.y - self.spectrum.basis @ (self.spectrum.basis.T @ self.y)
        inside = np.sum((self.spectrum.vectors.T @ rest) ** 2, axis=1)[::-1] / self.y.size
        found = np.zeros(self.rows)
        found[self.rows - len(inside) :] = inside
        if self.rows > len(inside):
            found[0] = max(float(np.sum(rest**2)) / self.y.size - float(inside.sum()), 0.0)
        return found


def _dual_coefs(
    vectors: Float[np.ndarray, "n r"], inverse: Float[np.ndarray, "r p"], projected: Float[np.ndarray, "r k"]
) -> Float[np.ndarray, "p n k"]:
    """(K + ridge)^-1 y for all ridges, in one product."""
    scaled = inverse[:, :, None] * projected[:, None, :]
    return (vectors @ scaled.reshape(len(vectors.T), -1)).reshape(len(vectors), *scaled.shape[1:]).transpose(1, 0, 2)
