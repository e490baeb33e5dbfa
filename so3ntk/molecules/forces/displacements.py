r"""How the environments of atoms change when atoms move and cells are strained: the coefficients' derivatives.

A coefficient is a sum over neighbours, a_i = sum_j h(r_j - r_i), so all derivatives follow from those of one term in
its vector, three numbers for each edge:

.. math:: \frac{\partial a_i}{\partial r_j} = h'(r_j - r_i)\ (j \ne i), \qquad
          \frac{\partial a_i}{\partial r_i} = -\sum_j h'(r_j - r_i), \qquad
          \frac{\partial a_i}{\partial \epsilon} = \sum_j h'(r_j - r_i) \cdot \epsilon\,(r_j - r_i).

The coordinates of a structure are the positions of its atoms, atom by atom, and, if it is periodic, six strains in the order of
Voigt: a shear moves vectors by its symmetric matrix, so that energies have the derivative volume times stress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from so3ntk.basics.double import double_precision
from so3ntk.basics.shapes import rounded_up
from so3ntk.molecules.coefficients import common_factors, edge_terms, split_radial
from so3ntk.molecules.elements import species_numbers
from so3ntk.molecules.environments import Environments, environments
from so3ntk.molecules.neighbours import Edges, pairs_in_molecules, pairs_within
from so3ntk.molecules.radial import Shells
from so3ntk.molecules.strains import from_voigt, is_periodic

if TYPE_CHECKING:
    from ase import Atoms

#: Edges whose terms are differentiated at a time, at most and at least: 25 MiB at bandlimit 4 and four powers.
CHUNK, LEAST = 4096, 64
#: The symmetric matrices of the strains in the order of Voigt; a shear is shared by both sides of the diagonal.
STRAINS = np.stack([from_voigt(unit) / (1 if place < 3 else 2) for place, unit in enumerate(np.eye(6))])


class Moving(NamedTuple):
    """Environments of molecules and the derivatives of each edge's term, all in float64.

    slopes (edges, L^2, powers, 3) are in the channels of the neighbour's element: channel (edges,) is the first of them.
    vectors (edges, 3): from the centre to the neighbour. periodic (n,): which structures have strains among their coordinates.
    """

    environments: Environments
    edges: Edges
    channel: Int[np.ndarray, " edges"]
    slopes: Float[np.ndarray, "edges lm powers 3"]
    vectors: Float[np.ndarray, "edges 3"]
    periodic: Bool[np.ndarray, " n"]

    @property
    def sizes(self) -> Int[np.ndarray, " n"]:
        """Atoms of each molecule."""
        return np.bincount(self.environments.molecule, minlength=len(self.environments))

    def signals(self, atoms: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m lm c"]:
        """The coefficients of some atoms."""
        return np.asarray(self.environments.signal.coefficients)[atoms]

    @property
    def coordinates(self) -> Int[np.ndarray, " n"]:
        """How many each structure has: three for each atom, and six strains."""
        return 3 * self.sizes + 6 * self.periodic

    @property
    def strains(self) -> Bool[np.ndarray, " y"]:
        """Which of all coordinates are strains."""
        each = [np.repeat([False, True], [3 * n, 6 * p]) for n, p in zip(self.sizes, self.periodic, strict=True)]
        return np.concatenate(each)

    def tangents(self, atoms: Int[np.ndarray, " m"], width: int) -> Float[np.ndarray, "m lm c width"]:
        """The derivatives of some atoms' coefficients in their structures' coordinates, padded with zeros to ``width``."""
        if width == 0:
            return np.zeros((len(atoms), *self._shape, 0))
        rows, edges = self._edges_of(atoms)
        molecule = self.environments.molecule
        start = np.cumsum(self.sizes) - self.sizes
        place = 3 * (np.arange(len(molecule)) - start[molecule])
        out = np.zeros((len(atoms), *self._shape, width))

        def add(rows, edges, at, terms):
            for power in range(terms.shape[2]):
                np.add.at(out, (rows, slice(None), self.channel[edges] + power, at), terms[:, :, power])  # pyright: ignore[reportArgumentType, reportCallIssue]

        slopes = self.slopes[edges]
        for k in range(3):
            add(rows, edges, place[self.edges.neighbour[edges]] + k, slopes[..., k])
            add(rows, edges, place[self.edges.centre[edges]] + k, -slopes[..., k])
        owner = molecule[self.edges.centre[edges]]
        strained = np.flatnonzero(self.periodic[owner])
        if len(strained):
            some, first = edges[strained], 3 * self.sizes[owner[strained]]
            for v, strain in enumerate(STRAINS):
                terms = np.einsum("eapk,ek->eap", slopes[strained], self.vectors[some] @ strain)
                add(rows[strained], some, first + v, terms)
        return out

    def along(self, atoms: Int[np.ndarray, " m"], motion: Float[np.ndarray, " y"]) -> Float[np.ndarray, "m lm c"]:
        """The derivatives of some atoms' coefficients when all coordinates change at given rates."""
        rows, edges = self._edges_of(atoms)
        strains, centre = self.strains, self.edges.centre[edges]
        velocities = motion[~strains].reshape(-1, 3)
        relative = velocities[self.edges.neighbour[edges]] - velocities[centre]
        if strains.any():
            matrices = np.zeros((len(self.periodic), 3, 3))
            matrices[self.periodic] = np.tensordot(motion[strains].reshape(-1, 6), STRAINS, axes=1)
            matrix = matrices[self.environments.molecule[centre]]
            relative = relative + np.einsum("ekl,el->ek", matrix, self.vectors[edges])
        terms = np.einsum("eapk,ek->eap", self.slopes[edges], relative)
        out = np.zeros((len(atoms), *self._shape))
        for power in range(terms.shape[2]):
            np.add.at(out, (rows, slice(None), self.channel[edges] + power), terms[:, :, power])  # pyright: ignore[reportArgumentType, reportCallIssue]
        return out

    def forces(self, gradients: Float[np.ndarray, "atoms lm c"]) -> Float[np.ndarray, " y"]:
        """Minus the derivatives, in all coordinates, of what has such derivatives in the coefficients."""
        functions = self.slopes.shape[2]
        channels = self.channel[:, None] + np.arange(functions)
        along = gradients[self.edges.centre[:, None, None], np.arange(gradients.shape[1])[:, None], channels[:, None]]
        terms = np.einsum("eap,eapk->ek", along, self.slopes)
        forces = np.zeros((len(gradients), 3))
        np.add.at(forces, self.edges.centre, terms)
        np.subtract.at(forces, self.edges.neighbour, terms)
        strains = self.strains
        found = np.zeros(len(strains))
        found[~strains] = forces.ravel()
        if strains.any():
            outer = np.zeros((len(self.periodic), 3, 3))
            np.add.at(outer, self.environments.molecule[self.edges.centre], terms[:, :, None] * self.vectors[:, None])
            found[strains] = -np.einsum("nkl,vkl->nv", outer[self.periodic], STRAINS).ravel()
        return found

    @property
    def _shape(self) -> tuple[int, int]:
        _, rows, channels = self.environments.signal.coefficients.shape
        return rows, channels

    def _edges_of(self, atoms: Int[np.ndarray, " m"]) -> tuple[np.ndarray, np.ndarray]:
        """The edges that begin at the atoms, and for each the place of its atom among these."""
        row = np.full(len(self.environments.molecule), -1)
        row[atoms] = np.arange(len(atoms))
        edges = np.flatnonzero(row[self.edges.centre] >= 0)
        return row[self.edges.centre[edges]], edges


def moving_environments(atoms: Sequence[Atoms], settings: Mapping[str, Any]) -> Moving:
    """The environments of molecules, ``environments(atoms, **settings)`` in float64, with their derivatives.

    Memory: 24 L^2 powers bytes for each ordered pair of neighbours (1.5 kB at bandlimit 4 and four powers). Raises what
    ``environments`` raises.
    """
    atoms = list(atoms)
    with double_precision():
        envs = environments(atoms, **{**settings, "dtype": "float64"})
        basis = _Basis.of(settings, envs.signal.bandlimit)
        cutoff = basis.reach
        edges = pairs_in_molecules(envs.molecule) if cutoff is None else pairs_within(atoms, cutoff)
        positions = np.concatenate([molecule.positions for molecule in atoms])
        vectors = positions[edges.neighbour] - positions[edges.centre]
        if edges.offsets is not None:
            vectors = vectors + np.asarray(edges.offsets)
        charges = (envs.numbers[edges.centre] * envs.numbers[edges.neighbour]).astype(float)
        elements = species_numbers(settings.get("species", ("H", "C", "N", "O", "F")), "environments")
        slopes = _all_slopes(vectors, charges, basis, len(elements))
    row = np.searchsorted(elements, envs.numbers[edges.neighbour], sorter=np.argsort(elements))
    channel = np.argsort(elements)[row] * slopes.shape[2]
    periodic = np.array([is_periodic(molecule) for molecule in atoms])
    return Moving(envs, edges, channel, slopes, vectors, periodic)


class _Basis(NamedTuple):
    """The radial functions of ``environments(atoms, **settings)``."""

    shells: Shells | None
    powers: tuple
    length: float
    cutoff: float | None
    angular_width: Any
    bandlimit: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], bandlimit: int) -> _Basis:
        """As ``environments`` reads them."""
        cutoff, angular_width = settings.get("cutoff"), settings.get("angular_width")
        powers, length, shells = split_radial(settings.get("radial"), settings.get("powers", (2, 6)), settings.get("length", 1.0),
                                              cutoff, angular_width, "environments")  # fmt: skip
        powers = tuple(powers) if np.iterable(powers) else (powers,)
        return cls(shells, powers, float(length), cutoff, angular_width, bandlimit)

    @property
    def reach(self) -> float | None:
        """Beyond it neighbours count for nothing."""
        return self.cutoff if self.shells is None else self.shells.cutoff


def _all_slopes(vectors, charges, basis: _Basis, n_elements: int) -> Float[np.ndarray, "edges lm functions 3"]:
    shells, powers, length, cutoff, angular_width, bandlimit = basis
    factor = np.asarray(common_factors(shells, powers, length, angular_width, bandlimit, n_elements, np.float64))
    parts = [np.zeros((0, *factor.shape, 3))]
    for start in range(0, len(vectors), CHUNK):
        part = slice(start, start + CHUNK)
        size = min(CHUNK, rounded_up(len(vectors[part]), LEAST))
        padding = size - len(vectors[part])
        padded = np.concatenate([vectors[part], np.tile([[0.0, 0.0, 1.0]], (padding, 1))])
        slopes = _slopes(padded, np.pad(charges[part], (0, padding)), shells, powers, bandlimit, cutoff)
        parts.append(np.asarray(slopes)[: size - padding] * factor[..., None])
    return np.concatenate(parts)


@partial(jax.jit, static_argnames=("powers", "bandlimit", "cutoff"))
def _slopes(vectors, charges, shells, powers, bandlimit, cutoff):
    """The derivative of each edge's w Y_lm in its vector."""

    def terms(vectors):
        return edge_terms(vectors, charges, shells, powers, bandlimit, cutoff)

    axes = jnp.eye(3, dtype=vectors.dtype)
    along = lambda axis: jax.jvp(terms, (vectors,), (jnp.broadcast_to(axis, vectors.shape),))[1]  # noqa: E731
    return jnp.moveaxis(jax.lax.map(along, axes), 0, -1)
