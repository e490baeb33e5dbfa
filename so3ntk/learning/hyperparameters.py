r"""Losses of a kernel that judge its hyperparameters, differentiable, and their minimisation.

With A = K + lambda I, restricted to vectors that sum to zero where there is an intercept (of rank r = n - 1, else n):

.. math:: \ell = \frac{r}{2} \Bigl(1 + \log\frac{2\pi\, y^T A^{-1} y}{r}\Bigr) + \frac12 \log\det A, \qquad
          \mathrm{LOO} = \frac1n \sum_i \Bigl(\frac{(A^{-1} y)_i}{(A^{-1})_{ii}}\Bigr)^2 .

The first is minus the log marginal likelihood of a Gaussian process of covariance s^2 A at its likeliest s (with an
intercept: the restricted likelihood), so the scale of K does not matter beside lambda. Several outputs share A and have
each their own s.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, PyTree

from so3ntk.engine.network import Network, check_kernel_name
from so3ntk.errors import PrecisionError
from so3ntk.learning.predict.inputs import number, targets

logger = logging.getLogger("so3ntk")

#: How far a fit goes: each hyperparameter between a thousandth and a thousand times its start.
RANGE = 1e3


def marginal_likelihood_loss(
    kernel: Float[Array, "n n"], y: Float[Array, "n ..."], ridge: float | Array, intercept: bool = True
) -> Float[Array, ""]:
    """Minus the log marginal likelihood of targets (n,) or (n, k): the first formula above, summed over outputs.

    Differentiable in the kernel and the ridge; NaN where K + ridge I is not positive definite.
    """
    factor, y, n = _factorised(kernel, y, ridge, intercept)
    rank = n - 1 if intercept else n
    fit = jnp.sum(y * jax.scipy.linalg.cho_solve((factor, True), y), axis=0)
    # the constant vector has the eigenvalue trace(K) + ridge, which is not one of A
    extra = jnp.log(jnp.trace(kernel) + ridge) / 2 if intercept else 0.0
    half_determinant = jnp.sum(jnp.log(jnp.diagonal(factor))) - extra
    return jnp.sum(rank / 2 * (1 + jnp.log(2 * math.pi * fit / rank)) + half_determinant)


def leave_one_out_loss(
    kernel: Float[Array, "n n"], y: Float[Array, "n ..."], ridge: float | Array, intercept: bool = True
) -> Float[Array, ""]:
    """The mean square leave-one-out error over rows and outputs: the second formula above.

    Differentiable in the kernel and the ridge; NaN where K + ridge I is not positive definite.
    """
    factor, y, n = _factorised(kernel, y, ridge, intercept)
    inverse = jax.scipy.linalg.cho_solve((factor, True), jnp.eye(n, dtype=factor.dtype))
    diagonal = jnp.diagonal(inverse)
    if intercept:
        diagonal = diagonal - 1 / (n * (jnp.trace(kernel) + ridge))
    return jnp.mean((inverse @ y / diagonal[:, None]) ** 2)


LOSSES: dict[str, Callable] = {"likelihood": marginal_likelihood_loss, "loo": leave_one_out_loss}


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted hyperparameters: a network, or what ``fit_kernel`` was given; the ridge; losses at each evaluation.

    converged: whether L-BFGS stopped because nothing was left to gain; message: why it stopped.
    """

    hyperparameters: PyTree
    ridge: float
    loss: float
    history: tuple[float, ...]
    converged: bool
    message: str

    @property
    def net(self) -> Network:
        """The network with the fitted hyperparameters."""
        return self.hyperparameters


def fit_hyperparameters(
    net: Network,
    x: Any,
    y: Array | np.ndarray | Sequence,
    ridge: float,
    *,
    kernel: str = "ntk",
    loss: str = "likelihood",
    intercept: bool = True,
    fit_ridge: bool = True,
    select: Callable[[Network], PyTree] | None = None,
    steps: int = 50,
) -> Fit:
    """The hyperparameters of a network, and the ridge, with the smallest loss on training data, by L-BFGS from here.

    x, y: inputs that the network reads and targets (n,) or (n, k). kernel: "ntk" or "nngp". loss: "likelihood" or "loo".
    intercept: as of the regression they are for. ridge: where to begin, > 0; fit_ridge: whether it is fitted too.
    select: the hyperparameters to fit, as ``lambda net: [net.layers[0].b_std, net.layers[0].channel_weights]``; None for
    all. steps: of L-BFGS at most.

    The logarithms are varied, each by up to log 1000, so signs stay and zeros and None (no bias) are not fitted. Arrays
    are fitted entry by entry. Gradients are those of the layers, in reverse mode, over all pairs: some fifteen times the cost
    of the Gram matrix for each step, so take some hundred inputs, or a coarser grid (``serial(..., rtol=1e-3)``) than for
    predictions, to which the result is then passed on. Double precision is needed for small ridges.

    Raises ValueError and TypeError for wrong arguments, PrecisionError if the loss is not finite at the start.
    """
    if not isinstance(net, Network):
        raise TypeError(f"fit_hyperparameters: expected a Network, got {net!r}; for functions use fit_kernel.")
    check_kernel_name(kernel, "fit_hyperparameters")
    variable, fixed = eqx.partition(net, _mask(net, select))
    found = fit_kernel(
        lambda values: eqx.combine(values, fixed).kernel_fn(x, None, kernel), variable, y, ridge,
        loss=loss, intercept=intercept, fit_ridge=fit_ridge, steps=steps,
    )  # fmt: skip
    return Fit(**(vars(found) | {"hyperparameters": eqx.combine(found.hyperparameters, fixed)}))


def fit_kernel(
    kernel_of: Callable[[PyTree], Array],
    start: PyTree,
    y: Array | np.ndarray | Sequence,
    ridge: float,
    *,
    loss: str = "likelihood",
    intercept: bool = True,
    fit_ridge: bool = True,
    steps: int = 50,
) -> Fit:
    """As ``fit_hyperparameters``, for any JAX function from hyperparameters to a kernel (n, n).

    start: a pytree of numbers and arrays. So angular widths are fitted:

        def kernel_of(width):
            a = so3ntk.molecules.environment_coefficients(positions, numbers, molecule, angular_width=width)
            return net.kernel_fn(Environments(SphereSignal(a, bandlimit), molecule, numbers), None, "ntk")

        fit_kernel(kernel_of, 0.03, y, ridge=1e-3)
    """
    where = "fit_kernel"
    if loss not in LOSSES:
        raise ValueError(f"{where}: expected loss to be one of {', '.join(LOSSES)}, got {loss!r}.")
    values = targets(y, len(y), where)
    ridge = number(ridge, where, "ridge", positive=True)
    leaves, structure = jax.tree.flatten(start)
    sizes = [np.asarray(leaf, np.float64) for leaf in leaves]
    flat = np.concatenate([[ridge] * fit_ridge, *(leaf.ravel() for leaf in sizes)])
    moving = flat != 0
    dtype = jax.dtypes.canonicalize_dtype(np.float64)

    def unpack(logarithms: Array) -> tuple[PyTree, float | Array]:
        """Hyperparameters and ridge."""
        all_of_them = jnp.asarray(flat, dtype).at[np.flatnonzero(moving)].set(
            jnp.asarray(np.sign(flat[moving]), dtype) * jnp.exp(logarithms)
        )  # fmt: skip
        parts = jnp.split(all_of_them, np.cumsum([int(fit_ridge), *(leaf.size for leaf in sizes)])[:-1])
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts[1:], sizes, strict=True)]
        return jax.tree.unflatten(structure, shaped), parts[0][0] if fit_ridge else ridge

    @jax.jit
    @jax.value_and_grad
    def value(logarithms: Array) -> Array:
        hyperparameters, noise = unpack(logarithms)
        return LOSSES[loss](
            jnp.asarray(kernel_of(hyperparameters), dtype), jnp.asarray(values, dtype), noise, intercept
        )

    return _minimise(value, unpack, np.log(np.abs(flat[moving])), steps, where)


def _minimise(value: Callable, unpack: Callable, start: np.ndarray, steps: int, where: str) -> Fit:
    history: list[float] = []

    def objective(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = (np.asarray(a, np.float64) for a in value(jnp.asarray(logarithms)))
        if not (np.isfinite(found) and np.isfinite(gradient).all()):
            if not history:
                raise PrecisionError(
                    f"{where}: the loss or its gradient is not finite at the start: K + ridge I is not positive definite "
                    "to this precision. Raise ridge, use double precision (jax_enable_x64), or refine the quadrature."
                )
            return 1e300, np.zeros_like(logarithms)  # the line search steps back
        history.append(float(found))
        logger.info("%s: evaluation %d, loss %.8g", where, len(history), found)
        return float(found), gradient

    bound = math.log(RANGE)
    bounds = list(zip(start - bound, start + bound, strict=True))
    found = scipy.optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
    )
    if np.any(np.abs(found.x - start) > 0.999 * bound):
        logger.warning(
            "%s: a hyperparameter ends at %g times its start or the inverse: the data hardly say it", where, RANGE
        )
    hyperparameters, ridge = unpack(jnp.asarray(found.x))
    return Fit(hyperparameters, float(ridge), float(found.fun), tuple(history), bool(found.success), str(found.message))


def _mask(net: Network, select: Callable[[Network], PyTree] | None) -> Network:
    """True at the hyperparameters to fit."""
    if select is None:
        return jax.tree.map(lambda leaf: True, net)
    none = jax.tree.map(lambda leaf: False, net)
    try:
        return eqx.tree_at(select, none, replace_fn=lambda leaf: True)
    except Exception as error:  # whatever the caller's function leads equinox to raise
        raise ValueError(
            f"fit_hyperparameters: select must return hyperparameters of the network, not None (no bias): {error}"
        ) from error


def _factorised(kernel: Array, y: Array, ridge: float | Array, intercept: bool) -> tuple[Array, Array, int]:
    """The Cholesky factor of A, plus trace(K) on the constant vector with an intercept, and targets (n, k), centred."""
    n = len(kernel)
    y = jnp.reshape(y, (n, -1))
    if intercept:
        means = jnp.mean(kernel, axis=1)
        constant = jnp.mean(means) + jnp.trace(kernel) / n
        kernel = kernel - means[:, None] - means[None, :] + constant
        y = y - jnp.mean(y, axis=0)
    return jax.lax.linalg.cholesky(kernel + ridge * jnp.eye(n, dtype=kernel.dtype), symmetrize_input=False), y, n
