"""Our kernels in GPJax, against KernelRegressor and finite differences. Run by .ci/doors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from tests.interop.doors import MLP, PIXELS, SIGNALS, SPHERE, X_TEST, X, Y, posterior, usual_promotion  # noqa: F401

gpjax = pytest.importorskip("gpjax")
from so3ntk.interop.gpjax import NetworkKernel  # noqa: E402

DATA = gpjax.Dataset(jnp.asarray(X), jnp.asarray(Y[:, None]))


def process(kernel, noise=0.05**0.5):
    prior = gpjax.gps.Prior(kernel=kernel, mean_function=gpjax.mean_functions.Zero(), jitter=0.0)
    return prior * gpjax.likelihoods.Gaussian(obs_stddev=noise)


def loss(model, data):
    return -gpjax.objectives.conjugate_mll(model, data)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_the_posterior_is_that_of_our_regressor(kernel):
    found = process(NetworkKernel(MLP, kernel)).predict(jnp.asarray(X_TEST), train_data=DATA)
    mean, std = posterior(MLP, X, Y, X_TEST, kernel)
    np.testing.assert_allclose(jnp.ravel(found.mean), mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(jnp.sqrt(jnp.diag(found.covariance())), std, rtol=0, atol=1e-10)


def test_rows_are_read_as_signals_and_images():
    net, images = PIXELS
    for kernel, x, batch in (
        (
            NetworkKernel(SPHERE, read=lambda a: so3ntk.SphereSignal(a[..., None], 2)),
            SIGNALS.coefficients[..., 0],
            SIGNALS,
        ),
        (NetworkKernel(net, read=lambda a: a.reshape(-1, 3, 3, 1)), jnp.asarray(images.reshape(4, 9)), images),
    ):
        expected = kernel.network.kernel_fn(batch, None, "ntk")
        np.testing.assert_allclose(kernel.gram(x).as_matrix(), expected, rtol=1e-12)
        np.testing.assert_allclose(kernel.cross_covariance(x, x[:2]), expected[:, :2], rtol=1e-7)
        total = kernel + kernel * gpjax.kernels.White(variance=2.0)
        np.testing.assert_allclose(total.gram(x).as_matrix(), expected + 2 * jnp.diag(jnp.diag(expected)), rtol=1e-7)


def test_hyperparameters_are_trained():
    """By GPJax' own fit; signs stay, zeros are no parameters, and derivatives are those of finite differences."""
    optax = pytest.importorskip("optax")
    kernel = NetworkKernel(MLP)
    assert sorted(kernel.parameters) == ["layers_1_W_std", "layers_1_b_std", "layers_3_W_std"]
    for name in kernel.parameters:
        here = gpjax.parameters.val(kernel.parameters[name])
        np.testing.assert_allclose(here, abs(so3ntk.interop.leaves.hyperparameters(MLP)[name]), rtol=1e-12)
    slope = jax.grad(loss)(process(kernel), DATA).prior.kernel.parameters["layers_1_b_std"]._unconstrained

    def moved(step):
        there = kernel.parameters["layers_1_b_std"]._unconstrained + step
        value = jax.nn.softplus(there)
        net = so3ntk.interop.leaves.replaced(MLP, {"layers_1_b_std": value})
        return loss(process(NetworkKernel(net)), DATA)

    np.testing.assert_allclose(slope, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-5)
    trained, history = gpjax.fit(
        model=process(kernel), objective=loss, train_data=DATA, optim=optax.adam(0.05), num_iters=30, verbose=False
    )
    assert history[-1] < history[0] - 0.5
    net = trained.prior.kernel.network
    assert net.layers[3].W_std < 0
    assert abs(net.layers[1].W_std - 1.3) > 0.01


def test_refusals():
    with pytest.raises(TypeError, match="expected net to be None or a Network"):
        NetworkKernel("mlp")
