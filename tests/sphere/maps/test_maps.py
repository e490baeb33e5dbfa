"""Maps that are known in closed form, on every kind of grid, at points and on HEALPix: the signals that they are."""

import numpy as np
import pytest

import so3ntk
from so3ntk.sphere.maps import places
from so3ntk.sphere.maps.coordinates import cell_areas
from so3ntk.sphere.signals import SphereSignal
from tests.oracles.maps import vectors
from tests.sphere.maps.cases import BANDLIMIT, SIGNAL, at, error, on_grid

#: Solving for 36 coefficients of size one, with conditions of some tens at most.
ROUNDING = 1e-12
RNG = np.random.default_rng(1)
CENTRES, NODES = np.arange(-84.0, 90, 12), np.arange(-90.0, 91, 12)
GRIDS = {
    "cell centres": (CENTRES, np.arange(6.0, 360, 12)),
    "nodes with poles, from -180": (NODES, np.arange(-180.0, 180, 15)),
    "descending, a repeated meridian": (NODES[::-1], np.arange(0.0, 361, 15)),
    "a repeated meridian at -180": (CENTRES, np.linspace(-180.0, 180, 25)),
    "longitudes in no order": (CENTRES, RNG.permutation(np.arange(0.0, 360, 15))),
    "Gauss and Legendre": (np.degrees(np.arcsin(np.polynomial.legendre.leggauss(8)[0])), np.arange(0.0, 360, 30)),
    "unevenly spaced": (np.sort(RNG.uniform(-88, 88, 12)), np.sort(RNG.uniform(0, 360, 17))),
    "Driscoll and Healy, n by n": (90 - 180 * np.arange(12) / 12, 360 * np.arange(12) / 12),
    "single precision": (CENTRES.astype(np.float32), np.arange(0, 360, 15, np.float32)),
}


@pytest.fixture(scope="module")
def points():
    """200 points and a function of bandlimit 8 there: xyz + z^7 - y and its coefficients by quadrature."""
    lat, lon = np.degrees(np.arcsin(RNG.uniform(-1, 1, 200))), RNG.uniform(0, 360, 200)
    return lat, lon


def closed_form(x, y, z):
    """A polynomial of degree seven."""
    return 3 * x * y * z + z**7 - 2 * y + 0.5 * x**4 * y**2


class TestGrids:
    @pytest.mark.parametrize("name", GRIDS)
    def test_a_signal_comes_back(self, name):
        lat, lon = GRIDS[name]
        values = on_grid(lat, lon)
        fit = so3ntk.fit_map(values, lat=lat, lon=lon, bandlimit=BANDLIMIT)
        assert error(fit.signal) < ROUNDING
        assert fit.residual.max() < ROUNDING
        assert 1 <= fit.condition < 100
        np.testing.assert_allclose(SIGNAL.to_map(lat, lon), values, atol=ROUNDING)

    def test_meshes_and_curvilinear_grids(self):
        lat, lon = GRIDS["cell centres"]
        rows, columns = np.meshgrid(lat, lon, indexing="ij")
        mesh = SphereSignal.from_map(on_grid(lat, lon), lat=rows, lon=columns, bandlimit=BANDLIMIT)
        assert error(mesh) < ROUNDING
        bent = rows * (1 + 0.1 * np.sin(np.radians(columns)) / 2), columns + rows / 10
        values = at(*bent)
        assert error(SphereSignal.from_map(values, lat=bent[0], lon=bent[1], bandlimit=BANDLIMIT)) < ROUNDING
        np.testing.assert_allclose(SIGNAL.to_map(*bent), values, atol=ROUNDING)

    def test_areas(self):
        """Of cells between the midpoints; they sum to the sphere's, with poles and a repeated meridian too."""
        partial = ("Gauss and Legendre", "unevenly spaced", "Driscoll and Healy, n by n")  # end before a pole
        for lat, lon in (grid for name, grid in GRIDS.items() if name not in partial):
            assert cell_areas(lat.astype(float), lon.astype(float)).sum() == pytest.approx(4 * np.pi, rel=1e-6)
        areas = cell_areas(np.array([-90.0, 0, 30, 90]), np.array([0.0, 90, 180, 270, 360]))
        heights = np.diff(np.sin(np.radians([-90, -45, 15, 60, 90])))
        np.testing.assert_allclose(areas, np.outer(heights, np.pi / 2 * np.array([0.5, 1, 1, 1, 0.5])), rtol=1e-12)
        piece = cell_areas(np.array([10.0, 20, 30]), np.array([40.0, 50]))  # a cell is as wide on its outer side
        np.testing.assert_allclose(
            piece[:, 0], np.diff(np.sin(np.radians([5, 15, 25, 35]))) * np.radians(10), rtol=1e-12
        )

    def test_the_mean_of_a_map_that_is_not_of_the_bandlimit(self):
        """a_00 / sqrt(4 pi) is the mean over areas, as far as these integrate low degrees: (l h)^2 / 24 of them."""
        lat, lon = np.arange(-87.5, 90, 5), np.arange(0.0, 360, 5)
        caps = np.broadcast_to(abs(lat)[:, None] > 70, (1, len(lat), len(lon))).astype(float)[..., None]
        fit = so3ntk.fit_map(caps, lat=lat, lon=lon, bandlimit=3)
        mean = np.average(caps[0, :, 0, 0], weights=np.cos(np.radians(lat)))
        assert float(fit.signal.coefficients[0, 0, 0]) / np.sqrt(4 * np.pi) == pytest.approx(mean, abs=1e-3)
        unweighted = so3ntk.fit_map(caps, lat=lat, lon=lon, bandlimit=3, weights=np.ones(caps.shape[1:3]))
        assert abs(float(unweighted.signal.coefficients[0, 0, 0]) / np.sqrt(4 * np.pi) - mean) > 2e-3

    def test_the_residual_is_that_of_the_weighted_norm(self):
        lat, lon = GRIDS["cell centres"]
        values = on_grid(lat, lon)
        values += 0.1 * RNG.normal(size=values.shape)
        fit = so3ntk.fit_map(values, lat=lat, lon=lon, bandlimit=BANDLIMIT)
        left, area = values - fit.signal.to_map(lat, lon), cell_areas(lat, lon)[:, :, None]
        expected = np.sqrt((left**2 * area).sum(axis=(1, 2, 3)) / (values**2 * area).sum(axis=(1, 2, 3)))
        np.testing.assert_allclose(fit.residual, expected, rtol=1e-10)

    def test_arrays_stored_otherwise(self):
        """The same numbers in another byte order or layout, of integers, in half and single precision, nothing masked."""
        lat, lon = GRIDS["cell centres"]
        values = np.round(10 * on_grid(lat, lon)) + 100

        def read(stored):
            return SphereSignal.from_map(stored, lat=lat, lon=lon, bandlimit=3).coefficients

        for stored in (values.astype(">f8"), values.astype("i2"), np.array(values, order="F"), np.ma.array(values)):
            assert read(stored).dtype == np.float64
            np.testing.assert_array_equal(read(stored), read(values))
        assert read(values.astype(np.float32)).dtype == np.float32
        np.testing.assert_array_equal(
            read(values.astype(np.float16)), read(values.astype(np.float16).astype(np.float32))
        )

    def test_no_maps(self):
        lat, lon = GRIDS["cell centres"]
        fit = so3ntk.fit_map(on_grid(lat, lon)[:0], lat=lat, lon=lon, bandlimit=3)
        assert (len(fit.signal), fit.residual.shape) == (0, (0,))


class TestPoints:
    def test_a_function_in_closed_form_at_200_points(self, points):
        lat, lon = points
        x, y, z = vectors(np.radians(90 - lat), np.radians(lon)).T
        fit = so3ntk.fit_map(closed_form(x, y, z)[None, :, None], lat=lat, lon=lon, bandlimit=8)
        elsewhere = vectors(np.radians(RNG.uniform(0, 180, 50)), RNG.uniform(0, 6, 50))
        values = np.asarray(fit.signal.at(elsewhere))[0, :, 0]
        np.testing.assert_allclose(values, closed_form(*elsewhere.T), atol=1e-10)
        assert fit.residual[0] < 1e-13

    def test_values_measured_twice_are_averaged(self, points):
        lat, lon = (np.concatenate([degrees, degrees[:50]]) for degrees in points)
        values = at(lat, lon)
        values[:, :50] += 1
        values[:, 200:] -= 1
        assert error(SphereSignal.from_map(values, lat=lat, lon=lon, bandlimit=BANDLIMIT)) < ROUNDING

    def test_weights_are_those_of_the_squares(self, points):
        """A weight of two is a value that is there twice, zero one that is not."""
        lat, lon = points
        noisy = at(lat, lon) + RNG.normal(size=(2, 200, 2))
        weights = np.repeat([2.0, 1.0, 0.0], [60, 100, 40])
        weighted = so3ntk.fit_map(noisy, lat=lat, lon=lon, bandlimit=4, weights=weights)
        index = np.concatenate([np.arange(160), np.arange(60)])
        repeated = so3ntk.fit_map(noisy[:, index], lat=lat[index], lon=lon[index], bandlimit=4)
        np.testing.assert_allclose(weighted.signal.coefficients, repeated.signal.coefficients, atol=ROUNDING)
        np.testing.assert_allclose(weighted.residual, repeated.residual, rtol=1e-10)

    def test_to_points_and_back(self, points):
        values = SIGNAL.to_map(*points, points=True)
        np.testing.assert_allclose(values, at(*points), atol=ROUNDING)

    def test_blocks(self, points, monkeypatch):
        lat, lon = points
        whole = SphereSignal.from_map(at(lat, lon), lat=lat, lon=lon, bandlimit=BANDLIMIT)
        monkeypatch.setattr(places, "BLOCK", 36 * 70)
        monkeypatch.setattr("so3ntk.sphere.maps.fit.BLOCK", 300)
        np.testing.assert_allclose(
            SphereSignal.from_map(at(lat, lon), lat=lat, lon=lon, bandlimit=BANDLIMIT).coefficients,
            whole.coefficients,
            atol=ROUNDING,
        )


class TestSums:
    @pytest.mark.parametrize("name", ["unevenly spaced", "healpix", "nested"])
    def test_sums_over_rings_are_those_over_points(self, name):
        """The three sums of least squares, with weights of their own everywhere."""
        if name in GRIDS:
            lat, lon = GRIDS[name]
            rings, (rows, columns) = places.grid(lat, lon), np.meshgrid(lat, lon, indexing="ij")
            scattered = places.points(rows.ravel(), columns.ravel())
        else:
            rings = places.healpix(4, nest=name == "nested")
            theta, phi = np.empty((2, 192))
            for band in rings.bands:
                theta[band.pixels], phi[band.pixels] = band.colatitudes[:, None], band.longitudes
            scattered = places.Scattered(vectors(theta, phi))
        values = RNG.uniform(0, 1, (3, len(scattered.vectors)))
        np.testing.assert_allclose(rings.normal(values[0], 5), scattered.normal(values[0], 5), atol=1e-12)
        np.testing.assert_allclose(rings.analysed(values, 5), scattered.analysed(values, 5), atol=1e-12)
        coefficients = RNG.normal(size=(25, 3))
        np.testing.assert_allclose(rings.summed(coefficients), scattered.summed(coefficients), atol=1e-12)


@pytest.fixture(scope="module")
def rough():
    """The signals on a grid, and with a little of degree twenty and more."""
    lat, lon = TestMasks.LAT, TestMasks.LON
    values = on_grid(lat, lon)
    return values, values + 0.01 * np.cos(20 * np.radians(lon))[:, None] * np.ones((len(lat), 1, 1))


class TestMasks:
    LAT, LON = np.arange(-88.0, 90, 4), np.arange(0.0, 360, 4)

    def test_a_third_is_masked(self, rough):
        """A band around the equator: exact for a signal of the bandlimit, else within the residual, by the condition."""
        mask = np.broadcast_to(abs(self.LAT)[:, None] < 20, rough[0].shape[1:3])
        exact, fit = (so3ntk.fit_map(np.where(mask[..., None], np.nan, values), lat=self.LAT, lon=self.LON,
                                     bandlimit=BANDLIMIT, mask=mask) for values in rough)  # fmt: skip
        assert error(exact.signal) < 100 * ROUNDING
        assert exact.condition == fit.condition > 3
        truth = np.asarray(SIGNAL.coefficients)
        off = np.linalg.norm(np.asarray(fit.signal.coefficients) - truth, axis=(1, 2)) / np.linalg.norm(
            truth, axis=(1, 2)
        )
        assert (fit.residual > 1e-3).all()
        assert (off <= fit.condition * fit.residual).all()

    def test_each_map_and_each_channel_has_its_own(self, rough):
        """Masks of maps, of values, of masked arrays: as if each were fitted alone."""
        values = rough[1]
        mask = RNG.random(values.shape) < 0.3
        options = {"lat": self.LAT, "lon": self.LON, "bandlimit": 4}
        together = so3ntk.fit_map(values, mask=mask, **options)
        for n in range(2):
            for c in range(2):
                alone = so3ntk.fit_map(values[n : n + 1, :, :, c : c + 1], mask=mask[n, :, :, c], **options)
                np.testing.assert_allclose(
                    together.signal.coefficients[n, :, c], alone.signal.coefficients[0, :, 0], atol=1e-13
                )
        hidden = so3ntk.fit_map(np.ma.array(values, mask=mask), **options)
        np.testing.assert_array_equal(hidden.signal.coefficients, together.signal.coefficients)
        of_maps = [mask[..., 0], mask[..., :1], np.repeat(mask[..., :1], 2, axis=-1)]
        found = [so3ntk.fit_map(values, mask=some, **options).signal.coefficients for some in of_maps]
        np.testing.assert_allclose(found[1], found[0], atol=1e-14)
        np.testing.assert_allclose(found[2], found[0], atol=1e-14)

    def test_a_ridge_keeps_small_what_is_not_determined(self, rough):
        """It is the minimum of the squares and the ridge: its normal equations, written out."""
        north = self.LAT > 0
        lat = self.LAT[north]
        with pytest.raises(ValueError, match=r"pass bandlimit=6, the largest that these places carry, or pass a ridge"):
            so3ntk.fit_map(rough[0][:, north], lat=lat, lon=self.LON, bandlimit=10)
        assert so3ntk.fit_map(rough[0][:, north], lat=lat, lon=self.LON, bandlimit=6).condition < 1e4
        fit = so3ntk.fit_map(rough[0][:, north], lat=lat, lon=self.LON, bandlimit=10, ridge=1e-3)
        assert fit.residual.max() < 0.05
        rows, columns = np.meshgrid(lat, self.LON, indexing="ij")
        scattered, area = places.points(rows.ravel(), columns.ravel()), cell_areas(lat, self.LON).ravel()
        area = area * 4 * np.pi / area.sum()
        values = rough[0][0, north, :, 0].reshape(1, -1)
        right = scattered.analysed(values * area, 10)[:, 0]
        expected = np.linalg.solve(scattered.normal(area, 10) + 1e-3 * np.eye(100), right)
        np.testing.assert_allclose(fit.signal.coefficients[0, :, 0], expected, atol=1e-9)  # the condition is about 1e3


class TestCondition:
    def test_digits_are_lost_to_the_condition_alone(self, rough):
        """Not to its square, which the normal equations have: half of the sphere, as far as it carries."""
        south = TestMasks.LAT < 0
        fit = so3ntk.fit_map(rough[0][:, south], lat=TestMasks.LAT[south], lon=TestMasks.LON, bandlimit=BANDLIMIT)
        assert 1e3 < fit.condition < 1e4
        assert error(fit.signal) < 1e-14 * fit.condition


class TestResidualWarning:
    LAT, LON = np.arange(-80.0, 81, 20), np.arange(0.0, 360, 20)

    def test_a_map_of_high_degrees_warns(self):
        wave = np.cos(8 * np.radians(self.LON)) * np.ones((len(self.LAT), 1))
        with pytest.warns(UserWarning, match=r"bandlimit 3 leaves a relative residual of 1.00 \(map 0\)") as caught:
            SphereSignal.from_map(wave[None, ..., None], lat=self.LAT, lon=self.LON, bandlimit=3)
        assert caught[0].filename == __file__

    @pytest.mark.filterwarnings("error")
    def test_others_do_not(self):
        values = on_grid(self.LAT, self.LON) * 0.3 + 5
        SphereSignal.from_map(values, lat=self.LAT, lon=self.LON, bandlimit=3)
        so3ntk.fit_map(RNG.normal(size=values.shape), lat=self.LAT, lon=self.LON, bandlimit=3)
