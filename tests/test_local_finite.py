"""Kernels of filters on caps are the limits of finite networks whose filters are white noise cut to the caps.

Filters on SO(3) keep degrees below four on this grid. The features of an Erf of signals of bandlimit two have more, by
less than the noise.
"""

import dataclasses
from functools import lru_cache

import jax
import numpy as np
import pytest

from so3ntk import Dense, Erf, GroupConv, GroupPool, Lift, ProductGrid, Relu, serial
from so3ntk.local_filters import convolution_root, lifting_root
from so3ntk.positions import SphereGrid, cap_multipliers
from so3ntk.quadrature import LocalGrid
from so3ntk.rotations import block_indices
from tests.finite.cases import average, compare, kernels_of, sphere_signals

GRID = LocalGrid(ProductGrid(8), SphereGrid(8))
WIDTH = 128


def lifted(support=1.0):
    return (Lift(width=WIDTH, support=support, b_std=0.3), Relu(), GroupPool(), Dense(1, W_std=1.2, b_std=0.2))


def convolved(first=1.2, second=0.8):
    return (Lift(width=WIDTH, support=first, b_std=0.3), Erf(), GroupConv(width=WIDTH, support=second, b_std=0.2), Erf(),
            GroupPool(), Dense(1))  # fmt: skip


@lru_cache
def run(make):
    net = serial(*make(), quadrature=GRID)
    return average(net, sphere_signals()), kernels_of(net, sphere_signals())


@pytest.mark.slow
@pytest.mark.parametrize("make", [lifted, convolved])
def test_finite_networks(make):
    compare(*run(make))


@pytest.mark.slow
@pytest.mark.parametrize(("make", "angles"), [(lifted, (None,)), (convolved, (None, 0.8))])
def test_filters_on_the_whole_sphere_fail(make, angles):
    """The comparison tells the lifting filter from a global one; what the second changes here is below the noise."""
    found, _ = run(make)
    wrong = serial(*make(*angles), quadrature=GRID if angles[0] else GRID.rotations)
    with pytest.raises(AssertionError, match=r"nngp|ntk"):
        compare(found, kernels_of(wrong, sphere_signals()))


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
    net = serial(*convolved(), quadrature=GRID)
    x = sphere_signals()
    same = dataclasses.replace(net, quadrature=GRID.rotations)
    shape, params = net.init_fn(jax.random.key(0), x.shape)
    assert shape == (2, 1)
    np.testing.assert_array_equal(net.apply_fn(params, x), same.apply_fn(params, x))
