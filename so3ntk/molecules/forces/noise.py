r"""The noise levels of a joint fit of energies, forces and stresses, by leaving molecules out, and the solution beside composition.

With A = K + diag(noise) and Q an orthonormal basis of what composition can give the energies, which has no penalty,

.. math:: \alpha = P y, \qquad P = A^{-1} - A^{-1} Q (Q^T A^{-1} Q)^{-1} Q^T A^{-1}, \qquad
          y_i - \hat y_i^{(-i)} = P_{ii}^{-1} \alpha_i,

the last being the residuals of molecule i, its energy and all of its forces at once, as predicted from all others. The noises are
those of the smallest product of the root mean squares of energies' and of forces' residuals, and of strains' if there are any. (The marginal likelihood, which
is the other way, took noises 10 to 100 times smaller, and forces a third worse: it takes the model at its word.) A molecule
that alone determines a column of composition has no residual of its energy.

The amplitude s^2 of s^2 A is y^T alpha / (N - r), whose mean is s^2 for N targets of such a model, r the columns of Q.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from so3ntk.errors import NotPositiveDefiniteError

if TYPE_CHECKING:
    from ase import Atoms

#: Candidates, in units of the mean of the diagonal of each sort.
RELATIVE_NOISES = np.logspace(-10, 0, 11)
#: Rows of the covariance that noises are chosen on: each pair of candidates inverts it.
ROWS = 3000
#: What a row is: an energy, minus a derivative in a position, or in a strain.
ENERGY, FORCE, STRAIN = range(3)
#: 1 - |Q_i|^2 below which a molecule alone determines a column.
ALONE = 1e-9


class Targets(NamedTuple):
    """Energies of n structures less a baseline, then what is known of forces and minus derivatives in strains; Q of the energies.

    owner: the structure of each row; sort: ENERGY, FORCE or STRAIN.
    """

    y: Float[np.ndarray, " N"]
    owner: Int[np.ndarray, " N"]
    sort: Int[np.ndarray, " N"]
    basis: Float[np.ndarray, "n r"]

    @classmethod
    def of(cls, y: Float[np.ndarray, " N"], sizes: Int[np.ndarray, " n"], basis: Float[np.ndarray, "n r"]) -> Targets:
        """Of molecules of so many atoms: all energies, then all forces if y holds more than energies."""
        n = len(sizes)
        owner = np.concatenate([np.arange(n), np.repeat(np.arange(n), 3 * np.asarray(sizes))])[: len(y)]
        return cls(y, owner, np.where(np.arange(len(y)) < n, ENERGY, FORCE), basis)

    @property
    def columns(self) -> Float[np.ndarray, "N r"]:
        """Q, with zeros for all but energies."""
        return np.pad(self.basis, ((0, len(self.y) - len(self.basis)), (0, 0)))

    @property
    def sorts(self) -> Int[np.ndarray, " s"]:
        """Those that there are, ascending: each has a noise."""
        return np.unique(self.sort)

    def noise(self, noises: Sequence[float]) -> Float[np.ndarray, " N"]:
        """Of each row, from those of the sorts."""
        return np.asarray(noises, float)[np.searchsorted(self.sorts, self.sort)]

    def rows(self, structure: int) -> Int[np.ndarray, " m"]:
        """The rows of its energy, and of its forces."""
        return np.flatnonzero(self.owner == structure)

    def selected(self, most: int) -> int:
        """How many structures noises are chosen on: the first ones, as many as have ``ROWS`` rows together, and at most ``most``."""
        counts = np.bincount(self.owner, minlength=len(self.basis))
        return max(1, min(most, int(np.searchsorted(np.cumsum(counts), ROWS, side="right"))))

    def first(self, count: int) -> tuple[Targets, Int[np.ndarray, " M"]]:
        """Those of the first structures, and which rows they are; composition as it is among these."""
        rows = np.flatnonzero(self.owner < count)
        left, values, _ = np.linalg.svd(self.basis[:count], full_matrices=False)
        basis = left[:, values > count * np.finfo(float).eps]
        return Targets(self.y[rows], self.owner[rows], self.sort[rows], basis), rows


def choose_noises(
    gram: Float[np.ndarray, "N N"], targets: Targets, candidates: Sequence[Sequence[float] | np.ndarray]
) -> tuple[float, ...]:
    """The noise of each sort of the smallest leave-one-out errors.

    candidates: for each of them the values to try, ascending. From the middle of this grid on to the best neighbour, as
    long as there is a better one. Raises NotPositiveDefiniteError where none makes the matrix so.
    """
    known: dict[tuple[int, ...], float] = {}

    def value(place: tuple[int, ...]) -> float:
        if place not in known:
            noises = [values[i] for values, i in zip(candidates, place, strict=True)]
            known[place] = leave_out_score(gram, targets, noises)
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


def leave_out_score(gram: Float[np.ndarray, "N N"], targets: Targets, noises: Sequence[float]) -> float:
    """The sum of the logarithms of both root mean squares; infinite where K + noise is not positive definite, 0 for no residuals."""
    residuals = leave_out(gram, targets, noises)
    if residuals is None:
        return np.inf
    parts = [part[np.isfinite(part)] for part in (residuals[targets.sort == sort] for sort in targets.sorts)]
    least = np.finfo(float).tiny  # of targets that vanish
    return float(sum(0.5 * np.log(max(np.mean(part**2), least)) for part in parts if len(part)))


def leave_out(
    gram: Float[np.ndarray, "N N"], targets: Targets, noises: Sequence[float]
) -> Float[np.ndarray, " N"] | None:
    """The residuals of each molecule as predicted from all others, NaN where there is none; None without a Cholesky factor."""
    factor = _factor(gram, targets.noise(noises))
    if factor is None:
        return None
    y, columns = targets.y, targets.columns
    (invert,) = scipy.linalg.get_lapack_funcs(("potri",), (factor,))
    inverse, _ = invert(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    across = inverse @ columns
    inside = np.linalg.pinv(columns.T @ across)
    alpha = inverse @ y - across @ (inside @ (across.T @ y))
    alone = 1 - np.einsum("ij,ij->i", targets.basis, targets.basis) < ALONE
    residuals = np.full(len(y), np.nan)
    for molecule in range(len(targets.basis)):
        rows = targets.rows(molecule)[int(alone[molecule]) :]
        block = inverse[np.ix_(rows, rows)] - across[rows] @ inside @ across[rows].T
        residuals[rows] = np.linalg.solve(block, alpha[rows])
    return residuals


class Fit(NamedTuple):
    """alpha, the coefficients of Q, and the amplitude s; NaN where nothing is left of the targets."""

    alpha: Float[np.ndarray, " N"]
    composition: Float[np.ndarray, " r"]
    amplitude: float


def solve(factor: Float[np.ndarray, "N N"], targets: Targets) -> Fit:
    """The solution, from the lower Cholesky factor of A."""
    y, columns = targets.y, targets.columns
    across = scipy.linalg.cho_solve((factor, True), columns)
    composition = np.linalg.solve(columns.T @ across, across.T @ y)
    alpha = scipy.linalg.cho_solve((factor, True), y - columns @ composition)
    freedom = len(y) - columns.shape[1]
    return Fit(alpha, composition, float(np.sqrt(max(y @ alpha, 0) / freedom)) if freedom else np.nan)


def composition_basis(atoms: Sequence[Atoms]) -> Float[np.ndarray, "n r"]:
    """Orthonormal columns that span what a sum over elements can give the molecules; r independent elements."""
    elements = np.unique(np.concatenate([molecule.numbers for molecule in atoms]))
    counts = np.stack([np.count_nonzero(m.numbers[:, None] == elements, axis=0) for m in atoms]).astype(float)
    basis, sizes, _ = np.linalg.svd(counts, full_matrices=False)
    return basis[:, sizes > len(counts) * np.finfo(float).eps * sizes[0]]


def factorise(
    gram: Float[np.ndarray, "N N"], targets: Targets, noises: tuple[float, ...], free: Sequence[bool], where: str
) -> tuple[Float[np.ndarray, "N N"], tuple[float, ...]]:
    """The lower Cholesky factor of K with its noises, and these: the free ones raised if that has no factor.

    A noise chosen on a part of K can be too small for all of it. Then it is doubled as often as it takes, and once more,
    for an eigenvalue that is only just positive makes the solution large. Raises NotPositiveDefiniteError where 10^-1
    times the mean of the diagonal is too small, too.
    """
    largest = [float(values[-1]) for values in relative_candidates(gram, targets)]

    def raised(noises: tuple[float, ...]) -> tuple[float, ...]:
        twice = [2 * noise if may else noise for noise, may in zip(noises, free, strict=False)]
        return tuple(max(noise, min(more, most)) for noise, more, most in zip(noises, twice, largest, strict=True))

    if (factor := _factor(gram, targets.noise(noises))) is not None:
        return factor, noises
    while _factor(gram, targets.noise(noises)) is None:
        if raised(noises) == noises:
            raise not_positive(gram, max(noises), where)
        noises = raised(noises)
    noises = raised(noises)
    return _factor(gram, targets.noise(noises)), noises  # pyright: ignore[reportReturnType]


def _factor(gram: np.ndarray, noise: Float[np.ndarray, " N"]) -> np.ndarray | None:
    """Lower, of K with its noise on the diagonal; None where this is not positive definite."""
    matrix = np.array(gram, order="F")
    np.einsum("ii->i", matrix)[:] += noise
    try:
        return scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True)
    except np.linalg.LinAlgError:
        return None


def relative_candidates(gram: Float[np.ndarray, "N N"], targets: Targets) -> list[np.ndarray]:
    """RELATIVE_NOISES times the mean of the diagonal of each sort."""
    diagonal = np.diag(gram)
    means = [diagonal[targets.sort == sort].mean() for sort in targets.sorts]
    return [RELATIVE_NOISES * max(mean, np.finfo(float).tiny) for mean in means]


def not_positive(gram: Float[np.ndarray, "N N"], noise: float, where: str) -> NotPositiveDefiniteError:
    """The error for a matrix that has no Cholesky factor."""
    values = np.linalg.eigvalsh(gram)
    needed = max(2 * noise, 2 * abs(float(values[0])), 1e-12 * float(values[-1]))
    return NotPositiveDefiniteError(
        where, float(values[0]), float(values[-1]), noise, needed, "K", "energy_noise, force_noise, stress_noise"
    )
