"""Product units: their kernels written out, finite values, and what they refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    FanInSum,
    FanOut,
    Flatten,
    GroupConv,
    GroupPool,
    Identity,
    Lift,
    Monomial,
    Products,
    Relu,
    parallel,
    serial,
)
from so3ntk.engine.features import Vectors
from tests.engine.activations.cases import trapezoid_expectation

EPS = np.finfo(np.float64).eps
COEFFICIENTS = (0.3, 0.0, 0.8, 0.2)
LAYER = Products(COEFFICIENTS)
TRIPLES = [(0.4, 0.8, 1.3), (-0.9, 1.0, 1.0), (0.0, 0.5, 2.0), (1.3, 1.3, 1.3)]


def polynomial(c, slope=False):
    return sum(a * (k * c ** max(k - 1, 0) if slope else c**k) for k, a in enumerate(COEFFICIENTS))


@pytest.mark.parametrize("triple", TRIPLES)
def test_kernels_are_the_polynomial_and_its_slope(triple):
    c, q1, q2 = (jnp.asarray(v) for v in triple)
    np.testing.assert_allclose(LAYER.dual(c, q1, q2), polynomial(triple[0]), rtol=8 * EPS)
    np.testing.assert_allclose(LAYER.derivative_dual(c, q1, q2), polynomial(triple[0], True), rtol=8 * EPS, atol=EPS)
    np.testing.assert_allclose(jax.grad(LAYER.dual)(c, q1, q2), polynomial(triple[0], True), rtol=8 * EPS, atol=EPS)
    np.testing.assert_array_equal(LAYER.variance(q1), LAYER.dual(q1, q1, q1))
    np.testing.assert_array_equal(LAYER.powers(q1, q2), COEFFICIENTS)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_product_of_independent_gaussians(power):
    """E[u_1 v_1 ... u_k v_k] of independent pairs is E[u v]^k, by quadrature in two dimensions."""
    c, q1, q2 = 0.5, 0.9, 1.4
    expected = trapezoid_expectation(lambda x: x, c, q1, q2) ** power
    layer = Products([0] * power + [1.0])
    np.testing.assert_allclose(layer.dual(*(jnp.asarray(v) for v in (c, q1, q2))), expected, rtol=1e-12)


def test_derivatives_are_finite_to_order_three():
    one, c = np.ones(5), np.array([0.0, -0.7, 1e-30, 1.0, -1.0])
    for layer in (LAYER, Products([1.0]), Products([0, 2.0]), Products([0, 0, 0, 1.0])):
        orders = [jax.grad(layer.dual)]
        for _ in range(2):
            orders.append(jax.grad(orders[-1]))
        every = jax.jit(lambda *triple, orders=tuple(orders): [jax.vmap(function)(*triple) for function in orders])
        for dtype in (jnp.float32, jnp.float64):
            for values in every(*(jnp.asarray(v, dtype) for v in (c, one, one))):
                assert np.isfinite(values).all()
                assert values.dtype == dtype


def test_shapes_broadcast():
    q1, q2 = jnp.ones((3, 1)), jnp.ones((1, 4))
    for layer in (LAYER, Products([1.0])):
        for function in (layer.dual, layer.derivative_dual):
            assert function(jnp.asarray(0.4), q1, q2).shape == (3, 4)


def test_zeros_are_left_out_and_others_are_hyperparameters():
    layer = Products(np.array([0.0, 0.5, 0.0, 2.0, 0.0]))
    assert layer.coefficients == (None, 0.5, None, 2.0)
    assert jax.tree.leaves(layer) == [0.5, 2.0]
    assert Products([0, 0.5, 0.0, 2.0, 0]) == Products([None, 0.5, None, 2.0])
    assert (layer.degree, layer.polynomial_degree, layer.homogeneity) == (3, 3, None)
    assert (Products([0, 0, 3.0]).homogeneity, Products([2.0]).homogeneity, Products([1, 2.0]).homogeneity) == (
        2,
        0,
        None,
    )
    slope = eqx.filter_grad(lambda a: a.dual(*(jnp.asarray(v) for v in TRIPLES[0])))(layer)
    np.testing.assert_allclose([slope.coefficients[1], slope.coefficients[3]], [0.4, 0.4**3], rtol=8 * EPS)


def test_traced_coefficients():
    def value(alpha):
        layer = Products([1, alpha, alpha**2 / 2])
        return layer.dual(jnp.asarray(0.4), jnp.asarray(1.0), jnp.asarray(1.0))

    alpha = jnp.asarray(0.7)
    np.testing.assert_allclose(jax.jit(value)(alpha), 1 + 0.28 + 0.28**2 / 2, rtol=8 * EPS)
    np.testing.assert_allclose(jax.grad(value)(alpha), 0.4 * (1 + 0.28), rtol=8 * EPS)
    whole = jax.grad(lambda c: Products(c).dual(jnp.asarray(0.4), jnp.asarray(1.0), jnp.asarray(1.0)))
    np.testing.assert_allclose(whole(jnp.asarray([1.0, 2.0, 0.0])), [1, 0.4, 0.16], rtol=8 * EPS)


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ([], "one is above zero"),
        ([0, 0.0, None], "one is above zero"),
        ([1.0, -0.5], r"at least zero, got c_1 = -0.5"),
        ([np.nan], r"c_0 = nan"),
        ([1, 2, np.inf], r"c_2 = inf"),
        (jnp.asarray([1.0, -1.0]), r"c_1 = "),
        (["a"], r"c_0 = 'a'"),
        ([1j], r"c_0 = 1j"),
        (np.ones((2, 2)), r"c_0 = "),
    ],
)
def test_wrong_coefficients(coefficients, message):
    with pytest.raises(ValueError, match=message):
        Products(coefficients)


# --- the finite network's layer


def test_features_are_nested_products_of_groups_of_channels():
    values = np.random.default_rng(0).normal(size=(2, 6))
    found = LAYER.apply((), Vectors(jnp.asarray(values))).values
    a, b, c = (values[:, [k, 3 + k]] for k in range(3))
    np.testing.assert_allclose(found, 0.3**0.5 + 0.8**0.5 * a * b + 0.2**0.5 * a * b * c, rtol=20 * EPS)
    constant = Products([4.0]).apply((), Vectors(jnp.asarray(values))).values
    np.testing.assert_array_equal(constant, np.full((2, 6), 2.0))


@pytest.mark.parametrize(("width", "remedy"), [(8, 9), (2, 3), (10, 12)])
def test_widths_that_do_not_fit(width, remedy):
    """The remedy of the message is carried out."""

    def network(width):
        return serial(Flatten(), Dense(width), LAYER, Dense(1, parametrization="standard"))

    x = np.ones((2, 4))
    for call in (lambda net: net.init_fn(jax.random.key(0), (2, 4)), lambda net: net.kernel_fn(x)):
        with pytest.raises(ValueError, match=f"got {width}.* Give that layer width={remedy}, for {remedy // 3} after"):
            call(network(width))
        call(network(remedy))


def test_the_width_after_it_counts_in_the_standard_parametrisation():
    """The NTK of the last weights is the number of channels times K."""
    net = serial(Flatten(), Dense(12), Products([0, 0, 0, 1.0]), Dense(1, parametrization="standard"))
    plain = serial(Flatten(), Dense(4), Monomial(1), Dense(1, parametrization="standard"))
    x = np.full((1, 1), 1.0)  # K = 1 at every layer; Theta = width K, and 3 K^2 or K of the first layer
    np.testing.assert_allclose(net.kernel_fn(x, get="ntk"), 4 + 3)
    np.testing.assert_allclose(plain.kernel_fn(x, get="ntk"), 4 + 1)
    pooled = serial(Lift(width=12), Products([0, 0, 0, 1.0]), GroupPool(), Dense(1, parametrization="standard"))
    assert so3ntk.engine.demand.width_after(pooled.layers[:3]) == 4


# --- what must stand between nonlinearities


CUBE = Products([0, 0, 0, 1.0])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Lift(), CUBE, Relu()), "Relu: it acts on features that are Gaussian, and what comes before"),
        ((Lift(), CUBE, GroupPool(), Relu()), "Relu: it acts on features that are Gaussian, and what comes before"),
        ((Lift(), CUBE, CUBE), "Products: it multiplies channels that have weights of their own"),
        ((Lift(), Relu(), CUBE), "Products: it multiplies channels"),
        ((Lift(), Erf(), Relu()), "Relu: it acts on features that are Gaussian, .* is a nonlinearity"),
        ((Flatten(), CUBE), "Products: it multiplies channels"),
        ((Flatten(), Relu()), "Relu: it acts on features that are Gaussian, .* raw data"),
        ((Lift(), Relu(), GroupPool(), Erf()), "Erf: it acts on features that are Gaussian, .* a pooling of one"),
        ((Lift(), Relu(), FanOut(2), parallel(Identity(), GroupConv()), FanInSum(), Erf()), "Erf: it acts on features"),
        (
            (Lift(), FanOut(2), parallel(Identity(), CUBE), FanInSum(), Erf()),
            "Erf: it acts on features that are Gaussian",
        ),
        ((CUBE, Identity(), Relu()), "Relu: it acts on features that are Gaussian"),
    ],
)
def test_a_linear_layer_must_stand_between(layers, message):
    with pytest.raises(ValueError, match=message):
        serial(*layers)


def test_networks_that_are_right():
    for layers in [
        (Lift(), CUBE, GroupPool()),
        (Lift(), CUBE, Dense(), Relu(), GroupPool()),
        (CUBE, Dense(), Relu()),  # a block: what comes before it is not known here
        (Lift(), FanOut(2), parallel(serial(CUBE, Dense()), serial(Relu(), Dense())), FanInSum(), CUBE, GroupPool()),
    ]:
        serial(*layers)
