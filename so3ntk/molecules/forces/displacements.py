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
from so3ntk.molecules.coefficients import profile_gains, weigh
from so3ntk.molecules.elements import species_numbers
from so3ntk.molecules.environments import Environments, environments
from so3ntk.molecules.harmonics import real_harmonics
from so3ntk.molecules.neighbours import Edges, pairs_in_molecules, pairs_within

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
        cutoff = settings.get("cutoff")
        edges = pairs_in_molecules(envs.molecule) if cutoff is None else pairs_within(atoms, cutoff)
        positions = np.concatenate([molecule.positions for molecule in atoms])
        vectors = positions[edges.neighbour] - positions[edges.centre]
        if edges.offsets is not None:
            vectors = vectors + np.asarray(edges.offsets)
        charges = (envs.numbers[edges.centre] * envs.numbers[edges.neighbour]).astype(float)
        powers = _powers(settings)
        slopes = _all_slopes(vectors, charges, powers, settings, envs.signal.bandlimit)
    elements = species_numbers(settings.get("species", ("H", "C", "N", "O", "F")), "environments")
    row = np.searchsorted(elements, envs.numbers[edges.neighbour], sorter=np.argsort(elements))
    channel = np.argsort(elements)[row] * len(powers)
    return Moving(envs, edges, channel, slopes)


def _powers(settings: Mapping[str, Any]) -> tuple:
    powers = settings.get("powers", (2, 6))
    return tuple(powers) if np.iterable(powers) else (powers,)


def _all_slopes(vectors, charges, powers, settings, bandlimit) -> Float[np.ndarray, "edges lm powers 3"]:
    gains = profile_gains(settings.get("angular_width"), bandlimit, np.float64)
    degrees = np.repeat(np.arange(bandlimit), 2 * np.arange(bandlimit) + 1)
    lengths = np.asarray([float(settings.get("length", 1.0)) ** p for p in powers])
    factor = np.asarray(gains)[degrees, None] * lengths
    parts = [np.zeros((0, bandlimit**2, len(powers), 3))]
    for start in range(0, len(vectors), CHUNK):
        part = slice(start, start + CHUNK)
        size = min(CHUNK, rounded_up(len(vectors[part]), LEAST))
        padding = size - len(vectors[part])
        padded = np.concatenate([vectors[part], np.tile([[0.0, 0.0, 1.0]], (padding, 1))])
        slopes = _slopes(padded, np.pad(charges[part], (0, padding)), powers, bandlimit, settings.get("cutoff"))
        parts.append(np.asarray(slopes)[: size - padding] * factor[..., None])
    return np.concatenate(parts)


@partial(jax.jit, static_argnames=("powers", "bandlimit", "cutoff"))
def _slopes(vectors, charges, powers, bandlimit, cutoff):
    """The derivative of each edge's w Y_lm in its vector."""

    def terms(vectors):
        weights = weigh(jnp.linalg.norm(vectors, axis=-1), charges, powers, cutoff)
        return real_harmonics(vectors, bandlimit)[:, :, None] * weights[:, None, :]

    axes = jnp.eye(3, dtype=vectors.dtype)
    along = lambda axis: jax.jvp(terms, (vectors,), (jnp.broadcast_to(axis, vectors.shape),))[1]  # noqa: E731
    return jnp.moveaxis(jax.lax.map(along, axes), 0, -1)
