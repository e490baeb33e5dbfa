r"""Batches of real signals on the sphere, and the rotation of signals.

A signal is kept as coefficients a_lm of real orthonormal harmonics (``rotations``), one column per channel:

.. math:: f_c(x) = \sum_{l < L} \sum_{|m| \le l} a^c_{lm} Y_{lm}(x), \qquad
          [\rho(R) f](x) = f(R^{-1} x), \quad a_{lm} \leftarrow \sum_n D^l_{mn}(R)\, a_{ln}.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from so3ntk.basics.arrays import as_numbers, concrete, float_dtype, on_device, on_host, refuse_masked
from so3ntk.sphere import sampling as grids
from so3ntk.sphere.maps import converters
from so3ntk.sphere.maps.fit import fit, grid_values, warn_of_residual
from so3ntk.sphere.maps.images import image_coefficients
from so3ntk.sphere.rotations import check_bandlimit, matrices_of, real_wigner_D

HIGHEST = jax.lax.Precision.HIGHEST


def _read_coefficients(values: Any) -> Array:
    return on_device(as_numbers(values, "SphereSignal: the coefficients"))


class SphereSignal(eqx.Module):
    """n signals on the sphere with c channels each, of degrees l < bandlimit: a pytree with one leaf.

    Made by ``from_samples``, by ``from_coefficients``, or from coefficients of real harmonics at index
    l^2 + l + m, whose values are then not checked. ``x[indices]`` selects signals. Arrays may have any byte order and
    layout in memory; half precision becomes float32, and masked entries are refused.
    """

    #: How a list X of batches becomes one, for messages.
    joined: ClassVar[str] = "so3ntk.concatenate(X)"

    coefficients: Float[Array, "n p c"] = eqx.field(converter=_read_coefficients)
    bandlimit: int = eqx.field(static=True)

    def __check_init__(self):
        # Not run when a transformation of JAX rebuilds the pytree, where a leaf may be anything.
        check_bandlimit(self.bandlimit, "SphereSignal")
        shape, p = self.coefficients.shape, self.bandlimit**2
        if len(shape) != 3 or shape[1] != p or shape[2] == 0:
            advice = " Complex (n, L, 2L - 1, c) go to SphereSignal.from_coefficients." if len(shape) == 4 else ""
            raise ValueError(
                f"SphereSignal: expected coefficients (n, p, c) with p = {p} for bandlimit {self.bandlimit} "
                f"and c > 0, got {shape}.{advice}"
            )
        dtype = self.coefficients.dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            advice = (
                "Those of complex harmonics, (n, L, 2L - 1, c), go to SphereSignal.from_coefficients."
                if jnp.issubdtype(dtype, jnp.complexfloating)
                else "Pass coefficients.astype(float)."
            )
            raise TypeError(f"SphereSignal: expected real floating-point coefficients, got {dtype}. {advice}")

    @classmethod
    def from_samples(cls, samples: Any, sampling: str, bandlimit: int) -> SphereSignal:
        """Signals from samples (N, theta, phi, C), or from HEALPix maps (N, npix, C) in RING order.

        ``sampling`` is "dh", "mw", "mwss", "gl" or "healpix" (the grids: ``so3ntk.sphere.sampling``). Runs on the
        host in float64, whatever the samples are and JAX is set to; not traceable. The result has JAX's dtype
        for that of the samples: float32 for float64 where x64 is off and for half precision, the default float
        for integers. HEALPix maps are fitted by least squares, with bandlimit <= 2 nside and a warning if the fit
        is poor.

        Raises ValueError for a wrong shape, NaN or infinity, masked entries, values that stand for missing ones
        (HEALPix's UNSEEN), an unknown sampling, a bandlimit out of range; TypeError for complex or traced samples.
        """
        host = on_host(samples, "SphereSignal.from_samples: the samples")
        if host is None:
            raise TypeError(
                "SphereSignal.from_samples: the samples are traced, but analysis runs on the host. Analyse "
                "outside of jit, vmap and grad and pass the signal in, or use SphereSignal.from_coefficients."
            )
        coefficients = grids.analyse(host, sampling, bandlimit, "SphereSignal.from_samples")
        return cls(coefficients.astype(float_dtype(host.dtype)), int(bandlimit))

    @classmethod
    def from_map(
        cls, values: Any, *, bandlimit: int, lat: Any = None, lon: Any = None, mask: Any = None, weights: Any = None,
        ridge: float = 0.0, nest: bool | None = None,
    ) -> SphereSignal:  # fmt: skip
        """Signals fitted to maps by least squares: grids, scattered points, HEALPix, with missing values.

        values (N, lat, lon, C) on any grid of latitudes and longitudes in degrees, with lat (rows,) and lon (columns,) in
        any order, with or without poles and a repeated last meridian; (N, points, C) at points lat, lon; (N, y, x, C) with
        two-dimensional ones; HEALPix (N, npix, C) with neither, in RING order or NESTED, ``nest=True``. An xarray
        ``DataArray`` or a pyshtools ``SHGrid`` brings its coordinates along; other dimensions are the batch, one named
        "channel" or "variable" the channels.

        mask: True where values are left out, of a map's shape, (N, ...) or the values'. UNSEEN pixels and masked arrays'
        entries are left out too. weights: likewise; cells' areas on grids, else the same for all. ridge: added to the
        normal matrix, which is near the identity where values cover the sphere. ``so3ntk.fit_map`` also returns the
        residual and the condition; a residual above one half warns. On the host, in float64; not traceable.

        Raises ValueError for shapes that do not fit, latitudes out of range or in radians, NaN that is not masked, and
        values that do not determine the signal, with the largest bandlimit that they do; TypeError for complex values.
        """
        where = "SphereSignal.from_map"
        fitted = fit(values, lat, lon, bandlimit, mask, weights, ridge, nest, where)
        warn_of_residual(fitted.residual, bandlimit, where)
        return cls(fitted.coefficients.astype(float_dtype(fitted.dtype)), int(bandlimit))

    @classmethod
    def from_healpy_alm(cls, alm: Any, bandlimit: int | None = None, mmax: int | None = None) -> SphereSignal:
        """Signals from healpy's complex a_lm of real maps: (N, size, C), (N, size) or (size,); mmax is lmax by default.

        Degrees l >= bandlimit are dropped; the default keeps all, up to 64. ValueError for a size or values that are not
        those of a real map's a_lm.
        """
        where = "SphereSignal.from_healpy_alm"
        coefficients, dtype = converters.from_healpy(alm, bandlimit, mmax, where)
        return cls(coefficients.astype(float_dtype(dtype)), math.isqrt(coefficients.shape[1]))

    @classmethod
    def from_pyshtools(
        cls,
        coefficients: Any,
        bandlimit: int | None = None,
        normalization: str | None = None,
        csphase: int | None = None,
    ) -> SphereSignal:
        """Signals from pyshtools' real coefficients: an ``SHCoeffs``, or arrays (N, 2, L, L, C), (N, 2, L, L), (2, L, L).

        normalization ("4pi", "ortho", "schmidt", "unnorm") and csphase (1 or -1) are pyshtools', 4pi and 1 by default, and
        an SHCoeffs brings its own. Degrees l >= bandlimit are dropped; the default keeps all, up to 64.
        """
        where = "SphereSignal.from_pyshtools"
        found, dtype = converters.from_pyshtools(coefficients, bandlimit, normalization, csphase, where)
        return cls(found.astype(float_dtype(dtype)), math.isqrt(found.shape[1]))

    @classmethod
    def from_images(
        cls, images: Any, bandlimit: int, projection: str = "stereographic", extent: float | None = None
    ) -> SphereSignal:
        """Signals from pictures (N, H, W, C) laid onto the sphere, without the degrees l >= bandlimit.

        "stereographic": the centre at the north pole, right towards x and up towards y as seen from outside, the corners
        at the angle ``extent``: pi / 2 in default, the northern hemisphere; zero beyond. "equirectangular": the whole
        sphere, rows from the north pole to the south pole, columns from longitude -180 to 180. Between the centres of
        pixels pictures are linear. One matrix for all of them: 10,000 of MNIST take a second or two at bandlimit 24.

        Raises ValueError for a wrong shape, NaN, an unknown projection, a bandlimit or extent out of range; TypeError for
        complex or traced images.
        """
        coefficients, dtype = image_coefficients(images, bandlimit, projection, extent, "SphereSignal.from_images")
        return cls(coefficients.astype(float_dtype(dtype)), int(bandlimit))

    @classmethod
    def from_coefficients(cls, flm: Any) -> SphereSignal:
        """Signals from complex coefficients (N, L, 2L - 1, C) in s2fft's layout, m at index L - 1 + m.

        Traceable. Concrete values are checked: ValueError unless they are finite, zero where abs(m) > l, and
        those of a real signal, a_{l,-m} = (-1)^m conj(a_lm), to the square root of their dtype's eps
        relative to the signal's largest. Of traced ones the real part of the signal is taken.
        """
        flm = as_numbers(flm, "SphereSignal.from_coefficients: the coefficients")
        if flm.ndim != 4 or flm.shape[2] != 2 * flm.shape[1] - 1:
            raise ValueError(
                "SphereSignal.from_coefficients: expected coefficients (N, L, 2L - 1, C) in s2fft's layout, "
                f"got {flm.shape}. Real ones (n, L^2, c) go to SphereSignal(coefficients, bandlimit)."
            )
        if not jnp.issubdtype(flm.dtype, jnp.complexfloating):
            raise TypeError(
                f"SphereSignal.from_coefficients: expected complex values, got {flm.dtype}. If they are the coefficients "
                "of complex harmonics and real by chance, pass flm.astype(complex)."
            )
        check_bandlimit(flm.shape[1], "SphereSignal.from_coefficients")
        host = on_host(flm, "SphereSignal.from_coefficients: the coefficients")
        if host is not None:
            converters.check_complex(host, "SphereSignal.from_coefficients")
        real = grids.real_coefficients(flm)
        return cls(real.astype(float_dtype(real.dtype)), flm.shape[1])

    def __len__(self) -> int:
        return self.coefficients.shape[0]

    def __getitem__(self, index: Any) -> SphereSignal:
        """Signals by integer (a batch of one), slice, integer array or boolean mask; ``x[index, ...]`` too.

        IndexError for an index out of range or a mask of another length; JAX clamps traced indices.
        """
        if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:
            index = index[0]  # scikit-learn's spelling
        if not isinstance(index, slice):
            index = _row_indices(index, len(self))
        values = self.coefficients if isinstance(index, jax.Array) else _on_host(self.coefficients)
        return SphereSignal(values[index], self.bandlimit)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (n, p, c) of the coefficients."""
        return self.coefficients.shape

    @property
    def channels(self) -> int:
        """The number of channels c."""
        return self.coefficients.shape[2]

    @property
    def dtype(self) -> Any:
        """The dtype of the coefficients."""
        return self.coefficients.dtype

    def to_samples(self, sampling: str, bandlimit: int | None = None, nside: int | None = None) -> np.ndarray:
        """Samples (n, theta, phi, c) on the grid of a bandlimit, or (n, npix, c) of an nside; host, float64.

        The default is the coarsest grid that determines the signal; ValueError for one that does not.
        """
        resolutions = {"bandlimit": bandlimit, "nside": nside}
        kind = grids.named(sampling).resolution
        resolution = resolutions.pop(kind)
        if any(other is not None for other in resolutions.values()):
            raise ValueError(f'to_samples: the grid of sampling "{sampling}" is chosen by its {kind}.')
        return grids.synthesise(self.coefficients, sampling, resolution)

    def to_map(self, lat: Any, lon: Any, points: bool = False) -> np.ndarray:
        """Values (n, lat, lon, c) on a grid of degrees; host, float64. The inverse of ``from_map``.

        points: (n, k, c) at k points in place of a grid. Two-dimensional lat, lon (y, x) give (n, y, x, c).
        """
        return grid_values(np.asarray(self.coefficients, np.float64), lat, lon, points, "to_map")

    def to_healpy_alm(self) -> Complex[np.ndarray, "n size c"]:
        """healpy's complex a_lm (n, size, c), with lmax = mmax = L - 1: ``healpy.alm2map`` of one is the map."""
        return converters.to_healpy(np.asarray(self.coefficients))

    def to_pyshtools(self, normalization: str = "4pi", csphase: int = 1) -> Float[np.ndarray, "n 2 l m c"]:
        """pyshtools' real coefficients (n, 2, L, L, c): ``SHCoeffs.from_array`` takes one, x.to_pyshtools()[0, ..., 0]."""
        return converters.to_pyshtools(np.asarray(self.coefficients), normalization, csphase, "to_pyshtools")

    def to_coefficients(self) -> Complex[Array, "n l m c"]:
        """Complex coefficients (n, L, 2L - 1, c) in s2fft's layout."""
        return grids.complex_coefficients(self.coefficients)

    def at(self, directions: Any) -> Float[Array, "n k c"]:
        """Values at concrete unit vectors (k, 3). Traceable in the signal; ValueError for another length."""
        vectors = np.asarray(as_numbers(directions, "at: the directions"), np.float64)
        if vectors.ndim != 2 or vectors.shape[1] != 3:
            raise ValueError(f"at: expected unit vectors (k, 3), got an array of shape {vectors.shape}.")
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        wrong = np.flatnonzero(~(abs(length[:, 0] - 1) < 1e-6))
        if len(wrong):
            raise ValueError(
                f"at: expected unit vectors, but vector {wrong[0]} has length {length[wrong[0], 0]:.6g}. Divide vectors by "
                "their lengths."
            )
        harmonics = jnp.asarray(grids.real_harmonics(vectors / length, self.bandlimit), self.dtype)
        return jnp.einsum("kp,npc->nkc", harmonics, self.coefficients, precision=HIGHEST)

    def norm(self) -> Float[Array, " n"]:
        r"""The root mean square over the sphere and the channels, :math:`(\sum a^2 / 4 \pi C)^{1/2}`.

        The derivative at a signal that is zero, where there is none, is given as zero.
        """
        return _norm(self.coefficients)

    def power_spectrum(self) -> Float[Array, "n l"]:
        r"""The part of each degree in the mean square, :math:`\sum_{cm} (a^c_{lm})^2 / 4 \pi C`: (n, L)."""
        return _power_spectrum(self.coefficients)

    def with_bandlimit(self, bandlimit: int) -> SphereSignal:
        """The signals without the degrees l >= bandlimit, or with zeros up to a higher bandlimit."""
        check_bandlimit(bandlimit, "with_bandlimit")
        padding = ((0, 0), (0, max(bandlimit**2 - self.shape[1], 0)), (0, 0))
        return SphereSignal(jnp.pad(self.coefficients[:, : bandlimit**2], padding), bandlimit)


def rotate(x: SphereSignal, rotations: Any) -> SphereSignal:
    """The signals [rho(R) f](x) = f(R^-1 x): one rotation for all of them, or one for each.

    Rotations are a scipy ``Rotation`` or matrices (3, 3) or (n, 3, 3), concrete; traceable in the signals.
    Wigner matrices are made in float64 and cast to the signals' dtype. ValueError if the numbers differ.
    """
    refuse_masked(rotations, "rotate: the rotations")
    matrices = matrices_of(rotations)
    if len(matrices) not in (1, len(x)):
        raise ValueError(
            f"rotate: expected one rotation, or one for each of the {len(x)} signals, got {len(matrices)}. "
            "To rotate one signal by many, repeat it first: x[np.zeros(len(rotations), int)]."
        )
    wigner = [real_wigner_D(degree, matrices).astype(x.dtype) for degree in range(x.bandlimit)]
    return SphereSignal(_rotated(x.coefficients, wigner), x.bandlimit)


# One program for each of these, where single operations would be one for each degree and shape:


@jax.jit
def _rotated(coefficients: Float[Array, "n p c"], wigner: list[Float[Array, ...]]) -> Float[Array, "n p c"]:
    blocks = []
    for degree, matrices in enumerate(wigner):
        block = coefficients[:, degree**2 : (degree + 1) ** 2]
        if len(matrices) == 1:
            blocks.append(jnp.einsum("ij,njc->nic", matrices[0], block, precision=HIGHEST))
        else:
            blocks.append(jnp.einsum("nij,njc->nic", matrices, block, precision=HIGHEST))
    return jnp.concatenate(blocks, axis=1)


@jax.jit
def _power_spectrum(coefficients: Float[Array, "n p c"]) -> Float[Array, "n l"]:
    squares = jnp.sum(coefficients**2, axis=2) / (4 * np.pi * coefficients.shape[2])
    degrees = jnp.split(squares, np.arange(1, math.isqrt(squares.shape[1])) ** 2, axis=1)
    return jnp.stack([jnp.sum(degree, axis=1) for degree in degrees], axis=1)


@jax.jit
def _norm(coefficients: Float[Array, "n p c"]) -> Float[Array, " n"]:
    square = jnp.sum(_power_spectrum(coefficients), axis=1)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def concatenate(signals: Iterable[SphereSignal]) -> SphereSignal:
    """One batch of all signals. ValueError if there are none, or bandlimits or channels differ."""
    signals = list(signals)
    if not signals:
        raise ValueError("concatenate: expected at least one SphereSignal, got none.")
    for i, signal in enumerate(signals):
        if not isinstance(signal, SphereSignal):
            raise TypeError(f"concatenate: expected SphereSignals, entry {i} is a {type(signal).__name__}.")
        if signal.bandlimit != signals[0].bandlimit:
            raise ValueError(
                f"concatenate: entry 0 has bandlimit {signals[0].bandlimit}, entry {i} {signal.bandlimit}. "
                "Bring them to one with x.with_bandlimit(bandlimit)."
            )
        if signal.channels != signals[0].channels:
            raise ValueError(
                f"concatenate: entry 0 has {signals[0].channels} channels, entry {i} has {signal.channels}. "
                "Signals of one batch need the same channels in the same order."
            )
    parts = [_on_host(signal.coefficients) for signal in signals]
    numpy: Any = np if all(isinstance(part, np.ndarray) for part in parts) else jnp
    return SphereSignal(numpy.concatenate(parts), signals[0].bandlimit)


def _on_host(coefficients: Array) -> Any:
    """As an array of NumPy, unless traced: of its own arrays JAX compiles a program for each new number of rows."""
    known = concrete(coefficients)
    return coefficients if known is None else known


def _row_indices(index: Any, length: int) -> Any:
    """Integers or a mask, checked and as an integer array; traced ones as they are."""
    refuse_masked(index, "SphereSignal: the indices")
    try:
        rows = np.asarray(index)
    except jax.errors.TracerArrayConversionError:
        return jnp.atleast_1d(index)
    if rows.dtype == bool and rows.ndim == 1:
        if len(rows) != length:
            raise IndexError(f"SphereSignal: a mask of {len(rows)} cannot select from {length} signals.")
        return np.flatnonzero(rows)
    if isinstance(index, tuple) or rows.ndim > 1 or not (rows.dtype.kind in "iu" or rows.size == 0):
        raise TypeError(
            "SphereSignal: expected an integer, slice, integer array or mask along the batch axis, got "
            f"{index!r}. For degrees or channels index x.coefficients (n, p, c)."
        )
    rows = np.atleast_1d(rows).astype(np.int64)
    outside = rows[(rows < -length) | (rows >= length)]
    if len(outside):
        raise IndexError(f"SphereSignal: index {outside[0]} is out of range for {length} signals.")
    return rows
