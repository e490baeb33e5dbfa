"""Signals far from one: homogeneous networks know no scale, others agree with double precision, and nothing is silent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
from so3ntk import (
    Abs,
    Dense,
    Erf,
    Flatten,
    Gelu,
    GroupConv,
    GroupPool,
    IrrepPool,
    LeakyRelu,
    Lift,
    LocalGrid,
    Monomial,
    ProductGrid,
    Relu,
    Sign,
    SphereGrid,
    SphereSignal,
    gram,
    kernel_diagonal,
    serial,
)
from so3ntk.errors import PrecisionError
from so3ntk.molecules import AtomSum, Environments
from tests.oracles.duals import mlp

GRID = ProductGrid(8)
CAPS = LocalGrid(ProductGrid(4), SphereGrid(6))
RNG = np.random.default_rng(0)
COEFFICIENTS, IMAGES = RNG.normal(size=(4, 9, 2)), RNG.normal(size=(4, 4, 4, 2))


def sphere(a, dtype=jnp.float32):
    return SphereSignal(jnp.asarray(a, dtype), 3)


def images(a, dtype=jnp.float32):
    return jnp.asarray(a, dtype)


def rows(a, dtype=jnp.float32):
    return jnp.asarray(a.reshape(len(a), -1), dtype)


def atoms(a, dtype=jnp.float32):
    return Environments(sphere(a, dtype), [0, 0, 1, 1], [1, 6, 1, 6])


#: Name: network, batch, signals, exponent h of the network in each of its signals.
HOMOGENEOUS = {
    "tower": (serial(Lift(), Relu(), GroupConv(), Abs(), GroupPool(), Dense(), quadrature=GRID), sphere, COEFFICIENTS, 1),
    "squares": (serial(Lift(), Monomial(2), GroupPool(), quadrature=GRID), sphere, COEFFICIENTS, 2),
    "signs": (serial(Lift(), Sign(), GroupPool(), Dense(), quadrature=GRID), sphere, COEFFICIENTS, 0),
    "reflections": (serial(Lift(group="O3"), LeakyRelu(0.1), GroupPool(), quadrature=GRID), sphere, COEFFICIENTS, 1),
    "vectors": (serial(Lift(), Relu(), IrrepPool(1), quadrature=GRID), sphere, COEFFICIENTS, 1),
    "after pooling": (serial(Lift(), GroupConv(bandlimit=2), Relu(), GroupPool(), Dense(), Relu(), quadrature=GRID), sphere,
                      COEFFICIENTS, 1),
    "caps": (serial(Lift(support=0.9), Relu(), GroupConv(support=0.7), GroupPool(), quadrature=CAPS), sphere,
             COEFFICIENTS, 1),
    "images": (serial(planar.Lift((3, 3), "SAME"), Relu(), planar.GroupConv((3, 3), "SAME"), Sign(), GroupPool()), images,
               IMAGES, 0),
    "tiles": (serial(planar.Lift((3, 3)), Relu(), planar.AvgPool((2, 2)), GroupPool(), Dense()), images, IMAGES, 1),
    "global images": (serial(planar.Lift(None), Abs(), planar.GroupConv(None), Relu(), GroupPool()), images, IMAGES, 1),
    "atoms": (serial(Lift(), Relu(), GroupPool(), AtomSum(match_species=True), quadrature=GRID), atoms, COEFFICIENTS, 1),
    "field": (serial(Lift(), Relu(), GroupConv(), quadrature=ProductGrid(4)), sphere, COEFFICIENTS, 1),
}  # fmt: skip


def relative(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_homogeneous_networks_have_no_scale(name):
    """K(s x) = s^2h K(x) to 1e-5 in single precision, for powers of two, by which no digit changes."""
    net, batch, values, degree = HOMOGENEOUS[name]
    plain = net.kernel_fn(batch(values))
    # Some of a field's values are far below its variance, and squares fall as the square
    far = {"field": (-50, 60), "squares": (-25, 30)} | dict.fromkeys(
        ("reflections", "vectors", "after pooling"), (-55, 60)
    )
    for exponent in far.get(name, (-60, -40, 40, 60)):
        kernels = net.kernel_fn(batch(values * 2.0**exponent))
        for kernel, expected in zip(kernels[:2], plain[:2], strict=True):
            assert kernel.dtype == np.float32
            assert relative(np.asarray(kernel, np.float64) * 2.0 ** (-2 * degree * exponent), expected) < 1e-5


@pytest.mark.parametrize("name", ["tower", "caps", "global images", "atoms"])
def test_each_signal_has_its_own_scale(name):
    """Beside ordinary signals, from every entry: matrices of two batches, tiles, the diagonal, jit.

    Of entries the last three see a kernel alone; sums over atoms are their own way through them.
    """
    net, batch, values, degree = HOMOGENEOUS[name]
    exponents = np.array([0, 0, -50, -50] if name == "atoms" else [0, 40, -50, 7])
    of_inputs = np.array([0, -50]) if name == "atoms" else exponents  # two atoms of a molecule each
    x, far = batch(values), batch(values * (2.0**exponents).reshape(-1, *(1,) * (values.ndim - 1)))
    scale = 2.0 ** (degree * of_inputs.astype(float))
    plain = net.kernel_fn(x, get="ntk")
    assert relative(np.asarray(net.kernel_fn(far, get="ntk"), float) / np.outer(scale, scale), plain) < 1e-5
    crossed = net.kernel_fn(x, batch(values), "ntk")  # caps: not made symmetric
    assert relative(np.asarray(net.kernel_fn(x, far, "ntk"), float) / scale, crossed) < 1e-5
    if name in ("caps", "global images"):
        return
    tiled = gram(net, far, tile=1, progress=False)
    assert relative(np.asarray(tiled, float) / np.outer(scale, scale), plain) < 1e-5
    diagonal = kernel_diagonal(net, far).astype(float)
    assert relative(diagonal / scale**2, np.diag(plain)) < 1e-5
    traced = jax.jit(lambda far: net.kernel_fn(far, get="ntk"))(far)
    assert relative(np.asarray(traced, float) / np.outer(scale, scale), crossed) < 1e-5


DEEP = {"kinks": ((Relu(), Abs(), LeakyRelu(0.2)) * 2, 1), "sign": ((Sign(),), 0)}


@pytest.mark.parametrize("name", DEEP)
def test_small_weights_keep_the_correlations(name):
    """Variances of 2.5e-31 after six layers: the product of two of them is zero in single precision."""
    activations, degree = DEEP[name]

    def net(W_std):
        return serial(Flatten(), *(layer for activation in activations for layer in (Dense(W_std=W_std), activation)))

    plain, small = (net(W_std).kernel_fn(rows(COEFFICIENTS)) for W_std in (1.0, 2.0**-8))
    for kernel, expected in zip(small, plain, strict=True):
        assert relative(np.asarray(kernel, float) * 2.0 ** (16 * len(activations) * degree), expected) < 1e-5


def test_the_variances_that_were_lost():
    """(pi - theta) cos theta + sin theta over 4 pi^..., by the recursion in double precision."""
    net = serial(Flatten(), *(Dense(W_std=0.02), Relu()) * 8)
    kernel = np.asarray(net.kernel_fn(np.eye(2, dtype=np.float32), get="nngp"))
    one = np.ones(())
    expected = mlp(0 * one, one, one, [(1.0, 0.0), "relu"] * 8)[0] * 2**8
    np.testing.assert_allclose(kernel[0, 1] / kernel[0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(expected, 0.83442, atol=5e-6)


@pytest.mark.parametrize("scale", [1e-10, 1e10, 1e-15, 1e15])
def test_closed_forms_far_from_one(scale):
    relu = serial(Flatten(), Dense(), Relu(), Dense()).kernel_fn(scale * np.eye(2, dtype=np.float32), get="nngp")
    np.testing.assert_allclose(relu[0, 1], scale**2 / (4 * np.pi), rtol=1e-6)
    triangle = np.array([[3, 4], [0, 5]], np.float32) * np.float32(scale)
    sign = serial(Flatten(), Dense(), Sign(), Dense()).kernel_fn(triangle, get="nngp")
    np.testing.assert_allclose(sign[0, 1], 2 / np.pi * np.arcsin(0.8), rtol=1e-6)


@jax.jit
def duals_and_slopes(activation, c, q1, q2):
    """Both duals of an activation, and their derivatives."""
    functions = activation.dual, activation.derivative_dual
    slopes = [jax.vmap(jax.grad(function, argnums=(0, 1, 2))) for function in functions]
    return [function(c, q1, q2) for function in functions], [slope(c, q1, q2) for slope in slopes]


@pytest.mark.parametrize("activation", [Erf(), Gelu(), Erf(1.3, 0.5, 0.2)], ids=["erf", "gelu", "affine"])
def test_saturating_activations_agree_with_double_precision(activation):
    """Duals and slopes at generic correlations, of unequal variances too; gradients are finite."""
    pairs = [(q1, q2) for q1 in (1e12, 1e24, 1e32) for q2 in (q1, 1e-3 * q1, 0.5)]
    rho, (q1, q2) = np.linspace(-0.95, 0.95, 9), np.repeat(pairs, 9, axis=0).T
    exact = [jnp.asarray(v) for v in (np.tile(rho, len(pairs)) * np.sqrt(q1 * q2), q1, q2)]
    duals, slopes = duals_and_slopes(activation, *(v.astype(jnp.float32) for v in exact))
    for single, expected in zip(duals, duals_and_slopes(activation, *exact)[0], strict=True):
        np.testing.assert_allclose(np.asarray(single, float), expected, rtol=1e-5)
    # Gelu's slopes in the variances are products of numbers beyond the range: NaN
    judged = q1 <= (1e18 if isinstance(activation, Gelu) else np.inf)
    assert all(np.isfinite(slope[judged]).all() for slope in jax.tree.leaves(slopes))


@pytest.mark.parametrize("activation", [Relu(), Abs(), LeakyRelu(0.3), Sign()], ids=repr)
def test_derivatives_of_kinked_duals_far_from_one(activation):
    """Those in c, q1 and q2 are those at variance one times powers of the variance."""
    degree, variances = activation.homogeneity, np.array([1.0, 1e-30, 1e-20, 1e20, 1e30])
    triples = [jnp.asarray(v, jnp.float32) * jnp.asarray(variances, jnp.float32) for v in (0.4, 1.0, 0.8)]
    for slope in jax.jit(jax.vmap(jax.grad(activation.dual, argnums=(0, 1, 2))))(*triples):
        near, *far = np.asarray(slope, float) * variances ** (1 - degree)
        np.testing.assert_allclose(far, near, rtol=1e-5)


def test_gradients_of_networks_far_from_one():
    net, batch, values, _ = HOMOGENEOUS["tower"]
    slope = jax.jit(jax.grad(lambda a: jnp.sum(net.kernel_fn(SphereSignal(a, 3), get="ntk"))))
    near = slope(batch(values).coefficients)
    for exponent in (-40, 40):
        far = slope(batch(values * 2.0**exponent).coefficients)
        assert relative(np.asarray(far, float) * 2.0**-exponent, near) < 1e-5


# --- nothing is silent


def test_kernels_that_no_number_holds():
    net, batch, values, _ = HOMOGENEOUS["tower"]
    for exponent in (-80, 70):
        x = batch(values * 2.0**exponent)
        for call in (lambda: net.kernel_fn(x), lambda: gram(net, x, progress=False)):  # noqa: B023
            with pytest.raises(PrecisionError, match=r"input 0 of x1.*float32.*too large or too small"):
                call()
        assert not np.isfinite(np.diag(jax.jit(lambda x: net.kernel_fn(x, get="ntk"))(x))).any()


def test_signals_whose_variance_underflows_beside_a_scale():
    values = COEFFICIENTS.copy()
    values[2] *= 2.0**-80
    for net in (serial(Flatten(), Dense(), Erf(), Dense()), serial(Flatten(), Dense(), Sign(), Dense(b_std=0.1))):
        with pytest.raises(PrecisionError, match=r"input 2 of x1 is not zero.*Multiply all inputs"):
            net.kernel_fn(rows(values))
        kernel = np.asarray(jax.jit(lambda x, net=net: net.kernel_fn(x, get="nngp"))(rows(values)))
        assert np.isnan(kernel[2]).all()
        assert np.isfinite(kernel[:2, :2]).all()
    values[2] = 0  # truly zero, and next to a bias what vanishes is nothing
    assert np.isfinite(serial(Flatten(), Dense(), Erf(), Dense()).kernel_fn(rows(values), get="nngp")).all()
    biased = serial(Flatten(), Dense(b_std=0.1), Erf(), Dense())
    zero = biased.kernel_fn(rows(values), get="nngp")
    values[2] = COEFFICIENTS[2] * 2.0**-80
    np.testing.assert_array_equal(biased.kernel_fn(rows(values), get="nngp"), zero)


def test_variances_that_underflow_between_layers():
    net = serial(Flatten(), Dense(W_std=1e-15), Erf(), Dense(W_std=1e-15), Erf(), Dense())
    with pytest.raises(PrecisionError, match="too large or too small"):
        net.kernel_fn(rows(COEFFICIENTS))
    assert np.isnan(jax.jit(lambda x: net.kernel_fn(x, get="nngp"))(rows(COEFFICIENTS))).all()
    nothing = serial(Flatten(), Dense(), Relu(), Dense(W_std=0.0), Relu(), Dense())
    np.testing.assert_array_equal(nothing.kernel_fn(rows(COEFFICIENTS), get="nngp"), 0)  # a weight of zero is meant
