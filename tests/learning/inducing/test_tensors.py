"""Vectors and tensors from inducing parts: the dense limit, refits, rotations, streams and files, and bad input."""

import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import (
    Dense,
    IrrepPool,
    Lift,
    Products,
    SphereSignal,
    TensorKernelRegressor,
    random_rotations,
    rotate,
    serial,
)
from so3ntk.errors import ModelFileError
from so3ntk.learning.inducing import parts, whitening
from so3ntk.learning.inducing.tensors import induces_all
from so3ntk.molecules import AtomSum, Environments
from tests.oracles.harmonics import white_signals
from tests.saved_files import rewritten

SIZES = (2, 5, 1, 3, 4, 2, 2, 3, 4, 3, 2, 3)
RNG = np.random.default_rng(0)
VECTORS, ROOTS = RNG.normal(size=(len(SIZES), 3)), RNG.normal(size=(len(SIZES), 3, 3))
TARGETS = {"vectors": VECTORS, "tensors": ROOTS + ROOTS.swapaxes(1, 2) + 5 * np.eye(3)}
SIGNAL = SphereSignal(jnp.asarray(white_signals(sum(SIZES), 3, 3, seed=1)), 3)
X = Environments(SIGNAL, np.repeat(np.arange(len(SIZES)), SIZES), RNG.choice([1, 6, 8], sum(SIZES)))
NET = serial(Lift(b_std=0.7, group="O3"), Products((0, 0, 1)), IrrepPool(1), Dense(), AtomSum(match_species=True))


def sparse(target, **options):
    return TensorKernelRegressor(NET, **{"ridge": 0.1, "inducing": 7, **options}).fit(X, TARGETS[target])


@pytest.mark.parametrize("target", TARGETS)
def test_all_atoms_inducing_are_the_dense_regression(target, monkeypatch):
    monkeypatch.setattr(whitening, "JITTER", 1e-13)  # a jitter of 1e-6 changes predictions by about as much
    ours, dense = sparse(target, inducing=sum(SIZES)), sparse(target, inducing="all")
    assert not hasattr(ours, "X_fit_")
    assert len(ours.inducing_) == sum(SIZES)
    for one, other in zip(ours.predict(X[:5], True), dense.predict(X[:5], True), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_allclose(ours.loo_residuals_, dense.loo_residuals_, atol=1e-9)
    for degree, part in ours.parts_.items():
        np.testing.assert_allclose(part.fit.amplitude, dense.parts_[degree].fit.amplitude, rtol=1e-9)
        np.testing.assert_allclose(part.fit.intercept, dense.parts_[degree].fit.intercept, atol=1e-9)


def test_leave_one_out_is_a_refit():
    """Of molecules, not of components; with fewer functions than rows."""
    target, left = "tensors", 7
    whole = sparse(target)
    rows = np.delete(np.arange(len(SIZES)), left)
    again = TensorKernelRegressor(NET, ridge=0.1, inducing=whole.inducing_).fit(X[rows], TARGETS[target][rows])
    missed = TARGETS[target][left] - again.predict(X[[left]])[0]
    np.testing.assert_allclose(whole.loo_residuals_[left], missed, atol=1e-9)


@pytest.mark.filterwarnings("ignore::so3ntk.RidgePathWarning")
def test_the_ridge_is_that_of_the_smallest_error():
    tried = {ridge: sparse("vectors", ridge=ridge).loo_error_[1] for ridge in (1e-3, 1e3)}
    chosen = sparse("vectors", ridge=None, ridge_path=list(tried))
    assert chosen.ridge_[1] == min(tried, key=lambda ridge: tried[ridge])
    np.testing.assert_allclose(chosen.loo_error_[1], min(tried.values()), rtol=1e-9)


@pytest.mark.parametrize("target", TARGETS)
def test_predictions_turn_with_the_molecules(target):
    """To rounding: nothing is sampled. And a mirror image has the mirrored vector."""
    turn = random_rotations(1, seed=2).as_matrix()[0]
    model = sparse(target)
    plain, turned = model.predict(X), model.predict(Environments(rotate(SIGNAL, turn), X.molecule, X.numbers))
    expected = plain @ turn.T if target == "vectors" else turn @ plain @ turn.T
    np.testing.assert_allclose(turned, expected, atol=1e-12 * np.abs(plain).max())
    signs = np.array([1.0, -1, -1, -1, 1, 1, 1, 1, 1])[:, None]
    mirrored = Environments(SphereSignal(SIGNAL.coefficients * signs, 3), X.molecule, X.numbers)
    sign = -1 if target == "vectors" else 1
    np.testing.assert_allclose(model.predict(mirrored), sign * plain, atol=1e-12 * np.abs(plain).max())
    assert np.abs(plain).max() > 0.1


class Stream:
    """Batches for slices and indices, and nothing else."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index]


def test_streams(monkeypatch):
    whole = sparse("vectors")
    expected = whole.predict(X, return_std=True)
    monkeypatch.setattr(parts, "BLOCK", 5)
    model = TensorKernelRegressor(NET, ridge=0.1, inducing=7).fit(Stream(), VECTORS)
    for one, other in zip(model.predict(Stream(), return_std=True), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_allclose(model.predict(Stream()), expected[0], atol=1e-9)


def test_without_a_number(monkeypatch):
    """All where kernels are inner products and fit the memory."""
    few = TensorKernelRegressor(NET, inducing=None, memory="32KiB")
    assert not induces_all(few, NET, X, 3)
    assert induces_all(few.set_params(memory="2GiB"), NET, X, 3)
    cubes = serial(Lift(), Products((0, 0, 0, 1)), IrrepPool(1))
    assert not induces_all(few, cubes, SIGNAL, 3)
    assert induces_all(few.set_params(inducing="all"), cubes, SIGNAL, 3)


def test_files(tmp_path):
    model = sparse("tensors")
    so3ntk.save(model, tmp_path / "model")
    again = so3ntk.load(tmp_path / "model", check=True)
    for one, other in zip(again.predict(X, True), model.predict(X, True), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.loo_residuals_, model.loo_residuals_)
    rewritten(tmp_path / "model", lambda document, arrays: arrays.update({"model.parts.2.dual_coef": np.ones((2, 5))}))
    with pytest.raises(ModelFileError, match="not as many"):
        so3ntk.load(tmp_path / "model")
    so3ntk.save(model, tmp_path / "model", spectrum=False)
    again = so3ntk.load(tmp_path / "model", check=True)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="left out of the saved file"):
        again.predict(X, return_std=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"inducing": 0}, "expected inducing to be a number of parts"),
        ({"inducing": 35}, "more than the 34 atoms of the 12 training inputs"),
        ({"selection": "best"}, "TensorKernelRegressor: expected selection"),
        ({"inducing": 5, "ridge": 0}, "TensorKernelRegressor: expected ridge > 0"),
        ({"inducing": 5, "net": "precomputed"}, "no parts that could induce"),
    ],
)
def test_refused(parameters, message):
    model = TensorKernelRegressor(**{"net": NET, **parameters})
    with pytest.raises(ValueError, match=message):
        model.fit(X, VECTORS)


def test_targets_of_others():
    with pytest.raises(ValueError, match="2 targets, but 12 inputs"):
        TensorKernelRegressor(NET, inducing=5).fit(X, VECTORS[:2])
