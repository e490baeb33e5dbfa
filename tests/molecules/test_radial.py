"""Radial bases: the smeared neighbour against its integral, smoothness, derivatives, and what may be given together."""

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import eval_legendre

from so3ntk import Dense, Erf, Flatten, serial
from so3ntk.molecules import AtomSum, Environments, Powers, Shells, environment_coefficients, environments
from so3ntk.molecules.neighbours import pairs_within
from so3ntk.molecules.radial import FALL, INNER
from tests.oracles.harmonics import harmonics

WATER = ase.Atoms("OH2", positions=[[0, 0, 0.1], [0.76, 0.1, -0.5], [-0.8, 0, -0.45]])


def coefficients(positions, numbers=(8, 1), radial=None, **options):
    return environment_coefficients(
        positions,
        np.asarray(numbers),
        np.zeros(len(numbers), int),
        species=("H", "O"),
        radial=radial or Shells(),
        **options,
    )


def pair(distance, direction=(0.0, 0.0, 1.0)):
    return jnp.array([[0.0, 0, 0], np.multiply(distance, direction)])


def test_one_neighbour_by_the_formulas():
    """Written out once more: shells on a grid of u found by quadrature of 1 / sigma, heat factors, charges, channels."""
    shells = Shells(5, 4.0, 0.2, 0.7, 0.9, scale=2.0)
    r, direction = 1.9, np.array([2.0, -1, 2]) / 3
    sigma = lambda t: 0.2 * np.exp(0.7 * t)  # noqa: E731
    u = lambda t: quad(lambda v: 1 / sigma(v), 0, t)[0]  # noqa: E731
    places = np.linspace(u(INNER), u(4.0), 5)
    width = max(places[1] - places[0], 1)
    radial = np.exp(-((u(r) - places) ** 2) / (2 * width**2)) * np.exp(-0.9 * r) * np.sqrt(8.0)
    degrees = np.repeat(np.arange(3), 2 * np.arange(3) + 1)
    angular = harmonics(direction[None], range(3))[0] * np.exp(-degrees * (degrees + 1) * (sigma(r) / r) ** 2 / 2)
    expected = 2.0 * np.sqrt(10) * angular[:, None] * radial
    found = np.asarray(coefficients(pair(r, direction), radial=shells, bandlimit=3))[0].reshape(9, 2, 5)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(found[:, 1], 0)


def test_the_angular_factor_is_that_of_a_smeared_point():
    """exp(-l (l + 1) t) are the Legendre coefficients of the heat kernel: near those of a Gaussian of width sigma / r."""
    shells, r = Shells(width=0.03, growth=1.0), 1.5
    angle = 0.03 * np.exp(1.5) / r
    found = np.asarray(shells.damping(jnp.array([r]), 4))[0]
    norm = quad(lambda x: np.exp(-((1 - x) / angle**2)), -1, 1)[0]
    gaussian = [
        quad(lambda x, k=k: np.exp(-((1 - x) / angle**2)) * eval_legendre(k, x), -1, 1)[0] / norm for k in range(4)
    ]
    np.testing.assert_allclose(found, gaussian, rtol=2 * angle**4 * 12)


def test_smooth_to_second_order():
    """Values, slopes and curvatures from either side meet, at the inner radius, where the fall begins and where it ends."""
    shells, step = Shells(), 1e-9
    places = np.array([0.5, INNER, 5.0 - FALL, 5.0])

    def value(r):
        return shells.weights(r[None], jnp.array([6.0]))[0]

    slope, curvature = jax.jacfwd(value), jax.jacfwd(jax.jacfwd(value))
    every = jax.jit(jax.vmap(lambda r: (value(r), slope(r), curvature(r))))
    found = every(jnp.asarray([*(places - step), *(places + step), 1.5]))
    for derivative, bound in zip(found, (1e-6, 1e-5, 1e-3), strict=True):
        below, above, typical = np.split(derivative, [4, 8])
        assert np.abs(above - below).max() <= bound * max(1, np.abs(typical).max())
    assert np.abs(every(jnp.asarray([5.0, 7.0] + [6.0] * 7))[0][:2]).max() == 0


def test_derivatives_in_positions_and_parameters():
    """Under jit, against central differences."""
    numbers, positions = WATER.numbers, jnp.asarray(WATER.positions)
    direction = np.random.default_rng(0).normal(size=positions.shape)

    def value(positions, width, growth, decay, cutoff, scale):
        shells = Shells(4, cutoff, width, growth, decay, scale=scale)
        return jnp.sum(jnp.sin(coefficients(positions, numbers, shells, bandlimit=3)))

    point = (positions, 0.05, 0.9, 1.2, 4.5, 1.3)
    both = jax.jit(jax.value_and_grad(value, argnums=range(6)))
    slopes = both(*point)[1]
    for k, slope in enumerate(slopes):
        d = direction if k == 0 else 1.0
        ahead, behind = (
            both(*(a + sign * 1e-6 * d if i == k else a for i, a in enumerate(point)))[0] for sign in (1, -1)
        )
        np.testing.assert_allclose(np.vdot(slope, d), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


def test_powers_as_an_object_are_the_powers():
    plain = environments(WATER, powers=(1, 4), length=1.6, bandlimit=3)
    found = environments(WATER, radial=Powers((1, 4), 1.6), bandlimit=3)
    np.testing.assert_array_equal(found.signal.coefficients, plain.signal.coefficients)
    assert found.settings == plain.settings


def test_elements_that_do_not_occur_change_no_kernel():
    net = serial(Flatten(), Dense(), Erf(), Dense(), AtomSum())
    few, many = (
        environments(WATER, species, radial=Shells(4), bandlimit=3) for species in (("H", "O"), tuple("HCNOF"))
    )
    np.testing.assert_allclose(net.kernel_fn(few, get="ntk"), net.kernel_fn(many, get="ntk"), rtol=1e-12)


def test_periodic_images_are_neighbours():
    """A cell and the same atoms in a cell twice as long have the same environments."""
    cell = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[3.2, 3.3, 3.4], pbc=True)
    one, two = (
        environments(a, radial=Shells(4), bandlimit=3).signal.coefficients for a in (cell, cell.repeat((2, 1, 1)))
    )
    np.testing.assert_allclose(two, np.concatenate([one, one]), rtol=1e-10, atol=1e-12)
    assert len(pairs_within([cell], 5.0).centre) > 20


def test_batches_of_unlike_bases_do_not_meet():
    a, b, c = (environments(WATER, radial=r, bandlimit=3) for r in (Shells(8), Shells(8, width=0.05), None))
    with pytest.raises(ValueError, match=r"radial Shells\(.*width=0.03.* and Shells\(.*width=0.05"):
        Environments.concatenate([a, b])
    with pytest.raises(ValueError, match=r"radial|channels"):
        Environments.concatenate([a, c])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Shells(1), ValueError, "count to be an integer of at least 2"),
        (lambda: Shells(cutoff=1.0), ValueError, "cutoff to be a number above 1.3"),
        (lambda: Shells(width=0), ValueError, "width to be a number above 0"),
        (lambda: Shells(growth=-1.0), ValueError, "growth"),
        (lambda: Shells(decay=np.nan), ValueError, "decay"),
        (lambda: Shells(charges="z"), ValueError, "one of"),
        (
            lambda: environments(WATER, radial=Shells(), cutoff=4.0),
            ValueError,
            "has its own cutoff. Leave cutoff unset",
        ),
        (lambda: environments(WATER, radial=Shells(), powers=(1, 2)), ValueError, "has its own powers"),
        (lambda: environments(WATER, radial=Powers(), length=2.0), ValueError, "has its own length"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
