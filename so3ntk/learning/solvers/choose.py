"""``solve``: one interface to all solvers, and the choice among them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import ArrayLike
from so3ntk.engine.plan import parse_memory
from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.predict.inputs import number, targets
from so3ntk.learning.ridge import rms
from so3ntk.learning.solvers.base import Problem, Solution, Solver
from so3ntk.learning.solvers.blocked import BlockedCholesky
from so3ntk.learning.solvers.cholesky import Cholesky
from so3ntk.learning.solvers.conjugate_gradients import ConjugateGradients
from so3ntk.learning.solvers.eigen import Eigen
from so3ntk.learning.solvers.jaxmg import JaxMG
from so3ntk.learning.solvers.nystrom import Nystrom
from so3ntk.matrices.kernel_matrix import MatrixLike, kernel_matrix

logger = logging.getLogger("so3ntk")

METHODS: Mapping[str, type[Solver]] = MappingProxyType(
    {kind.name: kind for kind in (Cholesky, Eigen, BlockedCholesky, ConjugateGradients, Nystrom, JaxMG)}
)


def solve(
    kernel: MatrixLike,
    y: ArrayLike,
    ridge: float,
    method: str | Solver | None = None,
    memory: str | int = "2GiB",
    *,
    intercept: bool = False,
    loo: bool = False,
) -> Solution:
    r"""The coefficients of kernel ridge regression, (K + ridge I) alpha = y - b, by the method that fits.

    kernel: symmetric (n, n), anything with ``shape``, ``dtype`` and slices: an array, a memory map, a Zarr array, a stored
    Gram matrix, or a ``LazyGram``. y: (n,) or (n, k). ridge: absolute. intercept: whether to fit b, without a penalty.
    loo: whether to compute leave-one-out residuals (Cholesky, eigen and nystrom have them).

    method: "cholesky", "eigen", "blocked", "cg", "nystrom", "jaxmg", or a solver with options such as
    ``ConjugateGradients(rank=500)``; None for Cholesky where it fits the memory, else conjugate gradients. memory: what may
    be used beyond the kernel, bytes or "2GiB"; each solver documents its need. The choice and the need are stated in
    the log (``logging.getLogger("so3ntk")``, level INFO).

    Raises NotPositiveDefiniteError, NotConvergedError (which carries the solution), MemoryError if a method that was
    asked for does not fit, PrecisionError for kernels with NaN, ValueError and TypeError for wrong arguments.
    """
    where = "solve"
    matrix = kernel_matrix(kernel, where)
    values = targets(y, matrix.shape[0], where)
    problem = Problem(
        matrix, values.reshape(len(values), -1), number(ridge, where, "ridge"), bool(intercept), bool(loo),
        parse_memory(memory), where,
    )  # fmt: skip
    solver = _chosen(problem, method)
    return _shaped(solver.solve(problem), values.shape)


def loo_path(
    kernel: MatrixLike,
    y: ArrayLike,
    ridges: ArrayLike,
    method: str | Solver | None = None,
    memory: str | int = "2GiB",
    *,
    intercept: bool = False,
) -> Float[np.ndarray, " p"]:
    """The root mean square leave-one-out error, over rows and outputs, for each ridge; NaN where one is too small.

    "eigen" (the default where it fits) and "nystrom" need one decomposition for all ridges, "cholesky" one for each.
    Other arguments and errors as ``solve``.
    """
    where = "loo_path"
    matrix = kernel_matrix(kernel, where)
    values = targets(y, matrix.shape[0], where)
    ridges = np.array([number(ridge, where, "ridges") for ridge in np.atleast_1d(np.asarray(ridges, np.float64))])
    problem = Problem(matrix, values.reshape(len(values), -1), 0.0, bool(intercept), True, parse_memory(memory), where)
    solver = _chosen(problem, Eigen() if method is None else method)
    if isinstance(solver, Eigen | Nystrom):
        return solver.path(problem, ridges)
    return np.array([_loo_error(solver, problem, ridge) for ridge in ridges])


def solver_of(method: str | Solver, where: str) -> Solver:
    """The solver of a name, with its defaults, or as given. ValueError and TypeError for anything else."""
    if isinstance(method, Solver):
        return method
    if not isinstance(method, str):
        raise TypeError(
            f"{where}: expected a method's name or a solver such as so3ntk.solvers.Nystrom(), got {method!r}."
        )
    if method not in METHODS:
        raise ValueError(f"{where}: expected a method of {', '.join(METHODS)}, or None, got {method!r}.")
    return METHODS[method]()


def _chosen(problem: Problem, method: str | Solver | None) -> Solver:
    """The method asked for, or the first that fits; with its need in the log."""
    n, k = problem.y.shape
    if method is not None:
        solver, why = solver_of(method, problem.where), "as asked for"
        if solver.bytes_needed(n, k) > problem.memory:
            raise MemoryError(
                f"{problem.where}: method {solver.name} needs {_mib(solver.bytes_needed(n, k))} MiB beyond the kernel for "
                f"n = {n}, more than the budget of {_mib(problem.memory)} MiB. Raise memory=, lower its rank or block if "
                'it has one, or use method "cg" or "nystrom".'
            )
    else:
        solver, why = _automatic(problem)
    if problem.loo and not solver.has_loo:
        raise ValueError(
            f"{problem.where}: method {solver.name} ({why}) has no leave-one-out residuals; cholesky, eigen and nystrom do."
        )
    logger.info(
        "%s: n = %d, k = %d, method %s (%s), needs %d of %d MiB beyond the kernel",
        problem.where, n, k, solver, why, _mib(solver.bytes_needed(n, k)), _mib(problem.memory),
    )  # fmt: skip
    return solver


def _automatic(problem: Problem) -> tuple[Solver, str]:
    n, k = problem.y.shape
    if Cholesky().bytes_needed(n, k) <= problem.memory:
        return Cholesky(), "exact, and fits the memory"
    rank = min(ConjugateGradients().rank_for(n), (problem.memory // 2 - 48 * n * (k + 1)) // (24 * n))
    if rank < 1:
        raise MemoryError(
            f"{problem.where}: {_mib(problem.memory)} MiB are too little for n = {n}: conjugate gradients need at least "
            f"{_mib(96 * n * (k + 2))} MiB. Raise memory=."
        )
    return ConjugateGradients(rank=rank), "Cholesky does not fit the memory"


def _loo_error(solver: Solver, problem: Problem, ridge: float) -> float:
    try:
        residuals = solver.solve(dataclasses.replace(problem, ridge=float(ridge))).loo
    except NotPositiveDefiniteError:
        return float("nan")
    return float("nan") if residuals is None else rms(residuals)


def _shaped(solution: Solution, shape: tuple[int, ...]) -> Solution:
    """For targets (n,): vectors and numbers in place of columns."""
    if len(shape) == 2:
        return solution
    changes = {
        name: getattr(solution, name)[:, 0] for name in ("coefficients", "loo") if getattr(solution, name) is not None
    }
    changes |= {name: float(getattr(solution, name)[0]) for name in ("intercept", "residuals")}
    return Solution(**(vars(solution) | changes))


def _mib(size: int) -> int:
    return -(-size // 2**20)
