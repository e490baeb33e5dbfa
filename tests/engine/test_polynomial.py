"""Towers that are polynomials: the coefficients by polynomial algebra, and the values of the layers themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
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
    Relu,
    SphereSignal,
    parallel,
    serial,
)
from so3ntk.engine.demand import polynomial_degree_of
from so3ntk.engine.evaluation.collapsed import Collapsed
from so3ntk.engine.evaluation.polynomial import HIGHEST_DEGREE, Powers, composed, product, tower_polynomials
from so3ntk.engine.plan import make_plan
from tests.oracles.harmonics import white_signals

EPS = np.finfo(np.float64).eps
SIGNALS = white_signals(4, 3, 2, 0)
X = SphereSignal(jnp.asarray(SIGNALS), 3)
GRID = ProductGrid(8)


def block():
    """A residual block."""
    return FanOut(2), parallel(Identity(), serial(Monomial(2), GroupConv(W_std=1.1))), FanInSum()


def standard(layer, width, **options):
    return layer(width=width, parametrization="standard", **options)


NETWORKS = {
    "products": (Lift(b_std=0.3), Products([0.2, 0.5, 0, 0.3]), GroupPool(), Dense(b_std=0.1)),
    "one power": (Lift(W_std=1.3), Products([0, 0, 0.7]), GroupPool(), Dense(), Dense(b_std=0.2)),
    "monomials": (Lift(), Monomial(3), GroupConv(b_std=0.4), Monomial(2), GroupPool()),
    "mixed": (Lift(b_std=0.2), Monomial(2), Dense(W_std=1.2), Products([0.1, 1.0, 0.5]), GroupPool()),
    "constant": (Lift(), Products([2.0]), GroupConv(b_std=0.3), Products([0.1, 0.4]), GroupPool()),
    "linear": (Lift(b_std=0.5), GroupConv(), GroupPool(), Dense(b_std=0.1)),
    "block": (Lift(), *block(), Products([0, 1.0, 0.5]), GroupPool(), Dense()),
    "standard": (standard(Lift, 6, b_std=0.3), Products([0.3, 0.2, 1.0]), standard(GroupConv, 8, b_std=0.2), Monomial(2),
                 GroupPool(), standard(Dense, 1, b_std=0.1)),
    "vectors": (Lift(b_std=0.1), Products([0.1, 0.3, 0.4]), IrrepPool(1), Dense(W_std=1.2)),
    "head": (Lift(), Products([0, 0.4, 0.6]), GroupPool(), Dense(), Relu(), Dense()),
}  # fmt: skip


def evaluation(layers, x=X):
    return make_plan(serial(*layers).layers, GRID, 1e-4, x, None).evaluation


@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_those_of_the_layers(name):
    """Pairs of different signals: the head of one network has a kink."""
    found = evaluation(NETWORKS[name])
    assert isinstance(found, Powers)
    f, g = jnp.asarray(SIGNALS[:2]), jnp.asarray(SIGNALS[2:])
    both = jax.jit(lambda f, g: [way.pairs(f, g, ("nngp", "ntk")).kernels for way in (found, found.by_layers)])
    for kernel, slow in zip(*both(f, g), strict=True):
        np.testing.assert_allclose(kernel, slow, rtol=0, atol=100 * EPS * np.abs(slow).max())


def test_in_single_precision_small_values_are_right_beside_large_ones():
    """K + K^2 + K^3 up to a million at aligned rotations: a table of it leaves 7,000 eps of the small kernels."""
    layers = (Lift(b_std=0.3), Products([1.0, 1.0, 1.0, 1.0]), GroupPool())
    single, double = (serial(*layers, quadrature=ProductGrid(20)).kernel_fn(SphereSignal(jnp.asarray(10 * SIGNALS, dtype), 3))
                      for dtype in (np.float32, np.float64))  # fmt: skip
    np.testing.assert_allclose(single.nngp, double.nngp, rtol=50 * np.finfo(np.float32).eps)


def test_under_jit_they_are_polynomials_too():
    net, kinds = serial(*NETWORKS["mixed"], quadrature=GRID), []

    def kernels(a):
        x = SphereSignal(a, 3)
        kinds.append(type(make_plan(net.layers, GRID, 1e-4, x, None).evaluation))
        return net.kernel_fn(x)

    for kernel, expected in zip(jax.jit(kernels)(X.coefficients), net.kernel_fn(X), strict=True):
        np.testing.assert_allclose(kernel, expected, rtol=1e-13)
    assert kinds == [Powers]


def test_degrees_multiply_with_depth():
    for name, degree in [("products", 3), ("monomials", 6), ("mixed", 4), ("constant", 0), ("linear", 1), ("block", 4)]:
        assert polynomial_degree_of(NETWORKS[name][: -1 - (name in ("products", "block", "linear"))]) == degree
    assert polynomial_degree_of((Lift(), Relu())) is None
    assert polynomial_degree_of((Lift(), FanOut(2), parallel(Relu(), Identity()), FanInSum())) is None
    cubes = [layer for _ in range(3) for layer in (Monomial(3), Dense())]
    assert HIGHEST_DEGREE < 27
    assert isinstance(evaluation((Lift(), *cubes, GroupPool())), Collapsed)


def test_polynomials_of_a_tower():
    """By NumPy's polynomials: lifting a + b x, Monomial(2) with variances, a layer with bias, a product of three."""
    layers = (
        Lift(W_std=1.2, b_std=0.5),
        Monomial(2),
        Dense(W_std=0.9, b_std=0.3),
        Products([0, 0.5, 0, 0.25]),
        GroupPool(),
    )
    f, g = jnp.asarray(SIGNALS[0]), 1.3 * jnp.asarray(SIGNALS[1])
    q1, q2 = (1.44 * q + 0.25 for q in (1.0, 1.69))
    P = np.polynomial.Polynomial
    nngp = ntk = P([0.25, 1.44])
    ntk, nngp = 4 * nngp * ntk, 2 * nngp**2 + q1 * q2
    nngp = 0.81 * nngp + 0.09
    ntk = nngp + 0.81 * ntk
    ntk, nngp = (0.5 + 0.75 * nngp**2) * ntk, 0.5 * nngp + 0.25 * nngp**3
    found = tower_polynomials(layers, f, g, ("nngp", "ntk"))
    np.testing.assert_allclose(found, [nngp.coef, ntk.coef], rtol=1e-13, atol=1e-13)


def test_products_and_compositions_of_polynomials():
    rng = np.random.default_rng(0)
    a, b = (np.pad(rng.normal(size=k), (0, 7 - k)) for k in (3, 4))
    np.testing.assert_allclose(product(jnp.asarray(a), jnp.asarray(b))[:6], np.convolve(a[:3], b[:4]), rtol=1e-13)
    outer = rng.normal(size=3)
    P = np.polynomial.Polynomial
    np.testing.assert_allclose(composed(jnp.asarray(outer), jnp.asarray(b)), P(outer)(P(b[:4])).coef, rtol=1e-13)
    np.testing.assert_array_equal(composed(jnp.zeros(0), jnp.asarray(b)), np.zeros(7))


def test_constants_are_refused_where_they_are_no_tensors():
    net = serial(Lift(b_std=0.1), Products([0, 1.0, 1.0]), IrrepPool(1), Dense(b_std=0.2), quadrature=GRID)
    with pytest.raises(ValueError, match="is a constant vector or tensor"):
        net.kernel_fn(X)
