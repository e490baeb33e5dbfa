"""Networks that are polynomials in their kernel: exact grids, and the body orders of Wigner kernels in closed form."""

import warnings
from math import factorial

import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import (
    AdaptiveGrid,
    Dense,
    FanInSum,
    FanOut,
    GroupConv,
    GroupPool,
    Identity,
    IrrepPool,
    Lift,
    Monomial,
    ProductGrid,
    Products,
    QuadratureWarning,
    Relu,
    SphereSignal,
    parallel,
    serial,
)
from so3ntk.sphere import calibration
from so3ntk.sphere.quadrature import choose, exact_grid, is_exact
from tests.oracles.body_orders import blocks_of, body_orders, coupling
from tests.oracles.harmonics import white_signals, wigner

EPS = np.finfo(np.float64).eps
FINE = ProductGrid(20)


def signal(values):
    return SphereSignal(jnp.asarray(values), round(values.shape[1] ** 0.5))


def power(k):
    return Products([0] * k + [1.0])


# --- the oracle by itself


def test_couplings_are_invariant_unit_vectors():
    turns = so3ntk.random_rotations(3, seed=0).as_matrix()
    for degrees in [(0, 1, 1), (1, 1, 1), (1, 2, 2), (2, 2, 3), (3, 3, 4), (3, 3, 6)]:
        w = coupling(*degrees)
        moved = np.einsum("gai,gbj,gck,ijk->gabc", *(wigner(turns, d) for d in degrees), w, optimize=True)
        np.testing.assert_allclose(moved, np.broadcast_to(w, moved.shape), atol=1e-13)
        np.testing.assert_allclose(np.sum(np.abs(w) ** 2), 1, rtol=1e-13)


# --- body orders


def test_body_orders_one_to_four():
    """The NNGP of one power, and of all with alpha^k / k!, are means over rotations by Clebsch-Gordan coefficients."""
    f = white_signals(3, 4, 2, 0)
    orders = np.array([[body_orders(blocks_of(a, b, 1.1, 0.6)) for b in f] for a in f])
    lift = Lift(W_std=1.1, b_std=0.6)
    for k in range(1, 5):
        kernel = serial(lift, power(k), GroupPool()).kernel_fn(signal(f), get="nngp")
        np.testing.assert_allclose(kernel, orders[..., k - 1], rtol=0, atol=1e-12 * orders[..., k - 1].max())
    alpha = 0.8
    weights = [alpha**k / factorial(k) for k in range(5)]
    kernel = serial(lift, Products(weights), GroupPool()).kernel_fn(signal(f), get="nngp")
    expected = weights[0] + orders @ weights[1:]
    np.testing.assert_allclose(kernel, expected, rtol=0, atol=1e-12 * expected.max())


def test_the_tangent_kernel_of_one_power_is_a_multiple():
    """Theta = K before the products, so that it is k K^k after them, and a layer more after Dense."""
    x = signal(white_signals(3, 3, 2, 0))
    k = serial(Lift(b_std=0.4), power(3), GroupPool(), Dense()).kernel_fn(x)
    np.testing.assert_allclose(k.ntk, 4 * np.asarray(k.nngp), rtol=1e-12)


# --- the rule


@pytest.mark.parametrize(
    ("bandlimit", "degree", "n", "n_beta", "rotations"),
    [(4, 2, 8, 4, 256), (4, 3, 12, 5, 720), (4, 4, 16, 7, 1792), (6, 2, 12, 6, 864), (6, 3, 16, 8, 2048)],
)
@pytest.mark.parametrize("rtol", [1e-2, 1e-6])
def test_smallest_exact_grids(bandlimit, degree, n, n_beta, rotations, rtol):
    for layer in (power(degree), Monomial(degree), Products([0.1] * (degree + 1))):
        grid = choose(bandlimit, serial(Lift(b_std=0.1), layer, GroupPool(), Dense()).layers, rtol)
        assert (grid, len(grid)) == (ProductGrid(n, n_beta), rotations)


BLOCK = (FanOut(2), parallel(Identity(), serial(Monomial(3), GroupConv())), FanInSum())
SPECTRUM = np.array([0.5, 1.5, 0.2])
DEGREES = [
    (3, (Lift(), Products([0, 0, 1.0]), GroupPool()), 4),
    (3, (Lift(bandlimit=2), Monomial(2), GroupPool()), 2),
    (3, (Lift(), Monomial(2), GroupConv(), Monomial(2), GroupPool()), 8),
    (3, (Lift(), Monomial(2), IrrepPool(3)), 7),
    (3, (Lift(group="O3"), power(2), IrrepPool(2, -1)), 6),
    (3, (Lift(), Monomial(3), GroupConv(variances=SPECTRUM, bandlimit=3), power(3), GroupPool()), 8),
    (3, (Lift(), Monomial(2), GroupConv(bandlimit=2), Products([1, 1.0]), GroupPool()), 5),
    (3, (Lift(), GroupConv(bandlimit=2), Monomial(2), GroupPool()), 2),
    (3, (Lift(), *BLOCK, Monomial(2), GroupPool()), 12),
    (3, (Lift(), power(2), GroupPool(), Dense(), Relu(), Dense()), 4),
    (3, (Lift(), Products([3.0]), GroupPool()), 0),
    (3, (FanOut(2), parallel(Lift(), serial(Lift(bandlimit=2), Monomial(3))), FanInSum(), GroupPool()), 3),
]  # fmt: skip


@pytest.mark.parametrize(("bandlimit", "layers", "degree"), DEGREES)
def test_degrees_that_a_network_asks_for(bandlimit, layers, degree):
    assert exact_grid(layers, bandlimit) == ProductGrid(4 * -(-(degree + 1) // 4), -(-(degree + 1) // 2))


#: One of each kind of layer that makes a degree or cuts it off; branches whose degrees multiply.
TIGHT = (3, 5, 8)


@pytest.mark.parametrize("case", TIGHT)
def test_exact_grids_are_exact(case):
    """Equal to a finer grid to rounding; and tight: one point less is not."""
    bandlimit, layers, _ = DEGREES[case]
    grid = exact_grid(layers, bandlimit)
    x = signal(white_signals(3, bandlimit, 2, 1))
    coarse = ProductGrid(grid.n, grid.n_beta - 1)
    kernels, fine, worse = (serial(*layers, quadrature=g).kernel_fn(x) for g in (None, FINE, coarse))
    for kernel, slow in zip(kernels, fine, strict=True):
        np.testing.assert_array_less(np.abs(kernel - slow), 1e-12 * np.abs(slow).max() + 1e-300)
    assert np.abs(worse.nngp - fine.nngp).max() > 1e-10 * np.abs(fine.nngp).max()


def test_other_networks_keep_their_rule():
    relu, caps = serial(Lift(), Relu(), GroupPool()).layers, serial(Lift(support=0.8), power(2), GroupPool()).layers
    sevens = [layer for _ in range(3) for layer in (Monomial(4), Dense())]
    for layers in (relu, caps, serial(Lift(), *sevens, GroupPool()).layers):
        assert exact_grid(layers, 4) is None
        assert not is_exact(ProductGrid(48), layers, 4)
    assert isinstance(choose(4, relu, 1e-4), AdaptiveGrid)
    assert (
        choose(4, caps, 1e-4).rotations
        == choose(4, serial(Lift(support=0.8), so3ntk.Erf(), GroupPool()).layers, 1e-4).rotations
    )


def test_nothing_is_estimated_where_nothing_is_wrong(monkeypatch):
    """No warning and no compilation for one; ``calibrate`` gives the rule's grid; an explicit finer grid is kept."""
    x = signal(white_signals(3, 3, 2, 3))
    net = serial(Lift(b_std=0.3), Products([1, 1, 0.5]), GroupPool(), Dense())
    assert net.quadrature_error(x) < 100 * EPS
    assert net.quadrature_error(x, get="nngp") < 100 * EPS
    assert net.calibrate(x).quadrature == ProductGrid(8, 3) == choose(3, net.layers, 1e-4)
    estimates = []
    monkeypatch.setattr(calibration, "quadrature_error", lambda *a, **k: estimates.append(a) or 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.kernel_fn(x)
        serial(*net.layers, quadrature=ProductGrid(12)).kernel_fn(x)
        assert not estimates
    coarse = serial(*net.layers, quadrature=ProductGrid(4))
    with pytest.warns(QuadratureWarning):
        coarse.kernel_fn(x)
    finer = ProductGrid(20)
    assert so3ntk.engine.plan.make_plan(net.layers, finer, 1e-4, x, None).sampling == finer


def test_gram_matrices_are_positive():
    """With equal, opposite, rotated and zero signals; no quadrature error leaves eigenvalues below zero."""
    f = white_signals(4, 3, 2, 4)
    turned = so3ntk.rotate(signal(f[:1]), so3ntk.random_rotations(1, seed=1)).coefficients
    x = signal(np.concatenate([f, -f[:1], f[:1], turned, 0 * f[:1]]))  # eight, as many as a program is compiled for
    for layers in ((Lift(), power(3), GroupPool(), Dense()), (Lift(b_std=0.5), Products([1, 1, 0.5, 0.2]), GroupPool()),
                   (Lift(), Monomial(2), GroupConv(b_std=0.2), Products([0, 1, 1.0]), GroupPool())):  # fmt: skip
        for kernel in serial(*layers).kernel_fn(x):
            values = np.linalg.eigvalsh(kernel)
            assert values[0] >= -1e-12 * values[-1]
            np.testing.assert_allclose(kernel[6], kernel[0], rtol=0, atol=1e-12 * np.abs(kernel).max())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Lift(), Monomial(2), IrrepPool(5)), r"degrees l < 5 .*then Monomial\), so that l = 5 is zero"),
        ((Lift(bandlimit=2), power(3), IrrepPool(4)), r"degrees l < 4 .*then Products"),
        ((Lift(), Products([1.0]), IrrepPool(1)), r"degrees l < 1 .*then Products"),
    ],
)
def test_degrees_that_products_do_not_make_are_refused(layers, message):
    x = signal(white_signals(2, 3, 2, 5))
    with pytest.raises(ValueError, match=message):
        serial(*layers).kernel_fn(x)
    block = serial(*layers[:2], IrrepPool(layers[2].l - 1)).kernel_fn(x, get="nngp")
    assert np.abs(block).max() > 1e-5


def test_finite_networks_have_all_degrees_of_their_features():
    """White-noise filters keep the degrees of products of n channels, n (L - 1), on the grid of the rule."""
    for layers, bandlimit in [((Lift(width=4), power(2), GroupConv(width=4), GroupPool(), Dense(1)), 5),
                              ((Lift(width=4), power(2), GroupPool(), Dense(1)), 3)]:  # fmt: skip
        grid = serial(*layers).space.feature_grid(np.zeros((1, 9, 2)), None, 1e-4)
        assert grid.bandlimit >= bandlimit
        assert grid.grid.size <= 12 * 6 * 12
