"""Signals on the sphere: grids, transforms, rotation, batches; against scipy's harmonics at the samples."""

import math
import os
import pathlib
import re
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y
from sklearn.model_selection import KFold, train_test_split

from so3ntk import sampling as grids
from so3ntk.rotations import random_rotations
from so3ntk.sphere import SphereSignal, concatenate, rotate

EPS = np.finfo(np.float64).eps
#: The sample axes of each sampling at bandlimit 8; HEALPix at nside 4.
SHAPES = {"dh": (16, 15), "mw": (8, 15), "mwss": (9, 16), "gl": (8, 15), "healpix": (192,)}
WRONG = [(15, 16), (16, 9), (7, 15), (9, 16), (8, 15), (16, 15), (1, 1), (0, 15), (128, 127)]
EXACT = [name for name in SHAPES if name != "healpix"]
BANDLIMITS = [1, 2, 3, 8, 16, 32]
each_sampling = pytest.mark.parametrize("sampling", SHAPES)
each_bandlimit = pytest.mark.parametrize("bandlimit", BANDLIMITS)


def assert_close(actual, desired, atol):
    np.testing.assert_allclose(actual, desired, atol=atol, rtol=0)


def random_signal(n=3, bandlimit=4, channels=2, seed=0):
    coefficients = np.random.default_rng([seed, bandlimit]).normal(size=(n, bandlimit**2, channels))
    return SphereSignal(coefficients, bandlimit)


def unit_vectors(n):
    vectors = np.random.default_rng(1).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scipy_harmonics(theta, phi, bandlimit):
    """Real harmonics written out from the definition in DESIGN section 2."""
    columns = []
    for degree in range(bandlimit):
        for m in range(-degree, degree + 1):
            y = sph_harm_y(degree, abs(m), theta, phi)
            columns.append(y.real if m == 0 else math.sqrt(2) * (-1) ** m * (y.real if m > 0 else y.imag))
    return np.stack(columns, axis=-1)


def angles_by_definition(sampling, L):
    """theta and phi of each sample by the formulas of the papers; HEALPix at the coarsest nside."""
    nside = (L + 1) // 2
    if sampling == "healpix":  # ring by ring, Gorski et al. (2005), equations 4 to 9
        caps = [(4 * i, 1 - i**2 / (3 * nside**2), 0.5) for i in range(1, nside)]
        middle = range(nside, 3 * nside + 1)
        belt = [(4 * nside, (4 - 2 * i / nside) / 3, (i - nside + 1) % 2 / 2) for i in middle]
        rings = [*caps, *belt, *((count, -z, shift) for count, z, shift in caps[::-1])]
        phi = [2 * np.pi * (j + shift) / count for count, _, shift in rings for j in range(count)]
        return np.arccos([z for count, z, _ in rings for _ in range(count)]), np.array(phi)
    theta = {
        "dh": (np.arange(2 * L) + 0.5) * np.pi / (2 * L),
        "mw": (2 * np.arange(L) + 1) * np.pi / (2 * L - 1),
        "mwss": 2 * np.pi * np.arange(L + 1) / (2 * L),
        "gl": np.sort(np.arccos(np.polynomial.legendre.leggauss(L)[0])),
    }[sampling]
    count = 2 * L if sampling == "mwss" else 2 * L - 1
    return np.broadcast_arrays(theta[:, None], 2 * np.pi * np.arange(count) / count)


class TestCoefficients:
    @each_bandlimit
    def test_there_and_back(self, bandlimit):
        signal = random_signal(2, bandlimit)
        flm = signal.to_coefficients()
        for convert in (SphereSignal.from_coefficients, jax.jit(SphereSignal.from_coefficients)):
            for given in (flm, np.asarray(flm)):
                assert_close(convert(given).coefficients, signal.coefficients, 16 * EPS)
                assert convert(given).bandlimit == bandlimit
                assert convert(given.astype(np.complex64)).dtype == jnp.float32

    def test_traced_coefficients(self):
        flm = random_signal(2, 4).to_coefficients()
        projected = jax.jit(SphereSignal.from_coefficients)(flm * (1 + 1j))  # the real part of (1 + i) f is f
        assert_close(projected.coefficients, random_signal(2, 4).coefficients, 16 * EPS)
        gradient = jax.grad(lambda a: jnp.sum(SphereSignal.from_coefficients(a).coefficients ** 2))(flm)
        assert jnp.all(jnp.isfinite(gradient))
        assert abs(gradient).max() > 0.1


class TestSamples:
    @each_bandlimit
    @each_sampling
    def test_values_are_those_at_the_grid(self, sampling, bandlimit):
        signal, (theta, phi) = random_signal(2, bandlimit), angles_by_definition(sampling, bandlimit)
        expected = np.einsum("...p,npc->n...c", scipy_harmonics(theta, phi, bandlimit), signal.coefficients)
        samples, resolution = signal.to_samples(sampling), grids.named(sampling).coarsest(bandlimit)
        assert samples.dtype == np.float64
        assert samples.shape == (2, *grids.named(sampling).shape(resolution), 2)
        # L^2 terms of random sign; s2fft's and scipy's harmonics are off by some L eps each.
        assert_close(samples, expected, 50 * bandlimit * EPS * abs(expected).max())
        vectors = [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)]
        assert_close(grids.directions(sampling, resolution), np.stack(vectors, axis=-1), 16 * EPS)

    @each_bandlimit
    @each_sampling
    def test_round_trip(self, sampling, bandlimit):
        """For HEALPix too: the least-squares fit of a signal of this bandlimit leaves only rounding."""
        signal = random_signal(2, bandlimit)
        back = SphereSignal.from_samples(signal.to_samples(sampling), sampling=sampling, bandlimit=bandlimit)
        tolerance = 50 * bandlimit * EPS * abs(np.asarray(signal.coefficients)).max()
        assert_close(back.coefficients, signal.coefficients, tolerance)
        assert back.bandlimit == bandlimit

    @pytest.mark.parametrize("bandlimit", [1, 2, 5])
    def test_pole_rings_are_constant(self, bandlimit):
        signal = random_signal(2, bandlimit)
        south, both = signal.to_samples("mw"), signal.to_samples("mwss")
        poles = np.asarray(signal.at([[0, 0, 1.0], [0, 0, -1.0]]))
        for ring, pole in [(south[:, -1], 1), (both[:, 0], 0), (both[:, -1], 1)]:
            assert_close(ring, np.broadcast_to(poles[:, pole, None], ring.shape), 100 * bandlimit * EPS)

    @each_sampling
    def test_finer_grids_and_parts_of_batches(self, sampling):
        signal = random_signal(3, 3)
        samples = grids.synthesise(signal.coefficients, sampling, 5)  # bandlimit 5, or nside 5
        whole = SphereSignal.from_samples(jnp.asarray(samples), sampling, 5).coefficients
        assert_close(whole, signal.with_bandlimit(5).coefficients, 50 * 5 * EPS * 4)
        part = SphereSignal.from_samples(samples[1:2, ..., 1:], sampling, 5)
        assert_close(part.coefficients, whole[1:2, :, 1:], 64 * EPS)
        empty = SphereSignal.from_samples(samples[:0], sampling, 5)
        assert empty.shape == (0, 25, 2)
        assert empty.to_samples(sampling).shape[0] == 0

    def test_dtype_follows_the_samples(self):
        for dtype, expected in [("f8", "f8"), ("f4", "f4"), ("i4", "f8"), ("bool", "f8")]:
            signal = SphereSignal.from_samples(np.ones((1, 6, 5, 1), dtype), "dh", 3)
            assert signal.dtype == expected
            constant = math.sqrt(4 * math.pi) * np.eye(9)[0]
            assert_close(signal.coefficients[0, :, 0], constant, 32 * np.finfo(expected).eps)

    def test_healpix_pixels_against_healpy(self):
        theta, phi = grids.named("healpix").angles(16)
        pixels = [1440, 427, 1520, 0, 3068]  # the example of healpy.pix2ang's documentation
        assert_close(theta[pixels], [1.52911759, 0.78550497, 1.57079633, 0.05103658, 3.09055608], 1e-8)
        assert_close(phi[pixels], [0.0, 0.78539816, 1.61988371, 0.78539816, 0.78539816], 1e-8)

    def test_healpix_fit(self):
        """The least-squares solution by numpy, for maps that no signal of the bandlimit fits."""
        samples = np.random.default_rng(3).normal(size=(2, 48, 1))
        harmonics = scipy_harmonics(*angles_by_definition("healpix", 4), 3)
        expected, misfit, *_ = np.linalg.lstsq(harmonics, samples[..., 0].T, rcond=None)
        with pytest.warns(UserWarning, match=r"at bandlimit 3 leaves a relative residual of \d\.\de-01"):
            fit = SphereSignal.from_samples(samples, "healpix", 3)
        assert_close(fit.coefficients[..., 0], expected.T, 200 * EPS)
        residual = grids.healpix_residual(samples, 3)
        assert_close(residual, np.sqrt(misfit / np.sum(samples**2, axis=(1, 2))), 200 * EPS)

    def test_healpix_residual_states_the_error(self):
        fine = random_signal(3, 8)
        samples = fine.to_samples("healpix", nside=8)
        assert np.all(grids.healpix_residual(samples, 8) < 50 * 8 * EPS)
        exact, residual = fine.with_bandlimit(4), grids.healpix_residual(samples, 4)
        with pytest.warns(UserWarning, match="HEALPix"):
            fit = SphereSignal.from_samples(samples, "healpix", 4)
        error = SphereSignal(fit.coefficients - exact.coefficients, 4).norm()
        assert np.all(error < residual * exact.norm())
        assert np.all(residual > 0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            SphereSignal.from_samples(exact.to_samples("healpix") + 1e-4, "healpix", 4)
            assert_close(grids.healpix_residual(np.zeros((1, 12, 1)), 2), 0, 0)


class TestRefusals:
    @pytest.mark.parametrize(("sampling", "wrong"), [(s, w) for s in EXACT for w in WRONG if w != SHAPES[s]])
    def test_wrong_grid(self, sampling, wrong):
        right, title = SHAPES[sampling], grids.named(sampling).title
        with pytest.raises(ValueError, match="expected") as caught:
            SphereSignal.from_samples(np.zeros((2, *wrong, 3)), sampling, 8)
        first, *causes = str(caught.value).split("\n")
        words = f"(N, theta, phi, C) with (theta, phi) = {right} for bandlimit 8, got {wrong}."
        assert first == f"SphereSignal.from_samples: expected {title} samples {words}"
        swapped = "If the two axes are swapped, pass samples.swapaxes(1, 2)."
        assert (swapped in causes) == (wrong == right[::-1])
        for name, shape in SHAPES.items():
            assert (f'This is the shape of sampling "{name}" at bandlimit 8.' in causes) == (wrong == shape)

    @each_sampling
    def test_missing_or_swapped_axes(self, sampling):
        axes = SHAPES[sampling]
        for shape, advice in [
            ((*axes, 3), "If the batch axis is missing, pass samples[None]"),
            ((2, *axes), "If the channel axis is missing, pass samples[..., None]"),
            (axes, "pass samples[None, ..., None]"),
            ((2, 3, *axes), "If the channels come first, pass np.moveaxis(samples, 1, -1)"),
            *[((2, *axes[::-1], 3), "pass samples.swapaxes(1, 2)")] * (len(axes) == 2),
        ]:
            with pytest.raises(ValueError, match=re.escape(advice)):
                SphereSignal.from_samples(np.zeros(shape), sampling, 8)

    @pytest.mark.parametrize("shape", [(2, 191, 3), (2, 12, 3), (2, 0, 3), (2, 16, 15, 3), (192,), ()])
    def test_wrong_healpix_map(self, shape):
        words = "(N, npix, C) in RING order with npix = 12 nside^2 >= 192 for bandlimit 8 <= 2 nside, got "
        with pytest.raises(ValueError, match=re.escape(words)):
            SphereSignal.from_samples(np.zeros(shape), "healpix", 8)

    @each_sampling
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_samples_that_are_not_finite(self, sampling, value):
        samples = np.zeros((3, *SHAPES[sampling], 2))
        place = (1, *(2 for _ in SHAPES[sampling]), 1)
        samples[place] = samples[2, ..., 1] = value
        with pytest.raises(ValueError, match=re.escape(f"samples hold {value} at index {place} ")):
            SphereSignal.from_samples(samples, sampling, 8)

    @pytest.mark.parametrize("sampling", ["DH", "", "driscoll-healy"])
    def test_unknown_sampling(self, sampling):
        known = r'sampling: expected one of "dh" .*"mw".*"mwss".*"gl".*"healpix"'
        with pytest.raises(ValueError, match=known):
            SphereSignal.from_samples(np.zeros((1, 16, 15, 1)), sampling, 8)
        with pytest.raises(ValueError, match=known):
            random_signal().to_samples(sampling)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda s: SphereSignal.from_samples(np.zeros((1, 130, 129, 1)), "dh", 65), "from 1 to 64"),
            (lambda s: SphereSignal.from_coefficients(np.zeros((2, 4, 8, 1), complex)), "got (2, 4, 8, 1)"),
            (lambda s: SphereSignal.from_coefficients(np.zeros((1, 65, 129, 1), complex)), "from 1 to 64"),
            (lambda s: SphereSignal(np.zeros((2, 15, 3)), 4), "(n, p, c) with p = 16 for bandlimit 4"),
            (lambda s: SphereSignal(np.zeros((2, 16, 0)), 4), "c > 0, got (2, 16, 0)"),
            (lambda s: SphereSignal(np.zeros((1, 65**2, 1)), 65), "from 1 to 64"),
            (lambda s: s.to_samples("dh", bandlimit=3), "grid with bandlimit 3 does not determine"),
            (lambda s: s.to_samples("healpix", nside=1), "Pass at least 2, or truncate"),
            (lambda s: s.to_samples("dh", nside=4), 'sampling "dh" is chosen by its bandlimit'),
            (lambda s: s.to_samples("healpix", bandlimit=4), "is chosen by its nside"),
            (lambda s: s.to_samples("gl", bandlimit=65), "from 1 to 64"),
            (lambda s: s.with_bandlimit(65), "with_bandlimit: expected a bandlimit from 1 to 64"),
            (lambda s: s.at(np.zeros((3, 2))), "unit vectors (k, 3), got an array of shape (3, 2)"),
            (lambda s: s.at([[0, 0, 1], [0, 3, 4]]), "vector 1 has length 5"),
            (lambda s: s.at([[0, np.nan, 0]]), "vector 0 has length nan"),
            (lambda s: rotate(s, random_rotations(2)), "each of the 3 signals, got 2. To rotate one"),
            (lambda s: rotate(s, -np.eye(3)), "determinant -1"),
            (lambda s: concatenate([]), "at least one SphereSignal, got none"),
            (lambda s: concatenate([s, s.with_bandlimit(5)]), "Bring them to one with x.with_bandlimit"),
            (lambda s: concatenate([s, random_signal(2, 4, 3)]), "entry 0 has 2 channels, entry 1 has 3"),
        ],
    )
    def test_value_errors(self, call, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(random_signal())

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda s: SphereSignal.from_samples(np.zeros((1, 6, 5, 1), complex), "dh", 3), "two channels"),
            (lambda s: SphereSignal.from_samples(np.full((1, 6, 5, 1), "a"), "dh", 3), "dtype <U1"),
            (lambda s: jax.jit(lambda a: SphereSignal.from_samples(a, "dh", 3))(0.0), "are traced"),
            (lambda s: SphereSignal.from_coefficients(np.zeros((2, 4, 7, 1))), "complex values, got float64"),
            (lambda s: SphereSignal(np.zeros((2, 16, 1), complex), 4), "real floating-point coefficients"),
            (lambda s: concatenate([s, s.coefficients]), "entry 1 is a |signals"),
        ],
    )
    def test_type_errors(self, call, message):
        with pytest.raises(TypeError, match=message):
            call(random_signal())

    def test_indices(self):
        for index in (3, -4, [0, 3], [True, False], np.ones(4, bool)):
            with pytest.raises(IndexError, match="3 signals"):
                random_signal()[index]
        for index in (1.5, None, "a", True, ..., (0, 1), (0, slice(None)), np.ones((2, 2), int)):
            with pytest.raises(TypeError, match="expected an integer, slice, integer array or mask"):
                random_signal()[index]

    @pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
    def test_values_of_coefficients(self, convert):
        right = np.array(random_signal(2, 4).to_coefficients())
        for place, value, message in [
            ((1, 2, 4, 1), np.nan, r"the coefficients hold .*nan.* at index \(1, 2, 4, 1\)"),
            ((1, 2, 4, 1), np.inf, r"the coefficients hold .*inf.* at index \(1, 2, 4, 1\)"),
            ((1, 0, 4, 1), 1.0, r"signal 1, l = 0, m = 1, channel 1 is not zero, but abs\(m\) > l"),
            ((1, 2, 2, 1), 1.0, r"signal 1, l = 2, m = -1, channel 1 breaks .* the signal is not real"),
            ((0, 3, 3, 0), 1j, r"signal 0, l = 3, m = 0, channel 0 breaks"),
        ]:
            wrong = right.copy()
            wrong[place] = value
            with pytest.raises(ValueError, match=message):
                SphereSignal.from_coefficients(convert(wrong))
        for accepted in (right + 1e-12, 0 * right, right[:0]):
            SphereSignal.from_coefficients(convert(accepted))


class TestBatch:
    @pytest.mark.parametrize(
        ("index", "rows"),
        [(0, [0]), (-1, [4]), (np.int64(2), [2]), (jnp.asarray(2), [2]), (slice(1, None, 2), [1, 3]),
         (slice(9, 12), []), ([3, 0, 3], [3, 0, 3]), (np.array([4, -5]), [4, 0]), (jnp.array([1, 2]), [1, 2]),
         ([], []), (np.arange(5) % 2 == 0, [0, 2, 4]), ([False] * 5, []), ((np.array([1, 4]), ...), [1, 4])],
    )  # fmt: skip
    def test_indexing(self, index, rows):
        signal = random_signal(5, 3)
        assert (len(signal), signal.shape, signal.channels) == (5, (5, 9, 2), 2)
        part = signal[index]
        assert (part.bandlimit, part.shape, len(part)) == (3, (len(rows), 9, 2), len(rows))
        np.testing.assert_array_equal(part.coefficients, np.asarray(signal.coefficients)[rows])

    def test_transformations(self):
        signal = random_signal(3, 4)
        leaves, structure = jax.tree.flatten(signal)
        assert len(leaves) == 1
        for leaf in (None, object(), np.zeros(3), jax.ShapeDtypeStruct((1,), jnp.float32)):
            assert jax.tree.unflatten(structure, [leaf]).bandlimit == 4
        doubled = jax.vmap(jax.jit(lambda x: jax.tree.map(lambda a: 2 * a, x)))(signal)
        np.testing.assert_array_equal(doubled.coefficients, 2 * signal.coefficients)
        part = jax.jit(lambda x, i: x[i])(signal, 2)
        np.testing.assert_array_equal(part.coefficients, signal[2].coefficients)

    def test_scikit_learn(self):
        signal, y = random_signal(10, 3), np.arange(10)
        folds = [(signal[a], signal[b]) for a, b in KFold(5, shuffle=True, random_state=0).split(signal, y)]
        assert [(len(train), len(test)) for train, test in folds] == [(8, 2)] * 5
        x_train, x_test, y_train, y_test = train_test_split(signal, y, test_size=3, random_state=0)
        for part, rows in [(x_train, y_train), (x_test, y_test)]:
            assert isinstance(part, SphereSignal)
            np.testing.assert_array_equal(part.coefficients, signal[rows].coefficients)

    def test_concatenate(self):
        parts = [random_signal(2, 3), random_signal(0, 3), random_signal(3, 3, seed=1)]
        both = concatenate(part for part in parts)
        expected = np.concatenate([part.coefficients for part in parts])
        np.testing.assert_array_equal(both.coefficients, expected)
        np.testing.assert_array_equal(concatenate(list(both)).coefficients, expected)  # iterates by ones

    def test_norm_and_power_spectrum(self):
        signal = random_signal(3, 5, 4)
        weights = np.polynomial.legendre.leggauss(9)[1] / 2 / 17  # of the mean over the sphere
        square = np.einsum("ntpc,t->n", signal.to_samples("gl", bandlimit=9) ** 2, weights) / 4
        assert_close(signal.norm(), np.sqrt(square), 100 * EPS)
        spectrum = signal.power_spectrum()
        second = np.sum(signal.coefficients[:, 4:9] ** 2, axis=(1, 2)) / (4 * np.pi * 4)
        assert_close(spectrum[:, 2], second, 4 * EPS)
        assert_close(jnp.sum(spectrum, axis=1), square, 100 * EPS)
        assert_close(rotate(signal, random_rotations(3)).power_spectrum(), spectrum, 100 * EPS)
        gradient = jax.grad(lambda a: jnp.sum(SphereSignal(a, 3).norm()))(jnp.zeros((2, 9, 1)))
        assert_close(gradient, 0, 0)
        assert signal[:0].power_spectrum().shape == (0, 5)

    def test_at_and_with_bandlimit(self):
        signal, points = random_signal(2, 4), unit_vectors(5)
        wider = signal.with_bandlimit(6)
        assert wider.shape == (2, 36, 2)
        assert_close(jax.jit(lambda x: x.at(points))(wider), signal.at(points), 64 * EPS)
        np.testing.assert_array_equal(wider.with_bandlimit(4).coefficients, signal.coefficients)
        np.testing.assert_array_equal(signal.with_bandlimit(2).coefficients, signal.coefficients[:, :4])
        assert signal.at(points[:0]).shape == (2, 0, 2)


SINGLE = """
import sys
import numpy as np
import jax
import so3ntk.sphere as sphere
assert "s2fft" not in sys.modules, "importing so3ntk.sphere imports s2fft"
assert not jax.config.jax_enable_x64
samples = np.load(sys.argv[1] + "samples.npz")
for name in samples:
    signal = sphere.SphereSignal.from_samples(samples[name], sampling=name, bandlimit=16)
    again = sphere.SphereSignal.from_coefficients(np.asarray(signal.to_coefficients(), complex))
    results = signal, again, signal[0].norm(), signal.at(np.eye(3)), sphere.rotate(signal, np.eye(3))
    assert all(result.dtype == "float32" for result in results), results
    np.save(sys.argv[1] + name + ".npy", signal.coefficients)
assert "s2fft" in sys.modules
assert not jax.config.jax_enable_x64, "the configuration of JAX has changed"
"""


def test_in_a_fresh_process_with_x64_off(tmp_path):
    """Analysis is in double precision, the result rounded once; nothing is printed, no warning by s2fft."""
    samples = {name: random_signal(2, 16).to_samples(name) for name in SHAPES}
    np.savez(tmp_path / "samples.npz", **samples)
    command = [sys.executable, "-c", SINGLE, f"{tmp_path}/"]
    environment = {**os.environ, "JAX_ENABLE_X64": "0", "JAX_PLATFORMS": "cpu"}
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in SHAPES:
        double = np.asarray(SphereSignal.from_samples(samples[name], name, 16).coefficients)
        one_rounding = np.finfo(np.float32).eps / 2 * abs(double).max() * 1.001
        assert_close(np.load(tmp_path / f"{name}.npy"), double, one_rounding)
