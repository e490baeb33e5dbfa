"""The activation by quadrature against closed forms, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import special_ortho_group

from so3ntk.engine.activations import Elementwise, Erf, Gelu, Monomial, Relu
from so3ntk.engine.activations.elementwise import hermite_table
from tests.engine.activations.cases import trapezoid_expectation

TRIPLES = jnp.asarray(
    [(rho * np.sqrt(q1 * q2), q1, q2) for q1, q2 in [(1, 1), (0.3, 0.9), (0.5, 0.02)] for rho in np.linspace(-1, 1, 9)]
).T


@pytest.mark.parametrize(
    ("fn", "closed_form", "tolerance"),
    [
        (jax.scipy.special.erf, Erf(), 1e-10),
        (jax.nn.gelu, None, None),
        (lambda x: jax.nn.gelu(x, approximate=False), Gelu(), 1e-11),
        (lambda x: x**4, Monomial(4), 1e-13),
    ],
)
def test_agrees_with_closed_forms(fn, closed_form, tolerance):
    """Tolerances are the convergence of 100 nodes; the approximate gelu is another function, by 1e-4."""
    activation = Elementwise(fn)
    if closed_form is None:
        assert np.abs(activation.dual(*TRIPLES) - Gelu().dual(*TRIPLES)).max() > 1e-6
        return
    for name in ("dual", "derivative_dual"):
        value, expected = (getattr(a, name)(*TRIPLES) for a in (activation, closed_form))
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    value, expected = activation.variance(TRIPLES[1]), closed_form.variance(TRIPLES[1])
    np.testing.assert_allclose(value, expected, rtol=tolerance)


@pytest.mark.parametrize(
    ("q", "dual_error", "slope_error"), [(0.3, 1e-13, 1e-13), (1.0, 5e-11, 2e-9), (3.0, 2e-6, 1e-4)]
)
def test_accuracy_stated_for_tanh(q, dual_error, slope_error):
    activation = Elementwise(jnp.tanh)
    functions = [(np.tanh, activation.dual, dual_error)]
    functions += [(lambda x: 1 / np.cosh(x) ** 2, activation.derivative_dual, slope_error)]
    for function, dual, error in functions:
        scale = trapezoid_expectation(function, q, q, q)
        for rho in (1.0, 0.9, 0.2, -0.7, -1.0):
            expected = trapezoid_expectation(function, rho * q, q, q)
            value = dual(*(jnp.asarray(x) for x in (rho * q, q, q)))
            np.testing.assert_allclose(value, expected, rtol=0, atol=error * scale)


def test_accuracy_stated_for_relu():
    activation, relu = Elementwise(jax.nn.relu, kinked=True), Relu()
    rho = jnp.linspace(-1, 1, 401)
    one = jnp.ones_like(rho)
    for name, error in (("dual", 3e-3), ("derivative_dual", 2e-2)):
        value, expected = (getattr(a, name)(rho, one, one) for a in (activation, relu))
        np.testing.assert_allclose(value, expected, rtol=0, atol=error * 0.5)


def test_declared_kink():
    assert Elementwise(jnp.tanh).smoothness == np.inf
    assert Elementwise(jax.nn.elu, kinked=True).smoothness == 0.5


def test_given_derivative_is_used():
    wrong = Elementwise(jnp.tanh, derivative=jnp.ones_like)
    np.testing.assert_allclose(wrong.derivative_dual(*TRIPLES), 1, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(wrong.dual)(*TRIPLES[:, 1]), 1, rtol=1e-12)


def test_swapping_the_inputs_changes_no_bit():
    activation = Elementwise(jnp.tanh)
    c, q1, q2 = TRIPLES
    np.testing.assert_array_equal(activation.dual(c, q1, q2), activation.dual(c, q2, q1))


def test_gram_matrix_is_positive_semidefinite_with_few_nodes():
    """Truncation must not break it: rotated, repeated and rescaled copies, a kinked function, 8 nodes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 3))
    x = np.concatenate([x, x, 1.5 * x, x @ special_ortho_group.rvs(3, random_state=1).T])
    c = jnp.asarray(x @ x.T / 3)
    q = jnp.diagonal(c)
    activation = Elementwise(jax.nn.elu, nodes=8)
    for gram in (activation.dual(c, q[:, None], q[None]), activation.derivative_dual(c, q[:, None], q[None])):
        eigenvalues = np.linalg.eigvalsh(gram)
        assert eigenvalues[0] > -1e-13 * eigenvalues[-1]


@pytest.mark.parametrize("nodes", [2, 3, 17, 100, 200])
def test_hermite_table_is_orthonormal(nodes):
    """On its own points, which makes E[f(u)^2] the quadrature of f^2."""
    points, weighted = hermite_table(nodes)
    weights = weighted[:, 0]
    gram = weighted.T @ (weighted / np.where(weights > 0, weights, 1)[:, None])
    np.testing.assert_allclose(gram, np.eye(nodes), atol=1e-10)
    np.testing.assert_allclose(points, -points[::-1], atol=1e-12)


def test_name():
    assert Elementwise(jnp.tanh).name == "tanh"
    assert Elementwise(lambda x: x, name="linear").name == "linear"


@pytest.mark.parametrize("fn", ["tanh", None, 3])
def test_refuses_what_is_not_a_function(fn):
    with pytest.raises(TypeError, match=r"expected fn to be a function of one array, got .* Pass the function itself"):
        Elementwise(fn)


def test_refuses_a_derivative_that_is_not_a_function():
    with pytest.raises(TypeError, match="expected derivative to be a function"):
        Elementwise(jnp.tanh, derivative=1.0)  # pyright: ignore


def test_refuses_functions_that_are_not_elementwise():
    with pytest.raises(ValueError, match=r"act on each element and keep the shape \(2, 3\)"):
        Elementwise(jnp.sum)


@pytest.mark.parametrize("nodes", [0, 1, 201, 10.0, "many"])
def test_refuses_other_node_counts(nodes):
    with pytest.raises(ValueError, match="expected nodes to be an integer from 2 to 200"):
        Elementwise(jnp.tanh, nodes=nodes)
