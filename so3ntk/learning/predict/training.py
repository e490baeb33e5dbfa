"""The loss on the training set, mode by mode, and the learning rate that gradient descent bears."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.basics.arrays import ArrayLike
from so3ntk.learning.predict.flow import scaled_times
from so3ntk.learning.predict.inputs import initial_outputs, number, targets, times, training_kernel
from so3ntk.learning.predict.relaxation import RegularisedKernel, eigenvalues


class ModeLosses(NamedTuple):
    """Eigenvalues of the kernel (n,), the largest first, and the loss of each mode (..., n) at each time."""

    eigenvalues: Float[np.ndarray, " n"]
    losses: Float[np.ndarray, "... n"]


def loss_per_mode(
    k_train: ArrayLike,
    y_train: ArrayLike,
    t: ArrayLike,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    *,
    f0_train: ArrayLike = 0.0,
) -> ModeLosses:
    r"""The training loss of ``gradient_flow`` split by the eigenvectors v_i of the kernel, with eigenvalues w_i.

    .. math:: L_i(t) = \frac{1}{2nk}\, |v_i^T (y - f_0)|^2\,
              \left(\frac{\lambda + w_i e^{-\eta t (w_i + \lambda) / nk}}{w_i + \lambda}\right)^2

    Without lambda the mode decays at the rate 2 eta w_i / nk. Modes whose eigenvalue is zero to rounding are not
    learned: what they hold is left at t = inf, as of equal inputs with unequal targets. The sum over i is half the mean
    of (f_t(X) - y)^2 over all n k entries. Arguments, shapes and errors as ``gradient_flow``.
    """
    where = "predict.loss_per_mode"
    kernel = training_kernel(k_train, where)
    y, t = targets(y_train, len(kernel), where), times(t, where)
    residual = (y - initial_outputs(f0_train, y.shape, where, "f0_train")).reshape(len(kernel), -1)
    regularised = RegularisedKernel.relative(kernel, number(diag_reg, where, "diag_reg"), where)
    taus = scaled_times(t, learning_rate, y, where)
    if len(taus):
        regularised.require_stable(float(taus.max()))
    values, ridge = eigenvalues(regularised.spectrum)[::-1], regularised.absolute
    held = np.sum((regularised.spectrum.vectors.T @ residual) ** 2, axis=1)[::-1] / (2 * y.size)
    left = np.array([_left(values, ridge, tau) for tau in taus]).reshape(*t.shape, len(values))
    return ModeLosses(values, left**2 * held)


def loss_curve(
    k_train: ArrayLike,
    y_train: ArrayLike,
    t: ArrayLike,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    *,
    f0_train: ArrayLike = 0.0,
) -> Float[np.ndarray, ...]:
    """The training loss of ``gradient_flow`` at times t: half the mean of (f_t(X) - y)^2 over all n k entries.

    The sum of ``loss_per_mode``, in the shape of t; a decay of the weights (diag_reg) is not counted. Accurate to
    rounding also where the loss is far below that of the predictions.
    """
    return loss_per_mode(k_train, y_train, t, learning_rate, diag_reg, f0_train=f0_train).losses.sum(axis=-1)


def max_learning_rate(k_train: ArrayLike, outputs: int = 1, momentum: float = 0.0) -> float:
    r"""The learning rate above which full-batch gradient descent on half the mean squared error diverges.

    .. math:: \eta_{max} = 2 (1 + \beta)\, n k / w_{max}(\Theta)

    for n training inputs, k outputs and heavy-ball momentum beta, 0 <= beta < 1. inf for a kernel of zeros.
    k_train: NTK (n, n). Raises ValueError and TypeError for wrong arguments.
    """
    where = "predict.max_learning_rate"
    kernel = training_kernel(k_train, where)
    if isinstance(outputs, bool) or not isinstance(outputs, int | np.integer) or outputs < 1:
        raise ValueError(f"{where}: expected outputs to be a whole number >= 1, got {outputs!r}.")
    momentum = number(momentum, where, "momentum")
    if momentum >= 1:
        raise ValueError(f"{where}: expected momentum to be below 1, got {momentum}.")
    n = len(kernel)
    largest = float(scipy.linalg.eigvalsh(kernel, subset_by_index=(n - 1, n - 1), check_finite=False)[0])
    return 2 * (1 + momentum) * n * int(outputs) / largest if largest > 0 else math.inf


def _left(values: Float[np.ndarray, " n"], ridge: float, tau: float) -> Float[np.ndarray, " n"]:
    """The share of each mode's residual that is left at tau: 1 - w phi_tau(w + lambda), without cancellation."""
    total = values + ridge
    decayed = np.exp(-np.multiply(total, tau, out=np.zeros_like(total), where=total != 0))
    return np.divide(ridge + values * decayed, total, out=np.ones_like(total), where=total != 0)
