import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_legendre, sph_harm_y

from so3ntk.molecules.harmonics import real_harmonics
from so3ntk.sphere.rotations import random_rotations, real_wigner_D
from tests.molecules.derivatives import check_derivatives

AXES = np.concatenate([np.eye(3), -np.eye(3)])
# The poles, where angles lose their meaning, and their neighbourhoods at every scale.
POLAR = np.array([[x, -0.3 * x, z] for x in (0, 1e-300, 1e-16, 1e-8, 1e-3) for z in (1, -1)])


def random_directions(n, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scipy_harmonics(vectors, bandlimit):
    """Real harmonics from scipy's complex ones and the definition in so3ntk.sphere.rotations."""
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
def test_scipy(bandlimit):
    vectors = np.concatenate([random_directions(200), AXES, POLAR])
    ours = real_harmonics(jnp.asarray(vectors), bandlimit)
    # Each step of the recursion adds a rounding, so the error grows with l; |Y_lm| < 2.3 for l < 32.
    np.testing.assert_allclose(ours, scipy_harmonics(vectors, bandlimit), atol=1e-13)


def test_first_degree_is_y_z_x():
    vectors = random_directions(20)
    expected = np.sqrt(3 / (4 * np.pi)) * vectors[:, [1, 2, 0]]
    np.testing.assert_allclose(real_harmonics(jnp.asarray(vectors), 2)[:, 1:], expected, atol=1e-15)


def test_addition_theorem_at_the_largest_bandlimit():
    # sum_m Y_lm(u) Y_lm(v) = (2l + 1) / 4 pi P_l(u . v), against scipy's Legendre polynomials.
    vectors = np.concatenate([random_directions(30), AXES])
    harmonics = np.asarray(real_harmonics(jnp.asarray(vectors), 64))
    cosines = np.clip(vectors @ vectors.T, -1, 1)
    for degree in range(64):
        block = harmonics[:, degree**2 : (degree + 1) ** 2]
        expected = (2 * degree + 1) / (4 * np.pi) * eval_legendre(degree, cosines)
        # P_l' reaches l^2 / 2, which multiplies the rounding of the cosine, and each sum has 2l + 1 terms.
        atol = (degree + 1) ** 3 * np.finfo(float).eps
        np.testing.assert_allclose(block @ block.T, expected, atol=atol)


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


def test_derivatives_to_second_order():
    vectors = np.concatenate([random_directions(3), AXES])  # two of the axes are the poles
    check_derivatives(lambda v: real_harmonics(v, 5), vectors, rtol=1e-6)


def test_second_derivatives_are_finite_at_the_poles():
    second = jax.jit(jax.vmap(jax.jacfwd(jax.jacrev(lambda v: real_harmonics(v, 8)))))(jnp.asarray(POLAR))
    assert np.isfinite(second).all()


def test_single_precision():
    vectors = np.float32(np.concatenate([random_directions(2000), AXES]))
    single = real_harmonics(jnp.asarray(vectors), 16)
    assert single.dtype == jnp.float32
    # The rounding of the unit vector is multiplied by l, and each step of the recursions adds one.
    atol = 10 * 16 * np.finfo(np.float32).eps
    np.testing.assert_allclose(single, scipy_harmonics(np.float64(vectors), 16), atol=atol)


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
