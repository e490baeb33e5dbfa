"""Kernels on the sphere are the limits of finite networks: averages over 256 draws, and planted faults.

The bias of a finite width, O(1 / width), of two hidden ReLU layers, estimated from widths 8 and 16 with 1024 draws each
and scaled to the width used here: NNGP 0.2 and 0.4 %, NTK 0.3 and 0.2 %, to 0.3 %. One hidden layer has none at any width.
"""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
    Dense,
    Erf,
    FanInSum,
    FanOut,
    Flatten,
    GroupConv,
    GroupPool,
    Identity,
    Lift,
    ProductGrid,
    Relu,
    parallel,
    serial,
)
from so3ntk.engine.network import Kernels
from so3ntk.molecules import AtomSum, Environments
from tests.finite.cases import ACTIVATIONS, NAMES, average, compare, finite_twin, kernels_of, sphere_signals

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimized")]
GRID = ProductGrid(8)
VARIANCES, WEIGHTS = np.array([1.0, 0.6, 0.3]), np.array([0.5, 1.5])


def network(*layers, grid=GRID):
    return serial(*layers, quadrature=grid)


def shallow(activation, lift_bias=0.4, bias=0.3):
    """One hidden layer; biases are traced, so that other values need no other program."""
    lift = Lift(width=128, W_std=1.1, b_std=jnp.asarray(lift_bias))
    return network(lift, activation, GroupPool(), Dense(1, W_std=1.3, b_std=jnp.asarray(bias)))


def deep(first, second, width=128, scale=1.0):
    """Spectra, channel weights and biases in every layer."""
    return network(
        Lift(width=width, variances=VARIANCES * scale, channel_weights=WEIGHTS, b_std=0.4), first,
        GroupConv(width=width, variances=VARIANCES[:2], W_std=1.2, b_std=0.3), second,
        GroupPool(), Dense(1, W_std=1.3, b_std=0.2),
    )  # fmt: skip


def linear(width=128):
    return network(Lift(width=width), GroupConv(width=width, bandlimit=1), GroupPool(), Dense(1))


def residual(width=64):
    """White-noise filters, branches and a block, in the standard parametrisation.

    Filters are cut at degree 3, this grid's limit; what an odd function of signals of two degrees has above is below the noise.
    """
    standard = {"width": width, "parametrization": "standard"}
    return network(
        Lift(bandlimit=2, b_std=0.5, **standard), Erf(), FanOut(2),
        parallel(Identity(), serial(GroupConv(b_std=0.2, **standard), Relu())), FanInSum(),
        GroupPool(), Dense(1, parametrization="standard"), grid=ProductGrid(8, 3),
    )  # fmt: skip


def perceptron(width=256):
    return network(Flatten(), Dense(width, b_std=0.3), Relu(), Dense(width, W_std=1.2), Erf(), Dense(1, b_std=0.1))


def molecules(width=128):
    return network(Lift(width=width, b_std=0.3), Erf(), GroupPool(), AtomSum(), Dense(1, b_std=0.2))


@lru_cache
def run(make, *arguments, twin=False):
    net = make(*arguments)
    x = environments() if make is molecules else sphere_signals()
    return average(finite_twin(net) if twin else net, x), kernels_of(net, x)


def environments():
    return Environments(sphere_signals(2, 5), [0, 0, 0, 1, 1], [1, 6, 8, 1, 6])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=NAMES)
def test_activation(activation):
    compare(*run(shallow, activation, twin=True))


@pytest.mark.parametrize("activations", [(Relu(), Relu()), (Erf(), Relu())], ids=["relu-relu", "erf-relu"])
def test_deep(activations):
    compare(*run(deep, *activations, twin=True))


@pytest.mark.parametrize("make", [linear, residual, perceptron, molecules])
def test_network(make):
    compare(*run(make))


@pytest.mark.parametrize("name", Kernels._fields)
def test_scaled_kernel_fails(name):
    found, kernels = run(shallow, Relu(), twin=True)
    with pytest.raises(AssertionError, match=name):
        compare(found, kernels._replace(**{name: 1.1 * getattr(kernels, name)}))


@pytest.mark.parametrize("biases", [(0.0, 0.3), (0.4, 0.0)])
def test_dropped_bias_fails(biases):
    found, _ = run(shallow, Relu(), twin=True)
    with pytest.raises(AssertionError, match="nngp"):
        compare(found, kernels_of(shallow(Relu(), *biases), sphere_signals()))


def test_lifting_counted_twice_fails():
    """A linear network of three layers has Theta = 3 K; with the lifting layer counted twice it would be 4 K."""
    found, kernels = run(linear)
    np.testing.assert_allclose(kernels.ntk, 3 * kernels.nngp, rtol=1e-12)
    with pytest.raises(AssertionError, match="ntk"):
        compare(found, kernels._replace(ntk=4 * kernels.nngp))
