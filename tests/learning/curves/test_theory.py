"""The formula for the error of kernel ridge regression, against closed forms and against regressions."""

import numpy as np
import pytest

from so3ntk.learning.curves.theory import effective_ridge, expected_error
from tests.spectra.populations import power_law


@pytest.mark.parametrize(("n", "ridge"), [(3, 0.0), (3, 2.0), (40, 1e-8), (400, 1e3)])
def test_kappa_solves_its_equation(n, ridge):
    values = np.arange(1.0, 51) ** -2
    kappa = effective_ridge(values, n, ridge)
    assert np.sum(values / (values + kappa)) + ridge / kappa == pytest.approx(n, rel=1e-9)


def test_equal_eigenvalues():
    """M modes of one eigenvalue: M / (1 + kappa) + delta / kappa = N is a quadratic equation."""
    modes, n, ridge, noise = 30, 45, 4.0, 0.3
    # N kappa^2 + (N - M - delta) kappa - delta = 0
    kappa = np.max(np.roots([n, n - modes - ridge, -ridge]))
    learned = 1 / (1 + kappa)
    expected = n / (n - modes * learned**2) * ((1 - learned) ** 2 * 7.0 + noise)
    assert expected_error(np.ones(modes), np.full(modes, 7.0 / modes), noise, n, ridge) == pytest.approx(expected)


def test_without_a_ridge_beyond_the_modes():
    """Ordinary least squares: sigma^2 N / (N - M); infinite at N = M."""
    assert expected_error(np.ones(30), np.ones(30), 0.5, 45, 0.0) == pytest.approx(0.5 * 45 / 15)
    assert expected_error(np.ones(30), np.ones(30), 0.5, 30, 0.0) == np.inf
    assert effective_ridge(np.ones(30), 45, 0.0) == 0.0


def test_a_mode_of_negative_eigenvalue_is_not_learned():
    assert expected_error(np.array([1.0, -1e-3]), np.array([0.0, 2.0]), 0.0, 50, 0.0) == pytest.approx(2.0 * 50 / 49)


@pytest.mark.parametrize(("n", "ridge"), [(40, 1e-3), (40, 1.0), (160, 1e-3), (160, 0.1)])
def test_regressions_on_gaussian_features(n, ridge):
    """Within four standard errors of the mean over training sets, each below three percent: the theory is exact as n grows."""
    known = power_law(modes=250)
    predicted = expected_error(known.eigenvalues, known.coefficients**2, known.noise**2, n, ridge)
    errors = np.array([known.error(*known.draw(n, seed), ridge) for seed in range(80)])
    deviation = np.std(errors) / np.sqrt(len(errors))
    assert deviation < 0.03 * predicted
    assert abs(np.mean(errors) - predicted) < 4 * deviation
