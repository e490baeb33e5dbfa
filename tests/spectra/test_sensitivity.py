"""Slopes of the losses in every hyperparameter: against differences of the losses of whole networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk.learning.hyperparameters import leave_one_out_loss, marginal_likelihood_loss
from so3ntk.spectra import sensitivity

RNG = np.random.default_rng(4)
X, Y, RIDGE = RNG.normal(size=(8, 3)), RNG.normal(size=8), 0.1
NET = so3ntk.serial(
    so3ntk.Flatten(), so3ntk.Dense(W_std=1.2, b_std=0.3), so3ntk.Erf(), so3ntk.Dense(W_std=0.8, b_std=0.0)
)


@eqx.filter_jit
def losses(net, ridge):
    """One program for all values where they are arrays."""
    gram = net.kernel_fn(X, None, "ntk")
    error = leave_one_out_loss(gram, jnp.asarray(Y), ridge) ** 0.5
    return jnp.array([jnp.log(error), -marginal_likelihood_loss(gram, jnp.asarray(Y), ridge)])


def test_slopes_are_differences(tmp_path):
    found = sensitivity(NET, X, Y, RIDGE)
    places = {
        "layers[1].W_std (Dense)": lambda net: net.layers[1].W_std,
        "layers[1].b_std (Dense)": lambda net: net.layers[1].b_std,
        "layers[2].b (Erf)": lambda net: net.layers[2].b,
    }
    h, net, ridge = 1e-5, jax.tree.map(jnp.asarray, NET), jnp.asarray(RIDGE)
    for name, place in places.items():
        ends = [losses(eqx.tree_at(place, net, place(net) * np.exp(step)), ridge) for step in (h, -h)]
        at = found.names.index(name)
        np.testing.assert_allclose(
            [found.error_slopes[at], found.likelihood_slopes[at]], (ends[0] - ends[1]) / (2 * h), rtol=1e-6
        )
    ends = [losses(net, ridge * np.exp(step)) for step in (h, -h)]
    at = found.names.index("ridge")
    np.testing.assert_allclose(
        [found.error_slopes[at], found.likelihood_slopes[at]], (ends[0] - ends[1]) / (2 * h), rtol=1e-6
    )
    error, log_likelihood = losses(NET, RIDGE)
    np.testing.assert_allclose([found.error, found.log_likelihood], [np.exp(error), log_likelihood], rtol=1e-12)
    assert len(found.names) == len(jax.tree.leaves(NET)) + 1
    assert found.error_slopes[found.names.index("layers[3].b_std (Dense)")] == 0  # zero, and squared
    assert np.all(np.diff(np.abs(found.error_slopes)) <= 0)
    assert np.all(np.diff(np.abs(found.by_likelihood().likelihood_slopes)) <= 0)
    assert "layers[1].W_std (Dense)" in str(found)
    assert found.plot(tmp_path / "slopes.png").stat().st_size > 1000


def test_entries_of_arrays():
    """Weights of channels one by one: together they act as W_std^2 does, so their slopes add up to half of its."""
    x = so3ntk.SphereSignal(RNG.normal(size=(5, 4, 3)), 2)
    lift = so3ntk.Lift(W_std=1.3, channel_weights=np.array([0.5, 1.0, 2.0]))
    net = so3ntk.serial(lift, so3ntk.Erf(), so3ntk.GroupPool(), quadrature=so3ntk.ProductGrid(4))
    found = sensitivity(net, x, RNG.normal(size=(5, 2)), RIDGE, kernel="nngp", intercept=False)
    names = [f"layers[0].channel_weights[{i}] (Lift)" for i in range(3)]
    slopes = {name: found.error_slopes[found.names.index(name)] for name in (*names, "layers[0].W_std (Lift)")}
    np.testing.assert_allclose(sum(slopes[name] for name in names), slopes["layers[0].W_std (Lift)"] / 2, rtol=1e-9)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((so3ntk.Relu(), X, Y, RIDGE), TypeError, "expected a Network"),
    ((NET, X, Y, 0.0), ValueError, "ridge"),
    ((NET, X[:2], Y[:2], RIDGE), ValueError, "expected at least three inputs"),
    ((NET, X, Y[:3], RIDGE), ValueError, "a target for each row"),
    ((NET, X, np.ones(8), RIDGE), ValueError, "the targets are constant"),
    ((NET, X, np.full(8, np.nan), RIDGE), ValueError, "expected finite targets"),
])  # fmt: skip
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        sensitivity(*arguments)
