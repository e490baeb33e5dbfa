"""Inducing atoms of real environments: streams of molecules, models in files, costs stated beforehand."""

import numpy as np
import pytest

ase = pytest.importorskip("ase")

import so3ntk  # noqa: E402
from so3ntk import InducingClassifier, InducingRegressor  # noqa: E402
from so3ntk.learning.inducing import parts  # noqa: E402
from so3ntk.molecules import LazyEnvironments, Shells, environments  # noqa: E402
from so3ntk.molecules.energies import energy_network, mlp_network  # noqa: E402
from tests.molecules.springs import springs, waters  # noqa: E402

SETTINGS = {"species": ("H", "O"), "radial": Shells(4), "bandlimit": 2, "dtype": "float64"}


@pytest.fixture(scope="module")
def problem():
    atoms = waters(14, seed=0, amplitude=0.05)
    return atoms, environments(atoms, **SETTINGS), springs(atoms)[0]


def test_a_stream_of_molecules_is_the_batch(problem, monkeypatch):
    monkeypatch.setattr(parts, "BLOCK", 5)
    atoms, x, y = problem
    monkeypatch.setattr(so3ntk.molecules.lazy, "BLOCK", 5)
    lazy = LazyEnvironments(atoms, **SETTINGS)
    assert len(lazy) == 14
    assert lazy.shape == (14,)
    for index in (slice(3, 6), slice(1, 13), [4, 0], np.arange(14) % 3 == 0, 2):
        np.testing.assert_array_equal(lazy[index].signal.coefficients, x[index].signal.coefficients)
    for inducing in (12, None):
        whole = InducingRegressor(energy_network(), inducing=inducing).fit(x[:12], y[:12])
        streamed = InducingRegressor(energy_network(), inducing=inducing)
        streamed.fit(LazyEnvironments(atoms[:12], **SETTINGS), y[:12])
        np.testing.assert_array_equal(streamed.predict(lazy), whole.predict(x))


def test_streams_that_are_none(problem):
    atoms, *_ = problem
    with pytest.raises(TypeError, match=r"a list of ase\.Atoms, got Atoms"):
        LazyEnvironments(atoms[0])
    with pytest.raises(TypeError, match="powerz"):
        LazyEnvironments(atoms, powerz=(1,))
    with pytest.raises(ValueError, match="at least one molecule"):
        LazyEnvironments([])
    with pytest.raises(IndexError):
        LazyEnvironments(atoms, **SETTINGS)[99]


def test_a_saved_model_predicts_the_same(problem, tmp_path):
    _, x, y = problem
    labels = np.where(y > np.median(y), "high", "low")
    models = {
        "so3": InducingRegressor(energy_network(), inducing=9, store=tmp_path / "run").fit(x, np.stack([y, y**2], 1)),
        "mlp": InducingRegressor(mlp_network(), inducing=x[:3], fit_intercept=False, baseline=None).fit(x, y),
        "labels": InducingClassifier(energy_network(), inducing=9).fit(x, labels),
    }
    so3ntk.save(models, tmp_path / "models.npz")
    again = so3ntk.load(tmp_path / "models.npz", check=True)
    for name, model in models.items():
        np.testing.assert_array_equal(again[name].predict(x), model.predict(x))
    for ours, theirs in zip(again["so3"].predict(x[:4], True), models["so3"].predict(x[:4], True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    so3ntk.save(models["mlp"], tmp_path / "small.npz", spectrum=False)
    small = so3ntk.load(tmp_path / "small.npz")
    np.testing.assert_array_equal(small.predict(x), models["mlp"].predict(x))
    with pytest.raises(ValueError, match="left out of the saved file"):
        small.predict(x, return_std=True)


def test_what_features_will_cost(problem):
    _, x, _ = problem
    found = so3ntk.estimate(energy_network(), x, inducing=21, seconds=0.01)
    oxygen, hydrogen = 14, 28
    assert found.pairs == oxygen * 7 + hydrogen * 14
    for wrong in (0, 99, "many"):
        with pytest.raises(ValueError, match="inducing, in place of x2, to be from 1 to the 42 parts of x1"):
            so3ntk.estimate(energy_network(), x, inducing=wrong)
    with pytest.raises(ValueError, match="beside x2"):
        so3ntk.estimate(energy_network(), x, x, inducing=5)
