"""Cholesky factorisation in memory, in double precision: exact, n^3 / 3 operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.basics.double import double_precision
from so3ntk.learning.ridge import EPS
from so3ntk.learning.solvers.base import Centring, Problem, Solution, Solver, not_positive_definite, relative_residuals

lapack: Any = scipy.linalg.lapack  # whose functions type checkers do not know


@dataclass(frozen=True)
class Cholesky(Solver):
    """A = L L^T by LAPACK on the host, or by JAX on a device, which then must hold it twice. Always float64.

    device: a ``jax.Device``, as ``jax.devices("gpu")[0]``; None for the host. Leave-one-out residuals cost another
    2 n^3 / 3. Memory: 8 n^2 bytes beyond the kernel (a stored one is read whole), 16 n^2 with leave-one-out.
    """

    device: Any = None
    name = "cholesky"
    has_loo = True

    def bytes_needed(self, n: int, k: int) -> int:
        """One matrix, and a few copies of the targets."""
        return 8 * n * n + 32 * n * k

    def solve(self, problem: Problem) -> Solution:
        """Factorise and substitute."""
        centring = Centring.of(problem)
        factor = self._factor(problem, centring)
        alpha, intercept = centring.solve(
            problem, lambda y: scipy.linalg.cho_solve((factor, True), y, check_finite=False)
        )
        loo = None
        if problem.loo:
            diagonal = inverse_diagonal(factor)
            if problem.intercept:
                diagonal -= 1 / (len(alpha) * (centring.level + problem.ridge))
            single = problem.intercept and len(alpha) == 1
            loo = np.full(alpha.shape, np.nan) if single else alpha / diagonal[:, None]
        residuals = relative_residuals(problem, alpha, intercept)
        return Solution(alpha, intercept, problem.ridge, self, residuals, loo=loo)

    def _factor(self, problem: Problem, centring: Centring) -> Float[np.ndarray, "n n"]:
        matrix = _matrix(problem, centring)
        matrix[np.diag_indices_from(matrix)] += problem.ridge
        norm = lapack.dlange("1", matrix.T)
        factor = _on_host(matrix) if self.device is None else _on_device(matrix, self.device)
        if factor is None or _is_singular(factor, norm, problem, centring):
            raise not_positive_definite(_matrix(problem, centring), problem)
        return factor


def _matrix(problem: Problem, centring: Centring) -> Float[np.ndarray, "n n"]:
    """A - ridge I in an array of its own."""
    return centring.shift(problem.kernel.whole(problem.where), slice(None), slice(None))


def inverse_diagonal(factor: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """The diagonal of (L L^T)^-1: the squared norms of the columns of L^-1, a sum of positive terms."""
    inverse, _ = lapack.dtrtri(factor, lower=1)
    return np.einsum("ij,ij->j", np.tril(inverse), np.tril(inverse))


def _on_host(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"] | None:
    """L in the lower triangle, in the memory of the symmetric matrix; None where it does not exist."""
    try:  # the transpose of an array in C order is one in Fortran order, which LAPACK overwrites
        return scipy.linalg.cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)[0]
    except np.linalg.LinAlgError:
        return None


def _on_device(matrix: Float[np.ndarray, "n n"], device: Any) -> Float[np.ndarray, "n n"] | None:
    with double_precision():
        factor = np.asarray(jax.lax.linalg.cholesky(jax.device_put(matrix, device), symmetrize_input=False))
    return np.asfortranarray(factor) if np.isfinite(factor[-1, -1]) else None


def _is_singular(factor: np.ndarray, norm: float, problem: Problem, centring: Centring) -> bool:
    """A singular matrix can be factorised by rounding. Its eigenvalues decide, but are needed for suspects only."""
    reciprocal, _ = lapack.dpocon(factor, norm, uplo="L")
    if reciprocal >= 10 * len(factor) * EPS:
        return False
    matrix = _matrix(problem, centring)
    smallest = scipy.linalg.eigvalsh(matrix, subset_by_index=(0, 0), check_finite=False)[0]
    return not smallest + problem.ridge > len(matrix) * EPS * np.abs(matrix).max()
