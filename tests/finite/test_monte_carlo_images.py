"""Kernels on images are the limits of finite networks: averages over 256 draws, and planted faults.

One hidden layer, and what activations compute, know no geometry: tests/finite/test_products.py and
tests/finite/test_monte_carlo_sphere.py. Two hidden layers are off by O(1 / width), here by less than the noise.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
from so3ntk import Dense, Erf, FanInSum, FanOut, Flatten, GroupPool, Identity, Relu, parallel, serial
from so3ntk.engine.network import Kernels
from tests.finite.cases import average, compare, images

pytestmark = pytest.mark.slow


def everywhere(bias=0.3):
    """Filters of global support under half turns, and tiles, on images that are not square."""
    return serial(planar.Lift(None, group="C2", width=64, b_std=bias), Erf(), planar.AvgPool((2, 2)),
                  planar.GroupConv(None, width=64), Relu(), GroupPool(), Dense(1))  # fmt: skip


def residual():
    """Filters without padding, then with zeros around, branches, biases in every layer; the standard parametrisation.

    Reflections are in test_equivariance, and their kernels in tests/planar.
    """
    standard = {"width": 64, "parametrization": "standard"}
    return serial(
        planar.Lift((2, 2), "VALID", "C2", b_std=0.5, **standard), FanOut(2),
        parallel(Identity(), serial(Erf(), planar.GroupConv((3, 3), "SAME", W_std=1.2, b_std=0.3, **standard))), FanInSum(),
        Relu(),  # of a sum of linear layers: the limit is wrong for a nonlinearity right after another
        GroupPool(), Dense(1, W_std=1.3, b_std=0.2, parametrization="standard"),
    )  # fmt: skip


def pixels(make):
    return images() if make is residual else jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 2)) + 0.3)


@lru_cache
def run(make):
    net, x = make(), pixels(make)
    return average(net, x), net.kernel_fn(x)


@pytest.mark.parametrize("make", [everywhere, residual])
def test_network(make):
    compare(*run(make))


def test_flattened_images_are_vectors():
    """The same parameters and outputs, so that the averages of dense networks are those of test_products."""
    x, layers = images(), (Dense(4, b_std=0.3), Erf(), Dense(3))
    rows = x.reshape(len(x), -1)

    @jax.jit
    def drawn(key):
        both = []
        for net, signals in ((serial(planar.Flatten(), *layers), x), (serial(Flatten(), *layers), rows)):
            params = net.init_fn(key, signals.shape)[1]
            both.append((params, net.apply_fn(params, signals)))
        return both

    found, expected = drawn(jax.random.key(0))
    assert found[1].shape == (2, 3)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", Kernels._fields)
def test_scaled_kernel_fails(name):
    found, kernels = run(everywhere)
    with pytest.raises(AssertionError, match=name):
        compare(found, kernels._replace(**{name: 1.1 * getattr(kernels, name)}))


def test_dropped_bias_fails():
    found, _ = run(everywhere)
    with pytest.raises(AssertionError, match="nngp"):
        compare(found, everywhere(0.0).kernel_fn(pixels(everywhere)))
