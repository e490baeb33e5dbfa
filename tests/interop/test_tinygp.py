"""Our kernels in tinygp, against KernelRegressor and finite differences. Run by .ci/doors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from tests.interop.doors import MLP, PIXELS, SIGNALS, SPHERE, X_TEST, X, Y, posterior, usual_promotion  # noqa: F401

tinygp = pytest.importorskip("tinygp")
from so3ntk.interop.tinygp import NetworkKernel  # noqa: E402


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_the_posterior_is_that_of_our_regressor(kernel):
    process = tinygp.GaussianProcess(NetworkKernel(MLP, kernel), jnp.asarray(X), diag=0.05)
    expected, std = posterior(MLP, X, Y, X_TEST, kernel)
    np.testing.assert_allclose(process.predict(Y, jnp.asarray(X_TEST)), expected, rtol=0, atol=1e-10)
    _, conditioned = process.condition(Y, jnp.asarray(X_TEST), diag=0.0)  # by default sqrt(eps)
    np.testing.assert_allclose(conditioned.mean, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(jnp.sqrt(conditioned.variance), std, rtol=0, atol=1e-10)


def test_the_kernel_of_pytrees_and_images():
    for net, x in ((SPHERE, SIGNALS), PIXELS):
        kernel, expected = NetworkKernel(net), net.kernel_fn(x, None, "ntk")
        np.testing.assert_allclose(kernel(x, x), expected, rtol=1e-12)
        np.testing.assert_allclose(kernel(x), jnp.diag(expected), rtol=1e-10)
        total = kernel + kernel * tinygp.kernels.Constant(2.0)  # pair by pair
        np.testing.assert_allclose(total(x, x[:2]), 3 * expected[:, :2], rtol=1e-7)  # 4 sqrt(eps) on a kinked diagonal


def loss(kernel):
    return -tinygp.GaussianProcess(kernel, jnp.asarray(X), diag=0.05).log_probability(Y)


def test_hyperparameters_are_trained():
    """Leaves of the kernel by optax, with the derivatives of finite differences."""
    optax = pytest.importorskip("optax")
    start = jax.tree.map(jnp.asarray, NetworkKernel(MLP))
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    before, slope = value_and_grad(start)
    ahead, behind = (
        value_and_grad(NetworkKernel(so3ntk.interop.leaves.replaced(start.net, {"layers_1_b_std": jnp.asarray(b)})))[0]
        for b in (0.4 + 1e-5, 0.4 - 1e-5)
    )
    np.testing.assert_allclose(slope.net.layers[1].b_std, (ahead - behind) / 2e-5, rtol=1e-6)
    optimiser = optax.adam(0.05)
    kernel, state = start, optimiser.init(start)
    for _ in range(30):
        _, slope = value_and_grad(kernel)
        updates, state = optimiser.update(slope, state)
        kernel = optax.apply_updates(kernel, updates)
    assert value_and_grad(kernel)[0] < before - 0.2


def test_refusals():
    with pytest.raises(TypeError, match="expected net to be None or a Network"):
        NetworkKernel("mlp")
