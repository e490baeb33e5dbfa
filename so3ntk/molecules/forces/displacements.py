r"""How the environments of atoms change when atoms move: the coefficients' derivatives in the positions.

A coefficient is a sum over neighbours, a_i = sum_j h(r_j - r_i), so all derivatives follow from those of one term in
its vector, three numbers for each edge:

.. math:: \frac{\partial a_i}{\partial r_j} = h'(r_j - r_i)\ (j \ne i), \qquad
          \frac{\partial a_i}{\partial r_i} = -\sum_j h'(r_j - r_i).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.double import double_precision
from so3ntk.basics.shapes import rounded_up
from so3ntk.molecules.coefficients import common_factors, edge_terms, split_radial
from so3ntk.molecules.elements import species_numbers
from so3ntk.molecules.environments import Environments, environments
from so3ntk.molecules.neighbours import Edges, pairs_in_molecules, pairs_within
from so3ntk.molecules.radial import Shells

if TYPE_CHECKING:
    from ase import Atoms

#: Edges whose terms are differentiated at a time, at most and at least: 25 MiB at bandlimit 4 and four powers.
CHUNK, LEAST = 4096, 64


class Moving(NamedTuple):
    """Environments of molecules and the derivatives of each edge's term, all in float64.

    slopes (edges, L^2, powers, 3) are in the channels of the neighbour's element: channel (edges,) is the first of them.
    """

    environments: Environments
    edges: Edges
    channel: Int[np.ndarray, " edges"]
    slopes: Float[np.ndarray, "edges lm powers 3"]

    @property
    def sizes(self) -> Int[np.ndarray, " n"]:
        """Atoms of each molecule."""
        return np.bincount(self.environments.molecule, minlength=len(self.environments))

    def signals(self, atoms: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m lm c"]:
        """The coefficients of some atoms."""
        return np.asarray(self.environments.signal.coefficients)[atoms]

    def tangents(self, atoms: Int[np.ndarray, " m"], width: int) -> Float[np.ndarray, "m lm c width"]:
        """The derivatives of some atoms' coefficients in their molecules' coordinates, padded with zeros to ``width``.

        Coordinate 3 s + k is direction k of the molecule's atom s.
        """
        if width == 0:
            return np.zeros((len(atoms), *self._shape, 0))
        rows, edges = self._edges_of(atoms)
        start = np.cumsum(self.sizes) - self.sizes
        place = 3 * (np.arange(len(self.environments.molecule)) - start[self.environments.molecule])
        out = np.zeros((len(atoms), *self._shape, width))
        for ends, sign in ((self.edges.neighbour, 1.0), (self.edges.centre, -1.0)):
            for power in range(self.slopes.shape[2]):
                for k in range(3):
                    at = (rows, slice(None), self.channel[edges] + power, place[ends[edges]] + k)
                    np.add.at(out, at, sign * self.slopes[edges, :, power, k])  # pyright: ignore[reportArgumentType, reportCallIssue]
        return out

    def along(self, atoms: Int[np.ndarray, " m"], velocities: Float[np.ndarray, "atoms 3"]) -> np.ndarray:
        """The derivatives of some atoms' coefficients when all atoms move with given velocities: (m, lm, c, 1)."""
        rows, edges = self._edges_of(atoms)
        relative = velocities[self.edges.neighbour[edges]] - velocities[self.edges.centre[edges]]
        terms = np.einsum("eapk,ek->eap", self.slopes[edges], relative)
        out = np.zeros((len(atoms), *self._shape))
        for power in range(terms.shape[2]):
            np.add.at(out, (rows, slice(None), self.channel[edges] + power), terms[:, :, power])  # pyright: ignore[reportArgumentType, reportCallIssue]
        return out[..., None]

    def forces(self, gradients: Float[np.ndarray, "atoms lm c"]) -> Float[np.ndarray, "atoms 3"]:
        """Minus the derivatives, in the positions, of what has such derivatives in the coefficients."""
        functions = self.slopes.shape[2]
        channels = self.channel[:, None] + np.arange(functions)
        along = gradients[self.edges.centre[:, None, None], np.arange(gradients.shape[1])[:, None], channels[:, None]]
        terms = np.einsum("eap,eapk->ek", along, self.slopes)
        found = np.zeros((len(gradients), 3))
        np.add.at(found, self.edges.centre, terms)
        np.subtract.at(found, self.edges.neighbour, terms)
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
    return Moving(envs, edges, channel, slopes)


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
