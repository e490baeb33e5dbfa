"""Learning curves from one sample, against regressions on a population that is known, and against what leaving one out measures."""

import numpy as np
import pytest

import so3ntk
from so3ntk import NotPositiveDefiniteError
from so3ntk.learning.curves.curve import mean_curve
from so3ntk.learning.curves.theory import expected_error
from so3ntk.spectra import feature_spectrum, measured_errors, spectrum
from tests.spectra.populations import Known, power_law

N = 256


@pytest.fixture(scope="module")
def known():
    return power_law(modes=1500)


@pytest.fixture(scope="module")
def sample(known):
    return known.draw(N, seed=0)


@pytest.fixture(scope="module")
def found(sample):
    features, y = sample
    return spectrum(features @ features.T, y)


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 2.0])
def test_sizes_below_and_beyond_the_sample(known, found, ridge):
    """The band, no wider than a quarter, holds five of six of the population's errors, and the curve is within a seventh of all."""
    sizes = [N // 8, N // 4, N // 2, N, 2 * N, 4 * N]
    curve = found.learning_curve(sizes, ridge)
    powers = known.coefficients**2
    exact = np.sqrt([expected_error(known.eigenvalues, powers, known.noise**2, size, ridge) for size in sizes])
    np.testing.assert_allclose(curve.rmse, exact, rtol=0.15)
    assert np.count_nonzero((curve.low < exact) & (exact < curve.high)) >= 5
    assert np.all(curve.high < 1.25 * curve.rmse)
    np.testing.assert_allclose(curve.low * curve.high, curve.mse)


def test_the_sample_is_left_where_it_ends(found):
    """Without a ridge a fit of N inputs has N degrees of freedom; with a large one all sizes are resolved."""
    curve = found.learning_curve([N // 4, N, 2 * N, 4 * N], 1e-3)
    np.testing.assert_array_equal(curve.resolved, [True, True, False, False])
    assert (
        f"Beyond what the sample of {N} resolves at this ridge: {2 * N}, {4 * N}. There the tails continue"
        in curve.statement
    )
    assert "continued" in str(curve).splitlines()[3]
    assert found.learning_curve([N, 4 * N], 30.0).statement == f"All sizes are resolved by the sample of {N}."


def test_tails_are_the_populations(found):
    """lambda_i ~ i^-1.5, v_i^2 ~ i^-1.8: D ~ kappa^-1/1.5, and modes beyond i hold i^-0.8 ~ kappa^0.53, beside noise, which lowers that."""
    curve = found.learning_curve([N], 0.1)
    assert 1 / curve.dof_exponent == pytest.approx(1.5, abs=0.1)
    assert 0.35 < curve.missed_exponent < 0.6


def test_leave_one_out_errors_are_met(sample, found):
    """At the sample's own size, and at half of it on average over halves, within three percent."""
    features, y = sample
    for rows, tolerance in ((slice(0, N), 0.03), (slice(0, N // 2), 0.15)):
        f = features[rows]
        model = so3ntk.KernelRegressor("precomputed", ridge=0.05, fit_intercept=False).fit(f @ f.T, y[rows])
        assert found.learning_curve([len(f) - 1], 0.05).rmse[0] == pytest.approx(model.loo_error_, rel=tolerance)


def test_overfitting_that_the_formula_does_not_know():
    """Rows of unequal size, nearly without a ridge: modes are not Gaussian, the formula is low, and the parts' own errors correct it."""
    rng = np.random.default_rng(0)
    scales = np.arange(1.0, 401) ** -0.5
    modes = rng.normal(size=(900, 400)) * scales
    y = modes @ (rng.normal(size=400) * scales)
    y, x = y / y.std() + rng.normal(size=900), modes * np.exp(0.5 * rng.normal(size=(900, 1)))
    kernel = x @ x.T
    found = spectrum(kernel[:240, :240], y[:240])
    curve = found.learning_curve([60, 120], 1e-4 * found.scale)
    for size, rmse, plain in zip(curve.sizes, curve.rmse, curve.plain.rmse, strict=True):
        measured = measured_errors(kernel, y, [size], 1e-4 * found.scale, 600, draws=10)
        expected = np.sqrt(np.mean([m.mse for m in measured]))
        assert rmse == pytest.approx(expected, rel=0.12)
        assert plain < 0.8 * expected


def test_the_best_ridge(found):
    """Of each size: what a ridge asked for cannot beat, and what the curve takes if none is."""
    curve = found.learning_curve([60, 240, 2000])
    np.testing.assert_array_equal(curve.ridges, curve.best_ridge)
    np.testing.assert_array_equal(curve.mse, curve.best_mse)
    for factor in (0.1, 10.0):
        for size, ridge in zip(curve.sizes, curve.best_ridge, strict=True):
            assert (
                found.learning_curve([size], factor * ridge).mse[0]
                >= (1 - 1e-6) * found.learning_curve([size], ridge).mse[0]
            )
    np.testing.assert_allclose(found.learning_curve([240], curve.best_ridge[1]).rmse, curve.best_rmse[1])


def test_the_formula_alone_ends_with_the_sample(found):
    """Its own modes leave nothing beyond it: too low there, and the curve is not."""
    curve = found.learning_curve([N // 8, 4 * N], 1e-3)
    np.testing.assert_allclose(curve.plain.rmse[0], curve.rmse[0], rtol=0.2)
    assert curve.plain.rmse[1] < 0.3 * curve.rmse[1]


def test_linear_regression_ends_with_its_features():
    """Twenty features and noise of 0.5: beyond them the error is that of least squares, noise (1 + 20 / N)^(1/2) and more."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20))
    curve = feature_spectrum(x, x @ rng.normal(size=20) + 0.5 * rng.normal(size=400)).learning_curve(
        [60, 400, 10**5], 1e-3
    )
    np.testing.assert_allclose(curve.rmse, 0.5 * np.sqrt([60 / 40, 400 / 380, 1.0]), rtol=0.1)
    assert curve.resolved.all()


def test_units_of_kernel_and_targets(sample, found):
    """A kernel in another unit, with its ridge, has the same errors; targets scale theirs; outputs are averaged."""
    features, y = sample
    curve = found.learning_curve([100, 1000], 0.1)
    kernel = features @ features.T
    other = spectrum(16.0 * kernel, np.stack([2 * y, 0 * y], axis=1)).learning_curve([100, 1000], 1.6)
    np.testing.assert_allclose(other.mse, 2 * curve.mse, rtol=1e-6)
    np.testing.assert_allclose(curve.scaled(3.0).rmse, 3 * curve.rmse)
    np.testing.assert_allclose(curve.scaled(3.0).high, 3 * curve.high)
    np.testing.assert_allclose(mean_curve([curve, curve.scaled(3.0)]).mse, 5 * curve.mse)


def test_ten_inputs_are_enough_to_say_little():
    features, y = power_law(60).draw(10, seed=0)
    curve = spectrum(features @ features.T, y).learning_curve([5, 1000], 0.1)
    assert np.isfinite(curve.rmse).all()
    assert curve.high[1] / curve.rmse[1] > 1.2


def test_blocks_are_counted_by_inputs():
    """Two components of a vector with one kernel each: the errors of either alone."""
    known = Known(*power_law(200))
    features, y = known.draw(96, seed=0)
    kernel = features @ features.T
    blocks = np.zeros((96, 96, 2, 2))
    blocks[..., 0, 0] = blocks[..., 1, 1] = kernel
    found = spectrum(blocks, np.stack([y, y], axis=1)).learning_curve([40, 96, 384], 0.1)
    alone = spectrum(kernel, y).learning_curve([40, 96, 384], 0.1)
    np.testing.assert_allclose(found.rmse, alone.rmse, rtol=0.03)
    np.testing.assert_allclose(found.plain.rmse, alone.plain.rmse, rtol=1e-6)


def test_measured_errors_by_hand(sample):
    features, y = sample
    kernel = features @ features.T
    measured = measured_errors(kernel, y, [10, 20], [0.1, 0.2], test=30, draws=2, seed=3)
    assert [(m.draw, m.size, m.ridge) for m in measured] == [(0, 10, 0.1), (0, 20, 0.2), (1, 10, 0.1), (1, 20, 0.2)]
    order = np.random.default_rng((3, 1)).permutation(N)
    test, train = order[:30], order[30:50]
    dual = np.linalg.solve(kernel[np.ix_(train, train)] + 0.2 * np.eye(20), y[train])
    assert measured[3].rmse ** 2 == pytest.approx(np.mean((kernel[np.ix_(test, train)] @ dual - y[test]) ** 2))
    with pytest.raises(ValueError, match="200 training and 60 test inputs of 256 leave -4"):
        measured_errors(kernel, y, [200], 0.1, test=60)
    with pytest.raises(NotPositiveDefiniteError):
        measured_errors(kernel - np.eye(N), y, [200], 0.1, test=26)


@pytest.mark.parametrize(
    ("sizes", "ridge", "message"),
    [
        ([], 0.1, "expected sizes to be a list of whole numbers"),
        ([0, 5], 0.1, r"each at least 1, got \[0, 5\]"),
        ([2.5], 0.1, "whole numbers"),
        ([50], -1.0, "expected ridge to be None .* or a finite number >= 0, absolute, got -1.0"),
        ([50], np.nan, "got nan"),
    ],
)
def test_sizes_and_ridges_that_are_none(found, sizes, ridge, message):
    with pytest.raises(ValueError, match=rf"spectrum\.learning_curve: .*{message}"):
        found.learning_curve(sizes, ridge)
