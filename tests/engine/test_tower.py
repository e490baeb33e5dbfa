"""The tower of pointwise layers as one interpolated function, against the layers themselves.

On the grid that holds the identity alone, a network that lifts and pools is the fully connected network on the signals'
coefficients, and its kernel is the tower at a single correlation: signals at a chosen angle probe any correlation.
"""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
    Dense,
    Elementwise,
    Erf,
    ExplicitGrid,
    Flatten,
    GroupConv,
    GroupPool,
    Lift,
    ProductGrid,
    Relu,
    Sign,
    Sin,
    SphereSignal,
    serial,
)
from so3ntk.engine.demand import tower_span
from so3ntk.engine.evaluation.nodes import tabulation
from so3ntk.engine.evaluation.tower import STRETCHES, Nodes, Tower, from_s, probe_points, to_s
from so3ntk.engine.geometry import Probe
from so3ntk.engine.state import State
from tests.oracles import field
from tests.oracles.harmonics import white_signals

IDENTITY = ExplicitGrid(np.eye(3))
EPS = {np.float64: np.finfo(np.float64).eps, np.float32: np.finfo(np.float32).eps}
#: Angles between the signals: all over [0, pi], and dense at both ends.
ANGLES = np.concatenate(
    [np.linspace(0, np.pi, 201), np.logspace(-8, -1, 29), np.pi - np.logspace(-8, -1, 29), [np.pi / 2]]
)
#: As many for all tests that need no more: layers are compiled for a number of angles.
INSIDE = np.linspace(0.01, 3.13, 51)
SMOOTH = {"erf": Erf(), "sine": Sin(), "tanh": Elementwise(jnp.tanh, nodes=8)}
KINKED = {"relu": Relu()}
#: An orbit-free copy of a product grid, as the slow evaluation wants it.
GRID = ExplicitGrid(ProductGrid(8).rotations, ProductGrid(8).weights)


def signals_at(angles, variance1, variance2, dtype=np.float64):
    """One signal of variance1, and for every angle one of variance2."""
    first = np.zeros((1, 4, 1))
    first[0, 0] = 1
    second = np.zeros((len(angles), 4, 1))
    second[:, 0, 0], second[:, 2, 0] = np.cos(angles), np.sin(angles)
    scale = np.sqrt(4 * np.pi)
    return (SphereSignal(jnp.asarray(a * scale * np.sqrt(q), dtype), 2)
            for a, q in ((first, variance1), (second, variance2)))  # fmt: skip


@eqx.filter_jit
def activated(layer, kernel, q1, q2):
    return *layer.duals(kernel, q1, q2), layer.variance(q1), layer.variance(q2)


def by_layers(layers, c, q1, q2):
    """NNGP and NTK of a lifted kernel c after the layers, in float64, written out."""
    kernel, tangent = c, c
    for layer in layers:
        if isinstance(layer, Dense):
            weight, bias = layer.W_std**2, 0.0 if layer.b_std is None else layer.b_std**2
            kernel, q1, q2 = (weight * a + bias for a in (kernel, q1, q2))
            tangent = kernel + weight * tangent
        else:
            kernel, slope, q1, q2 = activated(layer, kernel, q1, q2)
            tangent = slope * tangent
    return kernel, tangent


def errors(layers, variance1=1.0, variance2=1.0, angles=ANGLES, dtype=np.float64, jit=False):
    """|tower - layers| / largest |layers| at each angle: rows NNGP and NTK."""
    f, g = signals_at(angles, variance1, variance2, dtype)
    tower = serial(Lift(), *layers, GroupPool(), quadrature=IDENTITY).kernel_fn
    values = (jax.jit(lambda f, g: tower(f, g)) if jit else tower)(f, g)
    f, g = (np.asarray(a.coefficients, np.float64)[..., 0] / np.sqrt(4 * np.pi) for a in (f, g))
    variances = (jnp.asarray(np.sum(a**2, axis=1)) for a in (f, g))
    exact = by_layers(layers, jnp.asarray(g @ f[0]), *variances)
    return np.array([np.abs(np.asarray(value[0], np.float64) - e) / max(np.abs(e).max(), 1e-300)
                     for value, e in zip(values, exact, strict=True)])  # fmt: skip


def tower_of(activation, depth):
    """A tower whose variances neither grow nor die, so that its depth is felt."""
    gain = 2**0.5 if activation == "relu" else 1.0
    return [{**SMOOTH, **KINKED}[activation], Dense(W_std=gain)] * depth


# --- accuracy at moderate variances


@pytest.mark.parametrize(("activation", "dtype"), [("erf", np.float64), ("tanh", np.float64), ("erf", np.float32),
                         ("relu", np.float32)])  # fmt: skip
def test_tower_of_depth_three(activation, dtype):
    depth = 1 if activation == "tanh" else 3
    nngp, ntk = errors(tower_of(activation, depth), dtype=dtype)
    bound = depth * 50 * EPS[dtype]
    assert nngp.max() < bound
    if activation in SMOOTH:
        assert ntk.max() < bound
    else:  # a rounding eps of the correlation moves the angle by eps / sin(angle), at the ends by its root
        assert (ntk * np.sin(ANGLES))[np.sin(ANGLES) > 1e-6].max() < bound
        assert ntk.max() < depth * 4 * EPS[dtype] ** 0.5


def test_ten_layers():
    """Of a kink in double precision; less deep ones: ``test_homogeneous_towers_have_no_scale``."""
    nngp, ntk = errors(tower_of("relu", 10))
    bound = 10 * 50 * EPS[np.float64]
    assert nngp.max() < bound
    assert (ntk * np.sin(ANGLES))[np.sin(ANGLES) > 1e-6].max() < bound
    assert ntk.max() < 10 * 4 * EPS[np.float64] ** 0.5


def test_zero_signals():
    for activation in ("relu", "erf"):
        for variances in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
            layers = [*tower_of(activation, 1), Dense(b_std=0.1)]
            assert errors(layers, *variances, angles=np.linspace(0, 1, 51)).max() < 100 * EPS[np.float64]


@pytest.mark.parametrize("variance", [1e-12, 1e12])
def test_homogeneous_towers_have_no_scale(variance):
    assert (
        errors(tower_of("relu", 2), variance, 3 * variance, angles=np.linspace(0.1, 3, 51)).max()
        < 100 * EPS[np.float64]
    )


# --- where polynomials fail: the network must know and not collapse


@pytest.mark.parametrize(("dtype", "jit"), [(np.float64, False), (np.float32, False), (np.float32, True)])
def test_saturating_activations_at_large_variances(dtype, jit):
    # float32: a rounding of the correlation, times a variance of 1e4. float64: what the network calls good enough
    for variance in (1e2, 1e4):
        found = errors(tower_of("erf", 2), variance, variance / 2, angles=ANGLES[:201:4], dtype=dtype, jit=jit)
        assert found.max() < {np.float64: 1e-8, np.float32: 1e-3}[dtype]


@pytest.mark.parametrize("jit", [False, True])
def test_sign_below_another_kink(jit):
    # iterated Sign is (1 - c)^(1/4) at c = 1: no polynomial in the root of 1 - c
    for layers in ([Sign(), Dense(), Sign()], [Sign(), Dense(), Relu()]):
        assert errors(layers, angles=INSIDE, jit=jit).max() < 1e-8


def test_towers_are_judged_by_activation_variance_and_dtype():
    plain = [(SMOOTH["erf"], 1.0, np.float64), (KINKED["relu"], 1e4, np.float64), (KINKED["relu"], 1e4, np.float32)]
    stretched = [(SMOOTH["erf"], 30.0, np.float32), (SMOOTH["erf"], 1e3, np.float64), (SMOOTH["sine"], 1e2, np.float64)]
    layer_by_layer = [(SMOOTH["erf"], 1e4, np.float32)]
    for kind, cases in (("plain", plain), ("stretched", stretched), ("none", layer_by_layer)):
        for activation, variance, dtype in cases:
            layers = (Lift(), activation, Dense(), activation, GroupPool())
            signals = (s.coefficients for s in signals_at(ANGLES[:1], variance, variance, dtype))
            nodes = tabulation(layers, *signals)
            found = "none" if nodes is None else "plain" if nodes.stretch == STRETCHES[0] else "stretched"
            assert found == kind, (activation, variance, dtype, nodes)


def test_what_collapses():
    """Lift, pointwise layers and pooling; Dense after it only while a homogeneous tower stays so."""
    relu, erf, pool = Relu(), Erf(), GroupPool()

    def standard(layer):  # its bias sets the tangent kernel apart from the NNGP: not homogeneous to begin with
        return layer(width=8, b_std=0.1, parametrization="standard")

    for layers, span in [
        ((Lift(), relu, Dense(), relu, pool), 5),
        ((Lift(), relu, pool, Dense()), 4),
        ((Lift(), relu, pool, Dense(b_std=0.1)), 3),
        ((Lift(b_std=0.1), relu, pool, Dense(b_std=0.1)), 3),
        ((standard(Lift), relu, pool, standard(Dense)), 4),
        ((Lift(), erf, pool, Dense(), erf), 4),
        ((Lift(), GroupConv(), erf, pool), 4),
        ((Lift(), relu, GroupConv(bandlimit=2), pool), None),
        ((Flatten(), Dense(), relu), None),
    ]:
        assert tower_span(layers) == span


@pytest.mark.parametrize("ratio", [1 + 1e-6, 1.01])
def test_biases_between_kinks(ratio):
    # An inner bias moves the second kink off c = 1 by the square of ratio - 1: a branch point next to the interval,
    # which the last coefficients show too late. After pooling it is gone: few rotations come that close to c = 1.
    layers = [Relu(), Dense(b_std=0.3), Relu()]
    f, g = (white_signals(2, 3, 2, seed) for seed in (0, 1))
    g[0] = ratio**0.5 * f[0]
    net = serial(Lift(), *layers, GroupPool(), quadrature=GRID)
    slow = field.evaluate(net, f, g, GRID.rotations, GRID.weights)
    for kernel, expected in zip(net.kernel_fn(*(SphereSignal(jnp.asarray(a), 3) for a in (f, g))), slow, strict=True):
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert errors(layers, 1.0, ratio)[1].max() < 1e-5


# --- the interpolant by itself


@cache
def probing(activation, nodes):
    """The NTK tower of depth 3 with these nodes on a fine net of correlations, and its tail, from a variance."""
    layers = tower_of(activation, 3)

    def run(kernel, q1, q2):
        state = State(Probe(), kernel, kernel, q1, q2)
        for layer in layers:
            state = layer(state)
        return [state.ntk]

    @jax.jit
    def evaluate(q, kernel):
        tower = Tower.collapse(run, q, q, None, probe_points(nodes))
        return tower.evaluate(tower.coefficients(nodes.stretch)[0], kernel, nodes.stretch), tower.tails[0]

    return evaluate


def probe(activation, variance, nodes):
    """Its error, against the layers, and its tail."""
    q, kernel = jnp.asarray(variance), jnp.asarray(np.cos(np.linspace(0.01, np.pi - 0.01, 500)) * variance)
    found, tail = probing(activation, nodes)(q, kernel)
    exact = by_layers(tower_of(activation, 3), kernel, q, q)[1]
    return np.abs(found - exact).max() / np.abs(exact).max(), float(tail)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_error_falls_geometrically_with_the_nodes(activation):
    coarse, fine = (probe(activation, 1.0, Nodes(count))[0] for count in (4, 16))
    assert fine < 3.36**-11 * coarse  # twelve nodes more at the rate of the nearest singularity, and one to spare
    assert fine < 1e-7


@pytest.mark.parametrize("variance", [1.0, 30.0, 1e3])
def test_tail_estimates_the_error(variance):
    error, tail = probe("erf", variance, Nodes(34))
    assert error < 10 * tail + 1e-12


@pytest.mark.parametrize(("variance", "stretch"), [(100.0, 0.03), (1e3, 0.01)])
def test_stretch_keeps_the_singularities_of_saturation_away(variance, stretch):
    plain, _ = probe("erf", variance, Nodes(48))
    stretched, tail = probe("erf", variance, Nodes(48, stretch))
    assert stretched < 1e-9
    assert stretched < 10 * tail + 1e-12
    assert stretched < 1e-3 * plain


@pytest.mark.parametrize("stretch", STRETCHES)
def test_variable_of_the_polynomials(stretch):
    t = np.linspace(-1, 1, 41)
    np.testing.assert_allclose(from_s(to_s(t, stretch), stretch, np.arcsinh), t, atol=1e-14)
    np.testing.assert_allclose(to_s(t[[0, -1]], stretch), [0, 0.5**0.5], atol=1e-15)


def test_probe_points_are_correlations_of_both_signs():
    points = probe_points(Nodes(34))
    assert points.shape == (2, 34)
    assert (points[0] >= 0).all()
    assert (points[1] <= 0).all()
    np.testing.assert_allclose(points[1], -points[0], atol=2 * EPS[np.float64])
    assert points[0].max() > 1 - 1e-5  # close to the cusp at c = 1, and at c = 0 where both branches meet
    assert points[0].min() < 1e-2
