r"""Coefficients as s2fft, healpy and pyshtools keep them.

Ours belong to real orthonormal harmonics without the Condon-Shortley phase: a_lm with cos m phi for m > 0, sin |m| phi for
m < 0. healpy keeps complex orthonormal ones with that phase, m >= 0, order by order, and sums a_lm Y_lm over both signs:

.. math:: a^{healpy}_{lm} = (-1)^m\, (a_{lm} - i\, a_{l,-m}) / \sqrt 2 \quad (m > 0), \qquad a^{healpy}_{l0} = a_{l0}

pyshtools keeps arrays (2, l, m) of cosines and sines for harmonics of other lengths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Complex, Float
from scipy.special import gammaln

from so3ntk.basics.arrays import on_host
from so3ntk.sphere.harmonics import bandlimit_of
from so3ntk.sphere.maps.rings import degrees_and_orders
from so3ntk.sphere.rotations import MAX_BANDLIMIT, check_bandlimit
from so3ntk.sphere.sampling import check_finite

#: Squared lengths over the sphere of pyshtools' harmonics, by degree and order.
NORMALIZATIONS = {
    "4pi": lambda degree, order: 4 * np.pi + 0 * degree,
    "ortho": lambda degree, order: 1.0 + 0 * degree,
    "schmidt": lambda degree, order: 4 * np.pi / (2 * degree + 1),
    "unnorm": lambda degree, order: (
        4 * np.pi / (2 * degree + 1) / np.where(order, 2, 1)
        * np.exp(gammaln(degree + order + 1) - gammaln(degree - order + 1))
    ),
}  # fmt: skip


def from_healpy(
    alm: Any, bandlimit: int | None, mmax: int | None, where: str
) -> tuple[Float[np.ndarray, "n p c"], np.dtype]:
    """Coefficients of (N, size, C), (N, size) or (size,), and the dtype of the real signal's values."""
    host = _host(alm, where)
    if host.dtype.kind != "c":
        raise TypeError(f"{where}: expected healpy's complex a_lm, got {host.dtype}.")
    if host.ndim not in (1, 2, 3) or 0 in host.shape[1:]:
        raise ValueError(f"{where}: expected a_lm (size,), (N, size) or (N, size, C), got {host.shape}.")
    values = host[None, :, None] if host.ndim == 1 else host[..., None] if host.ndim == 2 else host
    whole = _healpy_bandlimit(values.shape[1], mmax, where)
    bandlimit = _kept(bandlimit, whole, where)
    degree, order = _healpy_order(whole, whole if mmax is None else mmax + 1)
    largest = abs(np.imag(values[:, order == 0])).max(initial=0.0)
    if largest > 1e-5 * abs(values).max(initial=0.0):
        raise ValueError(
            f"{where}: a_l0 has an imaginary part of {largest:.2e}, so the map is not real, or the order is not healpy's "
            "(a_00, a_10, a_20, ..., a_11, a_21, ...)."
        )
    kept = degree < bandlimit
    degree, order, values = degree[kept], order[kept], values[:, kept]
    scale = (np.where(order, np.sqrt(2), 1) * (-1.0) ** order)[:, None]
    found = np.zeros((len(values), bandlimit**2, values.shape[2]))
    found[:, degree**2 + degree - order] = -scale * np.imag(values)  # of order zero the cosines replace it
    found[:, degree**2 + degree + order] = scale * np.real(values)
    return found, np.real(values).dtype


def to_healpy(coefficients: Float[np.ndarray, "n p c"]) -> Complex[np.ndarray, "n size c"]:
    """healpy's a_lm with lmax = mmax = L - 1."""
    bandlimit = bandlimit_of(coefficients.shape[1])
    degree, order = _healpy_order(bandlimit, bandlimit)
    cosines, sines = (coefficients[:, degree**2 + degree + m].astype(np.float64) for m in (order, -order))
    scale = (np.where(order, np.sqrt(0.5), 1) * (-1.0) ** order)[:, None]
    return scale * (cosines - 1j * np.where(order[:, None], sines, 0))


def from_pyshtools(
    coefficients: Any, bandlimit: int | None, normalization: str | None, csphase: int | None, where: str
) -> tuple[Float[np.ndarray, "n p c"], np.dtype]:
    """Coefficients of (2, L, L), (N, 2, L, L), (N, 2, L, L, C) or an SHCoeffs, and the dtype of the real signal's values."""
    if hasattr(coefficients, "coeffs"):
        if normalization is not None or csphase is not None:
            raise TypeError(f"{where}: an SHCoeffs has its own normalization and csphase: leave them away.")
        normalization, csphase = coefficients.normalization, coefficients.csphase
        coefficients = coefficients.coeffs
    host = _host(coefficients, where)
    if host.dtype.kind == "c":
        raise TypeError(
            f'{where}: expected coefficients of real harmonics, got {host.dtype}. Those of a real map: c.convert(kind="real").'
        )
    values = host[None, ..., None] if host.ndim == 3 else host[..., None] if host.ndim == 4 else host
    if values.ndim != 5 or values.shape[1] != 2 or values.shape[2] != values.shape[3] or 0 in values.shape[1:]:
        raise ValueError(
            f"{where}: expected pyshtools' (2, L, L), (N, 2, L, L) or (N, 2, L, L, C), cosines and sines by degree and order, "
            f"got {host.shape}."
        )
    _check_unused(values, where)
    bandlimit = _kept(bandlimit, values.shape[2], where)
    scale = _pyshtools_scale(bandlimit, normalization or "4pi", 1 if csphase is None else csphase, where)
    kind, degree, order = _pyshtools_order(bandlimit)
    return values[:, kind, degree, order] * scale[:, None], host.dtype


def to_pyshtools(
    coefficients: Float[np.ndarray, "n p c"], normalization: str, csphase: int, where: str
) -> Float[np.ndarray, "n 2 l m c"]:
    """pyshtools' arrays, cosines and sines by degree and order."""
    n, p, channels = coefficients.shape
    bandlimit = bandlimit_of(p)
    scale = _pyshtools_scale(bandlimit, normalization, csphase, where)
    kind, degree, order = _pyshtools_order(bandlimit)
    found = np.zeros((n, 2, bandlimit, bandlimit, channels))
    found[:, kind, degree, order] = coefficients / scale[:, None]
    return found


def check_complex(flm: np.ndarray, where: str) -> None:
    """ValueError unless complex coefficients (N, L, 2L - 1, C), s2fft's, are those of real signals."""
    bandlimit = flm.shape[1]
    check_finite(flm, f"{where}: the coefficients")
    tolerance = np.sqrt(np.finfo(flm.dtype).eps) * abs(flm).max(axis=(1, 2, 3), keepdims=True, initial=0.0)
    m = np.arange(1 - bandlimit, bandlimit)
    outside = abs(m) > np.arange(bandlimit)[:, None]
    deviation = abs(flm - np.where(m % 2, -1, 1)[:, None] * flm[:, :, ::-1].conj())
    for defect, meaning in [
        (abs(flm) * outside[..., None], "is not zero, but abs(m) > l: the layout is (N, L, 2L - 1, C)."),
        (deviation, "breaks a_{l,-m} = (-1)^m conj(a_lm): the signal is not real. The coefficients of its real and "
                    "imaginary parts are (flm + g) / 2 and (flm - g) / 2j with g = flm[:, :, ::-1].conj(), negated where "
                    "m is odd. Pass them as two channels."),
    ]:  # fmt: skip
        bad = np.argwhere(defect > tolerance)
        if len(bad):
            n, degree, order, channel = (int(i) for i in bad[0])
            place = f"signal {n}, l = {degree}, m = {order + 1 - bandlimit}, channel {channel}"
            raise ValueError(f"{where}: the coefficient of {place} {meaning}")


def _host(values: Any, where: str) -> np.ndarray:
    host = on_host(values, f"{where}: the coefficients")
    if host is None:
        raise TypeError(
            f"{where}: the coefficients are traced. Convert outside of jit, or use SphereSignal(coefficients, L)."
        )
    check_finite(host, f"{where}: the coefficients")
    return host


def _kept(bandlimit: int | None, whole: int, where: str) -> int:
    """The bandlimit to keep of coefficients with that of the whole."""
    if bandlimit is None and whole > MAX_BANDLIMIT:
        raise ValueError(
            f"{where}: these are degrees up to {whole - 1}, and bandlimits go up to {MAX_BANDLIMIT}. Pass "
            f"bandlimit={MAX_BANDLIMIT} or less to drop the higher ones."
        )
    kept = whole if bandlimit is None else check_bandlimit(bandlimit, where)
    if kept > whole:
        raise ValueError(
            f"{where}: there are degrees below {whole}, but bandlimit is {kept}. For zeros above them call "
            f"with_bandlimit({kept}) on the signal."
        )
    return kept


def _healpy_bandlimit(size: int, mmax: int | None, where: str) -> int:
    """lmax + 1 of the number of a_lm."""
    if mmax is not None and not (isinstance(mmax, int | np.integer) and mmax >= 0):
        raise ValueError(f"{where}: expected mmax, the largest order, as an integer from 0 on, got {mmax!r}.")
    bandlimit = round((np.sqrt(8 * size + 1) - 1) / 2) if mmax is None else round(size / (mmax + 1) + mmax / 2)
    orders = bandlimit if mmax is None else mmax + 1
    if not 0 < orders <= bandlimit or orders * (2 * bandlimit - orders + 1) // 2 != size:
        raise ValueError(
            f"{where}: no lmax has {size} a_lm with {'mmax = lmax' if mmax is None else f'mmax = {mmax}'}: healpy keeps "
            "(lmax + 1)(lmax + 2) / 2 of them, or fewer with mmax < lmax, which then is to be passed as mmax."
        )
    return bandlimit


def _healpy_order(bandlimit: int, orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Degree and order of each of healpy's a_lm."""
    pairs = [(degree, order) for order in range(orders) for degree in range(order, bandlimit)]
    degree, order = np.array(pairs).T
    return degree, order


def _pyshtools_order(bandlimit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """0 for cosines and 1 for sines, degree and order: where pyshtools keeps each of our coefficients."""
    degree, order = degrees_and_orders(bandlimit)
    return np.where(order < 0, 1, 0), degree, np.abs(order)


def _pyshtools_scale(bandlimit: int, normalization: str, csphase: int, where: str) -> Float[np.ndarray, " p"]:
    """The length of pyshtools' harmonics in ours, with the sign of the Condon-Shortley phase where they have it."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"{where}: expected the normalization {', '.join(map(repr, NORMALIZATIONS))}, got {normalization!r}."
        )
    if csphase not in (1, -1):
        raise ValueError(
            f"{where}: expected csphase 1 (harmonics without the Condon-Shortley phase) or -1, got {csphase!r}."
        )
    _, degree, order = _pyshtools_order(bandlimit)
    length = np.sqrt(NORMALIZATIONS[normalization](degree, order))
    return length * np.where(order % 2, csphase, 1)


def _check_unused(values: np.ndarray, where: str) -> None:
    """ValueError if orders above the degree, or the sines of order zero, hold anything."""
    kind, degree, order = np.indices(values.shape[1:4])
    unused = (order > degree) | ((kind == 1) & (order == 0))
    bad = np.argwhere(values * unused[..., None] != 0)
    if len(bad):
        n, kind, degree, order, _ = (int(i) for i in bad[0])
        raise ValueError(
            f"{where}: array {n} is not zero at index ({kind}, {degree}, {order}), where pyshtools has no harmonic: the axes are "
            "(cosine or sine, l, m)."
        )
