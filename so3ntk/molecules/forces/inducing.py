r"""Energies and forces from a basis of inducing functions, so that the covariances of all structures are never held.

The functions are k(., z) of the environments z of training atoms, and their derivatives along motions of z's structure, drawn at
random: with few structures the former alone are too few. With K_ZZ = L L^T their covariances, and the covariances of a row r of the
training set (an energy, minus a derivative) with them,

.. math:: \phi_r = L^{-1} k(Z, r), \qquad \min_{w, b} \sum_r \frac{(y_r - \phi_r \cdot w - C_r b)^2}{\lambda_r} + |w|^2,

the sparse Gaussian process (subset of regressors), beside columns C without a penalty. All functions that there are give the dense one.
Rows come in blocks, each of which is taken into a triangular factor by orthogonal transformations; memory is that of the factor.

Functions are chosen by randomly pivoted Cholesky (Chen, Epperly, Tropp and Webber, arXiv:2207.06503) in blocks: with probabilities
in proportion to what of them those chosen before do not span, in units of the rows' noises. So elements get what their
environments differ by. The factor that it ends with is L.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Int

from so3ntk.basics.double import double_precision
from so3ntk.engine.evaluation.moments import FeatureMap
from so3ntk.engine.network import Network
from so3ntk.molecules.environments import Environments
from so3ntk.molecules.forces.displacements import Moving
from so3ntk.molecules.forces.kernels import Side, energy_force_gram
from so3ntk.molecules.forces.moments import Potential, Rows, directed_rows, rows_of, weights_of
from so3ntk.molecules.forces.noise import Targets
from so3ntk.sphere.signals import SphereSignal

#: Functions that are chosen at a time, and atoms that they are chosen from for each function asked for.
BLOCK, CANDIDATES = 256, 2
#: Of a function's own variance: what must be left of it outside the span of the others.
LEAST = 1e-10
#: Columns that the triangular factor is updated by at a time.
PANEL = 64


class Centres(NamedTuple):
    """Environments of atoms of one kind, each with the derivative along a motion: two functions each, all k(., z) first."""

    signals: Float[np.ndarray, "m lm c"]
    directions: Float[np.ndarray, "m lm c"]
    numbers: Int[np.ndarray, " m"]

    def take(self, atoms: Int[np.ndarray, " k"]) -> Centres:
        """Some of them."""
        return Centres(*(array[atoms] for array in self))


class Inducing:
    """Atoms that stand for themselves, where ``Side`` has structures."""

    def __init__(self, centres: Centres):
        bandlimit = round(centres.signals.shape[1] ** 0.5)
        with double_precision():  # else JAX would keep single
            self.environments = Environments(
                SphereSignal(centres.signals, bandlimit), np.arange(len(centres.signals)), centres.numbers
            )
        self.sizes = self.coordinates = np.ones(len(centres.signals), int)

    def signals(self, atoms: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k lm c"]:
        """The coefficients of some of them."""
        return np.asarray(self.environments.signal.coefficients)[atoms]


class Covariance(NamedTuple):
    """How covariances of structures and functions are computed: by features where kernels are inner products, else by pairs."""

    net: Network
    kernel: str
    features: FeatureMap | None

    def of_centres(self, centres: Centres) -> Rows | Side:
        """Their functions."""
        side = Side(Inducing(centres), directions=centres.directions)
        return side if self.features is None else directed_rows(self.features, side, np.arange(len(centres.signals)))

    def of_structures(self, moving: Moving, atoms: Int[np.ndarray, " m"]) -> Rows | Side:
        """Energies, and minus derivatives in all coordinates, as far as they come from some atoms of one kind."""
        if self.features is None:
            return Side(moving)
        with double_precision():
            return rows_of(self.features, moving, atoms, True)

    def products(self, a: Rows | Side, b: Rows | Side) -> Float[np.ndarray, "r s"]:
        """The covariances."""
        if isinstance(a, Rows) and isinstance(b, Rows):
            assert self.features is not None
            return a.products(b, self.features.coefficients[self.kernel])
        assert isinstance(a, Side)
        assert isinstance(b, Side)
        return energy_force_gram(self.net, a, b, self.kernel, progress=False)


class Functions(NamedTuple):
    """The basis, of one kind: which functions of the centres, and L."""

    centres: Centres
    pick: Int[np.ndarray, " d"]
    factor: Float[np.ndarray, "d d"]

    def weights(self, white: Float[np.ndarray, " d"]) -> tuple[np.ndarray, np.ndarray]:
        """Of each centre's k(., z), and of minus its derivative, from the weights of phi."""
        total = np.zeros(2 * len(self.centres.signals))
        total[self.pick] = scipy.linalg.solve_triangular(self.factor, white, lower=True, trans=1)
        return total[: len(total) // 2], total[len(total) // 2 :]


class Basis:
    """The functions of all kinds, and the features phi of structures."""

    def __init__(self, functions: dict[int, Functions], covariance: Covariance):
        self.functions, self.covariance = functions, covariance
        self._rows = {kind: _taken(covariance.of_centres(own.centres), own.pick) for kind, own in functions.items()}

    def __len__(self) -> int:
        return sum(len(own.pick) for own in self.functions.values())

    def features(self, moving: Moving, kind: Int[np.ndarray, " atoms"]) -> Float[np.ndarray, "rows d"]:
        """phi of the energies and of minus the derivatives in all coordinates, given the kind of each atom."""
        total = len(moving.environments) + int(moving.coordinates.sum())
        found = []
        for value, own in self.functions.items():
            atoms = np.flatnonzero(kind == value)
            if not len(atoms):
                found.append(np.zeros((total, len(own.pick))))
                continue
            cross = self.covariance.products(self.covariance.of_structures(moving, atoms), self._rows[value])
            cross = cross if isinstance(self._rows[value], Rows) else cross[:, own.pick]
            found.append(scipy.linalg.solve_triangular(own.factor, cross.T, lower=True, check_finite=False).T)
        return np.concatenate(found, axis=1)

    def split(self, white: Float[np.ndarray, " d"]) -> Iterator[tuple[int, Functions, tuple[np.ndarray, np.ndarray]]]:
        """Of each kind its functions and their weights, from the weights of phi."""
        start = 0
        for kind, own in self.functions.items():
            yield kind, own, own.weights(white[start : start + len(own.pick)])
            start += len(own.pick)


def _taken(rows: Rows | Side, pick: Int[np.ndarray, " d"]) -> Rows | Side:
    """Some of the rows; of pairs all are computed, and some taken later."""
    return Rows(rows.counts[pick], rows.u[pick], rows.v[pick]) if isinstance(rows, Rows) else rows


def choose_functions(
    candidates: dict[int, Centres],
    covariance: Covariance,
    scales: tuple[float, float],
    count: int,
    rng: np.random.Generator,
) -> Basis:
    """The basis of at most ``count`` functions. scales: what k(., z) and derivatives count, in units of noise.

    Fewer where others add nothing, ``LEAST`` of their own variance.
    """
    rows = {kind: covariance.of_centres(own) for kind, own in candidates.items()}
    scale = {kind: np.repeat(scales, len(own.signals)) for kind, own in candidates.items()}
    own = {kind: _diagonal(covariance, candidates[kind], rows[kind]) * scale[kind] ** 2 for kind in candidates}
    left = {kind: values.copy() for kind, values in own.items()}
    columns = {kind: np.zeros((len(values), 0)) for kind, values in own.items()}
    picks = {kind: np.zeros(0, int) for kind in own}
    places = [(kind, place) for kind, values in own.items() for place in range(len(values))]
    while (missing := count - sum(map(len, picks.values()))) > 0:
        weights = np.concatenate([np.where(left[k] > LEAST * own[k], left[k], 0) for k in own])
        if not weights.any():
            break
        size = min(BLOCK, missing, np.count_nonzero(weights))
        drawn = rng.choice(len(places), size, replace=False, p=weights / weights.sum())
        for kind in own:
            new = np.array([places[i][1] for i in drawn if places[i][0] == kind], int)
            left[kind][new] = 0
            if len(new):
                kernel = _columns(covariance, candidates[kind], rows[kind], new)
                kernel = kernel * scale[kind][:, None] * scale[kind][new]
                new, added = _orthogonal(kernel - columns[kind] @ columns[kind][new].T, new, own[kind])
                columns[kind] = np.concatenate([columns[kind], added], axis=1)
                picks[kind] = np.concatenate([picks[kind], new])
                left[kind] -= np.einsum("ij,ij->i", added, added)
    found = {}
    for kind, pick in picks.items():
        if len(pick):
            atoms, place = np.unique(pick % len(candidates[kind].signals), return_inverse=True)
            derivative = pick >= len(candidates[kind].signals)
            factor = np.tril(columns[kind][pick]) / scale[kind][pick][:, None]
            found[kind] = Functions(candidates[kind].take(atoms), place + derivative * len(atoms), factor)
    return Basis(found, covariance)


def _diagonal(covariance: Covariance, centres: Centres, rows: Rows | Side) -> Float[np.ndarray, " f"]:
    """The variances of all functions."""
    if isinstance(rows, Rows):
        assert covariance.features is not None
        p0, p1, p2 = covariance.features.coefficients[covariance.kernel].tolist()
        return p0 * rows.counts**2 + p1 * np.sum(rows.u**2, axis=1) + p2 * np.einsum("ij,ij->i", rows.v, rows.v)
    own = [covariance.of_centres(centres.take(np.array([i]))) for i in range(len(centres.signals))]
    return np.concatenate(np.array([np.diag(covariance.products(one, one)) for one in own]).T)


def _columns(covariance: Covariance, centres: Centres, rows: Rows | Side, new: Int[np.ndarray, " s"]) -> np.ndarray:
    """The covariances of all functions with some."""
    if isinstance(rows, Rows):
        return covariance.products(rows, _taken(rows, new))
    atoms, place = np.unique(new % len(centres.signals), return_inverse=True)
    return covariance.products(rows, covariance.of_centres(centres.take(atoms)))[
        :, place + (new >= len(centres.signals)) * len(atoms)
    ]


def _orthogonal(
    rest: Float[np.ndarray, "f s"], new: Int[np.ndarray, " s"], own: Float[np.ndarray, " f"]
) -> tuple[Int[np.ndarray, " t"], Float[np.ndarray, "f t"]]:
    """Columns of the pivoted factor for new pivots, of which those are left out that the others span."""
    inside = rest[new]
    order, factor = _pivoted(inside / np.sqrt(np.outer(own[new], own[new])))
    chosen = new[order]
    scaled = factor * np.sqrt(own[chosen])[:, None]
    return chosen, scipy.linalg.solve_triangular(scaled, rest[:, order].T, lower=True).T


def _pivoted(matrix: Float[np.ndarray, "s s"]) -> tuple[Int[np.ndarray, " t"], Float[np.ndarray, "t t"]]:
    """Pivots of which more than ``LEAST`` is left, and the lower Cholesky factor of their matrix."""
    (pstrf,) = scipy.linalg.get_lapack_funcs(("pstrf",), (matrix,))
    factor, pivots, rank, _ = pstrf(matrix, tol=LEAST, lower=1)
    return pivots[:rank] - 1, np.tril(factor)[:rank, :rank]


class Triangle:
    """The least-squares problem as a triangular factor, into which rows are taken; unknowns w, then b."""

    def __init__(self, functions: int, columns: int):
        size = functions + columns + 1  # the last column holds y
        self.factor = np.zeros((size, size), order="F")
        self.factor[np.arange(functions), np.arange(functions)] = 1.0
        self.functions = functions

    def take(
        self, rows: Float[np.ndarray, "n d"], columns: Float[np.ndarray, "n r"], y: Float[np.ndarray, " n"]
    ) -> None:
        """More rows, divided by the roots of their noises."""
        (tpqrt,) = scipy.linalg.get_lapack_funcs(("tpqrt",), (self.factor,))
        block = np.asfortranarray(np.concatenate([rows, columns, y[:, None]], axis=1))
        self.factor, *_, info = tpqrt(0, min(PANEL, len(self.factor)), self.factor, block, overwrite_a=1, overwrite_b=1)
        assert info == 0

    def solve(self) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " r"], float]:
        """w, b and the least sum of squares; b of least norm where columns do not determine it."""
        upper = np.triu(self.factor)
        inside, y = upper[:-1, :-1], upper[:-1, -1]
        d = self.functions
        b = np.linalg.lstsq(inside[d:, d:], y[d:], rcond=None)[0]
        w = scipy.linalg.solve_triangular(inside[:d, :d], y[:d] - inside[:d, d:] @ b)
        return w, b, float(upper[-1, -1] ** 2)


class Block(NamedTuple):
    """Some structures moving, the kind of each atom, their rows among the targets, and which of their coordinates these are."""

    moving: Moving
    kind: Int[np.ndarray, " atoms"]
    rows: Int[np.ndarray, " r"]
    present: Bool[np.ndarray, " rows"]


def draw_candidates(
    blocks: Iterable[Block],
    atoms: int,
    count: int,
    motion: Callable[[Moving], Float[np.ndarray, " y"]],
    rng: np.random.Generator,
) -> dict[int, Centres]:
    """Candidates for ``count`` functions, drawn from all atoms in the blocks, each with a motion of its structure, by kind.

    ``CANDIDATES`` atoms for each function; where there are fewer atoms, each of them several times, with as many motions.
    """
    times = -(-CANDIDATES * count // atoms)
    drawn, start = np.zeros(atoms, bool), 0
    drawn[rng.permutation(atoms)[: CANDIDATES * count]] = True
    parts: dict[int, list[Centres]] = {}
    for block in blocks:
        moving, chosen = block.moving, drawn[start : start + len(block.kind)]
        start += len(block.kind)
        for _ in range(times):
            along = motion(moving)
            for kind in np.unique(block.kind[chosen]):
                some = np.flatnonzero(chosen & (block.kind == kind))
                own = Centres(moving.signals(some), moving.along(some, along), moving.environments.numbers[some])
                parts.setdefault(int(kind), []).append(own)
    return {kind: Centres(*map(np.concatenate, zip(*own, strict=True))) for kind, own in sorted(parts.items())}


class SparseFit(NamedTuple):
    """The basis, the weights of phi, the triangular factor of all rows (None if it was left out), and the potential where there is one."""

    basis: Basis
    white: Float[np.ndarray, " d"]
    triangle: Float[np.ndarray, "d d"] | None
    potential: Potential | None

    @classmethod
    def of(cls, basis: Basis, white: Float[np.ndarray, " d"], triangle: Float[np.ndarray, "d d"] | None) -> SparseFit:
        """With the potential of a kernel that is an inner product of features."""
        covariance = basis.covariance
        if covariance.features is None:
            return cls(basis, white, triangle, None)
        weights = {}
        for kind, own, (values, slopes) in basis.split(white):
            signals, directions, _ = own.centres
            all_of_one = np.full(len(signals), kind)
            weights |= weights_of(covariance.features, covariance.kernel, signals, directions * slopes[:, None, None],
                                  values, all_of_one)  # fmt: skip
        return cls(basis, white, triangle, Potential(covariance.features, weights))

    def means(self, moving: Moving, kind: Int[np.ndarray, " atoms"]) -> Float[np.ndarray, " rows"]:
        """Energies, then minus the derivatives in all coordinates."""
        if self.potential is not None:
            return self.potential(moving, kind)
        found = np.zeros(len(moving.environments) + int(moving.coordinates.sum()))
        for value, own, weights in self.basis.split(self.white):
            if np.any(kind == value):
                covariance = self.basis.covariance
                found += covariance.products(Side(moving), covariance.of_centres(own.centres)) @ np.concatenate(weights)
        return found

    def variances(
        self, moving: Moving, kind: Int[np.ndarray, " atoms"], prior: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        """Of the same, in units of the amplitude, given those before any data: DTC."""
        assert self.triangle is not None
        phi = self.basis.features(moving, kind).T
        white = scipy.linalg.solve_triangular(self.triangle, phi, trans=1, check_finite=False)
        outside = np.maximum(prior - np.einsum("ij,ij->j", phi, phi), 0)
        return outside + np.einsum("ij,ij->j", white, white)


def fit_functions(
    basis: Basis, blocks: Iterable[Block], targets: Targets, noises: tuple[float, ...]
) -> tuple[SparseFit, Float[np.ndarray, " r"], float]:
    """The fit, the coefficients of Q, and the amplitude s."""
    triangle = Triangle(len(basis), targets.basis.shape[1])
    scale = 1 / np.sqrt(targets.noise(noises))
    columns = targets.columns
    for block in blocks:
        rows = block.rows
        phi = basis.features(block.moving, block.kind)[block.present]
        triangle.take(phi * scale[rows, None], columns[rows] * scale[rows, None], targets.y[rows] * scale[rows])
    white, composition, least = triangle.solve()
    freedom = len(targets.y) - columns.shape[1]
    amplitude = float(np.sqrt(least / freedom)) if freedom else np.nan
    inside = np.triu(triangle.factor[: len(basis), : len(basis)])
    return SparseFit.of(basis, white, inside), composition, amplitude
