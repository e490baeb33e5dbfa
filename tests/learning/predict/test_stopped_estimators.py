"""Estimators whose training stops at a finite time."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from so3ntk import KernelClassifier, KernelRegressor
from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.predict import gradient_flow
from tests.regression_cases import MLP, problem, signals, variant

#: Of scikit-learn's checks those whose path the time changes: fits, and predictions by them. Weights need t=None (test_weights).
CHECKS = (
    "train",
    "idempotent",
    "invariance",
    "dtypes",
    "multioutput",
    "fit2d",
    "nan_inf",
    "overwrite_params",
    "one_label",
)


def checks():
    """Each with an estimator of its own."""
    for model in (KernelRegressor(t=10.0), KernelClassifier(t=10.0)):
        for estimator, check in estimator_checks_generator(model):
            name = check.func.__name__
            if any(word in name for word in CHECKS) and "weight" not in name:
                yield pytest.param(estimator, check, id=f"{type(model).__name__}-{name}")


@pytest.mark.usefixtures("wrong_arguments")  # which scikit-learn passes
@pytest.mark.parametrize(("estimator", "check"), checks())
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("ridge", [None, 0.3])
@pytest.mark.parametrize("outputs", [None, 3])
def test_without_an_intercept_it_is_gradient_flow(outputs, ridge):
    kernel, y, cross, diagonal = problem(outputs=outputs)
    diag_reg = float((ridge or 0.0) / np.mean(np.diag(kernel)))
    for t in (0.0, 1.0, 1e3):
        model = KernelRegressor("precomputed", ridge=ridge, fit_intercept=False, t=t, learning_rate=0.5)
        found = model.fit(kernel, y).predict(cross)
        np.testing.assert_allclose(found, gradient_flow(kernel, y, cross, t, 0.5, diag_reg), atol=1e-11)
        assert model.ridge_ == (ridge or 0.0)
        assert np.isnan(model.loo_error_)
        assert np.isnan(model.amplitude_).all()
        with pytest.raises(ValueError, match=r"return_std needs t=None.*predict.ensemble"):
            model.predict(cross, return_std=True, diagonal=diagonal)


@pytest.mark.parametrize("outputs", [None, 3])
def test_with_an_intercept_targets_and_features_are_centred(outputs):
    kernel, y, cross, _ = problem(outputs=outputs)
    n = len(kernel)
    mean = np.full((n, n), 1 / n)
    centred = (np.eye(n) - mean) @ kernel @ (np.eye(n) - mean)
    centred_cross = (cross - kernel.mean(axis=0)) @ (np.eye(n) - mean)
    for t in (0.0, 2.0, 1e3):
        model = KernelRegressor("precomputed", t=t).fit(kernel, y + 100)
        expected = y.mean(axis=0) + gradient_flow(centred, y - y.mean(axis=0), centred_cross, t)
        np.testing.assert_allclose(model.predict(cross) - 100, expected, atol=1e-10)
        residuals = y + 100 - model.predict(kernel)
        np.testing.assert_allclose(residuals.mean(axis=0), 0, atol=1e-11)  # b is at its optimum


@pytest.mark.parametrize("intercept", [True, False])
def test_long_times_give_the_ridge_solution(intercept):
    kernel, y, cross, _ = problem()
    model = KernelRegressor("precomputed", ridge=0.05, fit_intercept=intercept)
    expected = model.fit(kernel, y).predict(cross)
    np.testing.assert_allclose(variant(model, t=1e9).fit(kernel, y).predict(cross), expected, rtol=1e-10)
    np.testing.assert_array_equal(variant(model, t=math.inf).fit(kernel, y).predict(cross), expected)
    assert np.isfinite(variant(model, t=math.inf).fit(kernel, y).loo_error_)
    early = variant(model, t=1.0).fit(kernel, y).predict(cross)
    assert np.abs(early - expected).max() > 0.1


def test_classes():
    """As the regression on one-hot targets, whose loss is the mean over all classes."""
    kernel, y, cross, _ = problem(n=15)
    labels = np.argsort(np.argsort(y)) * 3 // 15
    one_hot = np.eye(3)[labels] - 1 / 3
    model = KernelClassifier("precomputed", t=20.0, learning_rate=2.0).fit(kernel, labels)
    other: Any = KernelRegressor("precomputed", t=20.0, learning_rate=2.0).fit(kernel, one_hot)
    np.testing.assert_allclose(model.decision_function(cross), other.predict(cross), atol=1e-13)
    assert np.isnan(model.loo_accuracy_)
    assert np.isnan(model.loo_error_)
    start = KernelClassifier("precomputed", t=0.0).fit(kernel, labels)
    np.testing.assert_allclose(start.decision_function(cross), 0, atol=1e-15)
    end = KernelClassifier("precomputed", t=1e9, ridge=0.1).fit(kernel, labels)
    expected = KernelClassifier("precomputed", ridge=0.1).fit(kernel, labels).decision_function(cross)
    np.testing.assert_allclose(end.decision_function(cross), expected, rtol=1e-9)


def test_singular_kernels_need_no_ridge():
    x, y = signals(6)
    model = KernelRegressor(net=MLP, t=100.0)
    twice: Any = model.fit(x[[0, 0, 1, 1, 2, 3]], y)
    assert np.isfinite(twice.predict(x)).all()
    assert KernelRegressor(net=MLP, t=3.0).fit(x[0], y[:1]).predict(x).tolist() == [y[0]] * 6


@pytest.mark.parametrize("estimator", [KernelRegressor, KernelClassifier])
def test_wrong_parameters(estimator):
    kernel, y = np.eye(4), np.array([0, 1, 0, 1])
    for t in (-1.0, np.nan, "late", True, [1.0]):
        with pytest.raises(ValueError, match=r"expected t to be None .* or a time >= 0"):
            estimator("precomputed", t=t).fit(kernel, y)
    for rate in (0.0, -1.0, np.inf, np.nan, None):
        with pytest.raises(ValueError, match="expected learning_rate to be a finite number > 0"):
            estimator("precomputed", t=1.0, learning_rate=rate).fit(kernel, y)
    with pytest.raises(NotPositiveDefiniteError, match="Raise ridge"):
        estimator("precomputed", t=1e6).fit(np.eye(4)[[1, 0, 3, 2]], y)
