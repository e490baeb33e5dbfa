"""KernelRegressor as a scikit-learn estimator, and with networks."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import planar
import so3ntk
from so3ntk import (
    Dense,
    Flatten,
    IrrepPool,
    KernelClassifier,
    Lift,
    Relu,
    SphereSignal,
    TensorKernelRegressor,
    gram,
    serial,
)
from so3ntk.errors import PrecisionError
from so3ntk.learning.regressor import KernelRegressor, default_network
from so3ntk.molecules import Environments
from tests.regression_cases import BY_LEFT_OUT_ROWS, INVARIANT, MLP, MOLECULAR, molecules, problem, signals

# ---------------------------------------------------------------------------- scikit-learn's checks


@pytest.mark.filterwarnings("ignore::so3ntk.errors.RidgePathWarning")
@pytest.mark.usefixtures("wrong_arguments")  # which scikit-learn passes
@parametrize_with_checks(
    [KernelRegressor(net="precomputed"), KernelRegressor()], expected_failed_checks=lambda model: BY_LEFT_OUT_ROWS
)
def test_scikit_learn(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------------ closed forms


def test_kernels_that_are_no_kernels():
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=0.1)
    with pytest.raises(ValueError, match=r"square kernel \(n, n\).*\(14, 9\).*net=None"):
        model.fit(kernel[:, :9], y)
    for value in (np.nan, np.inf):
        broken = kernel.copy()
        broken[3, 5] = value
        with pytest.raises(ValueError, match=r"NaN or infinity, first K\[3, 5\] = (nan|inf)"):
            model.fit(broken, y)
    broken = kernel.copy()
    broken[2, 7] += 1e-3
    with pytest.raises(ValueError, match=r"symmetric kernel, but K\[2, 7\] = .* and K\[7, 2\]"):
        model.fit(broken, y)
    rounded = kernel.astype(np.float32) + np.float32(1e-7) * np.triu(np.ones_like(kernel))
    model.fit(rounded, y)
    model.fit(kernel, y)
    with pytest.raises(ValueError, match="14 features"):
        model.predict(cross[:, :9])
    with pytest.raises(ValueError, match=r"first K\[0, 0\] = nan"):
        model.predict(cross * np.nan)
    with pytest.raises(ValueError, match=r"needs diagonal=.*kernel_diagonal"):
        model.predict(cross, return_std=True)
    for wrong in (diagonal[:3], diagonal * np.nan, 1.7):
        with pytest.raises(ValueError, match="expected diagonal to be 5 finite numbers"):
            model.predict(cross, return_std=True, diagonal=wrong)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"net": "mlp"}, TypeError, "None, a Network .* or \"precomputed\", got 'mlp'"),
        ({"net": MLP.kernel_fn}, TypeError, "expected net"),
        ({"net": Relu()}, TypeError, "expected net"),
        ({"net": serial(Relu(), Dense())}, ValueError, "no first layer"),
        ({"kernel": "NTK"}, ValueError, '"ntk" or "nngp", got \'NTK\''),
        ({"ridge": -1e-3}, ValueError, "ridge .* >= 0, got -0.001"),
        ({"ridge": np.nan}, ValueError, "ridge"),
        ({"ridge": np.inf}, ValueError, "ridge"),
        ({"ridge": True}, ValueError, "ridge"),
        ({"ridge": "auto"}, ValueError, "ridge"),
        ({"ridge_path": []}, ValueError, "ridge_path"),
        ({"ridge_path": [1.0, -1.0]}, ValueError, "ridge_path"),
        ({"ridge_path": 1.0}, ValueError, "ridge_path"),
        ({"ridge_path": "auto"}, ValueError, "ridge_path"),
        ({"ridge_path": {1.0: 2.0}}, ValueError, "ridge_path"),
        ({"ridge_path": [True]}, ValueError, "ridge_path"),
        ({"ridge_path": [-1.0], "ridge": 0.1}, ValueError, "ridge_path"),  # refused, though it would not be read
        ({"fit_intercept": "no"}, TypeError, "KernelRegressor: expected fit_intercept to be True or False, got 'no'"),
        ({"fit_intercept": None}, TypeError, "fit_intercept"),
        ({"fit_intercept": 1}, TypeError, "fit_intercept"),
        ({"progress": "no"}, TypeError, "KernelRegressor: expected progress to be True or False, got 'no'"),
        ({"memory": "lots", "net": "precomputed"}, ValueError, "memory"),
        ({"solver": True}, TypeError, "solver"),
        ({"memory": "lots"}, ValueError, "memory"),
    ],
)
def test_wrong_parameters(parameters, error, message):
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(error, match=message):
        KernelRegressor(**parameters).fit(x, x[:, 0])


def test_lists_of_parts():
    """They are refused, and what the message says to do makes one batch of them."""
    images = [np.full((3, 3, 1), k) for k in range(4)]
    x, y = signals(4)
    batch = molecules((2, 1, 3, 1))[0]
    cases = [
        (
            MLP,
            [x[k] for k in range(4)],
            r"a list of 4, the first a SphereSignal.*so3ntk\.concatenate\(X\)",
            so3ntk.concatenate,
        ),
        (MOLECULAR, [batch[k] for k in range(4)], r"Environments\.concatenate\(X\)", Environments.concatenate),
        (
            serial(planar.Flatten(), Dense(), Relu(), Dense()),
            images,
            r"shape \(3, 3, 1\)\. .*numpy\.stack\(X\)",
            np.stack,
        ),
        (serial(planar.Flatten(), Dense(), Relu(), Dense()), tuple(images), "a tuple of 4.*numpy.stack", np.stack),
        (None, images, r"numpy\.stack", None),
    ]
    for net, parts, message, remedy in cases:
        for model in (KernelRegressor(net, ridge=0.1), KernelClassifier(net, ridge=0.1)):
            targets = y if isinstance(model, KernelRegressor) else np.arange(4) % 2
            with pytest.raises(
                TypeError, match=f"{type(model).__name__}: expected X to be one batch of inputs, got .*{message}"
            ):
                model.fit(parts, targets)
            if remedy is not None:
                model.fit(remedy(parts), targets)
    with pytest.raises(TypeError, match=r"TensorKernelRegressor: expected X to be one batch .*concatenate"):
        TensorKernelRegressor(serial(Lift(), Relu(), IrrepPool(1))).fit([x[k] for k in range(4)], np.zeros((4, 3)))
    ase = pytest.importorskip("ase.build")
    with pytest.raises(
        TypeError, match=r"the first a Atoms\. Compute their environments: so3ntk\.molecules\.environments"
    ):
        KernelRegressor(MOLECULAR).fit([ase.molecule("H2O")] * 3, y[:3])
    KernelRegressor(ridge=0.1).fit([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0])  # rows of numbers are an array


def test_wrong_data():
    x, y = signals(6)
    model = KernelRegressor(net=MLP, ridge=0.1)
    with pytest.raises(NotFittedError):
        model.predict(x)
    for wrong, message in [
        (y[:5], r"each of the 6 inputs, got y of shape \(5,\)"),
        (np.where(y == y[0], np.nan, y), "Input y contains NaN"),
        (None, "requires y"),
        (np.ones((6, 2, 2)), "dim"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(x, wrong)
    with pytest.raises(ValueError, match="at least one training input"):
        model.fit(x[:0], y[:0])
    with pytest.raises(TypeError, match=r"a batch of inputs.*got int"):
        model.fit(3, y)
    model.fit(x, y)
    with pytest.raises(ValueError, match="bandlimit"):
        model.predict(signals(3, bandlimit=3)[0])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(SphereSignal(x.coefficients.at[2].set(np.nan), 2), y)
    with pytest.raises(PrecisionError, match=r"kernel: the NTK of input 0 .*too large or too small"):
        KernelRegressor(net=MLP).fit(np.full((3, 2), 1e200), np.arange(3.0))


# --------------------------------------------------------------------------- networks and their inputs


@pytest.mark.parametrize("intercept", [True, False])
def test_one_row(intercept):
    x, _ = signals(4)
    for ridge in (None, 0.5):
        model = KernelRegressor(net=MLP, ridge=ridge, fit_intercept=intercept).fit(x[0], np.array([2.0]))
        mean, std = model.predict(x, return_std=True)
        assert np.isfinite(mean).all()
        assert np.isnan(std).all() if intercept else np.isfinite(std).all()
        assert np.isnan(model.loo_error_) == intercept
        if intercept:
            np.testing.assert_allclose(mean, 2)


def test_no_rows():
    x, y = signals(5)
    for targets in (y, np.stack([y, y], 1)):
        model = KernelRegressor(net=MLP, ridge=0.1).fit(x, targets)
        mean, std = model.predict(x[:0], return_std=True)
        assert mean.shape == std.shape == (0, *targets.shape[1:])


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize(("net", "data"), [(MLP, signals), (MOLECULAR, molecules)], ids=["sphere", "molecules"])
def test_networks_are_their_precomputed_kernels(net, data, kernel):
    x, y = data()
    train, test = np.arange(0, 6), np.arange(6, 9)
    model = KernelRegressor(net=net, kernel=kernel, ridge=0.05).fit(x[train], y[train])
    matrix = gram(net, x, get=kernel, progress=False)
    other = KernelRegressor(net="precomputed", ridge=0.05).fit(matrix[np.ix_(train, train)], y[train])
    expected = other.predict(matrix[np.ix_(test, train)], True, np.diag(matrix)[test])
    # Entries of a matrix and of its blocks differ by rounding where a kinked NTK is steep: by sqrt(eps).
    np.testing.assert_allclose(model.predict(x[test], return_std=True), expected, rtol=1e-6)
    assert model.dual_coef_.dtype == np.float64


def test_single_precision_signals_are_solved_in_double():
    x, y = signals()
    single = SphereSignal(x.coefficients.astype(np.float32), 2)
    model = KernelRegressor(net=MLP, ridge=0.1).fit(single, y.astype(np.float32))
    assert model.dual_coef_.dtype == np.float64
    mean, std = model.predict(single, return_std=True)
    expected = KernelRegressor(net=MLP, ridge=0.1).fit(x, y).predict(x, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=1e-4)
    np.testing.assert_allclose(std, expected[1], atol=1e-3)


def test_predictions_of_an_invariant_network_are_invariant():
    x, y = signals(8)
    turned = so3ntk.rotate(x, so3ntk.random_rotations(len(x), seed=1))
    changes = {}
    for net in (INVARIANT, MLP):
        model = KernelRegressor(net=net, ridge=0.1).fit(x, y)
        changes[net] = np.abs(model.predict(turned) - model.predict(x)).max()
    assert changes[INVARIANT] < 1e-3 < 0.1 < changes[MLP]  # GRID leaves 1e-5


@pytest.mark.parametrize(("net", "data"), [(MLP, signals), (MOLECULAR, molecules)], ids=["sphere", "molecules"])
def test_cross_validation(net, data):
    x, y = data()
    folds = KFold(3, shuffle=True, random_state=0)
    by_hand = []
    for train, test in folds.split(x):
        model = KernelRegressor(net=net, ridge=0.05).fit(x[train], y[train])
        by_hand.append(r2_score(y[test], model.predict(x[test])))
    scores = cross_val_score(KernelRegressor(net=net, ridge=0.05), x, y, cv=folds)
    np.testing.assert_allclose(scores, by_hand, rtol=1e-9)
    matrix = gram(net, x, progress=False)
    sliced = cross_val_score(KernelRegressor(net="precomputed", ridge=0.05), matrix, y, cv=folds)
    np.testing.assert_allclose(sliced, by_hand, rtol=1e-5)
    grid = {"ridge": [1e-3, 0.05, 10.0]}
    search = GridSearchCV(KernelRegressor(net=net), grid, cv=folds).fit(x, y)
    quick = GridSearchCV(KernelRegressor(net="precomputed"), grid, cv=folds).fit(matrix, y)
    assert search.best_params_ == quick.best_params_
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][1], np.mean(by_hand), rtol=1e-9)
    np.testing.assert_allclose(search.predict(x[1:4]), quick.predict(matrix[1:4]), rtol=1e-5)


def test_leave_one_out_is_scikit_learns():
    x, y = signals()
    model = KernelRegressor(net=MLP, ridge=0.05).fit(x, y)
    predicted = cross_val_predict(KernelRegressor(net=MLP, ridge=0.05), x, y, cv=len(y))
    assert model.loo_error_ == pytest.approx(np.sqrt(np.mean((predicted - y) ** 2)), rel=1e-6)


def test_networks_as_hyperparameters():
    x, y = signals()
    other = serial(Flatten(), Dense(b_std=0.1), Relu(), Dense())
    grid = {"net": [MLP, other], "kernel": ["ntk", "nngp"]}
    search = GridSearchCV(KernelRegressor(ridge=0.05), grid, cv=3).fit(x, y)
    assert search.best_params_["net"] in (MLP, other)
    scores = search.cv_results_["mean_test_score"]
    assert len(np.unique(scores.round(9))) == 4


def test_default_network_in_a_pipeline():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)) * [1, 10, 100] + [5, 0, -7]
    y = np.sin(x[:, 0]) + x[:, 1] / 10
    model = make_pipeline(StandardScaler(), KernelRegressor()).fit(x[:30], y[:30])
    assert model.score(x[30:], y[30:]) > 0.8
    regressor: Any = model[-1]
    assert regressor.n_features_in_ == 3
    named: Any = KernelRegressor(net=default_network(), ridge=regressor.ridge_)
    scaled = model[0].transform(x)
    named.fit(scaled[:30], y[:30])
    np.testing.assert_allclose(named.predict(scaled[30:]), model.predict(x[30:]), rtol=1e-9)
    assert named.n_features_in_ == 3
    with pytest.raises(ValueError, match="2 features"):
        named.predict(x[:, :2])


def test_copies_and_text():
    x, y = signals()
    model = KernelRegressor(net=MLP, kernel="nngp", ridge=0.1).fit(x, y)
    expected = model.predict(x, return_std=True)
    cloned: Any = clone(model)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x, return_std=True), expected)
    np.testing.assert_array_equal(cloned.fit(x, y).predict(x, return_std=True), expected)
    assert "kernel='nngp'" in repr(model)
    assert repr(KernelRegressor()) == "KernelRegressor()"
