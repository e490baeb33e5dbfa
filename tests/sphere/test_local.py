"""Filters on caps: against integrals over the caps, against the global path, and what every kernel must obey."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

import so3ntk
from so3ntk import (
    Dense,
    Elementwise,
    Erf,
    ExplicitGrid,
    FanInSum,
    FanOut,
    Gelu,
    GroupConv,
    GroupPool,
    Lift,
    ProductGrid,
    Relu,
    Sign,
    SphereSignal,
    parallel,
    serial,
)
from so3ntk.engine.filters import within
from so3ntk.sphere.local_support import LocalSphereGeometry
from so3ntk.sphere.positions import SphereGrid, cap_multipliers
from so3ntk.sphere.quadrature import LocalGrid
from tests.local_cases import ERF, FEW, GRID, RELU, TAIL, A, B, kernels, signal
from tests.oracles import local
from tests.oracles.duals import DUALS
from tests.oracles.harmonics import harmonics, rotated, sphere_grid, white_signals

EPS = np.finfo(np.float64).eps


# --- caps and positions


@pytest.mark.parametrize("angle", [1e-9, 1e-3, 0.4, 1.5, 3.0, math.pi])
def test_multipliers_are_means_over_the_cap(angle):
    """By Gauss-Legendre points in the cosine; 40 are exact for these degrees. Legendre polynomials are bounded by 1."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    z = 1 - 2 * np.sin(angle / 2) ** 2 * (1 - nodes) / 2
    expected = [eval_legendre(degree, z) @ weights / 2 for degree in range(24)]
    np.testing.assert_allclose(cap_multipliers(angle, 24), expected, rtol=0, atol=1000 * EPS)


def test_multipliers_of_small_caps():
    """1 - l (l + 1) t^2 / 8 + O(l t)^4: they tend to one, and fall as the cap grows."""
    degree = np.arange(12)
    angles = np.array([1e-8, 1e-3, 0.01, 0.03, 0.1, 0.2])
    w = np.array([cap_multipliers(t, 12) for t in angles])
    bound = (degree + 1) ** 4 * angles[:, None] ** 4 / 50 + 1000 * EPS
    assert np.all(np.abs(w - (1 - degree * (degree + 1) * angles[:, None] ** 2 / 8)) <= bound)
    assert np.all(np.diff(w[:, 1:], axis=0) < 0)


@pytest.mark.parametrize("n", [2, 4, 8, 14])
def test_positions_integrate_products_of_harmonics(n):
    grid = SphereGrid(n)
    values = np.sqrt(4 * np.pi) * harmonics(grid.directions, range(n))
    assert len(grid) == len(grid.weights) == 2 * n * n
    assert grid.weights.min() > 0
    assert abs(grid.weights.sum() - 1) < 10 * EPS
    np.testing.assert_allclose(np.linalg.norm(grid.directions, axis=1), 1, atol=10 * EPS)
    np.testing.assert_allclose(values.T * grid.weights @ values, np.eye(n * n), atol=500 * EPS * n)


@pytest.mark.parametrize("angle", [0.3, 1.2, None])
def test_cap_average_multiplies_each_harmonic(angle):
    """Every harmonic below the bandlimit of the grid is an eigenvector; products below 2 n are integrated exactly."""
    n = 6
    grid = SphereGrid(n)
    values = harmonics(grid.directions, range(n))
    factors = cap_multipliers(angle or math.pi, n)[np.sqrt(np.arange(n * n)).astype(int)]
    field = jnp.asarray(values.reshape(8, -1, n * n, 1))
    found = LocalSphereGeometry(grid, jnp.ones(())).average(field, within(angle)).reshape(-1, n * n)
    np.testing.assert_allclose(found, values * factors, rtol=0, atol=500 * EPS * np.abs(values).max())


# --- the oracle, before pooling


def pairs_at(net, chosen):
    """Fields of A and B at some positions, and rotations g, r^-1 g with g o the position, g of any twist."""
    fields = net.kernel_fn(signal(A), signal(B))
    x = np.asarray(fields.positions)[chosen]
    angles = [(np.arctan2(*p[1::-1]), np.arccos(p[2]), 1.0 + k) for k, p in enumerate(x)]
    g = np.broadcast_to(Rotation.from_euler("ZYZ", angles).as_matrix(), (len(fields.motions), len(x), 3, 3))
    moved = np.swapaxes(np.asarray(fields.motions), 1, 2)[:, None] @ g
    return np.stack([fields.nngp, fields.ntk])[..., chosen], g, moved


def deviation(net, layers, chosen, rule, signals=A):
    """The largest difference of both kernels from the oracle's, relative to its largest value."""
    found, g, moved = pairs_at(net, chosen)
    worst = 0.0
    for row, f in enumerate(signals):
        slow = local.kernels(f, B[0], g, moved, layers, rule)
        for k, expected in enumerate((slow.pair, slow.tangent)):
            scale = np.abs(expected).max() or 1.0  # the tangent kernel of Sign is zero
            worst = max(worst, np.abs(found[k, row, 0] - expected).max() / scale)
            assert np.isfinite(found).all()
    return worst


CHOSEN = np.array([0, 7, 20, 31])
#: Of degrees up to four, which linear layers keep: five points on each circle and three in the cosine integrate them.
EXACT = local.Rule(4, 6)


def test_linear_layers_agree_exactly():
    net = serial(Lift(support=0.9, W_std=1.1, b_std=0.2), GroupConv(support=0.5, W_std=0.8, b_std=0.3),
                 quadrature=LocalGrid(FEW, SphereGrid(6)))  # fmt: skip
    layers = [("lift", 0.9, 1.1, 0.2), ("conv", 0.5, 0.8, 0.3)]
    assert deviation(net, layers, CHOSEN, EXACT) < 1e-12
    for wrong in (0.91, 0.5), (0.9, 0.51):  # the comparison sees an angle wrong by a hundredth
        changed = [(name, angle, *rest) for (name, _, *rest), angle in zip(layers, wrong, strict=True)]
        assert deviation(net, changed, CHOSEN, EXACT) > 1e-4


DEEP = (Lift(support=1.0, b_std=0.3), Erf(), GroupConv(support=0.7, W_std=1.2, b_std=0.1), Relu())
DEEP_ORACLE = [("lift", 1.0, 1.0, 0.3), "erf", ("conv", 0.7, 1.2, 0.1), "relu"]
FIRST_RELU = (Lift(support=0.8), Relu(), GroupConv())
FIRST_RELU_ORACLE = [("lift", 0.8, 1.0, 0.0), "relu", ("conv", None, 1.0, 0.0)]


def assert_falling(errors):
    """To a fifth and a fifth of that, as a grid is refined twice."""
    assert errors[1] < errors[0] / 25
    assert errors[1] < 1e-5


TWO = ExplicitGrid(FEW.rotations[:2])


@pytest.mark.slow
def test_nonlinear_layers_agree_as_the_grid_is_refined():
    assert_falling([deviation(serial(*DEEP, quadrature=LocalGrid(TWO, SphereGrid(n))), DEEP_ORACLE, CHOSEN[-2:],
                              local.Rule(), A[:1]) for n in (4, 14)])  # fmt: skip


@pytest.mark.slow
def test_after_a_global_convolution_all_positions_are_alike():
    """One of the coarsest grid is enough for the oracle."""
    nets = [serial(*FIRST_RELU, quadrature=LocalGrid(TWO, SphereGrid(n))) for n in (4, 14)]
    _, g, moved = pairs_at(nets[0], CHOSEN[-1:])
    slow = local.kernels(A[0], B[0], g, moved, FIRST_RELU_ORACLE, local.Rule(16, 24))
    expected = np.stack([slow.pair, slow.tangent])
    found = [pairs_at(net, CHOSEN[-1:])[0][:, 0, 0] for net in nets]
    assert_falling([np.max(np.abs(f - expected).max(axis=(1, 2)) / expected.max(axis=(1, 2))) for f in found])


def test_pooled_kernels_are_means_over_all_pairs_of_rotations():
    """The oracle on a product of two grids of G; both are off by what is left of an Erf at degrees beyond them."""
    points, weights = sphere_grid(5)
    polar, azimuth = np.arccos(points[:, 2]), np.arctan2(points[:, 1], points[:, 0])
    twists = 2 * np.pi * np.arange(6) / 6
    g = Rotation.from_euler("ZYZ", np.stack([azimuth, polar, azimuth], axis=-1)).as_matrix()
    moved = (g[:, None] @ Rotation.from_euler("z", twists[:, None]).as_matrix()).reshape(-1, 3, 3)
    at, to = np.broadcast_to(g[:, None], (50, 300, 3, 3)), np.broadcast_to(moved, (50, 300, 3, 3))
    slow = local.kernels(A[0], B[0], at, to, [("lift", 0.9, 1.0, 0.3), "erf"], EXACT)
    expected = [weights @ values @ np.repeat(weights, 6) / 6 for values in (slow.pair, slow.tangent)]
    net = lambda angle: serial(Lift(support=angle, b_std=0.3), Erf(), GroupPool(), quadrature=GRID)  # noqa: E731
    np.testing.assert_allclose(kernels(net(0.9), A[:1], B)[:, 0, 0], expected, rtol=2e-3)
    assert np.all(np.abs(kernels(net(1.5), A[:1], B)[:, 0, 0] / expected - 1) > 5e-3)


#: Duals of each kind: joint ones, a tangent kernel of zero, expectations by quadrature.
POINTWISE = [Gelu(), Sign(), Elementwise(jnp.tanh, nodes=24)]


@pytest.mark.parametrize("activation", POINTWISE, ids=lambda activation: type(activation).__name__)
def test_activations(activation):
    """One nonlinearity after lifting is pointwise, so the field has no grid error: rounding alone."""
    net = serial(Lift(support=0.9, b_std=0.3), activation, quadrature=LocalGrid(FEW, SphereGrid(6)))

    @jax.jit
    def duals(c, q1, q2):
        return activation.dual(c, q1, q2), activation.derivative_dual(c, q1, q2)

    def dual(*triple):
        return [np.asarray(values) for values in duals(*map(jnp.asarray, np.broadcast_arrays(*triple)))]

    assert deviation(net, [("lift", 0.9, 1.0, 0.3), dual], CHOSEN, EXACT) < 1e-10


# --- limits, and mixtures with global layers


def test_the_whole_sphere_is_the_global_path():
    assert serial(Lift(support=np.pi), GroupConv(support=math.pi)).layers == serial(Lift(), GroupConv()).layers
    almost = math.pi - 1e-6
    caps = serial(Lift(support=almost, b_std=0.1), Relu(), GroupConv(support=almost, W_std=1.3), Relu(), *TAIL,
                  quadrature=GRID)  # fmt: skip
    whole = serial(Lift(b_std=0.1), Relu(), GroupConv(W_std=1.3), Relu(), *TAIL, quadrature=GRID.rotations)
    # w_1 = cos(t / 2)^2 = 2.5e-13 there
    np.testing.assert_allclose(kernels(caps, A), kernels(whole, A), rtol=1e-11)


def test_limits_are_monotone():
    """Small caps: mean_c f_c(x) f'_c(r^-1 x), from harmonics, approached as the square of the angle. Large: its mean."""

    def field(angle):
        net = serial(Lift(support=angle), GroupConv(support=angle), quadrature=LocalGrid(FEW, SphereGrid(6)))
        return net.kernel_fn(signal(A), signal(B), "nngp")

    fields = field(0.1)
    x, r = np.asarray(fields.positions), np.asarray(fields.motions)
    f = harmonics(x, range(3)) @ A[0]
    g = harmonics(np.einsum("rji,xj->rxi", r, x), range(3)) @ B[0]
    point = np.mean(f * g, axis=-1)
    near = [np.abs(found.nngp[0, 0] - point).max() for found in (fields, field(0.05), field(1e-8))]
    assert np.all(np.diff(near) < 0)
    assert 3.9 < near[0] / near[1] < 4.1
    assert near[-1] < 1e-12
    mean = point @ SphereGrid(6).weights
    far = [np.abs(field(angle).nngp[0, 0] - mean[:, None]).max() for angle in (1.0, 3.1)]
    assert np.all(np.diff(far) < 0)
    assert far[-1] < 1e-5


def test_a_global_branch_beside_a_local_one():
    """The global lifting is a cap of the whole sphere; and a network without caps takes a LocalGrid's rotations."""

    def branches(angle):
        both = parallel(serial(Lift(support=0.9), Erf()), serial(Lift(support=angle, W_std=1.2), Relu()))
        return serial(FanOut(2), both, FanInSum(), GroupPool(), Dense(), quadrature=GRID)

    np.testing.assert_allclose(kernels(branches(None), A), kernels(branches(math.pi - 1e-6), A), rtol=1e-10)
    whole = [kernels(serial(Lift(), Erf(), *TAIL, quadrature=grid), A) for grid in (GRID, GRID.rotations)]
    np.testing.assert_array_equal(*whole)


def test_caps_after_a_global_lift_change_nothing():
    layers = (Lift(b_std=0.1), Erf(), GroupConv(W_std=1.2), *TAIL)
    caps = (*layers[:2], GroupConv(W_std=1.2, support=0.4), *layers[3:])
    found, whole = (kernels(serial(*net, quadrature=ProductGrid(8)), A) for net in (caps, layers))
    np.testing.assert_array_equal(found, whole)


def test_pooling_and_the_layers_after_it():
    """The mean of the fields, then weights and a nonlinearity with the pooled kernels of each signal with itself."""
    body = Lift(support=1.0, b_std=0.3), Relu()
    head = serial(*body, quadrature=GRID)
    both = np.concatenate([A, B])
    fields = head.kernel_fn(signal(both))
    weights = np.outer(fields.weights, GRID.positions.weights).ravel()
    nngp, ntk = (np.asarray(k).reshape(3, 3, -1) @ weights for k in fields[:2])
    q = np.diag(nngp)
    value, slope = DUALS["erf"](nngp, q[:, None], q[None, :])
    found = kernels(serial(*body, GroupPool(), Dense(), Erf(), Dense(), quadrature=GRID), both)
    np.testing.assert_allclose(found, [value, value + slope * (nngp + ntk)], rtol=1e-11)


# --- what every kernel obeys


@pytest.fixture(scope="module")
def net():
    return serial(*ERF, quadrature=GRID)


@pytest.mark.slow
def test_rotations_of_either_signal(net):
    """K(rho f, f') and K(f', rho f) within the errors of both sides, and a Gram with rotated copies and duplicates.

    One Gram of eight, as many as its program is compiled for.
    """
    estimate = net.quadrature_error(signal(np.concatenate([A[:1], B])), get="ntk")
    assert 1e-5 < estimate < 2e-2
    turned = rotated(A[:1], so3ntk.random_rotations(4, seed=5).as_matrix())[:, 0]
    gram = kernels(net, np.concatenate([A[:1], B, A[:1], B, turned]))[1]
    bound = 2 * estimate * math.sqrt(gram[0, 0] * gram[1, 1])
    moved = np.stack([gram[4:, 1], gram[1, 4:]])
    assert np.abs(moved - gram[0, 1]).max() < bound
    assert np.abs(moved - gram[0, 1]).max() > 1e-3 * bound  # the grid is not what makes them equal
    values = np.linalg.eigvalsh((gram + gram.T) / 2)
    assert values[0] > -(1e-12 + estimate) * values[-1]


#: With a duplicate.
FOUR = np.concatenate([A, B, A[:1]])


@pytest.fixture(scope="module")
def whole(net):
    return kernels(net, FOUR)


def test_batches_tiles_and_copies(net, whole):
    x, norm = FOUR, np.abs(whole).max()
    np.testing.assert_allclose(np.stack(net.kernel_fn(signal(x), signal(x.copy()))), whole, rtol=0, atol=1e-12 * norm)
    np.testing.assert_allclose(whole[:, 0], whole[:, 3], rtol=0, atol=1e-12 * norm)  # a duplicate
    # Positions are those of f, so symmetry holds to the grids' error
    np.testing.assert_allclose(whole, np.swapaxes(whole, 1, 2), rtol=0, atol=2e-5 * norm)
    found = so3ntk.gram(net, signal(x), tile=1, progress=False)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(found[3], found[0])
    np.testing.assert_allclose(found, (whole[1] + whole[1].T) / 2, rtol=0, atol=8 * EPS * norm)
    np.testing.assert_allclose(net.kernel_fn(signal(x)).ntk, found, rtol=0, atol=8 * EPS * norm)


def test_single_precision(net, whole):
    single = jax.jit(net.kernel_fn)(signal(FOUR, np.float32))
    assert single.ntk.dtype == np.float32
    np.testing.assert_allclose(np.stack(single), whole, rtol=5e-6)


@pytest.mark.slow
def test_derivatives_are_finite():
    """In signals and hyperparameters, also where a signal meets itself; against differences where they differ."""
    net = serial(*RELU, quadrature=LocalGrid(ProductGrid(4), SphereGrid(6)))

    def total(net, f, g):
        return jnp.sum(jnp.stack(net.kernel_fn(SphereSignal(f, 3), SphereSignal(g, 3))))

    value_and_gradient = eqx.filter_jit(eqx.filter_value_and_grad(lambda args: total(*args)))
    f, g = jnp.asarray(A[:1]), jnp.asarray(B)
    direction = jnp.asarray(white_signals(1, 3, 2, seed=7))
    _, (_, df, _) = value_and_gradient((net, f, g))
    ahead, behind = (value_and_gradient((net, f + step * direction, g))[0] for step in (1e-5, -1e-5))
    difference = (ahead - behind) / 2e-5
    np.testing.assert_allclose(jnp.sum(df * direction), difference, rtol=1e-5)
    for other in (f, -f, 0 * f):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value_and_gradient((net, f, other))))
