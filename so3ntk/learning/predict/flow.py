"""Predictions of one infinitely wide network, trained by gradient flow for any time."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import ArrayLike
from so3ntk.learning.predict.inputs import cross_kernel, initial_outputs, number, targets, times, training_kernel
from so3ntk.learning.predict.relaxation import RegularisedKernel


def gradient_flow(
    k_train: ArrayLike,
    y_train: ArrayLike,
    k_test: ArrayLike,
    t: ArrayLike = math.inf,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    *,
    f0_train: ArrayLike = 0.0,
    f0_test: ArrayLike = 0.0,
) -> Float[np.ndarray, ...]:
    r"""Outputs at test inputs after training for time t, from outputs f0.

    .. math:: f_t(x) = f_0(x) + \Theta(x, X)\, M^{-1} (1 - e^{-\eta t M / nk})\, (y - f_0(X)), \qquad
              M = \Theta + \lambda I

    This is gradient flow on half the mean over all n k entries of (f - y)^2; t counts steps of gradient descent with
    the learning rate eta, which is accurate well below ``max_learning_rate``. lambda = diag_reg * mean(diag Theta)
    is a decay of the weights towards their initial values: (lambda / 2nk) |w - w_0|^2 in the loss.

    Shapes: k_train (n, n), symmetric; y_train (n,) or (n, k); k_test (m, n), test inputs first; t: a number >= 0, inf
    included, or an array of them, whose axes then lead; f0_train and f0_test broadcast to the outputs (n, k) and
    (m, k). Targets of large mean: f0_train = f0_test = y_train.mean(0) makes that the origin. NumPy in and out, float64,
    from one eigendecomposition for all finite t and Cholesky at t = inf. Singular kernels are fine at finite t.

    Raises ValueError and TypeError for wrong arguments, NotPositiveDefiniteError where M is not positive definite at
    t = inf, or has negative eigenvalues that matter by time t.
    Source: Lee et al. (2019), "Wide neural networks of any depth evolve as linear models".
    """
    where = "predict.gradient_flow"
    kernel = training_kernel(k_train, where)
    n = len(kernel)
    y, cross, t = targets(y_train, n, where), cross_kernel(k_test, n, where), times(t, where)
    regularised = RegularisedKernel.relative(kernel, number(diag_reg, where, "diag_reg"), where)
    found = evolve(regularised, cross, y, (f0_train, f0_test), scaled_times(t, learning_rate, y, where))
    return found.reshape(*t.shape, *found.shape[1:])


def evolve(
    regularised: RegularisedKernel,
    cross: Float[np.ndarray, "m n"],
    y: Float[np.ndarray, "n ..."],
    f0: tuple[ArrayLike, ArrayLike],
    taus: Float[np.ndarray, " t"],
) -> Float[np.ndarray, "t m ..."]:
    """f0 + cross phi_tau(M) (y - f0) for each tau. f0: at training and at test inputs, as the caller gave them."""
    shape, where = (len(cross), *y.shape[1:]), regularised.where
    residual = (y - initial_outputs(f0[0], y.shape, where, "f0_train")).reshape(len(y), -1)
    start = initial_outputs(f0[1], shape, where, "f0_test")
    outputs = np.empty((len(taus), *shape))
    for i, dual in enumerate(regularised.relaxed(residual, taus)):
        outputs[i] = start + (cross @ dual).reshape(shape)
    return outputs


def scaled_times(t: np.ndarray, learning_rate: float, y: np.ndarray, where: str) -> Float[np.ndarray, " t"]:
    """tau = eta t / n k, in one axis."""
    with np.errstate(over="ignore"):
        return number(learning_rate, where, "learning_rate", positive=True) * t.ravel() / y.size
