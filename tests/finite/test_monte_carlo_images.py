"""Kernels on images are the limits of finite networks: averages over 256 draws, and planted faults.

The bias of a finite width, O(1 / width), of two hidden ReLU layers, estimated from widths 8 and 16 with 1024 draws each
and scaled to the width used here: NNGP 0.2 and 0.5 %, NTK 0.3 and 0.5 %, to 0.4 %. One hidden layer has none at any width.
"""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
import pytest

import planar
from so3ntk import Dense, Erf, FanInSum, FanOut, GroupPool, Identity, Relu, parallel, serial
from so3ntk.engine.network import Kernels
from tests.finite.cases import ACTIVATIONS, NAMES, average, compare, finite_twin, images, kernels_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimized")]
WIDTH = 64


def shallow(activation, lift_bias=0.4, bias=0.3):
    """One hidden layer; biases are traced, so that other values need no other program."""
    lift = planar.Lift((3, 3), "SAME", "C4", width=128, W_std=1.1, b_std=jnp.asarray(lift_bias))
    return serial(lift, activation, GroupPool(), Dense(1, W_std=1.3, b_std=jnp.asarray(bias)))


def deep(first, second, width=WIDTH):
    """Half turns, filters that wrap around, biases in every layer; C4 and D4 stand in the other networks."""
    return serial(
        planar.Lift((3, 3), group="C2", width=width, W_std=1.1, b_std=0.4), first,
        planar.GroupConv((3, 3), width=width, W_std=1.2, b_std=0.3), second,
        GroupPool(), Dense(1, W_std=1.3, b_std=0.2),
    )  # fmt: skip


def linear():
    return serial(planar.Lift((3, 3), group="C2", width=96), planar.GroupConv((3, 3), width=96), GroupPool(), Dense(1))


def everywhere(width=WIDTH):
    """Filters of global support under half turns, and tiles."""
    return serial(planar.Lift(None, group="C2", width=width, b_std=0.3), Erf(), planar.AvgPool((2, 2)),
                  planar.GroupConv(None, width=width), Relu(), GroupPool(), Dense(1))  # fmt: skip


def valid():
    """Filters without padding, reflections, tiles after them; the standard parametrisation."""
    standard = {"width": 96, "parametrization": "standard"}
    return serial(planar.Lift((3, 3), "VALID", "D4", b_std=0.3, **standard), Relu(), planar.AvgPool((2, 2)),
                  GroupPool(), Dense(b_std=0.2, **standard), Relu(), Dense(1, parametrization="standard"))  # fmt: skip


def residual():
    """Branches and zero padding, in the standard parametrisation, without turns."""
    standard = {"width": WIDTH, "parametrization": "standard"}
    return serial(planar.Lift((3, 3), "SAME", "C1", b_std=0.5, **standard), Erf(), FanOut(2),
                  parallel(Identity(), planar.GroupConv((3, 3), "SAME", b_std=0.2, **standard)), FanInSum(),
                  GroupPool(), Dense(1))  # fmt: skip


def perceptron():
    return serial(planar.Flatten(), Dense(256, b_std=0.3), Relu(), Dense(256), Erf(), Dense(1, b_std=0.1))


@lru_cache
def run(make, *arguments, twin=False):
    net, x = make(*arguments), images()
    return average(finite_twin(net) if twin else net, x), kernels_of(net, x)


@pytest.mark.parametrize("name", ["Relu", "Sign", "Gelu", "Cos affine"])  # what they compute knows no geometry
def test_activation(name):
    compare(*run(shallow, ACTIVATIONS[NAMES.index(name)], twin=True))


@pytest.mark.parametrize("activations", [(Relu(), Relu()), (Erf(), Relu())], ids=["relu-relu", "erf-relu"])
def test_deep(activations):
    compare(*run(deep, *activations, twin=True))


@pytest.mark.parametrize("make", [linear, everywhere, valid, residual, perceptron])
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
        compare(found, kernels_of(shallow(Relu(), *biases), images()))


def test_lifting_counted_twice_fails():
    """A linear network of three layers has Theta = 3 K; with the lifting layer counted twice it would be 4 K."""
    found, kernels = run(linear)
    np.testing.assert_allclose(kernels.ntk, 3 * kernels.nngp, rtol=1e-12)
    with pytest.raises(AssertionError, match="ntk"):
        compare(found, kernels._replace(ntk=4 * kernels.nngp))
