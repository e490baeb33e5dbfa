"""The amplitude of posterior standard deviations: right in the mean for targets from the model, and its degenerate cases.

Of forces: tests/molecules/test_force_regressor.py.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import KernelRegressor, TensorKernelRegressor
from so3ntk.learning.block_ridge import as_matrix
from so3ntk.learning.hyperparameters import marginal_likelihood_loss
from so3ntk.learning.tensors import assemble
from tests.regression_cases import problem, variant

RIDGE, DRAWS = 0.3, 4000


def model_draws(kernel, rng, intercept):
    """Targets (n, DRAWS) from an intercept, a Gaussian process and noise of variance RIDGE, all of amplitude one."""
    factor = np.linalg.cholesky(kernel + RIDGE * np.eye(len(kernel)))
    return factor @ rng.normal(size=(len(kernel), DRAWS)) + 100 * intercept * rng.normal(size=DRAWS)


@pytest.mark.parametrize("n", [2, 5, 14])
@pytest.mark.parametrize("intercept", [True, False])
def test_one_in_the_mean(intercept, n):
    """An intercept takes a degree of freedom: without it counted the mean is (n - 1) / n."""
    kernel, *_ = problem(n)
    y = model_draws(kernel, np.random.default_rng(0), intercept)
    model = KernelRegressor(net="precomputed", ridge=RIDGE, fit_intercept=intercept).fit(kernel, y)
    freedom = n - intercept
    # chi-squared: the mean of DRAWS has the deviation (2 / freedom / DRAWS)^(1/2)
    assert np.mean(model.amplitude_**2) == pytest.approx(1, abs=5 * np.sqrt(2 / freedom / DRAWS))


def test_deviations_cover_new_values():
    """Of values drawn with the training targets the variance of (value - mean) / deviation is that of Student's t."""
    n, tests = 6, 5
    x, rng = np.random.default_rng(1).normal(size=(n + tests, 2)), np.random.default_rng(2)
    kernel = np.exp(-np.sum((x[:, None] - x) ** 2, axis=2) / 2)
    f = np.linalg.cholesky(kernel + 1e-9 * np.eye(n + tests)) @ rng.normal(size=(n + tests, DRAWS))
    y = f[:n] + RIDGE**0.5 * rng.normal(size=(n, DRAWS))
    model = KernelRegressor(net="precomputed", ridge=RIDGE).fit(kernel[:n, :n], y)
    mean, std = model.predict(kernel[n:, :n], return_std=True, diagonal=np.ones(tests))
    freedom = n - 1
    # f without noise: 1 for a known amplitude, freedom / (freedom - 2) for one from freedom squares
    assert np.mean(((f[n:] - mean) / std) ** 2) == pytest.approx(freedom / (freedom - 2), rel=0.1)


@pytest.mark.parametrize("intercept", [True, False])
def test_it_maximises_the_likelihood_that_hyperparameters_are_fitted_by(intercept):
    """That loss is taken at its likeliest amplitude, which must be this one."""
    kernel, y, *_ = problem()
    model = KernelRegressor(net="precomputed", ridge=RIDGE, fit_intercept=intercept).fit(kernel, y)
    n, rank = len(y), len(y) - intercept
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:] if intercept else np.eye(n)
    matrix, targets = basis.T @ (kernel + RIDGE * np.eye(n)) @ basis, basis.T @ y
    square = model.amplitude_**2
    density = -0.5 * (
        targets @ np.linalg.solve(square * matrix, targets) + np.linalg.slogdet(2 * np.pi * square * matrix)[1]
    )
    loss = jax.jit(marginal_likelihood_loss, static_argnums=3)(jnp.asarray(kernel), jnp.asarray(y), RIDGE, intercept)
    assert loss == pytest.approx(-density, rel=1e-9)
    assert targets @ np.linalg.solve(matrix, targets) / rank == pytest.approx(square)


def test_one_row_says_nothing():
    kernel, y, cross, diagonal = problem(1)
    model = KernelRegressor(net="precomputed", ridge=RIDGE).fit(kernel, y)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    assert np.isnan(model.amplitude_)
    assert np.isnan(std).all()
    np.testing.assert_allclose(mean, y[0])
    alone = variant(model, fit_intercept=False).fit(kernel, y)
    assert np.isfinite(alone.predict(cross, return_std=True, diagonal=diagonal)[1]).all()


@pytest.mark.parametrize("value", [3.0, 0.1, 1e9])
def test_constant_targets_are_said(value):
    """0.1 is no float: a mean of 14 of them differs from it in the last bit, which a small ridge would amplify."""
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(kernel, np.full(14, value))  # a fit is no mistake
        np.testing.assert_array_equal(model.predict(cross), value)
    with pytest.warns(
        UserWarning, match=r"KernelRegressor.predict: the training targets are constant.* zero"
    ) as caught:
        _, std = model.predict(cross, return_std=True, diagonal=diagonal)
    assert caught[0].filename == __file__
    assert np.all(std == 0)
    both = KernelRegressor(net="precomputed", ridge=RIDGE).fit(kernel, np.stack([y, np.full(14, value)], 1))
    with pytest.warns(UserWarning, match="constant"):
        _, std = both.predict(cross, return_std=True, diagonal=diagonal)
    assert np.all(std[:, 0] > 0)
    zero = variant(model, fit_intercept=False).fit(kernel, np.zeros(14))
    with pytest.warns(UserWarning, match="constant"):
        zero.predict(cross, return_std=True, diagonal=diagonal)


# ----------------------------------------------------------------------------------- vectors and tensors


def blocks(n, rng):
    """A positive definite kernel of n tensors: of traces (n, n), and of their l = 2 parts (n, n, 5, 5)."""
    traces, rest = (rng.normal(size=(m, 2 * m)) for m in (n, 5 * n))
    matrix = rest @ rest.T / (10 * n)
    return {0: traces @ traces.T / (2 * n), 2: matrix.reshape(n, 5, n, 5).transpose(0, 2, 1, 3)}


@pytest.mark.parametrize("intercept", [True, False])
def test_tensors_drawn_from_the_model(intercept):
    n, rng = 4, np.random.default_rng(0)
    kernels, squares = blocks(n, rng), []
    factors = {
        degree: np.linalg.cholesky(k + RIDGE * np.eye(len(k)))
        for degree, k in ((0, kernels[0]), (2, as_matrix(kernels[2])))
    }
    model = TensorKernelRegressor("precomputed", ridge=RIDGE, fit_intercept=intercept)
    for _ in range(400):
        parts = {degree: (f @ rng.normal(size=len(f))).reshape(n, -1) for degree, f in factors.items()}
        parts[0] += 100 * intercept * rng.normal()
        model.fit(kernels, assemble(parts))
        squares.append([float(part.fit.amplitude[0]) ** 2 for part in model.parts_.values()])
    for mean, freedom in zip(np.mean(squares, axis=0), (n - intercept, 5 * n), strict=True):
        assert mean == pytest.approx(1, abs=5 * np.sqrt(2 / freedom / 400))


def test_one_tensor_and_constant_ones():
    rng = np.random.default_rng(0)
    kernels, one = blocks(3, rng), blocks(1, rng)
    diagonal = {0: np.ones(3), 2: np.stack([np.eye(5)] * 3)}
    y = rng.normal(size=(3, 3, 3))
    model = TensorKernelRegressor("precomputed", ridge=RIDGE).fit(one, y[:1] + y[:1].transpose(0, 2, 1))
    cross = {degree: np.concatenate([k] * 3) for degree, k in one.items()}
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    assert np.isfinite(mean).all()
    assert np.isnan(std[:, 0, 0]).all()  # the trace is in it
    model.fit(kernels, np.stack([np.diag([1.0, 1.0, 1.0])] * 3))
    with pytest.warns(UserWarning, match="TensorKernelRegressor: the training targets are constant"):
        model.predict(kernels, return_std=True, diagonal=diagonal)
