import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import sph_harm_y

from so3ntk.molecules.harmonics import real_harmonics
from so3ntk.rotations import random_rotations, real_wigner_D

AXES = np.concatenate([np.eye(3), -np.eye(3)])
# The poles, where angles lose their meaning, and their neighbourhoods at every scale.
POLAR = np.array([[x, -0.3 * x, z] for x in (0, 1e-300, 1e-16, 1e-8, 1e-3) for z in (1, -1)])


def random_directions(n, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scipy_harmonics(vectors, bandlimit):
    """Real harmonics from scipy's complex ones and the definition in so3ntk.rotations."""
    x, y, z = vectors.T
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    columns = []
    for degree in range(bandlimit):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), theta, phi)
            part = value.imag if m < 0 else value.real
            columns.append(part if m == 0 else np.sqrt(2) * (-1) ** m * part)
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("bandlimit", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("vectors", [random_directions(200), AXES, POLAR], ids=["random", "axes", "polar"])
def test_scipy(bandlimit, vectors):
    ours = real_harmonics(jnp.asarray(vectors), bandlimit)
    # Each step of the recursion adds a rounding, so the error grows with l; |Y_lm| <= sqrt((2l + 1) / 4 pi) < 2.3.
    np.testing.assert_allclose(ours, scipy_harmonics(vectors, bandlimit), atol=1e-13)


def test_first_degree_is_y_z_x():
    vectors = random_directions(20)
    expected = np.sqrt(3 / (4 * np.pi)) * vectors[:, [1, 2, 0]]
    np.testing.assert_allclose(real_harmonics(jnp.asarray(vectors), 2)[:, 1:], expected, atol=1e-15)


def test_orthonormal_at_the_largest_bandlimit():
    nodes, weights = np.polynomial.legendre.leggauss(64)
    phi = 2 * np.pi * np.arange(128) / 128
    z, phi = (a.ravel() for a in np.meshgrid(nodes, phi, indexing="ij"))
    rho = np.sqrt(1 - z**2)
    harmonics = real_harmonics(jnp.asarray(np.stack([rho * np.cos(phi), rho * np.sin(phi), z], -1)), 64)
    gram = np.asarray(harmonics).T @ (np.repeat(weights, 128)[:, None] * 2 * np.pi / 128 * np.asarray(harmonics))
    np.testing.assert_allclose(gram, np.eye(64**2), atol=1e-12)


def test_direction_alone_matters():
    vectors = random_directions(10)
    scaled = real_harmonics(jnp.asarray(vectors * np.logspace(-8, 8, 10)[:, None]), 5)
    np.testing.assert_allclose(scaled, real_harmonics(jnp.asarray(vectors), 5), atol=1e-14)


def test_rotated_directions():
    # A delta at R x is the rotated delta at x, so that its coefficients Y(R x) are D Y(x).
    vectors, rotation = random_directions(10), random_rotations(1, seed=3)
    rotated = real_harmonics(jnp.asarray(rotation.apply(vectors)), 6)
    for degree in range(6):
        block = slice(degree**2, (degree + 1) ** 2)
        expected = real_harmonics(jnp.asarray(vectors), 6)[:, block] @ real_wigner_D(degree, rotation)[0].T
        np.testing.assert_allclose(rotated[:, block], expected, atol=1e-13)


@pytest.mark.parametrize("vectors", [random_directions(3), AXES, POLAR[:2]], ids=["generic", "axes", "poles"])
def test_derivatives_to_second_order(vectors):
    check_grads(lambda v: real_harmonics(v, 5), (jnp.asarray(vectors),), order=2, atol=1e-5, rtol=1e-5)


def test_second_derivatives_are_finite_at_the_poles():
    second = jax.vmap(jax.jacfwd(jax.jacrev(lambda v: real_harmonics(v, 16))))(jnp.asarray(POLAR))
    assert np.isfinite(second).all()


def test_single_precision():
    vectors = np.concatenate([random_directions(100), AXES])
    single = real_harmonics(jnp.asarray(vectors, jnp.float32), 16)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, scipy_harmonics(vectors, 16), atol=16 * 4 * np.finfo(np.float32).eps)


def test_batches_and_transformations():
    vectors = jnp.asarray(random_directions(6)).reshape(2, 3, 3)
    batch = real_harmonics(vectors, 4)
    assert batch.shape == (2, 3, 16)
    np.testing.assert_allclose(batch[1, 2], real_harmonics(vectors[1, 2], 4), atol=1e-15)
    np.testing.assert_allclose(batch, jax.jit(real_harmonics, static_argnums=1)(vectors, 4), atol=1e-15)
    assert real_harmonics(jnp.zeros((0, 3)), 4).shape == (0, 16)


def test_no_direction():
    assert np.isnan(real_harmonics(jnp.zeros(3), 2)[1:]).all()


@pytest.mark.parametrize(
    ("vectors", "bandlimit", "message"),
    [
        (np.zeros((3, 2)), 4, r"vectors \(\.\.\., 3\), got an array of shape \(3, 2\)"),
        (np.zeros(()), 4, "shape"),
        (np.ones(3), 0, "bandlimit"),
        (np.ones(3), 65, "bandlimit"),
    ],
)
def test_refused(vectors, bandlimit, message):
    with pytest.raises(ValueError, match=message):
        real_harmonics(vectors, bandlimit)
