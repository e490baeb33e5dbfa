"""Grids for filters on caps: the rule, estimates of their errors, warnings, memory; and wrong calls."""

import math
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
    Dense,
    Erf,
    FanInSum,
    FanOut,
    GroupConv,
    GroupPool,
    Lift,
    ProductGrid,
    QuadratureWarning,
    Relu,
    parallel,
    serial,
)
from so3ntk.engine.evaluation.programs import batch_kernels
from so3ntk.engine.network import Kernels
from so3ntk.engine.plan import make_plan
from so3ntk.sphere.local_support import COLUMNS
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.quadrature import LocalGrid, choose_grid, position_rings
from tests.local_cases import GRID, TAIL, A, kernels, relative, signal
from tests.oracles.harmonics import white_signals

# --- quadrature


@pytest.mark.parametrize(("angle", "rings"), [(0.4, 20), (0.8, 10), (1.5, 6), (0.01, 32)])
def test_rings_of_the_rule(angle, rings):
    net = serial(Lift(support=angle), Erf(), *TAIL)
    assert position_rings(3, net.layers, 1e-4) == rings
    assert choose_grid(net.layers, None, 1e-4, signal(A).bandlimit).positions == SphereGrid(rings)
    assert position_rings(18, net.layers, 1e-4) == 36
    assert position_rings(3, serial(Lift(support=angle), Relu(), *TAIL).layers, 1e-4) <= rings
    assert position_rings(3, serial(Lift(support=angle), GroupConv(support=0.1), *TAIL).layers, 1e-4) == 6


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "angle"), [((Erf(),), 0.4), ((Relu(),), 0.8), ((Erf(), GroupConv(), Erf()), 0.8)])
def test_positions_of_the_rule_leave_less_than_half_of_rtol(layers, angle):
    """One channel, which is the hardest; rotations are fixed."""
    x = white_signals(2, 3, 1, seed=0)
    layers = (Lift(support=angle), *layers, *TAIL)
    grids = (SphereGrid(position_rings(3, layers, 1e-4)), SphereGrid(24))
    coarse, fine = (kernels(serial(*layers, quadrature=LocalGrid(ProductGrid(4), p)), x) for p in grids)
    assert relative(coarse, fine) < 5e-5


LAYERS = (Lift(support=0.8), Erf(), *TAIL)


@pytest.fixture(scope="module")
def fine():
    """The kernels of ``LAYERS`` on a grid much finer than those below."""
    return kernels(serial(*LAYERS, quadrature=LocalGrid(ProductGrid(20), SphereGrid(10))), A)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rotations", "rings", "get"), [(8, 6, "ntk"), (16, 4, "nngp")], ids=["rotations", "positions"]
)
def test_estimate_is_honest(rotations, rings, get, fine):
    """Where rotations, and where positions limit: within a factor of three of the error against a much finer grid."""
    net = serial(*LAYERS, quadrature=LocalGrid(ProductGrid(rotations), SphereGrid(rings)))
    kind = [Kernels._fields.index(get)]
    error = relative(kernels(net, A)[kind], fine[kind])
    assert error / 3 < net.quadrature_error(signal(A), get=get) < 3 * error


@pytest.mark.slow
def test_calibration_reaches_its_tolerance(fine):
    net = serial(*LAYERS, rtol=1e-3).calibrate(signal(A))
    assert isinstance(net.quadrature, LocalGrid)
    assert relative(kernels(net, A), fine) < 1e-3
    assert net.quadrature.rotations.n < 20


def test_warning_of_caps_below_the_resolution(monkeypatch):
    x = signal(A)

    def call(angle, convolve=None):
        layers = (Lift(support=angle), GroupConv(support=convolve), *TAIL)
        return serial(*layers, quadrature=LocalGrid(ProductGrid(4), SphereGrid(6))), x

    with monkeypatch.context() as nothing_estimated:
        nothing_estimated.setattr("so3ntk.sphere.calibration.quadrature_error", lambda *_, **__: 0.0)
        for net, x in (call(0.2), call(1.0, 0.2)):
            with pytest.warns(QuadratureWarning, match=r"cap of 0\.2 radians.*pi / 6 = 0\.524.*n >= 16"):
                net.kernel_fn(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net, x = call(0.9, 0.6)  # linear and wide enough: nothing to say
        net.kernel_fn(x)
        net, x = call(0.21)
        jax.jit(net.kernel_fn)(x)  # never under jit


def test_memory_does_not_grow_with_rotations_or_depth():
    """What XLA reserves beside tables and results: about twelve numbers for each position and column of a step."""
    positions, tile = SphereGrid(8), 8

    def reserved(rotations, depth):
        layers = (Lift(support=0.8), Relu(), *(GroupConv(support=0.8), Relu()) * depth, *TAIL)
        plan = make_plan(layers, LocalGrid(ProductGrid(rotations), positions), 1e-4, signal(A), None)
        f = jnp.zeros((tile, *plan.f.shape[1:]))
        run = lambda evaluation, f: batch_kernels(evaluation, f, f, ("ntk",), (tile, tile))  # noqa: E731
        return eqx.filter_jit(run).lower(plan.evaluation, f).compile().compiled.memory_analysis().temp_size_in_bytes

    few = reserved(8, 1)
    assert few < 1.2 * 12 * len(positions) * COLUMNS * 8
    assert reserved(12, 2) < 1.2 * few


# --- wrong calls


def test_branches_that_pool_by_themselves():
    branch = serial(Lift(support=1.0), Erf(), GroupPool())
    net = serial(FanOut(2), parallel(branch, branch), FanInSum(), Dense(), quadrature=GRID)
    with pytest.raises(NotImplementedError, match=r"GroupPool: with local support.*pool once"):
        kernels(net, A)


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [(Lift(group="O3"), ValueError, "one group"), (Lift(bandlimit=2), NotImplementedError, "with_bandlimit")],
)
def test_branches_that_do_not_fit(other, error, message):
    net = serial(FanOut(2), parallel(Lift(support=1.0), other), FanInSum(), *TAIL, quadrature=GRID)
    with pytest.raises(error, match=rf"Lift: .*{message}"):
        kernels(net, A)


def test_angles_of_numpy():
    assert Lift(support=np.float32(0.5)) == Lift(support=0.5)
    assert GroupConv(support=np.int64(1)) == GroupConv(support=1.0)
    assert Lift(support=np.float32(np.pi)).support is None


@pytest.mark.parametrize("layer", [Lift, GroupConv])
@pytest.mark.parametrize("options", [{"bandlimit": 2}, {"variances": np.ones(3)}])
def test_a_cap_and_a_spectrum_exclude_each_other(layer, options):
    with pytest.raises(ValueError, match=rf"{layer.__name__}: support=0\.5.*with_bandlimit"):
        layer(support=0.5, **options)


@pytest.mark.parametrize("layer", [Lift, GroupConv])
@pytest.mark.parametrize("angle", [0, -0.1, 3.15, math.nan, math.inf, "1", True])
def test_angles_out_of_range(layer, angle):
    with pytest.raises(ValueError, match=rf"{layer.__name__}: expected support.*\(0, pi\]"):
        layer(support=angle)


def test_spectra_after_a_local_lift():
    net = serial(Lift(support=1.0), GroupConv(bandlimit=2), *TAIL, quadrature=GRID)
    with pytest.raises(NotImplementedError, match=r"GroupConv: bandlimit and variances couple rotations.*Use support="):
        net.kernel_fn(signal(A))


@pytest.mark.parametrize("n", [0, 3, -2, 2.0, True])
def test_rings(n):
    with pytest.raises(ValueError, match="SphereGrid: expected n, the number of rings"):
        SphereGrid(n)
