"""Maps that are refused: where, what was expected, what came, and what to do; remedies are executed."""

import re

import jax
import numpy as np
import pytest

import so3ntk
from so3ntk.sphere.signals import SphereSignal
from tests.sphere.maps.cases import BANDLIMIT, SIGNAL, error, on_grid

LAT, LON = np.arange(-84.0, 90, 12), np.arange(0.0, 360, 15)
VALUES = on_grid(LAT, LON)
HEALPIX = np.ones((2, 48, 1))
SQUARE = VALUES[:, :, : len(LAT), 0]


def changed(index, value):
    values = VALUES.copy()
    values[index] = value
    return values


def from_map(values=VALUES, **options):
    return SphereSignal.from_map(values, **{"lat": LAT, "lon": LON, "bandlimit": BANDLIMIT, **options})


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        # latitudes and longitudes
        (VALUES, {"lat": np.radians(LAT), "lon": np.radians(LON)}, "look like radians, but degrees are expected"),
        (VALUES, {"lat": 90 - LAT}, "got 6 to 174. They look like colatitudes from the north pole: pass lat=90 - colatitude"),
        (VALUES, {"lat": LAT - 20}, "expected latitudes from -90 to 90 degrees, got -104 to 64."),
        (VALUES[:, :, :7], {"lat": np.linspace(0, 300, 15), "lon": LAT[:7]}, "If lat and lon are swapped, swap them"),
        (VALUES, {"lon": LON + 500}, "expected longitudes from -360 to 720 degrees, got 500 to 845"),
        (VALUES, {"lat": np.where(LAT == 0, np.nan, LAT)}, "lat hold nan at index (7,)"),
        (VALUES, {"lat": None}, "expected both lat and lon, but lat is missing"),
        (VALUES, {"lat": 3.0}, "lat: expected a list of degrees, got an array of shape ()"),
        (VALUES, {"lat": np.repeat(LAT[:1], 15)}, "rows 0 and 1 of the grid have the same latitude, -84 degrees"),
        (VALUES, {"lon": LON % 345}, "the first and the last longitude are one meridian, but the values there differ (map 1, row 7)"),
        (VALUES, {"lon": np.minimum(LON, 330)}, "columns 22 and 23 of the grid have the same longitude, 330 degrees"),
        (VALUES, {"nest": True}, "nest is an order of HEALPix's pixels"),
        # shapes
        (VALUES.swapaxes(1, 2), {}, "If latitudes and longitudes are swapped, pass values.swapaxes(1, 2)"),
        (VALUES[0], {}, "If the batch axis is missing, pass values[None]"),
        (VALUES[..., 0], {}, "If the channel axis is missing, pass values[..., None]"),
        (VALUES[0, ..., 0], {}, "If this is one map with one channel, pass values[None, ..., None]"),
        (np.moveaxis(VALUES, -1, 1), {}, "If the channels come first, pass np.moveaxis(values, 1, -1)"),
        (VALUES[:, :-1], {}, "expected values (N, 15, 24, C) on a grid of 15 latitudes and 24 longitudes, got (2, 14, 24, 2)."),
        (VALUES[..., :0], {}, "got (2, 15, 24, 0)."),
        (SQUARE, {"lon": LON[:15]}, "If the channel axis is missing, pass values[..., None]"),
        (VALUES, {"lat": LAT[:, None] + 0 * LON, "lon": LON[None, :5]}, "for two-dimensional lat (15, 24) and lon (1, 5)"),
        (VALUES, {"lat": None, "lon": None}, "Driscoll and Healy's n by m grids (pyshtools): lat=90 - 180 * np.arange(n) / n"),
        (HEALPIX[:, :40], {"lat": None, "lon": None}, "got (2, 40, 1). Values at other points need lat and lon in degrees."),
        (HEALPIX[..., 0], {"lat": None, "lon": None}, "One channel is values[..., None]."),
        (HEALPIX[0, :, 0], {"lat": None, "lon": None}, "One map is values[None, :, None]."),
        (np.ones((1, 108, 1)), {"lat": None, "lon": None, "nest": True}, "where nside is a power of two, and 108 pixels have 3"),
        # values, masks and weights
        (changed((1, 2, 3, 1), np.nan), {}, "hold nan at index (1, 2, 3, 1), which is not masked (1 such values)"),
        (changed((0, 2, 3, 1), 9.969209968386869e36), {}, "netCDF's default fill value, which is not masked"),
        (VALUES, {"mask": np.ones((15, 24), bool)}, "is masked or has the weight zero. A mask is True where values are left out"),
        (VALUES, {"mask": np.array([1, 0])[:, None, None] * np.ones((15, 24))}, "every value of a map is masked"),
        (VALUES, {"mask": np.zeros((24, 15), bool)}, "expected a mask of shape (15, 24), (2, 15, 24) or (2, 15, 24, 2), got (24, 15)"),
        (VALUES, {"weights": LAT}, "expected weights of shape (15, 24)"),
        (VALUES, {"weights": -np.ones((15, 24))}, "expected finite weights that are zero or positive"),
        (VALUES, {"ridge": -1.0}, "expected a ridge that is zero or positive, got -1.0"),
        # what the values determine
        (VALUES, {"bandlimit": 0}, "a bandlimit from 1 to 64"),
        (VALUES, {"bandlimit": 65}, "a bandlimit from 1 to 64"),
        (HEALPIX, {"lat": None, "lon": None, "bandlimit": 8}, "48 values do not determine the 64 coefficients of bandlimit 8"),
        (VALUES, {"bandlimit": 14}, "errors would be enlarged more than 1e+04 times. To go on, pass bandlimit="),
    ],
)  # fmt: skip
def test_what_is_refused(values, options, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        from_map(values, **options)
    assert str(caught.value).startswith("SphereSignal.from_map: ")


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (VALUES + 1j, {}, "A spin field (Q + iU of polarisation, u + iv of a wind) is not two scalars"),
        (VALUES, {"lat": LAT * 1j}, "lat should be real degrees, but are complex128"),
        (VALUES, {"mask": VALUES[0, ..., 0]}, "expected a mask of True, which leaves a value out, and False"),
        (VALUES, {"weights": VALUES[0, ..., 0] * 1j}, "expected weights that are concrete real numbers"),
        (VALUES, {"bandlimit": 3.0}, "expected an integer bandlimit, got 3.0"),
        (HEALPIX, {"lat": None, "lon": None, "nest": "ring"}, "expected nest to be True or False, got 'ring'"),
    ],
)
def test_what_is_of_the_wrong_type(values, options, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        from_map(values, **options)


def test_traced_values():
    with pytest.raises(TypeError, match="the values are traced"):
        jax.jit(lambda values: from_map(values).coefficients)(VALUES)


class TestRemedies:
    """What the messages advise works."""

    def test_values_left_out(self):
        for value, mask in (
            (np.nan, np.isnan),
            (9.969209968386869e36, lambda v: abs(v) > 1e29),
            (np.inf, lambda v: abs(v) > 1e29),
        ):
            values = changed((1, 2, 3, 1), value)
            with pytest.raises(
                ValueError, match=re.escape("pass mask=" + ("np.isnan" if np.isnan(value) else "abs(values) > 1e29"))
            ):
                from_map(values)
            assert error(from_map(values, mask=mask(values))) < 1e-12

    def test_the_bandlimit_that_the_places_carry(self):
        lat, lon = np.random.default_rng(0).uniform(-90, 90, (2, 40)) * np.array([[1], [2]])
        values = SIGNAL.to_map(lat, lon, points=True)
        for bandlimit, values_of, options in ((14, VALUES, {}), (7, values, {"lat": lat, "lon": lon})):
            with pytest.raises(ValueError, match="pass bandlimit=") as caught:
                from_map(values_of, bandlimit=bandlimit, **options)
            carried = int(re.search(r"pass bandlimit=(\d+)", str(caught.value))[1])
            assert 2 < carried < bandlimit
            options = {"lat": LAT, "lon": LON, **options}
            assert so3ntk.fit_map(values_of, bandlimit=carried, **options).condition < 1e4
            with pytest.raises(ValueError, match=f"pass bandlimit={carried}, "):
                so3ntk.fit_map(values_of, bandlimit=carried + 1, **options)
            assert so3ntk.fit_map(values_of, bandlimit=bandlimit, ridge=1e-3, **options).condition < 1e4

    def test_longitudes_without_their_end(self):
        """np.linspace(0, 360, 24) for a grid of 24 different columns."""
        with pytest.raises(ValueError, match=re.escape("np.linspace(0, 360, columns, endpoint=False)")):
            from_map(lon=np.linspace(0, 360, 24))
        assert error(from_map(lon=np.linspace(0, 360, 24, endpoint=False))) < 1e-12

    def test_a_repeated_meridian_may_be_rounded_or_masked(self):
        values, lon = VALUES[:, :, [*range(24), 0]].copy(), np.append(LON, 360)
        values[:, :, -1] += 1e-6
        assert error(from_map(values, lon=lon)) < 1e-5
        values[:, :, -1] = 1e20  # what some files hold there
        assert error(from_map(values, lon=lon, mask=values > 1e19)) < 1e-12
        assert error(from_map(np.ma.masked_greater(values, 1e19), lon=lon)) < 1e-12


class TestToMap:
    @pytest.mark.parametrize(
        ("lat", "lon", "options", "words"),
        [
            (LAT, LON, {"points": True}, "expected a latitude and a longitude of each point, got (15,) and (24,)"),
            (LAT[:, None], LON, {}, "got (15, 1) and (24,)"),
            (LAT + 90, LON, {}, "They look like colatitudes"),
        ],
    )
    def test_what_is_refused(self, lat, lon, options, words):
        with pytest.raises(ValueError, match=re.escape(words)):
            SIGNAL.to_map(lat, lon, **options)


def test_from_samples_goes_on_refusing():
    """Masks enter by from_map alone."""
    for missing in (np.ma.masked_less(HEALPIX, 2), np.where(np.arange(48)[:, None] > 3, HEALPIX, -1.6375e30)):
        with pytest.raises(ValueError, match=r"masked at index|UNSEEN"):
            SphereSignal.from_samples(missing, "healpix", 2)
