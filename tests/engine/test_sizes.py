"""Cells and tiles sized for a GPU, and its dense tables of rotations: the values of a processor, within a budget."""

import numpy as np
import pytest

from so3ntk import Dense, GroupConv, GroupPool, IrrepPool, Lift, Monomial, ProductGrid, Relu, SphereSignal, gram, serial
from so3ntk.engine import plan as plans
from so3ntk.engine import sizes
from so3ntk.engine.evaluation.sums import add_by_owner, add_mirror_image
from so3ntk.engine.evaluation.tiles import bytes_of, make_tiling
from so3ntk.engine.plan import make_plan
from so3ntk.sphere.transforms import grid as grids
from so3ntk.sphere.transforms.grid import Grid

GRID = ProductGrid(8)
SIGNALS = SphereSignal(np.random.default_rng(0).normal(size=(70, 9, 2)), 3)
NETWORKS = {
    "tower": serial(Lift(), Relu(), GroupPool(), Dense(), quadrature=GRID),
    "by layers": serial(Lift(), Relu(), GroupConv(bandlimit=3), Monomial(2), GroupPool(), quadrature=GRID),
    "irrep": serial(Lift(), Relu(), IrrepPool(1), quadrature=GRID),
}


class Card:
    """A device of 3 GiB."""

    platform = "gpu"

    def memory_stats(self):
        """As jax's devices have it."""
        return {"bytes_limit": 3 * 2**30}


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_dense_tables_have_the_same_values(net, monkeypatch):
    """Sixteen tables and the signs of the images, or one table."""
    few = SIGNALS[:5]
    sparse = net.kernel_fn(few)
    monkeypatch.setattr(grids, "on_gpu", lambda: True)
    assert Grid.load(GRID, 3, np.float64).fused
    for found, expected in zip(net.kernel_fn(few), sparse, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * np.abs(expected).max())


def test_large_bandlimits_keep_the_small_tables(monkeypatch):
    """There a dense product would be what takes the time."""
    monkeypatch.setattr(grids, "on_gpu", lambda: True)
    assert Grid.load(GRID, grids.DENSE_ON_GPU + 1, np.float64).images == 16


def test_sizes_follow_the_device(monkeypatch):
    """A small card's cells take a thirty-second of it; a processor's what fits its cache."""
    assert sizes.sizes_here() == sizes.PROCESSOR
    monkeypatch.setattr(sizes, "_device", Card)
    assert sizes.sizes_here() == sizes.GPU._replace(cell_bytes=3 * 2**30 // 32)
    monkeypatch.setattr(sizes, "_device", lambda: "gpu")
    assert sizes.sizes_here() == sizes.GPU


def test_large_cells_give_the_same_matrix(monkeypatch):
    """One cell in place of nine."""
    net = NETWORKS["tower"]
    small = gram(net, SIGNALS, progress=False)
    monkeypatch.setattr(plans, "sizes_here", lambda: sizes.GPU)
    tiling = make_tiling(make_plan(net.layers, GRID, 1e-4, SIGNALS, None))
    assert (tiling.cell, tiling.side) == ((128, 128), 128)
    np.testing.assert_allclose(gram(net, SIGNALS, progress=False), small, rtol=1e-12)


def test_cells_shrink_with_the_budget(monkeypatch):
    """A GPU's cells of half a gigabyte do not make a smaller budget fail."""
    net, signals = NETWORKS["tower"], SphereSignal(np.zeros((600, 9, 2)) + SIGNALS.coefficients[0], 3)
    monkeypatch.setattr(plans, "sizes_here", lambda: sizes.GPU)
    plan = make_plan(net.layers, ProductGrid(16), 1e-4, signals, None)
    sides = []
    for memory in ("64MiB", "300MiB", "2GiB"):
        tiling = make_tiling(plan, None, memory)
        assert bytes_of(plan, tiling.side, tiling.cell, tiling.cells) <= plans.parse_memory(memory)
        sides.append(tiling.cell[0])
    assert sides == [16, 32, 128]


def test_sums_by_owner():
    """Against a loop, for blocks of numbers and of matrices, and owners of one part and of several."""
    rng = np.random.default_rng(0)
    rows, columns = np.array([0, 0, 2, 3, 3, 3]), np.array([1, 1, 1, 1, 4])
    for shape in ((6, 5), (6, 5, 3, 3)):
        block = rng.normal(size=shape).astype(np.float32)
        total, expected = np.ones((4, 5, *shape[2:])), np.ones((4, 5, *shape[2:]))
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                expected[row, column] += block[i, j]
        add_by_owner(total, block, rows, columns)
        np.testing.assert_allclose(total, expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(3, 3), (300, 300), (130, 130, 3, 3)])
def test_mirror_images(shape):
    """Also of matrices that are no multiple of the squares that are mirrored at a time; blocks are turned, too."""
    matrix = np.random.default_rng(0).normal(size=shape)
    expected = matrix + matrix.transpose(1, 0, *reversed(range(2, matrix.ndim)))
    add_mirror_image(matrix)
    np.testing.assert_array_equal(matrix, expected)
