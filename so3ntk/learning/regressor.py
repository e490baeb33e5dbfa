"""scikit-learn estimators with the kernels of infinitely wide networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array, check_is_fitted

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.engine.network import Network
from so3ntk.learning.curves.curve import LearningCurve
from so3ntk.learning.curves.fitted import kernel_curve
from so3ntk.learning.draws import drawn
from so3ntk.learning.fitting import batches, fit_columns, means, training_inputs
from so3ntk.learning.inputs import RELATIVE_RIDGES as RELATIVE_RIDGES
from so3ntk.learning.inputs import (
    ColumnEstimator,
    check_inputs,
    cross_kernel,
    is_precomputed,
    is_stopped,
    network_of,
    training_kernel,
    untyped,
)
from so3ntk.learning.inputs import default_network as default_network
from so3ntk.learning.ridge import posterior_covariance, posterior_variance, warn_if_flat
from so3ntk.learning.solvers import Solver
from so3ntk.learning.weights import checked_weights
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.kernel_matrix import MatrixLike, kernel_matrix


class KernelRegressor(RegressorMixin, ColumnEstimator):
    r"""Gaussian process and kernel ridge regression with the kernel of a network.

    .. math:: \hat y(x) = b + \sum_i \alpha_i K(x, x_i), \qquad (K + \lambda I)\,\alpha = y - b, \quad
              1^T \alpha = 0

    Parameters:

    net: a ``Network``, for what its first layer reads (``SphereSignal``, ``Environments``, arrays); None for
    ``default_network`` on arrays (n, d); "precomputed" if X is the kernel itself: K (n, n) in ``fit``,
    K(x, x_i) (n_test, n) in ``predict``. Cross-validation computes a network's kernels anew for each fit; it
    is quicker with ``K = gram(net, x)`` and "precomputed", of which scikit-learn takes rows and columns.
    kernel: "ntk" or "nngp"; without meaning for "precomputed".
    ridge: lambda, absolute, the variance added to K's diagonal; None for the candidate with the smallest
    leave-one-out error, which is exact and needs no refits.
    ridge_path: the candidates, absolute; None for 45 values from 1e-10 to 10 times the mean of K's diagonal.
    fit_intercept: whether to fit b, without a penalty (and then without the last equation b = 0).
    memory, progress: as for ``gram``. Test inputs are predicted in batches whose kernels take a quarter of the memory.
    solver: None for an eigendecomposition in memory, which gives everything below; "auto" to choose by size and memory,
    or a method of ``so3ntk.solve``: "cholesky", "blocked", "cg", "jaxmg", which need a ridge, "nystrom", which computes
    the kernel with its landmarks alone. Without the decomposition there is no ``spectrum_`` and no standard deviation.
    t, learning_rate: the time at which gradient flow from zero is stopped, as in ``predict.gradient_flow``; None or inf
    for the end, the solution above. At a finite t b is at its optimum at all times, ridge=None means 0, and errors,
    amplitude and standard deviations, which belong to the solution above, are NaN or refused.

    After ``fit``: ``ridge_``; ``loo_error_``, the root mean square leave-one-out error over rows and outputs
    (NaN for one row and an intercept); ``ridge_path_`` and ``loo_path_``, the candidates and their errors (NaN for those too
    small for K + ridge I to be positive definite); ``dual_coef_``, alpha; ``intercept_``, b; ``amplitude_``,
    see ``predict``; ``spectrum_``, the eigenvalues and vectors of K; ``X_fit_``, unless "precomputed" (for "nystrom" its
    landmarks, and ``dual_coef_`` is theirs); ``solution_``, what another solver says of its accuracy;
    ``n_features_in_``, for 2-D arrays. Several outputs, y (n, k), share one ridge: bring them to one scale.
    Solves are in float64; kernels have the precision of the signals.
    """

    def __init__(
        self,
        net: Network | str | None = None,
        kernel: str = "ntk",
        ridge: float | None = None,
        ridge_path: ArrayLike | None = None,
        fit_intercept: bool = True,
        memory: str | int = "2GiB",
        progress: bool = False,
        t: float | None = None,
        learning_rate: float = 1.0,
        solver: str | Solver | None = None,
    ):
        self.net = net
        self.kernel = kernel
        self.ridge = ridge
        self.ridge_path = ridge_path
        self.fit_intercept = fit_intercept
        self.memory = memory
        self.progress = progress
        self.t = t
        self.learning_rate = learning_rate
        self.solver = solver

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self, X: Any, y: Any, gram: MatrixLike | None = None, sample_weight: ArrayLike | None = None
    ) -> KernelRegressor:
        """Fit to n inputs X, or their kernel (n, n), and targets y (n,) or (n, k).

        gram: the kernel of X with itself where it is there already, in memory or stored: anything with ``shape``,
        ``dtype`` and slices. Not together with "precomputed".
        sample_weight: w (n,), at least zero: row i has the noise ridge / w_i. A row of weight 2 predicts as two equal rows do
        (at one ridge: left out is a row with its weight, so the best of a path may differ), one of weight zero is not
        there. Leave-one-out errors are weighted means; ``amplitude_`` counts rows. Only with solver=None and t=None.

        Raises ValueError and TypeError for wrong inputs, NotPositiveDefiniteError if K + ridge I is not,
        PrecisionError if the network's kernel is NaN or infinite, NotConvergedError if an iteration did not. Warns
        (RidgePathWarning) if the best ridge is at an end of the path.
        """
        X = training_inputs(self, X)
        targets = check_targets(y, len(X), type(self).__name__)
        columns = targets.reshape(len(targets), -1)
        weights = checked_weights(sample_weight, len(columns), f"{type(self).__name__}.fit: sample_weight")
        found, spectrum = fit_columns(self, X, columns, gram, bool(self.fit_intercept), weights)
        self.dual_coef_ = found.dual_coef.reshape(-1, *targets.shape[1:])
        self.intercept_ = like_targets(found.intercept, targets)
        self.amplitude_ = like_targets(found.amplitude, targets)
        self.__dict__.pop("spectrum_", None)  # of an earlier fit
        if spectrum is not None:
            self.spectrum_ = spectrum
        return self

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False, diagonal: ArrayLike | None = None) -> np.ndarray: ...
    @overload
    def predict(
        self, X: Any, return_std: Literal[True], diagonal: ArrayLike | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(
        self, X: Any, *, return_cov: Literal[True], gram: MatrixLike | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(
        self,
        X: Any,
        return_std: bool,
        diagonal: ArrayLike | None = None,
        return_cov: bool = False,
        gram: MatrixLike | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self,
        X: Any,
        return_std: bool = False,
        diagonal: ArrayLike | None = None,
        return_cov: bool = False,
        gram: MatrixLike | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        r"""The posterior mean at m inputs X, (m,) or (m, k); with ``return_std`` also the standard deviation, with ``return_cov``
        the covariance (m, m) or (m, m, k).

        .. math:: s\,\bigl(K(x, x) - k^T A^{-1} k + (1 - 1^T A^{-1} k)^2 / 1^T A^{-1} 1\bigr)^{1/2}, \qquad
                  s^2 = y^T \alpha / (n - 1), \quad A = K + \lambda I

        In brackets is the variance of b + f in the kernel's units, f being a Gaussian process of covariance K
        (the NTK itself for kernel="ntk") and b having a flat prior; without an intercept the last term is
        absent and s^2 is y^T alpha / n. The noise is not added. ``amplitude_`` s, one per output, maximises the
        marginal likelihood under s^2 (K + ridge I) of what the intercept leaves of y (NaN for one row, of which it
        leaves nothing), and brings the result to the units of y. diagonal: K(x, x) (m,), needed with "precomputed"
        and ``return_std``, else computed; gram: K(x, x') (m, m), likewise for ``return_cov``, the covariance of the same process.

        Raises NotFittedError before ``fit``, ValueError for inputs unlike those of ``fit``. Warns that deviations are
        zero where the targets were constant.
        """
        check_is_fitted(self)
        X = check_inputs(self, X, reset=False)
        if return_std and return_cov:
            raise ValueError(
                f"{type(self).__name__}.predict: ask for return_std or return_cov, whose diagonal it squares."
            )
        if not (return_std or return_cov):
            return means(self, X)
        self._require_posterior()
        warn_if_flat(np.atleast_1d(self.amplitude_), f"{type(self).__name__}.predict")
        if return_cov:
            cross = cross_kernel(self, X)
            covariance = posterior_covariance(self.spectrum_, self.ridge_, cross, _prior_covariance(self, X, gram))
            scaled = np.multiply.outer(covariance, np.square(self.amplitude_))
            return cross @ self.dual_coef_ + self.intercept_, scaled
        prior, outputs, variances, done = _prior(self, X, diagonal), [], [], 0
        for part in batches(self, X):
            cross = cross_kernel(self, part)
            outputs.append(cross @ self.dual_coef_ + self.intercept_)
            variances.append(posterior_variance(self.spectrum_, self.ridge_, cross, prior[done : done + len(part)]))
            done += len(part)
        return np.concatenate(outputs), np.multiply.outer(np.sqrt(np.concatenate(variances)), self.amplitude_)

    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = 0, gram: MatrixLike | None = None
    ) -> Float[np.ndarray, "m ..."]:
        """Functions drawn from the posterior at m inputs X: (m, n_samples), for targets (n, k) (m, k, n_samples).

        Their mean and covariance are those of ``predict``, so without the noise: targets are y + amplitude_ ridge_^(1/2) z, with z
        normal. random_state: a seed or a generator of NumPy's, as scikit-learn takes it. gram: as for ``predict``, which raises
        the same.
        """
        mean, covariance = self.predict(X, return_cov=True, gram=gram)
        return drawn(mean, covariance, self.amplitude_, n_samples, random_state)

    def learning_curve(self, sizes: Iterable[int], ridge: float | None = None) -> LearningCurve:
        """The errors to expect from training on other numbers of such inputs, by the decomposition of the fit.

        sizes: a list of numbers of training inputs, more than those of ``fit`` too; ridge: absolute; None for the estimator's own, or the
        best one at each size where that chooses it. The intercept is in it. What is predicted, and how: ``spectra.GramSpectrum.learning_curve``.
        ValueError before training to the end, for fewer than ten inputs, and without ``spectrum_``.
        """
        return kernel_curve(self, sizes, ridge)

    def _require_posterior(self) -> None:
        where = f"{type(self).__name__}.predict"
        if is_stopped(self):
            raise ValueError(
                f"{where}: return_std needs t=None, got t={self.t!r}: the posterior is that of training to the end. "
                "so3ntk.predict.ensemble has the spread of networks at any time."
            )
        if not hasattr(self, "spectrum_"):
            raise ValueError(
                f"{where}: return_std needs the eigenvectors of the kernel, which solver={self.solver!r} does not compute "
                "or which were left out of the saved file. Fit with solver=None."
            )


def _prior_covariance(estimator: ColumnEstimator, X: Any, gram: MatrixLike | None) -> Float[np.ndarray, "m m"]:
    """K(x, x') of test inputs, given or computed, in float64."""
    where = f"{type(estimator).__name__}.predict"
    if gram is None:
        if is_precomputed(estimator.net):
            raise ValueError(
                f'{where}: return_cov with net="precomputed" needs gram=, the kernel (m, m) of the test inputs with each other.'
            )
        return training_kernel(estimator, X)
    values = kernel_matrix(gram, where).whole(where)
    if values.shape != (len(X), len(X)) or not np.all(np.isfinite(values)):
        raise ValueError(f"{where}: expected gram to be {len(X)} x {len(X)} finite numbers, got shape {values.shape}.")
    return values


def check_targets(y: Any, n: int, where: str) -> Float[np.ndarray, "n ..."]:
    """Finite float64 targets (n,) or (n, k)."""
    if y is None:
        raise ValueError(f"{where}: requires y to be passed, but the target y is None.")
    refuse_masked(y, f"{where}: the targets y")
    targets = untyped(check_array)(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=where)
    if targets.shape[0] != n:
        raise ValueError(f"{where}: expected a target for each of the {n} inputs, got y of shape {targets.shape}.")
    return targets


def _prior(estimator: ColumnEstimator, X: Any, diagonal: ArrayLike | None) -> Float[np.ndarray, " m"]:
    """K(x, x) of test inputs, given or computed, in float64."""
    where = f"{type(estimator).__name__}.predict"
    if diagonal is None:
        if is_precomputed(estimator.net):
            raise ValueError(
                f'{where}: return_std with net="precomputed" needs diagonal=, the kernel K(x, x) of each '
                "test input with itself, as from so3ntk.kernel_diagonal(net, x_test)."
            )
        diagonal = kernel_diagonal(network_of(estimator), X, estimator.kernel)
    refuse_masked(diagonal, f"{where}: the entries of diagonal")
    diagonal = np.asarray(diagonal, np.float64)
    if diagonal.shape != (len(X),) or not np.all(np.isfinite(diagonal)):
        raise ValueError(
            f"{where}: expected diagonal to be {len(X)} finite numbers, one per test input, got shape "
            f"{diagonal.shape} with {np.count_nonzero(~np.isfinite(diagonal))} not finite."
        )
    return diagonal


def like_targets(values: Float[np.ndarray, " k"], targets: np.ndarray) -> Float[np.ndarray, " k"] | float:
    """One number for targets (n,), an array (k,) for (n, k)."""
    return values if targets.ndim == 2 else float(values[0])
