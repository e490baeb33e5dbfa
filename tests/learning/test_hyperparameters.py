"""Losses against their definitions, gradients against differences, and fits that end at a minimum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from so3ntk import Dense, Erf, Flatten, GroupPool, Lift, ProductGrid, Relu, SphereSignal, serial
from so3ntk.errors import PrecisionError
from so3ntk.learning.hyperparameters import (
    fit_hyperparameters,
    fit_kernel,
    leave_one_out_loss,
    marginal_likelihood_loss,
)
from so3ntk.learning.ridge import Spectrum, rms, solve
from so3ntk.molecules import AtomSum, Environments, environment_coefficients
from tests.regression_cases import problem

LOSSES = {"likelihood": marginal_likelihood_loss, "loo": leave_one_out_loss}
#: (kernel, targets, ridge, intercept) to each loss, in one program.
both_losses = jax.jit(lambda *arguments: [loss(*arguments) for loss in LOSSES.values()], static_argnums=3)
NET = serial(Flatten(), Dense(W_std=1.2, b_std=0.5), Relu(), Dense(b_std=0.3))
#: Smooth: the diagonal of an NTK with kinks is rounded to the root of eps, which differences would amplify.
SMOOTH = serial(Flatten(), Dense(W_std=1.2, b_std=0.5), Erf(b=0.8), Dense(b_std=0.3))
#: Weights of channels are read by Lift.
WEIGHTED = serial(Lift(channel_weights=np.array([0.5, 2.0]), b_std=0.4), Erf(), GroupPool(), quadrature=ProductGrid(4))


def data(n=12, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    x = SphereSignal(rng.normal(size=(n, 4, channels)), 2)
    return x, np.array(jnp.sum(x.coefficients**2, axis=(1, 2))) + 0.1 * rng.normal(size=n)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("outputs", [None, 2])
def test_values(intercept, outputs):
    kernel, y, *_ = problem(outputs=outputs)
    n, columns = len(kernel), y.reshape(len(y), -1)
    # The density of contrasts, which no constant enters, at their likeliest scale
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:] if intercept else np.eye(n)
    matrix = basis.T @ (kernel + 0.3 * np.eye(n)) @ basis
    expected = 0.0
    for column in (basis.T @ columns).T:
        scale = column @ np.linalg.solve(matrix, column) / len(column)
        expected -= multivariate_normal(cov=scale * matrix).logpdf(column)
    likelihood, left_out = both_losses(jnp.asarray(kernel), jnp.asarray(y), 0.3, intercept)
    assert likelihood == pytest.approx(expected, rel=1e-10)
    loo = solve(Spectrum.of(kernel, intercept), columns, 0.3).loo
    assert left_out == pytest.approx(rms(loo) ** 2, rel=1e-9)
    assert np.isnan(both_losses(jnp.asarray(kernel - 2 * np.eye(n)), jnp.asarray(y), 0.3, intercept)[0])


@pytest.mark.parametrize(("net", "channels"), [(SMOOTH, 1), pytest.param(WEIGHTED, 2, marks=pytest.mark.slow)])
def test_gradients_in_every_hyperparameter(net, channels):
    """W_std, b_std, channel weights and the ridge, of both losses, by central differences."""
    x, y = data(8, channels)
    variable, fixed = eqx.partition(net, True)
    leaves, structure = jax.tree.flatten((variable, 0.2))
    leaves = [jnp.asarray(leaf, float) for leaf in leaves]

    @jax.jit
    @jax.value_and_grad
    def value(leaves):
        own, ridge = jax.tree.unflatten(structure, leaves)
        k = eqx.combine(own, fixed).kernel_fn(x, None, "ntk")
        return sum(loss(k, jnp.asarray(y), ridge) for loss in LOSSES.values())

    _, gradient = value(leaves)
    step = 1e-5
    for i, leaf in enumerate(leaves):
        for entry in np.ndindex(leaf.shape):
            both = [float(value([*leaves[:i], leaf.at[entry].add(s * step), *leaves[i + 1 :]])[0]) for s in (1, -1)]
            assert float(gradient[i][entry]) == pytest.approx((both[0] - both[1]) / (2 * step), rel=1e-6, abs=1e-6)


def test_an_angular_width():
    """Through environment_coefficients: the gradient is that of differences, and the fit ends where it vanishes."""
    rng = np.random.default_rng(0)
    sizes = (3, 4, 2, 3, 4, 3, 2, 4)
    molecule = np.repeat(np.arange(len(sizes)), sizes)
    positions = np.concatenate([2.0 * np.arange(n)[:, None] * [1, 0, 0] + rng.normal(size=(n, 3)) * 0.4 for n in sizes])
    numbers = rng.choice([1, 6], len(molecule))
    net = serial(Flatten(), Dense(b_std=0.1), Erf(), Dense(), AtomSum())

    def kernel_of(width):
        a = environment_coefficients(positions, numbers, molecule, species=("H", "C"), bandlimit=3, angular_width=width)
        return net.kernel_fn(Environments(SphereSignal(a, 3), molecule, numbers), None, "ntk")

    y = np.array(sizes) + 0.1 * rng.normal(size=len(sizes))
    value = jax.jit(jax.value_and_grad(lambda w: leave_one_out_loss(kernel_of(w), jnp.asarray(y), 0.1)))
    slope = float(value(0.3 + 1e-5)[0] - value(0.3 - 1e-5)[0]) / 2e-5
    assert float(value(0.3)[1]) == pytest.approx(slope, rel=1e-5)
    fit = fit_kernel(kernel_of, 0.3, y, 0.1, loss="loo", fit_ridge=False)
    assert fit.ridge == pytest.approx(0.1)
    assert fit.loss < fit.history[0]
    assert fit.loss == pytest.approx(float(value(float(fit.hyperparameters))[0]), rel=1e-9)


@pytest.mark.parametrize(("loss", "fit_ridge"), [("likelihood", True), ("loo", False)])
def test_a_fit_of_a_network_ends_at_a_minimum(loss, fit_ridge):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, 4))
    x, y = SphereSignal(a[..., None], 2), np.sin(1.5 * a[:, 0]) + np.abs(a[:, 1]) + 0.3 * rng.normal(size=40)
    bias = lambda net: [net.layers[1].b_std]  # noqa: E731
    fit = fit_hyperparameters(NET, x, y, 0.1, loss=loss, select=bias, fit_ridge=fit_ridge)
    assert fit.converged
    assert fit.loss == min(fit.history) < fit.history[0]
    assert fit.net.layers[1].W_std == 1.2  # not selected
    assert (fit.ridge == pytest.approx(0.1)) != fit_ridge

    @jax.jit
    def at(b_std, ridge):
        net = eqx.tree_at(bias, NET, [b_std])
        return LOSSES[loss](net.kernel_fn(x, None, "ntk"), jnp.asarray(y), ridge)

    b = float(fit.net.layers[1].b_std)
    assert 0.01 < b < 100  # not at an end of the range
    assert fit.loss == pytest.approx(float(at(b, fit.ridge)), rel=1e-6)
    for factor in (0.7, 1.4):
        assert float(at(b * factor, fit.ridge)) > fit.loss
        assert float(at(b, fit.ridge * factor)) > fit.loss or not fit_ridge


def test_wrong_arguments():
    x, y = data(6)
    for wrong, options, error, message in [
        ((NET.kernel_fn, x, y, 0.1), {}, TypeError, "fit_kernel"),
        ((NET, x, y, 0.1), {"kernel": "both"}, ValueError, '"ntk" or "nngp"'),
        ((NET, x, y, 0.1), {"loss": "mse"}, ValueError, "likelihood, loo, got 'mse'"),
        ((NET, x, y, 0.0), {}, ValueError, "ridge to be a finite number > 0"),
        ((NET, x, y * np.nan, 0.1), {}, ValueError, "NaN"),
        ((NET, x, y, 0.1), {"select": lambda net: net.layers[0].b_std}, ValueError, "select must return"),
    ]:
        with pytest.raises(error, match=message):
            fit_hyperparameters(*wrong, **options)
    with pytest.raises(PrecisionError, match="not finite at the start"):
        fit_kernel(lambda a: a * jnp.ones((6, 6)) - jnp.eye(6), 1.0, y, 1e-3)
