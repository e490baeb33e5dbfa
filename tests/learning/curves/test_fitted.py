"""Learning curves of fitted estimators: the same as those of their matrix, with intercepts and composition in them."""

from typing import Any

import numpy as np
import pytest

import so3ntk
from so3ntk.learning.curves.fitted import kept_rows
from so3ntk.spectra import feature_spectrum, spectrum
from tests.spectra.populations import power_law

N = 48
SIZES = [12, 48, 200]


@pytest.fixture(scope="module")
def sample():
    return power_law(modes=100).draw(N, seed=0)


def test_a_regressor_without_an_intercept_is_its_spectrum(sample):
    features, y = sample
    model = so3ntk.KernelRegressor("precomputed", ridge=0.1, fit_intercept=False).fit(features @ features.T, y)
    for ridge in (None, 2.0):
        expected = spectrum(features @ features.T, y).learning_curve(SIZES, ridge or 0.1)
        found = model.learning_curve(SIZES, ridge)
        np.testing.assert_allclose(found.rmse, expected.rmse, rtol=1e-6)
        np.testing.assert_allclose(found.high, expected.high, rtol=1e-6)


def test_an_intercept_takes_what_is_constant(sample):
    """Targets and kernels may have a constant part, of any size; leave-one-out errors with the intercept are met."""
    features, y = sample
    kernel = features @ features.T
    model = so3ntk.KernelRegressor("precomputed", ridge=0.1).fit(kernel, y)
    shifted = so3ntk.KernelRegressor("precomputed", ridge=0.1).fit(kernel + 50.0, y + 1000)
    np.testing.assert_allclose(shifted.learning_curve(SIZES).rmse, model.learning_curve(SIZES).rmse, rtol=1e-5)
    assert model.learning_curve([N - 1]).rmse[0] == pytest.approx(model.loo_error_, rel=0.02)


def test_the_ridge_is_the_estimators(sample):
    """The one given, or the best at each size where the fit chose it."""
    features, y = sample
    free = so3ntk.KernelRegressor("precomputed").fit(features @ features.T, y).learning_curve(SIZES)
    np.testing.assert_array_equal(free.ridges, free.best_ridge)
    fixed = so3ntk.KernelRegressor("precomputed", ridge=0.3).fit(features @ features.T, y).learning_curve(SIZES)
    np.testing.assert_array_equal(fixed.ridges, 0.3)


def linear(net: Any, X1: Any, X2: Any = None, *args: Any, **options: Any) -> np.ndarray:
    """A stand-in for the Gram matrix of a network, which nothing compiles: inner products."""
    return np.asarray(X1) @ np.asarray(X1 if X2 is None else X2).T


@pytest.fixture
def quick(monkeypatch):
    """Kernels of arrays are their inner products."""
    for name in ("gram", "precise_gram"):
        monkeypatch.setattr(f"so3ntk.learning.inducing.estimator.{name}", linear)


@pytest.mark.usefixtures("quick")
def test_all_inputs_induce(sample):
    """An intercept beside the dense kernel: what ``KernelRegressor`` has."""
    features, y = sample
    dense = so3ntk.InducingRegressor(inducing="all", ridge=0.1, baseline=None).fit(features, y)
    other = so3ntk.KernelRegressor("precomputed", ridge=0.1).fit(features @ features.T, y)
    np.testing.assert_allclose(dense.learning_curve(SIZES).rmse, other.learning_curve(SIZES).rmse, rtol=1e-6)


@pytest.mark.usefixtures("quick")
def test_inducing_inputs_stay(sample):
    """The curve is that of the whitened features, and ends with them."""
    features, y = sample
    z = features[:6]
    model = so3ntk.InducingRegressor(inducing=z, ridge=0.1, fit_intercept=False, baseline=None).fit(features, y)
    assert model.whitening_ is not None
    expected = feature_spectrum(model.whitening_.features(features @ z.T), y).learning_curve(SIZES, 0.1)
    found = model.learning_curve(SIZES)
    np.testing.assert_allclose(found.rmse, expected.rmse, rtol=1e-6)
    assert model.learning_curve([10**5]).rmse[0] > 0.7 * found.rmse[1]


@pytest.mark.usefixtures("quick")
def test_what_has_no_curve(sample):
    features, y = sample
    kernel = features @ features.T
    stopped = so3ntk.KernelRegressor("precomputed", t=3.0).fit(kernel, y)
    with pytest.raises(
        ValueError, match=r"KernelRegressor\.learning_curve: it is that of training to the end, got t=3.0"
    ):
        stopped.learning_curve(SIZES)
    solved = so3ntk.KernelRegressor("precomputed", ridge=0.1, solver="cholesky").fit(kernel, y)
    with pytest.raises(ValueError, match="Fit with solver=None"):
        solved.learning_curve(SIZES)
    few = so3ntk.KernelRegressor("precomputed").fit(kernel[:9, :9], y[:9])
    with pytest.raises(ValueError, match=r"KernelRegressor\.learning_curve: expected at least 10 samples, got 9"):
        few.learning_curve(SIZES)
    with pytest.raises(ValueError, match="whole numbers of training inputs, each at least 2"):
        so3ntk.KernelRegressor("precomputed").fit(kernel, y).learning_curve([1])
    model = so3ntk.InducingRegressor(inducing="all", ridge=0.1, baseline=None).fit(features, y)
    assert kept_rows(model.rows_.spectrum, y[:, None], 4 * 8 * N * (N - 1) - 1) is None
    model.rows_ = None
    with pytest.raises(
        ValueError, match=r"InducingRegressor\.learning_curve: it needs the features of the training inputs"
    ):
        model.learning_curve(SIZES)
