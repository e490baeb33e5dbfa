"""How the estimators fit columns of numbers, by a decomposition or a solver, and how they predict in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.basics.caller import warn
from so3ntk.engine.plan import parse_memory
from so3ntk.errors import RidgePathWarning
from so3ntk.learning.inputs import (
    ColumnEstimator,
    candidate_ridges,
    check_inputs,
    check_parameters,
    cross_kernel,
    is_precomputed,
    is_stopped,
    network_of,
    training_kernel,
)
from so3ntk.learning.predict.relaxation import diverges, stopped
from so3ntk.learning.ridge import PathFit, RidgeFit, Spectrum, mean_of, rms, solve_best
from so3ntk.learning.solvers import Eigen, LazyGram, Nystrom, Solution, Solver, loo_path, solve
from so3ntk.learning.solvers.choose import solver_of
from so3ntk.matrices.kernel_matrix import KernelMatrix, MatrixLike, diagonal_of, kernel_matrix


class ColumnFit(NamedTuple):
    """alpha, the intercept and what else is known of a fit; the spectrum where K was decomposed."""

    solution: RidgeFit
    spectrum: Spectrum | None


def training_inputs(estimator: ColumnEstimator, X: Any) -> Any:
    """The checked training inputs. ValueError and TypeError for these, and for parameters that no data can make right."""
    check_parameters(estimator)
    check_solver(estimator)
    return check_inputs(estimator, X, reset=True)


def fit_columns(
    estimator: ColumnEstimator,
    X: Any,
    y: Float[np.ndarray, "n k"],
    gram: MatrixLike | None,
    intercept: bool,
    weights: Float[np.ndarray, " n"] | None = None,
) -> ColumnFit:
    """The fit of checked inputs, or of their kernel ``gram``, to targets y with checked weights, at the ridge given or the best of the path.

    Sets ``ridge_``, ``loo_error_``, ``ridge_path_``, ``loo_path_``, ``X_fit_`` and a solver's ``solution_``. Raises and
    warns as ``KernelRegressor.fit``.
    """
    if weights is not None and (is_stopped(estimator) or not decomposes(estimator)):
        raise ValueError(
            f"{type(estimator).__name__}.fit: weights need the solution at the end and a decomposition: fit with t=None and "
            "solver=None."
        )
    if decomposes(estimator):
        kernel = _dense_kernel(estimator, X, gram)
        spectrum = Spectrum.of(kernel, intercept, weights)
        found = _by_spectrum(estimator, spectrum, np.diag(kernel), y)
        if not is_precomputed(estimator.net):
            estimator.X_fit_ = X
    else:
        found, spectrum = _by_solver(estimator, X, y, gram, intercept), None
    estimator.ridge_, estimator.loo_error_ = found.ridge, found.error
    estimator.ridge_path_, estimator.loo_path_ = found.ridges, found.errors
    return ColumnFit(found.solution, spectrum)


def means(estimator: ColumnEstimator, X: Any) -> Float[np.ndarray, "m ..."]:
    """The predictions at checked test inputs."""
    products = [cross_kernel(estimator, part) @ estimator.dual_coef_ for part in batches(estimator, X)]
    return np.concatenate(products) + estimator.intercept_


def decomposes(estimator: ColumnEstimator) -> bool:
    """Whether the estimator fits by an eigendecomposition in memory, the default."""
    return estimator.solver is None or estimator.solver == "eigen" or isinstance(estimator.solver, Eigen)


def check_solver(estimator: ColumnEstimator) -> None:
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


def batches(estimator: ColumnEstimator, X: Any) -> Iterator[Any]:
    """Parts of test inputs whose kernels with the training inputs take a quarter of the memory; X itself if that fits."""
    rows = len(X)
    if not is_precomputed(estimator.net):
        rows = max(1, parse_memory(estimator.memory) // (64 * len(estimator.X_fit_)))
    if rows >= len(X):
        yield X
        return
    for start in range(0, len(X), rows):
        yield X[start : start + rows]


def _dense_kernel(estimator: ColumnEstimator, X: Any, gram: MatrixLike | None) -> Float[np.ndarray, "n n"]:
    """The kernel of the training inputs in memory: computed, or ``gram``, which may be stored."""
    if gram is None:
        return training_kernel(estimator, X)
    return _checked(estimator, X, gram).whole(type(estimator).__name__)


def _by_spectrum(
    estimator: ColumnEstimator, spectrum: Spectrum, diagonal: Float[np.ndarray, " n"], y: Float[np.ndarray, "n k"]
) -> PathFit:
    r"""The ridge solution, or gradient flow stopped at ``t``, of which only alpha and the intercept are known.

    .. math:: \alpha = Q\,\phi_\tau(w + \lambda)\,Q^T y, \qquad b = \mathrm{mean}(y - K \alpha), \qquad
              \phi_\tau(w) = (1 - e^{-\tau w}) / w, \quad \tau = \eta t / nk

    On vectors that sum to zero, where there is an intercept: b is then at its optimum at all times, the targets and
    the network's features are centred, and t = inf is the ridge solution. Stopped before, ridge=None is 0.
    """
    where = type(estimator).__name__
    if not is_stopped(estimator):
        path = candidate_ridges(estimator.ridge_path, diagonal, where)
        return solve_best(spectrum, y, estimator.ridge, path, where)
    ridge = float(estimator.ridge or 0.0)
    tau = float(estimator.learning_rate) * float(estimator.t or 0.0) / y.size
    if diverges(spectrum, ridge, tau):
        raise spectrum.error(ridge, where)
    mean = np.zeros(y.shape[1]) if spectrum.row_means is None else mean_of(y)
    dual_coef = next(stopped(spectrum, ridge, y - mean, [tau]))
    intercept = mean if spectrum.row_means is None else mean - spectrum.row_means @ dual_coef
    return PathFit(_known(dual_coef, intercept, y, None), ridge, np.array([ridge]), np.array([np.nan]))


def _by_solver(
    estimator: ColumnEstimator, X: Any, y: Float[np.ndarray, "n k"], gram: MatrixLike | None, intercept: bool
) -> PathFit:
    """The solution by the estimator's solver, at its ridge or, with Nystrom, at the best of the path."""
    where, method = type(estimator).__name__, _method(estimator)
    options = {"memory": estimator.memory, "intercept": intercept}
    if gram is not None:
        kernel = _checked(estimator, X, gram)
    elif isinstance(method, Nystrom) and not is_precomputed(estimator.net):
        kernel = LazyGram(network_of(estimator), X, estimator.kernel, estimator.memory, estimator.progress)
    else:
        kernel = kernel_matrix(training_kernel(estimator, X), where)
    if estimator.ridge is not None:
        loo = method is not None and method.has_loo
        solution = solve(kernel, y, float(estimator.ridge), method, loo=loo, **options)
        ridges, errors = np.array([solution.ridge]), np.array([np.nan if solution.loo is None else rms(solution.loo)])
    else:
        ridges = candidate_ridges(estimator.ridge_path, diagonal_of(kernel), where)
        errors = loo_path(kernel, y, ridges, method, **options)
        best = int(np.nanargmin(errors))
        if best in (0, len(ridges) - 1) and len(ridges) > 1:
            warn(
                f"{where}: the best ridge, {ridges[best]:.1e}, is at an end of the path: give ridge_path further values.",
                RidgePathWarning,
            )
        solution = solve(kernel, y, float(ridges[best]), method, loo=True, **options)
    estimator.solution_ = kept = _keep_inputs(estimator, X, solution)
    known = _known(kept.coefficients, kept.intercept, y, kept.loo)
    return PathFit(known, solution.ridge, ridges, errors)


def _known(
    dual_coef: np.ndarray, intercept: np.ndarray, y: Float[np.ndarray, "n k"], loo: np.ndarray | None
) -> RidgeFit:
    """A solution whose amplitude is not known, and perhaps not its leave-one-out residuals: NaN."""
    return RidgeFit(dual_coef, intercept, np.full(y.shape, np.nan) if loo is None else loo, np.full(y.shape[1], np.nan))


def _keep_inputs(estimator: ColumnEstimator, X: Any, solution: Solution) -> Solution:
    """Set ``X_fit_`` to what predictions need: the inputs, or of a low-rank solution the landmarks alone."""
    if is_precomputed(estimator.net):
        return solution
    if solution.support is None:
        estimator.X_fit_ = X
        return solution
    estimator.X_fit_ = X[solution.support]
    return dataclasses.replace(solution, coefficients=solution.coefficients[solution.support], support=None)


def _method(estimator: ColumnEstimator) -> Solver | None:
    solver = estimator.solver
    return None if solver is None or solver == "auto" else solver_of(solver, type(estimator).__name__)


def _checked(estimator: ColumnEstimator, X: Any, gram: MatrixLike) -> KernelMatrix:
    where = type(estimator).__name__
    if is_precomputed(estimator.net):
        raise ValueError(f'{where}: with net="precomputed" the kernel is X; do not give gram= as well.')
    kernel = kernel_matrix(gram, where)
    if kernel.shape[0] != len(X):
        raise ValueError(
            f"{where}: expected gram to be the kernel ({len(X)}, {len(X)}) of the training inputs, got {tuple(kernel.shape)}."
        )
    return kernel
