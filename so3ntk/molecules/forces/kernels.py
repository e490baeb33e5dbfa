r"""Covariances of energies and forces: a kernel of molecules and its derivatives in the positions.

With E a Gaussian process of covariance k(M, M') = sum_ij kappa(a_i, b_j) over atoms (of equal elements) and forces
F = -dE/dR,

.. math:: \mathrm{cov}(E, E') = k, \quad \mathrm{cov}(E, F'_y) = -\partial_{R'_y} k, \quad
          \mathrm{cov}(F_x, F'_y) = \partial_{R_x} \partial_{R'_y} k
          = \sum_{ij} \frac{\partial a_i}{\partial R_x} \cdot \frac{\partial^2 \kappa(a_i, b_j)}{\partial a\, \partial b}
            \cdot \frac{\partial b_j}{\partial R'_y}.

Second derivatives of the coefficients do not enter. Atoms of one element are taken a batch at a time, so that one
compiled program serves many molecules, and memory beyond the result is bounded (``energy_force_gram``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from so3ntk.basics.double import double_precision
from so3ntk.basics.progress import show_progress
from so3ntk.engine.evaluation.sums import add_mirror_image
from so3ntk.engine.network import Network, check_get
from so3ntk.engine.plan import make_plan
from so3ntk.molecules.forces.displacements import Moving
from so3ntk.molecules.forces.moments import moment_gram, side_rows
from so3ntk.molecules.forces.pair_derivatives import PairDerivatives, pair_derivatives

if TYPE_CHECKING:
    from so3ntk.molecules.forces.inducing import Inducing

#: Molecules that one batch of atoms may belong to.
SLOTS = 16
#: Coordinates are padded to a multiple of this: molecules of up to 8, 16, 24, ... atoms share a program.
COORDINATES = 24


class Side(NamedTuple):
    """One side of a covariance matrix.

    moving: structures, or atoms that stand for themselves (``inducing.Inducing``). forces: whether its rows hold forces after the
    energies, minus the derivatives in all coordinates. directions, instead, of each atom's coefficients: its rows hold, after the
    energies, minus the derivatives of these along the directions, one for each structure.
    """

    moving: Moving | Inducing
    forces: bool = True
    directions: Float[np.ndarray, "atoms lm c"] | None = None

    @property
    def count(self) -> int:
        """Rows of the matrix."""
        n = len(self.moving.environments)
        return n + (n if self.directions is not None else int(self.moving.coordinates.sum()) if self.forces else 0)

    def rows(self, molecules: Int[np.ndarray, " m"], width: int) -> Int[np.ndarray, "m 1+{width}"]:
        """The rows of the energies and, padded with -1, the forces of some molecules."""
        n, sizes = len(self.moving.environments), self.moving.coordinates
        start = n + np.cumsum(sizes) - sizes
        if self.directions is not None:
            start, length = n + np.arange(n), np.ones(n, int)
        else:
            length = sizes * self.forces
        steps = np.arange(width)
        forces = np.where(steps < length[molecules, None], start[molecules, None] + steps, -1)
        return np.concatenate([molecules[:, None], forces], axis=1)


class Batch(NamedTuple):
    """Some atoms of one kind, of up to SLOTS molecules; slot says which, in ``molecules``."""

    kind: int
    atoms: Int[np.ndarray, " m"]
    molecules: Int[np.ndarray, " slots"]
    slot: Int[np.ndarray, " m"]

    def load(self, side: Side, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signals and minus their derivatives, padded to ``size`` by the first, and the slots; -1 for padding."""
        moving = side.moving
        if side.directions is not None:
            slopes = side.directions[self.atoms][..., None]
        else:
            assert isinstance(moving, Moving)
            slopes = moving.tangents(self.atoms, self.width(side))
        pad = lambda x: np.concatenate([x, np.repeat(x[:1], size - len(x), axis=0)])  # noqa: E731
        slot = np.concatenate([self.slot, np.full(size - len(self.slot), -1)])
        return pad(moving.signals(self.atoms)), -pad(slopes), slot

    def width(self, side: Side) -> int:
        """Directions: padded coordinates, or one."""
        if side.directions is not None:
            return 1
        most = int(side.moving.coordinates[self.molecules].max())
        return COORDINATES * -(-most // COORDINATES) if side.forces else 0


def energy_force_gram(
    net: Network, x1: Side, x2: Side | None = None, kernel: str = "ntk", progress: bool = True
) -> Float[np.ndarray, "rows columns"]:
    """The covariances of all energies, then all forces, of two sides (x2 None: of x1 with itself), in float64.

    Rows are the energies of the structures and then, for each one, the forces in the order of the atoms, (x, y, z) of each, and minus the
    derivatives in the strains if it is periodic; in the kernel's unit, per Angstrom for each force. Symmetric to the bit when x2 is None. The network ends with ``AtomSum``.

    Memory beyond the result, in bytes, for batches of n atoms (64 in closed form, 8 else), p blocks (84 at bandlimit 4),
    L^2 C coefficients and y coordinates (a molecule's, rounded up to a multiple of 24): 8 n (p^2 + 3 p y + 4 L^2 C y) +
    2048 y^2, which is 70 MB for molecules of 16 atoms and 4 x 4 channels; and the tables of the grid. Where kernels are inner products
    of q features (``moments``; L C (C + 1) / 2), 8 q bytes for each row and column, and the products of one element once more.
    Raises ValueError and TypeError as ``gram``; NotImplementedError for layers after ``AtomSum``.
    """
    check_get(kernel)
    symmetric = x2 is None
    other = x1 if x2 is None else x2
    with double_precision():
        plan = make_plan(net.layers, net.quadrature, net.rtol, *(side.moving.environments for side in (x1, other)))
        if plan.tail:
            raise NotImplementedError(
                "energy_force_gram: expected a network that ends with AtomSum(); put other layers before."
            )
        if plan.features is not None:
            coefficients = plan.features.coefficients[kernel]
            with show_progress(len(plan.rows.kind), " atoms", "Forces", progress) as bar:
                rows = side_rows(plan.features, x1, np.asarray(plan.rows.kind), bar.update)
                columns = rows if symmetric else side_rows(plan.features, other, np.asarray(plan.columns.kind))
            return moment_gram(coefficients, rows, columns, (x1.count, other.count))
        pairs = pair_derivatives(plan.evaluation, kernel)
        rows = _batches(x1, plan.rows.kind, pairs.batch)
        columns = rows if symmetric else _batches(other, plan.columns.kind, pairs.batch)
        work = [
            (a, b) for i, a in enumerate(rows) for b in (columns[: i + 1] if symmetric else columns) if a.kind == b.kind
        ]
        total = np.zeros((x1.count, other.count))
        with show_progress(sum(len(a.atoms) * len(b.atoms) for a, b in work), " pairs", "Forces", progress) as bar:
            for a, b in work:
                block = _block(pairs, x1, a, other, b)
                _add(total, block / 2 if symmetric and a is b else block, x1, a, other, b)
                bar.update(len(a.atoms) * len(b.atoms))
    if symmetric:
        add_mirror_image(total)
    return total


def _batches(side: Side, kind: Int[np.ndarray, " atoms"], most: int) -> list[Batch]:
    """The atoms of each kind, those of small molecules first, in batches."""
    owner = side.moving.environments.molecule
    order = np.lexsort((np.arange(len(owner)), owner, side.moving.sizes[owner]))
    batches = []
    for value in np.unique(kind):
        atoms = order[kind[order] == value]
        while len(atoms):
            changes = np.cumsum(np.diff(owner[atoms], prepend=owner[atoms[0]]) != 0)
            taken = min(most, int(np.searchsorted(changes, SLOTS)))
            first = owner[atoms[:taken]]
            place = changes[:taken]
            batches.append(
                Batch(int(value), atoms[:taken], first[np.searchsorted(place, np.arange(place[-1] + 1))], place)
            )
            atoms = atoms[taken:]
    return batches


def _block(pairs: PairDerivatives, x1: Side, a: Batch, x2: Side, b: Batch) -> Float[np.ndarray, "slots x slots y"]:
    sizes = [min(pairs.batch, 2 ** max(4, (len(batch.atoms) - 1).bit_length())) for batch in (a, b)]
    first, second = a.load(x1, sizes[0]), b.load(x2, sizes[1])
    return np.asarray(_sum_pairs(pairs, jnp.asarray(len(a.atoms)), *first, *second))


@eqx.filter_jit
def _sum_pairs(pairs: PairDerivatives, count: Array, a, da, slot_a, b, db, slot_b) -> Float[Array, "slots x slots y"]:
    """The sum of the atoms' blocks by molecule, one atom of the first batch after another."""
    belongs = (slot_b == np.arange(SLOTS)[:, None]).astype(b.dtype)

    def add(i, total):
        values, gradients = pairs(a[i], b, db)
        values, gradients = (jnp.tensordot(belongs, x, axes=1) for x in (values, gradients))
        rows = jnp.concatenate([values[None], jnp.einsum("pcx,spcy->xsy", da[i], gradients)])
        return total.at[slot_a[i]].add(rows)

    shape = (SLOTS, 1 + da.shape[-1], SLOTS, 1 + db.shape[-1])
    return jax.lax.fori_loop(0, count, add, jnp.zeros(shape, b.dtype))


def _add(total: np.ndarray, block: np.ndarray, x1: Side, a: Batch, x2: Side, b: Batch) -> None:
    """Add a block to the rows and columns of its molecules."""
    rows, columns = x1.rows(a.molecules, a.width(x1)), x2.rows(b.molecules, b.width(x2))
    block = block[: len(a.molecules), :, : len(b.molecules)].reshape(rows.size, columns.size)
    kept = np.flatnonzero(rows.ravel() >= 0), np.flatnonzero(columns.ravel() >= 0)
    total[np.ix_(rows.ravel()[kept[0]], columns.ravel()[kept[1]])] += block[np.ix_(*kept)]
