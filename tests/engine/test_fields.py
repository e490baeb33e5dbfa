"""Kernels before pooling: against the slow evaluation, their mean, and the group's action on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import so3ntk
from so3ntk import Dense, Erf, ExplicitGrid, GroupConv, GroupPool, Lift, ProductGrid, Relu, SphereSignal, serial
from tests.oracles import field
from tests.oracles.harmonics import rotated, white_signals

OCTAHEDRAL = ExplicitGrid(Rotation.create_group("O"))
LAYERS = (Lift(b_std=0.3), Erf(), GroupConv(W_std=1.2), Relu())
A, B = white_signals(2, 3, 2, seed=0), white_signals(3, 3, 2, seed=1)
EPS = np.finfo(np.float64).eps


def signal(coefficients, dtype=np.float64):
    return SphereSignal(jnp.asarray(coefficients, dtype), 3)


@pytest.mark.parametrize("layers", [(Lift(),), LAYERS], ids=["linear", "nonlinear"])
def test_values_and_mean(layers):
    found = serial(*layers, quadrature=ProductGrid(4)).kernel_fn(signal(A), signal(B))
    assert found.motions.shape == (32, 3, 3)
    assert found.nngp.shape == found.ntk.shape == (2, 3, 32)
    expected = field.evaluate_field(serial(*layers), A, B, Rotation.from_matrix(found.motions))
    pooled = serial(*layers, GroupPool(), quadrature=ProductGrid(4)).kernel_fn(signal(A), signal(B))
    for values, slow, mean in zip(found[:2], expected, pooled, strict=True):
        np.testing.assert_allclose(values, slow, rtol=0, atol=500 * EPS * np.abs(slow).max())
        np.testing.assert_allclose(values @ found.weights, mean, rtol=0, atol=500 * EPS * np.abs(slow).max())


def test_rotated_signals_permute_the_motions():
    """K_r(f, rho(s) f') = K_rs(f, f') and K_r(rho(s) f, f') = K_(s^-1 r)(f, f'), not trivial before pooling."""
    net = serial(*LAYERS, quadrature=OCTAHEDRAL)
    kernel = net.kernel_fn(signal(A), signal(B))
    r, s = np.asarray(kernel.motions), np.asarray(kernel.motions)[7]

    def index(matrices):
        return np.argmax(np.einsum("aij,bij->ab", matrices, r), axis=1)

    right = net.kernel_fn(signal(A), signal(rotated(B, s[None])[0])).ntk
    left = net.kernel_fn(signal(rotated(A, s[None])[0]), signal(B)).ntk
    scale = np.abs(np.asarray(kernel.ntk)).max()
    np.testing.assert_allclose(right, kernel.ntk[..., index(r @ s)], rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(left, kernel.ntk[..., index(s.T @ r)], rtol=0, atol=1e-12 * scale)
    assert np.abs(right - kernel.ntk).max() > 1e-2 * scale


def test_names_precision_and_transformations():
    net = serial(*LAYERS, quadrature=OCTAHEDRAL)
    whole = net.kernel_fn(signal(A))
    one = net.kernel_fn(signal(A), get="ntk")
    assert one.nngp is None
    np.testing.assert_array_equal(one.ntk, whole.ntk)
    single = net.kernel_fn(signal(A, np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {np.dtype(np.float32)}
    traced = jax.jit(lambda a: net.kernel_fn(signal(a)))(jnp.asarray(A))
    np.testing.assert_allclose(traced.ntk, whole.ntk, rtol=1e-12)
    assert net.kernel_fn(signal(A[:0]), signal(A)).ntk.shape == (0, 2, 24)


def test_only_kernel_fn_returns_fields():
    net, x = serial(*LAYERS, Dense(), quadrature=OCTAHEDRAL), signal(A)
    for call in (lambda: so3ntk.gram(net, x), lambda: net.calibrate(x), lambda: net.quadrature_error(x)):
        with pytest.raises(ValueError, match=r"add GroupPool\(\)"):
            call()
