r"""Nystrom's kernel, or subset of regressors: for more inputs than a Gram matrix can be stored of.

.. math:: K \to Q = K_{nZ} K_{ZZ}^{-1} K_{Zn} = F F^T, \qquad \hat y(x) = b + K(x, Z)\,\beta

Only n r entries of K are ever read, or computed: its rows at the r landmarks Z, which ``pivoted_cholesky`` chooses, and
its diagonal. With the singular values s and vectors U of F (centred, with an intercept) leave-one-out errors, for fixed
landmarks, are (y_i - f_i) / (1 - H_ii), H = U diag(s^2 / (s^2 + lambda)) U^T, plus 1/n with an intercept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.learning.ridge import rms
from so3ntk.learning.solvers.base import Approximation, Problem, Solution, Solver, norms
from so3ntk.learning.solvers.pivoted_cholesky import LowRank, pivoted_cholesky

#: Columns on which the error of Q is measured.
HELD_OUT = 32


@dataclass(frozen=True)
class Nystrom(Solver):
    """Regression with the low-rank kernel of ``rank`` landmarks; what it costs is in ``Solution.approximation``.

    rank: None for the smaller of n and 1,024. seed: of the choice of landmarks. Exact where K has no higher rank.
    Memory: 32 n rank bytes. A ridge of zero is refused where Q is singular, which it is for rank < n.
    """

    rank: int | None = None
    seed: int = 0
    name = "nystrom"
    has_loo = True

    def rank_for(self, n: int) -> int:
        """The number of landmarks asked for."""
        return min(n, 1024 if self.rank is None else self.rank)

    def bytes_needed(self, n: int, k: int) -> int:
        """F, its singular vectors and their workspace."""
        return 32 * n * self.rank_for(n) + 48 * n * k

    def solve(self, problem: Problem) -> Solution:
        """Landmarks, a regression on their features, and the error of the kernel."""
        if problem.ridge == 0:
            raise ValueError(f"{problem.where}: method nystrom needs a ridge > 0: a kernel of low rank has no inverse.")
        low_rank = self._landmarks(problem)
        features = Features.of(low_rank.factor, problem.y, problem.intercept)
        weights, loo, fitted = features.regress(problem.ridge)
        beta = scipy.linalg.solve_triangular(low_rank.factor[low_rank.pivots], weights, lower=True, trans=1)
        alpha = np.zeros(problem.y.shape)
        alpha[low_rank.pivots] = beta
        intercept = features.mean - features.offset @ weights
        normal = low_rank.factor - features.offset
        rest = normal.T @ (problem.y - fitted) - problem.ridge * weights
        residuals = np.linalg.norm(rest, axis=0) / (features.singular.max(initial=0.0) or 1.0) / norms(problem)
        support = np.sort(low_rank.pivots)
        return Solution(
            alpha, intercept, problem.ridge, self, residuals, loo=loo if problem.loo else None, support=support,
            approximation=measure(problem, low_rank, self.seed),
        )  # fmt: skip

    def path(self, problem: Problem, ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """The root mean square leave-one-out error of each ridge; NaN for zero."""
        features = Features.of(self._landmarks(problem).factor, problem.y, problem.intercept)
        return np.array([rms(features.regress(ridge)[1]) if ridge > 0 else np.nan for ridge in ridges])

    def _landmarks(self, problem: Problem) -> LowRank:
        return pivoted_cholesky(problem.kernel, self.rank_for(len(problem.y)), problem.memory, self.seed)


class Features(NamedTuple):
    """F = U diag(singular) V^T, centred by ``offset`` if there is an intercept, and the targets less their ``mean``."""

    vectors: Float[np.ndarray, "n r"]
    singular: Float[np.ndarray, " r"]
    right: Float[np.ndarray, "r m"]
    offset: Float[np.ndarray, " m"]
    y: Float[np.ndarray, "n k"]
    mean: Float[np.ndarray, " k"]
    intercept: bool

    @classmethod
    def of(cls, factor: Float[np.ndarray, "n m"], y: Float[np.ndarray, "n k"], intercept: bool) -> Features:
        """The singular values of the features."""
        offset = factor.mean(axis=0) if intercept else np.zeros(factor.shape[1])
        mean = y.mean(axis=0) if intercept else np.zeros(y.shape[1])
        vectors, singular, right = scipy.linalg.svd(factor - offset, full_matrices=False, check_finite=False)
        return cls(vectors, singular, right, offset, y - mean, mean, intercept)

    def regress(self, ridge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights (m, k) of the features, leave-one-out residuals (n, k) and fitted values (n, k)."""
        projected = self.vectors.T @ self.y
        kept = self.singular**2 / (self.singular**2 + ridge)
        weights = self.right.T @ ((self.singular / (self.singular**2 + ridge))[:, None] * projected)
        fitted = self.vectors @ (kept[:, None] * projected)
        leverage = self.vectors**2 @ kept + (1 / len(self.y) if self.intercept else 0.0)
        left = np.maximum(1 - leverage, np.finfo(float).tiny)[:, None]
        return weights, (self.y - fitted) / left, fitted + self.mean


def measure(problem: Problem, low_rank: LowRank, seed: int) -> Approximation:
    """How far Q is from K, and the leave-one-out errors of an eighth, a quarter, a half and all of the landmarks."""
    factor, n = low_rank.factor, len(problem.y)
    others = np.setdiff1d(np.arange(n), low_rank.pivots)
    held_out = np.random.default_rng(seed + 1).choice(others, min(HELD_OUT, len(others)), replace=False)
    columns = 0.0
    if len(held_out):
        rows = problem.kernel.take(np.sort(held_out), problem.memory)
        columns = float(np.linalg.norm(rows - factor[np.sort(held_out)] @ factor.T) / np.linalg.norm(rows))
    ranks = tuple(sorted({max(1, factor.shape[1] // part) for part in (8, 4, 2, 1)}))
    errors = tuple(
        rms(Features.of(factor[:, :r], problem.y, problem.intercept).regress(problem.ridge)[1]) for r in ranks
    )
    return Approximation(float(low_rank.left.sum() / low_rank.diagonal.sum()), columns, ranks, errors)
