"""Kernels of filters on caps are the limits of finite networks whose filters are white noise cut to the caps.

What the lifting's cap changes is far above the noise of 256 draws, and a convolution's below it: the covariance of its
features is compared without sampling.
"""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import Dense, Erf, GroupConv, GroupPool, Lift, ProductGrid, Relu, SphereSignal, serial
from so3ntk.sphere.local_filters import convolution_root, lifting_root
from so3ntk.sphere.positions import SphereGrid, cap_multipliers
from so3ntk.sphere.quadrature import LocalGrid
from so3ntk.sphere.rotations import block_indices
from tests.finite.cases import average, compare, sphere_signals
from tests.oracles import local
from tests.oracles.harmonics import white_signals

GRID = LocalGrid(ProductGrid(8), SphereGrid(8))


def lifted(support: float | None = 0.8):
    return serial(Lift(width=32, support=support, b_std=0.3), Erf(), GroupPool(), Dense(1, W_std=1.2, b_std=0.2),
                  quadrature=GRID if support else GRID.rotations)  # fmt: skip


@lru_cache
def run():
    net = lifted()
    return average(net, sphere_signals()), net.kernel_fn(sphere_signals())


@pytest.mark.slow
def test_finite_networks():
    compare(*run())


@pytest.mark.slow
def test_a_filter_on_the_whole_sphere_fails():
    with pytest.raises(AssertionError, match=r"nngp|ntk"):
        compare(run()[0], lifted(None).kernel_fn(sphere_signals()))


@pytest.mark.parametrize("angle", [0.4, 1.5, np.pi])
def test_filters_have_the_covariance_of_white_noise_on_a_cap(angle):
    """For m = n = 0 mean over the cap of e_l e_0 = sqrt(2l + 1) w_l; the trace is the sum of squares at a point, L^2."""
    bandlimit = 4
    degrees = np.arange(bandlimit)
    root = lifting_root(bandlimit, angle)
    zonal = degrees**2 + degrees
    expected = np.sqrt(2 * degrees + 1) * cap_multipliers(angle, bandlimit)
    np.testing.assert_allclose((root @ root.T)[zonal, 0], expected, atol=1e-12)
    np.testing.assert_allclose(np.sum(root**2), bandlimit**2, rtol=1e-12)
    root = convolution_root(bandlimit, angle)
    _, row, column = block_indices(bandlimit)
    zonal = [np.flatnonzero((row == z) & (column == z))[0] for z in zonal]
    np.testing.assert_allclose((root @ root.T)[zonal, 0], expected, atol=1e-12)
    np.testing.assert_allclose(np.sum(root**2), np.sum((2 * degrees + 1) ** 2), rtol=1e-12)


def test_finite_networks_use_the_rotations_of_the_grid():
    net = serial(Lift(width=4, support=1.0, b_std=0.3), Relu(), GroupPool(), Dense(1, b_std=0.2), quadrature=GRID)
    x = sphere_signals()
    same = dataclasses.replace(net, quadrature=GRID.rotations)

    @jax.jit
    def outputs(key):
        params = net.init_fn(key, x.shape)[1]
        return net.apply_fn(params, x), same.apply_fn(params, x)

    found, expected = outputs(jax.random.key(0))
    assert found.shape == (2, 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("group", ["SO3", "O3"])
def test_covariance_of_linear_features_is_the_oracles(group):
    """Over all filters, without sampling: the kernel of two linear layers at pairs (g, g'), some of them improper.

    The first layer's filters are the basis itself, as channels; the second's covariance is J J^T, features being J
    times its filters.
    """
    bandlimit, grid = 2, ProductGrid(8)
    basis = bandlimit**2
    layers = (Lift(width=basis, support=0.9, group=group), GroupConv(width=1, support=0.7))
    net = serial(*layers, quadrature=grid)
    values = white_signals(2, bandlimit, 1, seed=5)
    x = SphereSignal(jnp.asarray(values), bandlimit)
    _, ((filters, _), (second, _)) = net.init_fn(jax.random.key(0), x.shape, np.float64)
    rows = np.sqrt(basis) * np.eye(basis)[:, None]  # filters (coefficient, input channel, channel)
    first = tuple(jnp.asarray(rows[d**2 : (d + 1) ** 2]) for d in range(len(filters)))

    rng = np.random.default_rng(6)
    chosen = rng.integers(len(grid), size=12) + len(grid) * (np.arange(12) % 2) * (group == "O3")
    matrices = grid.rotations.as_matrix()[chosen % len(grid)] * np.where(chosen < len(grid), 1, -1)[:, None, None]
    features = lambda second: net.apply_fn(((first, None), (second, None)), x)[:, chosen, 0]  # noqa: E731
    slopes = jax.tree.leaves(jax.jit(jax.jacobian(features))(second))
    slopes = np.concatenate([leaf.reshape(2, 12, -1) for leaf in slopes], axis=-1)
    at, to = np.meshgrid(range(6), range(6, 12), indexing="ij")
    found = np.sum(slopes[0, at] * slopes[1, to], axis=-1)
    oracle = [("lift", 0.9, 1.0, 0.0), ("conv", 0.7, 1.0, 0.0)]
    expected = local.kernels(values[0], values[1], matrices[at], matrices[to], oracle, local.Rule(4, 6)).pair
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())
