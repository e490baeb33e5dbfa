"""Products of channels are the limits of finite networks, and what these need of grids.

Networks on the sphere are in test_monte_carlo_sphere. On images what multiplies channels is the same; kernels there:
tests/planar/test_conformance.py.
"""

import jax
import numpy as np
import pytest

from so3ntk import Dense, Flatten, GroupConv, GroupPool, Lift, ProductGrid, Products, Relu, serial
from tests.finite.cases import average, compare, sphere_signals
from tests.oracles import field

SQUARE = Products([0.2, 0.5, 0.3])


@pytest.mark.slow
def test_perceptron():
    """Three powers, in the standard parametrisation, where the width after the products counts; heavy tails, so it is wide."""
    standard = {"parametrization": "standard"}
    net = serial(
        Flatten(), Dense(1152, b_std=0.3, **standard), Products([0.2, 0.4, 0.25, 0.15]),
        Dense(192, W_std=1.2, b_std=0.2, **standard), Relu(), Dense(1, b_std=0.1, **standard),
    )  # fmt: skip
    x = sphere_signals()
    compare(average(net, x), net.kernel_fn(x))


def deep(bandlimit: int | None, grid=None):
    """On the grid of the rule."""
    return serial(Lift(width=4, b_std=0.4), SQUARE, GroupConv(width=4, bandlimit=bandlimit, b_std=0.3), Products([0.3, 0.6, 0.1]),
                  GroupPool(), Dense(1), quadrature=grid)  # fmt: skip


def test_kernels_before_a_kink():
    """On a grid that is not the rule's, against the evaluation in NumPy; their finite layers are in test_monte_carlo_sphere."""
    grid = ProductGrid(8)
    net = serial(Lift(b_std=0.4), SQUARE, GroupConv(bandlimit=2, W_std=1.2, b_std=0.3), Relu(), GroupPool(), Dense(b_std=0.2),
                 quadrature=grid)  # fmt: skip
    x = sphere_signals()
    f, g = np.asarray(x.coefficients)[:, None]
    for kernel, slow in zip(
        net.kernel_fn(x[:1], x[1:]), field.evaluate(net, f, g, grid.rotations, grid.weights), strict=True
    ):
        np.testing.assert_allclose(kernel, slow, rtol=1e-12)


def test_finite_networks_on_the_grid_of_the_rule():
    """White-noise filters keep the three degrees of the products, whose means that grid gives to rounding."""
    x, rule = sphere_signals(), deep(None)
    ((filters,), _) = jax.eval_shape(lambda key: rule.init_fn(key, x.shape)[1], jax.random.key(0))[2]
    assert [f.shape[:2] for f in filters] == [(1, 1), (3, 3), (5, 5)]
    nets = [deep(3), deep(3, ProductGrid(16))]

    @jax.jit
    def outputs(key):
        params = nets[0].init_fn(key, x.shape)[1]
        return [net.apply_fn(params, x) for net in nets]

    found, fine = map(np.asarray, outputs(jax.random.key(0)))
    np.testing.assert_allclose(found, fine, rtol=0, atol=1e-13 * np.abs(fine).max())
