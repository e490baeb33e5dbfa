"""Duals against quadrature, Price's theorem, and what an activation declares about itself."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk.engine.activations import Activation, Cos, Erf, LeakyRelu, Monomial, Sin
from tests.engine.activations.cases import CASES, KINKED, SMOOTH, angle

EPS = np.finfo(np.float64).eps
VARIANCES = [(1.0, 1.0), (0.3, 2.5), (4.0, 0.05)]
CORRELATIONS = [-1.0, -0.999, -0.6, 0.0, 0.3, 0.9, 0.999999, 1.0]
TRIPLES = [(rho * np.sqrt(q1 * q2), q1, q2) for q1, q2 in VARIANCES for rho in CORRELATIONS]
GENERIC = [t for t in TRIPLES if abs(t[0]) < 0.99 * np.sqrt(t[1] * t[2])]


class Compiled:
    """An activation's functions, and derivatives of its dual, under jit: once for all tests."""

    def __init__(self, activation):
        self.dual, self.derivative_dual = jax.jit(activation.dual), jax.jit(activation.derivative_dual)
        self.variance, self.slope = jax.jit(activation.variance), jax.jit(jax.grad(activation.dual))
        self.gradient = jax.jit(jax.grad(activation.dual, argnums=(0, 1, 2)))


@cache
def compiled(case):
    return Compiled(case.activation)


each_case = pytest.mark.parametrize("case", CASES, ids=str)


def arrays(*values, dtype=jnp.float64):
    return tuple(jnp.asarray(v, dtype) for v in values)


def angle_error(c, q1, q2):
    """How far a rounding of the arguments moves the angle: eps / sin(theta), or sqrt(eps) at its ends."""
    s = np.sin(angle(c, q1, q2))
    return 8 * EPS / max(s, np.sqrt(EPS))


@each_case
def test_dual_is_the_expectation(case):
    for c, q1, q2 in TRIPLES:
        scale = np.sqrt(case.expect(q1, q1, q1) * case.expect(q2, q2, q2))
        # The dual is flat in the angle at its ends, except that of Sign.
        tolerance = 1e-12 + (angle_error(c, q1, q2) if case.name == "Sign" else 0)
        value = compiled(case).dual(*arrays(c, q1, q2))
        np.testing.assert_allclose(value, case.expect(c, q1, q2), rtol=0, atol=tolerance * scale)


@each_case
def test_derivative_dual_is_the_expectation_of_slopes(case):
    for c, q1, q2 in TRIPLES:
        scale = np.sqrt(case.expect_slopes(q1, q1, q1) * case.expect_slopes(q2, q2, q2))
        tolerance = 1e-12 + (angle_error(c, q1, q2) if case in KINKED else 0)
        value = compiled(case).derivative_dual(*arrays(c, q1, q2))
        np.testing.assert_allclose(value, case.expect_slopes(c, q1, q2), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradient_of_a_smooth_dual_is_that_of_the_quadrature(case):
    """The quadrature is differentiated by a complex step, which has no cancellation."""
    for triple in GENERIC[::2]:
        scale = max(abs(case.expect(triple[1], *triple[1:])), abs(case.expect(triple[2], *triple[1:])))
        gradient = compiled(case).gradient(*arrays(*triple))
        for i in range(3):
            step = [complex(v) for v in triple]
            step[i] += 1e-30j
            expected = case.expect(*step).imag / 1e-30
            np.testing.assert_allclose(gradient[i], expected, rtol=1e-11, atol=1e-11 * scale / triple[i or 1])


@pytest.mark.parametrize("case", KINKED, ids=str)
def test_gradient_of_a_kinked_dual_is_that_of_the_quadrature(case):
    """Central differences: an error of step^2 in truncation, eps / step in rounding."""
    for triple in GENERIC:
        gradient = compiled(case).gradient(*arrays(*triple))
        for i in range(3):
            step = 1e-5 * triple[i or 1]
            above, below = (
                case.expect(*(v + sign * step * (i == j) for j, v in enumerate(triple))) for sign in (1, -1)
            )
            np.testing.assert_allclose(gradient[i], (above - below) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "Sign"], ids=str)
def test_prices_theorem(case):
    """The derivative of the dual in c is derivative_dual, also at the end points (Sign's is zero)."""
    for triple in arrays(*TRIPLES):
        slope = compiled(case).slope(*triple)
        np.testing.assert_allclose(slope, compiled(case).derivative_dual(*triple), rtol=1e-12, atol=1e-15)


@each_case
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_variance_is_the_dual_at_the_diagonal(case, dtype):
    """To the bit, or a later kinked layer would see two equal inputs at an angle of sqrt(eps)."""
    q = jnp.asarray([0.0, 1e-6, 0.1, 0.7, 1.0, 3.3, 40.0, 1e3], dtype)
    variance, dual = case.activation.variance, case.activation.dual
    np.testing.assert_array_equal(variance(q), dual(q, q, q))
    np.testing.assert_array_equal(*jax.jit(lambda q: (variance(q), dual(q, q, q)))(q))
    for x, value in zip(q[1:5], variance(q)[1:5], strict=True):
        np.testing.assert_allclose(value, case.expect(*[float(x)] * 3), rtol=40 * float(jnp.finfo(dtype).eps))


@each_case
@pytest.mark.parametrize("scale", [1e-5, 1.0, 10.0])
def test_single_precision(case, scale):
    """Relative to the variances also where those are small: no formula may subtract what is nearly equal."""
    triples = np.float32(scale) * np.asarray(GENERIC, np.float32).T
    for function in (compiled(case).dual, compiled(case).derivative_dual):
        single, double = (function(*arrays(*triples, dtype=d)) for d in (jnp.float32, jnp.float64))
        limit = np.sqrt(
            function(*[jnp.asarray(triples[1], float)] * 3) * function(*[jnp.asarray(triples[2], float)] * 3)
        )
        assert np.all(np.abs(np.asarray(single) - np.asarray(double)) <= 40 * np.finfo(np.float32).eps * limit)


@pytest.mark.parametrize("case", KINKED, ids=str)
def test_kinked_duals_are_exact_at_the_end_points(case):
    q = jnp.asarray([1e-6, 0.1, 1.0, 3.3, 1e6])
    a = compiled(case)
    ends = np.array([1.0, -1.0])
    slopes, values = case.slope(ends), case.phi(ends)
    np.testing.assert_allclose(a.derivative_dual(q, q, q), np.mean(slopes**2), rtol=4 * EPS)
    np.testing.assert_allclose(a.derivative_dual(-q, q, q), np.prod(slopes), rtol=4 * EPS, atol=EPS)
    np.testing.assert_allclose(a.dual(-q, q, q) / q**case.homogeneity, np.prod(values), rtol=4 * EPS)


@each_case
def test_homogeneity(case):
    """Scaling c, q1, q2 by s scales the dual by s^p and its derivative by s^(p - 1), or by no power."""
    assert case.activation.homogeneity == case.homogeneity
    triple, s = arrays(0.3, 0.8, 0.5), 2.5
    scaled = tuple(s * x for x in triple)
    a, p = compiled(case), case.homogeneity
    if p is None:
        exponents = [np.log(a.dual(*(f * x for x in triple)) / a.dual(*triple)) / np.log(f) for f in (1.5, 2.5)]
        assert abs(exponents[0] - exponents[1]) > 1e-3
        return
    np.testing.assert_allclose(a.dual(*scaled), s**p * a.dual(*triple), rtol=20 * EPS)
    np.testing.assert_allclose(a.derivative_dual(*scaled), s ** (p - 1) * a.derivative_dual(*triple), rtol=20 * EPS)
    np.testing.assert_allclose(a.variance(scaled[1]), s**p * a.variance(triple[1]), rtol=20 * EPS)


@each_case
def test_smoothness_is_the_exponent_at_aligned_inputs(case):
    """Sign has it in the dual, and a derivative dual of zero."""
    assert case.activation.smoothness == case.smoothness
    function = compiled(case).dual if case.name == "Sign" else compiled(case).derivative_dual
    gaps = np.array([1e-4, 1e-6])
    drop = [float(function(*arrays(1, 1, 1)) - function(*arrays(1 - gap, 1, 1))) for gap in gaps]
    if case.smoothness == 0.5:
        np.testing.assert_allclose(np.log(drop[0] / drop[1]) / np.log(100), 0.5, atol=1e-3)
    else:
        assert abs(drop[1]) < 1e-4 * max(1, abs(float(function(*arrays(1, 1, 1)))))


@each_case
def test_jit_vmap_and_broadcasting(case):
    rng = np.random.default_rng(0)
    q1, q2 = arrays(rng.uniform(0.2, 2, (3, 1)), rng.uniform(0.2, 2, (1, 4)))
    c = jnp.sqrt(q1 * q2) * jnp.asarray(rng.uniform(-1, 1, (3, 4)))
    for function in (case.activation.dual, case.activation.derivative_dual):
        value = function(c, q1, q2)
        assert value.shape == (3, 4)
        mapped = jax.vmap(jax.vmap(function, (0, None, 0)), (0, 0, None))(c, q1[:, 0], q2[0])
        np.testing.assert_allclose(mapped, value, rtol=20 * EPS, atol=20 * EPS)
        np.testing.assert_allclose(jax.jit(function)(c, q1, q2), value, rtol=20 * EPS, atol=20 * EPS)
        # The kernel may be the smallest array, as where two signals meet at one motion only.
        assert function(c[0, 0], q1, q2).shape == (3, 4)


@each_case
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_is_kept(case, dtype):
    triple = arrays(0.4, 0.8, 1.3, dtype=dtype)
    for function in (compiled(case).dual, compiled(case).derivative_dual):
        assert jax.eval_shape(function, *triple).dtype == dtype
        assert jax.eval_shape(jax.grad(function), *triple).dtype == dtype
    assert jax.eval_shape(case.activation.variance, triple[1]).dtype == dtype


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in ("Sign", "Monomial(0)")], ids=str)
def test_nan_is_not_hidden(case):
    for bad in [(np.nan, 1.0, 1.0), (0.5, np.nan, 1.0), (0.5, 1.0, np.nan)]:
        assert np.isnan(compiled(case).dual(*arrays(*bad))) or case.name == "Monomial(1)"
    assert np.isnan(compiled(case).variance(jnp.asarray(np.nan)))


HYPERPARAMETERS = [
    (LeakyRelu, (0.3,)),
    (LeakyRelu, (-1.7,)),
    (Erf, (1.4, 0.7, 0.3)),
    (Sin, (1.4, 0.7, 0.3)),
    (Cos, (1.4, 0.7, 0.3)),
]


@pytest.mark.parametrize(("cls", "values"), HYPERPARAMETERS)
def test_hyperparameters_are_differentiable(cls, values):
    triple = arrays(0.4, 0.8, 1.3)

    def outputs(values):
        a = cls(*values)
        return jnp.stack([a.dual(*triple), a.derivative_dual(*triple), a.variance(triple[1])])

    gradient = jax.jit(jax.jacrev(outputs))(values)
    for i in range(len(values)):
        step = [1e-6 * (i == j) for j in range(len(values))]
        above, below = (outputs([v + sign * d for v, d in zip(values, step, strict=True)]) for sign in (1, -1))
        assert np.abs(above - below).max() > 0
        np.testing.assert_allclose(gradient[i], (above - below) / 2e-6, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("cls", "values"), HYPERPARAMETERS)
def test_hyperparameters_are_leaves_as_given(cls, values):
    activation = cls(*values)
    assert jax.tree.leaves(activation) == list(values)
    assert all(a is b for a, b in zip(jax.tree.leaves(activation), values, strict=True))
    gradient = eqx.filter_grad(lambda a: a.dual(*arrays(0.4, 0.8, 1.3)))(activation)
    assert isinstance(gradient, Activation)
    batch = jax.vmap(lambda a: a.variance(jnp.float64(0.8)))(jax.tree.map(lambda v: jnp.full(3, v), activation))
    np.testing.assert_allclose(batch, activation.variance(jnp.float64(0.8)), rtol=4 * EPS)


@pytest.mark.parametrize("degree", [-1, 7, 2.0, 1.5, "2", None])
def test_monomial_refuses_other_degrees(degree):
    with pytest.raises(ValueError, match="expected a degree that is an integer from 0 to 6, got"):
        Monomial(degree)


@pytest.mark.parametrize("integer", [np.int32, np.int64])
def test_monomial_takes_numpy_integers(integer):
    assert Monomial(integer(3)) == Monomial(3)
    assert hash(Monomial(integer(3))) == hash(Monomial(3))
