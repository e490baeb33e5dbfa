"""Weights of rows and classes against repeated rows and the linear system; covariances and samples of the posterior."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from so3ntk import InducingClassifier, InducingRegressor, KernelClassifier, KernelRegressor
from tests.regression_cases import MLP, bordered, problem

WEIGHTS = np.array([1, 2, 0, 3, 1, 1, 2, 1, 1, 1, 0, 1, 1, 4])
COPIES = np.repeat(np.arange(14), WEIGHTS)


@pytest.mark.filterwarnings("ignore::so3ntk.errors.RidgePathWarning")
@pytest.mark.usefixtures("wrong_arguments")  # which scikit-learn passes
@parametrize_with_checks(
    [
        KernelRegressor(ridge=0.1),
        KernelClassifier(ridge=0.1),
        InducingRegressor(inducing="all", ridge=0.1),
        InducingClassifier(inducing="all", ridge=0.1),
    ]
)
def test_scikit_learn(estimator, check):
    """At one ridge, where weights and repeated rows are the same."""
    if "equivalence" in str(check) or "class_weight" in str(check):  # the others: in test_estimators, test_classifier
        check(estimator)


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("intercept", [False, True])
def test_whole_weights_are_repeated_rows(intercept, outputs):
    """Means and deviations; the amplitude has a yardstick of its own."""
    kernel, y, cross, diagonal = problem(outputs=outputs)
    model = KernelRegressor("precomputed", ridge=0.3, fit_intercept=intercept).fit(kernel, y, sample_weight=WEIGHTS)
    copies = KernelRegressor("precomputed", ridge=0.3, fit_intercept=intercept)
    copies.fit(kernel[np.ix_(COPIES, COPIES)], y[COPIES])
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    expected, scaled = copies.predict(cross[:, COPIES], return_std=True, diagonal=diagonal)
    np.testing.assert_allclose(mean, expected, rtol=1e-10)
    np.testing.assert_allclose(std / model.amplitude_, scaled / copies.amplitude_, rtol=1e-10)
    assert np.all(model.dual_coef_[WEIGHTS == 0] == 0)
    rows = WEIGHTS.sum() - intercept, np.count_nonzero(WEIGHTS) - intercept
    explained = np.square(model.amplitude_) * rows[1]
    np.testing.assert_allclose(explained, np.square(copies.amplitude_) * rows[0], rtol=1e-10)  # y^T alpha of both


@pytest.mark.filterwarnings("ignore::so3ntk.errors.RidgePathWarning")
@pytest.mark.parametrize("intercept", [False, True])
def test_weights_divide_the_noise(intercept):
    """Any numbers, against the system as it is written and refits without each row."""
    kernel, y, cross, _ = problem()
    weights = np.random.default_rng(0).uniform(0.2, 3, 14)
    model = KernelRegressor("precomputed", ridge=0.3, fit_intercept=intercept).fit(kernel, y, sample_weight=weights)
    noisy = kernel + np.diag(0.3 / weights)
    alpha, b = bordered(noisy, y, 0.0, intercept)
    np.testing.assert_allclose(model.predict(cross), cross @ alpha + b, rtol=1e-10)
    errors = []
    for row in range(14):
        others = np.arange(14) != row
        alpha, b = bordered(noisy[np.ix_(others, others)], y[others], 0.0, intercept)
        errors.append(y[row] - kernel[row, others] @ alpha - b)
    assert model.loo_error_ == pytest.approx(np.sqrt(np.average(np.square(errors), weights=weights)), rel=1e-10)
    best = KernelRegressor("precomputed", fit_intercept=intercept, ridge_path=[1e-2, 0.1, 0.3, 1.0, 10.0])
    best.fit(kernel, y, sample_weight=weights)
    assert best.loo_path_[2] == pytest.approx(model.loo_error_)
    assert best.loo_error_ == best.loo_path_.min()
    same = KernelRegressor("precomputed", ridge=0.3, fit_intercept=intercept).fit(kernel, y, sample_weight=np.ones(14))
    np.testing.assert_allclose(same.predict(cross), variant(same).fit(kernel, y).predict(cross), rtol=1e-12)


def variant(model):
    return type(model)(**model.get_params())


def test_class_weights():
    kernel, y, cross, _ = problem()
    labels = np.where(y > np.quantile(y, 0.7), "rare", "usual")
    counts = {label: np.count_nonzero(labels == label) for label in np.unique(labels)}
    by_row = np.array([14 / (2 * counts[label]) for label in labels])
    balanced = KernelClassifier("precomputed", ridge=0.1, class_weight="balanced").fit(kernel, labels)
    same = KernelClassifier("precomputed", ridge=0.1).fit(kernel, labels, sample_weight=by_row)
    np.testing.assert_allclose(balanced.decision_function(cross), same.decision_function(cross), rtol=1e-12)
    named = KernelClassifier("precomputed", ridge=0.1, class_weight={"rare": 3}).fit(
        kernel, labels, sample_weight=WEIGHTS
    )
    rows = np.repeat(np.arange(14), WEIGHTS * np.where(labels == "rare", 3, 1))
    copies = KernelClassifier("precomputed", ridge=0.1).fit(kernel[np.ix_(rows, rows)], labels[rows])
    np.testing.assert_allclose(named.decision_function(cross), copies.decision_function(cross[:, rows]), rtol=1e-10)
    assert 0 <= named.loo_accuracy_ <= 1


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_covariances_and_samples(weights):
    """The covariance of the Gaussian process, its diagonal as return_std has it; moments of samples."""
    kernel, y, cross, diagonal = problem(outputs=2)
    among = problem(n=19)[0][14:, 14:]
    model = KernelRegressor("precomputed", ridge=0.3).fit(kernel, y, sample_weight=weights)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    again, covariance = model.predict(cross, return_cov=True, gram=among)
    np.testing.assert_array_equal(again, mean)
    np.testing.assert_allclose(np.einsum("iik->ik", covariance), std**2, rtol=1e-10)
    noise = np.diag(0.3 / (np.ones(14) if weights is None else np.maximum(weights, 1e-9)))
    one = np.ones((14, 1))
    matrix = np.block([[kernel + noise, one], [one.T, np.zeros((1, 1))]])
    columns = np.concatenate([cross, np.ones((5, 1))], axis=1)
    expected = among - columns @ np.linalg.solve(matrix, columns.T)  # an unpenalised intercept
    np.testing.assert_allclose(covariance[..., 1] / model.amplitude_[1] ** 2, expected, rtol=0, atol=1e-7)
    samples = model.sample_y(cross, 20_000, random_state=1, gram=among)
    assert samples.shape == (5, 2, 20_000)
    for k in range(2):
        largest = covariance[..., k].max()
        np.testing.assert_allclose(samples[:, k].mean(-1), mean[:, k], rtol=0, atol=5 * (largest / 20_000) ** 0.5)
        np.testing.assert_allclose(np.cov(samples[:, k]), covariance[..., k], rtol=0, atol=0.05 * largest)
    assert np.abs(np.corrcoef(samples[0, 0], samples[0, 1])[0, 1]) < 0.05  # outputs are drawn apart


def test_covariances_of_a_network():
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(9, 3)), rng.normal(size=(4, 3))
    model = KernelRegressor(MLP, ridge=0.1).fit(x, x[:, 0])
    _, covariance = model.predict(x_test, return_cov=True)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), model.predict(x_test, return_std=True)[1], rtol=1e-8)
    assert model.sample_y(x_test, 3).shape == (4, 3)
    np.testing.assert_array_equal(model.sample_y(x_test, 3), model.sample_y(x_test, 3, random_state=0))


def test_calibrated_probabilities():
    """By scikit-learn's wrapper, with and without weights; they are monotone in the decision function."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    labels = x[:, 0] + 0.5 * rng.normal(size=40) > 0
    model = CalibratedClassifierCV(KernelClassifier(MLP, ridge=0.3), cv=3, ensemble=False)
    for weights in (None, rng.uniform(0.5, 2, 40)):
        probabilities = model.fit(x, labels, sample_weight=weights).predict_proba(x)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        scores = model.calibrated_classifiers_[0].estimator.decision_function(x)
        order = np.argsort(scores)
        assert np.all(np.diff(probabilities[order, 1]) >= 0)
        assert abs(probabilities[:, 1].mean() - labels.mean()) < 0.1


def test_refusals():
    kernel, y, cross, _ = problem()
    model = KernelRegressor("precomputed", ridge=0.1)
    for wrong in (np.ones(13), -np.ones(14), np.full(14, np.nan), np.zeros(14), np.ones((14, 1))):
        with pytest.raises(ValueError, match="sample_weight: expected 14 finite numbers >= 0"):
            model.fit(kernel, y, sample_weight=wrong)
    for settings in ({"t": 1.0}, {"solver": "cholesky"}):
        with pytest.raises(ValueError, match="t=None and solver=None"):
            KernelRegressor("precomputed", ridge=0.1, **settings).fit(kernel, y, sample_weight=np.ones(14))
    with pytest.raises(ValueError, match="rows of a single class"):
        KernelClassifier("precomputed", ridge=0.1).fit(kernel, y > 3, sample_weight=y > 3)
    model.fit(kernel, y, sample_weight=np.ones(14))
    with pytest.raises(ValueError, match="rows that weigh the same"):
        model.learning_curve([20])
    with pytest.raises(ValueError, match=r"return_cov with net=.* needs gram="):
        model.predict(cross, return_cov=True)
    with pytest.raises(ValueError, match="expected gram to be 5 x 5 finite numbers"):
        model.predict(cross, return_cov=True, gram=kernel)
    with pytest.raises(ValueError, match="return_std or return_cov"):
        model.predict(cross, True, None, True)
