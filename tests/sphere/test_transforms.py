"""Transforms on SO(3): axis by axis the values of the dense tables and of direct sums, both ways, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import Erf, GroupConv, GroupPool, Lift, Monomial, ProductGrid, Relu, SphereSignal, serial
from so3ntk.sphere.global_support import Blocks, SphereGeometry
from so3ntk.sphere.irreps import Irrep, start_of
from so3ntk.sphere.rotations import real_wigner_D
from so3ntk.sphere.transforms import grid as grids
from so3ntk.sphere.transforms.dense import DenseTransform
from so3ntk.sphere.transforms.grid import Grid, sampler
from so3ntk.sphere.transforms.separable import SeparableTransform

#: Bandlimits even and odd, grids coarser than the signals, n_beta odd, bands that end inside an order.
CASES = [(1, ProductGrid(4)), (11, ProductGrid(12, 5))]


def random_signals(bandlimit, channels, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(bandlimit**2, channels)) / bandlimit, dtype) for _ in range(2)]


def separable(grid, bandlimit, dtype=np.float64):
    weights = jnp.asarray(grid.representative_weights, dtype)
    return Grid(SeparableTransform.load(grid, bandlimit, dtype), weights)


@pytest.mark.parametrize(("bandlimit", "grid"), CASES, ids=str)
def test_dense_tables(bandlimit, grid):
    """Correlations of one channel and of several, means of a function, moments, blocks: all that a geometry does."""
    kept, degree = max(1, bandlimit // 2), min(bandlimit - 1, 2)

    @jax.jit
    def everything(transform, f, g):
        geometry = SphereGeometry(transform)
        samples = geometry.samples(geometry.correlate(f, g))
        function = lambda p, k: jnp.exp(p * k)  # noqa: E731 - it has all degrees
        values = function(2.0, samples)
        return {
            "one channel": geometry.samples(geometry.correlate(f[:, :1], g[:, :1])),
            "samples": samples,
            "fused": geometry.mean_of(function, jnp.array([1.0, 2.0]), f, g),
            "unrolled": SphereGeometry(Grid(transform.transform, transform.weights, True)).mean_of(
                function, jnp.array([1.0, 2.0]), f[:, :1], g[:, :1]
            ),
            "moments": (
                geometry.moment(values, degree),
                geometry.mean_of(function, jnp.array([2.0]), f, g, Irrep(degree)),
            ),
            "blocks": [geometry._blocks(values, limit).values for limit in (kept, bandlimit)],
            "of low degree": geometry.samples(Blocks(jnp.sin(jnp.arange(1.0 + start_of(kept)))[1:], kept)),
        }

    f, g = random_signals(bandlimit, 2)
    weights = jnp.asarray(grid.representative_weights)
    expected = everything(Grid(DenseTransform.load(grid, bandlimit, np.float64), weights), f, g)
    found = everything(separable(grid, bandlimit), f, g)
    for name, values in expected.items():
        for a, b in zip(jax.tree.leaves(found[name]), jax.tree.leaves(values), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14 * bandlimit**2 * np.abs(b).max(), err_msg=name)
    with pytest.MonkeyPatch.context() as patch:  # and on the host, in NumPy
        patch.setattr(grids, "DENSE", 0)
        blocks = SphereGeometry(None).correlate(f, g)
        samples = sampler(grid, bandlimit)(np.asarray(blocks.values))
    np.testing.assert_allclose(samples, expected["samples"], rtol=0, atol=1e-13 * bandlimit)


@pytest.mark.parametrize("bandlimit", [17, 64])
def test_direct_sums_at_random_rotations(bandlimit):
    """sum_lmn S^l_mn D^l_mn(r), relative to the largest value; 16 rotations of a grid, each D^l made for them alone."""
    grid, (f, g) = ProductGrid(8, 7), random_signals(bandlimit, 1)
    chosen = np.random.default_rng(2).choice(len(grid), 16, replace=False)
    rotations, expected = grid.rotations[chosen], np.zeros(16)
    a, b = (np.asarray(x[:, 0]) for x in (f, g))
    for degree in range(bandlimit):
        part = slice(degree**2, (degree + 1) ** 2)
        expected += (real_wigner_D(degree, rotations) @ b[part]) @ a[part] / (4 * np.pi)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        geometry = SphereGeometry(separable(grid, bandlimit, dtype))
        correlated = jax.jit(lambda f, g, by=geometry: by.samples(by.correlate(f, g)))
        found = np.asarray(correlated(f.astype(dtype), g.astype(dtype)))[chosen]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("case", ["a tower's derivatives", "layers with a spectrum"])
def test_networks(case, monkeypatch):
    """Kernels, and derivatives in the signals, which go layer by layer, with either transform."""
    middle = (Relu(),) if "tower" in case else (Erf(), GroupConv(bandlimit=2), Monomial(2))
    net = serial(Lift(), *middle, GroupPool(), quadrature=ProductGrid(8))
    values = jnp.asarray(np.random.default_rng(3).normal(size=(2, 16, 1)))
    kernel = lambda x: net.kernel_fn(SphereSignal(x, 4), get="ntk")  # noqa: E731
    total = lambda x: jnp.sum(jnp.sin(kernel(x)))  # noqa: E731
    results = []
    for first, kind in ((64, DenseTransform), (3, SeparableTransform)):
        monkeypatch.setattr(grids, "DENSE", first)
        assert isinstance(Grid.load(net.quadrature, 4, np.float64).transform, kind)
        results.append(jax.jit(jax.grad(lambda x: total(x)))(values) if "tower" in case else kernel(values))
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-12 * np.abs(results[0]).max())


def test_low_bandlimits_keep_their_tables():
    """To the bit: what was measured and published there stays."""
    assert isinstance(Grid.load(ProductGrid(4), grids.DENSE, np.float32).transform, DenseTransform)
    assert isinstance(Grid.load(ProductGrid(4), grids.DENSE + 1, np.float32).transform, SeparableTransform)
