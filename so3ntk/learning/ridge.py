r"""Kernel ridge regression in closed form: one eigendecomposition for all ridges, exact leave-one-out errors.

The model y = b + f + noise, with f a Gaussian process of covariance K and noise of variance lambda, has the
solution

.. math:: \begin{pmatrix} K + \lambda I & 1 \\ 1^T & 0 \end{pmatrix}
          \begin{pmatrix} \alpha \\ b \end{pmatrix} = \begin{pmatrix} y \\ 0 \end{pmatrix},

where the intercept b has no penalty; without one alpha = (K + lambda I)^-1 y. alpha sums to zero, so only K
on vectors that sum to zero matters. With Q diag(w) Q^T the decomposition of K there (without an intercept:
everywhere)

.. math:: \alpha = C y, \quad C = Q\,\mathrm{diag}(w + \lambda)^{-1} Q^T, \quad
          b = \mathrm{mean}(y - K \alpha), \qquad
          y_i - \hat y_i^{(-i)} = \alpha_i / C_{ii},

the last being the residual of row i as predicted from all others. C is the top left block of the bordered
matrix's inverse, and its diagonal is a sum of positive terms. Each ridge costs n^2. All is NumPy in float64.

The targets' scale under covariance s^2 (K + lambda I) is estimated from the r eigenvectors, r = n - 1 with an intercept
(which takes one degree of freedom) and n without:

.. math:: s^2 = y^T \alpha / r,

the maximiser of the likelihood of what the intercept leaves, the restricted likelihood; for such targets its mean is s^2.

Weights w_i of the rows divide the noise, lambda / w_i, so that a row of weight 2 is as good as two equal rows, and one of weight
zero is not there. With W = diag(w) and Q diag(v) Q^T the decomposition of W^{1/2} K W^{1/2} (with an intercept on vectors that are
orthogonal to the diagonal of W^{1/2}) the formulas hold for the columns of W^{1/2} Q in place of Q, and weighted means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.basics.caller import warn
from so3ntk.errors import NotPositiveDefiniteError, RidgePathWarning

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Spectrum:
    """K = vectors diag(values) vectors^T, values ascending; with an intercept on vectors that sum to zero.

    row_means: of K, None without an intercept. rounding: how large the errors of the eigenvalues can be. weights: of the
    rows, None for ones; else values are those of the weighted matrix and vectors its eigenvectors times the weights' roots.
    """

    values: Float[np.ndarray, " r"]
    vectors: Float[np.ndarray, "n r"]
    row_means: Float[np.ndarray, " n"] | None
    rounding: float
    weights: Float[np.ndarray, " n"] | None = None

    @classmethod
    def of(
        cls, kernel: Float[np.ndarray, "n n"], intercept: bool, weights: Float[np.ndarray, " n"] | None = None
    ) -> Spectrum:
        """Of a finite symmetric matrix; weights: at least zero, and one above."""
        kernel = np.asarray(kernel, np.float64)
        if weights is not None:
            return cls._weighted(kernel, intercept, weights)
        rounding = len(kernel) * EPS * float(np.abs(kernel).max())
        if not intercept:
            return cls(*_eigh(kernel), None, rounding)
        values, vectors = _orthogonal_to(np.full(len(kernel), len(kernel) ** -0.5), kernel)
        return cls(values, vectors, kernel.mean(axis=1), rounding)

    @classmethod
    def _weighted(cls, kernel: Float[np.ndarray, "n n"], intercept: bool, weights: Float[np.ndarray, " n"]) -> Spectrum:
        kept = np.flatnonzero(weights)
        roots = np.sqrt(weights[kept])
        matrix = roots[:, None] * kernel[np.ix_(kept, kept)] * roots
        values, inner = _orthogonal_to(roots / np.linalg.norm(roots), matrix) if intercept else _eigh(matrix)
        vectors = np.zeros((len(kernel), len(values)))
        vectors[kept] = roots[:, None] * inner
        row_means = kernel @ weights / weights.sum() if intercept else None
        return cls(values, vectors, row_means, len(kept) * EPS * float(np.abs(matrix).max()), weights)

    @property
    def shares(self) -> Float[np.ndarray, " n"]:
        """What the rows have in weighted means."""
        if self.weights is None:
            return np.full(len(self.vectors), 1 / len(self.vectors))
        return self.weights / self.weights.sum()

    def mean(self, y: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
        """The weighted mean of each output; of equal targets their value, as ``mean_of``."""
        if self.weights is None:
            return mean_of(y)
        kept = y[self.weights > 0]
        return np.where(np.ptp(kept, axis=0) == 0, kept[0], self.shares @ y)

    def error_of(self, residuals: Float[np.ndarray, "n ..."]) -> float:
        """The root mean square of residuals, weighted."""
        if self.weights is None:
            return rms(residuals)
        kept = self.weights > 0
        return float(np.sqrt(np.average(residuals[kept] ** 2, axis=0, weights=self.weights[kept]).mean()))

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue; infinity where there is none (one row and an intercept)."""
        return float(np.min(self.values, initial=np.inf))

    def require(self, ridge: float, where: str) -> None:
        """NotPositiveDefiniteError unless K + ridge I is positive definite beyond rounding."""
        if not self.smallest + ridge > self.rounding:
            raise self.error(ridge, where)

    def admits(self, ridges: Float[np.ndarray, " p"]) -> np.ndarray:
        """Which ridges are worth trying: positive definite, and above twice the most negative eigenvalue.

        An eigenvalue -d of what should be positive semi-definite says that all of them are uncertain by d.
        """
        return (self.smallest + ridges > self.rounding) & (ridges >= -2 * self.smallest)

    def error(self, ridge: float, where: str) -> NotPositiveDefiniteError:
        """The error for a ridge that is too small."""
        needed = 1.1 * (max(0.0, -2 * self.smallest) + 2 * self.rounding) or EPS
        matrix = "K" if self.row_means is None else "K (on vectors that sum to zero, beside the intercept)"
        return NotPositiveDefiniteError(where, self.smallest, float(self.values[-1]), ridge, needed, matrix)


class RidgeFit(NamedTuple):
    """Of k outputs: alpha, the intercept, leave-one-out residuals and the amplitude (y^T alpha / r)^(1/2)."""

    dual_coef: Float[np.ndarray, "n k"]
    intercept: Float[np.ndarray, " k"]
    loo: Float[np.ndarray, "n k"]
    amplitude: Float[np.ndarray, " k"]


def solve(spectrum: Spectrum, y: Float[np.ndarray, "n k"], ridge: float) -> RidgeFit:
    """The solution for one ridge that the spectrum admits; see the head of this file.

    Leave-one-out residual and amplitude are NaN for a single row with an intercept: beside it there is nothing to fit.
    The amplitude of constant targets is zero, to the bit.
    """
    vectors = spectrum.vectors
    inverse = 1 / (spectrum.values + ridge)
    # Q^T annihilates the mean only to rounding, which a small ridge amplifies: total energies have a large one.
    mean = np.zeros(y.shape[1]) if spectrum.row_means is None else spectrum.mean(y)
    projected = vectors.T @ (y - mean)
    dual_coef = vectors @ (inverse[:, None] * projected)
    diagonal = np.einsum("ik,ik,k->i", vectors, vectors, inverse)[:, None]
    loo = np.divide(dual_coef, diagonal, out=np.full(y.shape, np.nan), where=diagonal > 0)
    intercept = mean if spectrum.row_means is None else mean - spectrum.row_means @ dual_coef
    freedom = len(inverse) or np.nan
    return RidgeFit(dual_coef, intercept, loo, np.sqrt(inverse @ projected**2 / freedom))


def mean_of(y: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """The mean of each output; of equal targets their value, which the sum need not give to the bit."""
    return np.where(np.ptp(y, axis=0) == 0, y[0], y.mean(axis=0))


def warn_if_flat(amplitude: Float[np.ndarray, " k"], where: str) -> None:
    """Warn that standard deviations are zero, as the targets of an output do not vary."""
    if np.any(amplitude == 0):
        warn(
            f"{where}: the training targets are constant, so the amplitude of the Gaussian process is estimated as zero, and "
            "all standard deviations are zero with it. They say nothing about the error at other inputs.",
        )


def loo_path(
    spectrum: Spectrum,
    y: Float[np.ndarray, "n k"],
    ridges: Float[np.ndarray, " p"],
    solve: Callable[[Spectrum, np.ndarray, float], RidgeFit] = solve,
) -> Float[np.ndarray, " p"]:
    """Root mean square leave-one-out error over rows and outputs, for each ridge; NaN where not admitted."""
    errors = np.full(len(ridges), np.nan)
    for index in np.flatnonzero(spectrum.admits(ridges)):
        errors[index] = spectrum.error_of(solve(spectrum, y, ridges[index]).loo)
    return errors


def best_ridge(
    spectrum: Spectrum,
    ridges: Float[np.ndarray, " p"],
    errors: Float[np.ndarray, " p"],
    scale: float,
    where: str,
) -> int:
    """The index of the smallest leave-one-out error, of ascending ridges and their ``loo_path``.

    Ridges not admitted are skipped; NotPositiveDefiniteError if none is left. A single row has no errors: the
    smallest ridge left. Warns (RidgePathWarning) if the best is the first or last tried and the error still
    changes there by a thousandth per step, or if only the last is left. scale: the size of the targets, below
    whose rounding errors are not told apart.
    """
    admitted = np.flatnonzero(spectrum.admits(ridges))
    if len(admitted) == 0:
        raise spectrum.error(float(ridges[-1]), where)
    tried = errors[admitted]
    if np.isnan(tried).any():
        return int(admitted[0])
    best, last = int(np.argmin(tried)), len(tried) - 1
    tolerance = len(spectrum.vectors) * EPS * scale
    neighbours = [k for k in (best - 1, best + 1) if 0 <= k <= last]
    at_end = len(neighbours) == 1 and tried[neighbours[0]] > 1.001 * tried[best] + tolerance
    if at_end or last == 0 < len(ridges) - 1:
        _warn(spectrum, ridges, int(admitted[best]), where)
    return int(admitted[best])


class PathFit(NamedTuple):
    """The solution for one ridge, the ridges tried, ascending, and their leave-one-out errors; NaN where there are none."""

    solution: RidgeFit
    ridge: float
    ridges: Float[np.ndarray, " p"]
    errors: Float[np.ndarray, " p"]

    @property
    def error(self) -> float:
        """The leave-one-out error of the solution."""
        return float(np.min(self.errors[self.ridges == self.ridge]))


def solve_best(
    spectrum: Spectrum,
    y: Float[np.ndarray, "n k"],
    ridge: float | None,
    path: Float[np.ndarray, " p"],
    where: str,
    solve: Callable[[Spectrum, np.ndarray, float], RidgeFit] = solve,
) -> PathFit:
    """The solution for the ridge given, or for None that of the path with the smallest leave-one-out error.

    Raises NotPositiveDefiniteError for a ridge that is too small; errors and warnings of a path: see ``best_ridge``.
    """
    if ridge is None:
        errors = loo_path(spectrum, y, path, solve)
        best = float(path[best_ridge(spectrum, path, errors, rms(y), where)])
        return PathFit(solve(spectrum, y, best), best, path, errors)
    ridge = float(ridge)
    spectrum.require(ridge, where)
    solution = solve(spectrum, y, ridge)
    return PathFit(solution, ridge, np.array([ridge]), np.array([spectrum.error_of(solution.loo)]))


def posterior_variance(
    spectrum: Spectrum, ridge: float, cross: Float[np.ndarray, "m n"], prior: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    r"""The variance of b + f at test inputs, in units of K and without the noise.

    .. math:: K(x, x) - k^T A^{-1} k + \frac{(1 - 1^T A^{-1} k)^2}{1^T A^{-1} 1}, \qquad
              k_i = K(x, x_i), \quad A = K + \lambda I

    The last term is what the intercept adds, with a flat prior on it. cross: rows k; prior: K(x, x).
    Negative values, which only errors of K can leave, are set to zero; warns if they exceed 1e-6 of K(x, x).
    """
    if spectrum.row_means is None:
        variance = np.array(prior, np.float64)
    else:  # the same in terms of f(x) - mean_i f(x_i): K is needed on vectors that sum to zero only
        variance = prior - 2 * cross @ spectrum.shares + _variance_of_mean(spectrum, ridge)
        cross = cross - spectrum.row_means
    variance -= (cross @ spectrum.vectors) ** 2 @ (1 / (spectrum.values + ridge))
    lowest = float(np.min(variance, initial=0.0))
    if lowest < -1e-6 * np.max(np.abs(prior), initial=0.0):
        warn(
            f"posterior variances down to {lowest:.1e} are set to zero: the kernel is not positive definite "
            "to this accuracy. Refine its quadrature (net.calibrate, rtol) or raise ridge.",
            RuntimeWarning,
        )
    return np.maximum(variance, 0.0)


def posterior_covariance(
    spectrum: Spectrum, ridge: float, cross: Float[np.ndarray, "m n"], prior: Float[np.ndarray, "m m"]
) -> Float[np.ndarray, "m m"]:
    """The covariances of which ``posterior_variance`` has the diagonal, to rounding; prior: K(x, x')."""
    covariance = np.array(prior, np.float64)
    if spectrum.row_means is not None:
        means = cross @ spectrum.shares
        covariance += _variance_of_mean(spectrum, ridge) - means[:, None] - means
        cross = cross - spectrum.row_means
    projected = (cross @ spectrum.vectors) / np.sqrt(spectrum.values + ridge)
    return covariance - projected @ projected.T


def _variance_of_mean(spectrum: Spectrum, ridge: float) -> float:
    """That of the weighted mean of the rows' targets, in units of K, beside that of b."""
    assert spectrum.row_means is not None
    total = len(spectrum.vectors) if spectrum.weights is None else spectrum.weights.sum()
    return float(spectrum.shares @ spectrum.row_means + ridge / total)


def rms(values: np.ndarray) -> float:
    """The root mean square of all entries."""
    return float(np.sqrt(np.mean(values**2)))


def _eigh(matrix: Float[np.ndarray, "r r"]) -> tuple[np.ndarray, np.ndarray]:
    if len(matrix) == 0:
        return np.zeros(0), np.zeros((0, 0))
    return scipy.linalg.eigh(matrix, driver="evd", check_finite=False)


def _orthogonal_to(unit: Float[np.ndarray, " n"], kernel: Float[np.ndarray, "n n"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors on vectors that are orthogonal to a unit vector.

    By the reflection I - 2 v v^T that maps it onto the first axis.
    """
    mirror = np.array(unit)
    mirror[0] += 1
    mirror /= np.linalg.norm(mirror)
    values, vectors = _eigh(_reflect_both_sides(kernel, mirror)[1:, 1:])
    vectors = np.concatenate([np.zeros((1, len(values))), vectors])
    return values, vectors - np.outer(2 * mirror, mirror @ vectors)


def _reflect_both_sides(kernel: Float[np.ndarray, "n n"], v: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    """(I - 2 v v^T) K (I - 2 v v^T), symmetric to the bit."""
    product = kernel @ v
    update = np.outer(v, 2 * (product - (v @ product) * v))
    return kernel - (update + update.T)


def _warn(spectrum: Spectrum, ridges: np.ndarray, best: int, where: str) -> None:
    if best == len(ridges) - 1:
        advice = "the largest of the path: give ridge_path larger values if the kernel explains the targets at all"
    elif best == 0:
        advice = "the smallest of the path: give ridge_path smaller values, or ridge=0"
    else:
        advice = (
            "the smallest that leaves K + ridge I positive definite, as K has the eigenvalue "
            f"{spectrum.smallest:.1e}: for SO(3) networks refine the quadrature (net.calibrate, rtol), and "
            "compute in double precision"
        )
    warn(f"{where}: the best ridge, {ridges[best]:.1e}, is {advice}.", RidgePathWarning)
