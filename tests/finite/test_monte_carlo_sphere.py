"""Kernels on the sphere are the limits of finite networks: averages over 256 draws, and planted faults.

The bias of a finite width, O(1 / width), of two hidden ReLU layers, estimated from widths 8 and 16 with 1024 draws each
and scaled to width 64: NNGP 0.4 and 0.8 %, NTK 0.6 and 0.4 %, to 0.6 %. One hidden layer has none at any width.
"""

from functools import lru_cache

import jax
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
from so3ntk.engine.features import Vectors
from so3ntk.engine.network import Kernels
from so3ntk.molecules import AtomSum, Environments
from tests.engine.activations.cases import CASES
from tests.finite.cases import average, compare, sphere_signals

pytestmark = pytest.mark.slow
GRID = ProductGrid(8)
VARIANCES, WEIGHTS = np.array([1.0, 0.6, 0.3]), np.array([0.5, 1.5])


def network(*layers, grid=GRID):
    return serial(*layers, quadrature=grid)


def shallow(lift_bias=0.4, bias=0.3):
    """One hidden layer, of white-noise filters."""
    return network(Lift(width=128, W_std=1.1, b_std=lift_bias), Relu(), GroupPool(), Dense(1, W_std=1.3, b_std=bias))


def linear(width=64):
    return network(Lift(width=width), GroupConv(width=width, bandlimit=1), GroupPool(), Dense(1))


def residual(width=64):
    """Spectra, channel weights, biases, branches and a block, in the standard parametrisation.

    White-noise filters are in ``shallow``, and of two layers in test_products, where the grid resolves them.
    """
    standard = {"width": width, "parametrization": "standard"}
    return network(
        Lift(variances=VARIANCES, channel_weights=WEIGHTS, b_std=0.4, **standard), FanOut(2),
        parallel(Identity(), serial(Erf(), GroupConv(variances=VARIANCES[:2], W_std=1.2, b_std=0.3, **standard))), FanInSum(),
        Relu(),  # of a sum of linear layers: the limit is wrong for a nonlinearity right after another
        GroupPool(), Dense(1, W_std=1.3, b_std=0.2, parametrization="standard"),
    )  # fmt: skip


def perceptron(width=128):
    return network(Flatten(), Dense(width, b_std=0.3), Relu(), Dense(width, W_std=1.2), Erf(), Dense(1, b_std=0.1))


@lru_cache
def run(make):
    net, x = make(), sphere_signals()
    return average(net, x), net.kernel_fn(x)


def test_molecules_are_sums_over_their_atoms():
    """Features and kernels alike, so that the averages of sums are the kernels where those of atoms are."""
    atoms, owner = sphere_signals(2, 5), np.array([0, 0, 0, 1, 1])
    molecules = Environments(atoms, owner, [1, 6, 8, 1, 6])
    plain = network(Lift(width=4, b_std=0.3), Erf(), GroupPool(), grid=ProductGrid(4))
    net = network(*plain.layers, AtomSum(), grid=ProductGrid(4))
    sums = np.equal.outer(range(2), owner).astype(float)

    @jax.jit
    def outputs(key):
        params = net.init_fn(key, atoms.shape)[1]
        return net.apply_fn(params, molecules), plain.apply_fn(params, atoms)

    found, features = map(np.asarray, outputs(jax.random.key(0)))
    np.testing.assert_allclose(found, sums @ features, rtol=0, atol=1e-14 * np.abs(features).max())
    for kernel, expected in zip(net.kernel_fn(molecules), plain.kernel_fn(atoms), strict=True):
        np.testing.assert_allclose(kernel, sums @ np.asarray(expected) @ sums.T, rtol=1e-13)


@pytest.mark.parametrize("make", [shallow, linear, residual, perceptron])
def test_network(make):
    compare(*run(make))


def test_activations_apply_the_functions_that_duals_are_compared_with():
    """And their derivatives: tests/engine/activations holds duals to integrals of these, whatever the network."""
    u = np.random.default_rng(0).normal(size=(1, 40)) * 2

    @jax.jit
    def functions(u):
        def each(activation):
            def phi(u):
                return activation.apply((), Vectors(u)).values

            return phi(u), jax.grad(lambda u: jnp.sum(phi(u)))(u)

        return [each(case.activation) for case in CASES]

    for case, (values, slopes) in zip(CASES, functions(jnp.asarray(u)), strict=True):
        tolerance = {"rtol": 1e-12, "atol": 1e-12 * np.abs(case.phi(u)).max(), "err_msg": case.name}
        np.testing.assert_allclose(values, case.phi(u) * np.ones_like(u), **tolerance)
        np.testing.assert_allclose(slopes, case.slope(u) * np.ones_like(u), **tolerance)


@pytest.mark.parametrize("name", Kernels._fields)
def test_scaled_kernel_fails(name):
    found, kernels = run(shallow)
    with pytest.raises(AssertionError, match=name):
        compare(found, kernels._replace(**{name: 1.1 * getattr(kernels, name)}))


@pytest.mark.parametrize("biases", [(0.0, 0.3), (0.4, 0.0)])
def test_dropped_bias_fails(biases):
    found, _ = run(shallow)
    with pytest.raises(AssertionError, match="nngp"):
        compare(found, shallow(*biases).kernel_fn(sphere_signals()))


def test_lifting_counted_twice_fails():
    """A linear network of three layers has Theta = 3 K; with the lifting layer counted twice it would be 4 K."""
    found, kernels = run(linear)
    np.testing.assert_allclose(kernels.ntk, 3 * kernels.nngp, rtol=1e-12)
    with pytest.raises(AssertionError, match="ntk"):
        compare(found, kernels._replace(ntk=4 * kernels.nngp))
