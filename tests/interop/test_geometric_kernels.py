"""Our kernels on points of a sphere by the interface of GeometricKernels, and its own in our regressor. Run by .ci/doors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import so3ntk
from tests.interop.doors import MLP, posterior, usual_promotion  # noqa: F401

pytest.importorskip("geometric_kernels")
from geometric_kernels.kernels import MaternGeometricKernel
from geometric_kernels.spaces import Circle, Hypersphere

from so3ntk.interop.geometric_kernels import NetworkKernel

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(size=(12, 3))
POINTS /= np.linalg.norm(POINTS, axis=1, keepdims=True)
Y = POINTS[:, 2] ** 2 + 0.1 * RANDOM.normal(size=12)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_the_posterior_is_that_of_our_regressor(kernel):
    ours = NetworkKernel(Hypersphere(2), MLP, kernel)
    params = ours.init_params()
    assert {name: value.shape for name, value in params.items()} == dict.fromkeys(
        ["layers_1_W_std", "layers_1_b_std", "layers_3_W_std"], (1,)
    )
    train, test = POINTS[:8], POINTS[8:]
    mean = ours.K(params, test, train) @ np.linalg.solve(ours.K(params, train) + 0.05 * np.eye(8), Y[:8])
    np.testing.assert_allclose(mean, posterior(MLP, train, Y[:8], test, kernel)[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.K_diag(params, test), np.diag(ours.K(params, test)), rtol=1e-10)


def test_it_is_zonal():
    """Turning all points changes nothing; reflections of one do."""
    ours = NetworkKernel(Hypersphere(2), MLP)
    params = ours.init_params()
    turned = POINTS @ Rotation.random(random_state=0).as_matrix()
    np.testing.assert_allclose(ours.K(params, turned), ours.K(params, POINTS), rtol=1e-7)  # a kinked diagonal
    assert np.abs(ours.K(params, turned, POINTS) - ours.K(params, POINTS)).max() > 0.01


def test_derivatives_in_the_parameters():
    ours = NetworkKernel(Hypersphere(2), MLP)
    params = {name: jnp.asarray(value) for name, value in ours.init_params().items()}

    def total(params):
        return ours.K(params, POINTS).sum()

    slope = jax.grad(total)(params)["layers_1_b_std"]
    assert isinstance(slope, jax.Array)
    ahead, behind = (total(params | {"layers_1_b_std": jnp.asarray([0.4 + step])}) for step in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, [(ahead - behind) / 2e-5], rtol=1e-6)


def test_their_kernels_are_a_baseline():
    """Heat and Matern kernels on the sphere, precomputed, in our regressor."""
    theirs = MaternGeometricKernel(Hypersphere(2))
    for nu in (np.inf, 1.5):
        params = {"nu": np.array([nu]), "lengthscale": np.array([0.7])}
        k, cross = np.array(theirs.K(params, POINTS[:8])), np.array(theirs.K(params, POINTS[8:], POINTS[:8]))
        model = so3ntk.KernelRegressor("precomputed", ridge=0.05, fit_intercept=False).fit(k, Y[:8])
        expected = cross @ np.linalg.solve(k + 0.05 * np.eye(8), Y[:8])
        np.testing.assert_allclose(model.predict(cross), expected, rtol=0, atol=1e-10)


def test_refusals():
    with pytest.raises(TypeError, match="expected space to be a Hypersphere"):
        NetworkKernel(Circle(), MLP)
    with pytest.raises(ValueError, match="Begin the network with Flatten"):
        NetworkKernel(Hypersphere(2), so3ntk.serial(so3ntk.Lift(), so3ntk.GroupPool()))
