"""Samples of a regression, decomposed once for all ridges: kernels with columns of targets, kernels of blocks, features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.block_ridge import solve_blocks
from so3ntk.learning.feature_ridge import FeatureSpectrum
from so3ntk.learning.ridge import EPS, Spectrum, solve


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
    def left_out(self, ridge: float) -> Float[np.ndarray, "n k"]:
        """y - prediction for each input by all others; NaN where they do not determine it."""

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


class KernelSample(Sample):
    """A kernel (n, n), with an unpenalised intercept or without one."""

    def __init__(self, kernel: Float[np.ndarray, "n n"], y: Float[np.ndarray, "n k"], intercept: bool = False):
        self.kernel, self.y, self.intercept = kernel, y, intercept

    @cached_property
    def spectrum(self) -> Spectrum:
        """The decomposition."""
        return Spectrum.of(self.kernel, self.intercept)

    def part(self, inputs: Int[np.ndarray, " m"]) -> KernelSample:
        """See ``Sample``."""
        return KernelSample(self.kernel[np.ix_(inputs, inputs)], self.y[inputs], self.intercept)

    @property
    def eigenvalues(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``."""
        return self.spectrum.values

    @property
    def rounding(self) -> float:
        """See ``Sample``."""
        return self.spectrum.rounding

    def left_out(self, ridge: float) -> Float[np.ndarray, "n k"]:
        """See ``Sample``."""
        return solve(self.spectrum, self.y, ridge).loo

    @property
    def powers(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``."""
        return np.sum((self.spectrum.vectors.T @ self.y) ** 2, axis=1) / self.y.size


class BlockSample(Sample):
    """A kernel of vectors or tensors: a matrix (n M, n M), the M components of an input side by side; targets (n, M)."""

    def __init__(self, kernel: Float[np.ndarray, "nm nm"], y: Float[np.ndarray, "n m"]):
        self.kernel, self.y = kernel, y

    @cached_property
    def spectrum(self) -> Spectrum:
        """The decomposition."""
        return Spectrum.of(self.kernel, intercept=False)

    @property
    def components(self) -> int:
        """M."""
        return self.y.shape[1]

    def part(self, inputs: Int[np.ndarray, " m"]) -> BlockSample:
        """See ``Sample``."""
        rows = (inputs[:, None] * self.components + np.arange(self.components)).ravel()
        return BlockSample(self.kernel[np.ix_(rows, rows)], self.y[inputs])

    @property
    def eigenvalues(self) -> Float[np.ndarray, " rows"]:
        """See ``Sample``."""
        return self.spectrum.values

    @property
    def rounding(self) -> float:
        """See ``Sample``."""
        return self.spectrum.rounding

    def left_out(self, ridge: float) -> Float[np.ndarray, "n m"]:
        """See ``Sample``."""
        return solve_blocks(self.spectrum, self.y, ridge).loo

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

    def left_out(self, ridge: float) -> Float[np.ndarray, "n k"]:
        """See ``Sample``."""
        return self.spectrum.solve(self.y, ridge).loo

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


def rebuilt(spectrum: Spectrum, y: Float[np.ndarray, "n k"]) -> KernelSample:
    """The sample of a decomposed kernel: with an intercept of K on vectors that sum to zero, which has the same regressions."""
    kernel = (spectrum.vectors * spectrum.values) @ spectrum.vectors.T
    found = KernelSample((kernel + kernel.T) / 2, y, spectrum.row_means is not None)
    found.spectrum = spectrum
    return found
