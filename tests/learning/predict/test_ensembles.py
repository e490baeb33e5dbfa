"""Ensembles against linearised models drawn and trained in the space of weights; the posterior against scikit-learn."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

import so3ntk
from so3ntk.engine.network import Kernels
from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.predict import ensemble, gp_posterior, gradient_flow
from tests.learning.predict.cases import features

DRAWS = 20000


def blocks(seed=0):
    """Kernels of linear models: features of the function at initialisation, and more of them for the tangent."""
    z, z_test, y = features(n=6, m=3, p=8, k=2, seed=seed)
    more, more_test, _ = features(n=6, m=3, p=5, k=2, seed=seed + 1)
    j, j_test = np.concatenate([z, more], axis=1), np.concatenate([z_test, more_test], axis=1)
    train = Kernels(z @ z.T, j @ j.T)
    return train, Kernels(z_test @ z.T, j_test @ j.T), z_test @ z_test.T, y, (z, z_test, j, j_test)


def assert_moments(samples, found):
    """Samples (draws, m, k) against the Gaussian, within five standard errors."""
    n = len(samples)
    variances = np.diag(found.covariance)
    errors = np.sqrt(variances / n)[:, None]
    assert np.abs((samples.mean(axis=0) - found.mean) / errors).max() < 5
    products = np.outer(variances, variances)
    for k in range(samples.shape[2]):
        covariance = np.cov(samples[:, :, k].T)
        errors = np.sqrt((products + found.covariance**2) / n)
        assert np.abs((covariance - found.covariance) / errors).max() < 5


def trained(tangent, tangent_test, start, start_test, y, tau, decay=0.0):
    """Linear models after gradient flow on their weights from zero, for outputs (draws, n, k) before it."""
    p = tangent.shape[1]
    operator = -tau * np.block([[tangent.T @ tangent + decay * np.eye(p), -np.eye(p)], [np.zeros((p, 2 * p))]])
    moved = scipy.linalg.expm(operator)[:p, p:] @ tangent.T
    return start_test + np.einsum("mp,pn,dnk->dmk", tangent_test, moved, y - start)


@pytest.mark.parametrize("diag_reg", [0.0, 0.1])
@pytest.mark.parametrize("t", [0.0, 3.0, 100.0])
def test_networks(t, diag_reg):
    train, test, prior, y, (z, z_test, j, j_test) = blocks()
    decay = float(diag_reg * np.mean(np.diag(train.ntk)))
    draws = np.random.default_rng(2).normal(size=(DRAWS, z.shape[1], y.shape[1]))
    samples = trained(j, j_test, z @ draws, z_test @ draws, y, 0.5 * t / y.size, decay)
    found = ensemble(train, y, test, prior, t, learning_rate=0.5, diag_reg=diag_reg)
    assert_moments(samples, found)
    wrong = found._replace(covariance=1.1 * found.covariance)
    with pytest.raises(AssertionError):
        assert_moments(samples, wrong)


@pytest.mark.parametrize("t", [3.0, 100.0])
def test_last_layers_with_noise(t):
    train, test, prior, y, (z, z_test, *_) = blocks()
    ridge = float(0.1 * np.mean(np.diag(train.nngp)))
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(DRAWS, z.shape[1], y.shape[1]))
    noise = math.sqrt(ridge) * rng.normal(size=(DRAWS, *y.shape))
    samples = trained(z, z_test, z @ draws, z_test @ draws, y + noise, t / y.size, ridge)
    assert_moments(samples, ensemble(train, y, test, prior, t, "nngp", diag_reg=0.1))


def test_last_layers_are_networks_whose_tangent_kernel_is_their_nngp():
    train, test, prior, y, _ = blocks()
    same = Kernels(train.nngp, train.nngp), y, Kernels(test.nngp, test.nngp), prior
    times = [0.0, 1.0, 30.0, math.inf]
    for actual, expected in zip(ensemble(*same, times, "nngp"), ensemble(*same, times, "ntk"), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-10)


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_its_mean_is_gradient_flow(get):
    train, test, prior, y, _ = blocks()
    times = [0.0, 5.0, math.inf]
    for targets, f0 in ((y, {"f0_train": y * 0.3, "f0_test": [1.0, 2.0]}), (y[:, 0], {})):
        mean = ensemble(train, targets, test, prior, times, get, 0.7, 0.01, **f0).mean
        kernels = getattr(train, get), targets, getattr(test, get)
        np.testing.assert_array_equal(mean, gradient_flow(*kernels, times, 0.7, 0.01, **f0))


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_shapes_and_variances(get):
    """The diagonal alone gives the variances; before training they are the prior's, afterwards zero where trained."""
    train, test, prior, y, _ = blocks()
    times = np.array([[0.0, 2.0], [50.0, math.inf]])
    mean, covariance = ensemble(train, y, test, prior, times, get)
    assert (mean.shape, covariance.shape) == ((2, 2, 3, 2), (2, 2, 3, 3))
    np.testing.assert_array_equal(covariance, np.swapaxes(covariance, -1, -2))
    np.testing.assert_allclose(covariance[0, 0], prior)
    variances = ensemble(train, y, test, np.diag(prior), times, get).covariance
    np.testing.assert_allclose(variances, np.einsum("abmm->abm", covariance), atol=1e-12)
    assert np.all(np.linalg.eigvalsh(covariance) > -1e-12 * np.max(prior))
    at_training = ensemble(train, y, train, Kernels(train.nngp, None), math.inf, get)
    np.testing.assert_allclose(at_training.mean, y, atol=1e-10)
    np.testing.assert_allclose(at_training.covariance, 0, atol=1e-10)
    assert np.all(np.diag(at_training.covariance) >= 0)
    assert ensemble(train, y, Kernels(*(k[:0] for k in test)), prior[:0, :0], 1.0, get).covariance.shape == (0, 0)


@pytest.mark.parametrize("outputs", [None, 2])
def test_posterior_is_scikit_learns(outputs):
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(9, 2)), rng.normal(size=(4, 2))
    y = 3 + rng.normal(size=(9,) if outputs is None else (9, outputs))
    kernel: Any = ConstantKernel(1.7) * RBF(0.8)
    parameters: Any = {"alpha": 0.2, "optimizer": None}
    model = GaussianProcessRegressor(kernel, **parameters).fit(x, y)
    mean, covariance = gp_posterior(kernel(x), y, kernel(x_test, x), kernel(x_test), ridge=0.2)
    expected: Any = model.predict(x_test, return_cov=True)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-12)
    np.testing.assert_allclose(covariance, expected[1].T[0].T if outputs else expected[1], atol=1e-13)
    variances = gp_posterior(kernel(x), y, kernel(x_test, x), kernel.diag(x_test), 0.2).covariance
    np.testing.assert_allclose(variances, np.diag(covariance), atol=1e-14)
    moved = gp_posterior(kernel(x), y + 5, kernel(x_test, x), kernel(x_test), 0.2, f0_train=5.0, f0_test=5.0)
    np.testing.assert_allclose(moved.mean, mean + 5)
    names = Kernels(kernel(x), None), y, Kernels(kernel(x_test, x), None), kernel(x_test)
    relative = ensemble(*names, get="nngp", diag_reg=0.2 / 1.7)
    np.testing.assert_allclose(relative.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(relative.covariance, covariance, atol=1e-13)


def test_networks_of_this_library():
    """Kernels as kernel_fn and gram return them."""
    net = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(b_std=0.3), so3ntk.Relu(), so3ntk.Dense())
    x = np.random.default_rng(0).normal(size=(8, 3))
    both = "nngp", "ntk"
    kernels = net.kernel_fn(x[:6], None, both), x[:6, 0], net.kernel_fn(x[6:], x[:6], both), net.kernel_fn(x[6:])
    matrices = so3ntk.gram(net, x, get=both, progress=False)
    rows = [Kernels(*(k[a, :6] for k in matrices)) for a in (slice(6), slice(6, 8))]
    expected = so3ntk.predict.ensemble(rows[0], x[:6, 0], rows[1], matrices.nngp[6:, 6:], [1.0, math.inf])
    found = so3ntk.predict.ensemble(*kernels, [1.0, math.inf])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)  # kinked kernels of aligned pairs: root of eps


def test_what_is_no_kernel():
    train, test, prior, y, _ = blocks()
    with pytest.warns(RuntimeWarning, match=r"gp_posterior: variances down to -.* are set to zero") as caught:
        variances = gp_posterior(train.nngp, y, test.nngp, 0.01 * np.diag(prior)).covariance
    assert np.all(variances >= 0)
    assert caught[0].filename == __file__
    twice = np.concatenate([y, y])
    singular = np.tile(train.nngp, (2, 2))
    with pytest.raises(NotPositiveDefiniteError, match=r"gp_posterior: K \+ ridge I .*Raise ridge") as error:
        gp_posterior(singular, twice, np.tile(test.nngp, 2), prior)
    needed = error.value.needed
    found = gp_posterior(singular, twice, np.tile(test.nngp, 2), prior, needed)
    np.testing.assert_allclose(found.mean, gp_posterior(train.nngp, y, test.nngp, prior).mean, atol=0.1)
