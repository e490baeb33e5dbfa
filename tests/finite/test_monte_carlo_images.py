"""Kernels on images are the limits of finite networks: averages over 256 draws, and planted faults.

The bias of a finite width, O(1 / width), of two hidden ReLU layers, estimated from widths 8 and 16 with 1024 draws each
and scaled to the width used here: NNGP 0.2 and 0.5 %, NTK 0.3 and 0.5 %, to 0.4 %. One hidden layer has none at any width.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
from so3ntk import Dense, Erf, FanInSum, FanOut, Flatten, Gelu, GroupPool, Identity, Relu, parallel, serial
from so3ntk.engine.network import Kernels
from tests.finite.cases import average, compare, images

pytestmark = pytest.mark.slow
WIDTH = 64


def shallow(lift_bias=0.4, bias=0.3):
    """One hidden layer; what activations compute knows no geometry, so that the others are on the sphere."""
    return serial(planar.Lift((3, 3), "SAME", "C4", width=128, W_std=1.1, b_std=lift_bias), Relu(), GroupPool(),
                  Dense(1, W_std=1.3, b_std=bias))  # fmt: skip


def linear(width=WIDTH):
    """Filters that wrap around."""
    return serial(
        planar.Lift((3, 3), group="C2", width=width), planar.GroupConv((3, 3), width=width), GroupPool(), Dense(1)
    )


def everywhere(width=WIDTH):
    """Filters of global support under half turns, and tiles, on images that are not square."""
    return serial(planar.Lift(None, group="C2", width=width, b_std=0.3), Erf(), planar.AvgPool((2, 2)),
                  planar.GroupConv(None, width=width), Relu(), GroupPool(), Dense(1))  # fmt: skip


def valid():
    """Filters without padding, reflections, tiles after them; the standard parametrisation."""
    standard = {"width": 96, "parametrization": "standard"}
    return serial(planar.Lift((3, 3), "VALID", "D4", b_std=0.3, **standard), Relu(), planar.AvgPool((2, 2)),
                  GroupPool(), Dense(b_std=0.2, **standard), Gelu(), Dense(1, parametrization="standard"))  # fmt: skip


def residual(width=WIDTH):
    """Branches and zero padding, two nonlinearities and biases in every layer, in the standard parametrisation."""
    standard = {"width": width, "parametrization": "standard"}
    return serial(
        planar.Lift((3, 3), "SAME", "C2", b_std=0.5, **standard), FanOut(2),
        parallel(Identity(), serial(Erf(), planar.GroupConv((3, 3), "SAME", W_std=1.2, b_std=0.3, **standard))), FanInSum(),
        Relu(),  # of a sum of linear layers: the limit is wrong for a nonlinearity right after another
        GroupPool(), Dense(1, W_std=1.3, b_std=0.2),
    )  # fmt: skip


@lru_cache
def run(make):
    net = make()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 2)) + 0.3) if make is everywhere else images()
    return average(net, x), net.kernel_fn(x)


@pytest.mark.parametrize("make", [shallow, linear, everywhere, valid, residual])
def test_network(make):
    compare(*run(make))


def test_flattened_images_are_vectors():
    """The same parameters and outputs, so that the averages of dense networks are those of the sphere's module."""
    x, layers = images(), (Dense(4, b_std=0.3), Erf(), Dense(3))
    rows = x.reshape(len(x), -1)
    shape, params = serial(planar.Flatten(), *layers).init_fn(jax.random.key(0), x.shape)
    assert shape == (2, 3)
    same = serial(Flatten(), *layers).init_fn(jax.random.key(0), rows.shape)[1]
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(one, other)
    found = serial(planar.Flatten(), *layers).apply_fn(params, x)
    np.testing.assert_array_equal(found, serial(Flatten(), *layers).apply_fn(params, rows))


@pytest.mark.parametrize("name", Kernels._fields)
def test_scaled_kernel_fails(name):
    found, kernels = run(shallow)
    with pytest.raises(AssertionError, match=name):
        compare(found, kernels._replace(**{name: 1.1 * getattr(kernels, name)}))


@pytest.mark.parametrize("biases", [(0.0, 0.3), (0.4, 0.0)])
def test_dropped_bias_fails(biases):
    found, _ = run(shallow)
    with pytest.raises(AssertionError, match="nngp"):
        compare(found, shallow(*biases).kernel_fn(images()))


def test_lifting_counted_twice_fails():
    """A linear network of three layers has Theta = 3 K; with the lifting layer counted twice it would be 4 K."""
    found, kernels = run(linear)
    np.testing.assert_allclose(kernels.ntk, 3 * kernels.nngp, rtol=1e-12)
    with pytest.raises(AssertionError, match="ntk"):
        compare(found, kernels._replace(ntk=4 * kernels.nngp))
