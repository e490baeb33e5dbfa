"""Rotation grids: the rule, calibration, estimates and warnings, against sums over the rotations written in NumPy.

Errors are those of all pairs of a batch, each signal with itself included, relative to sqrt(K(x, x) K(x', x')).
"""

import re
import warnings

import jax
import numpy as np
import pytest

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    GroupConv,
    GroupPool,
    Lift,
    ProductGrid,
    Relu,
    gram,
    serial,
)
from so3ntk.molecules import AtomSum, environments
from so3ntk.sphere.quadrature import MAX_POINTS, choose, choose_grid, position_rings
from so3ntk.sphere.rotations import block_indices, real_wigner_table
from tests.oracles.duals import mlp
from tests.oracles.harmonics import rotated, white_signals

EPS = np.finfo(np.float64).eps
ACTIVATIONS = {"relu": Relu(), "erf": Erf()}


# --- kernels on a grid, written out


def correlations(f, grid):
    """The kernel before any nonlinearity, (pairs i <= j, rotations)."""
    bandlimit = round(f.shape[1] ** 0.5)
    _, row, column = block_indices(bandlimit)
    i, j = np.triu_indices(len(f))
    blocks = np.einsum("kpc,kpc->kp", f[i][:, row], f[j][:, column]) / (4 * np.pi * f.shape[2])
    return blocks @ real_wigner_table(bandlimit, grid.rotations.as_euler("ZYZ")).T


def pooled(f, grid, activation, depth):
    """NNGP and NTK (2, pairs i <= j) of ``network``, and each pair's largest cosine on the grid."""
    kernel = correlations(f, grid)
    q = np.sum(f**2, axis=(1, 2)) / (4 * np.pi * f.shape[2])
    q1, q2 = (q[k][:, None] for k in np.triu_indices(len(f)))
    values = mlp(kernel, q1, q2, [(1.0, 0.0), *[activation, (1.0, 0.0)] * depth])
    return np.stack([v @ grid.weights for v in values]), np.max(kernel / np.sqrt(q1 * q2), axis=1)


def on_grid(f, grid, activation, depth):
    """The kernels on either kind of grid."""
    if not isinstance(grid, so3ntk.AdaptiveGrid):
        return pooled(f, grid, activation, depth)[0]
    (base, alignment), (fine, _) = (pooled(f, g, activation, depth) for g in (grid.base, grid.fine))
    return np.where(alignment > grid.threshold, fine, base)


def largest_errors(f, coarse, fine):
    """NNGP's and NTK's |coarse - fine| of pairs i <= j over the norms by the finer one."""
    i, j = np.triu_indices(len(f))
    own = fine[:, i == j]
    return np.max(np.abs(coarse - fine) / np.sqrt(own[:, i] * own[:, j]), axis=1)


def error_of(f, grid, activation, depth, finer=None):
    """Against a finer grid; the default has twice as many points per axis."""
    return largest_errors(f, *(on_grid(f, g, activation, depth) for g in (grid, finer or grid.refined())))


def half_as_fine_again(grid):
    """A grid that sees four fifths of an error that falls as n^-4."""
    if isinstance(grid, so3ntk.AdaptiveGrid):
        return so3ntk.AdaptiveGrid(half_as_fine_again(grid.base), half_as_fine_again(grid.fine), grid.threshold)
    return ProductGrid(4 * -(-grid.n * 3 // 8))


def network(activation, depth, **options):
    layer = ACTIVATIONS[activation]
    return serial(Lift(), *[layer, GroupConv()] * depth, GroupPool(), **options)


def batch(bandlimit, seed=0):
    """Three generic white signals, one a fifth away from the first, and the second one rotated."""
    a, b, c, noise = white_signals(4, bandlimit, 1, seed)
    near = a + 0.2 * noise
    turned = rotated(b[None], so3ntk.random_rotations(1, seed=seed).as_matrix())[0, 0]
    return np.stack([a, b, c, near / np.sqrt(np.sum(near**2) / (4 * np.pi)), turned])


def signal(f):
    return so3ntk.SphereSignal(np.asarray(f), round(f.shape[1] ** 0.5))


# --- the rule


@pytest.mark.parametrize("rtol", [1e-3, 1e-4])
@pytest.mark.parametrize(("bandlimit", "depth"), [(2, 1), (3, 1), (4, 1), (2, 3), (3, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_rule_reaches_its_tolerance(activation, depth, bandlimit, rtol):
    grid = choose(bandlimit, network(activation, depth).layers, rtol)
    assert error_of(batch(bandlimit), grid, activation, depth, half_as_fine_again(grid)).max() < 0.8 * rtol


def test_networks_are_evaluated_on_the_grid_of_the_rule():
    f = batch(3)
    net = network("relu", 1, rtol=1e-3)
    expected = on_grid(f, choose(3, net.layers, 1e-3), "relu", 1)
    # Sums of some hundred terms at each layer; a kink turns eps in the cosine of an aligned pair into its root.
    errors = 2 * 500 * EPS, 4 * EPS**0.5
    for kernel, values, error in zip(net.kernel_fn(signal(f)), expected, errors, strict=True):
        np.testing.assert_allclose(kernel[np.triu_indices(5)], values, rtol=0, atol=error * values.max())


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_six_digits_at_depth_three():
    net = network("relu", 3, rtol=1e-6)
    x = signal(batch(4, seed=1)[[0, 1, 3, 4]])  # as many as a program is compiled for
    finer = half_as_fine_again(choose(4, net.layers, 1e-6))
    for kernel, fine in zip(net.kernel_fn(x), network("relu", 3, quadrature=finer).kernel_fn(x), strict=True):
        norms = np.sqrt(np.outer(np.diag(fine), np.diag(fine)))
        assert np.max(np.abs(kernel - fine) / norms) < 0.8e-6


def test_six_digits_of_a_smooth_network():
    """Whose error falls so fast that a grid a quarter finer sees all of it."""
    grid = choose(4, network("erf", 3).layers, 1e-6)
    finer = ProductGrid(4 * -(-grid.n * 5 // 16))
    assert error_of(batch(4, seed=1)[[0, 3]], grid, "erf", 3, finer).max() < 1e-6


def test_the_rule_sees_the_roughest_branch_and_the_smallest_cap():
    for kinked in (0, 1):
        branches = so3ntk.parallel(Erf(), Erf()) if not kinked else so3ntk.parallel(Erf(), Relu())
        net = serial(Lift(), so3ntk.FanOut(2), branches, so3ntk.FanInSum(), GroupPool())
        assert isinstance(choose(3, net.layers, 1e-4), so3ntk.AdaptiveGrid if kinked else ProductGrid)
    caps = so3ntk.parallel(Lift(support=1.5), Lift(support=0.4))
    layers = serial(so3ntk.FanOut(2), caps, so3ntk.FanInSum(), Erf(), GroupPool()).layers
    alone = serial(Lift(support=0.4), Erf(), GroupPool()).layers
    assert position_rings(3, layers, 1e-3) == position_rings(3, alone, 1e-3) > 10


def test_linear_networks_are_exact():
    f = batch(6)
    linear = choose(6, serial(Lift(), GroupConv(), GroupPool()).layers, 0.5)
    i, j = np.triu_indices(len(f))
    exact = np.sum(f[i, 0] * f[j, 0], axis=1) / (4 * np.pi)  # the mean over rotations keeps degree 0
    np.testing.assert_allclose(correlations(f, linear) @ linear.weights, exact, rtol=0, atol=100 * EPS)


def test_a_signal_that_almost_averages_away_needs_more_than_the_rule():
    """An odd activation leaves little of a signal whose mean is small, and errors are relative to what it leaves.

    The rule cannot know: the warning says so, and calibration does better.
    """
    f = white_signals(4, 4, 1, 3)  # means of 0.01 and 0.02
    net = network("erf", 1, rtol=1e-3)
    with pytest.warns(so3ntk.QuadratureWarning, match="calibrate"):
        net.kernel_fn(signal(f), None, "nngp")
    grid = net.calibrate(signal(f)).quadrature
    assert error_of(f, grid, "erf", 1).max() < 1e-3 < error_of(f, choose(4, net.layers, 1e-3), "erf", 1).max()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_counts_are_equal_and_even_and_grow_with_accuracy(activation):
    layers = network(activation, 2).layers
    for bandlimit in range(2, 9):
        sizes = []
        for rtol in (1e-2, 1e-3, 1e-4, 1e-5):
            grid = choose(bandlimit, layers, rtol)
            for part in (grid.base, grid.fine) if isinstance(grid, so3ntk.AdaptiveGrid) else (grid,):
                assert part.n % 4 == 0
                assert 2 * bandlimit <= part.n == 2 * part.n_beta <= MAX_POINTS
            sizes.append(part.n)
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]
    alpha, _, gamma = part.rotations.as_euler("ZYZ").T
    counts = [len(np.unique(np.round(angles % (2 * np.pi), 9))) for angles in (alpha, gamma)]
    assert counts == [part.n, part.n]


def test_grid_is_bounded():
    for activation in ACTIVATIONS:
        grid = choose(3, network(activation, 3).layers, 1e-15)
        assert (grid.fine if isinstance(grid, so3ntk.AdaptiveGrid) else grid).n <= MAX_POINTS


def test_choice_sees_bandlimit_and_layers_alone():
    net = network("relu", 1)
    small, large = signal(batch(3)[:1]), signal(1e3 * white_signals(9, 3, 2, 5))
    assert choose_grid(net.layers, None, 1e-3, small.bandlimit) == choose_grid(net.layers, None, 1e-3, large.bandlimit)
    assert choose_grid((Lift(bandlimit=2), *net.layers[1:]), None, 1e-3, small.bandlimit) == choose(2, net.layers, 1e-3)
    given = ProductGrid(12)
    assert choose_grid(net.layers, given, 1e-3, small.bandlimit) is given
    # alignments are measured where layers collapse to towers: elsewhere one grid serves all pairs
    assert isinstance(choose(3, (Lift(), Relu(), GroupConv(bandlimit=3), Relu(), GroupPool()), 1e-3), ProductGrid)


def test_kernels_of_a_pair_do_not_depend_on_the_rest():
    """Nor on tiles; aligned pairs have the fine grid's value, others the base grid's."""
    f = np.concatenate([batch(3), white_signals(3, 3, 1, 8)])
    x, grid = signal(f), so3ntk.AdaptiveGrid(ProductGrid(8), ProductGrid(16), 0.8)
    net = network("relu", 1, quadrature=grid, rtol=0.5)
    whole = np.asarray(net.kernel_fn(x, None, "ntk"))
    i, j = np.triu_indices(len(f))
    (base, alignment), (fine, _) = (pooled(f, g, "relu", 1) for g in (grid.base, grid.fine))
    aligned = alignment > grid.threshold
    assert aligned[i == j].all()
    assert aligned[(i == 0) & (j == 3)].all()  # a fifth away
    assert aligned[(i == 1) & (j == 4)].all()  # rotated
    assert 10 <= aligned.sum() < 25
    expected = np.where(aligned, fine[1], base[1])
    distance = np.abs(fine[1] - base[1]) / whole.max()
    np.testing.assert_allclose(whole[i, j], expected, rtol=0, atol=4 * EPS**0.5 * whole.max())
    assert distance[i == j].min() > 10 * 4 * EPS**0.5  # the two grids differ by more than that
    for tile in (1, 4):
        tiled = gram(net, x, tile=tile, progress=False)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=8 * EPS * whole.max())
    for rows, columns in (([0], [3]), ([4], [1]), ([1], [2]), ([5, 0, 2], [7, 2, 0, 6])):
        part = net.kernel_fn(x[rows], x[columns], "ntk")
        np.testing.assert_allclose(part, whole[np.ix_(rows, columns)], rtol=0, atol=4 * EPS**0.5 * whole.max())


# --- estimates


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_estimate_is_near_the_error_and_falls_with_refinement(activation):
    f = batch(3)
    exact = on_grid(f, ProductGrid(40), activation, 1)
    found = []
    for grid in (ProductGrid(8), ProductGrid(12), so3ntk.AdaptiveGrid(ProductGrid(12), ProductGrid(20), 0.8)):
        net = network(activation, 1, quadrature=grid)
        estimates = np.array([net.quadrature_error(signal(f), get=get) for get in ("nngp", "ntk")])
        errors = largest_errors(f, on_grid(f, grid, activation, 1), exact)
        assert np.all(errors / 2 < estimates)
        assert np.all(estimates < 2 * errors)
        found.append(estimates)
    assert np.all(np.diff(found, axis=0) < 0)


def test_estimate_where_layers_do_not_collapse():
    layers = (Lift(), Relu(), GroupConv(bandlimit=2), GroupPool())
    x, net = signal(batch(2)[:3]), serial(*layers, quadrature=ProductGrid(8))
    a, b = (np.asarray(n.kernel_fn(x).ntk) for n in (net, serial(*layers, quadrature=ProductGrid(16))))
    error = np.max(np.abs(a - b) / np.sqrt(np.outer(np.diag(b), np.diag(b))))
    assert error / 2 < net.quadrature_error(x) < 2 * error


def test_estimate_of_two_batches_and_of_molecules():
    f = batch(3)
    net = network("relu", 1, quadrature=ProductGrid(8))
    both = net.quadrature_error(signal(f))
    assert net.quadrature_error(signal(f[:2]), signal(f[2:])) == pytest.approx(both, rel=1e-6)
    molecules = so3ntk.molecules.Environments(signal(f), [0, 0, 1, 1, 1], [1, 6, 1, 1, 8])
    summed = serial(*net.layers, AtomSum(), quadrature=net.quadrature)
    assert summed.quadrature_error(molecules) == pytest.approx(both, rel=1e-6)
    assert serial(so3ntk.Flatten(), Dense(), Relu()).quadrature_error(signal(f)) == 0


# --- calibration


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_calibration_on_environments_of_atoms(activation):
    """The criterion compares with a grid two levels finer, which sees two thirds of an error that falls as n^-4."""
    build = pytest.importorskip("ase.build")
    molecules = [build.molecule(name) for name in ("H2O", "CH3OH")]
    x = environments(molecules, powers=(2, 6), bandlimit=4).signal
    net = serial(Lift(), ACTIVATIONS[activation], GroupConv(), GroupPool())
    grid = net.calibrate(x, signals=len(x)).quadrature
    assert error_of(np.asarray(x.coefficients), grid, activation, 1).max() < 1.5 * net.rtol


def test_calibration_on_nothing_but_zeros():
    """Any grid has their kernels right: the finest one would be taken, after all others, and would tell nothing."""
    net, nothing = serial(Lift(), Relu(), GroupPool()), so3ntk.SphereSignal(np.zeros((3, 9, 1)), 3)
    with pytest.raises(ValueError, match=r"calibrate: all signals are zero.*Pass signals like those"):
        net.calibrate(nothing)
    one = so3ntk.SphereSignal(np.concatenate([np.zeros((2, 9, 1)), white_signals(1, 3, 1, seed=0)]), 3)
    assert net.calibrate(one).quadrature == net.calibrate(one[2:]).quadrature


def test_calibration_takes_the_coarsest_grid():
    f, tolerances = batch(3), (1e-3, 1e-4, 1e-5)
    grids = [network("relu", 1, rtol=rtol).calibrate(signal(f)).quadrature for rtol in tolerances]
    fine = [grid.fine.n if isinstance(grid, so3ntk.AdaptiveGrid) else grid.n for grid in grids]
    assert fine == sorted(set(fine))
    for grid, rtol in zip(grids, tolerances, strict=True):
        assert error_of(f, grid, "relu", 1).max() < 1.5 * rtol
        base = grid.base.n if isinstance(grid, so3ntk.AdaptiveGrid) else grid.n
        assert error_of(f, ProductGrid(base - 4), "relu", 1).max() > rtol  # the level below does not


def test_calibration_that_runs_out_of_levels(monkeypatch):
    monkeypatch.setattr("so3ntk.sphere.calibration.LEVELS", (8, 12, 16))
    x = signal(batch(3))
    with pytest.warns(so3ntk.QuadratureWarning, match=r"up to 16 points.*rtol=1e-09.*finest is used"):
        net = network("relu", 1, rtol=1e-9).calibrate(x)
    assert net.quadrature == ProductGrid(16)
    with warnings.catch_warnings():  # said once
        warnings.simplefilter("error")
        net.kernel_fn(x, None, "ntk")


# --- the warning


@pytest.fixture
def _nothing_warned_yet(monkeypatch):
    monkeypatch.setattr("so3ntk.sphere.calibration._checked", set())


def caught(call):
    """What the call returns, and the quadrature warnings it gave."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        value = call()
    return value, [w for w in record if issubclass(w.category, so3ntk.QuadratureWarning)]


@pytest.mark.usefixtures("_nothing_warned_yet")
def test_warning_once_for_each_network_and_grid():
    x = signal(batch(3)[:4])
    net = network("relu", 1, quadrature=ProductGrid(8))
    _, found = caught(lambda: net.kernel_fn(x, None, "ntk"))
    assert len(found) == 1
    stated = float(re.search(r"error of about (\S+) on these signals", str(found[0].message))[1])
    assert stated == pytest.approx(net.quadrature_error(x), rel=0.1)  # two digits are printed
    assert "rtol=1e-04" in str(found[0].message)
    again = (lambda: net.kernel_fn(x, None, "ntk"), lambda: gram(net, x, progress=False),
             lambda: network("relu", 1, quadrature=ProductGrid(8)).kernel_fn(x[:2], x, "ntk"))  # fmt: skip
    for call in again:
        assert not caught(call)[1]
    for other in (
        network("relu", 1, quadrature=ProductGrid(4)),
        network("relu", 1, quadrature=net.quadrature, rtol=1e-5),
    ):
        assert len(caught(lambda net=other: gram(net, x, progress=False))[1]) == 1


@pytest.mark.usefixtures("_nothing_warned_yet")
def test_no_warning_without_a_cause():
    f = batch(3)[:4]
    net = network("relu", 1, quadrature=ProductGrid(8))
    eager, found = caught(
        lambda: network("relu", 1, quadrature=ProductGrid(8), rtol=0.1).kernel_fn(signal(f), None, "ntk")
    )
    assert not found
    traced, found = caught(lambda: jax.jit(lambda a: net.kernel_fn(so3ntk.SphereSignal(a, 3), None, "ntk"))(f))
    assert not found  # never under jit, where nothing can be measured
    np.testing.assert_allclose(traced, eager, rtol=0, atol=4 * EPS**0.5 * np.max(eager))
    assert not caught(lambda: net.kernel_fn(signal(f[:0]), None, "ntk"))[1]
    assert len(caught(lambda: net.kernel_fn(signal(f), None, "ntk"))[1]) == 1  # the traced call did not use it up


IGNORED = [  # filters as ``warnings.filterwarnings`` takes them, first to last, and whether nothing is estimated
    ([("ignore", "", so3ntk.QuadratureWarning)], True),
    ([("ignore", "", Warning)], True),
    ([("ignore", "", RuntimeWarning)], False),
    ([("ignore", "the rotation grid", so3ntk.QuadratureWarning)], False),
    ([("ignore", "", so3ntk.QuadratureWarning, "somewhere")], False),
    ([("ignore", "", so3ntk.QuadratureWarning), ("error", "", UserWarning)], False),
    ([("ignore", "", so3ntk.QuadratureWarning), ("always", "", UserWarning, "somewhere")], False),
    ([("error", "", UserWarning), ("ignore", "", so3ntk.QuadratureWarning)], True),
]


@pytest.mark.usefixtures("_nothing_warned_yet")
@pytest.mark.parametrize(("filters", "ignored"), IGNORED)
def test_nothing_is_estimated_where_the_warning_is_ignored(filters, ignored, monkeypatch):
    estimated = []
    monkeypatch.setattr("so3ntk.sphere.calibration.quadrature_error", lambda *_, **__: estimated.append(1) or 0.0)
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for each in filters:
            warnings.filterwarnings(*each)
        network("relu", 1, quadrature=ProductGrid(4)).kernel_fn(signal(batch(3)[:2]), None, "ntk")
    assert bool(estimated) != ignored


@pytest.mark.usefixtures("_nothing_warned_yet")
@pytest.mark.parametrize("call", ["kernel_fn", "gram", "calibrate"])
def test_warning_points_to_the_caller(call, monkeypatch):
    monkeypatch.setattr("so3ntk.sphere.calibration.LEVELS", (8, 12))
    net, x = network("relu", 1, quadrature=ProductGrid(8)), signal(batch(3)[:4])
    calls = {
        "kernel_fn": lambda: net.kernel_fn(x, None, "ntk"),
        "gram": lambda: gram(net, x, progress=False),
        "calibrate": lambda: net.calibrate(x),
    }
    (warning,) = caught(calls[call])[1]
    assert (warning.filename, warning.lineno) == (__file__, calls[call].__code__.co_firstlineno)
