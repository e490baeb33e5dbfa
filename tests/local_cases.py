"""What the tests of filters on caps share: signals, grids, networks, and kernels without the estimate of errors."""

import jax
import jax.numpy as jnp
import numpy as np

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    ExplicitGrid,
    GroupConv,
    GroupPool,
    Lift,
    ProductGrid,
    Relu,
    SphereSignal,
)
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.quadrature import LocalGrid
from tests.oracles.harmonics import white_signals

EPS = np.finfo(np.float64).eps
GRID = LocalGrid(ProductGrid(8), SphereGrid(6))
FEW = ExplicitGrid(so3ntk.random_rotations(5, seed=4))
A, B = white_signals(2, 3, 2, seed=0), white_signals(1, 3, 2, seed=1)
TAIL = (GroupPool(), Dense())
ERF = (Lift(support=1.0, b_std=0.3), Erf(), GroupConv(support=0.7, W_std=1.2), Erf(), *TAIL)
RELU = (Lift(support=1.0), Relu(), GroupConv(support=0.7), Relu(), *TAIL)


def signal(coefficients, dtype=np.float64):
    return SphereSignal(jnp.asarray(coefficients, dtype), round(coefficients.shape[1] ** 0.5))


def kernels(net, x, y=None):
    """Both kernels, (2, n, m), under jit, which skips the estimate of the quadrature's error."""
    return np.stack(jax.jit(net.kernel_fn)(signal(x), None if y is None else signal(y)))


def relative(coarse, fine):
    """The largest difference, relative to sqrt(K(x, x) K(x', x'))."""
    roots = np.sqrt(np.diagonal(fine, axis1=1, axis2=2))
    return np.max(np.abs(coarse - fine) / (roots[:, :, None] * roots[:, None, :]))
