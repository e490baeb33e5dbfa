"""The SO(3) kernels against two independent derivations: the recursion on G x G, and the mean over rotations."""

import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import Dense, Erf, ExplicitGrid, GroupConv, GroupPool, Lift, ProductGrid, Relu, SphereSignal
from tests.oracles.gxg import convolved, driscoll_healy_grid, gauss_legendre_grid, gxg_kernels
from tests.oracles.harmonics import white_signals
from tests.oracles.rotation_mean import rotation_mean

EPS = np.finfo(np.float64).eps
ACTIVATIONS = {"relu": Relu, "erf": Erf}


def signals(n, bandlimit, channels=2, seed=0):
    return SphereSignal(jnp.asarray(white_signals(n, bandlimit, channels, seed)), bandlimit)


def relative(kernel, expected, diagonal):
    """|K - expected| / sqrt(K(x, x) K(x', x'))."""
    return np.abs(np.asarray(kernel) - expected) / np.sqrt(np.outer(diagonal, diagonal))


# --- the recursion on G x G

#: Layers after lifting (W_std 1.3, b_std 0.1), and the aliasing of the recursion, measured at bandlimits 3 and 5. It
#: falls fast where the last kernel alone is not band-limited (one nonlinearity), and slowly where a convolution cuts
#: one off; a filter of finite bandlimit cuts nothing.
GXG = {
    "linear": ([("conv", 1.2, 0.3)], 1e-13, 1e-13),
    "relu": (["relu"], 2e-4, 4e-6),
    "erf": (["erf", ("conv", 1.2, 0.3), "erf"], 4e-2, 5e-3),
    "spectrum": (["relu", ("conv", 0.8, 0.3, [0.5, 2.0]), "erf"], 3e-3, 3e-5),
}


def network_like(layers, quadrature):
    hidden = []
    for layer in layers:
        if isinstance(layer, str):
            hidden.append(ACTIVATIONS[layer]())
        else:
            _, W_std, b_std, *filters = layer
            variances = np.array(filters[0]) if filters else None
            hidden.append(GroupConv(W_std=W_std, b_std=b_std or None, variances=variances))
    return so3ntk.serial(Lift(W_std=1.3, b_std=0.1), *hidden, GroupPool(), quadrature=quadrature)


@pytest.mark.parametrize("name", GXG)
def test_recursion_on_the_product_group_converges_to_ours(name):
    layers, coarse, fine = GXG[name]
    x = signals(2, 2)
    ours = network_like(layers, ProductGrid(16)).kernel_fn(x)
    errors = []
    for bandlimit in (3, 5):
        theirs = gxg_kernels(*np.asarray(x.coefficients), 2, layers, gauss_legendre_grid(bandlimit), lift=(1.3, 0.1))
        errors.append(max(relative(k[0, 1], t, np.diag(k))[0, 1] for k, t in zip(ours, theirs, strict=True)))
    assert errors[0] < coarse
    assert errors[1] < fine
    assert errors[1] < 0.3 * errors[0] or name == "linear"


def test_aliasing_on_driscoll_healy_grids_falls_with_refinement():
    layers, _, fine = GXG["erf"]
    x = signals(2, 2)
    k = network_like(layers, ProductGrid(16)).kernel_fn(x).ntk
    errors = []
    for bandlimit in (2, 4):
        _, ntk = gxg_kernels(*np.asarray(x.coefficients), 2, layers, driscoll_healy_grid(bandlimit), lift=(1.3, 0.1))
        errors.append(relative(k[0, 1], ntk, np.diag(k))[0, 1])
    assert errors[1] < 0.3 * errors[0]
    assert errors[1] < fine


def test_convolution_on_the_product_group_leaves_what_depends_on_the_relative_motion():
    # K[g, g'] = tr M D(g) D(g')^T is a function of g' g^-1: averaging K[g s, g' s] over s does nothing
    grid = gauss_legendre_grid(3)
    coefficients = np.random.default_rng(0).normal(size=(5, 5))
    kernel = np.einsum("gmk,mp,hpk->gh", grid.wigner[2], coefficients, grid.wigner[2])
    np.testing.assert_allclose(convolved(kernel, grid, np.ones(3)), kernel, atol=1e3 * EPS * np.abs(kernel).max())
    moved = np.einsum("gmk,hkp->gh", grid.wigner[1], grid.wigner[1])  # not of that form: it is averaged away
    assert np.abs(convolved(moved, grid, np.ones(3))).max() < 0.5 * np.abs(moved).max()


# --- the mean over rotations

GRIDS = {
    "random": ExplicitGrid(so3ntk.random_rotations(50, seed=3)),
    "random, weighted": ExplicitGrid(so3ntk.random_rotations(3, seed=4), [0.2, 0.3, 0.5]),
}
MLPS = {
    "relu": [(1.3, 0.2), "relu", (0.7, 0.0)],
    "relu three times": [(1.3, 0.0), "relu", (1.5, 0.2), "relu", (0.9, 0.0), "relu", (1.1, 0.3)],
    "gelu, erf": [(1.1, 0.1), "gelu", (1.5, 0.0), "erf", (1.0, 0.2)],
}
#: Product grids are in test_quadrature, with one ReLU, and those of odd n_beta in test_products.
COMBINATIONS = [("relu three times", "random"), ("gelu, erf", "random, weighted")]


@pytest.mark.parametrize(("name", "grid"), COMBINATIONS)
def test_kernel_is_the_mean_over_rotations_of_the_dense_kernel(name, grid):
    quadrature, layers = GRIDS[grid], MLPS[name]
    (W_std, b_std), *rest = layers
    ours = [Lift(W_std=W_std, b_std=b_std or None)]
    pools = max(i for i, layer in enumerate(rest) if isinstance(layer, str))
    for i, layer in enumerate(rest):
        if isinstance(layer, str):
            ours.append(so3ntk.Gelu() if layer == "gelu" else ACTIVATIONS[layer]())
            ours += [GroupPool()] * (i == pools)
        else:
            kind = Dense if i > pools else GroupConv
            ours.append(kind(W_std=layer[0], b_std=layer[1] or None))
    net = so3ntk.serial(*ours, quadrature=quadrature)
    x, y = signals(3, 3), signals(4, 3, seed=1)
    expected = rotation_mean(*(np.asarray(a.coefficients) for a in (x, y)), quadrature.rotations.as_matrix(),
                             quadrature.weights, layers)  # fmt: skip
    for kernel, mean in zip(net.kernel_fn(x, y), expected, strict=True):
        # 1e-12 of the kernel's size: a Chebyshev interpolant of 34 nodes and sums over some hundred rotations
        np.testing.assert_allclose(kernel, mean, rtol=0, atol=1e-12 * np.abs(mean).max())


def test_a_wrong_rotation_or_weight_is_seen():
    np.testing.assert_allclose(GRIDS["random"].weights, 1 / 50, rtol=4 * EPS)  # which the oracle takes from the grid
    # the oracle must not be blind: inverse rotations, and equal weights in place of the given ones, are off by percents
    grid, layers = GRIDS["random, weighted"], MLPS["relu"]
    f, g = (white_signals(2, 3, 1, seed) for seed in (0, 1))
    matrices = grid.rotations.as_matrix()
    right = rotation_mean(f, g, matrices, grid.weights, layers)[1]
    inverse = rotation_mean(f, g, matrices.transpose(0, 2, 1), grid.weights, layers)[1]
    unweighted = rotation_mean(f, g, matrices, np.full(3, 1 / 3), layers)[1]
    assert np.abs(inverse - right).max() > 1e-2 * np.abs(right).max()
    assert np.abs(unweighted - right).max() > 1e-3 * np.abs(right).max()
