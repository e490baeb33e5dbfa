"""Losses by mode against the losses of predictions and of gradient descent; the largest learning rate."""

import math

import numpy as np
import pytest

from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.predict import gradient_flow, loss_curve, loss_per_mode, max_learning_rate
from tests.learning.predict.cases import features, ill_conditioned

TIMES = [0.0, 1.0, 10.0, 300.0, math.inf]


@pytest.mark.parametrize("diag_reg", [0.0, 0.2])
@pytest.mark.parametrize("k", [1, 3])
def test_the_curve_is_the_loss_of_the_predictions(k, diag_reg):
    a, _, y = features(k=k)
    kernel = a @ a.T
    start = y[:, ::-1] * 0.3
    outputs = gradient_flow(kernel, y, kernel, TIMES, 0.6, diag_reg, f0_train=start, f0_test=start)
    expected = np.mean((outputs - y) ** 2, axis=(1, 2)) / 2
    curve = loss_curve(kernel, y, TIMES, 0.6, diag_reg, f0_train=start)
    np.testing.assert_allclose(curve, expected, atol=1e-13)
    assert expected[0] > 2 * expected[3]
    single = loss_curve(kernel, y, 10.0, 0.6, diag_reg, f0_train=start)
    assert single == pytest.approx(expected[2])
    if k == 1:
        np.testing.assert_allclose(loss_curve(kernel, y[:, 0], TIMES, 0.6, diag_reg, f0_train=start[:, 0]), curve)


def test_modes():
    kernel, y, _, (w, v, _) = ill_conditioned(-np.arange(16))
    eigenvalues, losses = loss_per_mode(kernel, y, TIMES, 0.5)
    np.testing.assert_allclose(eigenvalues, w, rtol=1e-10)
    assert losses.shape == (5, 16)
    for t, actual in zip(TIMES, losses, strict=True):
        expected = np.exp(-2 * 0.5 * t * w / y.size) * np.sum((v.T @ y) ** 2, axis=1) / (2 * y.size)
        # The loss of a mode that has all but gone is below the rounding of the targets, and still right.
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-300)
    assert 0 < losses[3, 0] < 1e-3 * losses[0, 0]


def test_modes_that_are_not_learned():
    """Equal inputs with unequal targets keep the variance of these."""
    a, _, y = features(k=1)
    twice = np.concatenate([a, a])
    both = np.concatenate([y + 1, y - 1])
    eigenvalues, losses = loss_per_mode(twice @ twice.T, both, [0.0, math.inf])
    np.testing.assert_array_equal(eigenvalues[6:], 0)
    assert np.all(eigenvalues[:6] > 0)
    np.testing.assert_array_equal(losses[1, :6], 0)
    np.testing.assert_allclose(losses[:, 6:].sum(axis=1), 0.5)
    assert loss_curve(twice @ twice.T, both, math.inf) == pytest.approx(0.5)
    assert loss_curve(twice @ twice.T, both, math.inf, diag_reg=1e-3) == pytest.approx(0.5, rel=1e-3)


def test_losses_of_no_kernel():
    kernel = np.eye(3) - 0.6
    with pytest.raises(NotPositiveDefiniteError, match="loss_per_mode"):
        loss_curve(kernel, np.ones(3), [1.0, 100.0])
    assert loss_curve(kernel, np.ones(3), 0.01) > 0


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("k", [1, 3])
def test_the_largest_learning_rate(k, momentum):
    """Gradient descent on weights converges below it and diverges above it."""
    a, _, y = features(k=k)
    limit = max_learning_rate(a @ a.T, k, momentum)
    for factor, converges in ((0.98, True), (1.02, False)):
        weights = np.zeros((a.shape[1], k))
        velocity = np.zeros_like(weights)
        for _ in range(1500):
            velocity = momentum * velocity - factor * limit * a.T @ (a @ weights - y) / y.size
            weights += velocity
        assert (np.mean((a @ weights - y) ** 2) < np.mean(y**2)) == converges
    assert max_learning_rate(np.zeros((2, 2))) == math.inf


def test_wrong_learning_rates():
    for outputs in (0, -1, 1.5, True, "1"):
        with pytest.raises(ValueError, match="outputs to be a whole number >= 1"):
            max_learning_rate(np.eye(3), outputs)  # pyright: ignore
    for momentum in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="momentum"):
            max_learning_rate(np.eye(3), 1, momentum)
    with pytest.raises(ValueError, match="square"):
        max_learning_rate(np.ones((3, 2)))
