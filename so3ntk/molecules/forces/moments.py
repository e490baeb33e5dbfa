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
#: Atoms whose gradients are computed at a time.
GRADIENTS = 64


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
    features: FeatureMap, kernel: str, moving: Moving, kind: Int[np.ndarray, " atoms"], alpha: Float[np.ndarray, " r"]
) -> dict[int, Weights]:
    """The weights of sum_r alpha_r (row r) by kind; alpha: of all energies, then of all forces if there are any.

    The forces of a molecule count together, as one derivative along alpha: dv(f_i) of sum_x alpha_x df_i / dR_x.
    """
    n = len(moving.environments)
    own = alpha[:n][moving.environments.molecule]
    velocities = alpha[n:].reshape(-1, 3) if len(alpha) > n else np.zeros((len(own), 3))
    p0, p1, p2 = features.coefficients[kernel].tolist()
    found = {}
    with double_precision():
        for value in np.unique(kind):
            atoms, total = np.flatnonzero(kind == value), None
            for start in range(0, len(atoms), GRADIENTS):
                some = atoms[start : start + GRADIENTS]
                arrays = moving.signals(some), moving.along(some, velocities)[..., 0], own[some]
                padded = (_filled(array, GRADIENTS) for array in arrays)
                sums = [np.asarray(a) for a in _combined(features.geometry, *padded)]
                total = sums if total is None else [a + b for a, b in zip(total, sums, strict=True)]
            assert total is not None
            found[int(value)] = Weights(p0 * float(own[atoms].sum()), p1 * total[0], p2 * total[1])
    return found


@eqx.filter_jit
def _combined(
    geometry: Geometry,
    signals: Float[Array | np.ndarray, "a p c"],
    along: Float[Array | np.ndarray, "a p c"],
    own: Float[Array | np.ndarray, " a"],
) -> tuple[Float[Array, " k"], Float[Array, " q"]]:
    """sum_i own_i u(f_i) - du(f_i)[along_i], and the same of v."""

    def one(arrays):
        signal, direction, factor = arrays
        values, slopes = jax.jvp(lambda s: geometry.moments(s[None]), (signal,), (direction,))
        return [factor * value - slope for value, slope in zip(values, slopes, strict=True)]

    u, v = jax.lax.map(one, (signals, along, own), batch_size=8)
    return u.sum(axis=0), v.sum(axis=0)


def rows_of(features: FeatureMap, moving: Moving, atoms: Int[np.ndarray, " m"], forces: bool) -> Rows:
    """The rows of some atoms, ascending, all of one kind: all energies, then all forces if these are asked for."""
    n, sizes = len(moving.environments), moving.sizes
    owner = moving.environments.molecule[atoms]
    total = n + 3 * int(sizes.sum()) * forces
    starts = n + 3 * (np.cumsum(sizes) - sizes)
    counts = np.zeros(total)
    counts[:n] = np.bincount(owner, minlength=n)
    u = v = None
    for molecules, found in _dispatches(features.geometry, moving, atoms, owner, forces):
        for molecule, (value_u, value_v, slope_u, slope_v) in zip(molecules, found, strict=True):
            if u is None or v is None:
                u, v = np.zeros((total, len(value_u))), np.zeros((total, len(value_v)))
            u[molecule], v[molecule] = value_u, value_v
            if forces:
                rows = slice(starts[molecule], starts[molecule] + 3 * sizes[molecule])
                u[rows], v[rows] = -slope_u[: 3 * sizes[molecule]], -slope_v[: 3 * sizes[molecule]]
    assert u is not None
    assert v is not None
    return Rows(counts, u, v)


def _dispatches(
    geometry: Geometry, moving: Moving, atoms: Int[np.ndarray, " m"], owner: Int[np.ndarray, " m"], forces: bool
) -> Iterator[tuple[np.ndarray, list[tuple[np.ndarray, ...]]]]:
    """Molecules of like size, and their features and derivatives, a few at a time: each size is a program."""
    present, counts = np.unique(owner, return_counts=True)
    widths = COORDINATES * -(-3 * moving.sizes[present] // COORDINATES) * forces
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


def moment_gram(
    features: FeatureMap, kernel: str, x1: Side, kind1: Int[np.ndarray, " a"], x2: Side | None, kind2: Int[np.ndarray, " b"],
    report: Callable[[int], Any],
) -> Float[np.ndarray, "rows columns"]:  # fmt: skip
    """The covariances of two sides (x2 None: of x1 with itself), given the kind of each atom; report: told how many atoms are done."""
    with double_precision():
        total = np.zeros((x1.count, (x1 if x2 is None else x2).count))
        for kind in np.intersect1d(kind1, kind2):
            atoms = np.flatnonzero(kind1 == kind)
            rows = rows_of(features, x1.moving, atoms, x1.forces)
            columns = rows if x2 is None else rows_of(features, x2.moving, np.flatnonzero(kind2 == kind), x2.forces)
            total += rows.products(columns, features.coefficients[kernel])
            report(len(atoms))
    return total


class Potential(NamedTuple):
    """Energies and forces linear in the features of atoms."""

    features: FeatureMap
    weights: dict[int, Weights]

    def __call__(self, moving: Moving, kind: Int[np.ndarray, " atoms"]) -> Float[np.ndarray, " rows"]:
        """All energies, then all forces; atoms of a kind without weights have no energy of their own."""
        signals = np.asarray(moving.environments.signal.coefficients)
        energies, gradients = np.zeros(len(signals)), np.zeros(signals.shape)
        with double_precision():
            for value, own in self.weights.items():
                atoms = np.flatnonzero(kind == value)
                for start in range(0, len(atoms), GRADIENTS):
                    some = atoms[start : start + GRADIENTS]
                    padded = _filled(signals[some], GRADIENTS)
                    found, slopes = _gradients(self.features.geometry, jnp.asarray(own.u), jnp.asarray(own.v), padded)
                    energies[some] = own.constant + np.asarray(found)[: len(some)]
                    gradients[some] = np.asarray(slopes)[: len(some)]
        molecules = np.bincount(moving.environments.molecule, energies, minlength=len(moving.environments))
        return np.concatenate([molecules, moving.forces(gradients).ravel()])


@eqx.filter_jit
def _gradients(
    geometry: Geometry,
    weights_u: Float[Array, " k"],
    weights_v: Float[Array, " q"],
    signals: Float[Array | np.ndarray, "a p c"],
) -> tuple[Float[Array, " a"], Float[Array, "a p c"]]:
    """The energies of atoms without the constant, and their gradients in the coefficients."""

    def energy(signal):
        u, v = geometry.moments(signal[None])
        return u @ weights_u + v @ weights_v

    return jax.vmap(jax.value_and_grad(energy))(signals)
