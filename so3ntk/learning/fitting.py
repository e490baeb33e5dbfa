"""How the estimators fit with a solver of ``so3ntk.solvers``, and how they predict in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.basics.caller import warn
from so3ntk.engine.plan import parse_memory
from so3ntk.errors import RidgePathWarning
from so3ntk.learning.inputs import candidate_ridges, is_precomputed, is_stopped, network_of, training_kernel
from so3ntk.learning.ridge import rms
from so3ntk.learning.solvers import Eigen, LazyGram, Nystrom, Solution, Solver, loo_path, solve
from so3ntk.learning.solvers.choose import solver_of
from so3ntk.matrices.kernel_matrix import KernelMatrix, diagonal_of, kernel_matrix


class SolverFit(NamedTuple):
    """The solution, the ridges tried and their leave-one-out errors (NaN where the solver has none)."""

    solution: Solution
    ridges: Float[np.ndarray, " p"]
    errors: Float[np.ndarray, " p"]


def decomposes(estimator: Any) -> bool:
    """Whether the estimator fits by an eigendecomposition in memory, the default."""
    return estimator.solver is None or estimator.solver == "eigen" or isinstance(estimator.solver, Eigen)


def check_solver(estimator: Any) -> None:
    """ValueError and TypeError for what is no solver, and for parameters that it cannot honour."""
    where, solver = type(estimator).__name__, estimator.solver
    if solver is not None and solver != "auto":
        solver_of(solver, where)
    if decomposes(estimator):
        return
    if is_stopped(estimator):
        raise ValueError(f"{where}: a finite t needs the eigenvectors of the kernel: use solver=None, got {solver!r}.")
    if estimator.ridge is None and not isinstance(_method(estimator), Nystrom):
        raise ValueError(
            f"{where}: ridge=None, chosen by leave-one-out errors, needs solver=None or 'nystrom'; solver={solver!r} needs "
            "a ridge."
        )


def dense_kernel(estimator: Any, X: Any, gram: Any) -> Float[np.ndarray, "n n"]:
    """The kernel of the training inputs in memory: computed, or ``gram``, which may be stored."""
    if gram is None:
        return training_kernel(estimator, X)
    return _checked(estimator, X, gram).whole(type(estimator).__name__)


def fit_by_solver(estimator: Any, X: Any, y: Float[np.ndarray, "n k"], gram: Any, intercept: bool) -> SolverFit:
    """The solution by the estimator's solver, at its ridge or, with Nystrom, at the best of the path."""
    method, options = _method(estimator), {"memory": estimator.memory, "intercept": intercept}
    if gram is not None:
        kernel = _checked(estimator, X, gram)
    elif isinstance(method, Nystrom) and not is_precomputed(estimator.net):
        kernel = LazyGram(network_of(estimator), X, estimator.kernel, estimator.memory, estimator.progress)
    else:
        kernel = kernel_matrix(training_kernel(estimator, X), type(estimator).__name__)
    loo = method is not None and method.has_loo
    if estimator.ridge is not None:
        solution = solve(kernel, y, float(estimator.ridge), method, loo=loo, **options)
        errors = np.array([np.nan if solution.loo is None else rms(solution.loo)])
        return SolverFit(solution, np.array([float(estimator.ridge)]), errors)
    where = type(estimator).__name__
    ridges = candidate_ridges(estimator.ridge_path, diagonal_of(kernel), where)
    errors = loo_path(kernel, y, ridges, method, **options)
    best = int(np.nanargmin(errors))
    if best in (0, len(ridges) - 1) and len(ridges) > 1:
        warn(
            f"{where}: the best ridge, {ridges[best]:.1e}, is at an end of the path: give ridge_path further values.",
            RidgePathWarning,
        )
    return SolverFit(solve(kernel, y, float(ridges[best]), method, loo=True, **options), ridges, errors)


def keep_inputs(estimator: Any, X: Any, solution: Solution) -> Solution:
    """Set ``X_fit_`` to what predictions need: the inputs, or of a low-rank solution the landmarks alone."""
    if is_precomputed(estimator.net):
        return solution
    if solution.support is None:
        estimator.X_fit_ = X
        return solution
    estimator.X_fit_ = X[solution.support]
    return dataclasses.replace(solution, coefficients=solution.coefficients[solution.support], support=None)


def batches(estimator: Any, X: Any) -> Iterator[Any]:
    """Parts of test inputs whose kernels with the training inputs take a quarter of the memory; X itself if that fits."""
    rows = len(X)
    if not is_precomputed(estimator.net):
        rows = max(1, parse_memory(estimator.memory) // (64 * len(estimator.X_fit_)))
    if rows >= len(X):
        yield X
        return
    for start in range(0, len(X), rows):
        yield X[start : start + rows]


def _method(estimator: Any) -> Solver | None:
    solver = estimator.solver
    return None if solver is None or solver == "auto" else solver_of(solver, type(estimator).__name__)


def _checked(estimator: Any, X: Any, gram: Any) -> KernelMatrix:
    where = type(estimator).__name__
    if is_precomputed(estimator.net):
        raise ValueError(f'{where}: with net="precomputed" the kernel is X; do not give gram= as well.')
    kernel = kernel_matrix(gram, where)
    if kernel.shape[0] != len(X):
        raise ValueError(
            f"{where}: expected gram to be the kernel ({len(X)}, {len(X)}) of the training inputs, got {tuple(kernel.shape)}."
        )
    return kernel
