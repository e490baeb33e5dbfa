"""Ridge regression in closed form, through KernelRegressor, against refits, linear systems and scikit-learn."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score

from so3ntk.errors import NotPositiveDefiniteError, RidgePathWarning
from so3ntk.learning.regressor import RELATIVE_RIDGES, KernelRegressor
from tests.regression_cases import EPS, bordered, problem, variant


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 3.0])
@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_solution_and_leave_one_out_are_those_of_refits(intercept, outputs, ridge):
    kernel, y, cross, _ = problem(outputs=outputs)
    model = KernelRegressor(net="precomputed", ridge=ridge, fit_intercept=intercept).fit(kernel, y)
    # Both solvers lose the condition number of K + ridge I, below 1e2 / ridge.
    tolerance = 1e3 * EPS * (1 + 1e2 / ridge) * np.abs(y).max()
    alpha, b = bordered(kernel, y, ridge, intercept)
    np.testing.assert_allclose(model.dual_coef_, alpha, rtol=0, atol=tolerance * (1 + 1 / ridge))
    np.testing.assert_allclose(model.intercept_, b, rtol=0, atol=tolerance)
    np.testing.assert_allclose(model.predict(cross), cross @ alpha + b, rtol=0, atol=tolerance)
    assert model.predict(cross).shape == (5, *y.shape[1:])
    residuals = []
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        alpha, b = bordered(kernel[np.ix_(rest, rest)], y[rest], ridge, intercept)
        residuals.append(y[i] - kernel[i, rest] @ alpha - b)
    expected = np.sqrt(np.mean(np.square(residuals)))
    np.testing.assert_allclose(model.loo_error_, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_path_is_that_of_single_ridges_and_its_minimum_is_chosen(intercept):
    kernel, y, _, _ = problem(outputs=2)
    path = np.logspace(-3, 1, 9)
    model = KernelRegressor(net="precomputed", ridge_path=path[::-1], fit_intercept=intercept).fit(kernel, y)
    singles = [variant(model, ridge=ridge, ridge_path=None).fit(kernel, y).loo_error_ for ridge in path]
    np.testing.assert_array_equal(model.ridge_path_, path)
    np.testing.assert_allclose(model.loo_path_, singles, rtol=1e3 * EPS)
    assert model.ridge_ == path[np.argmin(singles)]
    assert model.loo_error_ == min(model.loo_path_)
    single = variant(model, ridge=model.ridge_).fit(kernel, y)
    np.testing.assert_array_equal(model.dual_coef_, single.dual_coef_)


def test_default_path_scales_with_the_kernel():
    kernel, y, _, _ = problem()
    model = KernelRegressor(net="precomputed").fit(1e6 * kernel, y)
    np.testing.assert_allclose(model.ridge_path_, RELATIVE_RIDGES * 1.7e6, rtol=10 * EPS)
    small = KernelRegressor(net="precomputed").fit(kernel, y)
    assert model.ridge_ == pytest.approx(1e6 * small.ridge_, rel=1e-12)
    assert model.loo_error_ == pytest.approx(small.loo_error_, rel=1e-9)


def test_kernel_ridge_of_scikit_learn():
    kernel, y, cross, _ = problem(outputs=2)
    alpha: Any = 0.1
    expected = KernelRidge(alpha=alpha, kernel="precomputed").fit(kernel, y)
    model = KernelRegressor(net="precomputed", ridge=0.1, fit_intercept=False).fit(kernel, y)
    np.testing.assert_allclose(model.dual_coef_, expected.dual_coef_, rtol=0, atol=1e5 * EPS)
    np.testing.assert_allclose(model.predict(cross), expected.predict(cross), rtol=0, atol=1e5 * EPS)
    assert model.score(cross, np.ones((5, 2))) == r2_score(np.ones((5, 2)), model.predict(cross))


def test_an_intercept_absorbs_constants():
    kernel, y, cross, _ = problem()
    model = KernelRegressor(net="precomputed", ridge=1e-3)
    expected = variant(model).fit(kernel, y).predict(cross)
    # K - 5 is indefinite, but only along the constant vector.
    shifted = variant(model).fit(kernel - 5, y)
    np.testing.assert_allclose(shifted.predict(cross - 5), expected, rtol=0, atol=1e-10)
    with pytest.raises(NotPositiveDefiniteError):
        variant(model, fit_intercept=False).fit(kernel - 5, y)
    # Targets that are constant leave nothing for the kernel, not even rounding over a tiny ridge.
    flat = variant(model, ridge=1e-9).fit(kernel, np.full(len(y), 1e9))
    assert flat.amplitude_ == flat.loo_error_ == np.abs(flat.dual_coef_).max() == 0
    np.testing.assert_array_equal(flat.predict(cross), 1e9)


# ---------------------------------------------------------------------------------- the posterior


def gaussian_process(x, y, ridge, amplitude, constant=0.0):
    kernel = ConstantKernel(amplitude**2) * (RBF(1.3) + ConstantKernel(0.7 + constant))
    options: Any = {"alpha": amplitude**2 * ridge, "optimizer": None}
    return GaussianProcessRegressor(kernel, **options).fit(x, y)


def test_std_is_that_of_a_gaussian_process_at_its_likeliest_amplitude():
    x = np.random.default_rng(0).normal(size=(19, 3))
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=0.05, fit_intercept=False).fit(kernel, y)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    reference = gaussian_process(x[:14], y, 0.05, model.amplitude_)
    expected = reference.predict(x[14:], return_std=True)
    np.testing.assert_allclose(mean, expected[0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(std, expected[1], rtol=0, atol=1e-11)
    likelihood: Any = reference.log_marginal_likelihood_value_
    for factor in (0.98, 1.02):
        other: Any = gaussian_process(x[:14], y, 0.05, factor * model.amplitude_)
        assert other.log_marginal_likelihood_value_ < likelihood


def test_std_with_an_intercept_is_the_limit_of_a_wide_prior_on_it():
    x = np.random.default_rng(0).normal(size=(19, 3))
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=0.05).fit(kernel, y)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    reference = gaussian_process(x[:14], y, 0.05, model.amplitude_, constant=1e6)
    expected = reference.predict(x[14:], return_std=True)
    # What is left of the prior's width is 1e-6; Cholesky at a condition number of 1e9 leaves less.
    np.testing.assert_allclose(mean, expected[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(std, expected[1], rtol=1e-5)
    plain = variant(model, fit_intercept=False).fit(kernel, y)
    ratio = plain.predict(cross, True, diagonal)[1] / plain.amplitude_
    assert np.all(std / model.amplitude_ > ratio)


def test_std_of_several_outputs_differs_by_amplitude_alone():
    kernel, y, cross, diagonal = problem(outputs=3)
    model = KernelRegressor(net="precomputed", ridge=0.1).fit(kernel, y)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    assert mean.shape == std.shape == (5, 3)
    for k in range(3):
        one = variant(model).fit(kernel, y[:, k])
        np.testing.assert_allclose(one.predict(cross, True, diagonal)[1], std[:, k], rtol=1e-10)
        assert isinstance(one.intercept_, float)
        assert one.amplitude_ == pytest.approx(model.amplitude_[k], rel=1e-10)


def test_negative_variances_are_reported():
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=1e-8).fit(kernel, y)
    with pytest.warns(RuntimeWarning, match=r"set to zero.*calibrate"):
        _, std = model.predict(cross, return_std=True, diagonal=diagonal - 1)
    assert np.all(std >= 0)
    assert np.any(std == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, std = model.predict(kernel, return_std=True, diagonal=np.diag(kernel))
    assert np.all(std <= 2e-4 * model.amplitude_)  # sqrt(ridge) at the training points, at most


# ------------------------------------------------------------------------- positive definiteness


@pytest.mark.parametrize("intercept", [True, False])
def test_not_positive_definite_says_what_to_change(intercept):
    rng = np.random.default_rng(3)
    vectors = np.linalg.qr(np.column_stack([np.ones(8), rng.normal(size=(8, 7))]))[0]
    kernel = vectors @ np.diag([1, -1e-3, 0.1, 0.2, 0.3, 0.4, 0.5, 2]) @ vectors.T
    y = rng.normal(size=8)
    model = KernelRegressor(net="precomputed", ridge=1e-4, fit_intercept=intercept)
    with pytest.raises(
        NotPositiveDefiniteError,
        match=r"-1\.000e-03 to 2\.000e\+00, and ridge is 1\.000e-04.*calibrate.*rtol",
    ) as caught:
        model.fit(kernel, y)
    error = caught.value
    assert (error.smallest, error.largest, error.ridge) == pytest.approx((-1e-3, 2, 1e-4))
    assert f"at least {error.needed:.1e}" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # joblib sends errors between processes
    variant(model, ridge=float(f"{error.needed:.1e}")).fit(kernel, y)
    # Candidates that are too small are skipped, also those barely above the negative eigenvalue.
    path = [1e-4, 1.001e-3, 3e-3, 1e-2, 1.0]
    skipped = variant(model, ridge=None, ridge_path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RidgePathWarning)
        skipped.fit(kernel, y)
    assert np.isnan(skipped.loo_path_).tolist() == [True, True, False, False, False]
    with pytest.raises(NotPositiveDefiniteError, match=r"ridge is 1\.000e-04"):
        skipped.set_params(ridge_path=[1e-5, 1e-4]).fit(kernel, y)


def test_singular_kernels_need_a_ridge():
    y = np.arange(4.0)
    with pytest.raises(NotPositiveDefiniteError, match=r"at least"):
        KernelRegressor(net="precomputed", ridge=0.0, fit_intercept=False).fit(np.ones((4, 4)), y)
    with pytest.raises(NotPositiveDefiniteError):
        KernelRegressor(net="precomputed", ridge=0.0).fit(np.zeros((4, 4)), y)
    model = KernelRegressor(net="precomputed", ridge=0.0).fit(np.eye(4), y)
    np.testing.assert_allclose(model.predict(np.eye(4)), y, atol=1e-14)
    constant = KernelRegressor(net="precomputed").fit(np.zeros((4, 4)), y)
    np.testing.assert_allclose(constant.predict(np.zeros((2, 4))), [1.5, 1.5])


def test_ends_of_the_path_are_reported_once():
    kernel, y, _, _ = problem()
    noise = np.random.default_rng(5).normal(size=len(y))
    smooth = kernel @ np.random.default_rng(6).normal(size=len(y))
    model = KernelRegressor(net="precomputed")
    for targets, path, message in [
        (smooth, [1e-2, 1e-1, 1], "smallest of the path.*smaller values"),
        (noise, [1e-4, 1e-3], "largest of the path.*larger values"),
    ]:
        with pytest.warns(RidgePathWarning, match=message) as caught:
            variant(model, ridge_path=path).fit(kernel, targets)
        assert len(caught) == 1
        assert caught[0].filename == __file__
    indefinite = kernel - 2e-2 * np.eye(len(kernel))
    with pytest.warns(RidgePathWarning, match="positive definite.*calibrate"):
        variant(model, ridge_path=[1e-9, 1e-1, 1]).fit(indefinite, smooth)
    with warnings.catch_warnings():  # inside the path, a single candidate, or nothing to choose between
        warnings.simplefilter("error")
        variant(model, ridge_path=[1e-9, 1e-2, 1e4]).fit(kernel, y)
        variant(model, ridge_path=[1e-2]).fit(kernel, smooth)
        variant(model).fit(kernel, np.full(len(y), 3.0))


# -------------------------------------------------------------------------------------- bad input
