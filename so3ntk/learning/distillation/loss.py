r"""The loss that distillation lowers: the error on data of kernel ridge regression fitted to the support alone.

.. math:: L = \frac{1}{2m}\, \bigl\| y_t - K_{ts}\, (K_{ss} + \lambda I)^{-1} y_s \bigr\|^2, \qquad
          \lambda = \epsilon\, \mathrm{tr}(K_{ss}) / n

for m inputs t of the data and n support inputs s; the norm is over inputs and outputs. epsilon is ``diag_reg``.
Source: Nguyen, Chen, Lee (2021), "Dataset meta-learning from kernel ridge regression", equations 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from so3ntk.engine.network import Network

#: (x1, x2 or None) to the kernel (n1, n2).
PairKernel = Callable[[Any, Any], Array]


class Support(NamedTuple):
    """What is learned: inputs, an array or signals, and their targets."""

    inputs: PyTree
    targets: Float[Array | np.ndarray, "n k"]


def pair_kernel(net: Network | Callable, kernel: str) -> PairKernel:
    """One kernel of a network, or of a kernel function such as ``augmented`` makes."""
    kernel_fn = net.kernel_fn if isinstance(net, Network) else net
    return lambda x1, x2: kernel_fn(x1, x2, kernel)


def dual_coefficients(
    k_ss: Float[Array, "n n"], targets: Float[Array | np.ndarray, "n k"], diag_reg: float | Array
) -> Float[Array, "n k"]:
    """(K_ss + lambda I)^-1 y_s in JAX's widest precision; NaN where that matrix is not positive definite."""
    double = jax.dtypes.canonicalize_dtype(np.float64)
    k, n = k_ss.astype(double), len(k_ss)
    factor = jnp.linalg.cholesky(k + diag_reg * jnp.trace(k) / n * jnp.eye(n, dtype=double))
    return jax.scipy.linalg.cho_solve((factor, True), jnp.asarray(targets, double))


def support_loss(
    kernel: PairKernel, support: Support, x: PyTree, y: Float[Array | np.ndarray, "m k"], diag_reg: float | Array
) -> Float[Array, ""]:
    """The formula above."""
    alpha = dual_coefficients(kernel(support.inputs, None), support.targets, diag_reg)
    errors = kernel(x, support.inputs).astype(alpha.dtype) @ alpha - jnp.asarray(y, alpha.dtype)
    return jnp.sum(errors**2) / (2 * len(errors))
