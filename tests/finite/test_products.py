"""Products of channels are the limits of finite networks: averages over draws, and planted faults.

On images what multiplies channels is the same; kernels there: tests/planar/test_conformance.py.

h has heavy tails, so the draws scatter more than those of activations of the same width. One hidden layer has no bias at any
width; with a second one it is that of h not being Gaussian, O(1 / width).
"""

from functools import lru_cache

import jax
import numpy as np
import pytest

from so3ntk import Dense, Flatten, GroupConv, GroupPool, Lift, ProductGrid, Products, Relu, serial
from so3ntk.engine.network import Kernels
from tests.finite.cases import average, compare, sphere_signals
from tests.oracles import field

pytestmark = pytest.mark.slow
SQUARE = Products([0.2, 0.5, 0.3])


def shallow(bias=0.4):
    """The rule's own grid."""
    return serial(Lift(width=512, W_std=1.1, b_std=bias), SQUARE, GroupPool(), Dense(1, W_std=1.3, b_std=0.3))


def cubes():
    """One power alone, in the standard parametrisation, where the width after the products counts."""
    return serial(Lift(width=1152, b_std=1.0, parametrization="standard"), Products([0, 0, 0, 1.0]), GroupPool(),
                  Dense(1, parametrization="standard"))  # fmt: skip


def deep(first=192, second=128, bandlimit: int | None = 2, grid=None):
    """On the grid of the rule; filters of two degrees are fewer parameters.

    With SQUARE in both layers it is off by 2.4 +- 0.8 % at width 192, and by 1.1 +- 0.7 % at width 768 of the first.
    """
    return serial(Lift(width=first, b_std=0.4), SQUARE, GroupConv(width=second, bandlimit=bandlimit, b_std=0.3), Products([0.3, 0.6, 0.1]), GroupPool(),
                  Dense(1))  # fmt: skip


def perceptron():
    return serial(Flatten(), Dense(384, b_std=0.3), SQUARE, Dense(192, b_std=0.2), Relu(), Dense(1, b_std=0.1))


@lru_cache
def run(make, *arguments):
    net = make(*arguments)
    x = sphere_signals()
    return average(net, x), net.kernel_fn(x)


@pytest.mark.parametrize("make", [shallow, cubes, deep, perceptron])
def test_network(make):
    compare(*run(make))


def test_kernels_before_a_kink():
    """On a grid that is not the rule's, against the evaluation in NumPy: their finite layers are those of ``deep``."""
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
    x, rule = sphere_signals(), deep(4, 4, None)
    ((filters,), _) = jax.eval_shape(lambda key: rule.init_fn(key, x.shape)[1], jax.random.key(0))[2]
    assert [f.shape[:2] for f in filters] == [(1, 1), (3, 3), (5, 5)]
    nets = [deep(4, 4, 3), deep(4, 4, 3, ProductGrid(16))]

    @jax.jit
    def outputs(key):
        params = nets[0].init_fn(key, x.shape)[1]
        return [net.apply_fn(params, x) for net in nets]

    found, fine = map(np.asarray, outputs(jax.random.key(0)))
    np.testing.assert_allclose(found, fine, rtol=0, atol=1e-13 * np.abs(fine).max())


@pytest.mark.parametrize("name", Kernels._fields)
def test_scaled_kernel_fails(name):
    found, kernels = run(shallow)
    with pytest.raises(AssertionError, match=name):
        compare(found, kernels._replace(**{name: 1.1 * getattr(kernels, name)}))


def test_dropped_bias_fails():
    found, _ = run(shallow)
    with pytest.raises(AssertionError, match="nngp"):
        compare(found, shallow(0.0).kernel_fn(sphere_signals()))


def test_a_constant_counted_as_trained_fails():
    """c_0 adds nothing to the tangent kernel."""
    found, kernels = run(shallow)
    with pytest.raises(AssertionError, match="ntk"):
        compare(found, kernels._replace(ntk=kernels.ntk + 0.2 * 1.3**2))
    assert np.all(np.asarray(kernels.ntk) > 0)
