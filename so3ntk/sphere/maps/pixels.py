"""The values of maps with their places: on a grid of latitudes and longitudes, at points, or HEALPix's pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from so3ntk.basics.arguments import check_flag
from so3ntk.basics.arrays import FILL_RTOL, FILLS
from so3ntk.sphere.maps import coordinates
from so3ntk.sphere.maps.places import Places, grid, healpix, points

UNSEEN = next(fill for fill, name in FILLS.items() if "UNSEEN" in name)


@dataclass(frozen=True)
class Pixels:
    """Values (n, *shape, c), where they are, their weights by default, and which are missing by themselves."""

    values: np.ndarray
    places: Places
    weights: Float[np.ndarray, " x"]
    missing: Bool[np.ndarray, "n x c"] | None = None
    #: Whether the last column of a grid is the first meridian again.
    closed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The axes of places."""
        return self.values.shape[1:-1]

    @property
    def flat(self) -> np.ndarray:
        """The values (n, x, c)."""
        n, *_, channels = self.values.shape
        return self.values.reshape(n, len(self.weights), channels)


def read_pixels(values: np.ndarray, lat: Any, lon: Any, nest: bool | None, where: str) -> Pixels:
    """Values with lat and lon in degrees, or HEALPix maps with neither. ValueError if their shapes do not fit."""
    if lat is None and lon is None:
        return _healpix(values, nest, where)
    if lat is None or lon is None:
        raise ValueError(f"{where}: expected both lat and lon, but {'lat' if lat is None else 'lon'} is missing.")
    if nest is not None:
        raise ValueError(
            f"{where}: nest is an order of HEALPix's pixels, which have no lat and lon: leave either away."
        )
    lat, lon = coordinates.read_coordinates(lat, lon, where)
    shape = _expected_shape(values, lat, lon, where)
    lat, lon = coordinates.unmeshed(lat, lon)
    if len(shape) == 1 or lat.ndim == 2:
        return Pixels(values, points(lat.ravel(), lon.ravel()), np.ones(lat.size))
    coordinates.check_grid(lat, lon, where)
    return Pixels(values, grid(lat, lon), coordinates.cell_areas(lat, lon).ravel(), closed=coordinates.closes(lon))


def _healpix(values: np.ndarray, nest: bool | None, where: str) -> Pixels:
    """Maps (N, npix, C) without coordinates. Pixels that are UNSEEN are missing."""
    if values.ndim == 4:
        raise ValueError(
            f"{where}: values {values.shape} on a grid need the latitudes lat of its rows and the longitudes lon of its columns, "
            "in degrees. Those of Driscoll and Healy's n by m grids (pyshtools): lat=90 - 180 * np.arange(n) / n, "
            "lon=360 * np.arange(m) / m."
        )
    nest = check_flag(False if nest is None else nest, where, "nest")
    pixels = values.shape[1] if values.ndim == 3 else max(values.shape, default=0)
    nside = round((pixels / 12) ** 0.5)
    whole = nside > 0 and pixels == 12 * nside**2
    if values.ndim != 3 or not whole or not values.shape[2]:
        advice = {1: " One map is values[None, :, None].", 2: " One channel is values[..., None]."}.get(values.ndim, "")
        raise ValueError(
            f"{where}: without lat and lon expected HEALPix maps (N, npix, C) with npix = 12 nside^2, got {values.shape}."
            f"{advice if whole else ' Values at other points need lat and lon in degrees.'}"
        )
    if nest and nside & (nside - 1):
        raise ValueError(
            f"{where}: NESTED order exists where nside is a power of two, and {pixels} pixels have {nside}."
        )
    unseen = abs(values - UNSEEN) <= FILL_RTOL * abs(UNSEEN) if values.dtype.kind == "f" else np.zeros(1, bool)
    return Pixels(values, healpix(nside, nest), np.ones(pixels), unseen if unseen.any() else None)


def _expected_shape(values: np.ndarray, lat: np.ndarray, lon: np.ndarray, where: str) -> tuple[int, ...]:
    """The axes of places in values (N, *shape, C). ValueError for others, with a likely cause."""
    given, rows, columns = values.shape, len(lat), len(lon)
    if lat.ndim == 2 or lon.ndim == 2:
        shapes = [lat.shape] if lat.shape == lon.shape else []
        words = f"(N, y, x, C) for two-dimensional lat {lat.shape} and lon {lon.shape} of one shape (y, x)"
    elif rows == columns and not (len(given) == 3 and given[1:] == (rows, columns) and _is_a_grid(lat, lon)):
        shapes, words = [(rows, columns), (rows,)], f"(N, {rows}, {columns}, C) on a grid, or (N, {rows}, C) at points"
    else:
        shapes, words = (
            [(rows, columns)],
            f"(N, {rows}, {columns}, C) on a grid of {rows} latitudes and {columns} longitudes",
        )
    if len(given) > 2 and given[1:-1] in shapes and given[-1]:
        return given[1:-1]
    advice = {
        given[2:0:-1]: "latitudes and longitudes are swapped, pass values.swapaxes(1, 2)",
        given[1:]: "the channel axis is missing, pass values[..., None]",
        given[:-1]: "the batch axis is missing, pass values[None]",
        given: "this is one map with one channel, pass values[None, ..., None]",
        given[2:]: "the channels come first, pass np.moveaxis(values, 1, -1)",
    }
    causes = [advice[shape] for shape in [*shapes, (rows,)] if shape in advice]
    raise ValueError(f"{where}: expected values {words}, got {given}.{f' If {causes[0]}.' if causes else ''}")


def _is_a_grid(lat: np.ndarray, lon: np.ndarray) -> bool:
    """Whether as many latitudes as longitudes, both in order, are those of a grid: points hardly ever are in both."""
    return len(lat) > 2 and all(abs(np.sign(np.diff(degrees)).sum()) == len(degrees) - 1 for degrees in (lat, lon))
