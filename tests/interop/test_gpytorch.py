"""Our kernels in GPyTorch and BoTorch, against KernelRegressor and torch's own gradient check. Run by .ci/doors."""

from functools import partial

import numpy as np
import pytest

import so3ntk
from tests.interop.doors import MLP, PIXELS, SIGNALS, SPHERE, X_TEST, X, Y, posterior, usual_promotion  # noqa: F401

torch = pytest.importorskip("torch")
gpytorch = pytest.importorskip("gpytorch")
from so3ntk.basics.double import double_precision  # noqa: E402
from so3ntk.interop.gpytorch import NetworkKernel  # noqa: E402

ROWS, TARGETS, TEST = (torch.as_tensor(a) for a in (X, Y, X_TEST))


class Model(gpytorch.models.ExactGP):
    def __init__(self, kernel):
        super().__init__(ROWS, TARGETS, gpytorch.likelihoods.GaussianLikelihood().double())
        self.likelihood.noise = torch.tensor(0.05, dtype=torch.float64)  # a number passes through float32
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def kernel_of(net=MLP, kernel="ntk", **settings):
    return NetworkKernel(net, kernel, dtype=torch.float64, **settings)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_the_posterior_is_that_of_our_regressor(kernel):
    model = Model(kernel_of(kernel=kernel)).eval()
    with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
        found = model(TEST)
        mean, std = posterior(MLP, X, Y, X_TEST, kernel)
        np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.stddev, std, rtol=0, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    """In the rows and in every hyperparameter, of the matrix and of the diagonal."""
    kernel = kernel_of()
    names = [name for name, _ in kernel.named_parameters()]
    assert names == ["raw_layers_1_W_std", "raw_layers_1_b_std", "raw_layers_3_W_std"]

    x, y = ROWS[:3].clone().requires_grad_(), TEST[:3].clone().requires_grad_()
    raw = [parameter.detach().clone().requires_grad_() for parameter in kernel.parameters()]
    kernel._parameters.clear()  # so that tensors can stand in their places

    def values(diag, x, y, *raw):
        kernel.__dict__.update(zip(names, raw, strict=True))
        return kernel.forward(x, y, diag=diag)

    for diag in (False, True):
        assert torch.autograd.gradcheck(partial(values, diag), (x, y, *raw), eps=1e-5, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("diag", [False, True])
def test_equal_rows_have_derivatives_of_their_own(diag):
    """As a candidate on a training row has: the sum is symmetric in the two."""
    x, y = (ROWS[:3].clone().requires_grad_() for _ in range(2))
    slopes = torch.autograd.grad(kernel_of(kernel="nngp").forward(x, y, diag=diag).sum(), (x, y))
    assert torch.all(slopes[0] != 0)
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-8)


def test_rows_are_read_as_signals_and_images_in_batches():
    net, images = PIXELS
    signals = torch.as_tensor(np.array(SIGNALS.coefficients[..., 0]))
    for kernel, x, expected in (
        (
            kernel_of(SPHERE, read=lambda a: so3ntk.SphereSignal(a[..., None], 2)),
            signals,
            SPHERE.kernel_fn(SIGNALS, None, "ntk"),
        ),
        (
            kernel_of(net, read=lambda a: a.reshape(-1, 3, 3, 1)),
            torch.as_tensor(images.reshape(4, 9)),
            net.kernel_fn(images, None, "ntk"),
        ),
    ):
        with torch.no_grad():
            np.testing.assert_allclose(kernel(x).to_dense(), expected, rtol=1e-8)  # sqrt(eps) on a kinked diagonal
            np.testing.assert_allclose(kernel(x, x[:2]).to_dense(), expected[:, :2], rtol=1e-7)
            np.testing.assert_allclose(kernel(x, diag=True), np.diag(expected), rtol=1e-8)
            batches = torch.stack([x, x.flip(0)])
            found = kernel(batches).to_dense()
            np.testing.assert_allclose(found, np.stack([expected, expected[::-1, ::-1]]), rtol=1e-8)
            scaled = gpytorch.kernels.ScaleKernel(kernel)
            scaled.outputscale = 2.0
            np.testing.assert_allclose(scaled(x).to_dense(), 2 * expected, rtol=1e-6)  # a scale in float32


def test_hyperparameters_are_trained():
    model = Model(kernel_of())
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = -likelihood(model(ROWS), TARGETS)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    net = model.covar_module.network()
    assert net.layers[3].W_std < 0
    assert abs(net.layers[1].W_std - 1.3) > 0.01


def test_botorch():
    """A surrogate with our kernel is fitted and its acquisition function climbed by gradients in the rows."""
    botorch = pytest.importorskip("botorch")
    from botorch.acquisition import LogExpectedImprovement
    from botorch.optim import optimize_acqf

    surrogate = botorch.models.SingleTaskGP(ROWS, TARGETS[:, None], covar_module=kernel_of())
    botorch.fit_gpytorch_mll(gpytorch.mlls.ExactMarginalLogLikelihood(surrogate.likelihood, surrogate))
    bounds = torch.stack([-torch.ones(4), torch.ones(4)]).double()
    best = LogExpectedImprovement(surrogate, TARGETS.max())
    candidate, value = optimize_acqf(best, bounds, q=1, num_restarts=2, raw_samples=8)
    assert candidate.shape == (1, 4)
    assert torch.isfinite(value)


def test_refusals():
    with pytest.raises(TypeError, match="expected net to be None or a Network"):
        NetworkKernel("mlp")
    with double_precision(False), pytest.raises(TypeError, match="jax_enable_x64"):
        kernel_of().forward(ROWS, ROWS)
    with pytest.raises(ValueError, match="last_dim_is_batch"):
        kernel_of().forward(ROWS, ROWS, last_dim_is_batch=True)
