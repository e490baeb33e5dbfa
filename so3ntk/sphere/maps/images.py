r"""Pictures laid onto the sphere.

The picture is the function that is linear in both directions between the centres of pixels, constant from the outermost
centres to the border, and zero outside. A projection takes it to the sphere, and the signal is its part below the bandlimit:

.. math:: a_{lm} = \int f(x)\, Y_{lm}(x)\, dx
          = \sum_{\text{pixels}} f_{ij} \int B_i(u) B_j(v)\, Y_{lm}(x(u, v))\, \tfrac{dx}{du\,dv}\, du\, dv

A matrix from pixels to coefficients, the same for all pictures, by Gauss-Legendre quadrature between the centres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from so3ntk.basics.arguments import is_number
from so3ntk.basics.arrays import on_host, refuse_fills
from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.maps import rings
from so3ntk.sphere.rotations import check_bandlimit
from so3ntk.sphere.sampling import check_finite

#: Entries of the harmonics that are in memory at once (32 MiB).
BLOCK = 2**22


@runtime_checkable
class Projection(Protocol):
    """Where the points of a picture lie on the sphere."""

    def coefficients(self, images: np.ndarray, bandlimit: int) -> Float[np.ndarray, "n p c"]:
        """The coefficients of pictures (N, H, W, C)."""
        ...


@dataclass(frozen=True)
class Stereographic:
    """The centre at the north pole, right towards x and up towards y, seen from outside; corners at ``extent``.

    From the south pole onto a plane: points at the angle theta from the centre are tan(theta / 2) from it. Conformal.
    """

    extent: float

    def coefficients(self, images: np.ndarray, bandlimit: int) -> Float[np.ndarray, "n p c"]:
        """See ``Projection``."""
        n, height, width, channels = images.shape
        found = np.zeros((bandlimit**2, n * channels))
        for rows, table in self._tables(height, width, bandlimit):
            pixels = images[:, rows].astype(np.float64).transpose(1, 2, 0, 3).reshape(-1, n * channels)
            found += table @ pixels
        return found.reshape(bandlimit**2, n, channels).transpose(1, 0, 2)

    def _tables(self, height: int, width: int, bandlimit: int) -> Iterator[tuple[slice, Float[np.ndarray, "p pixels"]]]:
        """For blocks of rows of pixels: which rows, and the matrix from their pixels to coefficients.

        A block's rows overlap with the next one's: a point between two rows of centres has a share of both.
        """
        # In radians, in the middle; dx / du dv is as wavy as degree 4
        pixel = 4 * math.tan(self.extent / 2) / math.hypot(height, width)
        v, v_weights, down = _between_centres(height, (bandlimit + 4) * pixel)
        u, u_weights, across = _between_centres(width, (bandlimit + 4) * pixel)
        step = max(BLOCK // (bandlimit**2 * len(u)), 1)
        for start in range(0, len(v), step):
            block = slice(start, start + step)
            shares = down[block].toarray()
            touched = np.flatnonzero(shares.any(axis=0))
            rows = slice(int(touched[0]), int(touched[-1]) + 1)
            vectors, area = self._points(v[block], u, height / width)
            weights = (area * v_weights[block, None] * u_weights)[..., None]
            harmonics = real_harmonics(vectors.reshape(-1, 3), bandlimit).reshape(*area.shape, -1) * weights
            by_column = np.stack([across.T @ row for row in harmonics])
            yield rows, np.einsum("vi,vjp->pij", shares[:, rows], by_column, optimize=True).reshape(bandlimit**2, -1)

    def _points(self, v: np.ndarray, u: np.ndarray, aspect: float) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (v, u, 3) at shares of the height from the top and of the width from the left; dx / du dv."""
        width = 2 * math.tan(self.extent / 2) / math.hypot(1, aspect)
        x, y = np.broadcast_arrays(width * (u - 0.5), width * aspect * (0.5 - v)[:, None])
        scale = 2 / (1 + x**2 + y**2)
        return np.stack([scale * x, scale * y, scale - 1], axis=-1), scale**2 * width**2 * aspect


@dataclass(frozen=True)
class Equirectangular:
    """The whole sphere: rows from the north pole to the south pole, columns from longitude -180 to 180 degrees."""

    def coefficients(self, images: np.ndarray, bandlimit: int) -> Float[np.ndarray, "n p c"]:
        """See ``Projection``. Rows and columns apart: as many harmonics as the picture has rows, not pixels."""
        n, height, width, channels = images.shape
        v, v_weights, down = _between_centres(height, bandlimit * np.pi / height)
        u, u_weights, across = _between_centres(width, bandlimit * 2 * np.pi / width, closed=True)
        area = np.pi * np.sin(np.pi * v) * v_weights
        profile = down.T @ (rings.profiles(np.pi * v, bandlimit) * area[:, None])
        wave = across.T @ (rings.waves(2 * np.pi * (u - 0.5), bandlimit) * 2 * np.pi * u_weights[:, None])
        found = [rings.analysed(profile, wave, np.moveaxis(one, -1, 0).astype(np.float64)).T for one in images]
        return np.reshape(found, (n, channels, bandlimit**2)).transpose(0, 2, 1)


def image_coefficients(
    images: Any, bandlimit: int, projection: str, extent: float | None, where: str
) -> tuple[Float[np.ndarray, "n p c"], np.dtype]:
    """Coefficients of pictures (N, H, W, C), and the dtype these had. See ``SphereSignal.from_images``."""
    chosen = _projection(projection, extent, where)
    check_bandlimit(bandlimit, where)
    host = _pictures(images, where)
    return chosen.coefficients(host, bandlimit), host.dtype


def _projection(name: str, extent: float | None, where: str) -> Projection:
    if name == "stereographic":
        angle = math.pi / 2 if extent is None else extent
        if not is_number(angle) or not 0 < angle < math.pi:
            raise ValueError(
                f"{where}: expected the extent, the angle from a picture's centre to its corners, between 0 and pi "
                f"radians, got {extent!r}. The northern hemisphere is pi / 2."
            )
        return Stereographic(float(angle))
    if name == "equirectangular":
        if extent is not None:
            raise ValueError(
                f"{where}: an equirectangular picture covers the whole sphere, but extent is {extent!r}. Leave it away; a "
                "part of the sphere on a grid of latitudes and longitudes goes to SphereSignal.from_map."
            )
        return Equirectangular()
    raise ValueError(f'{where}: expected the projection "stereographic" or "equirectangular", got {name!r}.')


def _pictures(images: Any, where: str) -> np.ndarray:
    """The pictures, real and finite, as an array (N, H, W, C) of NumPy."""
    host = on_host(images, f"{where}: the images")
    if host is None:
        raise TypeError(
            f"{where}: the images are traced, but projection runs on the host. Project outside of jit and grad."
        )
    if host.ndim != 4 or 0 in host.shape[1:]:
        advice = {2: " One grey picture is images[None, ..., None].", 3: " Grey pictures are images[..., None]."}
        raise ValueError(f"{where}: expected images (N, H, W, C), got {host.shape}.{advice.get(host.ndim, '')}")
    if host.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected real images, got dtype {host.dtype}. Pass the parts as two channels.")
    if host.dtype.kind == "f":
        check_finite(host, f"{where}: the images")
        refuse_fills(host, f"{where}: the images")
    return host


def _between_centres(
    pixels: int, oscillation: float, closed: bool = False
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], csr_array]:
    """Points in [0, 1], their weights, and the shares (points, pixels) of the pixels in the values there.

    oscillation: the largest phase of a harmonic over a pixel. Between neighbouring centres the integrands are smooth, and
    Gauss and Legendre's points leave errors of 1e-9. closed: the left border is the right one.
    """
    nodes, weights = np.polynomial.legendre.leggauss(2 + math.ceil(oscillation))
    edges = np.concatenate([[0.0], np.arange(pixels) + 0.5, [pixels]])  # in pixels: the borders and the centres
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    points = (middle[:, None] + half[:, None] * nodes).ravel()
    lower = np.floor(points - 0.5).astype(int)
    share = points - 0.5 - lower
    lower, upper = ((i % pixels if closed else i.clip(0, pixels - 1)) for i in (lower, lower + 1))
    place = np.arange(len(points))
    entries = np.concatenate([1 - share, share]), (np.tile(place, 2), np.concatenate([lower, upper]))
    return points / pixels, (half[:, None] * weights).ravel() / pixels, csr_array(entries, (len(points), pixels))
