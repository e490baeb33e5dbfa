"""All training inputs induce: dense regression beside columns without a penalty."""

import numpy as np
import pytest

import so3ntk
from so3ntk import (
    Dense,
    GroupPool,
    InducingClassifier,
    InducingRegressor,
    KernelClassifier,
    KernelRegressor,
    Lift,
    Products,
    gram,
    kernel_diagonal,
    serial,
)
from so3ntk.learning.inducing.dense import DensePosterior
from so3ntk.learning.inducing.estimator import takes_all
from so3ntk.molecules import AtomSum
from tests.regression_cases import INVARIANT, MLP, MOLECULAR, molecules, signals

SQUARES = serial(Lift(b_std=0.5), Products((0, 0, 1)), GroupPool(), Dense(), AtomSum(match_species=True))
SIZES = (1, 3, 2, 4, 3, 2, 5, 1, 3, 4, 2, 4)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("net", [SQUARES, MOLECULAR], ids=["features", "pairs"])
def test_it_is_the_dense_regression(net, intercept, outputs):
    x, y = molecules(SIZES)
    y = y if outputs is None else np.stack([y, y**2 + 3], axis=1)
    ours = InducingRegressor(net, inducing="all", ridge=0.1, fit_intercept=intercept, baseline=None).fit(x, y)
    dense = KernelRegressor(net, ridge=0.1, fit_intercept=intercept).fit(x, y)
    for one, other in zip(ours.predict(x[:5], True), dense.predict(x[:5], True), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    np.testing.assert_allclose(ours.dual_coef_, dense.dual_coef_, rtol=1e-8, atol=1e-10 * np.abs(y).max())
    np.testing.assert_allclose(ours.loo_error_, dense.loo_error_, rtol=1e-9)
    np.testing.assert_allclose(ours.amplitude_, dense.amplitude_, rtol=1e-9)
    np.testing.assert_allclose(ours.intercept_, dense.intercept_, rtol=1e-8, atol=1e-10)
    free = [model.set_params(ridge=None).fit(x, y).ridge_ for model in (ours, dense)]
    np.testing.assert_allclose(*free)


def test_columns_are_the_limit_of_a_wide_prior():
    """A Gaussian process whose columns have the prior variance 1e7, by the textbook's formulas."""
    x, y = molecules(SIZES)
    train, new, ridge = x[:9], x[9:], 0.3
    model = InducingRegressor(SQUARES, inducing="all", ridge=ridge).fit(train, y[:9])
    columns = [np.column_stack([np.ones(len(b)), AtomSum().composition(b).counts]) for b in (train, new)]
    kernel = gram(SQUARES, train, progress=False) + 1e7 * columns[0] @ columns[0].T + ridge * np.eye(9)
    cross = gram(SQUARES, new, train, progress=False) + 1e7 * columns[1] @ columns[0].T
    prior = kernel_diagonal(SQUARES, new) + 1e7 * np.einsum("ij,ij->i", columns[1], columns[1])
    mean, deviation = model.predict(new, return_std=True)
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(kernel, y[:9]), rtol=1e-4)
    variance = prior - np.einsum("ij,ji->i", cross, np.linalg.solve(kernel, cross.T))
    np.testing.assert_allclose(deviation / model.amplitude_, np.sqrt(variance), rtol=1e-4)


def test_leave_one_out_is_that_of_refits():
    x, y = molecules(SIZES)
    model = InducingRegressor(SQUARES, inducing="all", ridge=0.2).fit(x, y)
    errors = []
    for row in range(len(x)):
        rest = np.delete(np.arange(len(x)), row)
        other = InducingRegressor(SQUARES, inducing="all", ridge=0.2).fit(x[rest], y[rest])
        errors.append(float(other.predict(x[[row]])[0]) - y[row])
    np.testing.assert_allclose(model.loo_error_, np.sqrt(np.mean(np.square(errors))), rtol=1e-8)


def test_total_energies_lose_no_digits():
    """Composition of 1e5 times what the kernel is to learn, with the smallest ridges of the path."""
    x, y = molecules(SIZES)
    counts = AtomSum().composition(x).counts
    model = InducingRegressor(SQUARES, inducing="all", ridge=1e-6)
    small, large = (model.fit(x, y + shift).predict(x) for shift in (0, counts @ [-1.3e5, -1.0e6, -2.0e6] + 7e4))
    np.testing.assert_allclose(large - counts @ [-1.3e5, -1.0e6, -2.0e6] - 7e4, small, atol=1e-6 * np.ptp(y))


def test_without_a_number_inner_products_are_dense(tmp_path):
    """They cost little; pairs, stores, and more inputs than the memory takes have inducing parts."""
    x, y = molecules(SIZES)
    model = InducingRegressor(SQUARES, ridge=0.1)
    assert isinstance(model.fit(x, y).posterior_, DensePosterior)
    assert model.whitening_ is None
    assert len(model.inducing_) == len(x) == len(model.dual_coef_)
    few = InducingRegressor(SQUARES, ridge=0.1, store=tmp_path / "features").fit(x, y)
    assert few.whitening_ is not None
    assert InducingRegressor(MOLECULAR, ridge=0.1).fit(x, y).whitening_ is not None
    assert takes_all(model, x)
    assert not takes_all(model.set_params(memory=6000), x)


def test_directions_that_errors_make_negative_are_left_out():
    """A coarse grid's kernel has eigenvalues below zero, at which a small ridge would have a pole."""
    x, y = signals(20)
    values = np.linalg.eigvalsh(gram(INVARIANT, x, progress=False))
    assert values[0] < 0
    model = InducingRegressor(INVARIANT, inducing="all", ridge=-float(values[0])).fit(x, y)
    assert len(model.posterior_.singular) < len(x) - 1
    assert model.loo_error_ < 2 * np.std(y)


def test_classes():
    x, y = signals(20)
    labels = np.where(y > np.median(y), "high", "low")
    ours = InducingClassifier(MLP, inducing="all", ridge=0.1).fit(x, labels)
    dense = KernelClassifier(MLP, ridge=0.1).fit(x, labels)
    np.testing.assert_allclose(ours.decision_function(x), dense.decision_function(x), rtol=1e-8)
    assert ours.loo_accuracy_ == dense.loo_accuracy_


def test_files(tmp_path):
    x, y = molecules(SIZES)
    model = InducingRegressor(SQUARES).fit(x, y)
    so3ntk.save(model, tmp_path / "model.npz")
    loaded = so3ntk.load(tmp_path / "model.npz")
    for ours, theirs in zip(loaded.predict(x, True), model.predict(x, True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_wrong_arguments(tmp_path):
    x, y = signals(8)
    with pytest.raises(
        ValueError, match=r'a number of parts, at least 1, "all", a batch of inputs or None, got \'every\''
    ):
        InducingRegressor(MLP, inducing="every").fit(x, y)
    with pytest.raises(
        ValueError, match=r'inducing="all" computes the kernel at once, of which store= would keep nothing'
    ):
        InducingRegressor(MLP, inducing="all", store=tmp_path).fit(x, y)
