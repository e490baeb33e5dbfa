"""scikit-learn estimators with the kernels of infinitely wide networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from so3ntk.activations import Relu
from so3ntk.diagonal import kernel_diagonal
from so3ntk.errors import PrecisionError
from so3ntk.gram import gram
from so3ntk.layers import Dense, Flatten
from so3ntk.network import Network, serial
from so3ntk.ridge import Spectrum, best_ridge, loo_path, posterior_variance, rms, solve

#: Candidates for the ridge, in units of the mean of K's diagonal.
RELATIVE_RIDGES = np.logspace(-10, 1, 45)
#: Largest |K - K^T| of a precomputed kernel, relative to its largest entry: rounding of single precision.
ASYMMETRY = 1e-5


def default_network() -> Network:
    """The network of ``net=None``, on arrays (n, d): two hidden ReLU layers, W_std = sqrt(2), b_std = 1.

    It averages over the d columns: bring them to unit variance first (``StandardScaler``).
    """
    hidden = [layer for _ in range(2) for layer in (Dense(W_std=2**0.5, b_std=1.0), Relu())]
    return serial(Flatten(), *hidden, Dense(W_std=2**0.5, b_std=1.0))


class KernelRegressor(RegressorMixin, BaseEstimator):
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
    memory, progress: as for ``gram``.

    After ``fit``: ``ridge_``; ``loo_error_``, the root mean square leave-one-out error over rows and outputs
    (NaN for one row); ``ridge_path_`` and ``loo_path_``, the candidates and their errors (NaN for those too
    small for K + ridge I to be positive definite); ``dual_coef_``, alpha; ``intercept_``, b; ``amplitude_``,
    see ``predict``; ``spectrum_``, the eigenvalues and vectors of K; ``X_fit_``, unless "precomputed";
    ``n_features_in_``, for 2-D arrays. Several outputs, y (n, k), share one ridge: bring them to one scale.
    Solves are in float64; kernels have the precision of the signals.
    """

    def __init__(
        self,
        net: Any = None,
        kernel: str = "ntk",
        ridge: float | None = None,
        ridge_path: Any = None,
        fit_intercept: bool = True,
        memory: str | int = "2GiB",
        progress: bool = False,
    ):
        self.net = net
        self.kernel = kernel
        self.ridge = ridge
        self.ridge_path = ridge_path
        self.fit_intercept = fit_intercept
        self.memory = memory
        self.progress = progress

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = _is_precomputed(self.net)
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> KernelRegressor:
        """Fit to n inputs X, or their kernel (n, n), and targets y (n,) or (n, k).

        Raises ValueError and TypeError for wrong inputs, NotPositiveDefiniteError if K + ridge I is not,
        PrecisionError if the network's kernel is NaN or infinite. Warns (RidgePathWarning) if the best ridge
        is at an end of the path.
        """
        where = type(self).__name__
        _check_parameters(self)
        X = _check_inputs(self, X, reset=True)
        targets = _check_targets(y, len(X), where)
        kernel = _symmetric(X, where) if _is_precomputed(self.net) else _network_kernel(self, X, None)
        spectrum = Spectrum.of(kernel, bool(self.fit_intercept))
        columns = targets.reshape(len(targets), -1)
        if self.ridge is None:
            self.ridge_path_ = _candidates(self.ridge_path, kernel, where)
            self.loo_path_ = loo_path(spectrum, columns, self.ridge_path_)
            best = best_ridge(spectrum, self.ridge_path_, self.loo_path_, rms(columns), where)
        else:
            spectrum.require(float(self.ridge), where)
            self.ridge_path_ = np.array([self.ridge], np.float64)
            self.loo_path_ = np.array([rms(solve(spectrum, columns, float(self.ridge)).loo)])
            best = 0
        self.ridge_, self.loo_error_ = float(self.ridge_path_[best]), float(self.loo_path_[best])
        solution = solve(spectrum, columns, self.ridge_)
        self.dual_coef_ = solution.dual_coef.reshape(targets.shape)
        self.intercept_ = _like(solution.intercept, targets)
        self.amplitude_ = _like(solution.amplitude, targets)
        self.spectrum_ = spectrum
        if not _is_precomputed(self.net):
            self.X_fit_ = X
        return self

    def predict(self, X: Any, return_std: bool = False, diagonal: Any = None) -> Any:
        r"""The posterior mean at m inputs X, (m,) or (m, k); with ``return_std`` also the standard deviation.

        .. math:: s\,\bigl(K(x, x) - k^T A^{-1} k + (1 - 1^T A^{-1} k)^2 / 1^T A^{-1} 1\bigr)^{1/2}, \qquad
                  s^2 = y^T \alpha / n, \quad A = K + \lambda I

        In brackets is the variance of b + f in the kernel's units, f being a Gaussian process of covariance K
        (the NTK itself for kernel="ntk") and b having a flat prior; without an intercept the last term is
        absent. The noise is not added. ``amplitude_`` s, one per output, maximises the marginal likelihood of
        y under s^2 (K + ridge I) and brings the result to the units of y. diagonal: K(x, x) (m,), needed with
        "precomputed" and ``return_std``, else computed.

        Raises NotFittedError before ``fit``, ValueError for inputs unlike those of ``fit``.
        """
        check_is_fitted(self)
        X = _check_inputs(self, X, reset=False)
        cross = X if _is_precomputed(self.net) else _network_kernel(self, X, self.X_fit_)
        mean = cross @ self.dual_coef_ + self.intercept_
        if not return_std:
            return mean
        variance = posterior_variance(self.spectrum_, self.ridge_, cross, _prior(self, X, diagonal))
        return mean, np.multiply.outer(np.sqrt(variance), self.amplitude_)


def _is_precomputed(net: Any) -> bool:
    return isinstance(net, str) and net == "precomputed"


def _check_parameters(estimator: Any) -> None:
    """TypeError or ValueError for parameters that no data can make right."""
    where, net, ridge = type(estimator).__name__, estimator.net, estimator.ridge
    if not (net is None or isinstance(net, Network) or _is_precomputed(net)):
        raise TypeError(
            f'{where}: expected net to be None, a Network (so3ntk.serial(...)) or "precomputed", got '
            f"{net!r}. Of a stax triple give the network itself."
        )
    if estimator.kernel not in ("ntk", "nngp"):
        raise ValueError(f'{where}: expected kernel to be "ntk" or "nngp", got {estimator.kernel!r}.')
    number = isinstance(ridge, int | float | np.integer | np.floating) and not isinstance(ridge, bool)
    if ridge is not None and not (number and 0 <= ridge < np.inf):
        raise ValueError(f"{where}: expected ridge to be None or a finite number >= 0, got {ridge!r}.")


def _check_inputs(estimator: Any, X: Any, reset: bool) -> Any:
    """The inputs: kernels and 2-D arrays as scikit-learn checks them, other batches as they are."""
    where, validate = type(estimator).__name__, _untyped(validate_data)
    if _is_precomputed(estimator.net):
        values = _untyped(check_array)(X, dtype=np.float64, ensure_all_finite=False, estimator=where)
        if not np.isfinite(values).all():
            raise ValueError(f"{_first_not_finite(values, where)} Look at these two inputs.")
        validate(estimator, X, reset=reset, skip_check_array=True)
        return values
    if estimator.net is None or isinstance(X, list) or getattr(X, "ndim", None) == 2:
        return validate(estimator, X, reset=reset, dtype=[np.float64, np.float32])
    if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise TypeError(
            f"{where}: expected a batch of inputs that the network's first layer reads (a SphereSignal, "
            f"Environments or an array), got {type(X).__name__}."
        )
    if reset and len(X) == 0:
        raise ValueError(f"{where}: expected at least one training input, got an empty batch.")
    return X


def _untyped(function: Any) -> Any:
    """scikit-learn's annotations follow its defaults, not what it accepts."""
    return function


def _check_targets(y: Any, n: int, where: str) -> Float[np.ndarray, "n ..."]:
    """Finite float64 targets (n,) or (n, k)."""
    if y is None:
        raise ValueError(f"{where}: requires y to be passed, but the target y is None.")
    targets = _untyped(check_array)(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=where)
    if targets.shape[0] != n:
        raise ValueError(f"{where}: expected a target for each of the {n} inputs, got y of shape {targets.shape}.")
    return targets


def _candidates(path: Any, kernel: Float[np.ndarray, "n n"], where: str) -> Float[np.ndarray, " p"]:
    """The ridges to try, ascending."""
    if path is None:
        scale = float(np.mean(np.abs(np.diag(kernel))))
        return RELATIVE_RIDGES * (scale if scale > 0 else 1.0)
    ridges = np.asarray(path, np.float64)
    if ridges.ndim != 1 or len(ridges) == 0 or not np.all((ridges >= 0) & np.isfinite(ridges)):
        raise ValueError(f"{where}: expected ridge_path to be a list of finite numbers >= 0, got {path!r}.")
    return np.unique(ridges)


def _symmetric(kernel: Float[np.ndarray, "n n"], where: str) -> Float[np.ndarray, "n n"]:
    """A precomputed kernel of the training inputs, symmetric to the bit."""
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(
            f'{where}: expected a square kernel (n, n) of the training inputs for net="precomputed", got '
            f"{kernel.shape}. For features (n, d) use net=None."
        )
    asymmetry = np.abs(kernel - kernel.T)
    i, j = np.unravel_index(np.argmax(asymmetry), kernel.shape)
    if asymmetry[i, j] > ASYMMETRY * np.max(np.abs(kernel)):
        raise ValueError(
            f"{where}: expected a symmetric kernel, but K[{i}, {j}] = {kernel[i, j]:.6g} and K[{j}, {i}] = "
            f"{kernel[j, i]:.6g}. Rows and columns must be the same inputs in the same order."
        )
    return (kernel + kernel.T) / 2


def _network_kernel(estimator: Any, x1: Any, x2: Any) -> Float[np.ndarray, "n m"]:
    """The finite float64 kernel of the estimator's network."""
    options = {"memory": estimator.memory, "progress": estimator.progress}
    values = np.asarray(gram(_network(estimator), x1, x2, estimator.kernel, **options), np.float64)
    if not np.isfinite(values).all():
        raise PrecisionError(
            f"{_first_not_finite(values, type(estimator).__name__)} The inputs are finite, so the network "
            "overflows: rescale the inputs, or compute in double precision."
        )
    return values


def _network(estimator: Any) -> Network:
    return default_network() if estimator.net is None else estimator.net


def _first_not_finite(kernel: Float[np.ndarray, "n m"], where: str) -> str:
    i, j = np.unravel_index(np.argmin(np.isfinite(kernel)), kernel.shape)
    return f"{where}: the kernel holds NaN or infinity, first K[{i}, {j}] = {kernel[i, j]}."


def _prior(estimator: Any, X: Any, diagonal: Any) -> Float[np.ndarray, " m"]:
    """K(x, x) of test inputs, given or computed, in float64."""
    where = f"{type(estimator).__name__}.predict"
    if diagonal is None:
        if _is_precomputed(estimator.net):
            raise ValueError(
                f'{where}: return_std with net="precomputed" needs diagonal=, the kernel K(x, x) of each '
                "test input with itself, as from so3ntk.diagonal.kernel_diagonal(net, x_test)."
            )
        diagonal = kernel_diagonal(_network(estimator), X, estimator.kernel)
    diagonal = np.asarray(diagonal, np.float64)
    if diagonal.shape != (len(X),) or not np.all(np.isfinite(diagonal)):
        raise ValueError(
            f"{where}: expected diagonal to be {len(X)} finite numbers, one per test input, got shape "
            f"{diagonal.shape} with {np.count_nonzero(~np.isfinite(diagonal))} not finite."
        )
    return diagonal


def _like(values: Float[np.ndarray, " k"], targets: np.ndarray) -> Any:
    """One number for targets (n,), an array (k,) for (n, k)."""
    return values if targets.ndim == 2 else float(values[0])
