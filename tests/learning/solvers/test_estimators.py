"""The estimators with a solver, with a stored kernel, and in batches."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score

import planar
from so3ntk import Dense, Flatten, GroupPool, KernelClassifier, KernelRegressor, Relu, gram, serial
from so3ntk.errors import NotConvergedError, RidgePathWarning
from so3ntk.learning.solvers import BlockedCholesky, Cholesky, ConjugateGradients, Nystrom
from tests.learning.solvers.problems import Slices
from tests.regression_cases import MLP, MOLECULAR, molecules, problem, signals

IMAGES = serial(planar.Lift((3, 3)), Relu(), GroupPool(), Dense())


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("intercept", [True, False])
def test_every_solver_agrees_with_the_decomposition(outputs, intercept):
    kernel, y, cross, _ = problem(40, outputs)
    options = {"net": "precomputed", "ridge": 0.1, "fit_intercept": intercept}
    expected = KernelRegressor(**options).fit(kernel, y)
    for solver in ("auto", "cholesky", Cholesky(), "eigen", "cg", Nystrom(rank=40)):
        model = KernelRegressor(**options, solver=solver).fit(kernel, y)
        np.testing.assert_allclose(model.predict(cross), expected.predict(cross), rtol=0, atol=1e-6)
        assert model.dual_coef_.shape == expected.dual_coef_.shape
        assert np.shape(model.intercept_) == np.shape(expected.intercept_)
        if solver not in ("auto", "cg"):
            assert model.loo_error_ == pytest.approx(expected.loo_error_, rel=1e-6)
    with pytest.raises(ValueError, match="return_std needs the eigenvectors"):
        KernelRegressor(**options, solver="cg").fit(kernel, y).predict(cross, return_std=True)


def test_a_kernel_that_is_there_already():
    x, y = molecules((1, 3, 2, 4, 3, 2, 5, 1, 3) * 2)
    kernel = Slices(gram(MOLECULAR, x, progress=False))
    computed = KernelRegressor(MOLECULAR, ridge=0.1).fit(x, y)
    for solver in (None, "cholesky", "cg"):
        model = KernelRegressor(MOLECULAR, ridge=0.1, solver=solver).fit(x, y, gram=kernel)
        np.testing.assert_allclose(model.predict(x[:5]), computed.predict(x[:5]), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"gram to be the kernel \(5, 5\)"):
        KernelRegressor(MOLECULAR, ridge=0.1).fit(x[:5], y[:5], gram=kernel)
    with pytest.raises(ValueError, match="the kernel is X"):
        KernelRegressor("precomputed", ridge=0.1).fit(np.eye(18), y, gram=kernel)


@pytest.mark.filterwarnings("ignore:.*the smallest of the path:so3ntk.errors.RidgePathWarning")
def test_nystrom_keeps_its_landmarks_only():
    x, y = signals(30)
    path = np.logspace(-4, 1, 6)
    whole = KernelRegressor(MLP, ridge_path=path).fit(x, y)
    model = KernelRegressor(MLP, ridge_path=path, solver=Nystrom(rank=30)).fit(x, y)
    assert model.ridge_ == whole.ridge_
    np.testing.assert_allclose(model.loo_path_, whole.loo_path_, rtol=1e-5)
    few = KernelRegressor(MLP, solver=Nystrom(rank=4)).fit(x, y)
    assert len(few.X_fit_) == len(few.dual_coef_) == 4
    np.testing.assert_allclose(few.predict(x[:3]), gram(MLP, x[:3], few.X_fit_) @ few.dual_coef_ + few.intercept_)
    with pytest.warns(RidgePathWarning, match="at an end") as caught:
        KernelRegressor(MLP, solver=Nystrom(rank=4), ridge_path=[10.0, 100.0]).fit(x, y)
    assert caught[0].filename == __file__


def test_classifiers():
    kernel, y, cross, _ = problem(40)
    labels = np.where(y > np.median(y), "high", "low")
    expected = KernelClassifier(net="precomputed", ridge=0.1).fit(kernel, labels)
    for solver in ("cholesky", "cg", Nystrom(rank=40)):
        model = KernelClassifier(net="precomputed", ridge=0.1, solver=solver).fit(kernel, labels)
        np.testing.assert_allclose(model.decision_function(cross), expected.decision_function(cross), atol=1e-6)
        assert solver == "cg" or model.loo_accuracy_ == expected.loo_accuracy_
    x = signals(20)[0]
    names = np.where(np.arange(20) % 2, "a", "b")
    few = KernelClassifier(MLP, ridge=0.1, solver=Nystrom(rank=5)).fit(x, names)
    assert few.predict(x).shape == (20,)
    assert len(few.X_fit_) == 5


def test_what_a_solver_cannot_do():
    kernel, y, *_ = problem()
    for parameters, error, message in [
        ({"solver": "lu"}, ValueError, "expected a method of"),
        ({"solver": 3}, TypeError, "a method's name or a solver"),
        ({"solver": "cg"}, ValueError, "ridge=None.*'nystrom'; solver='cg' needs a ridge"),
        ({"solver": "cholesky", "ridge": 0.1, "t": 3.0}, ValueError, "finite t needs the eigenvectors"),
    ]:
        with pytest.raises(error, match=message):
            KernelRegressor(net="precomputed", **parameters).fit(kernel, y)
    with pytest.raises(NotConvergedError):
        KernelRegressor("precomputed", ridge=1e-9, solver=ConjugateGradients(rank=0, max_steps=2)).fit(kernel, y)


def test_predictions_in_batches_are_the_same_and_bounded(monkeypatch):
    x, y = signals(40)
    model = KernelRegressor(MLP, ridge=0.1).fit(x[:20], y[:20])
    whole, spread = model.predict(x, return_std=True)
    sizes = []
    from so3ntk.learning import inputs as estimator_inputs

    original = estimator_inputs.precise_gram
    monkeypatch.setattr(estimator_inputs, "precise_gram", lambda net, a, b, *args, **kwargs: (
        sizes.append(len(a)), original(net, a, b, *args, **{**kwargs, "memory": "2GiB"}))[1])  # fmt: skip
    model.set_params(memory=64 * 20 * 7)  # seven rows
    np.testing.assert_allclose(model.predict(x), whole, rtol=1e-10)
    assert sizes == [7] * 5 + [5]
    parts = model.predict(x, return_std=True)
    np.testing.assert_allclose(parts[0], whole, rtol=1e-10)
    np.testing.assert_allclose(parts[1], spread, rtol=1e-8)
    assert model.predict(x[:0]).shape == (0,)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::so3ntk.errors.RidgePathWarning")
def test_cross_validation_of_solvers_networks_and_inputs():
    x, y = molecules((1, 3, 2, 4, 3, 2, 5, 1, 3))
    grid = {"ridge": [0.1, 1.0], "solver": [None, "cholesky"]}
    search = GridSearchCV(KernelRegressor(MOLECULAR), grid, cv=3, error_score="raise").fit(x, y)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    np.testing.assert_allclose(scores, scores[:, :1] * [1, 1], rtol=1e-6)
    s, t = signals(12)
    networks = {"net": [MLP, serial(Flatten(), Dense(), Relu(), Dense())]}
    GridSearchCV(KernelRegressor(ridge=0.1), networks, cv=3, error_score="raise").fit(s, t)
    images = np.random.default_rng(0).normal(size=(12, 4, 4, 1))
    labels = np.arange(12) % 2
    assert len(cross_val_score(KernelClassifier(IMAGES, ridge=0.1), images, labels, cv=3, error_score="raise")) == 3
    search = GridSearchCV(KernelRegressor(IMAGES), {"ridge": [0.1, 1.0]}, cv=3, error_score="raise")
    assert search.fit(images, images.std(axis=(1, 2, 3))).best_estimator_.predict(images[:2]).shape == (2,)


def test_blocked_from_an_estimator(tmp_path):
    pytest.importorskip("dask.array")
    pytest.importorskip("zarr")
    kernel, y, cross, _ = problem(40)
    expected = KernelRegressor(net="precomputed", ridge=0.1).fit(kernel, y).predict(cross)
    model = KernelRegressor(net="precomputed", ridge=0.1, solver=BlockedCholesky(block=16, scratch=tmp_path))
    np.testing.assert_allclose(model.fit(kernel, y).predict(cross), expected, rtol=0, atol=1e-10)
