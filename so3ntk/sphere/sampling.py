r"""Grids on the sphere and their transforms, on the host in float64 whatever JAX is set to.

The one importer of s2fft. Samples are channels-last, (N, theta, phi, C), with the colatitude theta from the
north pole and the longitude phi from x towards y; HEALPix maps are (N, npix, C) in RING order. A sampling is
always named: Gauss-Legendre and McEwen-Wiaux grids share one shape. The grids of bandlimit L:

    dh     Driscoll-Healy           2L rings     theta = (2t + 1) pi / 4L        2L - 1 longitudes
    mw     McEwen-Wiaux             L rings      theta = (2t + 1) pi / (2L - 1)  2L - 1 longitudes, south pole
    mwss   symmetric McEwen-Wiaux   L + 1 rings  theta = t pi / L                2L longitudes, both poles
    gl     Gauss-Legendre           L rings      nodes of order L in cos theta   2L - 1 longitudes

They determine a signal of degrees l < L exactly. HEALPix has no sampling theorem: maps are analysed by least
squares. Coefficients are (N, L^2, C) for the real harmonics of ``rotations``, or complex in s2fft's layout
(N, L, 2L - 1, C) with order m at index L - 1 + m.
"""

from __future__ import annotations

import logging
import operator
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from so3ntk.basics.arrays import as_numbers, refuse_fills
from so3ntk.sphere.harmonics import bandlimit_of, complex_coefficients, real_coefficients, real_harmonics
from so3ntk.sphere.rotations import MAX_BANDLIMIT, check_bandlimit

#: Relative residual of a HEALPix fit (see ``healpix_residual``) from which ``analyse`` warns.
HEALPIX_RESIDUAL_WARNING = 1e-2


@dataclass(frozen=True)
class ProductGrid:
    """Rings of constant colatitude with the same equally spaced longitudes, the first at phi = 0."""

    name: str
    title: str
    colatitudes: Callable[[int], np.ndarray]
    longitudes: Callable[[int], int]
    analysis_table: Callable[[str, int], np.ndarray]
    resolution: str = "bandlimit"

    def shape(self, bandlimit: int) -> tuple[int, ...]:
        """The lengths (theta, phi)."""
        return len(self.colatitudes(bandlimit)), self.longitudes(bandlimit)

    def angles(self, bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
        """Colatitudes (theta, 1) and longitudes (phi,) in radians."""
        count = self.longitudes(bandlimit)
        return self.colatitudes(bandlimit)[:, None], 2 * np.pi * np.arange(count) / count

    def coarsest(self, bandlimit: int) -> int:
        """The smallest resolution that determines a signal of this bandlimit: itself."""
        return bandlimit

    def largest_bandlimit(self, resolution: int) -> int:
        """The largest bandlimit of the signals that a resolution determines: itself."""
        return resolution

    def fitting(self, shape: tuple[int, ...]) -> int | None:
        """The bandlimit of which this is the shape (theta, phi), if there is one."""
        return next((L for L in range(1, MAX_BANDLIMIT + 1) if self.shape(L) == shape), None)

    def expected(self, bandlimit: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
        """The sample axes an array of this shape should have, and the whole array in words."""
        wanted = self.shape(bandlimit)
        return wanted, f"(N, theta, phi, C) with (theta, phi) = {wanted} for bandlimit {bandlimit}"

    def analyse(self, samples: np.ndarray, bandlimit: int) -> np.ndarray:
        """FFT over the longitudes, then for each order m a matrix from rings to degrees."""
        n, _, _, channels = samples.shape
        waves = np.fft.rfft(samples, axis=2)[:, :, :bandlimit].transpose(2, 1, 0, 3)
        products = self.analysis_table(self.name, bandlimit) @ waves.reshape(*waves.shape[:2], n * channels)
        flm = np.zeros((n, bandlimit, 2 * bandlimit - 1, channels), complex)
        flm[:, :, bandlimit - 1 :] = products.reshape(bandlimit, bandlimit, n, channels).transpose(2, 1, 0, 3)
        signs = (-1.0) ** np.arange(1, bandlimit)[:, None]  # a_{l,-m} = (-1)^m conj(a_lm) for a real signal
        flm[:, :, : bandlimit - 1] = (signs * flm[:, :, bandlimit:].conj())[:, :, ::-1]
        return real_coefficients(flm)

    def synthesise(self, coefficients: np.ndarray, resolution: int) -> np.ndarray:
        """For each order m a matrix from degrees to rings, then an inverse FFT."""
        check_bandlimit(resolution, "synthesise")
        n, p, channels = coefficients.shape
        bandlimit = bandlimit_of(p)
        table = _synthesis_table(self.name, resolution)[:bandlimit, :, :bandlimit]
        flm = complex_coefficients(coefficients)[:, :, bandlimit - 1 :].transpose(2, 1, 0, 3)
        waves = table @ flm.reshape(bandlimit, bandlimit, n * channels)
        waves = waves.reshape(*table.shape[:2], n, channels).transpose(2, 1, 0, 3)
        return np.fft.irfft(waves, self.longitudes(resolution), axis=2, norm="forward")


def _s2fft():
    """The two modules of s2fft that are accurate on the host, without its warning when x64 is off."""
    logger = logging.getLogger("s2fft")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        from s2fft.precompute_transforms import construct, spherical
    finally:
        logger.disabled = was_disabled
    return construct, spherical


@lru_cache(maxsize=16)
def _synthesis_table(name: str, bandlimit: int) -> Float[np.ndarray, "m t l"]:
    """Y_lm(theta_t, 0) for m >= 0."""
    construct, _ = _s2fft()
    kernel = construct.spin_spherical_kernel(bandlimit, reality=True, sampling=name, forward=False)
    return np.ascontiguousarray(kernel.transpose(2, 0, 1))


@lru_cache(maxsize=16)
def _transform_table(name: str, bandlimit: int) -> Float[np.ndarray, "m l t"]:
    """s2fft's transform as matrices, from unit samples at phi = 0: it commutes with rotations about z."""
    construct, spherical = _s2fft()
    kernel = construct.spin_spherical_kernel(bandlimit, reality=True, sampling=name, forward=True)
    shape = SAMPLINGS[name].shape(bandlimit)
    settings = {"kernel": kernel, "sampling": name, "reality": True, "method": "numpy"}
    units = np.zeros((shape[0], *shape))
    units[np.arange(shape[0]), np.arange(shape[0]), 0] = 1
    flm = np.array([spherical.forward(unit, bandlimit, **settings) for unit in units])
    return np.ascontiguousarray(np.real(flm[:, :, bandlimit - 1 :]).transpose(2, 1, 0))


@lru_cache(maxsize=16)
def _quadrature_table(name: str, bandlimit: int) -> Float[np.ndarray, "m l t"]:
    """Gauss-Legendre weights times harmonics; s2fft's weights lose digits (round trip 27 L eps at L = 8)."""
    weights = np.polynomial.legendre.leggauss(bandlimit)[1] * 2 * np.pi / (2 * bandlimit - 1)
    return _synthesis_table(name, bandlimit).transpose(0, 2, 1) * weights


@dataclass(frozen=True)
class Healpix:
    """12 nside^2 pixels of equal area in RING order. The resolution is nside: any integer from 1 on."""

    name: str = "healpix"
    title: str = "HEALPix"
    resolution: str = "nside"

    def shape(self, nside: int) -> tuple[int, ...]:
        """The length (npix,)."""
        return (12 * nside**2,)

    def angles(self, nside: int) -> tuple[np.ndarray, np.ndarray]:
        """Colatitude and longitude of each pixel's centre. Source: Gorski et al. (2005), section 5.1."""
        ring = np.arange(1, 4 * nside)
        cap = np.minimum(ring, 4 * nside - ring)  # the ring's number counted from the nearer pole
        quarter = np.minimum(cap, nside)
        polar = 2 * np.arcsin(quarter / (nside * np.sqrt(6)))  # 1 - cos theta = cap^2 / (3 nside^2)
        polar = np.where(ring > 2 * nside, np.pi - polar, polar)
        theta = np.where(cap < nside, polar, np.arccos(np.clip((4 - 2 * ring / nside) / 3, -1, 1)))
        shift = np.where(cap < nside, 0.5, (ring - nside + 1) % 2 / 2)
        phi = [(np.arange(4 * q) + s) * np.pi / (2 * q) for q, s in zip(quarter, shift, strict=True)]
        return np.repeat(theta, 4 * quarter), np.concatenate(phi)

    def coarsest(self, bandlimit: int) -> int:
        """The smallest nside with bandlimit <= 2 nside."""
        return (bandlimit + 1) // 2

    def largest_bandlimit(self, resolution: int) -> int:
        """2 nside, as far as bandlimits go."""
        return min(2 * resolution, MAX_BANDLIMIT)

    def fitting(self, shape: tuple[int, ...]) -> int | None:
        """The largest bandlimit for maps of the shape (npix,), if that is one of HEALPix."""
        nside = round((shape[0] / 12) ** 0.5) if len(shape) == 1 else 0
        return self.largest_bandlimit(nside) if nside and self.shape(nside) == shape else None

    def expected(self, bandlimit: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
        """The sample axes an array of this shape should have, and the array in words."""
        least = self.coarsest(bandlimit)
        pixels = shape[1] if len(shape) == 3 else max(shape, default=0)
        nside = max(round((pixels / 12) ** 0.5), least)
        words = f"npix = 12 nside^2 >= {12 * least**2} for bandlimit {bandlimit} <= 2 nside"
        return self.shape(nside), f"(N, npix, C) in RING order with {words}"

    def analyse(self, samples: np.ndarray, bandlimit: int) -> np.ndarray:
        """The least-squares fit; warns where its relative residual exceeds ``HEALPIX_RESIDUAL_WARNING``."""
        coefficients, residual = _least_squares(samples, bandlimit)
        if residual.max(initial=0.0) > HEALPIX_RESIDUAL_WARNING:
            most = self.fitting(samples.shape[1:2])
            remedy = (
                "Smooth the maps" if bandlimit == most else f"Raise the bandlimit (up to {most}), or smooth the maps"
            )
            warnings.warn(
                f"the least-squares fit of HEALPix maps at bandlimit {bandlimit} leaves a relative residual "
                f"of {residual.max():.1e} (signal {residual.argmax()}): the maps hold higher degrees, or are "
                f"not in RING order. {remedy}.",
                stacklevel=4,
            )
        return coefficients

    def synthesise(self, coefficients: np.ndarray, resolution: int) -> np.ndarray:
        """The sum of the harmonics at the pixels."""
        n, p, channels = coefficients.shape
        values = np.empty((n, 12 * resolution**2, channels))
        for pixels, harmonics in _harmonics_by_block(resolution, bandlimit_of(p)):
            values[:, pixels] = harmonics @ coefficients
        return values


def _harmonics_by_block(nside: int, bandlimit: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Harmonics at the pixels, in blocks of at most 32 MiB."""
    pixels = directions("healpix", nside)
    step = 2**22 // bandlimit**2
    for start in range(0, len(pixels), step):
        block = slice(start, start + step)
        yield block, real_harmonics(pixels[block], bandlimit)


@lru_cache(maxsize=4)
def _normal_factor(nside: int, bandlimit: int):
    """Cholesky factor of Y^T Y, whose condition number is below 1.3 for bandlimit <= 2 nside."""
    return cho_factor(sum(y.T @ y for _, y in _harmonics_by_block(nside, bandlimit)))


def _least_squares(samples: np.ndarray, bandlimit: int) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients (N, L^2, C) that minimise |f - Y a|^2, and |f - Y a| / |f| of each map, (N,)."""
    n, pixels, channels = samples.shape
    nside = round((pixels / 12) ** 0.5)
    right = np.zeros((n, bandlimit**2, channels))
    for block, harmonics in _harmonics_by_block(nside, bandlimit):
        right += harmonics.T @ samples[:, block]
    columns = right.transpose(1, 0, 2).reshape(bandlimit**2, n * channels)
    solution = cho_solve(_normal_factor(nside, bandlimit), columns)
    coefficients = solution.reshape(bandlimit**2, n, channels).transpose(1, 0, 2)
    misfit = samples - SAMPLINGS["healpix"].synthesise(coefficients, nside)
    misfit, size = (np.sqrt(np.sum(values**2, axis=(1, 2))) for values in (misfit, samples))
    return coefficients, misfit / np.where(size > 0, size, 1)


#: Every sampling by its name.
SAMPLINGS: dict[str, ProductGrid | Healpix] = {
    grid.name: grid
    for grid in (
        ProductGrid("dh", "Driscoll-Healy", lambda L: (2 * np.arange(2 * L) + 1) * np.pi / (4 * L),
                    lambda L: 2 * L - 1, _transform_table),
        ProductGrid("mw", "McEwen-Wiaux", lambda L: (2 * np.arange(L) + 1) * np.pi / (2 * L - 1),
                    lambda L: 2 * L - 1, _transform_table),
        ProductGrid("mwss", "symmetric McEwen-Wiaux", lambda L: np.arange(L + 1) * np.pi / L,
                    lambda L: 2 * L, _transform_table),
        ProductGrid("gl", "Gauss-Legendre", lambda L: np.arccos(-np.polynomial.legendre.leggauss(L)[0]),
                    lambda L: 2 * L - 1, _quadrature_table),
        Healpix(),
    )
}  # fmt: skip


def named(sampling: str) -> ProductGrid | Healpix:
    """The sampling of this name; ValueError listing the known ones otherwise."""
    if not isinstance(sampling, str) or sampling not in SAMPLINGS:
        known = ", ".join(f'"{name}" ({grid.title})' for name, grid in SAMPLINGS.items())
        raise ValueError(f"sampling: expected one of {known}, got {sampling!r}.")
    return SAMPLINGS[sampling]


def directions(sampling: str, resolution: int) -> Float[np.ndarray, "... 3"]:
    """Unit vectors of a grid: (theta, phi, 3) at a bandlimit, or (npix, 3) at an nside."""
    theta, phi = np.broadcast_arrays(*named(sampling).angles(resolution))
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)


def analyse(samples, sampling: str, bandlimit: int, where: str = "analyse") -> Float[np.ndarray, "n p c"]:
    """Real coefficients (N, L^2, C), float64, of real samples (N, theta, phi, C) or maps (N, npix, C).

    Errors name ``where``: ValueError for an unknown sampling, a bandlimit out of range, a shape that is not
    the grid's, NaN or infinity, masked and missing values; TypeError for complex or non-numeric samples. A poor
    HEALPix fit warns.
    """
    grid = named(sampling)
    return grid.analyse(_checked(samples, grid, bandlimit, where), bandlimit)


def synthesise(coefficients, sampling: str, resolution: int | None = None) -> np.ndarray:
    """Samples, float64, of real coefficients (N, L^2, C) for a bandlimit >= L, or for nside >= L / 2.

    The default is the coarsest grid that determines the signal; ValueError for one that does not.
    """
    grid, coefficients = named(sampling), np.asarray(coefficients, np.float64)
    bandlimit = bandlimit_of(coefficients.shape[1])
    coarsest = grid.coarsest(bandlimit)
    resolution = coarsest if resolution is None else operator.index(resolution)
    if resolution < coarsest:
        most = grid.largest_bandlimit(resolution)
        truncation = f", or truncate the signal first: x.with_bandlimit({most})" if most > 0 else ""
        raise ValueError(
            f"synthesise: a {grid.title} grid with {grid.resolution} {resolution} does not determine a "
            f"signal of bandlimit {bandlimit}. Pass at least {coarsest}{truncation}."
        )
    return grid.synthesise(coefficients, resolution)


def healpix_residual(samples, bandlimit: int) -> Float[np.ndarray, " n"]:
    """|f - Y a| / |f| of each HEALPix map (N, npix, C): what its fit below a bandlimit leaves.

    Rounding for a signal of that bandlimit. Otherwise the higher degrees are aliased: the relative error of
    the coefficients is generically of the order of this number or less.
    """
    samples = _checked(samples, SAMPLINGS["healpix"], bandlimit, "healpix_residual")
    return _least_squares(samples, bandlimit)[1]


def check_finite(values: np.ndarray, what: str) -> None:
    """ValueError naming the first index at which values are NaN or infinite."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{what} hold {values[index]} at index {index} ({len(bad)} entries are not finite). Fill such entries with "
            "values, or drop the signals that hold them."
        )


def _checked(samples, grid: ProductGrid | Healpix, bandlimit: int, where: str) -> np.ndarray:
    """Samples as float64, if they are real, finite and of the grid's shape."""
    check_bandlimit(bandlimit, where)
    samples = np.asarray(as_numbers(samples, f"{where}: the samples"))
    if samples.dtype.kind not in "biuf":
        raise TypeError(
            f"{where}: expected real samples, got dtype {samples.dtype}. Pass real and imaginary parts as two channels: "
            "np.concatenate([samples.real, samples.imag], axis=-1)."
        )
    wanted, words = grid.expected(bandlimit, samples.shape)
    if samples.ndim != len(wanted) + 2 or samples.shape[1:-1] != wanted:
        given = samples.shape[1:-1] if samples.ndim == len(wanted) + 2 else f"the shape {samples.shape}"
        causes = "".join(f"\n{cause}" for cause in _likely_causes(samples.shape, wanted, grid))
        raise ValueError(f"{where}: expected {grid.title} samples {words}, got {given}.{causes}")
    check_finite(samples, f"{where}: the samples")
    samples = samples.astype(np.float64)
    refuse_fills(samples, f"{where}: the samples")
    return samples


def _likely_causes(shape: tuple[int, ...], wanted: tuple[int, ...], grid: ProductGrid | Healpix) -> Iterator[str]:
    """What may have happened to an array of the wrong shape, and its remedy.

    Nothing about other samplings that share the shape: their nodes are elsewhere, and the analysis would be wrong.
    """
    if shape == wanted:
        yield "If this is one signal with one channel, pass samples[None, ..., None]."
    if len(shape) == len(wanted) + 1 and shape[:-1] == wanted:
        yield "If the batch axis is missing, pass samples[None]."
    if len(shape) == len(wanted) + 1 and shape[1:] == wanted:
        yield "If the channel axis is missing, pass samples[..., None]."
    if len(shape) == len(wanted) + 2 and shape[2:] == wanted:
        yield "If the channels come first, pass np.moveaxis(samples, 1, -1)."
    if len(wanted) == 2 and shape[1:-1] == wanted[::-1]:
        yield "If the two axes are swapped, pass samples.swapaxes(1, 2)."
    fitting = grid.fitting(shape[1:-1]) if len(shape) == len(wanted) + 2 else None
    if fitting is not None:
        bound = " or less" if isinstance(grid, Healpix) else ""
        yield f'This is the shape of sampling "{grid.name}" for bandlimit {fitting}{bound}: pass that if it is theirs.'
