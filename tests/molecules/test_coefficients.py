from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule as g2
from scipy.integrate import quad
from scipy.special import eval_legendre, sph_harm_y

from so3ntk.molecules import coefficients as module
from so3ntk.molecules import environment_coefficients
from so3ntk.molecules.coefficients import DEFAULT_ANGULAR_WIDTH, profile_gains
from so3ntk.molecules.neighbours import Edges
from so3ntk.sphere.rotations import random_rotations, real_wigner_D
from tests.molecules.derivatives import check_derivatives

SPECIES = ("H", "C", "N", "O", "F")
EPS = np.finfo(np.float64).eps


def batch_of(*names, seed=0):
    """Positions, numbers and molecules of G2 molecules, shaken so that nothing is symmetric."""
    structures = [g2(name) for name in names]
    positions = np.concatenate([a.positions for a in structures])
    positions = positions + 0.1 * np.random.default_rng(seed).normal(size=positions.shape)
    numbers = np.concatenate([a.numbers for a in structures])
    return positions, numbers, np.repeat(np.arange(len(structures)), [len(a) for a in structures])


def grid(n):
    """Directions and weights of a Gauss-Legendre x trapezoid grid, exact for degrees below 2 n."""
    z, weights = np.polynomial.legendre.leggauss(n)
    phi = np.pi * np.arange(2 * n) / n
    z, phi = (a.ravel() for a in np.meshgrid(z, phi, indexing="ij"))
    rho = np.sqrt(1 - z**2)
    directions = np.stack([rho * np.cos(phi), rho * np.sin(phi), z], axis=-1)
    return directions, np.repeat(weights, 2 * n) * np.pi / n, np.arccos(z), phi


def by_projection(positions, numbers, molecule, powers, bandlimit, width, weight=lambda r: 1.0):
    """The signal as it is defined, evaluated on a fine grid and projected on scipy's harmonics."""
    directions, weights, theta, phi = grid(60)
    signal = np.zeros((len(positions), len(SPECIES), len(powers), len(directions)))
    charge = dict(zip((1, 6, 7, 8, 9), range(5), strict=True))
    for i in range(len(positions)):
        for j in range(len(positions)):
            if i == j or molecule[i] != molecule[j]:
                continue
            r = np.linalg.norm(positions[j] - positions[i])
            t = directions @ (positions[j] - positions[i]) / r
            for p, power in enumerate(powers):
                amplitude = numbers[i] * numbers[j] / r**power * weight(r)
                signal[i, charge[numbers[j]], p] += amplitude * np.exp(-((t - 1) ** 2) / width)
    columns = []
    for degree in range(bandlimit):
        for m in range(-degree, degree + 1):
            y = sph_harm_y(degree, abs(m), theta, phi)
            y = y.real if m == 0 else np.sqrt(2) * (-1) ** m * (y.imag if m < 0 else y.real)
            columns.append(np.einsum("aspg,g->asp", signal, weights * y))
    return np.stack(columns, axis=1).reshape(len(positions), bandlimit**2, -1)


def scale(coefficients):
    return float(np.abs(coefficients).max())


@pytest.mark.parametrize("powers", [(2, 6), (1.5,)])
@pytest.mark.parametrize("width", [None, 0.3])
def test_projection_of_the_signal(powers, width):
    batch = batch_of("CH3CH2OH", "HCN", "CF3CN")
    ours = environment_coefficients(*batch, powers=powers, bandlimit=5, angular_width=width)
    expected = by_projection(*batch, powers, 5, width or DEFAULT_ANGULAR_WIDTH)
    # The grid is exact to degree 119, where the profile has nothing left; sums over 7,200 points round.
    np.testing.assert_allclose(ours, expected, atol=1e3 * EPS * scale(expected))


def test_projection_with_a_cutoff():
    batch, cutoff = batch_of("CH3CH2OH"), 2.6

    def switch(r):
        u = min(max((r - 0.8 * cutoff) / (0.2 * cutoff), 0), 1)
        return 1 - 10 * u**3 + 15 * u**4 - 6 * u**5

    ours = environment_coefficients(*batch, bandlimit=4, cutoff=cutoff)
    expected = by_projection(*batch, (2, 6), 4, DEFAULT_ANGULAR_WIDTH, switch)
    np.testing.assert_allclose(ours, expected, atol=1e3 * EPS * scale(expected))


def test_length_is_the_unit_of_distances():
    positions, numbers, molecule = batch_of("CH3CH2OH", "HCN")
    ours = environment_coefficients(positions, numbers, molecule, bandlimit=4, length=1.7)
    expected = environment_coefficients(positions / 1.7, numbers, molecule, bandlimit=4)
    np.testing.assert_allclose(ours, expected, atol=100 * EPS * scale(expected))
    for length in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a positive length in Angstrom"):
            environment_coefficients(positions, numbers, molecule, length=length)


@pytest.mark.parametrize("width", [1e-7, 1e-5, 1e-3, DEFAULT_ANGULAR_WIDTH, 1.0, 100.0])
def test_profile(width):
    gains = profile_gains(width, 64, jnp.float64)
    # With 1 - t = sqrt(width) u; the rest, u > 7, is below 1e-21 of the whole.
    root, panels = np.sqrt(width), 40
    end = min(2 / root, 7.0)
    for degree in (0, 1, 2, 7, 31, 63):
        expected = sum(
            quad(lambda u, degree=degree: np.exp(-(u**2)) * eval_legendre(degree, 1 - root * u), a, b)[0]
            for a, b in pairwise(np.linspace(0, end, panels + 1))
        )
        # 2e-13 g_0 is what the docstring promises; adaptive quadrature is trusted to 1e-14 a panel.
        assert abs(float(gains[degree]) - 2 * np.pi * root * expected) < 6e-13 * float(gains[0])


def test_default_width_is_five_percent_at_45_degrees():
    assert np.exp(-((np.cos(np.pi / 4) - 1) ** 2) / DEFAULT_ANGULAR_WIDTH) == pytest.approx(0.05, rel=1e-14)


def test_channels_of_two_atoms():
    positions = np.array([[0.0, 0, 0], [0, 0, 1.5]])
    out = environment_coefficients(positions, np.array([6, 8]), np.zeros(2, int), powers=(1, 2, 3), bandlimit=3)
    out = np.asarray(out).reshape(2, 9, 5, 3)  # species major, powers minor
    assert np.flatnonzero(np.abs(out[0]).sum(axis=(0, 2))).tolist() == [3]  # C sees O
    assert np.flatnonzero(np.abs(out[1]).sum(axis=(0, 2))).tolist() == [1]  # O sees C
    np.testing.assert_allclose(out[0, :, 3, 0], 1.5 * out[0, :, 3, 1], rtol=1e-14)
    gains = np.asarray(profile_gains(None, 3, jnp.float64))
    harmonics_at_pole = np.sqrt((2 * np.arange(3) + 1) / (4 * np.pi))
    m_zero = [0, 2, 6]
    np.testing.assert_allclose(out[0, m_zero, 3, 1], 48 / 1.5**2 * gains * harmonics_at_pole, rtol=1e-14)
    np.testing.assert_allclose(out[1, m_zero, 1, 1], out[0, m_zero, 3, 1] * [1, -1, 1], rtol=1e-14)


def test_atoms_alone_have_the_zero_signal():
    out = environment_coefficients(np.zeros((2, 3)), np.array([1, 6]), np.array([0, 1]))
    assert out.shape == (2, 36, 10)
    assert not np.any(out)
    gradient = jax.jit(jax.grad(lambda r: environment_coefficients(r, np.array([1]), np.array([0])).sum()))
    np.testing.assert_array_equal(gradient(jnp.zeros((1, 3))), 0)


def test_rotation_of_the_molecule():
    positions, numbers, molecule = batch_of("CH3CONH2", "HCN")
    here = environment_coefficients(positions, numbers, molecule)
    for seed in range(5):
        rotation = random_rotations(1, seed)
        rotated = environment_coefficients(rotation.apply(positions), numbers, molecule)
        for degree in range(6):
            block = slice(degree**2, (degree + 1) ** 2)
            expected = np.einsum("mn,anc->amc", real_wigner_D(degree, rotation)[0], here[:, block])
            np.testing.assert_allclose(rotated[:, block], expected, atol=100 * EPS * scale(here))


def test_translation_and_permutation():
    positions, numbers, molecule = batch_of("CH3CH2OH", "HCN")
    here = environment_coefficients(positions, numbers, molecule)
    moved = environment_coefficients(positions + np.array([3.0, -2, 5])[None], numbers, molecule)
    np.testing.assert_allclose(moved, here, atol=100 * EPS * scale(here))
    order = np.random.default_rng(0).permutation(len(numbers))  # also mixes the atoms of the two molecules
    permuted = environment_coefficients(positions[order], numbers[order], 7 * molecule[order] + 3)
    np.testing.assert_allclose(permuted, here[order], atol=20 * EPS * scale(here))


def test_molecules_do_not_see_each_other():
    alone = environment_coefficients(*batch_of("HCN"))
    positions, numbers, molecule = batch_of("HCN")
    twice = environment_coefficients(
        np.concatenate([positions, positions + 0.01]),
        np.tile(numbers, 2),
        np.concatenate([molecule, molecule + 1]),
    )
    np.testing.assert_allclose(twice, np.tile(alone, (2, 1, 1)), atol=100 * EPS * scale(alone))


def test_chunks_do_not_matter(monkeypatch):
    batch = batch_of("CH3CH2OH", "HCN")
    # Not under its own jit, which would keep the program of the first size
    monkeypatch.setattr(module, "_coefficients", module._coefficients.__wrapped__)

    def value_and_gradient():
        def loss(r):
            value = environment_coefficients(r, *batch[1:], bandlimit=3)
            return jnp.sum(value**2), value

        return jax.jit(jax.grad(loss, has_aux=True))(jnp.asarray(batch[0]))

    whole = value_and_gradient()
    for chunk in (1, 700):
        monkeypatch.setattr(module, "_CHUNK_NUMBERS", chunk)
        for ours, expected in zip(value_and_gradient(), whole, strict=True):
            np.testing.assert_allclose(ours, expected, atol=20 * EPS * scale(expected))


def test_derivatives_to_second_order():
    positions, numbers, molecule = batch_of("HCN", "OH")
    cutoff = 2.5  # H and N, 2.2 apart, are on the switch

    def values(r, width):
        out = environment_coefficients(
            r, numbers, molecule, bandlimit=3, powers=(1, 2), angular_width=width, cutoff=cutoff
        )
        return out / 50  # of order one

    check_derivatives(values, positions, np.float64(0.05), rtol=1e-6)


def test_neighbours_at_the_poles_have_finite_derivatives():
    positions = jnp.asarray([[0.0, 0, 0], [0, 0, 1.2], [0, 0, -1.1]])
    hessian = jax.jit(
        jax.hessian(lambda r: jnp.sum(environment_coefficients(r, np.array([6, 8, 1]), np.zeros(3, int))))
    )(positions)
    assert np.isfinite(hessian).all()
    assert np.any(hessian)


def test_traced_positions_and_width():
    positions, numbers, molecule = batch_of("CH3CH2OH", "HCN")
    jitted = jax.jit(lambda r, b: environment_coefficients(r, numbers, molecule, angular_width=b))
    expected = environment_coefficients(positions, numbers, molecule, angular_width=0.05)
    np.testing.assert_allclose(jitted(positions, 0.05), expected, atol=20 * EPS * scale(expected))
    with pytest.raises(TypeError, match=r"numbers is traced.* as a NumPy array, or mark it static and pass a tuple"):
        jax.jit(environment_coefficients)(positions, numbers, molecule)
    static = jax.jit(environment_coefficients, static_argnames=("numbers", "molecule"))
    ours = static(positions, numbers=tuple(numbers.tolist()), molecule=tuple(molecule.tolist()))
    np.testing.assert_allclose(
        ours, environment_coefficients(positions, numbers, molecule), atol=20 * EPS * scale(ours)
    )
    with pytest.raises(ValueError, match=r"got int64\[12, 3\]\. Pass positions\.astype\(float\)\."):
        environment_coefficients(np.arange(36).reshape(12, 3), numbers, molecule)
    environment_coefficients(np.arange(36).reshape(12, 3).astype(float), numbers, molecule)


def test_powers_of_numpy():
    batch = batch_of("HCN")
    expected = environment_coefficients(*batch, powers=(2, 6.5))
    for powers in ([2.0, np.float64(6.5)], np.array([2, 6.5]), (np.int32(2), np.float32(6.5))):
        np.testing.assert_allclose(environment_coefficients(*batch, powers=powers), expected, rtol=8 * EPS)
    single = environment_coefficients(*batch, powers=2)
    np.testing.assert_array_equal(single, np.asarray(expected)[..., ::2])


def test_second_derivative_is_continuous_at_the_switch():
    def value(r):
        positions = jnp.stack([jnp.zeros(3), jnp.array([0.6, 0.8, 0]) * r])
        return environment_coefficients(positions, np.array([6, 6]), np.zeros(2, int), cutoff=5.0, bandlimit=2)[0, 0, 2]

    both = jax.jit(jax.vmap(lambda r: (jax.jacfwd(jax.jacfwd(value))(r), value(r))))
    ends = np.array([4.0, 5.0])
    points = np.concatenate([np.linspace(4, 5, 20), ends + 1e-7, ends - 1e-7, [5.0, 7.0, 5.0 + 1e-9]])
    second, values = map(np.asarray, both(points))
    inside, above, below, beyond = np.split(second, [20, 22, 24])
    # The third derivative, of order largest / 1 Angstrom, is bounded
    assert np.abs(above - below).max() < 1e-5 * np.abs(inside).max()
    assert values[-3] == values[-2] == beyond[-1] == 0.0


def test_atom_beyond_the_cutoff_has_no_effect():
    positions, numbers, molecule = batch_of("HCN")
    far = np.concatenate([positions, positions[:1] + np.array([[0, 20.0, 0]])])
    near = environment_coefficients(positions, numbers, molecule, cutoff=6.0)
    with_far = environment_coefficients(far, np.append(numbers, 9), np.append(molecule, 0), cutoff=6.0)
    np.testing.assert_array_equal(with_far[:-1], near)
    np.testing.assert_array_equal(with_far[-1], 0)


def test_given_edges_and_offsets():
    positions, numbers, molecule = batch_of("OH")
    shift = np.array([0.0, 0, 2.0])
    edges = Edges(np.array([0, 1]), np.array([1, 0]), np.stack([shift, -shift]))
    moved = environment_coefficients(positions + np.array([[0], [1]]) * shift, numbers, molecule)
    here = environment_coefficients(positions, numbers, molecule, edges=edges)
    np.testing.assert_allclose(here, moved, atol=20 * EPS * scale(moved))

    @jax.jit
    def slopes(offset, places):
        by_offset = lambda d: environment_coefficients(  # noqa: E731
            positions, numbers, molecule, edges=Edges(edges.centre, edges.neighbour, jnp.stack([d, -d]))
        ).sum()
        by_position = lambda r: environment_coefficients(r, numbers, molecule).sum()  # noqa: E731
        return jax.grad(by_offset)(offset), jax.grad(by_position)(places)[1]

    np.testing.assert_allclose(*slopes(shift, positions + np.array([[0], [1]]) * shift), rtol=1e-12)


def test_single_precision():
    positions, numbers, molecule = batch_of("CH3CH2OH")
    expected = environment_coefficients(positions, numbers, molecule)
    single = environment_coefficients(jnp.asarray(positions, jnp.float32), numbers, molecule)
    assert single.dtype == jnp.float32
    # r^-6 multiplies the relative error of a distance by six.
    np.testing.assert_allclose(single, expected, atol=30 * np.finfo(np.float32).eps * scale(expected))


ONE = (np.array([[0.0, 0, 0], [0, 0, 1]]), np.array([6, 1]), np.array([0, 0]))


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((np.zeros((2, 2)), *ONE[1:]), {}, r"positions \(atoms, 3\), got float64\[2, 2\]"),
        ((np.zeros((2, 3), int), *ONE[1:]), {}, "floating-point positions"),
        ((ONE[0], np.array([6]), ONE[2]), {}, "numbers to hold 2 integers"),
        ((ONE[0], ONE[1], np.array([0.0, 0])), {}, "molecule to hold 2 integers"),
        ((ONE[0], np.array([6, 16]), ONE[2]), {}, r"element S \(first: molecule 0, atom 1\).*'F', 'S'\)"),
        ((ONE[0], np.array([0, 1]), ONE[2]), {}, "molecule 0, atom 0 is a ghost atom"),
        ((ONE[0], np.array([6, 200]), ONE[2]), {}, "atomic number 200"),
        ((np.array([[0, np.nan, 0], [0, 0, 1]]), *ONE[1:]), {}, r"molecule 0, atom 0 has the position .*nan"),
        (
            (np.array([[0, 0, 0], [0, 0, 1e-4]]), *ONE[1:]),
            {},
            "molecule 0, atom 0, and molecule 0, atom 1, coincide",
        ),
        (ONE, {"powers": ()}, "positive powers"),
        (ONE, {"powers": (2, 0)}, "positive powers"),
        (ONE, {"powers": (2, np.inf)}, "positive powers"),
        (ONE, {"cutoff": 0.0}, "positive cutoff"),
        (ONE, {"cutoff": np.nan}, "positive cutoff"),
        (ONE, {"angular_width": 0.0}, "angular width"),
        (ONE, {"angular_width": -1.0}, "angular width"),
        (ONE, {"angular_width": 1e-8}, "not resolved by the quadrature"),
        (ONE, {"angular_width": np.ones(2)}, "a scalar"),
        (ONE, {"bandlimit": 0}, "bandlimit"),
        (ONE, {"species": ()}, "distinct species"),
        (ONE, {"species": ("H", "C", 6)}, "distinct species"),
        (ONE, {"species": ("H", "Q")}, "'Q' is not the symbol"),
        (ONE, {"species": (1, 119)}, "119 is not the atomic number"),
        (ONE, {"edges": Edges(np.array([0]), np.array([2]))}, "edges between atoms 0 to 1, got neighbour"),
        (ONE, {"edges": Edges(np.array([-1]), np.array([1]))}, "edges between atoms 0 to 1, got centre"),
        (ONE, {"edges": Edges(np.array([0]), np.array([1]), np.zeros((2, 3)))}, "edges of one length"),
    ],
)
def test_refused(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        environment_coefficients(*arguments, **settings)


def test_species_are_no_string():
    with pytest.raises(TypeError, match="the string 'HCNO'"):
        environment_coefficients(*ONE, species="HCNO")
