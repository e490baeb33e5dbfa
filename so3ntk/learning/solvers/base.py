r"""What a solver is: from a kernel and targets to the coefficients of kernel ridge regression.

.. math:: \hat y(x) = b + \sum_i \alpha_i K(x, x_i), \qquad (K + \lambda I)\,\alpha = y - b

without an intercept b = 0; with one, which has no penalty, the coefficients of each output sum to zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Int

from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.ridge import EPS
from so3ntk.matrices.kernel_matrix import KernelMatrix, diagonal_of


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be solved: a checked kernel (n, n), targets (n, k) in float64, and how.

    loo: whether leave-one-out residuals are wanted. memory: bytes beyond the kernel. where: the caller, for errors.
    """

    kernel: KernelMatrix
    y: Float[np.ndarray, "n k"]
    ridge: float
    intercept: bool
    loo: bool
    memory: int
    where: str


@dataclass(frozen=True)
class Approximation:
    """What a low-rank kernel Q in place of K costs.

    trace: tr(K - Q) / tr(K), exact. columns: |K - Q| / |K| (Frobenius) on random columns that Q does not reproduce by
    construction. ranks and loo_errors: the root mean square leave-one-out error of the regression with the first so
    many landmarks; where it no longer falls, more of them do not help.
    """

    trace: float
    columns: float
    ranks: tuple[int, ...]
    loo_errors: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients (n,) or (n, k) as the targets, and how good they are.

    intercept: b, a number or (k,). method: the solver. residuals: |y - b - (K + ridge I) alpha| / |y|, a number or (k,),
    y centred if there is an intercept; for Nystrom, whose kernel is another, of that kernel. converged: False only for
    an iteration that was stopped early. history: the largest residual after each step of an iteration. loo: leave-one-out
    residuals y_i - f_(-i)(x_i), where asked for. support: the rows whose coefficients are not zero, None for all.
    approximation: what a low-rank kernel costs.
    """

    coefficients: Float[np.ndarray, "n ..."]
    intercept: Any
    ridge: float
    method: Solver
    residuals: Any
    converged: bool = True
    history: Float[np.ndarray, " s"] | None = None
    loo: Float[np.ndarray, "_n ..."] | None = None
    support: Int[np.ndarray, " m"] | None = None
    approximation: Approximation | None = None

    def predict(self, cross: Array | np.ndarray) -> Float[np.ndarray, "m ..."]:
        """The predictions at m inputs of kernel ``cross`` (m, n) with the training inputs."""
        if self.support is not None and cross.shape[1] != len(self.support):
            cross = cross[:, self.support]
        alpha = self.coefficients if self.support is None else self.coefficients[self.support]
        return np.asarray(cross, np.float64) @ alpha + self.intercept


class Solver(ABC):
    """One algorithm; a subclass is a frozen dataclass of its options."""

    #: The name by which ``solve`` knows it.
    name: str
    #: Whether leave-one-out residuals come with the solution.
    has_loo: bool = False

    @abstractmethod
    def bytes_needed(self, n: int, k: int) -> int:
        """Memory beyond the kernel, in bytes, for n inputs and k outputs."""

    @abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """The solution. NotPositiveDefiniteError if K + ridge I is not positive definite."""


class Centring(NamedTuple):
    r"""What an intercept makes of the matrix: positive definite on vectors that sum to zero is enough.

    .. math:: A_{ij} = K_{ij} - m_i - m_j + \mu + t/n + \lambda\,\delta_{ij}, \qquad m = K 1 / n, \quad \mu = 1^T m / n

    is K + lambda I on these vectors and t + lambda on the constant one, t being the trace of K: the solution of
    A alpha = y - mean(y) sums to zero, and b = mean(y - K alpha). Without an intercept A = K + lambda I.
    """

    means: Float[np.ndarray, " n"]
    level: float
    constant: float

    @classmethod
    def of(cls, problem: Problem) -> Centring:
        """Row means and mu + t/n, at the cost of one pass over the kernel; zeros without an intercept."""
        n = len(problem.y)
        if not problem.intercept:
            return cls(np.zeros(n), 0.0, 0.0)
        means = problem.kernel.multiply(np.ones((n, 1)), problem.memory)[:, 0] / n
        trace = float(diagonal_of(problem.kernel).sum())
        return cls(means, trace, float(means.mean()) + trace / n)

    def shift(self, block: Float[np.ndarray, "a b"], rows: slice, columns: slice) -> Float[np.ndarray, "a b"]:
        """A block of K turned into that of A - lambda I, in place."""
        if self.level:
            block -= self.means[rows, None]
            block -= self.means[columns] - self.constant
        return block

    def solve(
        self, problem: Problem, apply_inverse: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, " k"]]:
        """alpha and b from the inverse of A."""
        if not problem.intercept:
            return apply_inverse(problem.y), np.zeros(problem.y.shape[1])
        mean = problem.y.mean(axis=0)
        alpha = apply_inverse(problem.y - mean)
        alpha = alpha - alpha.mean(axis=0)
        return alpha, mean - self.means @ alpha


def relative_residuals(problem: Problem, alpha: np.ndarray, intercept: np.ndarray) -> Float[np.ndarray, " k"]:
    """|y - b - A alpha| / |y| for each output, at the cost of one pass over the kernel."""
    rest = problem.y - intercept - problem.ridge * alpha - problem.kernel.multiply(alpha, problem.memory)
    return np.linalg.norm(rest, axis=0) / norms(problem)


def norms(problem: Problem) -> Float[np.ndarray, " k"]:
    """|y| of each output, centred if there is an intercept; 1 where it vanishes."""
    y = problem.y - problem.y.mean(axis=0) if problem.intercept else problem.y
    sizes = np.linalg.norm(y, axis=0)
    return np.where(sizes > 0, sizes, 1.0)


def not_positive_definite(matrix: Float[np.ndarray, "n n"], problem: Problem) -> NotPositiveDefiniteError:
    """The error for a matrix A - ridge I, whose eigenvalues are computed to say which ridge would do."""
    values = scipy.linalg.eigvalsh(matrix, check_finite=False)
    smallest, largest = float(values[0]), float(values[-1])
    rounding = len(matrix) * EPS * float(np.abs(matrix).max())
    needed = 1.1 * (max(0.0, -2 * smallest) + 2 * rounding) or EPS
    name = "K (on vectors that sum to zero, beside the intercept)" if problem.intercept else "K"
    return NotPositiveDefiniteError(problem.where, smallest, largest, problem.ridge, needed, name)
