"""Ridge regression on features beside unpenalised columns: against refits, a flat prior written out, and each other."""

import numpy as np
import pytest

from so3ntk.learning.feature_ridge import FeatureSpectrum, error_of

RIDGE = 0.3


def problem(n, r, c, seed=0):
    """Features, columns of which the last is the sum of the two before it, and two targets with a large mean."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(n, c))
    if c == 3:
        columns[:, 2] = columns[:, 0] + columns[:, 1]
    return rng.normal(size=(n, r)), columns, rng.normal(size=(n, 2)) + 100 * columns.sum(axis=1, keepdims=True)


SHAPES = [(30, 10, 3), (20, 50, 3), (40, 10, 1), (25, 25, 0)]


@pytest.mark.parametrize(("n", "r", "c"), SHAPES)
def test_leave_one_out_is_that_of_refits(n, r, c):
    features, columns, y = problem(n, r, c)
    fit = FeatureSpectrum.of(features.copy(), columns).solve(y, RIDGE)
    for row in range(0, n, 3):
        rest = np.arange(n) != row
        other = FeatureSpectrum.of(features[rest].copy(), columns[rest]).solve(y[rest], RIDGE)
        predicted = features[row] @ other.weights + columns[row] @ other.columns
        np.testing.assert_allclose(fit.loo[row], y[row] - predicted, atol=1e-9)


@pytest.mark.parametrize(("n", "r", "c"), SHAPES)
def test_weights_minimise_the_loss(n, r, c):
    """The gradient of |y - F w - C b|^2 + ridge |w|^2 vanishes."""
    features, columns, y = problem(n, r, c)
    fit = FeatureSpectrum.of(features.copy(), columns).solve(y, RIDGE)
    residual = y - features @ fit.weights - columns @ fit.columns
    np.testing.assert_allclose(features.T @ residual, RIDGE * fit.weights, atol=1e-9 * np.abs(y).max())
    np.testing.assert_allclose(columns.T @ residual, 0, atol=1e-9 * np.abs(y).max())


@pytest.mark.parametrize(("n", "r", "c"), SHAPES)
def test_variance_and_amplitude_are_those_of_a_gaussian_process(n, r, c):
    """With a prior of 1e8 on independent columns in place of a flat one: exact up to 1e-8."""
    features, columns, y = problem(n, r, c)
    y = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0] if c else y
    rng = np.random.default_rng(1)
    free = columns[:, :2] if c == 3 else columns
    new, few = rng.normal(size=(4, r)), rng.normal(size=(4, free.shape[1]))
    prior = lambda a, b, s, t: a @ b.T + 1e8 * s @ t.T  # noqa: E731
    covariance = prior(features, features, free, free) + RIDGE * np.eye(n)
    cross = prior(new, features, few, free)
    expected = np.diag(prior(new, new, few, few) - cross @ np.linalg.solve(covariance, cross.T))
    spectrum = FeatureSpectrum.of(features.copy(), columns)
    combined = np.column_stack([few, few.sum(axis=1)]) if c == 3 else few
    np.testing.assert_allclose(spectrum.posterior().variance(new, combined, RIDGE), expected, rtol=1e-5)
    energy = np.einsum("nk,nk->k", y, np.linalg.solve(covariance, y)) / (n - free.shape[1])
    np.testing.assert_allclose(spectrum.solve(y, RIDGE).amplitude ** 2, energy, rtol=1e-5)


@pytest.mark.parametrize("r", [8, 40])
def test_features_along_the_columns_add_no_directions(r):
    """As features of molecules are along their composition: what rounding leaves of them would halve the errors."""
    features, columns, y = problem(12, r, 3)
    features = features + 1e4 * columns @ np.random.default_rng(2).normal(size=(3, r))
    spectrum = FeatureSpectrum.of(features.copy(), columns)
    assert spectrum.basis.shape[1] + len(spectrum.singular) == min(12, 2 + r)
    fit = spectrum.solve(y, 1e-3)
    for row in range(12):
        rest = np.arange(12) != row
        other = FeatureSpectrum.of(features[rest].copy(), columns[rest]).solve(y[rest], 1e-3)
        predicted = features[row] @ other.weights + columns[row] @ other.columns
        np.testing.assert_allclose(fit.loo[row], y[row] - predicted, rtol=1e-6, atol=1e-7)


def test_rows_that_determine_a_column_alone_have_no_error():
    features, columns, y = problem(20, 30, 1)
    lonely = np.zeros((20, 1))
    lonely[7] = 2.0
    fit = FeatureSpectrum.of(features.copy(), np.column_stack([columns, lonely])).solve(y, RIDGE)
    assert np.isnan(fit.loo[7]).all()
    assert np.isfinite(np.delete(fit.loo, 7, axis=0)).all()
    assert np.isfinite(error_of(fit.loo))
    rest = np.arange(20) != 7
    without = FeatureSpectrum.of(features[rest].copy(), columns[rest]).solve(y[rest], RIDGE)
    np.testing.assert_allclose(error_of(fit.loo), error_of(without.loo), rtol=1e-10)


@pytest.mark.parametrize("ridge", [1e-12, 1e-9, 1e-4])
def test_small_ridges_have_errors_of_all_rows(ridge):
    """More features than rows, which interpolate: 1 - h is as small as the ridge, and the errors are those of refits."""
    features, columns, y = problem(20, 60, 1)
    fit = FeatureSpectrum.of(features.copy(), columns).solve(y, ridge)
    rest = np.arange(20) != 4
    other = FeatureSpectrum.of(features[rest].copy(), columns[rest]).solve(y[rest], ridge)
    np.testing.assert_allclose(fit.loo[4], y[4] - features[4] @ other.weights - columns[4] @ other.columns, rtol=1e-6)
    assert np.isfinite(fit.loo).all()
