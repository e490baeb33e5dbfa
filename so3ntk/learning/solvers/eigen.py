"""Eigendecomposition in memory: one for all ridges and for training dynamics, about 10 n^3 operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from so3ntk.learning import ridge as closed_form
from so3ntk.learning.ridge import Spectrum
from so3ntk.learning.solvers.base import Problem, Solution, Solver, relative_residuals


@dataclass(frozen=True)
class Eigen(Solver):
    """K = Q diag(w) Q^T by LAPACK, as ``KernelRegressor`` does; with an intercept on vectors that sum to zero.

    The most robust: eigenvalues that are zero to rounding are seen. Memory: 40 n^2 bytes beyond the kernel.
    """

    name = "eigen"
    has_loo = True

    def bytes_needed(self, n: int, k: int) -> int:
        """The kernel, its eigenvectors and LAPACK's workspace."""
        return 40 * n * n + 32 * n * k

    def solve(self, problem: Problem) -> Solution:
        """Decompose, divide, transform back."""
        spectrum = Spectrum.of(problem.kernel.whole(problem.where), problem.intercept)
        spectrum.require(problem.ridge, problem.where)
        fit = closed_form.solve(spectrum, problem.y, problem.ridge)
        residuals = relative_residuals(problem, fit.dual_coef, fit.intercept)
        return Solution(
            fit.dual_coef, fit.intercept, problem.ridge, self, residuals, loo=fit.loo if problem.loo else None
        )

    def path(self, problem: Problem, ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """The root mean square leave-one-out error of each ridge; NaN where one is too small for K."""
        spectrum = Spectrum.of(problem.kernel.whole(problem.where), problem.intercept)
        return closed_form.loo_path(spectrum, problem.y, ridges)
