r"""Covariances of energies and forces where kernels are inner products of features, and potentials linear in these.

A kernel p_0 n n' + p_1 U.U' + p_2 V.V' of two molecules' sums of features (``engine.evaluation.moments``) has the derivatives

.. math:: -\partial_{R_x} k = -p_1\, \partial_x U \cdot U' - p_2\, \partial_x V \cdot V', \qquad
          \partial_x V = \sum_i dv(f_i)\Big[\frac{\partial f_i}{\partial R_x}\Big],

so a force is a row of features as an energy is, and all covariances are inner products of rows: no pair of atoms is formed.
What was fitted is one vector of weights for each element, W = sum_r alpha_r (row r), whatever the number of molecules:

.. math:: E(M) = \sum_i g_{e(i)}(f_i), \quad g_e(f) = p_0 w_e + p_1 W^u_e \cdot u(f) + p_2 W^v_e \cdot v(f), \qquad
          F_x = -\sum_i \nabla g_{e(i)}(f_i) \cdot \frac{\partial f_i}{\partial R_x}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from so3ntk.basics.double import double_precision
from so3ntk.engine.evaluation.moments import FeatureMap, inner_products
from so3ntk.engine.geometry import Geometry
from so3ntk.molecules.forces.displacements import Moving

if TYPE_CHECKING:
    from so3ntk.molecules.forces.kernels import Side

#: Molecules of one dispatch; atoms of a kind and coordinates are padded to a multiple of these.
MOLECULES, ATOMS, COORDINATES = 4, 4, 24
#: Atoms whose gradients are computed at a time, and those of a molecule in a program of its own.
GRADIENTS, FEW = 64, 8


class Rows(NamedTuple):
    """Of one kind of atoms, a row for each energy and then each force: how many atoms, and U and V or minus their derivatives."""

    counts: Float[np.ndarray, " r"]
    u: Float[np.ndarray, "r k"]
    v: Float[np.ndarray, "r q"]

    def products(self, other: Rows, coefficients: Float[np.ndarray, " j"]) -> Float[np.ndarray, "r s"]:
        """The covariances of rows; symmetric to the bit of rows with themselves."""
        p0, p1, p2 = coefficients.tolist()
        found = p0 * np.multiply.outer(self.counts, other.counts)
        for p, a, b in ((p1, self.u, other.u), (p2, self.v, other.v)):
            if p:
                found += p * inner_products(a, b)
        return found


class Weights(NamedTuple):
    """Those of one kind of atoms: p_0 w, p_1 W^u and p_2 W^v."""

    constant: float
    u: Float[np.ndarray, " k"]
    v: Float[np.ndarray, " q"]


def weights_of(
    features: FeatureMap,
    kernel: str,
    signals: Float[np.ndarray, "atoms lm c"],
    directions: Float[np.ndarray, "atoms lm c"],
    own: Float[np.ndarray, " atoms"],
    kind: Int[np.ndarray, " atoms"],
) -> dict[int, Weights]:
    """The weights of sum_i own_i (row of atom i) - (row of its derivative along its direction), by kind.

    The derivatives of a structure count together, as one along sum_x alpha_x df_i / dR_x.
    """
    p0, p1, p2 = features.coefficients[kernel].tolist()
    found = {}
    for value in np.unique(kind):
        atoms = np.flatnonzero(kind == value)
        u, v, slope_u, slope_v = directed(features, signals[atoms], directions[atoms], own[atoms])
        found[int(value)] = Weights(p0 * float(own[atoms].sum()), p1 * (u - slope_u), p2 * (v - slope_v))
    return found


def directed(
    features: FeatureMap,
    signals: Float[np.ndarray, "atoms lm c"],
    directions: Float[np.ndarray, "atoms lm c"],
    own: Float[np.ndarray, " atoms"] | None = None,
) -> tuple[np.ndarray, ...]:
    """u and v of atoms and their derivatives along directions, (atoms, k) and (atoms, q); sums of own_i u, own_i v and the derivatives for own."""
    parts = []
    with double_precision():
        for start in range(0, len(signals), GRADIENTS):
            some = slice(start, start + GRADIENTS)
            padded = [_filled(array[some], GRADIENTS) for array in (signals, directions)]
            found = [np.asarray(a)[: len(signals[some])] for a in _directed(features.geometry, *padded)]
            if own is not None:
                ones = np.ones(len(own[some]))
                found = [f @ a for f, a in zip((own[some], own[some], ones, ones), found, strict=True)]
            parts.append(found)
    join = np.concatenate if own is None else np.sum
    return tuple(join(each, axis=0) for each in zip(*parts, strict=True))


@eqx.filter_jit
def _directed(
    geometry: Geometry, signals: Float[Array | np.ndarray, "a p c"], along: Float[Array | np.ndarray, "a p c"]
) -> tuple[Float[Array, "a k"], Float[Array, "a q"], Float[Array, "a k"], Float[Array, "a q"]]:
    """Of each atom u, v and their derivatives."""

    def one(arrays):
        values, slopes = jax.jvp(lambda s: geometry.moments(s[None]), arrays[:1], arrays[1:])
        return *values, *slopes

    return jax.lax.map(one, (signals, along), batch_size=8)


def rows_of(features: FeatureMap, moving: Moving, atoms: Int[np.ndarray, " m"], forces: bool) -> Rows:
    """The rows of some atoms, ascending, all of one kind: all energies, then all forces if these are asked for."""
    n, sizes = len(moving.environments), moving.coordinates
    owner = moving.environments.molecule[atoms]
    total = n + int(sizes.sum()) * forces
    starts = n + np.cumsum(sizes) - sizes
    counts = np.zeros(total)
    counts[:n] = np.bincount(owner, minlength=n)
    u = v = None
    for molecules, found in _dispatches(features.geometry, moving, atoms, owner, forces):
        for molecule, (value_u, value_v, slope_u, slope_v) in zip(molecules, found, strict=True):
            if u is None or v is None:
                u, v = np.zeros((total, len(value_u))), np.zeros((total, len(value_v)))
            u[molecule], v[molecule] = value_u, value_v
            if forces:
                rows = slice(starts[molecule], starts[molecule] + sizes[molecule])
                u[rows], v[rows] = -slope_u[: sizes[molecule]], -slope_v[: sizes[molecule]]
    assert u is not None
    assert v is not None
    return Rows(counts, u, v)


def _dispatches(
    geometry: Geometry, moving: Moving, atoms: Int[np.ndarray, " m"], owner: Int[np.ndarray, " m"], forces: bool
) -> Iterator[tuple[np.ndarray, list[tuple[np.ndarray, ...]]]]:
    """Molecules of like size, and their features and derivatives, a few at a time: each size is a program."""
    present, counts = np.unique(owner, return_counts=True)
    widths = COORDINATES * -(-moving.coordinates[present] // COORDINATES) * forces
    most = ATOMS * -(-counts // ATOMS)
    for width, held in sorted(set(zip(widths.tolist(), most.tolist(), strict=True))):
        alike = present[(widths == width) & (most == held)]
        for start in range(0, len(alike), MOLECULES):
            molecules = alike[start : start + MOLECULES]
            signals, slopes = zip(*(_padded(moving, atoms[owner == m], held, width) for m in molecules), strict=True)
            filled = [_filled(np.stack(each), MOLECULES) for each in (signals, slopes)]
            values = [np.asarray(value) for value in _features_and_slopes(geometry, *filled)]
            yield molecules, list(zip(*values, strict=True))[: len(molecules)]


def _padded(moving: Moving, atoms: Int[np.ndarray, " m"], held: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (held, lm, c) of a molecule's atoms and their derivatives (held, lm, c, width), with zeros beyond them."""
    return _filled(moving.signals(atoms), held), _filled(moving.tangents(atoms, width), held)


def _filled(array: np.ndarray, length: int) -> np.ndarray:
    """With zeros up to a length."""
    return np.pad(array, ((0, length - len(array)), *[(0, 0)] * (array.ndim - 1)))


@eqx.filter_jit
def _features_and_slopes(
    geometry: Geometry, signals: Float[Array | np.ndarray, "m a p c"], slopes: Float[Array | np.ndarray, "m a p c w"]
) -> tuple[Array, Array, Array, Array]:
    """U and V of molecules, (m, k) and (m, q), and their derivatives along each direction, (m, w, k) and (m, w, q)."""

    def one(signal, slope):
        values, derivative = jax.linearize(geometry.moments, signal)
        return *values, *jax.lax.map(derivative, jnp.moveaxis(slope, -1, 0), batch_size=COORDINATES)

    return jax.lax.map(lambda pair: one(*pair), (signals, slopes))


def side_rows(
    features: FeatureMap, side: Side, kind: Int[np.ndarray, " a"], report: Callable[[int], Any] = lambda atoms: None
) -> dict[int, Rows]:
    """The rows of a side by kind, given the kind of each atom; report: told how many atoms are done."""
    found = {}
    with double_precision():
        for value in np.unique(kind):
            atoms = np.flatnonzero(kind == value)
            if side.directions is None:
                assert isinstance(side.moving, Moving)
                found[int(value)] = rows_of(features, side.moving, atoms, side.forces)
            else:
                found[int(value)] = directed_rows(features, side, atoms)
            report(len(atoms))
    return found


def directed_rows(features: FeatureMap, side: Side, atoms: Int[np.ndarray, " m"]) -> Rows:
    """One for each structure's energy, and one for its derivative along the directions."""
    assert side.directions is not None
    n, owner = len(side.moving.environments), side.moving.environments.molecule[atoms]
    u, v, slope_u, slope_v = directed(features, side.moving.signals(atoms), side.directions[atoms])

    def sums(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        total = np.zeros((2 * n, values.shape[1]))
        np.add.at(total, owner, values)
        np.subtract.at(total, n + owner, slopes)
        return total

    counts = np.concatenate([np.bincount(owner, minlength=n), np.zeros(n)])
    return Rows(counts, sums(u, slope_u), sums(v, slope_v))


def moment_gram(
    coefficients: Float[np.ndarray, " j"], rows: dict[int, Rows], columns: dict[int, Rows], shape: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """The covariances of two sides, or of one with itself."""
    total = np.zeros(shape)
    with double_precision():
        for kind in sorted(rows.keys() & columns.keys()):
            total += rows[kind].products(columns[kind], coefficients)
    return total


class Potential(NamedTuple):
    """Energies and forces linear in the features of atoms."""

    features: FeatureMap
    weights: dict[int, Weights]

    def __call__(self, moving: Moving, kind: Int[np.ndarray, " atoms"]) -> Float[np.ndarray, " rows"]:
        """All energies, then minus the derivatives in all coordinates; atoms of a kind without weights have no energy of their own."""
        signals = np.asarray(moving.environments.signal.coefficients)
        energies, gradients = np.zeros(len(signals)), np.zeros(signals.shape)
        with double_precision():
            for value, own in self.weights.items():
                atoms = np.flatnonzero(kind == value)
                for start in range(0, len(atoms), GRADIENTS):
                    some = atoms[start : start + GRADIENTS]
                    padded = _filled(signals[some], FEW if len(some) <= FEW else GRADIENTS)
                    found, slopes = _gradients(self.features.geometry, own.u, own.v, padded)
                    energies[some] = own.constant + np.asarray(found)[: len(some)]
                    gradients[some] = np.asarray(slopes)[: len(some)]
        molecules = np.bincount(moving.environments.molecule, energies, minlength=len(moving.environments))
        return np.concatenate([molecules, moving.forces(gradients)])


@eqx.filter_jit
def _gradients(
    geometry: Geometry,
    weights_u: Float[Array | np.ndarray, " k"],
    weights_v: Float[Array | np.ndarray, " q"],
    signals: Float[Array | np.ndarray, "a p c"],
) -> tuple[Float[Array, " a"], Float[Array, "a p c"]]:
    """The energies of atoms without the constant, and their gradients in the coefficients."""

    def energy(signal):
        u, v = geometry.moments(signal[None])
        return u @ weights_u + v @ weights_v

    return jax.vmap(jax.value_and_grad(energy))(signals)
