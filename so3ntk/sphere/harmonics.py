"""Real orthonormal harmonics on the sphere, and the change between them and s2fft's complex coefficients."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from so3ntk.sphere.rotations import MAX_BANDLIMIT, real_from_complex


def real_harmonics(directions, bandlimit: int) -> Float[np.ndarray, "k p"]:
    r"""Real orthonormal harmonics of degrees l < bandlimit at unit vectors (k, 3), at index l^2 + l + m.

    .. math:: Y_{lm} = \sqrt{2 - \delta_{m0}}\, Q_{l|m|}(z)\, \mathrm{Re\ or\ Im}\,(x + iy)^{|m|},
              \quad Q_{lm} = \sqrt{\tfrac{4l^2-1}{l^2-m^2}}
              \left(z Q_{l-1,m} - \sqrt{\tfrac{(l-1)^2-m^2}{4(l-1)^2-1}}\, Q_{l-2,m}\right)

    Polynomials in (x, y, z): smooth at the poles, without angles. The error is about l eps, tested to l = 63.
    """
    x, y, z = np.asarray(directions, np.float64).T
    harmonics = np.empty((len(x), bandlimit**2))
    azimuth = (x + 1j * y)[:, None] ** np.arange(bandlimit)
    before, last = np.zeros((2, len(x), bandlimit))  # Q_{l-2,m} and Q_{l-1,m}, zero for m beyond the degree
    for degree in range(bandlimit):
        current = np.zeros_like(last)
        if degree == 0:
            current[:, 0] = np.sqrt(0.25 / np.pi)
        else:
            m = np.arange(degree)
            shrink = np.sqrt(((degree - 1.0) ** 2 - m**2) / abs(4 * (degree - 1.0) ** 2 - 1))
            growth = np.sqrt((4.0 * degree**2 - 1) / (degree**2 - m**2))
            current[:, :degree] = growth * (z[:, None] * last[:, :degree] - shrink * before[:, :degree])
            current[:, degree] = last[:, degree - 1] * np.sqrt(1 + 0.5 / degree)
        waves = np.sqrt(2) * current[:, 1 : degree + 1] * azimuth[:, 1 : degree + 1]
        centre = degree**2 + degree
        harmonics[:, centre] = current[:, 0]
        harmonics[:, centre + 1 : centre + degree + 1] = waves.real
        harmonics[:, degree**2 : centre] = waves.imag[:, ::-1]
        before, last = last, current
    return harmonics


def real_coefficients(flm: Any) -> Any:
    """Coefficients of real harmonics (..., L^2, C) from complex ones (..., L, 2L - 1, C) of a real signal.

    For NumPy and JAX arrays, traced or not: a_real = conj(U) a_complex with U = ``real_from_complex``. Of a
    signal that is not real, the real part is kept.
    """
    bandlimit = flm.shape[-3]
    degree, order, same, opposite = _change_of_basis(bandlimit)
    same, opposite = (np.conj(entries).astype(flm.dtype)[:, None] for entries in (same, opposite))
    plus, minus = flm[..., degree, bandlimit - 1 + order, :], flm[..., degree, bandlimit - 1 - order, :]
    return (same * plus + opposite * minus).real


def complex_coefficients(coefficients: Any) -> Any:
    """The inverse of ``real_coefficients``: (..., L^2, C) to (..., L, 2L - 1, C), zero where abs(m) > l."""
    bandlimit = bandlimit_of(coefficients.shape[-2])
    degree, order, same, opposite = _change_of_basis(bandlimit)
    kind = np.result_type(coefficients.dtype, np.complex64)
    mirror = degree**2 + degree - order
    same, opposite = same.astype(kind)[:, None], opposite[mirror].astype(kind)[:, None]
    complexes = coefficients.astype(kind)
    flat = same * complexes + opposite * complexes[..., mirror, :]
    rows, columns = np.indices((bandlimit, 2 * bandlimit - 1))
    m = columns - (bandlimit - 1)
    inside = abs(m) <= rows
    return flat[..., np.where(inside, rows**2 + rows + m, 0), :] * inside[..., None].astype(kind)


@lru_cache(maxsize=MAX_BANDLIMIT)
def _change_of_basis(bandlimit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Degree and order of each flat index, and U's only entries, U[m, m] and U[m, -m] (0 for m = 0)."""
    changes = [real_from_complex(degree) for degree in range(bandlimit)]
    degree = np.repeat(np.arange(bandlimit), 2 * np.arange(bandlimit) + 1)
    order = np.arange(bandlimit**2) - degree**2 - degree
    same = np.concatenate([np.diag(change) for change in changes])
    opposite = np.concatenate([np.diag(change[:, ::-1]) for change in changes])
    return degree, order, same, np.where(order == 0, 0, opposite)


def bandlimit_of(p: int) -> int:
    """L of p = L^2 coefficients; ValueError if p is not a square."""
    bandlimit = round(p**0.5)
    if bandlimit**2 != p or p < 1:
        raise ValueError(f"expected L^2 coefficients for a bandlimit L (1, 4, 9, ...), got {p}.")
    return bandlimit
