"""Weights of rows and classes with inducing inputs, against repeated rows and refits; covariances and samples."""

import numpy as np
import pytest

import so3ntk
from so3ntk import InducingClassifier, InducingRegressor, KernelClassifier, KernelRegressor, gram
from so3ntk.molecules import AtomSum
from tests.regression_cases import MLP, MOLECULAR, molecules

SIZES = (2, 3, 2, 4, 3, 2, 5, 2, 3, 4)
WEIGHTS = np.array([1, 2, 0, 3, 1, 1, 2, 1, 0, 1])
COPIES = np.repeat(np.arange(10), WEIGHTS)
ANY = np.random.default_rng(3).uniform(0.3, 3, 10)


def regressors(x, **settings):
    """Some atoms induce, or all molecules do."""
    some = InducingRegressor(MOLECULAR, inducing=x[3:6], **settings)
    return some, InducingRegressor(MOLECULAR, inducing="all", **settings)


@pytest.mark.parametrize("settings", [{}, {"baseline": None, "fit_intercept": False}], ids=["columns", "none"])
def test_whole_weights_are_repeated_rows(settings):
    """Means and deviations; the amplitude counts rows once."""
    x, y = molecules(SIZES)
    y = np.stack([y, y**2], axis=1)
    for model, copies in zip(regressors(x, ridge=0.3, **settings), regressors(x, ridge=0.3, **settings), strict=True):
        mean, std = model.fit(x, y, sample_weight=WEIGHTS).predict(x, return_std=True)
        expected, scaled = copies.fit(x[COPIES], y[COPIES]).predict(x, return_std=True)
        np.testing.assert_allclose(mean, expected, rtol=1e-8)
        np.testing.assert_allclose(std / model.amplitude_, scaled / copies.amplitude_, rtol=1e-6)
        assert np.all(model.amplitude_ > copies.amplitude_)  # the same energy over fewer rows


def test_leave_one_out_is_that_of_weighted_refits():
    x, y = molecules(SIZES)
    for model in regressors(x, ridge=0.2):
        model.fit(x, y, sample_weight=ANY)
        errors = []
        for row in range(len(x)):
            rest = np.delete(np.arange(len(x)), row)
            inducing = "all" if isinstance(model.inducing, str) else model.inducing_
            other = InducingRegressor(MOLECULAR, inducing=inducing, ridge=0.2)
            errors.append(other.fit(x[rest], y[rest], sample_weight=ANY[rest]).predict(x[[row]])[0] - y[row])
        expected = np.sqrt(np.average(np.square(errors), weights=ANY))
        np.testing.assert_allclose(model.loo_error_, expected, rtol=1e-6)
        np.testing.assert_allclose(
            model.set_params(ridge=None, ridge_path=[0.02, 0.2, 2.0]).fit(x, y, ANY).loo_path_[1], expected
        )


def test_rows_of_weight_zero_are_not_there():
    """Not among what may induce, and in no mean."""
    x, y = molecules(SIZES)
    kept = np.flatnonzero(WEIGHTS)
    model, without = (InducingRegressor(MOLECULAR, inducing=6, ridge_path=[1e-2, 0.1, 1.0]) for _ in range(2))
    model.fit(x, np.where(WEIGHTS > 0, y, 1e3), sample_weight=np.minimum(WEIGHTS, 1))
    without.fit(x[kept], y[kept])
    np.testing.assert_array_equal(model.inducing_.numbers, without.inducing_.numbers)
    for ours, theirs in zip(model.predict(x[kept], True), without.predict(x[kept], True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    np.testing.assert_allclose(model.loo_path_, without.loo_path_, rtol=1e-10)


def test_all_inputs_inducing_are_the_dense_regression(tmp_path):
    """Of any weights, after a file too."""
    rng = np.random.default_rng(0)
    x, new, weights = rng.normal(size=(10, 3)), rng.normal(size=(4, 3)), np.where(WEIGHTS > 0, ANY, 0)
    y = x[:, 0] ** 2 + 5
    model = InducingRegressor(MLP, inducing="all", ridge=0.1).fit(x, y, sample_weight=weights)
    dense = KernelRegressor(MLP, ridge=0.1).fit(x, y, sample_weight=weights)
    so3ntk.save(model, tmp_path / "model.npz")
    for ours in (model, so3ntk.load(tmp_path / "model.npz")):
        for one, other in zip(ours.predict(new, True), dense.predict(new, True), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8)
    np.testing.assert_allclose(model.dual_coef_, dense.dual_coef_, rtol=1e-8, atol=1e-10)
    assert model.loo_error_ == pytest.approx(dense.loo_error_, rel=1e-8)
    assert model.amplitude_ == pytest.approx(dense.amplitude_, rel=1e-8)


@pytest.mark.parametrize("weights", [None, ANY])
def test_covariances_and_samples(weights):
    """Those of a Gaussian process whose columns have the prior variance 1e6, by the textbook's formulas."""
    x, y = molecules(SIZES)
    y = np.stack([y, y**2], axis=1)
    new, _ = molecules((3, 2, 4), seed=7)
    noise = np.diag(0.3 / (np.ones(10) if weights is None else weights))
    for model in regressors(x, ridge=0.3):
        mean, std = model.fit(x, y, sample_weight=weights).predict(new, return_std=True)
        again, covariance = model.predict(new, return_cov=True)
        np.testing.assert_array_equal(again, mean)
        np.testing.assert_allclose(np.einsum("iik->ik", covariance), std**2, rtol=1e-8)
        columns = [np.column_stack([np.ones(len(b)), AtomSum().composition(b).counts]) for b in (x, new)]
        among = gram(MOLECULAR, new, progress=False)
        if model.whitening_ is None:
            train, cross, rest = gram(MOLECULAR, x, progress=False), gram(MOLECULAR, new, x, progress=False), 0
        else:
            features, others = (model.whitening_.features(model.features(b, double=True)) for b in (x, new))
            train, cross, rest = features @ features.T, others @ features.T, among - others @ others.T
        prior = 1e6 * columns[1] @ columns[1].T + (among - rest)
        cross = cross + 1e6 * columns[1] @ columns[0].T
        solved = np.linalg.solve(train + 1e6 * columns[0] @ columns[0].T + noise, cross.T)
        expected = prior - cross @ solved + rest
        scaled = covariance[..., 1] / model.amplitude_[1] ** 2
        np.testing.assert_allclose(scaled, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        samples = model.sample_y(new, 4000, random_state=1)
        assert samples.shape == (3, 2, 4000)
        bounds = 5 * np.sqrt(covariance[..., 0].diagonal() / 4000)
        assert np.all(np.abs(samples[:, 0].mean(-1) - mean[:, 0]) < bounds)
        with pytest.raises(ValueError, match="return_std or return_cov"):
            model.predict(new, return_std=True, return_cov=True)


def test_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 3))
    labels = np.where(x[:, 0] > 0.3, "rare", "usual")
    settings = {"class_weight": {"rare": 3}, "ridge": 0.1}
    model = InducingClassifier(MLP, inducing="all", **settings).fit(x, labels, sample_weight=WEIGHTS)
    dense = KernelClassifier(MLP, **settings).fit(x, labels, sample_weight=WEIGHTS)
    np.testing.assert_allclose(model.decision_function(x), dense.decision_function(x), rtol=1e-8)
    assert model.loo_accuracy_ == pytest.approx(dense.loo_accuracy_)
    balanced = InducingClassifier(MLP, inducing=8, class_weight="balanced", ridge=0.1).fit(x, labels)
    by_row = np.array([10 / (2 * np.sum(labels == label)) for label in labels])
    same = InducingClassifier(MLP, inducing=8, ridge=0.1).fit(x, labels, sample_weight=by_row)
    np.testing.assert_allclose(balanced.decision_function(x), same.decision_function(x), rtol=1e-10)
    with pytest.raises(ValueError, match="rows of a single class"):
        model.fit(x, labels, sample_weight=labels == "rare")


def test_refusals():
    x, y = molecules(SIZES)
    model = InducingRegressor(MOLECULAR, inducing=6, ridge=0.1)
    for wrong in (np.ones(9), -np.ones(10), np.full(10, np.nan), np.zeros(10)):
        with pytest.raises(ValueError, match="sample_weight: expected 10 finite numbers >= 0"):
            model.fit(x, y, sample_weight=wrong)
    with pytest.raises(ValueError, match="rows that weigh the same"):
        model.fit(x, y, sample_weight=ANY).learning_curve([20])
