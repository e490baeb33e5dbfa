"""Gradient flow: against the differential equation, gradient descent on weights, and kernels of known eigenvectors."""

import math

import numpy as np
import pytest
import scipy.integrate

import so3ntk
from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.predict import gradient_flow, max_learning_rate
from so3ntk.learning.predict.relaxation import relaxation
from tests.learning.predict.cases import EPS, features, ill_conditioned


def integrated(kernel, y, cross, t, ridge=0.0, start=(0.0, 0.0)):
    """The outputs at test inputs from the equations of motion of the dual coefficients and so of f."""
    n, k = y.shape

    def velocity(_, state):
        alpha = state.reshape(n, k)
        residual = kernel @ alpha + ridge * alpha + start[0] - y
        return -residual.ravel() / y.size

    options = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-13}
    solution = scipy.integrate.solve_ivp(velocity, (0, t), np.zeros(n * k), **options)
    return start[1] + cross @ solution.y[:, -1].reshape(n, k)


@pytest.mark.parametrize("diag_reg", [0.0, 0.1])
def test_it_solves_the_differential_equation(diag_reg):
    a, b, y = features()
    kernel, cross = a @ a.T, b @ a.T
    ridge = diag_reg * np.trace(kernel) / len(kernel)
    for t in (0.3, 2.0, 20.0):
        expected = integrated(kernel, y, cross, t, ridge)
        np.testing.assert_allclose(gradient_flow(kernel, y, cross, t, diag_reg=diag_reg), expected, atol=1e-9)
    start = y[:, ::-1] - 2, np.array([1.0, -2.0])
    expected = integrated(kernel, y, cross, 2.0, ridge, start)
    actual = gradient_flow(kernel, y, cross, 4.0, 0.5, diag_reg, f0_train=start[0], f0_test=start[1])
    np.testing.assert_allclose(actual, expected, atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_it_is_the_limit_of_gradient_descent_on_weights(decay):
    """Half the mean over all entries, and the decay of weights that diag_reg is. The error halves with the rate."""
    a, b, y = features()
    kernel, cross = a @ a.T, b @ a.T
    diag_reg = decay / np.mean(np.diag(kernel))
    errors = []
    for steps in (2000, 4000):
        rate = 20.0 / steps
        weights = np.zeros((a.shape[1], y.shape[1]))
        for _ in range(steps):
            weights -= rate * (a.T @ (a @ weights - y) + decay * weights) / y.size
        errors.append(np.abs(gradient_flow(kernel, y, cross, steps, rate, diag_reg) - b @ weights).max())
    # Euler's error of exp(-x) is x^2 / (2 steps) exp(-x) < 0.3 / steps in units of the outputs, for each mode.
    assert errors[1] < 0.55 * errors[0] < 0.3 / 2000 * 10 * np.abs(y).max()


def test_no_time_and_all_time():
    a, b, y = features()
    kernel, cross = a @ a.T, b @ a.T
    np.testing.assert_array_equal(gradient_flow(kernel, y, cross, 0), 0)
    np.testing.assert_array_equal(gradient_flow(kernel, y, cross, 0, f0_train=2.0, f0_test=[1.0, 2.0])[0], [1.0, 2.0])
    end = gradient_flow(kernel, y, cross)
    bound = 10 * len(y) * EPS * np.linalg.cond(kernel) * np.abs(y).max()
    np.testing.assert_allclose(end, cross @ np.linalg.solve(kernel, y), atol=bound)
    np.testing.assert_allclose(gradient_flow(kernel, y, cross, 1e12), end, atol=bound)
    np.testing.assert_allclose(gradient_flow(kernel, y, kernel), y, atol=bound)
    ridged = cross @ np.linalg.solve(kernel + 0.3 * np.mean(np.diag(kernel)) * np.eye(len(y)), y)
    np.testing.assert_allclose(gradient_flow(kernel, y, cross, diag_reg=0.3), ridged, atol=bound)


def test_shapes():
    a, b, y = features(k=3)
    kernel, cross = a @ a.T, b @ a.T
    times = np.array([[0.0, 5.0, math.inf], [math.inf, 1e3, 5.0]])
    found = gradient_flow(kernel, y, cross, times)
    assert found.shape == (2, 3, 4, 3)
    for index in np.ndindex(times.shape):
        np.testing.assert_allclose(found[index], gradient_flow(kernel, y, cross, times[index]), atol=1e-12)
    # One output at a time: its loss is the mean over a third as many entries.
    flat = gradient_flow(kernel, y[:, 1], cross, times / 3)
    assert flat.shape == (2, 3, 4)
    np.testing.assert_allclose(flat, found[..., 1], atol=1e-12)
    column = gradient_flow(kernel, y[:, 1:2], cross, 5.0 / 3)
    assert column.shape == (4, 1)
    np.testing.assert_allclose(column[:, 0], flat[0, 1], atol=1e-12)
    assert gradient_flow(kernel, y, cross[:0], [1.0, math.inf]).shape == (2, 0, 3)
    assert gradient_flow(kernel, y, cross, []).shape == (0, 4, 3)


def test_origins_of_large_mean():
    """Shifting the targets and the initial outputs shifts the outputs."""
    a, b, y = features()
    kernel, cross = a @ a.T, b @ a.T
    mean = y.mean(axis=0)
    for t in (3.0, math.inf):
        shifted = gradient_flow(kernel, y + 1e6, cross, t, f0_train=mean + 1e6, f0_test=mean + 1e6)
        expected = mean + gradient_flow(kernel, y - mean, cross, t)
        np.testing.assert_allclose(shifted - 1e6, expected, atol=1e-7)


def test_time_and_learning_rate_are_one():
    a, b, y = features()
    kernel, cross = a @ a.T, b @ a.T
    np.testing.assert_allclose(
        gradient_flow(kernel, y, cross, 7.0, 0.2), gradient_flow(kernel, y, cross, 1.4), rtol=1e-13
    )
    assert max_learning_rate(kernel, 2) > 0.2


# --------------------------------------------------------------------------------- hard kernels


def test_relaxation():
    """Against its series, and where w tau overflows, vanishes or is small against rounding."""
    np.testing.assert_allclose(
        relaxation(np.array([0.0, 1e-30, 1e-9]), 5.0), [5.0, 5.0, 5.0 * (1 - 2.5e-9)], rtol=1e-15
    )
    np.testing.assert_allclose(relaxation(np.array([2.0, 1e300]), 1e200), [0.5, 1e-300], rtol=1e-15)
    np.testing.assert_allclose(relaxation(np.array([0.3]), 2.0), [(1 - math.exp(-0.6)) / 0.3], rtol=1e-14)
    np.testing.assert_allclose(relaxation(np.array([-1e-3]), 2.0), [(math.exp(2e-3) - 1) / 1e-3], rtol=1e-12)
    assert relaxation(np.array([3.0, 0.0]), 0.0).tolist() == [0.0, 0.0]


def test_condition_1e12():
    """A relative change eps of the kernel moves an eigenvalue w by eps: the time scale of its mode by eps / w."""
    kernel, y, cross, (w, v, c) = ill_conditioned(-np.arange(16) * 40 // 15)
    assert w[0] / w[-1] == 2.0**40
    np.testing.assert_array_equal(v.T @ kernel @ v, np.diag(w))
    times = np.array([1.0, 1e3, 1e6, 1e9, 1e12, 1e15, math.inf])
    found = gradient_flow(kernel, y, cross, times)
    for t, actual in zip(times, found, strict=True):
        expected = c @ (-np.expm1(-t / y.size * w)[:, None] * (v.T @ y))
        bound = 16 * EPS * min(1 + t / y.size, w[0] / w[-1]) * np.abs(y).sum()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound, err_msg=f"t = {t}")


def test_singular_kernels():
    """Half of the eigenvalues are zero: fine at finite times, refused at the end, fine with a ridge."""
    kernel, y, cross, (w, v, c) = ill_conditioned([-(i // 2) if i % 2 else -99 for i in range(16)])
    assert np.count_nonzero(w) == 8
    for t in (1.0, 1e3, 1e6):
        expected = c @ (np.where(w > 0, -np.expm1(-t / y.size * w), 0)[:, None] * (v.T @ y))
        bound = 16 * EPS * (1 + t / y.size) * np.abs(y).sum()
        np.testing.assert_allclose(gradient_flow(kernel, y, cross, t), expected, rtol=0, atol=bound)
    with pytest.raises(NotPositiveDefiniteError, match=r"gradient_flow.*Raise diag_reg.*quadrature") as caught:
        gradient_flow(kernel, y, cross)
    assert caught.value.parameter == "diag_reg"
    assert abs(caught.value.smallest) < 1e-14
    assert caught.value.largest == pytest.approx(1 / np.mean(np.diag(kernel)))
    with pytest.raises(NotPositiveDefiniteError):
        gradient_flow(kernel, y, cross, [1.0, math.inf])
    assert np.isfinite(gradient_flow(kernel, y, cross, diag_reg=caught.value.needed)).all()
    ridge = 1e-3 * np.mean(np.diag(kernel))
    expected = c @ ((w / (w + ridge))[:, None] * (v.T @ y))
    np.testing.assert_allclose(gradient_flow(kernel, y, cross, diag_reg=1e-3), expected, atol=1e-10)


def test_singular_kernels_that_rounding_lets_factorise():
    """Of 30 matrices of rank 8 in 9 dimensions rounding makes some positive definite."""
    factorised = 0
    for seed in range(30):
        a = np.random.default_rng(seed).normal(size=(9, 8))
        kernel = a @ a.T
        try:
            np.linalg.cholesky(kernel)
            factorised += 1
        except np.linalg.LinAlgError:
            pass
        with pytest.raises(NotPositiveDefiniteError):
            gradient_flow(kernel, a[:, 0], kernel)
    assert factorised > 0


def test_equal_inputs():
    """Duplicates with different targets: their mean is learned."""
    a, b, y = features()
    twice = np.concatenate([a, a])
    kernel, cross = twice @ twice.T, b @ twice.T
    both = np.concatenate([y + 1, y - 1])
    found = gradient_flow(kernel, both, cross, [2.0, 1e4])
    np.testing.assert_allclose(found, gradient_flow(a @ a.T, y, b @ a.T, [2.0, 1e4]), atol=1e-8)


def test_negative_eigenvalues():
    """Fine while they do not matter: that of -1e-5 moves nothing by a time of 1, all by a time of 1e6."""
    kernel, y, cross, (w, v, _) = ill_conditioned(-np.arange(16))
    expected = gradient_flow(kernel, y, cross, y.size)
    wrong = kernel - (w[-1] + 1e-5) * np.outer(v[:, -1], v[:, -1])
    np.testing.assert_allclose(gradient_flow(wrong, y, cross, y.size), expected, atol=1e-3)
    for t in (1e6 * y.size, math.inf):
        with pytest.raises(NotPositiveDefiniteError, match="quadrature") as caught:
            gradient_flow(wrong, y, cross, t)
        assert np.isfinite(gradient_flow(wrong, y, cross, t, diag_reg=caught.value.needed)).all()


def test_kernels_of_networks_and_of_no_outputs():
    """JAX arrays in both precisions, as kernel_fn and gram return them; and a kernel of zeros."""
    net = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(b_std=0.3), so3ntk.Relu(), so3ntk.Dense())
    x = np.random.default_rng(0).normal(size=(7, 3))
    y = x[:5, 0]
    train, test = net.kernel_fn(x[:5], None, "ntk"), net.kernel_fn(x[5:], x[:5], "ntk")
    double = gradient_flow(train, y, test, [10.0, math.inf])
    single = gradient_flow(train.astype("float32"), y.astype("float32"), test.astype("float32"), [10.0, math.inf])
    assert isinstance(double, np.ndarray)
    assert double.dtype == single.dtype == np.float64
    np.testing.assert_allclose(single, double, atol=1e-4)
    zeros = np.zeros((5, 5))
    np.testing.assert_array_equal(gradient_flow(zeros, y, zeros[:2], 1e9), 0)
    np.testing.assert_array_equal(gradient_flow(zeros, y, zeros[:2], diag_reg=0.1), 0)
    with pytest.raises(NotPositiveDefiniteError):
        gradient_flow(zeros, y, zeros[:2])
