"""KernelClassifier: scikit-learn's conformance, KernelRegressor on centred targets, refits, relabelling, inputs."""

import pickle
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from so3ntk import Dense, Flatten, KernelClassifier, KernelRegressor, Relu, SphereSignal, gram, serial
from so3ntk.engine.layers.source import Source
from so3ntk.errors import NotPositiveDefiniteError, PrecisionError, RidgePathWarning
from tests.regression_cases import BY_LEFT_OUT_ROWS, MLP, problem, signals


@pytest.mark.filterwarnings("ignore::so3ntk.errors.RidgePathWarning")
@pytest.mark.usefixtures("wrong_arguments")  # which scikit-learn passes
@parametrize_with_checks(
    [KernelClassifier(net="precomputed"), KernelClassifier()], expected_failed_checks=lambda model: BY_LEFT_OUT_ROWS
)
def test_scikit_learn(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------- the closed form


def cases(k, n=14, seed=0):
    """A kernel, labels of k classes that it explains in part, each class at least twice, and cross kernels."""
    kernel, y, cross, _ = problem(n, seed=seed)
    ranks = np.argsort(np.argsort(y))
    return kernel, np.array(["ape", "bee", "cat", "dog"])[ranks * k // n], cross


def one_hot(labels):
    classes = np.unique(labels)
    return np.array([[(label == c) - 1 / len(classes) for c in classes] for label in labels])


@pytest.mark.parametrize("ridge", [None, 1e-2])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_it_is_regression_on_centred_one_hot_targets(k, ridge):
    kernel, labels, cross = cases(k)
    model = KernelClassifier(net="precomputed", ridge=ridge).fit(kernel, labels)
    other: Any = KernelRegressor(net="precomputed", ridge=ridge).fit(kernel, one_hot(labels))
    outputs = other.predict(cross)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    assert (model.ridge_, model.loo_error_) == (other.ridge_, other.loo_error_)
    np.testing.assert_array_equal(model.ridge_path_, other.ridge_path_)
    np.testing.assert_array_equal(model.loo_path_, other.loo_path_)
    scores = model.decision_function(cross)
    assert scores.shape == ((5,) if k == 2 else (5, k))
    np.testing.assert_allclose(scores, outputs[:, 1] if k == 2 else outputs, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(cross), model.classes_[outputs.argmax(axis=1)])
    np.testing.assert_allclose(outputs.sum(axis=1), 0, atol=1e-12)  # so that one column says all for two classes
    assert model.score(cross, model.predict(cross)) == 1


@pytest.mark.parametrize("ridge", [None, 1e-3, 0.3])
@pytest.mark.parametrize("k", [2, 4])
def test_leave_one_out_is_that_of_refits(k, ridge):
    kernel, labels, _ = cases(k)
    model = KernelClassifier(net="precomputed", ridge=ridge).fit(kernel, labels)
    right, squares = [], []
    for i in range(len(labels)):
        rest = np.delete(np.arange(len(labels)), i)
        refit = KernelClassifier(net="precomputed", ridge=model.ridge_).fit(kernel[np.ix_(rest, rest)], labels[rest])
        right.append(refit.predict(kernel[i : i + 1, rest])[0] == labels[i])
        outputs = kernel[i, rest] @ refit.dual_coef_ + refit.intercept_
        squares.append((outputs - one_hot(labels)[i]) ** 2)
    assert 0 < np.mean(right) < 1  # neither end would tell left out from fitted
    assert model.loo_accuracy_ == pytest.approx(np.mean(right), abs=1e-15)
    assert model.loo_error_ == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-8)
    assert model.loo_accuracy_ < model.score(kernel, labels)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_permuted_labels_permute_the_predictions(k):
    kernel, labels, cross = cases(k)
    model = KernelClassifier(net="precomputed").fit(kernel, labels)
    other_names = dict(zip(model.classes_, np.roll(model.classes_, 1), strict=True))
    renamed = np.array([other_names[label] for label in labels])
    other = KernelClassifier(net="precomputed").fit(kernel, renamed)
    expected = [other_names[label] for label in model.predict(cross)]
    np.testing.assert_array_equal(other.predict(cross), expected)
    assert other.loo_accuracy_ == model.loo_accuracy_
    assert len(set(expected)) > 1
    numbered = KernelClassifier(net="precomputed").fit(kernel, np.searchsorted(model.classes_, labels) - 7)
    np.testing.assert_array_equal(model.classes_[numbered.predict(cross) + 7], model.predict(cross))


def test_an_intercept_absorbs_constants():
    kernel, labels, cross = cases(3)
    model = KernelClassifier(net="precomputed", ridge=1e-2).fit(kernel, labels)
    # K - 5 is indefinite, but only along the constant vector.
    shifted = KernelClassifier(net="precomputed", ridge=1e-2).fit(kernel - 5, labels)
    np.testing.assert_allclose(shifted.decision_function(cross - 5), model.decision_function(cross), atol=1e-11)


@pytest.mark.parametrize("k", [2, 4])  # 1/k is exact
def test_equal_outputs_give_the_first_class(k):
    labels = np.arange(3 * k) % k
    model = KernelClassifier(net="precomputed").fit(np.zeros((3 * k, 3 * k)), labels)
    np.testing.assert_array_equal(model.decision_function(np.zeros((2, 3 * k))), 0)
    np.testing.assert_array_equal(model.predict(np.zeros((2, 3 * k))), 0)


# ---------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 6, r"KernelClassifier: .*at least two classes, got the one class .*'a'"),
        ([0, 1, 0, 1, 0], r"KernelClassifier: expected a label for each of the 6 inputs, got y of shape \(5,\)"),
        (np.linspace(0, 1, 6), "Unknown label type: continuous"),
        ([0, 1, 0, 1, 0, np.nan], "Input y contains NaN"),
        (np.eye(6), r"1d array, got an array of shape \(6, 6\)"),
        (None, "requires y"),
        ([0, 1, None, 1, 0, 1], "Unknown label type"),
    ],
)
def test_wrong_labels(labels, message):
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match=message):
        KernelClassifier().fit(x, labels)


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [
        ([0, "b", 0, 1, "b", 1], r"numbers \(0\) and text \('b'\)"),
        (np.array(["a", 2.5, "a", 1, 1, 1], object), r"text \('a'\) and numbers \(2.5\)"),
        ((b"a", "a", "b", "b", "a", "a"), r"bytes \(b'a'\) and text \('a'\)"),
    ],
)
def test_labels_of_several_kinds(labels, kinds):
    """NumPy would make text of the numbers, and predictions would be no labels; the remedy does so on purpose."""
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(
        TypeError, match=rf"KernelClassifier: expected the labels y to be all of one kind, got {kinds}.*str\("
    ):
        KernelClassifier().fit(x, labels)
    renamed = [str(label) for label in labels]
    assert set(KernelClassifier(ridge=0.1).fit(x, renamed).classes_) == set(renamed)
    for fine in (np.array(["a", "b"] * 3, object), [True, False] * 3, [1, 2.0] * 3):
        assert len(KernelClassifier(ridge=0.1).fit(x, fine).classes_) == 2


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"progress": "no"}, TypeError, "KernelClassifier: expected progress to be True or False, got 'no'"),
        ({"ridge_path": "auto", "ridge": 0.1}, ValueError, "KernelClassifier: expected ridge_path"),
        ({"net": "mlp"}, TypeError, "KernelClassifier: expected net to be None, a Network"),
        ({"kernel": "NTK"}, ValueError, 'KernelClassifier: .*"ntk" or "nngp"'),
        ({"ridge": -1e-3}, ValueError, "KernelClassifier: expected ridge .* got -0.001"),
        ({"ridge_path": []}, ValueError, "KernelClassifier: expected ridge_path"),
        ({"memory": "lots"}, ValueError, "memory"),
        ({"net": "precomputed"}, ValueError, r"KernelClassifier: expected a square kernel .*\(6, 2\)"),
    ],
)
def test_wrong_parameters(parameters, error, message):
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(error, match=message):
        KernelClassifier(**parameters).fit(x, [0, 1, 0, 1, 0, 1])


def test_wrong_inputs():
    kernel, labels, cross = cases(3)
    model = KernelClassifier(net="precomputed")
    with pytest.raises(NotFittedError):
        model.predict(cross)
    model.fit(kernel, labels)
    with pytest.raises(ValueError, match="14 features"):
        model.predict(cross[:, :9])
    with pytest.raises(ValueError, match=r"KernelClassifier: .*first K\[0, 0\] = nan"):
        model.decision_function(np.nan * cross)
    with pytest.raises(NotPositiveDefiniteError, match="KernelClassifier: K"):
        KernelClassifier(net="precomputed", ridge=0.0).fit(np.ones((14, 14)), labels)
    with pytest.raises(PrecisionError, match=r"kernel: the NTK of input 0 .*too large or too small"):
        KernelClassifier(net=MLP).fit(np.full((3, 2), 1e200), [0, 1, 1])
    with pytest.raises(TypeError, match="KernelClassifier: expected a batch of inputs"):
        KernelClassifier(net=MLP).fit(3, labels)
    with pytest.raises(ValueError, match=r"dim 4"):
        KernelClassifier().fit(np.ones((2, 3, 3, 1)), [0, 1])
    assert not hasattr(model, "predict_proba")


def test_warnings_point_at_the_caller():
    kernel, labels, _ = cases(2)
    unrelated = np.random.default_rng(0).permutation(labels)
    with pytest.warns(RidgePathWarning, match=r"KernelClassifier: .*largest of the path") as caught:
        KernelClassifier(net="precomputed", ridge_path=[1e-4, 1e-3]).fit(kernel, unrelated)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = KernelClassifier(net="precomputed").fit(kernel, labels[:, None])
    assert model.predict(kernel).shape == labels.shape


# --------------------------------------------------------------------------- networks and their inputs


def labelled_signals(n=18, seed=0):
    x, y = signals(n, seed=seed)
    return x, np.array(["low", "middle", "top"])[np.argsort(np.argsort(y)) * 3 // n]


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_networks_are_their_precomputed_kernels(kernel):
    x, y = labelled_signals()
    train, test = np.arange(0, 18, 2), np.arange(1, 18, 2)
    model = KernelClassifier(net=MLP, kernel=kernel, ridge=0.05).fit(x[train], y[train])
    matrix = gram(MLP, x, get=kernel, progress=False)
    other = KernelClassifier(net="precomputed", ridge=0.05).fit(matrix[np.ix_(train, train)], y[train])
    cross = matrix[np.ix_(test, train)]
    # Entries of a matrix and of its blocks differ by rounding where a kinked NTK is steep: by sqrt(eps).
    np.testing.assert_allclose(model.decision_function(x[test]), other.decision_function(cross), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(model.predict(x[test]), other.predict(cross))
    assert model.decision_function(x[:0]).shape == (0, 3)
    assert model.predict(x[:0]).shape == (0,)


def test_single_precision_signals_are_solved_in_double():
    x, y = labelled_signals()
    model = KernelClassifier(net=MLP, ridge=0.05).fit(SphereSignal(x.coefficients.astype(np.float32), 2), y)
    assert model.dual_coef_.dtype == np.float64
    np.testing.assert_array_equal(model.predict(x), KernelClassifier(net=MLP, ridge=0.05).fit(x, y).predict(x))


class Pixels(Source):
    """Images (n, h, w, c) as vectors: a first layer that reads arrays of four axes and nothing else."""

    def arrays(self, x):
        assert isinstance(x, np.ndarray)
        assert x.shape[1:] == (3, 3, 2)
        assert x.dtype == np.float32
        return jnp.asarray(x).reshape(len(x), -1)

    def begin(self, pair):
        return Flatten().begin(pair)


def test_images_reach_the_network_untouched():
    images = np.random.default_rng(0).random((12, 3, 3, 2), dtype=np.float32)
    labels = np.arange(12) % 3
    layers = (Dense(b_std=0.5), Relu(), Dense())
    model = KernelClassifier(net=serial(Pixels(), *layers), ridge=0.1).fit(images, labels)
    assert model.X_fit_ is images
    vectors = KernelClassifier(net=serial(Flatten(), *layers), ridge=0.1).fit(images.reshape(12, -1), labels)
    expected = vectors.decision_function(images.reshape(12, -1))
    np.testing.assert_allclose(model.decision_function(images), expected, rtol=0, atol=1e-6)
    assert cross_val_score(model, images, labels, cv=2).shape == (2,)


def test_cross_validation():
    x, y = labelled_signals()
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    by_hand = []
    for train, test in folds.split(np.zeros(len(y)), y):
        model = KernelClassifier(net=MLP, ridge=0.05).fit(x[train], y[train])
        by_hand.append(accuracy_score(y[test], model.predict(x[test])))
    np.testing.assert_array_equal(cross_val_score(KernelClassifier(net=MLP, ridge=0.05), x, y, cv=folds), by_hand)
    matrix = gram(MLP, x, progress=False)
    quick = KernelClassifier(net="precomputed", ridge=0.05)
    np.testing.assert_array_equal(cross_val_score(quick, matrix, y, cv=folds), by_hand)
    left_out = cross_val_predict(quick, matrix, y, cv=KFold(18))
    assert quick.fit(matrix, y).loo_accuracy_ == pytest.approx(np.mean(left_out == y), abs=1e-15)
    grid = {"ridge": [1e-3, 0.05, 10.0]}
    search = GridSearchCV(KernelClassifier(net="precomputed"), grid, cv=folds).fit(matrix, y)
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(np.mean(by_hand))


def test_flowers():
    flowers: Any = load_iris()
    names = flowers.target_names[flowers.target]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the ridge lies inside the default path
        model = make_pipeline(StandardScaler(), KernelClassifier()).fit(flowers.data, names)
    classifier: Any = model[-1]
    assert classifier.n_features_in_ == 4
    assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert 0.93 < classifier.loo_accuracy_ < 1  # kernel machines leave 4 or 5 of 150 wrong


def test_copies_and_text():
    x, y = labelled_signals()
    model = KernelClassifier(net=MLP, kernel="nngp", ridge=0.1).fit(x, y)
    expected = model.decision_function(x)
    cloned: Any = clone(model)
    assert not hasattr(cloned, "classes_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).decision_function(x), expected)
    np.testing.assert_array_equal(cloned.fit(x, y).decision_function(x), expected)
    assert "kernel='nngp'" in repr(model)
    assert repr(KernelClassifier()) == "KernelClassifier()"
