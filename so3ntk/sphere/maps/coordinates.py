"""Latitudes and longitudes in degrees, as given: checked, and the areas of the cells of a grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from so3ntk.basics.arrays import on_host
from so3ntk.sphere.sampling import check_finite

#: Rounding of degrees in single precision.
ROUNDING = 1e-4


def read_coordinates(lat: Any, lon: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, latitudes within [-90, 90]. ValueError for others, and for what looks like radians or colatitudes."""
    lat, lon = (_floats(given, f"{where}: {name}") for given, name in ((lat, "lat"), (lon, "lon")))
    largest = abs(lat).max()
    if largest > 90 + ROUNDING:
        guess = (
            "They look like colatitudes from the north pole: pass lat=90 - colatitude."
            if lat.min() >= -ROUNDING and lat.max() <= 180 + ROUNDING
            else "If lat and lon are swapped, swap them."
            if abs(lon).max() <= 90 + ROUNDING
            else "Latitudes are in degrees, positive in the north."
        )
        raise ValueError(
            f"{where}: expected latitudes from -90 to 90 degrees, got {lat.min():g} to {lat.max():g}. {guess}"
        )
    if lat.size > 1 and 1 < largest <= np.pi / 2 + ROUNDING and abs(lon).max() <= 2 * np.pi + ROUNDING:
        raise ValueError(
            f"{where}: latitudes from {lat.min():.4g} to {lat.max():.4g} and longitudes from {lon.min():.4g} to {lon.max():.4g} "
            "look like radians, but degrees are expected: pass lat=np.degrees(lat), lon=np.degrees(lon)."
        )
    if lon.min() < -360 - ROUNDING or lon.max() > 720 + ROUNDING:
        raise ValueError(f"{where}: expected longitudes from -360 to 720 degrees, got {lon.min():g} to {lon.max():g}.")
    return lat.clip(-90, 90), lon


def unmeshed(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One latitude for each row and one longitude for each column, if two-dimensional ones are such a grid's."""
    if lat.ndim == lon.ndim == 2 and not (np.ptp(lat, axis=1).any() or np.ptp(lon, axis=0).any()):
        return lat[:, 0], lon[0]
    return lat, lon


def check_grid(lat: np.ndarray, lon: np.ndarray, where: str) -> None:
    """ValueError for a latitude that is there twice, and for a longitude, but that a last meridian may repeat the first."""
    for degrees, name, rows in ((lat, "latitude", "rows"), (lon % 360, "longitude", "columns")):
        order = np.argsort(degrees, kind="stable")
        same = np.flatnonzero(np.diff(degrees[order]) < ROUNDING * 1e-2)
        pairs = [tuple(sorted((int(order[i]), int(order[i + 1])))) for i in same]
        if name == "longitude":
            pairs = [pair for pair in pairs if pair != (0, len(lon) - 1)]
        if pairs:
            first, second = pairs[0]
            raise ValueError(
                f"{where}: {rows} {first} and {second} of the grid have the same {name}, {degrees[first]:g} degrees. Drop one "
                "of them, or pass values (N, points, C) with the latitude and the longitude of each point."
            )


def closes(lon: np.ndarray) -> bool:
    """Whether the last meridian of a grid is the first one."""
    turn = abs(lon[-1] - lon[0]) % 360
    return len(lon) > 1 and bool(min(turn, 360 - turn) < ROUNDING * 1e-2)


def cell_areas(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """The areas (lat, lon) of a grid's cells, whose borders are midway between neighbours, polar ones' ends the poles.

    Cells at the border of a map are as wide as twice their inner half. Columns around the sphere share it, two on one
    meridian halve theirs; a gap that is more than twice as wide as any other is where the map ends.
    """
    order = np.argsort(lat)
    sorted_lat = lat[order]
    middle = (sorted_lat[1:] + sorted_lat[:-1]) / 2
    ends = (2 * sorted_lat[0] - middle[0], 2 * sorted_lat[-1] - middle[-1]) if len(lat) > 1 else (-90, 90)
    borders = np.concatenate([[ends[0]], middle, [ends[1]]]).clip(-90, 90)
    heights = np.empty(len(lat))
    heights[order] = np.diff(np.sin(np.radians(borders)))
    around = np.argsort(lon % 360, kind="stable")
    sorted_lon = (lon % 360)[around]
    gaps = np.diff(sorted_lon, append=sorted_lon[0] + 360)
    before, after = np.roll(gaps, 1), gaps.copy()
    widest = int(gaps.argmax())
    if len(lon) > 1 and gaps[widest] > 2 * np.delete(gaps, widest).max():
        after[widest], before[(widest + 1) % len(lon)] = before[widest], after[(widest + 1) % len(lon)]
    widths = np.empty(len(lon))
    widths[around] = (before + after) / 2
    return heights[:, None] * np.radians(widths)


def _floats(given: Any, what: str) -> np.ndarray:
    host = on_host(given, what)
    if host is None or host.dtype.kind not in "iuf":
        raise TypeError(f"{what} should be real degrees, but are {'traced' if host is None else host.dtype}.")
    if host.ndim not in (1, 2) or not host.size:
        raise ValueError(f"{what}: expected a list of degrees, got an array of shape {host.shape}.")
    check_finite(host, what)
    return host.astype(np.float64)
