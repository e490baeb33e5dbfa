r"""Rotations, their irreducible representations and integrals over them: every convention of SO(3) lives here.

Rotations are active, R = Rz(alpha) Ry(beta) Rz(gamma), and act on functions by [rho(R) f](x) = f(R^-1 x), so
complex harmonic coefficients transform as a_lm <- sum_n D^l_mn a_ln with

.. math:: D^l_{mn}(\alpha, \beta, \gamma) = e^{-i m \alpha} d^l_{mn}(\beta) e^{-i n \gamma}.

Real orthonormal harmonics have the flat index l^2 + l + m and are

.. math:: Y_{l0}, \quad \sqrt 2 (-1)^m \mathrm{Re}\,Y_{lm}\ (m > 0), \quad
          \sqrt 2 (-1)^m \mathrm{Im}\,Y_{l|m|}\ (m < 0),

with the Condon-Shortley phase in the complex ones; l = 1 is then proportional to (y, z, x).
Tables are made on the host in float64, whatever JAX is set to.
Source: Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), chapter 4.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float
from scipy.spatial.transform import Rotation

#: Tables are tested up to this bandlimit and refused beyond it.
MAX_BANDLIMIT = 64


def check_bandlimit(bandlimit: int, where: str) -> int:
    """The bandlimit as an int; ValueError unless 1 <= bandlimit <= 64, the range the tables are tested in."""
    if isinstance(bandlimit, bool) or not isinstance(bandlimit, int | np.integer):
        raise TypeError(f"{where}: expected an integer bandlimit, got {bandlimit!r}.")
    if not 1 <= bandlimit <= MAX_BANDLIMIT:
        raise ValueError(
            f"{where}: expected a bandlimit from 1 to {MAX_BANDLIMIT} (the Wigner tables are tested there), got "
            f"{bandlimit}. A bandlimit L keeps the degrees l < L."
        )
    return int(bandlimit)


def matrices_of(rotations) -> Float[np.ndarray, "n 3 3"]:
    """Rotation matrices (n, 3, 3) from a scipy Rotation, one matrix (3, 3) or matrices (n, 3, 3).

    Raises ValueError for another shape, and for matrices that are not proper rotations to 1e-6.
    """
    matrices = rotations.as_matrix() if isinstance(rotations, Rotation) else np.asarray(rotations, np.float64)
    if matrices.ndim == 2:
        matrices = matrices[None]
    if matrices.ndim != 3 or matrices.shape[1:] != (3, 3):
        raise ValueError(
            f"rotations: expected a scipy Rotation or matrices (n, 3, 3), got an array of shape {matrices.shape}."
        )
    if not np.all(np.isfinite(matrices)):
        raise ValueError("rotations: the matrices hold NaN or infinity.")
    defect = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0)
    if defect > 1e-6:
        raise ValueError(f"rotations: the matrices are not orthogonal (R R^T differs from 1 by {defect:.1e}).")
    if np.any(np.linalg.det(matrices) < 0):
        raise ValueError("rotations: a matrix has determinant -1: reflections are not elements of SO(3).")
    return matrices


def euler_angles(rotations) -> Float[np.ndarray, "n 3"]:
    """ZYZ angles (alpha, beta, gamma) in radians, 0 <= beta <= pi; at the poles gamma is 0.

    Uses arctan2 on the matrix rather than scipy's ``as_euler``, which warns at the poles.
    """
    matrices = matrices_of(rotations)
    sin_beta = np.hypot(matrices[:, 2, 0], matrices[:, 2, 1])
    beta = np.arctan2(sin_beta, matrices[:, 2, 2])
    alpha = np.arctan2(matrices[:, 1, 2], matrices[:, 0, 2])
    # gamma from alpha + gamma (north) or alpha - gamma (south), which large entries determine: near a pole alpha
    # and gamma alone come from entries of the size of beta, with errors of eps / beta.
    total = np.arctan2(matrices[:, 1, 0] - matrices[:, 0, 1], matrices[:, 0, 0] + matrices[:, 1, 1])
    difference = np.arctan2(-matrices[:, 1, 0] - matrices[:, 0, 1], matrices[:, 1, 1] - matrices[:, 0, 0])
    north = matrices[:, 2, 2] > 0
    alpha = np.where(sin_beta < 1e-15, np.where(north, total, difference), alpha)
    gamma = np.where(north, total - alpha, alpha - difference)
    gamma = np.arctan2(np.sin(gamma), np.cos(gamma))
    return np.stack([alpha, beta, gamma], axis=-1)


def random_rotations(n: int, seed: int = 0) -> Rotation:
    """n rotations drawn from the Haar measure, seeded."""
    return Rotation.random(n, np.random.default_rng(seed))


@lru_cache(maxsize=MAX_BANDLIMIT)
def _y_generator(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (the integers -l..l) and eigenvectors of the angular momentum J_y in the basis |l, m>."""
    m = np.arange(-degree, degree)
    raising = np.sqrt(degree * (degree + 1) - m * (m + 1.0))
    j_y = np.diag(raising, -1) / 2j - np.diag(raising, 1) / 2j  # (J_+ - J_-) / 2i, rows and columns m = -l..l
    _, vectors = np.linalg.eigh(j_y)
    return np.arange(-degree, degree + 1.0), vectors


def wigner_d(degree: int, beta) -> Float[np.ndarray, "... m n"]:
    r"""The small Wigner matrix d^l_mn(beta) = <l m| exp(-i beta J_y) |l n>, m and n from -l to l; real, float64.

    By diagonalising J_y: as accurate at l = 63 as at l = 1, where recursions in l lose digits.
    """
    values, vectors = _y_generator(degree)
    phases = np.exp(-1j * np.asarray(beta, np.float64)[..., None] * values)
    return np.real((vectors * phases[..., None, :]) @ vectors.conj().T)


@lru_cache(maxsize=MAX_BANDLIMIT)
def real_from_complex(degree: int) -> Complex[np.ndarray, "m n"]:
    """The unitary U with Y_real = U Y_complex for one degree; coefficients follow as a_real = conj(U) a_complex."""
    change = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    change[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        change[degree + m, degree + m], change[degree + m, degree - m] = sign / np.sqrt(2), 1 / np.sqrt(2)
        change[degree - m, degree + m], change[degree - m, degree - m] = (
            -1j * sign / np.sqrt(2),
            1j / np.sqrt(2),
        )
    return change


def wigner_D(degree: int, rotations) -> Complex[np.ndarray, "r m n"]:
    """D^l_mn of each rotation in the complex basis, m and n from -l to l."""
    alpha, beta, gamma = euler_angles(rotations).T
    return _wigner_D_from_angles(degree, alpha, beta, gamma)


def _wigner_D_from_angles(degree: int, alpha, beta, gamma) -> np.ndarray:
    m = np.arange(-degree, degree + 1)
    left = np.exp(-1j * alpha[:, None] * m)[:, :, None]
    right = np.exp(-1j * gamma[:, None] * m)[:, None, :]
    return left * wigner_d(degree, beta) * right


def real_wigner_D(degree: int, rotations) -> Float[np.ndarray, "r m n"]:
    """D^l_mn of each rotation in the basis of real harmonics: an orthogonal matrix, a_real <- D a_real."""
    return _real_wigner_D_from_angles(degree, *euler_angles(rotations).T)


def _real_wigner_D_from_angles(degree: int, alpha, beta, gamma) -> np.ndarray:
    change = real_from_complex(degree)
    return np.real(change.conj() @ _wigner_D_from_angles(degree, alpha, beta, gamma) @ change.T)


def real_wigner_table(bandlimit: int, angles: Float[np.ndarray, "r 3"]) -> Float[np.ndarray, "r p"]:
    """The matrices D^l of all degrees l < bandlimit at given ZYZ angles, flattened in the order (l, m, n)."""
    columns = [_real_wigner_D_from_angles(degree, *angles.T).reshape(len(angles), -1) for degree in range(bandlimit)]
    return np.concatenate(columns, axis=1)


def block_indices(bandlimit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each column (l, m, n) of a Wigner table: its degree l and the flat harmonic indices of (l, m), (l, n)."""
    rows = [(degree, degree**2 + m, degree**2 + n)
            for degree in range(bandlimit) for m in range(2 * degree + 1) for n in range(2 * degree + 1)]  # fmt: skip
    degrees, row, column = np.array(rows).T
    return degrees, row, column
