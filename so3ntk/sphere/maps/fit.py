"""Coefficients of maps as people have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arguments import check_flag, is_number
from so3ntk.basics.arrays import on_host
from so3ntk.basics.caller import warn
from so3ntk.sphere.maps.coordinates import read_coordinates
from so3ntk.sphere.maps.labelled import unlabelled
from so3ntk.sphere.maps.least_squares import LeastSquares
from so3ntk.sphere.maps.pixels import read_pixels
from so3ntk.sphere.maps.places import grid, points
from so3ntk.sphere.maps.weights import alike, value_weights
from so3ntk.sphere.rotations import check_bandlimit

#: Relative residual of a map from which ``SphereSignal.from_map`` warns.
RESIDUAL_WARNING = 0.5
#: Values of maps that are in memory in double precision at once (128 MiB).
BLOCK = 2**24


@dataclass(frozen=True)
class Fitted:
    """Coefficients (n, p, c), the relative residual of each map, the largest condition, the dtype of the values."""

    coefficients: Float[np.ndarray, "n p c"]
    residual: Float[np.ndarray, " n"]
    condition: float
    dtype: np.dtype


def fit(values: Any, lat: Any, lon: Any, bandlimit: int, mask: Any, weights: Any, ridge: float, nest: bool | None,
        where: str) -> Fitted:  # fmt: skip
    """The fit of maps: see ``SphereSignal.from_map``."""
    check_bandlimit(bandlimit, where)
    if not is_number(ridge) or not 0 <= ridge < np.inf:
        raise ValueError(f"{where}: expected a ridge that is zero or positive, got {ridge!r}.")
    values, lat, lon, mask, weights = unlabelled(values, lat, lon, mask, weights, where)
    hidden = np.ma.getmask(values)
    pixels = read_pixels(
        _real(values if hidden is np.ma.nomask else np.ma.getdata(values), where), lat, lon, nest, where
    )
    used = value_weights(pixels, mask, hidden, weights, where)
    n, _, channels = pixels.flat.shape
    found = np.zeros((n, channels, bandlimit**2))
    left, size = np.zeros((2, n, channels))
    condition = 1.0
    for maps, chosen, own in alike(used, n, channels):
        method = LeastSquares(pixels.places, own, bandlimit, float(ridge), where)
        condition = max(condition, method.condition)
        step = max(BLOCK // len(own), 1)
        for start in range(0, len(maps), step):
            some = maps[start : start + step], chosen[start : start + step]
            rows = np.where(own > 0, pixels.flat[some[0], :, some[1]], 0).astype(np.float64)
            coefficients, left[some], size[some] = method.fit(rows)
            found[some] = coefficients.T
    total = size.sum(axis=1)
    residual = np.sqrt(left.sum(axis=1) / np.where(total > 0, total, 1))
    return Fitted(found.transpose(0, 2, 1), residual, condition, pixels.values.dtype)


def grid_values(
    coefficients: Float[np.ndarray, "n p c"], lat: Any, lon: Any, scattered: bool, where: str
) -> np.ndarray:
    """Values (n, lat, lon, c) on a grid, (n, k, c) at points, (n, y, x, c) at two-dimensional lat and lon."""
    scattered = check_flag(scattered, where, "points")
    lat, lon = read_coordinates(lat, lon, where)
    if (scattered or lat.ndim == 2 or lon.ndim == 2) and lat.shape != lon.shape:
        raise ValueError(
            f"{where}: expected a latitude and a longitude of each point, got {lat.shape} and {lon.shape}."
        )
    shape = lat.shape if scattered or lat.ndim == 2 else (len(lat), len(lon))
    places = points(lat.ravel(), lon.ravel()) if shape == lat.shape else grid(lat, lon)
    n, p, channels = coefficients.shape
    values = places.summed(coefficients.transpose(1, 0, 2).reshape(p, n * channels))
    return np.moveaxis(values.reshape(n, channels, *shape), 1, -1)


def warn_of_residual(residual: Float[np.ndarray, " n"], bandlimit: int, where: str) -> None:
    """A warning where a fit leaves more than half of a map."""
    if residual.max(initial=0.0) > RESIDUAL_WARNING:
        warn(
            f"{where}: bandlimit {bandlimit} leaves a relative residual of {residual.max():.2f} (map {residual.argmax()}): the map "
            "has most of its power in higher degrees, or its values are not in the order of lat and lon. so3ntk.fit_map "
            "returns the residuals."
        )


def _real(values: Any, where: str) -> np.ndarray:
    host = on_host(values, f"{where}: the values")
    if host is None:
        raise TypeError(
            f"{where}: the values are traced, but maps are read on the host. Read them outside of jit and grad."
        )
    if host.dtype.kind == "c":
        raise TypeError(
            f"{where}: expected real values, got {host.dtype}. Two scalar fields are two channels: "
            "np.concatenate([x.real, x.imag], axis=-1). A spin field (Q + iU of polarisation, u + iv of a wind) is not two "
            "scalars: its parts mix when the sphere turns. Pass its E and B, or divergence and vorticity, as two channels."
        )
    return host
