"""Our kernels in scikit-learn's Gaussian processes, against KernelRegressor, closed forms and finite differences."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV

import so3ntk
from so3ntk.basics.double import double_precision
from so3ntk.interop.scikit_learn import NetworkKernel, rows
from tests.interop.doors import MLP, SIGNALS, SPHERE, X_TEST, X, Y, posterior


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_the_posterior_is_that_of_our_regressor(kernel):
    model = GaussianProcessRegressor(NetworkKernel(MLP, kernel), alpha=0.05, optimizer=None).fit(X, Y)
    for found, ours in zip(model.predict(X_TEST, return_std=True), posterior(MLP, X, Y, X_TEST, kernel), strict=True):
        np.testing.assert_allclose(found, ours, rtol=0, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    """In the logarithms of the hyperparameters; a negative one keeps its sign."""
    kernel, step = NetworkKernel(MLP), 1e-4
    values, slopes = kernel(X, eval_gradient=True)
    np.testing.assert_array_equal(values, kernel(X))
    assert slopes.shape == (12, 12, 3)
    for index, direction in enumerate(step * np.eye(3)):
        ahead, behind = (kernel.clone_with_theta(kernel.theta + sign * direction) for sign in (1, -1))
        assert ahead.net.layers[3].W_std < 0
        difference = (ahead(X) - behind(X)) / (2 * step)
        np.testing.assert_allclose(slopes[..., index], difference, rtol=0, atol=1e-7)  # step^2 times third derivatives


def test_hyperparameters():
    kernel = NetworkKernel(MLP, limits={"layers_1_b_std": "fixed", "layers_1_W_std": (0.1, 10)})
    assert [h.name for h in kernel.hyperparameters] == ["layers_1_W_std", "layers_1_b_std", "layers_3_W_std"]
    np.testing.assert_allclose(kernel.theta, np.log([1.3, 0.7]))
    np.testing.assert_allclose(kernel.bounds, np.log([[0.1, 10], [1e-5, 1e5]]))
    assert kernel(X, eval_gradient=True)[1].shape == (12, 12, 2)
    moved = kernel.clone_with_theta(np.log([2.0, 3.0]))
    assert (moved.net.layers[1].W_std, moved.net.layers[1].b_std) == (pytest.approx(2.0), 0.4)
    assert NetworkKernel(MLP, limits="fixed").theta.shape == (0,)
    assert NetworkKernel().n_dims == 6
    weighted = so3ntk.serial(so3ntk.Lift(b_std=0.0, channel_weights=np.array([1.0, 2.0])), so3ntk.GroupPool())
    assert [(h.name, h.n_elements) for h in NetworkKernel(weighted).hyperparameters] == [
        ("layers_0_W_std", 1),
        ("layers_0_channel_weights", 2),
    ]
    np.testing.assert_allclose(NetworkKernel(weighted).clone_with_theta(np.zeros(3)).net.layers[0].channel_weights, 1)


def test_a_kernel_of_scikit_learn():
    kernel = NetworkKernel(MLP)
    assert clone(kernel) == kernel == pickle.loads(pickle.dumps(kernel))
    assert kernel != NetworkKernel(MLP, "nngp")
    assert not kernel.is_stationary()
    assert not (kernel * RBF()).is_stationary()
    assert repr(kernel) == "NetworkKernel('ntk', layers_1_W_std=1.3, layers_1_b_std=0.4, layers_3_W_std=-0.7)"
    np.testing.assert_allclose(kernel.diag(X), np.diag(kernel(X)), rtol=1e-12)
    np.testing.assert_allclose(kernel(X, X_TEST), MLP.kernel_fn(X, X_TEST, "ntk"), rtol=1e-12)
    np.testing.assert_array_equal(kernel(X.tolist()), kernel(X))
    sum_of_products = 2.0 * kernel * RBF(3.0) + WhiteKernel(0.1)
    expected = 2 * kernel(X) * RBF(3.0)(X) + 0.1 * np.eye(12)
    np.testing.assert_allclose(sum_of_products(X), expected, rtol=1e-12)
    assert sum_of_products(X, eval_gradient=True)[1].shape == (12, 12, 6)


def test_rows_stand_for_inputs_of_any_kind():
    """Of one batch, of parts of it, and of several; what scikit-learn takes apart has the values of the whole."""
    kernel, (a, b) = NetworkKernel(SPHERE), (SIGNALS[:4], SIGNALS[4:])
    whole = kernel(SIGNALS)
    np.testing.assert_allclose(whole, SPHERE.kernel_fn(SIGNALS, None, "ntk"), rtol=1e-12)
    some = [5, 0, 3]
    np.testing.assert_allclose(kernel(rows(SIGNALS)[some]), whole[np.ix_(some, some)], rtol=1e-12)
    several = np.concatenate([rows(a)[:2], rows(b), rows(a)[2:]])
    order = [0, 1, 4, 5, 2, 3]
    np.testing.assert_allclose(kernel(several), whole[np.ix_(order, order)], rtol=1e-12)
    np.testing.assert_array_equal(kernel(several), kernel(several).T)
    np.testing.assert_allclose(kernel(several, rows(b)), whole[np.ix_(order, [4, 5])], rtol=1e-12)
    np.testing.assert_allclose(kernel.diag(several), np.diag(whole)[order], rtol=1e-12)
    assert repr(rows(a)[1]) == "Row 1 of SphereSignal"
    y = np.arange(6.0)
    model = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(rows(SIGNALS), y)
    ours = so3ntk.KernelRegressor(SPHERE, ridge=0.1, fit_intercept=False).fit(SIGNALS, y)
    np.testing.assert_allclose(model.predict(rows(b)), ours.predict(b), rtol=0, atol=1e-10)


def test_fits():
    """The likelihood is that of its gradient, rises, and a grid search passes networks on."""
    kernel = NetworkKernel(MLP, limits=(0.05, 20)) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel).fit(X, Y)
    assert model.log_marginal_likelihood_value_ > model.log_marginal_likelihood(kernel.theta) + 0.1
    _, slope = model.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    ahead, behind = (model.log_marginal_likelihood(kernel.theta + sign * 1e-4 * np.eye(4)[1]) for sign in (1, -1))
    assert slope[1] == pytest.approx((ahead - behind) / 2e-4, rel=1e-5)
    classifier = GaussianProcessClassifier(NetworkKernel(MLP, limits=(0.1, 10))).fit(X, Y > 0)
    assert classifier.score(X, Y > 0) == 1
    grid = GridSearchCV(GaussianProcessRegressor(optimizer=None, alpha=0.1), {"kernel": [RBF(), kernel]}, cv=2)
    assert grid.fit(X, Y).best_params_["kernel"] in (RBF(), kernel)


def test_double_precision_whatever_jax_is_set_to():
    exact = NetworkKernel(MLP)(X, eval_gradient=True)
    with double_precision(False):
        found = NetworkKernel(MLP)(X, eval_gradient=True)
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_refusals():
    with pytest.raises(TypeError, match="NetworkKernel: expected net to be None or a Network"):
        NetworkKernel("precomputed")(X)
    with pytest.raises(ValueError, match='"ntk" or "nngp"'):
        NetworkKernel(MLP, "both").diag(X)
    with pytest.raises(ValueError, match="are fields"):
        NetworkKernel(so3ntk.serial(so3ntk.Lift()))(SIGNALS)
    with pytest.raises(ValueError, match="are blocks"):
        NetworkKernel(so3ntk.serial(so3ntk.Lift(), so3ntk.IrrepPool(1)))(SIGNALS)
    with pytest.raises(ValueError, match=r"limits: expected names among layers_1_W_std, .*got 'W_std'"):
        NetworkKernel(MLP, limits={"W_std": (0.1, 10)}).theta  # noqa: B018
    with pytest.raises(ValueError, match="eval_gradient is for the kernel of X with itself"):
        NetworkKernel(MLP)(X, X_TEST, eval_gradient=True)
    with pytest.raises(ValueError, match="theta: expected numbers for"):
        NetworkKernel(MLP).clone_with_theta(np.zeros(2))
    assert ConstantKernel(2.0)(rows(SIGNALS)).shape == (6, 6)
