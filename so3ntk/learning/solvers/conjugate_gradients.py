r"""Preconditioned conjugate gradients: one pass over the kernel for each step, which may stay in its store.

The preconditioner is made of a low-rank factor F F^T of the kernel, with eigenvectors U and eigenvalues s,

.. math:: P^{-1} = (s_r + \lambda)\, U\, \mathrm{diag}(s + \lambda)^{-1} U^T + 1 - U U^T,

so that steps count the spectrum that F leaves. Source: Frangella, Tropp, Udell, Randomized Nystrom preconditioning
(2023), here with the factor of ``pivoted_cholesky``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.errors import NotConvergedError, NotPositiveDefiniteError
from so3ntk.learning.ridge import EPS
from so3ntk.learning.solvers.base import Problem, Solution, Solver, relative_residuals
from so3ntk.learning.solvers.pivoted_cholesky import LowRank, pivoted_cholesky

logger = logging.getLogger("so3ntk")


@dataclass(frozen=True)
class ConjugateGradients(Solver):
    """Conjugate gradients in float64 on a kernel in memory or in a store.

    rank: of the preconditioner, None for the smaller of n / 2 and 1024. tolerance: of |y - A alpha| / |y|; where
    rounding leaves more, eps |A| |alpha|, that is converged too: Cholesky leaves as much. max_steps: passes over the
    kernel. accept_unconverged: return what there is, with ``converged`` False, where NotConvergedError (which carries
    it) would be raised. seed: of the preconditioner's landmarks. Memory: 24 n rank bytes and one stripe of the kernel.
    """

    rank: int | None = None
    tolerance: float = 1e-8
    max_steps: int = 500
    accept_unconverged: bool = False
    seed: int = 0
    name = "cg"

    def rank_for(self, n: int) -> int:
        """The rank that is used."""
        return min(n // 2, 1024) if self.rank is None else min(self.rank, n)

    def bytes_needed(self, n: int, k: int) -> int:
        """The factor, its eigenvectors, and vectors."""
        return 24 * n * self.rank_for(n) + 48 * n * (k + 1)

    def solve(self, problem: Problem) -> Solution:
        """Precondition, iterate, and measure the residual that is left."""
        low_rank = pivoted_cholesky(problem.kernel, self.rank_for(len(problem.y)), problem.memory, self.seed)
        precondition = Preconditioner.of(low_rank, problem.ridge, problem.intercept)
        iteration = Iteration(problem, precondition, self.tolerance, self.max_steps)
        mean = problem.y.mean(axis=0) if problem.intercept else np.zeros(problem.y.shape[1])
        alpha = iteration.run(problem.y - mean)
        intercept = mean
        if problem.intercept:
            alpha = alpha - alpha.mean(axis=0)
            intercept = mean - problem.kernel.multiply(alpha, problem.memory).mean(axis=0)
        residuals = relative_residuals(problem, alpha, intercept)
        history = np.array(iteration.history)
        solution = Solution(
            alpha, intercept, problem.ridge, self, residuals, converged=iteration.converged, history=history
        )
        logger.info("solve: %d steps, residual %.1e", len(history), float(np.max(residuals)))
        if not solution.converged and not self.accept_unconverged:
            raise NotConvergedError(problem.where, len(history), float(np.max(residuals)), self.tolerance, solution)
        return solution


class Preconditioner(NamedTuple):
    """U (n, r), what to multiply along it by, less one; and the largest eigenvalue of the low-rank kernel."""

    vectors: Float[np.ndarray, "n r"]
    gains: Float[np.ndarray, " r"]
    largest: float

    @classmethod
    def of(cls, low_rank: LowRank, ridge: float, intercept: bool) -> Preconditioner:
        """See the head of this file; with an intercept on vectors that sum to zero."""
        factor = low_rank.factor - low_rank.factor.mean(axis=0) if intercept else low_rank.factor
        if factor.shape[1] == 0:
            return cls(np.zeros(factor.shape), np.zeros(0), 0.0)
        vectors, roots, _ = scipy.linalg.svd(factor, full_matrices=False, check_finite=False)
        values = roots**2 + ridge
        safe = np.maximum(values, EPS * values[0])
        return cls(vectors, safe[-1] / safe - 1, float(roots[0] ** 2))

    def __call__(self, v: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """P^-1 v."""
        return v + self.vectors @ (self.gains[:, None] * (self.vectors.T @ v))


@dataclass
class Iteration:
    """A run on several right-hand sides at once, each with its own step lengths, sharing the passes over the kernel."""

    problem: Problem
    precondition: Preconditioner
    tolerance: float
    steps_left: int
    converged: bool = False
    history: list[float] = field(default_factory=list)

    def run(self, rhs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """A^-1 rhs: restarted from the residual as computed anew, until that one is small or no longer falls."""
        sizes = np.linalg.norm(rhs, axis=0)
        sizes = np.where(sizes > 0, sizes, 1.0)
        x, residual = np.zeros_like(rhs), rhs.copy()
        before = np.inf
        while self.steps_left > 0:
            x = x + self._descend(residual, sizes)
            residual = rhs - self._apply(x)
            left = np.linalg.norm(residual, axis=0) / sizes
            floor = 4 * EPS * (self.precondition.largest + self.problem.ridge) * np.linalg.norm(x, axis=0) / sizes
            if np.all(left <= np.maximum(self.tolerance, floor)):
                self.converged = True
                break
            if not left.max() < 0.5 * before:
                break
            before = float(left.max())
        return x

    def _apply(self, v: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """(P K P + ridge I) v, where P subtracts the mean if there is an intercept.

        On both sides: vectors sum to zero only to rounding, and K alone would not be symmetric on what is left.
        """
        if not self.problem.intercept:
            return self.problem.kernel.multiply(v, self.problem.memory) + self.problem.ridge * v
        image = self.problem.kernel.multiply(v - v.mean(axis=0), self.problem.memory)
        return image - image.mean(axis=0) + self.problem.ridge * v

    def _descend(self, residual: np.ndarray, sizes: np.ndarray) -> Float[np.ndarray, "n k"]:
        """One run from zero, until the residual as updated is below half the tolerance."""
        r, x = residual.copy(), np.zeros_like(residual)
        z = self.precondition(r)
        p, rz = z.copy(), np.einsum("ij,ij->j", r, z)
        while self.steps_left > 0:
            self.steps_left -= 1
            image = self._apply(p)
            curvature = np.einsum("ij,ij->j", p, image)
            active = self._check(curvature, np.einsum("ij,ij->j", p, p)) & (rz > 0)
            length = np.divide(rz, curvature, out=np.zeros_like(rz), where=active)
            x += length * p
            r -= length * image
            left = np.linalg.norm(r, axis=0) / sizes
            self.history.append(float(left.max()))
            if not np.any(active & (left > 0.5 * self.tolerance)):
                break
            z = self.precondition(r)
            new = np.einsum("ij,ij->j", r, z)
            p = z + np.divide(new, rz, out=np.zeros_like(rz), where=active) * p
            rz = new
        return x

    def _check(self, curvature: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Which directions have a positive curvature beyond rounding; NotPositiveDefiniteError if one is negative."""
        rounding = 10 * EPS * (self.precondition.largest + self.problem.ridge) * squares
        if np.any(curvature < -rounding):
            worst = int(np.argmin(np.divide(curvature, squares, out=np.zeros_like(squares), where=squares > 0)))
            smallest = float(curvature[worst] / squares[worst]) - self.problem.ridge
            raise NotPositiveDefiniteError(
                self.problem.where, smallest, self.precondition.largest, self.problem.ridge, -2 * smallest, bounds=True
            )
        return curvature > rounding
