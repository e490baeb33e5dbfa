"""Duals against quadrature, Price's theorem, and what an activation declares about itself."""

from functools import cache, partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk.engine.activations import Activation, Cos, Erf, LeakyRelu, Monomial, Sin
from tests.engine.activations.cases import CASES, FORMULAS, KINKED, SMOOTH, angle

EPS = np.finfo(np.float64).eps
VARIANCES = [(1.0, 1.0), (0.3, 2.5), (4.0, 0.05)]
CORRELATIONS = [-1.0, -0.999, -0.6, 0.0, 0.3, 0.9, 0.999999, 1.0]
TRIPLES = [(rho * np.sqrt(q1 * q2), q1, q2) for q1, q2 in VARIANCES for rho in CORRELATIONS]
GENERIC = [t for t in TRIPLES if abs(t[0]) < 0.99 * np.sqrt(t[1] * t[2])]
#: As single precision has them, also where variances are small: no formula may subtract what is nearly equal.
SINGLE = np.concatenate([np.float32(scale) * np.asarray(GENERIC, np.float32) for scale in (1e-5, 1.0, 10.0)])
ENDS = [1e-6, 0.1, 1.0, 3.3, 1e6]
FACTORS = [1.0, 1.5, 2.5]


def broadcast_points():
    """c (3, 4), q1 (3, 1), q2 (1, 4)."""
    rng = np.random.default_rng(0)
    q1, q2 = rng.uniform(0.2, 2, (3, 1)), rng.uniform(0.2, 2, (1, 4))
    return np.sqrt(q1 * q2) * rng.uniform(-1, 1, (3, 4)), q1, q2


def own(q, sign=1):
    return np.stack([sign * np.asarray(q), q, q], axis=-1)


#: Where the tests look, rows (c, q1, q2): one program for each activation takes them all.
POINTS = {
    "triples": TRIPLES,
    "generic": GENERIC,
    "diagonal": own([0.0, 1e-6, 0.1, 0.7, 1.0, 3.3, 40.0, 1e3]),
    "single": SINGLE,
    "single, first": own(SINGLE[:, 1]),
    "single, second": own(SINGLE[:, 2]),
    "aligned": own(ENDS),
    "opposite": own(ENDS, -1),
    "scaled": np.outer(FACTORS, (0.3, 0.8, 0.5)),
    "gaps": [(1 - gap, 1.0, 1.0) for gap in (0.0, 1e-4, 1e-6)],
    "nan": [(np.nan, 1.0, 1.0), (0.5, np.nan, 1.0), (0.5, 1.0, np.nan)],
    "broadcast": np.stack([a.ravel() for a in np.broadcast_arrays(*broadcast_points())], axis=-1),
}
STARTS = np.cumsum([0, *(len(points) for points in POINTS.values())])
ROWS = {name: slice(*STARTS[i : i + 2]) for i, name in enumerate(POINTS)}


class Values(NamedTuple):
    """An activation's functions, ``dual`` at (q1, q1, q1), and, in double precision, the derivatives of ``dual``."""

    dual: np.ndarray
    slope: np.ndarray
    variance: np.ndarray
    own: np.ndarray
    gradient: np.ndarray


@cache
def values(case, dtype):
    """At all points."""

    @jax.jit
    def evaluate(c, q1, q2):
        a = case.activation
        functions = a.dual(c, q1, q2), a.derivative_dual(c, q1, q2), a.variance(q1), a.dual(q1, q1, q1)
        if dtype == np.float32:
            return *functions, jnp.zeros(len(c))
        gradient = jax.grad(lambda *triple: jnp.sum(a.dual(*triple)), argnums=(0, 1, 2))(c, q1, q2)
        return *functions, jnp.stack(gradient, axis=-1)

    return Values(*map(np.asarray, evaluate(*np.concatenate(list(POINTS.values())).astype(dtype).T)))


def at(points, case, dtype=np.float64):
    """The values at some of the points."""
    return Values(*(a[ROWS[points]] for a in values(case, dtype)))


each_case = pytest.mark.parametrize("case", CASES, ids=str)


def arrays(*values, dtype=jnp.float64):
    return tuple(jnp.asarray(v, dtype) for v in values)


def angle_error(c, q1, q2):
    """How far a rounding of the arguments moves the angle: eps / sin(theta), or sqrt(eps) at its ends."""
    s = np.sin(angle(c, q1, q2))
    return 8 * EPS / max(s, np.sqrt(EPS))


@each_case
def test_dual_is_the_expectation(case):
    for (c, q1, q2), value in zip(TRIPLES, at("triples", case).dual, strict=True):
        scale = np.sqrt(case.expect(q1, q1, q1) * case.expect(q2, q2, q2))
        # The dual is flat in the angle at its ends, except that of Sign.
        tolerance = 1e-12 + (angle_error(c, q1, q2) if case.name == "Sign" else 0)
        np.testing.assert_allclose(value, case.expect(c, q1, q2), rtol=0, atol=tolerance * scale)


@each_case
def test_derivative_dual_is_the_expectation_of_slopes(case):
    for (c, q1, q2), value in zip(TRIPLES, at("triples", case).slope, strict=True):
        scale = np.sqrt(case.expect_slopes(q1, q1, q1) * case.expect_slopes(q2, q2, q2))
        tolerance = 1e-12 + (angle_error(c, q1, q2) if case in KINKED else 0)
        np.testing.assert_allclose(value, case.expect_slopes(c, q1, q2), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradient_of_a_smooth_dual_is_that_of_the_quadrature(case):
    """The quadrature is differentiated by a complex step, which has no cancellation."""
    for triple, gradient in zip(GENERIC[::2], at("generic", case).gradient[::2], strict=True):
        scale = max(abs(case.expect(triple[1], *triple[1:])), abs(case.expect(triple[2], *triple[1:])))
        for i in range(3):
            step = [complex(v) for v in triple]
            step[i] += 1e-30j
            expected = case.expect(*step).imag / 1e-30
            np.testing.assert_allclose(gradient[i], expected, rtol=1e-11, atol=1e-11 * scale / triple[i or 1])


@pytest.mark.parametrize("case", KINKED, ids=str)
def test_gradient_of_a_kinked_dual_is_that_of_the_quadrature(case):
    """Central differences: an error of step^2 in truncation, eps / step in rounding."""
    for triple, gradient in zip(GENERIC, at("generic", case).gradient, strict=True):
        for i in range(3):
            step = 1e-5 * triple[i or 1]
            above, below = (
                case.expect(*(v + sign * step * (i == j) for j, v in enumerate(triple))) for sign in (1, -1)
            )
            np.testing.assert_allclose(gradient[i], (above - below) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "Sign"], ids=str)
def test_prices_theorem(case):
    """The derivative of the dual in c is derivative_dual, also at the end points (Sign's is zero)."""
    found = at("triples", case)
    np.testing.assert_allclose(found.gradient[:, 0], found.slope, rtol=1e-12, atol=1e-15)


@each_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_variance_is_the_dual_at_the_diagonal(case, dtype):
    """To the bit, or a later kinked layer would see two equal inputs at an angle of sqrt(eps)."""
    found = at("diagonal", case, dtype)
    np.testing.assert_array_equal(found.variance, found.own)
    for q, value in zip(POINTS["diagonal"][1:5, 0].astype(dtype), found.variance[1:5], strict=True):
        np.testing.assert_allclose(value, case.expect(*[float(q)] * 3), rtol=40 * float(np.finfo(dtype).eps))


@each_case
def test_single_precision(case):
    """Relative to the variances also where those are small."""
    single, double = (at("single", case, dtype) for dtype in (np.float32, np.float64))
    first, second = (at(f"single, {which}", case) for which in ("first", "second"))
    for name in ("dual", "slope"):
        limit = np.sqrt(getattr(first, name) * getattr(second, name))
        error = np.abs(getattr(single, name) - getattr(double, name))
        assert np.all(error <= 40 * np.finfo(np.float32).eps * limit)


@pytest.mark.parametrize("case", KINKED, ids=str)
def test_kinked_duals_are_exact_at_the_end_points(case):
    aligned, opposite = at("aligned", case), at("opposite", case)
    ends = np.array([1.0, -1.0])
    slopes, phi = case.slope(ends), case.phi(ends)
    np.testing.assert_allclose(aligned.slope, np.mean(slopes**2), rtol=4 * EPS)
    np.testing.assert_allclose(opposite.slope, np.prod(slopes), rtol=4 * EPS, atol=EPS)
    np.testing.assert_allclose(opposite.dual / np.power(ENDS, case.homogeneity), np.prod(phi), rtol=4 * EPS)


@each_case
def test_homogeneity(case):
    """Scaling c, q1, q2 by s scales the dual by s^p and its derivative by s^(p - 1), or by no power."""
    assert case.activation.homogeneity == case.homogeneity
    found, s, p = at("scaled", case), np.array(FACTORS), case.homogeneity
    if p is None:
        exponents = np.log(np.abs(found.dual[1:] / found.dual[0])) / np.log(s[1:])
        assert abs(exponents[0] - exponents[1]) > 1e-3
        return
    np.testing.assert_allclose(found.dual, s**p * found.dual[0], rtol=20 * EPS)
    np.testing.assert_allclose(found.slope, s ** (p - 1) * found.slope[0], rtol=20 * EPS)
    np.testing.assert_allclose(found.variance, s**p * found.variance[0], rtol=20 * EPS)


@each_case
def test_smoothness_is_the_exponent_at_aligned_inputs(case):
    """Sign has it in the dual, and a derivative dual of zero."""
    assert case.activation.smoothness == case.smoothness
    found = at("gaps", case)
    aligned, *apart = found.dual if case.name == "Sign" else found.slope
    drop = aligned - np.array(apart)
    if case.smoothness == 0.5:
        np.testing.assert_allclose(np.log(drop[0] / drop[1]) / np.log(100), 0.5, atol=1e-3)
    else:
        assert abs(drop[1]) < 1e-4 * max(1, abs(aligned))


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_jit_vmap_and_broadcasting(case):
    c, q1, q2 = arrays(*broadcast_points())
    functions = case.activation.dual, case.activation.derivative_dual

    @jax.jit
    def broadcast_and_mapped(c, q1, q2):
        both = [jax.vmap(jax.vmap(function, (0, None, 0)), (0, 0, None)) for function in functions]
        return [
            (function(c, q1, q2), mapped(c, q1[:, 0], q2[0])) for function, mapped in zip(functions, both, strict=True)
        ]

    found = at("broadcast", case)
    for pair, expected in zip(broadcast_and_mapped(c, q1, q2), (found.dual, found.slope), strict=True):
        for value in pair:
            np.testing.assert_allclose(value, expected.reshape(3, 4), rtol=20 * EPS, atol=20 * EPS)
    # The kernel may be the smallest array, as where two signals meet at one motion only.
    assert all(jax.eval_shape(function, c[0, 0], q1, q2).shape == (3, 4) for function in functions)


@each_case
def test_dtype_is_kept(case):
    """In single precision, also of derivatives; in double precision the other tests would see digits missing."""
    triple = arrays(0.4, 0.8, 1.3, dtype=jnp.float32)
    for function in (case.activation.dual, case.activation.derivative_dual):
        value, slope = jax.eval_shape(jax.value_and_grad(function), *triple)
        assert value.dtype == slope.dtype == jnp.float32
    assert jax.eval_shape(case.activation.variance, triple[1]).dtype == jnp.float32


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in ("Sign", "Monomial(0)")], ids=str)
def test_nan_is_not_hidden(case):
    found = at("nan", case)
    assert np.isnan(found.dual).all() or case.name == "Monomial(1)"
    assert np.isnan(found.variance[1])


HYPERPARAMETERS = [
    (LeakyRelu, (0.3,)),
    (LeakyRelu, (-1.7,)),
    (Erf, (1.4, 0.7, 0.3)),
    (Sin, (1.4, 0.7, 0.3)),
    (Cos, (1.4, 0.7, 0.3)),
]


@partial(jax.jit, static_argnums=0)
def outputs_and_slopes(cls, values):
    """The three functions at one point, and their derivatives in each hyperparameter."""
    triple = arrays(0.4, 0.8, 1.3)

    def outputs(values):
        a = cls(*values)
        return jnp.stack([a.dual(*triple), a.derivative_dual(*triple), a.variance(triple[1])])

    return outputs(values), jax.jacrev(outputs)(values)


@pytest.mark.parametrize(("cls", "values"), HYPERPARAMETERS)
def test_hyperparameters_are_differentiable(cls, values):
    gradient = outputs_and_slopes(cls, values)[1]
    for i in range(len(values)):
        step = [1e-6 * (i == j) for j in range(len(values))]
        above, below = (
            outputs_and_slopes(cls, tuple(v + sign * d for v, d in zip(values, step, strict=True)))[0]
            for sign in (1, -1)
        )
        assert np.abs(above - below).max() > 0
        np.testing.assert_allclose(gradient[i], (above - below) / 2e-6, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("cls", "values"), HYPERPARAMETERS)
def test_hyperparameters_are_leaves_as_given(cls, values):
    activation = cls(*values)
    assert jax.tree.leaves(activation) == list(values)
    assert all(a is b for a, b in zip(jax.tree.leaves(activation), values, strict=True))
    gradient = eqx.filter_eval_shape(eqx.filter_grad(lambda a: a.dual(*arrays(0.4, 0.8, 1.3))), activation)
    assert isinstance(gradient, Activation)
    variance = lambda a: a.variance(jnp.float64(0.8))  # noqa: E731
    batch = jax.jit(jax.vmap(variance))(jax.tree.map(lambda v: np.full(3, v), activation))
    np.testing.assert_allclose(batch, jax.jit(variance)(activation), rtol=4 * EPS)


@pytest.mark.parametrize("degree", [-1, 7, 2.0, 1.5, "2", None])
def test_monomial_refuses_other_degrees(degree):
    with pytest.raises(ValueError, match="expected a degree that is an integer from 0 to 6, got"):
        Monomial(degree)


@pytest.mark.parametrize("integer", [np.int32, np.int64])
def test_monomial_takes_numpy_integers(integer):
    assert Monomial(integer(3)) == Monomial(3)
    assert hash(Monomial(integer(3))) == hash(Monomial(3))
