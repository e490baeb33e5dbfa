r"""The two noise levels of a joint fit of energies and forces, by the marginal likelihood, and the amplitude.

With A = K + diag(noise) and the amplitude s^2 of s^2 A at its optimum, y^T A^{-1} y / N, the negative logarithm is

.. math:: \tfrac N2 \log \frac{y^T A^{-1} y}{N} + \tfrac12 \log \det A + \text{const},

one Cholesky factorisation for each pair of candidates that is looked at.

Where a composition's least-squares fit was subtracted from n energies, r elements have taken r degrees of freedom. The
likelihood is then that of n - r contrasts of energies, which no composition changes, beside all forces (the restricted
likelihood); the amplitude is divided by the mean of y^T A^{-1} y over such targets in place of N. With Q (N, r) an
orthonormal basis of what composition gives the energies, and P = I - Q Q^T, this is

.. math:: \mathrm{tr}(A^{-1} P A P) = N - 2 r + \mathrm{tr}(Q^T A^{-1} Q\; Q^T A Q).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.errors import NotPositiveDefiniteError

if TYPE_CHECKING:
    from ase import Atoms

#: Candidates, in units of the mean of the diagonal of energies and of forces.
RELATIVE_NOISES = np.logspace(-10, -1, 10)


def choose_noises(
    gram: Float[np.ndarray, "N N"],
    y: Float[np.ndarray, " N"],
    energies: int,
    candidates: Sequence[Sequence[float] | np.ndarray],
) -> tuple[float, ...]:
    """The noise of the energies (the first rows), and that of the forces if there are any, of least -log likelihood.

    candidates: for each of them the values to try, ascending. From the middle of this grid on to the best neighbour, as
    long as there is a better one. Raises NotPositiveDefiniteError where none makes the matrix so.
    """
    known: dict[tuple[int, ...], float] = {}

    def value(place: tuple[int, ...]) -> float:
        if place not in known:
            noises = [values[i] for values, i in zip(candidates, place, strict=True)]
            known[place] = negative_log_likelihood(gram, y, energies, noises)
        return known[place]

    best = tuple(len(values) // 2 for values in candidates)
    if not np.isfinite(value(best)):
        best = tuple(len(values) - 1 for values in candidates)
    if not np.isfinite(value(best)):
        raise not_positive(gram, max(map(max, candidates)), "EnergyForceRegressor")
    while (nearer := min(_neighbours(best, candidates), key=value, default=best)) != best and value(nearer) < value(
        best
    ):
        best = nearer
    return tuple(float(values[i]) for values, i in zip(candidates, best, strict=True))


def _neighbours(place: tuple[int, ...], candidates: Sequence[Sequence[float] | np.ndarray]) -> list[tuple[int, ...]]:
    """One step along each axis, within the grid."""
    steps = [(*place[:axis], place[axis] + step, *place[axis + 1 :]) for axis in range(len(place)) for step in (-1, 1)]
    return [s for s in steps if all(0 <= i < len(values) for i, values in zip(s, candidates, strict=True))]


def negative_log_likelihood(
    gram: Float[np.ndarray, "N N"], y: Float[np.ndarray, " N"], energies: int, noises: Sequence[float]
) -> float:
    """The formula at the head of this file; infinite where K + noise is not positive definite, 0 without targets."""
    if len(y) == 0:
        return 0.0
    factor = _factor(gram, energies, noises)
    if factor is None:
        return np.inf
    white = scipy.linalg.solve_triangular(factor, y, lower=True)
    square = max(white @ white, np.finfo(float).tiny)  # of targets that vanish
    return len(y) / 2 * np.log(square / len(y)) + np.log(np.diag(factor)).sum()


def composition_basis(atoms: Sequence[Atoms]) -> Float[np.ndarray, "n r"]:
    """Orthonormal columns that span what a sum over elements can give the molecules; r independent elements."""
    elements = np.unique(np.concatenate([molecule.numbers for molecule in atoms]))
    counts = np.stack([np.count_nonzero(m.numbers[:, None] == elements, axis=0) for m in atoms]).astype(float)
    basis, sizes, _ = np.linalg.svd(counts, full_matrices=False)
    return basis[:, sizes > len(counts) * np.finfo(float).eps * sizes[0]]


def without_composition(
    gram: Float[np.ndarray, "N N"], y: Float[np.ndarray, " N"], basis: Float[np.ndarray, "n r"]
) -> tuple[Float[np.ndarray, "M M"], Float[np.ndarray, " M"]]:
    """Covariance and targets with the n energies replaced by their n - r contrasts; M = N - r."""
    if basis.shape[1] == 0:
        return gram, y
    n = len(basis)
    contrasts = scipy.linalg.null_space(basis.T)  # orthonormal, so a noise of equal variances stays one
    rows = np.concatenate([contrasts.T @ gram[:n], gram[n:]])
    return np.concatenate([rows[:, :n] @ contrasts, rows[:, n:]], axis=1), np.concatenate([contrasts.T @ y[:n], y[n:]])


def degrees_of_freedom(factor: Float[np.ndarray, "N N"], basis: Float[np.ndarray, "n r"]) -> float:
    """tr(A^-1 P A P), see the head of this file, from the lower factor of A; NaN where nothing is left of the targets."""
    n, r = basis.shape
    if len(factor) == r:
        return np.nan
    columns = np.concatenate([basis, np.zeros((len(factor) - n, r))])
    white, spread = scipy.linalg.solve_triangular(factor, columns, lower=True), factor.T @ columns
    return len(factor) - 2 * r + float(np.sum((white.T @ white) * (spread.T @ spread)))


def factorise(
    gram: Float[np.ndarray, "N N"], energies: int, noises: tuple[float, ...], free: Sequence[bool], where: str
) -> tuple[Float[np.ndarray, "N N"], tuple[float, ...]]:
    """The lower Cholesky factor of K with its noises, and these: the free ones raised if that has no factor.

    A noise chosen on a part of K can be too small for all of it. Then it is doubled as often as it takes, and once more,
    for an eigenvalue that is only just positive makes the solution large. Raises NotPositiveDefiniteError where 10^-1
    times the mean of the diagonal is too small, too.
    """
    largest = [float(values[-1]) for values in relative_candidates(gram, energies)]

    def raised(noises: tuple[float, ...]) -> tuple[float, ...]:
        twice = [2 * noise if may else noise for noise, may in zip(noises, free, strict=False)]
        return tuple(max(noise, min(more, most)) for noise, more, most in zip(noises, twice, largest, strict=True))

    if (factor := _factor(gram, energies, noises)) is not None:
        return factor, noises
    while _factor(gram, energies, noises) is None:
        if raised(noises) == noises:
            raise not_positive(gram, max(noises), where)
        noises = raised(noises)
    noises = raised(noises)
    return _factor(gram, energies, noises), noises  # pyright: ignore[reportReturnType]


def _factor(gram: np.ndarray, energies: int, noises: Sequence[float]) -> np.ndarray | None:
    """Lower, of K with its noises; None where this is not positive definite."""
    matrix = add_noise(np.array(gram, order="F"), energies, noises)
    try:
        return scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True)
    except np.linalg.LinAlgError:
        return None


def add_noise(gram: Float[np.ndarray, "N N"], energies: int, noises: Sequence[float]) -> Float[np.ndarray, "N N"]:
    """K plus the noise of the energies and of the forces on the diagonal, in place."""
    diagonal = np.einsum("ii->i", gram)
    diagonal[:energies] += noises[0]
    diagonal[energies:] += noises[-1]
    return gram


def relative_candidates(gram: Float[np.ndarray, "N N"], energies: int) -> list[np.ndarray]:
    """RELATIVE_NOISES times the mean of the energies' diagonal, and times that of the forces' if there are any."""
    diagonal = np.diag(gram)
    return [
        RELATIVE_NOISES * max(part.mean(), np.finfo(float).tiny)
        for part in (diagonal[:energies], diagonal[energies:])
        if len(part)
    ]


def not_positive(gram: Float[np.ndarray, "N N"], noise: float, where: str) -> NotPositiveDefiniteError:
    """The error for a matrix that has no Cholesky factor."""
    values = np.linalg.eigvalsh(gram)
    needed = max(2 * noise, 2 * abs(float(values[0])), 1e-12 * float(values[-1]))
    return NotPositiveDefiniteError(
        where, float(values[0]), float(values[-1]), noise, needed, "K", "energy_noise, force_noise"
    )
