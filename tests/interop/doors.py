"""What the tests of all doors share: small problems, and the posterior of our own regressor."""

import jax
import numpy as np
import pytest

import planar
import so3ntk
import so3ntk.interop.leaves

RANDOM = np.random.default_rng(0)
X, X_TEST = RANDOM.normal(size=(12, 4)), RANDOM.normal(size=(5, 4))
Y = np.sin(X[:, 0]) + 0.1 * RANDOM.normal(size=12)
MLP = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(W_std=1.3, b_std=0.4), so3ntk.Relu(), so3ntk.Dense(W_std=-0.7))
SIGNALS = so3ntk.SphereSignal(RANDOM.normal(size=(6, 4, 1)), 2)
SPHERE = so3ntk.serial(so3ntk.Lift(b_std=0.5), so3ntk.Relu(), so3ntk.GroupPool(), quadrature=so3ntk.ProductGrid(4))
PIXELS = (
    so3ntk.serial(planar.Lift(None, W_std=1.2), so3ntk.Relu(), planar.GroupPool(), so3ntk.Dense(b_std=0.1)),
    RANDOM.normal(size=(4, 3, 3, 1)),
)


def posterior(net, x, y, x_test, kernel="ntk", ridge=0.05):
    """Mean and standard deviation of the Gaussian process itself, whose amplitude is one."""
    model = so3ntk.KernelRegressor(net, kernel, ridge=ridge, fit_intercept=False).fit(x, y)
    mean, std = model.predict(x_test, return_std=True)
    return mean, std / model.amplitude_


@pytest.fixture(autouse=True)
def usual_promotion():
    """Other libraries mix dtypes, which our own tests forbid."""
    with jax.numpy_dtype_promotion("standard"):
        yield
