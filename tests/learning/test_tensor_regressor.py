"""Regression of vectors and tensors: closed forms against refits, equivariance, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    GroupPool,
    IrrepPool,
    Lift,
    ProductGrid,
    Relu,
    SphereSignal,
    TensorKernelRegressor,
    irrep_grams,
    random_rotations,
    rotate,
    serial,
)
from so3ntk.learning.tensors import assemble, components
from tests.oracles.harmonics import white_signals

NET = serial(Lift(), Erf(), IrrepPool(1), Dense(), quadrature=ProductGrid(12))
TRAIN, TEST = 12, 3
X = SphereSignal(jnp.asarray(white_signals(TRAIN + TEST, 3, 2, seed=0)), 3)
pytestmark = pytest.mark.filterwarnings("ignore::so3ntk.RidgePathWarning")


def vectors(x):
    """A vector that turns with the signal: its l = 1 part of the first channel, (x, y, z), times the norm of the second."""
    a = np.asarray(x.coefficients)
    return a[:, [3, 1, 2], 0] * np.sum(a[:, :, 1] ** 2, axis=1, keepdims=True) / 10


def tensors(x):
    v = vectors(x)
    return v[:, :, None] * v[:, None, :] + 2 * np.eye(3)


@pytest.fixture(scope="module")
def kernels():
    train = irrep_grams(NET, (0, 1, 2), X[:TRAIN])
    return train, irrep_grams(NET, (0, 1, 2), X[TRAIN:], X[:TRAIN])


def parts(kernels, degrees, rows=slice(None), columns=slice(None)):
    return {degree: kernels[degree][rows][:, columns] for degree in degrees}


@pytest.mark.parametrize(("target", "degrees"), [(vectors, (1,)), (tensors, (0, 2))])
def test_leave_one_out_is_a_refit(kernels, target, degrees):
    y = target(X[:TRAIN])
    model = TensorKernelRegressor("precomputed", ridge=1e-3).fit(parts(kernels[0], degrees), y)
    for left in (0, 7):
        rows = np.delete(np.arange(TRAIN), left)
        again = TensorKernelRegressor("precomputed", ridge=1e-3).fit(parts(kernels[0], degrees, rows, rows), y[rows])
        missed = y[left] - again.predict(parts(kernels[0], degrees, [left], rows))[0]
        np.testing.assert_allclose(model.loo_residuals_[left], missed, atol=1e-8 * np.abs(y).max())


@pytest.mark.parametrize(("target", "degrees"), [(vectors, (1,)), (tensors, (0, 2))])
def test_network_and_rotations(kernels, target, degrees):
    """A network gives what its kernels give, and predictions turn with the inputs."""
    y, turn = target(X[:TRAIN]), random_rotations(1, seed=1).as_matrix()[0]
    model = TensorKernelRegressor(clone(TensorKernelRegressor(NET)).net).fit(X[:TRAIN], y)
    same = TensorKernelRegressor("precomputed").fit(parts(kernels[0], degrees), y)
    assert model.ridge_ == same.ridge_
    assert set(model.ridge_) == set(degrees)
    plain, std = model.predict(X[TRAIN:], return_std=True)
    np.testing.assert_allclose(plain, same.predict(parts(kernels[1], degrees)), atol=1e-9 * np.abs(y).max())
    assert std.shape == plain.shape
    assert np.all(std >= 0)
    turned = model.predict(rotate(X[TRAIN:], turn))
    expected = plain @ turn.T if plain.ndim == 2 else turn @ plain @ turn.T
    np.testing.assert_allclose(turned, expected, atol=2e-3 * np.abs(y).max())
    assert np.abs(turned - plain).max() > 0.05 * np.abs(plain).max()
    tight = TensorKernelRegressor("precomputed", ridge=1e-7).fit(parts(kernels[0], degrees), y)
    assert tight.score(parts(kernels[0], degrees), y) > 0.9


def test_posterior_deviation(kernels):
    """Of vectors: K(x, x) - k A^-1 k^T by plain linear algebra, times y^T A^-1 y / 3n."""
    (own, cross), y, ridge = kernels, vectors(X[:TRAIN]), 1e-2
    order = [2, 0, 1]  # real harmonics of l = 1 are y, z, x
    flat = lambda k: k[..., order, :][..., order].transpose(0, 2, 1, 3).reshape(3 * len(k), -1)  # noqa: E731
    a = flat(own[1]) + ridge * np.eye(3 * TRAIN)
    prior = own[1][:TEST, :TEST][range(TEST), range(TEST)]
    model = TensorKernelRegressor("precomputed", ridge=ridge).fit({1: own[1]}, y)
    mean, std = model.predict({1: cross[1]}, return_std=True, diagonal={1: prior})
    k = flat(cross[1])
    np.testing.assert_allclose(mean.ravel(), k @ np.linalg.solve(a, y.ravel()), atol=1e-9 * np.abs(y).max())
    variance = prior[:, order, order].ravel() - np.sum(k * np.linalg.solve(a, k.T).T, axis=1)
    scale = y.ravel() @ np.linalg.solve(a, y.ravel()) / y.size
    np.testing.assert_allclose(std.ravel() ** 2, np.maximum(scale * variance, 0), atol=1e-9 * scale)


def test_irreps_of_tensors():
    values = np.random.default_rng(0).normal(size=(4, 3, 3))
    values = values + values.transpose(0, 2, 1)
    split = {degree: components(values, degree) for degree in (0, 2)}
    np.testing.assert_allclose(split[0][:, 0], np.trace(values, axis1=1, axis2=2) / 3**0.5)
    np.testing.assert_allclose(assemble(split), values, atol=1e-14)


@pytest.mark.parametrize(
    ("net", "y", "message"),
    [
        (NET, np.zeros((TRAIN, 2)), r"vectors y \(n, 3\)"),
        (NET, np.arange(9.0 * TRAIN).reshape(TRAIN, 3, 3), "not symmetric"),
        (NET, np.full((TRAIN, 3), np.nan), "NaN or infinity"),
        (NET, np.zeros((2, 3)), "2 targets"),
        (serial(Lift(), Erf()), np.zeros((TRAIN, 3)), "one readout"),
    ],
)
def test_refused(net, y, message):
    with pytest.raises(ValueError, match=message):
        TensorKernelRegressor(net).fit(X[:TRAIN], y)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (
            {"fit_intercept": "no"},
            TypeError,
            "TensorKernelRegressor: expected fit_intercept to be True or False, got 'no'",
        ),
        ({"progress": 1}, TypeError, "progress to be True or False"),
        ({"ridge_path": "auto"}, ValueError, "ridge_path to be a list of finite numbers >= 0, got 'auto'"),
        ({"ridge_path": [], "ridge": 1.0}, ValueError, "ridge_path"),
        ({"ridge": {0: 1.0, 2: 2.0}}, ValueError, "ridge to be None or a finite number"),
        ({"memory": "lots"}, ValueError, "memory"),
    ],
)
def test_parameters_that_are_refused(kernels, parameters, error, message):
    with pytest.raises(error, match=message):
        TensorKernelRegressor("precomputed", **parameters).fit(kernels[0], vectors(X[:TRAIN]))


def test_own_covariances_of_precomputed_kernels(kernels):
    """They are asked for with the call that makes them, which does."""
    model = TensorKernelRegressor("precomputed", ridge=1e-2).fit(parts(kernels[0], (1,)), vectors(X[:TRAIN]))
    test = parts(kernels[1], (1,))
    with pytest.raises(
        ValueError, match=r"needs diagonal=\{l: K\(x, x\)\}\. so3ntk\.kernel_diagonal\(so3ntk\.learning\.tensors"
    ) as error:
        model.predict(test, return_std=True)
    call = str(error.value).split(". ")[1].split(" gives")[0]
    diagonal = eval(call, {"so3ntk": so3ntk, "net": NET, "l": 1, "x": X[TRAIN:]})
    assert np.all(model.predict(test, return_std=True, diagonal={1: diagonal})[1] > 0)
    for wrong, message in (
        ({0: diagonal}, r"a mapping from l = \[1\]"),
        ({1: diagonal[:1]}, "expected diagonal of the shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(test, return_std=True, diagonal=wrong)


def test_antisymmetric_parts_are_fitted_as_the_error_says():
    y = np.random.default_rng(0).normal(size=(TRAIN, 3, 3))
    with pytest.raises(
        ValueError, match=r"not symmetric .*axial vectors \(n, 3\).*Lift\(group='O3'\) and IrrepPool\(1, parity=1\)"
    ):
        TensorKernelRegressor(NET).fit(X[:TRAIN], y)
    axial = np.stack([y[:, 2, 1] - y[:, 1, 2], y[:, 0, 2] - y[:, 2, 0], y[:, 1, 0] - y[:, 0, 1]], axis=1)
    net = serial(Lift(group="O3"), Erf(), IrrepPool(1, parity=1), quadrature=ProductGrid(8))
    assert TensorKernelRegressor(net, ridge=0.1).fit(X[:TRAIN], axial).predict(X[TRAIN:]).shape == (TEST, 3)


def test_biases_belong_to_the_trace():
    found, plain = (
        irrep_grams(serial(Lift(), Relu(), GroupPool(), Dense(b_std=b_std), quadrature=ProductGrid(4)), (0, 2), X[:2])
        for b_std in (0.5, 0.0)
    )
    np.testing.assert_allclose(found[0], plain[0] + 0.25, atol=1e-12)
    np.testing.assert_allclose(found[2], plain[2], atol=1e-12)
