"""Signals on the sphere: grids, transforms, rotation, batches; against scipy's harmonics at the samples."""

import math
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from so3ntk.sphere import sampling as grids
from so3ntk.sphere.rotations import random_rotations
from so3ntk.sphere.signals import SphereSignal, concatenate, rotate

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
        positive = [sph_harm_y(degree, m, theta, phi) for m in range(degree + 1)]
        for m in range(-degree, degree + 1):
            y = positive[abs(m)]
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
    @pytest.mark.parametrize("bandlimit", [1, 8])
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
        gradient = jax.jit(jax.grad(lambda a: jnp.sum(SphereSignal.from_coefficients(a).coefficients ** 2)))(flm)
        assert jnp.all(jnp.isfinite(gradient))
        assert abs(gradient).max() > 0.1


class TestSamples:
    @each_bandlimit
    @each_sampling
    def test_values_are_those_at_the_grid(self, sampling, bandlimit):
        signal, (theta, phi) = random_signal(2, bandlimit), angles_by_definition(sampling, bandlimit)
        some = np.random.default_rng(0).permutation(theta.size)[:300]  # scipy's harmonics at all of them take seconds
        harmonics = scipy_harmonics(theta.ravel()[some], phi.ravel()[some], bandlimit)
        expected = np.einsum("xp,npc->nxc", harmonics, signal.coefficients)
        samples, resolution = signal.to_samples(sampling), grids.named(sampling).coarsest(bandlimit)
        assert samples.dtype == np.float64
        assert samples.shape == (2, *grids.named(sampling).shape(resolution), 2)
        # L^2 terms of random sign; s2fft's and scipy's harmonics are off by some L eps each.
        assert_close(samples.reshape(2, -1, 2)[:, some], expected, 50 * bandlimit * EPS * abs(expected).max())
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
        # Shapes do not tell grids apart: what another sampling would make of them is not said.
        named = re.findall(r'sampling "(\w+)" for bandlimit (\d+)', str(caught.value))
        assert named == [(sampling, str(L)) for L in range(1, 65) if grids.named(sampling).shape(L) == wrong]
        assert len(causes) == len(named) + (wrong == right[::-1])

    @each_sampling
    def test_the_bandlimit_that_a_shape_fits(self, sampling):
        signal = random_signal(2, 5)
        samples = signal.to_samples(sampling)
        with pytest.raises(ValueError, match=f'This is the shape of sampling "{sampling}" for') as caught:
            SphereSignal.from_samples(samples, sampling, 8)
        fits = int(re.findall(r"for bandlimit (\d+)", str(caught.value))[-1])
        assert fits == (6 if sampling == "healpix" else 5)  # nside 3 determines bandlimit 6
        back = SphereSignal.from_samples(samples, sampling, fits)
        assert_close(back.coefficients, signal.with_bandlimit(fits).coefficients, 50 * 6 * EPS * 4)

    @each_sampling
    def test_missing_or_swapped_axes(self, sampling):
        right = random_signal(2, 8, 3).to_samples(sampling)
        for wrong, meant, advice in [
            (right[0], right[:1], "If the batch axis is missing, pass samples[None]."),
            (right[..., 0], right[..., :1], "If the channel axis is missing, pass samples[..., None]."),
            (right[0, ..., 0], right[:1, ..., :1], "one signal with one channel, pass samples[None, ..., None]."),
            (np.moveaxis(right, -1, 1), right, "If the channels come first, pass np.moveaxis(samples, 1, -1)."),
            *[(right.swapaxes(1, 2), right, "pass samples.swapaxes(1, 2).")] * (right.ndim == 4),
        ]:
            with pytest.raises(ValueError, match=re.escape(advice)):
                SphereSignal.from_samples(wrong, sampling, 8)
            remedy = advice.partition(", pass " if ", pass " in advice else "pass ")[2].rstrip(".")
            np.testing.assert_array_equal(eval(remedy, {"np": np, "samples": wrong}), meant)

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

    @each_sampling
    @pytest.mark.parametrize(("fill", "name"), [(-1.6375e30, "UNSEEN"), (9.969209968386869e36, "netCDF")])
    def test_missing_values(self, sampling, fill, name):
        place = (1, *(2 for _ in SHAPES[sampling]), 1)
        for dtype in ("f8", "f4", ">f4"):
            samples = np.zeros((3, *SHAPES[sampling], 2), dtype)
            samples[place] = samples[2, ..., 1] = fill
            with pytest.raises(ValueError, match=rf"samples hold .* at index {re.escape(str(place))}: .*{name}"):
                SphereSignal.from_samples(samples, sampling, 8)
        large = np.full((1, *SHAPES[sampling], 1), 1e30)  # is a number
        assert_close(
            SphereSignal.from_samples(large, sampling, 8).coefficients[0, 0] / 1e30, math.sqrt(4 * math.pi), 1e-12
        )

    @each_sampling
    def test_masked_samples(self, sampling):
        place = (1, *(2 for _ in SHAPES[sampling]), 1)
        samples = np.ma.array(random_signal(3, 8).to_samples(sampling))
        expected = SphereSignal.from_samples(samples, sampling, 8).coefficients  # nothing is masked
        np.testing.assert_array_equal(expected, SphereSignal.from_samples(samples.data, sampling, 8).coefficients)
        samples[place] = np.ma.masked
        with pytest.raises(ValueError, match=re.escape(f"samples are masked at index {place}")) as caught:
            SphereSignal.from_samples(samples, sampling, 8)
        assert "x.filled(value)" in str(caught.value)
        SphereSignal.from_samples(samples.filled(samples.data[place]), sampling, 8)

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
            (
                lambda s: s.to_samples("healpix", nside=1),
                "Pass at least 2, or truncate the signal first: x.with_bandlimit(2).",
            ),
            (lambda s: s.to_samples("healpix", nside=0), "Pass at least 2."),
            (lambda s: s.to_samples("dh", bandlimit=3), "truncate the signal first: x.with_bandlimit(3)."),
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
            (lambda s: SphereSignal.from_samples(np.full((1, 6, 5, 1), "a"), "dh", 3), "dtype is <U1"),
            (lambda s: jax.jit(lambda a: SphereSignal.from_samples(a, "dh", 3))(0.0), "are traced"),
            (lambda s: SphereSignal.from_coefficients(np.zeros((2, 4, 7, 1))), "got float64.*pass flm.astype.complex"),
            (lambda s: SphereSignal(np.zeros((2, 16, 1), int), 4), r"got int64. Pass coefficients.astype\(float\)"),
            (lambda s: SphereSignal(np.full((2, 16, 1), "a"), 4), "SphereSignal: the coefficients should be numbers"),
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

    def test_remedies(self):
        """What messages tell to do is done."""
        signal = random_signal(2, 4)
        assert_close(signal.with_bandlimit(2).to_samples("healpix", nside=1).shape, (2, 12, 2), 0)
        assert_close(signal.with_bandlimit(3).to_samples("dh", bandlimit=3).shape, (2, 6, 5, 2), 0)
        real, imaginary = (np.asarray(random_signal(2, 4, 2, seed).to_coefficients()) for seed in (0, 1))
        flm, odd = real + 1j * imaginary, (np.arange(-3, 4) % 2 == 1)[:, None]
        with pytest.raises(
            ValueError, match=re.escape("(flm + g) / 2 and (flm - g) / 2j with g = flm[:, :, ::-1].conj()")
        ):
            SphereSignal.from_coefficients(flm)
        g = flm[:, :, ::-1].conj()
        g = np.where(odd, -g, g)
        parts = SphereSignal.from_coefficients(np.concatenate([(flm + g) / 2, (flm - g) / 2j], axis=-1))
        expected = np.concatenate([random_signal(2, 4, 2, seed).coefficients for seed in (0, 1)], axis=-1)
        assert_close(parts.coefficients, expected, 16 * EPS)
        assert SphereSignal(np.zeros((2, 16, 1), int).astype(float), 4).dtype == jnp.float64
        assert len(rotate(signal[:1][np.zeros(5, int)], random_rotations(5))) == 5
        fine = random_signal(1, 8).to_samples("healpix", nside=4)
        with pytest.warns(UserWarning, match=r"Raise the bandlimit \(up to 8\), or smooth"):
            SphereSignal.from_samples(fine, "healpix", 4)
        noise = np.random.default_rng(0).normal(size=(1, 48, 1))
        with pytest.warns(UserWarning, match=r"RING order\. Smooth the maps\."):
            SphereSignal.from_samples(noise, "healpix", 4)
