r"""Nystrom's kernel, or subset of regressors: for more inputs than a Gram matrix can be stored of.

.. math:: K \to Q = K_{nZ} K_{ZZ}^{-1} K_{Zn} = F F^T, \qquad \hat y(x) = b + K(x, Z)\,\beta

Only n r entries of K are ever read, or computed: its rows at the r landmarks Z, which ``pivoted_cholesky`` chooses, and
its diagonal. The regression on F, with its leave-one-out errors for fixed landmarks, is that of ``feature_ridge``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.learning.feature_ridge import FeatureSpectrum
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
        factor, y, ridge = low_rank.factor, problem.y, problem.ridge
        spectrum = _decomposed(factor, problem)
        fit = spectrum.solve(y, ridge)
        alpha = np.zeros(y.shape)
        alpha[low_rank.pivots] = scipy.linalg.solve_triangular(
            factor[low_rank.pivots], fit.weights, lower=True, trans=1
        )
        intercept = fit.columns[0] if problem.intercept else np.zeros(y.shape[1])
        normal = factor - factor.mean(axis=0) if problem.intercept else factor
        rest = normal.T @ (y - factor @ fit.weights - intercept) - ridge * fit.weights
        residuals = np.linalg.norm(rest, axis=0) / (spectrum.singular.max(initial=0.0) or 1.0) / norms(problem)
        support = np.sort(low_rank.pivots)
        return Solution(
            alpha, intercept, ridge, self, residuals, loo=fit.loo if problem.loo else None, support=support,
            approximation=measure(problem, low_rank, self.seed),
        )  # fmt: skip

    def path(self, problem: Problem, ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """The root mean square leave-one-out error of each ridge; NaN for zero."""
        spectrum = _decomposed(self._landmarks(problem).factor, problem)
        return np.array([rms(spectrum.solve(problem.y, ridge).loo) if ridge > 0 else np.nan for ridge in ridges])

    def _landmarks(self, problem: Problem) -> LowRank:
        return pivoted_cholesky(problem.kernel, self.rank_for(len(problem.y)), problem.memory, self.seed)


def _decomposed(factor: Float[np.ndarray, "n m"], problem: Problem) -> FeatureSpectrum:
    """The features F, beside the intercept if there is one."""
    return FeatureSpectrum.of(factor.copy(), np.ones((len(factor), int(problem.intercept))))


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
    errors = tuple(rms(_decomposed(factor[:, :r], problem).solve(problem.y, problem.ridge).loo) for r in ranks)
    return Approximation(float(low_rank.left.sum() / low_rank.diagonal.sum()), columns, ranks, errors)
