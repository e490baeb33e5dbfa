"""Normalisation over channels: the closed form, what it forgets, finite networks, where it may stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from so3ntk import Dense, Flatten, GroupPool, LayerNorm, Lift, Relu, serial
from tests.finite.cases import DRAWS, compare, sphere_signals

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(4, 3))


def relu_of(c, q1, q2):
    """The arc-cosine kernel of order one (Cho, Saul 2009), E[relu(u) relu(v)], and E[relu'(u) relu'(v)]."""
    size = np.sqrt(q1 * q2)
    angle = np.arccos(np.clip(c / size, -1, 1))
    return size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


@pytest.mark.parametrize("epsilon", [1e-12, 0.3])
def test_closed_form(epsilon):
    """Vectors: Dense, LayerNorm, ReLU, Dense."""
    net = serial(Flatten(), Dense(W_std=1.7, b_std=0.4), LayerNorm(epsilon), Relu(), Dense())
    k = 1.7**2 * VECTORS @ VECTORS.T / 3 + 0.16
    scale = np.sqrt(np.outer(np.diag(k) + epsilon, np.diag(k) + epsilon))
    variances = np.diag(k) / (np.diag(k) + epsilon)
    dual, slopes = relu_of(k / scale, variances[:, None], variances[None])
    found = net.kernel_fn(VECTORS)
    np.testing.assert_allclose(found.nngp, dual, rtol=1e-7)
    np.testing.assert_allclose(found.ntk, dual + slopes * k / scale, rtol=1e-7)


def test_scales_before_it_are_forgotten():
    """Of weights and of inputs, on the sphere and on images; and an input that vanishes has no kernel."""
    x = sphere_signals()
    images = RNG.normal(size=(2, 4, 4, 1))

    def sphere(W_std):
        return serial(Lift(W_std=W_std), LayerNorm(0.0), Relu(), GroupPool(), Dense(), quadrature=so3ntk.ProductGrid(8))

    def image(W_std):
        return serial(planar.Lift((3, 3), W_std=W_std), LayerNorm(0.0), Relu(), planar.GroupPool(), Dense())

    for make, signals, larger in (
        (sphere, x, so3ntk.SphereSignal(3 * x.coefficients, x.bandlimit)),
        (image, images, 3 * images),
    ):
        nngp = make(1.0).kernel_fn(signals, None, "nngp")
        np.testing.assert_allclose(make(5.0).kernel_fn(larger, None, "nngp"), nngp, rtol=1e-12)
    assert LayerNorm(0.0).homogeneity == 0
    with pytest.raises(so3ntk.PrecisionError):
        serial(Flatten(), Dense(), LayerNorm(0.0), Dense()).kernel_fn(np.zeros((1, 3)), None, "nngp")
    assert serial(Flatten(), Dense(), LayerNorm(), Dense()).kernel_fn(np.zeros((1, 3)), None, "nngp") == 0


def test_a_polynomial_tower_and_a_scan_agree():
    """Of degree one at given variances: after it powers stay powers."""
    x = sphere_signals()
    layers = Lift(b_std=0.2), LayerNorm(0.1), so3ntk.Monomial(2), GroupPool(), Dense()
    wide = so3ntk.ProductGrid(12)
    kernel = np.asarray(serial(*layers, quadrature=so3ntk.ProductGrid(8)).kernel_fn(x, None, "ntk"))
    np.testing.assert_allclose(kernel, serial(*layers, quadrature=wide).kernel_fn(x, None, "ntk"), rtol=1e-12)


def test_finite_networks():
    net = serial(Flatten(), Dense(256, b_std=0.3), LayerNorm(0.05), Relu(), Dense(1))
    x = jnp.asarray(VECTORS)
    found = so3ntk.empirical.monte_carlo(net, x, draws=DRAWS, key=jax.random.key(0), progress=False)
    compare(found, net.kernel_fn(x))
    params = net.init_fn(jax.random.key(0), x.shape)[1]
    hidden = serial(*net.layers[:3])
    values = np.asarray(hidden.apply_fn(params[:3], x))
    np.testing.assert_allclose(values.mean(-1), 0, atol=1e-12)
    before = np.asarray(serial(*net.layers[:2]).apply_fn(params[:2], x))
    np.testing.assert_allclose(values.var(-1), before.var(-1) / (before.var(-1) + 0.05), rtol=1e-12)


def test_where_it_may_stand():
    serial(Flatten(), Dense(), LayerNorm(), LayerNorm(), Relu(), Dense())
    with pytest.raises(ValueError, match="LayerNorm: it acts on features that are Gaussian"):
        serial(Flatten(), Dense(), Relu(), LayerNorm(), Dense())
    for epsilon in (-1e-3, float("nan"), "small", True):
        with pytest.raises(ValueError, match="LayerNorm: expected epsilon"):
            LayerNorm(epsilon)


def test_saved_and_loaded(tmp_path):
    net = serial(Flatten(), Dense(), LayerNorm(0.2), Relu(), Dense())
    so3ntk.save(net, tmp_path / "net.npz")
    assert so3ntk.load(tmp_path / "net.npz").layers == net.layers
