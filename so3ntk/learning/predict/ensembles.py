"""Infinite ensembles of infinitely wide networks, and the posterior of their Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import ArrayLike
from so3ntk.basics.caller import warn
from so3ntk.engine.network import check_kernel_name
from so3ntk.learning.predict.flow import evolve, scaled_times
from so3ntk.learning.predict.inputs import cross_kernel, number, prior_covariance, targets, times, training_kernel
from so3ntk.learning.predict.relaxation import RegularisedKernel


class Gaussian(NamedTuple):
    """Of m test inputs: the mean (..., m) or (..., m, k), and the covariance (..., m, m) or variances (..., m).

    The k outputs are independent and share one covariance.
    """

    mean: Float[np.ndarray, ...]
    covariance: Float[np.ndarray, ...]


class _Blocks(NamedTuple):
    """Checked kernels: of the training inputs, test with training, and the prior covariance of the test inputs."""

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    prior: np.ndarray


def ensemble(
    k_train: Any,
    y_train: ArrayLike,
    k_test: Any,
    k_test_test: Any,
    t: ArrayLike = math.inf,
    get: str = "ntk",
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    *,
    f0_train: ArrayLike = 0.0,
    f0_test: ArrayLike = 0.0,
) -> Gaussian:
    r"""Mean and covariance, over initialisations, of networks trained for time t.

    .. math:: \mu = f_0(x) + A\,(y - f_0(X)), \qquad
              \Sigma = K(x, x') - A\,K(X, x') - K(x, X)\,A'^T + A\,K(X, X)\,A'^T, \qquad
              A = \Theta(x, X)\, M^{-1} (1 - e^{-\eta t M / nk})

    with K the NNGP, Theta the NTK, M = Theta + diag_reg mean(diag Theta) I and f0 the mean before training. For
    get="nngp" the last layer alone is trained, which puts K for Theta; with diag_reg the members then also see
    independent noise of that variance on the targets, so that t = inf gives ``gp_posterior``:

    .. math:: \Sigma = K(x, x') - K(x, X)\, M^{-1} (1 - e^{-2 \eta t M / nk})\, K(X, x'), \qquad
              M = K + \lambda I

    k_train, k_test: ``Kernels`` (anything with .nngp and .ntk) of the training inputs (n, n) and of test with training
    inputs (m, n), as from ``net.kernel_fn`` or ``gram``; for get="nngp" .ntk can be None. k_test_test: NNGP (m, m) of
    the test inputs, Kernels that hold it, or its diagonal (m,), which gives variances (m,). Else as ``gradient_flow``.
    Variances below zero, which only errors of the kernels can leave, are set to zero, with a RuntimeWarning if they
    are not rounding.

    Raises as ``gradient_flow``. Source: Lee et al. (2019), "Wide neural networks of any depth evolve as linear models".
    """
    where = "predict.ensemble"
    blocks = _checked(k_train, k_test, k_test_test, get, where)
    y, t = targets(y_train, len(blocks.train[get]), where), times(t, where)
    taus = scaled_times(t, learning_rate, y, where)
    regularised = RegularisedKernel.relative(blocks.train[get], number(diag_reg, where, "diag_reg"), where)
    mean = evolve(regularised, blocks.test[get], y, (f0_train, f0_test), taus)
    covariance = _spread(regularised, blocks, taus, _ntk_change if get == "ntk" else _nngp_change)
    return Gaussian(*(a.reshape(*t.shape, *a.shape[1:]) for a in (mean, covariance)))


def gp_posterior(
    k_train: ArrayLike,
    y_train: ArrayLike,
    k_test: ArrayLike,
    k_test_test: ArrayLike,
    ridge: float = 0.0,
    *,
    f0_train: ArrayLike = 0.0,
    f0_test: ArrayLike = 0.0,
) -> Gaussian:
    r"""The posterior of a Gaussian process of covariance K (the NNGP) and mean f0, without the noise.

    .. math:: \mu = f_0(x) + K(x, X)\, M^{-1} (y - f_0(X)), \qquad
              \Sigma = K(x, x') - K(x, X)\, M^{-1} K(X, x'), \qquad M = K + \lambda I

    ridge: lambda, the variance of the noise of the targets, absolute. Shapes: k_train (n, n), k_test (m, n),
    k_test_test (m, m), or its diagonal (m,) for variances alone; y_train (n,) or (n, k). Else as ``ensemble``.
    """
    where = "predict.gp_posterior"
    kernel = training_kernel(k_train, where)
    y, cross = targets(y_train, len(kernel), where), cross_kernel(k_test, len(kernel), where)
    blocks = _Blocks({"nngp": kernel}, {"nngp": cross}, prior_covariance(k_test_test, len(cross), where))
    regularised = RegularisedKernel(kernel, number(ridge, where, "ridge"), where)
    end = np.array([np.inf])
    mean = evolve(regularised, cross, y, (f0_train, f0_test), end)
    return Gaussian(mean[0], _spread(regularised, blocks, end, _nngp_change)[0])


def _checked(k_train: Any, k_test: Any, k_test_test: Any, get: str, where: str) -> _Blocks:
    """The kernels that ``get`` needs."""
    check_kernel_name(get, where, "get")
    names = ("nngp", "ntk") if get == "ntk" else ("nngp",)
    train = {name: training_kernel(_named(k_train, name, where, "k_train"), where, f"k_train.{name}") for name in names}
    n = len(train[get])
    if len(train["nngp"]) != n:
        raise ValueError(f"{where}: expected k_train.nngp ({n}, {n}) as k_train.ntk, got {train['nngp'].shape}.")
    test = {name: cross_kernel(_named(k_test, name, where, "k_test"), n, where, f"k_test.{name}") for name in names}
    m = len(test[get])
    if len(test["nngp"]) != m:
        raise ValueError(f"{where}: expected k_test.nngp ({m}, {n}) as k_test.ntk, got {test['nngp'].shape}.")
    return _Blocks(train, test, prior_covariance(getattr(k_test_test, "nngp", k_test_test), m, where))


def _spread(regularised: RegularisedKernel, blocks: _Blocks, taus: np.ndarray, changes: Callable) -> np.ndarray:
    """The covariance at each tau: that before training and its change."""
    spread = np.empty((len(taus), *blocks.prior.shape))
    for i, change in enumerate(changes(regularised, blocks, taus)):
        spread[i] = _nonnegative(blocks.prior + change, blocks.prior, regularised.where)
    return spread


def _ntk_change(regularised: RegularisedKernel, blocks: _Blocks, taus: np.ndarray) -> Iterator[np.ndarray]:
    """A K A^T - A K(X, x') - K(x, X) A^T for each tau, or its diagonal."""
    for dual in regularised.relaxed(blocks.test["ntk"].T, taus):  # A^T
        change = blocks.train["nngp"] @ dual - 2 * blocks.test["nngp"].T
        yield _product(dual, change, blocks.prior.ndim)


def _nngp_change(regularised: RegularisedKernel, blocks: _Blocks, taus: np.ndarray) -> Iterator[np.ndarray]:
    """-K(x, X) phi_2tau(M) K(X, x') for each tau, or its diagonal."""
    cross = blocks.test["nngp"].T
    for dual in regularised.relaxed(cross, 2 * taus):
        yield _product(-dual, cross, blocks.prior.ndim)


def _product(a: np.ndarray, b: np.ndarray, ndim: int) -> np.ndarray:
    """The symmetric part of a^T b, or its diagonal."""
    if ndim == 1:
        return np.einsum("im,im->m", a, b)
    product = a.T @ b
    return (product + product.T) / 2


def _nonnegative(covariance: np.ndarray, prior: np.ndarray, where: str) -> np.ndarray:
    """Variances below zero become zero; a warning if they are more than rounding of the kernels."""
    diagonal = covariance if covariance.ndim == 1 else np.einsum("ii->i", covariance)
    largest = np.max(np.abs(prior), initial=0.0)
    lowest = float(np.min(diagonal, initial=0.0))
    if lowest < -1e-6 * largest:
        warn(
            f"{where}: variances down to {lowest:.1e} are set to zero: the kernels are not positive definite to "
            "this accuracy, or not of the same inputs. Refine their quadrature (net.calibrate, rtol) or regularise.",
            RuntimeWarning,
        )
    diagonal[diagonal < 0] = 0.0
    return covariance


def _named(kernels: Any, name: str, where: str, argument: str) -> Any:
    values = getattr(kernels, name, None)
    if values is None:
        raise TypeError(
            f'{where}: expected {argument} to hold the kernel {name}, as net.kernel_fn(x1, x2, ("nngp", "ntk")) gives, '
            f"got {type(kernels).__name__} without it."
        )
    return values
