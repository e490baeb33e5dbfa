"""Coefficients and pixels against healpy, pyshtools and xarray, where they are installed."""

import re

import numpy as np
import pytest

import so3ntk
from so3ntk.sphere.maps import places
from so3ntk.sphere.signals import SphereSignal
from tests.oracles.harmonics import harmonics
from tests.oracles.maps import vectors
from tests.sphere.maps.cases import BANDLIMIT, SIGNAL, at, error, on_grid

#: Sums of 36 harmonics by recursions, theirs or ours.
ROUNDING = 1e-12


class TestHealpy:
    def test_pixels_are_those_of_alm2map(self):
        """a_lm -> ours -> pixels."""
        healpy = pytest.importorskip("healpy")
        rng = np.random.default_rng(2)
        degree, order = healpy.Alm.getlm(7)
        alm = rng.normal(size=degree.size) + 1j * rng.normal(size=degree.size) * (order > 0)
        x = SphereSignal.from_healpy_alm(alm)
        theta, phi = healpy.pix2ang(8, np.arange(768))
        pixels = x.to_map(90 - np.degrees(theta), np.degrees(phi), points=True)
        np.testing.assert_allclose(pixels[0, :, 0], healpy.alm2map(alm, 8), atol=ROUNDING)
        np.testing.assert_allclose(x.to_healpy_alm()[0, :, 0], alm, atol=ROUNDING)
        few = alm[order <= 3]
        x = SphereSignal.from_healpy_alm(few, mmax=3)
        pixels = x.to_map(90 - np.degrees(theta), np.degrees(phi), points=True)
        np.testing.assert_allclose(pixels[0, :, 0], healpy.alm2map(few, 8, lmax=7, mmax=3), atol=ROUNDING)

    def test_batches_there_and_back(self):
        alm = SIGNAL.to_healpy_alm()
        assert alm.shape == (2, 21, 2)
        assert error(SphereSignal.from_healpy_alm(alm)) < ROUNDING
        assert SphereSignal.from_healpy_alm(alm[..., 0].astype(np.complex64)).dtype == np.float32
        np.testing.assert_array_equal(
            SphereSignal.from_healpy_alm(alm, bandlimit=4).coefficients,
            SphereSignal.from_healpy_alm(alm).with_bandlimit(4).coefficients,
        )

    @pytest.mark.parametrize("nside", [1, 2, 4, 8])
    def test_pixels_in_nested_order(self, nside):
        healpy = pytest.importorskip("healpy")
        theta, phi = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True)
        for band in places.healpix(nside, nest=True).bands:
            np.testing.assert_allclose(
                theta[band.pixels], np.broadcast_to(band.colatitudes[:, None], band.pixels.shape)
            )
            np.testing.assert_allclose(phi[band.pixels], np.broadcast_to(band.longitudes, band.pixels.shape))

    @pytest.mark.parametrize("nest", [False, True])
    def test_maps_with_unseen_pixels(self, nest):
        """Written in single precision, where UNSEEN is rounded, with a band that was not observed."""
        bands = places.healpix(8, nest).bands
        theta, phi = np.empty((2, 768))
        for band in bands:
            theta[band.pixels], phi[band.pixels] = band.colatitudes[:, None], band.longitudes
        values = np.einsum("xp,npc->nxc", harmonics(vectors(theta, phi), range(BANDLIMIT)), SIGNAL.coefficients)
        assert error(SphereSignal.from_map(values, bandlimit=BANDLIMIT, nest=nest)) < ROUNDING
        unseen = np.where((abs(theta - 1.4) < 0.2)[:, None], -1.6375e30, values)
        fit = so3ntk.fit_map(unseen, bandlimit=BANDLIMIT, nest=nest)
        assert error(fit.signal) < 10 * ROUNDING
        assert fit.condition > 2
        assert error(SphereSignal.from_map(unseen.astype(np.float32), bandlimit=BANDLIMIT, nest=nest)) < 1e-5
        half = so3ntk.fit_map(unseen, bandlimit=3, nest=nest, mask=phi > 5.5)
        again = so3ntk.fit_map(values, bandlimit=3, nest=nest, mask=(phi > 5.5) | (abs(theta - 1.4) < 0.2))
        np.testing.assert_array_equal(half.signal.coefficients, again.signal.coefficients)


class TestPyshtools:
    @pytest.mark.parametrize("csphase", [1, -1])
    @pytest.mark.parametrize("normalization", ["4pi", "ortho", "schmidt", "unnorm"])
    def test_coefficients(self, normalization, csphase):
        pyshtools = pytest.importorskip("pyshtools")
        arrays = SIGNAL.to_pyshtools(normalization, csphase)
        theirs = pyshtools.SHCoeffs.from_array(arrays[0, ..., 0], normalization=normalization, csphase=csphase)
        lat, lon = np.array([90.0, 40, -3, -80, -90]), np.array([0.0, 10, 100, 250, 300])
        np.testing.assert_allclose(theirs.expand(lat=lat, lon=lon), at(lat, lon)[0, :, 0], atol=ROUNDING)
        back = SphereSignal.from_pyshtools(arrays, normalization=normalization, csphase=csphase)
        assert error(back) < ROUNDING
        np.testing.assert_array_equal(
            SphereSignal.from_pyshtools(theirs).coefficients[0, :, 0], back.coefficients[0, :, 0]
        )

    @pytest.mark.parametrize("extend", [False, True])
    @pytest.mark.parametrize("kind", ["DH", "DH2", "GLQ"])
    def test_grids(self, kind, extend):
        """n by n, n by 2n and Gauss-Legendre grids, with and without the south pole and the last meridian."""
        pyshtools = pytest.importorskip("pyshtools")
        theirs = pyshtools.SHCoeffs.from_array(SIGNAL.to_pyshtools()[0, ..., 0]).expand(grid=kind, extend=extend)
        values = theirs.to_array()
        np.testing.assert_allclose(SIGNAL[:1].to_map(theirs.lats(), theirs.lons())[0, ..., 0], values, atol=ROUNDING)
        for given, options in ((theirs, {}), (values[None, ..., None], {"lat": theirs.lats(), "lon": theirs.lons()})):
            x = SphereSignal.from_map(given, bandlimit=BANDLIMIT, **options)
            np.testing.assert_allclose(x.coefficients[0, :, 0], SIGNAL.coefficients[0, :, 0], atol=ROUNDING)

    def test_higher_degrees_are_dropped_on_request(self):
        arrays = np.zeros((2, 90, 90))
        arrays[:, :6, :6] = SIGNAL.to_pyshtools()[0, ..., 0]
        arrays[0, 80] = 1 * (np.arange(90) <= 80)
        x = SphereSignal.from_pyshtools(arrays, bandlimit=6)
        np.testing.assert_allclose(x.coefficients[0, :, 0], SIGNAL.coefficients[0, :, 0], atol=ROUNDING)
        with pytest.raises(ValueError, match="Pass bandlimit=64 or less to drop the higher ones"):
            SphereSignal.from_pyshtools(arrays)


class TestXarray:
    LAT, LON = np.arange(84.0, -90, -12), np.arange(0.0, 360, 15)

    def field(self, names=("lat", "lon"), attrs=({}, {}), values=None, **options):
        xarray = pytest.importorskip("xarray")
        values = on_grid(self.LAT, self.LON) if values is None else values
        coords = {
            name: (name, degrees, attr) for name, degrees, attr in zip(names, (self.LAT, self.LON), attrs, strict=True)
        }
        return xarray.DataArray(values, dims=("time", *names, "channel"), coords=coords, **options)

    @pytest.mark.parametrize(
        ("names", "attrs"),
        [
            (("latitude", "Longitude"), ({}, {})),
            (("y", "x"), ({"units": "degrees_north"}, {"units": "degrees_east"})),
            (("j", "i"), ({"standard_name": "latitude"}, {"standard_name": "longitude"})),
        ],
    )
    def test_coordinates_are_recognised(self, names, attrs):
        field = self.field(names, attrs)
        assert error(SphereSignal.from_map(field, bandlimit=BANDLIMIT)) < ROUNDING
        moved = field.transpose(names[1], "channel", names[0], "time")
        assert error(SphereSignal.from_map(moved, bandlimit=BANDLIMIT)) < ROUNDING

    def test_other_dimensions_are_the_batch(self):
        field = self.field()
        assert len(SphereSignal.from_map(field.isel(time=0, channel=0), bandlimit=BANDLIMIT)) == 1
        members = field.rename(channel="member")
        x = SphereSignal.from_map(members, bandlimit=BANDLIMIT)
        expected = np.asarray(SIGNAL.coefficients).transpose(0, 2, 1).reshape(4, -1, 1)
        np.testing.assert_allclose(x.coefficients, expected, atol=ROUNDING)

    def test_masks_with_labels(self):
        field = self.field()
        hidden = (field.time == 0) & (field.lat > 50) & (field.lon < 100)
        masked = field.where(~hidden)
        for mask in (hidden, masked.isnull(), hidden.isel(time=0).transpose("lon", "lat")):
            assert error(SphereSignal.from_map(masked, bandlimit=BANDLIMIT, mask=mask)) < 10 * ROUNDING

    def test_stations_and_radians_and_names(self):
        xarray = pytest.importorskip("xarray")
        lat, lon = np.random.default_rng(3).uniform(-80, 80, 90), np.random.default_rng(4).uniform(0, 360, 90)
        radians = {"units": "radian"}
        coords = {
            "lat": ("site", np.radians(lat), radians),
            "lon": ("site", np.radians(lon), radians),
            "height": ("site", lat),
        }
        field = xarray.DataArray(at(lat, lon), dims=("time", "site", "channel"), coords=coords)
        assert error(SphereSignal.from_map(field, bandlimit=BANDLIMIT)) < ROUNDING
        named = self.field(("p", "q"))
        assert error(SphereSignal.from_map(named, bandlimit=BANDLIMIT, lat="p", lon="q")) < ROUNDING

    @pytest.mark.parametrize(
        ("change", "options", "words"),
        [
            (lambda f: f.rename(lat="y", lon="x"), {}, "no coordinate looks like the latitude (of ['x', 'y'])"),
            (lambda f: f.assign_coords(latitude=("lat", f.lat.values)), {}, "several coordinates look like the latitude"),
            (lambda f: f, {"lat": "rows"}, "there is no coordinate 'rows' for lat; there are ['lat', 'lon']"),
            (lambda f: f.assign_attrs(standard_name="eastward_wind"), {}, "eastward_wind is a component of a vector field"),
            (lambda f: f.expand_dims("variable"), {}, "expected one dimension of channels, got ['variable', 'channel']"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, change, options, words):
        with pytest.raises(ValueError, match=re.escape(words)):
            SphereSignal.from_map(change(self.field()), bandlimit=3, **options)

    def test_what_has_coordinates_takes_no_others(self):
        with pytest.raises(TypeError, match="leave lat away"):
            SphereSignal.from_map(self.field(), bandlimit=3, lat=self.LAT, lon=self.LON)
        with pytest.raises(TypeError, match="expected one variable, got a Dataset"):
            SphereSignal.from_map(self.field().to_dataset(name="t"), bandlimit=3)


@pytest.mark.parametrize(
    ("call", "error_type", "words"),
    [
        (lambda: SphereSignal.from_healpy_alm(np.zeros(20, complex)), ValueError, "no lmax has 20 a_lm with mmax = lmax"),
        (lambda: SphereSignal.from_healpy_alm(np.zeros(21, complex), mmax=6), ValueError, "no lmax has 21 a_lm with mmax = 6"),
        (lambda: SphereSignal.from_healpy_alm(np.zeros(21, complex), mmax=-1), ValueError, "an integer from 0 on, got -1"),
        (lambda: SphereSignal.from_healpy_alm(np.zeros(21)), TypeError, "expected healpy's complex a_lm, got float64"),
        (lambda: SphereSignal.from_healpy_alm(np.full(21, 1j)), ValueError, "a_l0 has an imaginary part of 1.00e+00"),
        (lambda: SphereSignal.from_healpy_alm(np.full(21, np.nan + 0j)), ValueError, "not finite"),
        (lambda: SphereSignal.from_healpy_alm(np.zeros(21, complex), bandlimit=7), ValueError, "with_bandlimit(7)"),
        (lambda: SphereSignal.from_pyshtools(np.zeros((6, 6, 2))), ValueError, "(N, 2, L, L, C)"),
        (lambda: SphereSignal.from_pyshtools(np.zeros((2, 6, 6)) * 1j), TypeError, 'c.convert(kind="real")'),
        (lambda: SphereSignal.from_pyshtools(np.ones((2, 6, 6))), ValueError, "not zero at index (0, 0, 1)"),
        (lambda: SphereSignal.from_pyshtools(np.zeros((2, 6, 6)), normalization="full"), ValueError, "'unnorm', got 'full'"),
        (lambda: SphereSignal.from_pyshtools(np.zeros((2, 6, 6)), csphase=0), ValueError, "got 0"),
        (lambda: SIGNAL.to_pyshtools(csphase=2), ValueError, "to_pyshtools: expected csphase 1"),
    ],
)  # fmt: skip
def test_coefficients_that_are_refused(call, error_type, words):
    with pytest.raises(error_type, match=re.escape(words)):
        call()
