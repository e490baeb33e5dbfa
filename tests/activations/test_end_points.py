"""Finite values and derivatives where inputs are aligned, opposite or zero, at all scales and dtypes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk.activations import Cos, Elementwise, Erf, Relu, Sin
from so3ntk.activations.angles import _balanced_arc, determinant
from so3ntk.activations.elementwise import expectation
from so3ntk.activations.trigonometric import cosines, sines
from tests.activations.cases import CASES, FORMULAS, KINKED

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


def outputs(activation):
    """(c, q1, q2) to the three functions of an activation."""

    def function(triple):
        c, q1, q2 = triple
        values = [activation.dual(c, q1, q2), activation.derivative_dual(c, q1, q2), activation.variance(q1)]
        return jnp.stack(values)

    return function


@partial(jax.jit, static_argnums=0)
def all_derivatives(function, table):
    """Value, jvp, vjp, and second derivatives by forward and by reverse over reverse, at each row."""
    jvp, vjp = jax.jacfwd(function), jax.jacrev(function)
    functions = {"value": function, "jvp": jvp, "vjp": vjp}
    functions |= {"forward over reverse": jax.jacfwd(vjp), "reverse over reverse": jax.jacrev(vjp)}
    return {name: jax.vmap(f)(table) for name, f in functions.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_finite(case, dtype):
    table = pairs(dtype)
    if case.name.startswith("Elementwise with"):
        table = table[: len(table) // len(SCALES)]  # exp(u / 3) has no finite moments at variance 1e6
    if case.name == "Monomial(6)" and dtype == np.float32:
        table = table[np.abs(table).max(axis=1) < 1e5]  # its variance, 10395 q^6, is beyond the largest float32
    activation = case.activation
    if isinstance(activation, Elementwise):
        activation = Elementwise(activation.fn, nodes=4, derivative=activation.derivative)  # faster to compile
    for name, values in all_derivatives(outputs(activation), jnp.asarray(table)).items():
        assert values.dtype == dtype
        finite = np.isfinite(np.asarray(values).reshape(len(table), -1)).all(axis=1)
        assert finite.all(), f"{name} is not finite at (c, q1, q2) = {table[~finite]}"


@pytest.mark.parametrize("case", KINKED, ids=str)
def test_kinked_derivatives_at_the_end_points_are_the_true_ones_or_zero(case):
    """At c = +-sqrt(q1 q2) the dual has the slope derivative_dual in c (Sign: infinite, so zero)."""
    for c in (1.0, -1.0):
        triple = jnp.asarray([c, 1.0, 1.0])
        jacobian = jax.jacfwd(outputs(case.activation))(triple)
        slope = outputs(case.activation)(triple)[1]
        np.testing.assert_array_equal(jacobian[0, 0], slope)
        np.testing.assert_array_equal(jacobian[0, 1:], 0)
        np.testing.assert_array_equal(jacobian[1], 0)


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_derivative_along_the_diagonal_is_that_of_the_variance(case):
    """Parameters that move c, q1 and q2 together must not see the square root."""
    for q in (0.3, 1.0, 5.0):
        direction = (jnp.asarray([q] * 3), jnp.ones(3))
        for order in (1, 2):
            diagonal = along(lambda x: case.activation.dual(*x), *direction, order)
            variance = along(lambda x: case.activation.variance(x[0]), *direction, order)
            np.testing.assert_allclose(diagonal, variance, rtol=1e-11, atol=1e-13)


def along(function, point, direction, order):
    """The directional derivative of the given order."""
    for _ in range(order):
        function = (lambda f: lambda x: jax.jvp(f, (x,), (direction,))[1])(function)
    return function(point)


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
    q = jnp.asarray([0.3, 1.0, 7.0])
    for sign in (1, -1):
        beyond = outputs(case.activation)(jnp.stack([sign * q * (1 + 4e-16), q, q]))
        at = outputs(case.activation)(jnp.stack([sign * q, q, q]))
        np.testing.assert_allclose(beyond, at, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["Erf", "Gelu", "SigmoidLike"])
def test_rounding_is_harmless_at_large_variances(name):
    """1 + q1 + q2 + q1 q2 - c^2 is far below the rounding error of q1 q2 in single precision, and may not follow it."""
    (activation,) = (case.activation for case in CASES if case.name == name)
    q = jnp.asarray([1e6, 1e8], jnp.float32)
    at = outputs(activation)(jnp.stack([q, q, q]))
    beyond = outputs(activation)(jnp.stack([q * jnp.float32(1 + 3e-7), q, q]))
    np.testing.assert_allclose(beyond, at, rtol=1e-6)
    expected = outputs(activation)(jnp.stack([q, q, q]).astype(float))
    np.testing.assert_allclose(at, expected, rtol=1e-6)


def test_gap_of_1e_8_keeps_eight_digits_of_the_angle():
    """arccos(c) would have none: it loses half of the digits."""
    relu = CASES[0].activation
    gap = 2.0**-27
    theta = 2 * np.arcsin(np.sqrt(gap / 2))
    value = relu.derivative_dual(*(jnp.asarray(x) for x in (1 - gap, 1.0, 1.0)))
    np.testing.assert_allclose(0.5 - value, theta / (2 * np.pi), rtol=1e-11)


LOOPED = [Relu().dual, Relu().derivative_dual, Erf().dual, Cos().dual, Sin().dual, Sin(1.4, 0.7, 0.3).derivative_dual]


@pytest.mark.parametrize("dual", LOOPED)
def test_second_derivatives_of_a_loop_over_zero_signals(dual):
    """Forward over reverse mode splits the loop, and drops the rules of differentiation of what is in it.

    So the kernels of networks with local filters are evaluated, motion by motion, with a layer after pooling.
    """

    def kernel(a):
        q = jnp.sum(a * a)
        step = lambda total, weight: (total + dual(weight * q, q, q), None)  # noqa: E731
        value = jax.lax.scan(jax.checkpoint(step), 0.0, jnp.asarray([1.0, 0.5]))[0]
        return dual(value, value, value)

    zero = jnp.zeros(2)
    _, forward_over_reverse = jax.jvp(jax.grad(kernel), (zero,), (jnp.ones(2),))
    forward = lambda a: jax.jvp(kernel, (a,), (jnp.ones(2),))[1]  # noqa: E731
    _, forward_over_forward = jax.jvp(forward, (zero,), (jnp.ones(2),))
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
@pytest.mark.parametrize("point", [(0.0, 0.0), (0.0, 0.7), (0.7, 0.7), (-0.7, 0.7)])
def test_sines_and_cosines_without_rules(function, point):
    """First and second derivatives of the functions as they are written are those of the rules."""
    point = tuple(map(jnp.asarray, point))

    def derivatives(f):
        return jax.jacfwd(f, (0, 1))(*point), jax.jacfwd(jax.jacfwd(f, (0, 1)), (0, 1))(*point)

    np.testing.assert_allclose(derivatives(function.__wrapped__)[0], derivatives(function)[0], atol=1e-15)
    found, expected = (np.asarray(derivatives(f)[1]) for f in (function.__wrapped__, function))
    np.testing.assert_allclose(found, expected, atol=1e-15)
