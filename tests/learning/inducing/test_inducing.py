"""The estimators with inducing inputs: their dense limit, parts, streams, stores, files, and bad input."""

import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import planar
import so3ntk
from so3ntk import (
    Dense,
    GroupPool,
    InducingClassifier,
    InducingRegressor,
    IrrepPool,
    KernelClassifier,
    KernelRegressor,
    Lift,
    Relu,
    gram,
    serial,
)
from so3ntk.errors import RidgePathWarning, StoreMismatchError
from so3ntk.learning.inducing import parts, whitening
from so3ntk.learning.inducing.estimator import default_count
from so3ntk.molecules import AtomSum, Environments
from tests.regression_cases import BY_LEFT_OUT_ROWS, INVARIANT, MLP, MOLECULAR, molecules, signals


@pytest.mark.filterwarnings("ignore::so3ntk.errors.RidgePathWarning")
@pytest.mark.usefixtures("wrong_arguments")  # which scikit-learn passes
@parametrize_with_checks([InducingRegressor(), InducingClassifier()], expected_failed_checks=lambda _: BY_LEFT_OUT_ROWS)
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture
def _exact(monkeypatch):
    """Without the jitter, which changes predictions by about as much, 1e-6."""
    monkeypatch.setattr(whitening, "JITTER", 1e-13)


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("outputs", [None, 2])
def test_all_inputs_inducing_are_the_dense_regression(intercept, outputs):
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(25, 3)), rng.normal(size=(6, 3))
    y = x[:, 0] ** 2 + 5 if outputs is None else np.stack([x[:, 0] ** 2, x[:, 1] + 3], axis=1)
    sparse = InducingRegressor(ridge=0.05, inducing=25, fit_intercept=intercept).fit(x, y)
    dense = KernelRegressor(ridge=0.05, fit_intercept=intercept).fit(x, y)
    for ours, theirs in zip(sparse.predict(new, True), dense.predict(new, True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    np.testing.assert_allclose(sparse.loo_error_, dense.loo_error_, rtol=1e-6)
    np.testing.assert_allclose(sparse.amplitude_, dense.amplitude_, rtol=1e-6)
    assert sparse.inducing_.shape == (25, 3)
    assert np.shape(sparse.intercept_) == np.shape(dense.intercept_)


@pytest.mark.usefixtures("_exact")
def test_all_atoms_inducing_are_the_dense_regression():
    """A sum over atoms of equal elements, with a layer after it: K of molecules is in the span of their atoms' k."""
    x, y = molecules((1, 3, 2, 4, 3, 2, 5, 1, 3, 4, 2))
    net = serial(*MOLECULAR.layers[:-1])
    sparse = InducingRegressor(net, inducing=len(x.numbers), ridge=0.1, baseline=None).fit(x, y)
    dense = KernelRegressor(net, ridge=0.1).fit(x, y)
    for ours, theirs in zip(sparse.predict(x[:4], True), dense.predict(x[:4], True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    np.testing.assert_allclose(sparse.loo_error_, dense.loo_error_, rtol=1e-6)


def test_composition_is_in_the_same_fit():
    """Targets that are a sum over elements leave nothing, whatever the ridge, and the leave-one-out error says so."""
    x, _ = molecules((1, 3, 2, 4, 3, 2, 5, 1, 3, 4, 2, 4))
    counts = AtomSum().composition(x)
    assert counts.labels == ("H", "C", "O")
    assert counts.counts.sum() == len(x.numbers)
    y = counts.counts @ [-13.6, -1030.0, -2040.0] + 7
    model = InducingRegressor(MOLECULAR, inducing=9, ridge=1e6).fit(x, y)
    np.testing.assert_allclose([model.composition_[name] for name in "HCO"], [-13.6, -1030, -2040], rtol=1e-6)
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-9)
    assert model.loo_error_ < 1e-5
    assert InducingRegressor(MOLECULAR, inducing=9, ridge=1e6, baseline=None).fit(x, y).loo_error_ > 100


def test_leave_one_out_is_that_of_refits():
    x, y = molecules((2, 3, 2, 4, 3, 2, 5, 2, 3, 4))
    model = InducingRegressor(MOLECULAR, inducing=8, ridge=0.2).fit(x, y)
    errors = []
    for row in range(len(x)):
        rest = np.delete(np.arange(len(x)), row)
        other = InducingRegressor(MOLECULAR, inducing=model.inducing_, ridge=0.2).fit(x[rest], y[rest])
        errors.append(float(other.predict(x[[row]])[0]) - y[row])
    np.testing.assert_allclose(model.loo_error_, np.sqrt(np.mean(np.square(errors))), rtol=1e-6)


def test_an_explicit_batch_induces_with_all_its_parts():
    x, y = molecules()
    model = InducingRegressor(MOLECULAR, inducing=x[2:5], ridge=0.1).fit(x, y)
    assert len(model.inducing_) == len(x[2:5].numbers) == len(model.dual_coef_)
    np.testing.assert_array_equal(model.inducing_.numbers, x[2:5].numbers)
    features = gram(MOLECULAR, x[:2], model.inducing_)
    np.testing.assert_allclose(model.features(x[:2]), features, rtol=1e-12)


@pytest.mark.parametrize("selection", ["farthest", "cholesky", "random"])
def test_every_selection_on_every_kind_of_input(selection):
    x, y = signals(10)
    for net, batch in ((INVARIANT, x), (MLP, x)):
        model = InducingRegressor(net, inducing=4, selection=selection, ridge=0.1).fit(batch, y)
        assert len(model.inducing_) == 4
        assert np.isfinite(model.predict(batch)).all()
        again = clone(model).fit(batch, y)
        np.testing.assert_array_equal(again.dual_coef_, model.dual_coef_)
        if selection == "random":
            other = clone(model).set_params(random_state=1).fit(batch, y)
            assert not np.array_equal(other.dual_coef_, model.dual_coef_)


@pytest.mark.usefixtures("_exact")
def test_images_and_cross_validation():
    images = np.random.default_rng(0).normal(size=(12, 4, 4, 1))
    labels = np.array(["dark", "light", "mixed"] * 4)
    net = serial(planar.Lift((3, 3)), Relu(), GroupPool(), Dense())
    sparse = InducingClassifier(net, inducing=12, ridge=0.1).fit(images, labels)
    dense = KernelClassifier(net, ridge=0.1).fit(images, labels)
    np.testing.assert_allclose(sparse.decision_function(images), dense.decision_function(images), rtol=1e-5, atol=1e-7)
    assert sparse.loo_accuracy_ == dense.loo_accuracy_
    assert list(sparse.classes_) == ["dark", "light", "mixed"]
    np.testing.assert_array_equal(sparse.predict(images), dense.predict(images))
    data = planar.datasets.image_data.ImageData(
        np.abs(images).astype(np.float32) / 9, np.arange(12) % 3, ("a", "b", "c")
    )
    of_data = clone(sparse).fit(data, labels).decision_function(data[:4])
    np.testing.assert_allclose(of_data, clone(sparse).fit(data.images, labels).decision_function(data.images[:4]))
    x, y = signals(12)
    assert np.isfinite(cross_val_score(InducingRegressor(MLP, inducing=4, ridge=0.1), x, y, cv=3)).all()


def test_more_noise_where_the_data_say_less():
    """Far from the inducing inputs the deviation is the prior's, and it is never below that of the dense process."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    sparse = InducingRegressor(inducing=5, ridge=0.1).fit(x, y)
    kernel = gram(so3ntk.learning.inputs.default_network(), x, x)
    features = sparse.features(x)
    explained = features @ np.linalg.solve(gram(so3ntk.learning.inputs.default_network(), sparse.inducing_), features.T)
    deviation = sparse.predict(x, True)[1] / sparse.amplitude_
    assert (deviation**2 >= np.diag(kernel) - np.diag(explained) - 1e-9).all()
    assert deviation.max() > 2 * deviation.min()


class Stream:
    """A batch that gives parts of itself, and counts how many inputs it gave at most."""

    def __init__(self, batch):
        self.batch, self.most = batch, 0

    def __len__(self):
        return len(self.batch)

    def __getitem__(self, index):
        part = self.batch[index]
        self.most = max(self.most, len(part))
        return part


def test_training_data_are_streamed(monkeypatch):
    monkeypatch.setattr(parts, "BLOCK", 3)
    x, y = molecules()
    stream = Stream(x)
    model = InducingRegressor(MOLECULAR, inducing=x[:2], ridge=0.1).fit(stream, y)
    assert stream.most == 3
    whole = InducingRegressor(MOLECULAR, inducing=x[:2], ridge=0.1).fit(x, y)
    np.testing.assert_array_equal(model.dual_coef_, whole.dual_coef_)
    np.testing.assert_array_equal(model.predict(Stream(x)), whole.predict(x))


def test_features_are_kept_and_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "BLOCK", 4)
    x, y = molecules()
    plain = InducingRegressor(MOLECULAR, inducing=8, ridge=0.1).fit(x, y)
    model = clone(plain).set_params(store=str(tmp_path / "run"))
    calls = []
    original = so3ntk.learning.inducing.estimator.gram

    def stopped(net, x1, x2, *rest, **options):
        if "store" in options:
            calls.append(options["store"].name)
            if len(calls) == 3:
                raise KeyboardInterrupt
        return original(net, x1, x2, *rest, **options)

    monkeypatch.setattr("so3ntk.learning.inducing.estimator.gram", stopped)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["features-00000000", "features-00000004"]
    model.fit(x, y)
    np.testing.assert_array_equal(model.dual_coef_, plain.dual_coef_)
    with pytest.raises(StoreMismatchError):
        model.set_params(random_state=3).fit(x, y)


def test_default_count_grows_slowly():
    assert default_count(1000) == 2000
    assert 1100 < default_count(200) < 1250
    assert 4200 < default_count(10_000) < 4400


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (
            {"net": "precomputed"},
            TypeError,
            "expected net to be None or a Network, got 'precomputed'. KernelRegressor takes",
        ),
        ({"net": serial(Lift(), IrrepPool(1))}, ValueError, "TensorKernelRegressor"),
        ({"selection": "best"}, ValueError, "selection to be one of farthest, cholesky, random, got 'best'"),
        ({"baseline": "atoms"}, ValueError, 'baseline to be "auto", "composition" or None'),
        ({"inducing": 0}, ValueError, "inducing to be a number of parts, at least 1"),
        ({"inducing": 2.5}, ValueError, "got 2.5"),
        ({"inducing": True}, ValueError, "got True"),
        ({"inducing": 99}, ValueError, "inducing=99 is more than the 24 atoms of the 9 training inputs"),
        ({"ridge": 0}, ValueError, "expected ridge > 0"),
        ({"ridge": -1}, ValueError, "finite number >= 0"),
        ({"ridge_path": [0.0]}, ValueError, "a number > 0"),
        ({"kernel": "nn"}, ValueError, 'expected kernel to be "ntk" or "nngp"'),
        ({"memory": "much"}, ValueError, "memory"),
    ],
)
def test_wrong_parameters(parameters, error, message):
    x, y = molecules()
    with pytest.raises(error, match=message):
        InducingRegressor(**({"net": MOLECULAR, "inducing": 5} | parameters)).fit(x, y)


def test_wrong_data():
    x, y = molecules()
    model = InducingRegressor(MOLECULAR, inducing=5, ridge=0.1)
    with pytest.raises(NotFittedError):
        model.predict(x)
    with pytest.raises(NotFittedError):
        InducingClassifier(MOLECULAR).predict(x)
    with pytest.raises(ValueError, match="a target for each of the 9 inputs"):
        model.fit(x, y[:4])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(x, np.where(y > 3, np.nan, y))
    with pytest.raises(ValueError, match="at least one training input"):
        model.fit(x[[]], y[:0])
    with pytest.raises(TypeError, match=re.escape("Environments.concatenate(X)")):
        model.fit([x, x], y)
    with pytest.raises(ValueError, match='baseline="composition" is for networks that end in a sum over parts'):
        InducingRegressor(MLP, inducing=5, baseline="composition").fit(*signals(8))
    strange = Environments(x.signal, x.molecule, np.where(np.arange(len(x.numbers)) == 4, 16, x.numbers))
    model.fit(x, y)
    with pytest.raises(ValueError, match=r"input 2 holds S, which no training input did \(H, C, O\)"):
        model.predict(strange)


def test_ends_of_the_path_warn():
    x, y = signals(12)
    with pytest.warns(RidgePathWarning, match="the smallest of the path: give ridge_path smaller values"):
        InducingRegressor(MLP, inducing=6, ridge_path=[0.3, 3.0]).fit(x, gram(MLP, x)[:, 0])
    model = InducingRegressor(MLP, inducing=6).fit(x, y)
    assert model.ridge_ in model.ridge_path_
    assert len(model.loo_path_) == 45
    assert model.loo_error_ == np.min(model.loo_path_)
