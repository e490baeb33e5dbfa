"""Finite values and derivatives where inputs are aligned, opposite or zero, at all scales and dtypes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk.engine.activations import Elementwise, Erf, Relu, Sin
from so3ntk.engine.activations.angles import _balanced_arc, determinant
from so3ntk.engine.activations.elementwise import expectation
from so3ntk.engine.activations.trigonometric import cosines, sines
from tests.engine.activations.cases import CASES, FORMULAS, KINKED
from tests.engine.activations.derivatives import all_derivatives, outputs

SCALES = [1.0, 1e6, 1e-6]


def pairs(dtype):
    """(n, 3): c, q1, q2."""
    up, down = np.nextafter(dtype(1), dtype(2)), np.nextafter(dtype(1), dtype(0))
    aligned = np.sqrt(dtype(0.3) * dtype(2.5))
    table = [
        (1, 1, 1),
        (-1, 1, 1),
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (1 - 1e-8, 1, 1),
        (1e-8 - 1, 1, 1),
        (down, 1, 1),
        (up, 1, 1),
        (-up, 1, 1),
        (aligned, 0.3, 2.5),
        (-aligned, 0.3, 2.5),
        (aligned * up, 0.3, 2.5),
        (1, up, 1),
        (1, 1, down),
        (0, 1, 1),
        (0.5, 0.3, 2.5),
    ]
    table = np.asarray(table, dtype)
    return np.concatenate([table * dtype(s) for s in SCALES])


#: Generic points, and for each the six a step away along an axis.
GENERIC, STEP = np.array([[0.3, 0.8, 1.3], [-0.6, 1.1, 0.9], [0.0, 1.0, 0.7]]), 1e-5
MOVED = (GENERIC[:, None] + STEP * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])).reshape(-1, 3)


#: By quadrature, so flat that four nodes converge to 1e-9 at these points: each node makes programs larger.
FLAT = Elementwise(lambda x: jnp.exp(x / 10), nodes=4, derivative=lambda x: jnp.exp(x / 10) / 10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_derivatives(case, dtype):
    """To second order: finite everywhere, and right at generic points."""
    table = pairs(dtype)
    if case.name.startswith(("Elementwise with", "Exp")):
        table = table[: len(table) // len(SCALES)]  # exp(u / 3) has no finite moments at variance 1e6
    if case.name == "Monomial(6)" and dtype == np.float32:
        table = table[np.abs(table).max(axis=1) < 1e5]  # its variance, 10395 q^6, is beyond the largest float32
    activation = case.activation
    if isinstance(activation, Elementwise):
        activation = FLAT if dtype == np.float64 else Elementwise(FLAT.fn, nodes=2, derivative=FLAT.derivative)
    table = np.concatenate([table, MOVED]).astype(dtype)
    found = {name: np.asarray(a) for name, a in all_derivatives(outputs(activation), jnp.asarray(table)).items()}
    for name, values in found.items():
        assert values.dtype == dtype
        finite = np.isfinite(values.reshape(len(table), -1)).all(axis=1)
        assert finite.all(), f"{name} is not finite at (c, q1, q2) = {table[~finite]}"
    if dtype == np.float64:
        check_at_generic_points({name: a[-len(MOVED) :].reshape(3, 7, *a.shape[1:]) for name, a in found.items()})


def check_at_generic_points(found):
    """All modes agree, and with central differences of values and of gradients: step^2, and eps / step."""
    value, jvp, vjp = found["value"], found["jvp"], found["vjp"]
    forward, reverse = found["forward over reverse"], found["reverse over reverse"]
    scale = np.maximum(1, np.abs(forward).max())
    for one, other in ((jvp, vjp), (forward, reverse)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13 * scale)
    for derivative, function in ((vjp, value), (reverse, vjp)):
        difference = np.moveaxis((function[:, 1:4] - function[:, 4:]) / (2 * STEP), 1, -1)
        np.testing.assert_allclose(derivative[:, 0], difference, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("case", KINKED, ids=str)
def test_kinked_derivatives_at_the_end_points_are_the_true_ones_or_zero(case):
    """At c = +-sqrt(q1 q2) the dual has the slope derivative_dual in c (Sign: infinite, so zero)."""
    value, derivative = jax.jit(outputs(case.activation)), jax.jit(jax.jacfwd(outputs(case.activation)))
    for c in (1.0, -1.0):
        triple = jnp.asarray([c, 1.0, 1.0])
        jacobian, slope = derivative(triple), value(triple)[1]
        np.testing.assert_array_equal(jacobian[0, 0], slope)
        np.testing.assert_array_equal(jacobian[0, 1:], 0)
        np.testing.assert_array_equal(jacobian[1], 0)


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_derivative_along_the_diagonal_is_that_of_the_variance(case):
    """Parameters that move c, q1 and q2 together must not see the square root."""
    activation = FLAT if isinstance(case.activation, Elementwise) else case.activation
    dual, variance = activation.dual, activation.variance
    both = jax.jit(lambda q: [slopes(f, q) for f in (lambda q: dual(q, q, q), variance)])
    for diagonal, expected in zip(*both(jnp.asarray([0.3, 1.0, 5.0])), strict=True):
        np.testing.assert_allclose(diagonal, expected, rtol=1e-11, atol=1e-13)


def slopes(function, q):
    """The first and the second derivative of an elementwise function."""
    first = lambda q: jax.jvp(function, (q,), (jnp.ones_like(q),))[1]  # noqa: E731
    return jax.jvp(first, (q,), (jnp.ones_like(q),))


@pytest.mark.parametrize("case", KINKED, ids=str)
def test_zero_inputs_mean_the_slope_at_zero(case):
    """u = 0 with certainty: phi(0) = 0, and phi'(0) is the mean of the two slopes."""
    middle = case.slope(np.array([1.0, -1.0])).mean()
    for q1, q2 in [(0.0, 0.0), (0.0, 2.0), (2.0, 0.0)]:
        triple = [jnp.asarray(x) for x in (0.0, q1, q2)]
        assert case.activation.dual(*triple) == 0
        np.testing.assert_allclose(case.activation.derivative_dual(*triple), middle**2, rtol=1e-15)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_beyond_the_end_point_by_rounding_is_the_end_point(case):
    """c > sqrt(q1 q2) by an eps moves nothing by more than a few."""
    q = np.array([0.3, 1.0, 7.0])
    c = [sign * q * factor for factor in (1, 1 + 4e-16) for sign in (1, -1)]
    at, beyond = np.split(outputs(case.activation)(jnp.asarray([np.ravel(c), *[np.tile(q, 4)] * 2])), 2, axis=1)
    np.testing.assert_allclose(beyond, at, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["Erf", "Gelu", "SigmoidLike"])
def test_rounding_is_harmless_at_large_variances(name):
    """1 + q1 + q2 + q1 q2 - c^2 is far below the rounding error of q1 q2 in single precision, and may not follow it."""
    (activation,) = (case.activation for case in CASES if case.name == name)
    q = np.array([1e6, 1e8], np.float32)
    triples = np.array([[q, q, q], [q * np.float32(1 + 3e-7), q, q]]).swapaxes(0, 1)  # (c, q1, q2), and c beyond
    function = jax.jit(outputs(activation))
    at, beyond = np.moveaxis(function(triples), 1, 0)
    np.testing.assert_allclose(beyond, at, rtol=1e-6)
    np.testing.assert_allclose(at, function(triples.astype(float))[:, 0], rtol=1e-6)


def test_gap_of_1e_8_keeps_eight_digits_of_the_angle():
    """arccos(c) would have none: it loses half of the digits."""
    relu = CASES[0].activation
    gap = 2.0**-27
    theta = 2 * np.arcsin(np.sqrt(gap / 2))
    value = relu.derivative_dual(*(jnp.asarray(x) for x in (1 - gap, 1.0, 1.0)))
    np.testing.assert_allclose(0.5 - value, theta / (2 * np.pi), rtol=1e-11)


#: Of waves one, with a phase: both functions under it are in its dual.
LOOPED = [Relu().dual, Relu().derivative_dual, Erf().dual, Sin(1.4, 0.7, 0.3).dual]


def looped(dual, a):
    """A kernel of two passes of a loop, and one after it."""
    q = jnp.sum(a * a)
    step = lambda total, weight: (total + dual(weight * q, q, q), None)  # noqa: E731
    value = jax.lax.scan(jax.checkpoint(step), 0.0, jnp.asarray([1.0, 0.5]))[0]
    return dual(value, value, value)


@pytest.mark.parametrize("dual", LOOPED)
def test_second_derivatives_of_a_loop_over_zero_signals(dual):
    """Forward over reverse mode splits the loop, and drops the rules of differentiation of what is in it.

    So the kernels of networks with local filters are evaluated, motion by motion, with a layer after pooling.
    """
    kernel = partial(looped, dual)

    @jax.jit
    def second_derivatives(zero):
        along = lambda f: jax.jvp(f, (zero,), (jnp.ones(2),))[1]  # noqa: E731
        return along(jax.grad(kernel)), along(lambda a: jax.jvp(kernel, (a,), (jnp.ones(2),))[1])

    forward_over_reverse, forward_over_forward = second_derivatives(jnp.zeros(2))
    assert np.isfinite(forward_over_forward)
    np.testing.assert_allclose(jnp.sum(forward_over_reverse), forward_over_forward, rtol=1e-12, atol=1e-12)


def test_square_roots_of_zero_without_rules():
    """As JAX differentiates them there; ``Elementwise`` too is finite."""
    point, direction = (jnp.zeros(()),) * 3, (jnp.ones(()),) * 3
    for function in (determinant, _balanced_arc, partial(expectation.__wrapped__, jnp.tanh, jnp.tanh, 4)):
        plain = getattr(function, "__wrapped__", function)
        second = jax.jvp(lambda *p, f=plain: jax.jvp(f, p, direction)[1], point, direction)[1]
        assert np.isfinite(jax.tree.leaves(second)).all()
    # the slope at c = sqrt(q1 q2) is the rule's, q2 dq1 + q1 dq2 - 2 c dc
    one = (jnp.ones(()),) * 3
    tangent = jax.jvp(determinant.__wrapped__, one, (jnp.asarray(-1.0), jnp.asarray(3.0), jnp.asarray(5.0)))[1]
    np.testing.assert_allclose(tangent, 10.0)


@pytest.mark.parametrize("function", [sines, cosines])
def test_sines_and_cosines_without_rules(function):
    """First and second derivatives of the functions as they are written are those of the rules."""
    points = (jnp.asarray([0.0, 0.0, 0.7, -0.7]), jnp.asarray([0.0, 0.7, 0.7, 0.7]))

    @jax.jit
    @partial(jax.vmap, in_axes=1)
    def derivatives(point):
        first = [jax.jacfwd(f) for f in (lambda p: function.__wrapped__(*p), lambda p: function(*p))]
        return [(f(point), jax.jacfwd(f)(point)) for f in first]

    for found, expected in zip(*derivatives(jnp.stack(points)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-15)
