"""Kernels that are inner products of features: the values of the pairs, and which networks they are of."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
    Dense,
    GroupConv,
    GroupPool,
    IrrepPool,
    Lift,
    Monomial,
    ProductGrid,
    Products,
    Relu,
    SphereSignal,
    gram,
    kernel_diagonal,
    open_gram,
    serial,
)
from so3ntk.engine.evaluation.tiles import host_kernels, make_tiling
from so3ntk.engine.plan import make_plan
from so3ntk.matrices.gram import precise_gram
from so3ntk.molecules import AtomSum, Environments
from tests.oracles.harmonics import white_signals

BOTH = ("nngp", "ntk")
SQUARE = (Products((0, 0, 1)), GroupPool(), Dense())


def molecules(sizes, seed, channels=3, bandlimit=3, dtype=np.float64):
    """Random environments, of three elements."""
    rng = np.random.default_rng(seed)
    atoms = sum(sizes)
    signal = SphereSignal(jnp.asarray(white_signals(atoms, bandlimit, channels, seed), dtype), bandlimit)
    return Environments(signal, np.repeat(np.arange(len(sizes)), sizes), rng.choice([1, 6, 8], atoms))


A, B = molecules((2, 5, 1, 3, 4, 2, 2), 0), molecules((3, 1, 4), 1)

NETWORKS = {
    "squares": (Lift(), *SQUARE),
    "all terms": (Lift(W_std=1.3, b_std=0.7), Products((0.3, 0.2, 1.1)), GroupPool(), Dense(W_std=0.8, b_std=0.4)),
    "two layers": (Lift(b_std=0.5), Products((0.1, 0.9)), GroupConv(W_std=0.6, b_std=0.2), *SQUARE),
    "linear": (Lift(b_std=0.5), GroupPool(), Dense(b_std=0.3)),
    "reflections": (Lift(b_std=0.5, group="O3"), *SQUARE),
    "weighted": (Lift(bandlimit=2, variances=(1.5, 0.0, 2.0), channel_weights=(1.0, 0.0, 2.5)), *SQUARE),
}


def by_pairs(net, x1, x2=None, names=BOTH):
    """The kernels pair by pair, on the exact grid of the polynomial."""
    plan = make_plan(net.layers, net.quadrature, net.rtol, x1, x2)
    assert plan.features is not None, "this network's kernels are inner products"
    return host_kernels(dataclasses.replace(plan, features=None), names)


@pytest.mark.parametrize(
    ("layers", "match"), [(layers, i % 2 == 0) for i, layers in enumerate(NETWORKS.values())], ids=NETWORKS
)
def test_values_are_those_of_the_pairs(layers, match):
    """Every second sum tells elements apart, which is nothing to the layers before."""
    net = serial(*layers, AtomSum(match_species=match), Dense(W_std=1.2, b_std=0.3))
    for ours, theirs in zip(gram(net, A, B, BOTH, progress=False), by_pairs(net, A, B), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    ours = gram(net, A, get="ntk", progress=False)
    np.testing.assert_array_equal(ours, ours.T)
    np.testing.assert_allclose(ours, gram(net, A, A, "ntk", progress=False), rtol=1e-12)
    np.testing.assert_allclose(kernel_diagonal(net, A), np.diag(ours), rtol=1e-12)


def test_signals_without_parts():
    net = serial(*NETWORKS["all terms"])
    x = SphereSignal(jnp.asarray(white_signals(9, 3, 2, 0)), 3)
    for ours, theirs in zip(gram(net, x, None, BOTH, progress=False), by_pairs(net, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(kernel_diagonal(net, x), np.diag(ours), rtol=1e-12)


BLOCKS = {
    "vectors": (Lift(W_std=1.3, b_std=0.7), Products((0.3, 0.2, 1.1)), IrrepPool(1)),
    "axial": (Lift(b_std=0.5, group="O3"), Products((0.1, 0.9)), GroupConv(), Products((0, 0, 1)), IrrepPool(1, 1)),
    "tensors": (Lift(bandlimit=2, b_std=0.5, group="O3"), Products((0, 0, 1)), IrrepPool(2, basis="cartesian")),
}


@pytest.mark.parametrize(("layers", "match"), [(BLOCKS[name], name != "axial") for name in BLOCKS], ids=BLOCKS)
def test_blocks_are_those_of_the_pairs(layers, match):
    """To 1e-12 of the largest entry: blocks hold entries near zero."""
    net = serial(*layers, Dense(W_std=0.8), AtomSum(match_species=match), Dense(W_std=1.2))
    ours, theirs = gram(net, A, B, BOTH, progress=False), by_pairs(net, A, B)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
    own = gram(net, A, progress=False)
    np.testing.assert_array_equal(own, own.transpose(1, 0, 3, 2))
    np.testing.assert_allclose(own[1, :2], gram(net, A[1:2], A[:2], progress=False)[0], atol=1e-12 * np.abs(own).max())
    diagonal = np.einsum("ii...->i...", own)
    np.testing.assert_allclose(kernel_diagonal(net, A), diagonal, rtol=0, atol=1e-12 * np.abs(own).max())


OTHERS = {
    "variances": (Lift(), Monomial(2), GroupPool()),
    "cubes": (Lift(), Products((0, 0, 0, 1)), GroupPool()),
    "no polynomial": (Lift(), Relu(), GroupPool()),
    "after pooling": (Lift(), *SQUARE, Relu(), Dense()),
    "blocks of cubes": (Lift(), Products((0, 0, 0, 1)), IrrepPool(1)),
    "pseudoscalars": (Lift(group="O3"), Products((0, 0, 1)), IrrepPool(0, -1)),
    "spectra": (Lift(), Products((0, 1)), GroupConv(bandlimit=2), Products((0, 0, 1)), GroupPool()),
}


@pytest.mark.parametrize("layers", OTHERS.values(), ids=OTHERS)
def test_others_are_evaluated_pair_by_pair(layers):
    """Whose coefficients depend on the signals, which are of a higher degree, or which do not end as one number."""
    net = serial(*layers)
    assert make_plan(net.layers, net.quadrature, net.rtol, A.signal, None).features is None


def test_a_quadrature_that_is_given_is_kept_to():
    """Inner products have its values only where it is exact."""
    layers = NETWORKS["all terms"]
    plans = [make_plan(layers, grid, 1e-4, A.signal, None) for grid in (None, ProductGrid(8), ProductGrid(4, 2))]
    assert [plan.features is None for plan in plans] == [False, False, True]


def test_features_are_used_where_they_cost_less():
    """One channel has four features at L = 4; 400 channels have 320,800, which pay where pairs of atoms are summed."""
    few, many = (SphereSignal(jnp.ones((2, 16, c)), 4) for c in (1, 400))
    net, molecular = serial(Lift(), *SQUARE), serial(Lift(), *SQUARE, AtomSum())
    plans = [make_plan(net.layers, None, 1e-4, x, None) for x in (few, many)]
    assert plans[0].features is not None
    assert plans[0].features.width == 1 + 4
    assert plans[1].features is None
    atoms = Environments(many, np.array([0, 0]), np.array([1, 1]))
    plan = make_plan(molecular.layers, None, 1e-4, atoms, None)
    assert plan.features is not None
    assert plan.features.width == 400 + 4 * 400 * 401 // 2


def test_single_precision_is_positive_semidefinite_to_double():
    """Sums of products are in float64: rounded features have an exact Gram matrix."""
    x = molecules((3,) * 40, 2, channels=2, bandlimit=2, dtype=np.float32)
    net = serial(Lift(b_std=0.5), *SQUARE, AtomSum(match_species=True))
    kernel = precise_gram(net, x)
    assert kernel.dtype == np.float64
    values = np.linalg.eigvalsh(kernel)
    assert values[0] > -1e-14 * values[-1]
    assert np.count_nonzero(values > 1e-12 * values[-1]) < len(x), "fewer features than molecules"
    single = gram(net, x, progress=False)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, kernel, rtol=1e-7)


def test_tiles_and_stores(tmp_path):
    """Whatever the tiles are, and in a store that is resumed."""
    net = serial(*NETWORKS["all terms"], AtomSum(match_species=True))
    whole = gram(net, A, B, progress=False)
    np.testing.assert_allclose(gram(net, A, B, tile=4, progress=False), whole, rtol=1e-13)
    own = gram(net, A, progress=False)
    path = tmp_path / "kernel.zarr"
    for share in ((0, 2), (1, 2)):
        gram(net, A, tile=4, store=path, share=share, progress=False)
    np.testing.assert_allclose(np.asarray(open_gram(path)), own, rtol=1e-13)


def test_the_budget_counts_features():
    """Tiles are smaller where features would not fit."""
    net = serial(Lift(), *SQUARE, AtomSum())
    signal = SphereSignal(jnp.ones((3000, 4, 60)), 2)
    x = Environments(signal, np.arange(3000), np.ones(3000, int))
    plan = make_plan(net.layers, None, 1e-4, x, None)
    assert plan.features is not None
    small, large = (make_tiling(plan, memory=memory).side for memory in ("100MiB", "2GiB"))
    assert small < large
    assert 2 * small * plan.features.bytes_per_input(8) < 100 * 2**20
