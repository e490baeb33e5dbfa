"""Who is whose neighbour: ordered pairs of atoms in a molecule, or within a cutoff and across cells."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from so3ntk.basics.arrays import as_numbers
from so3ntk.molecules.structures import atom_name

if TYPE_CHECKING:
    from ase import Atoms

#: Two atoms closer than this (in Angstrom) are a mistake, and 1/r^p would drown all other neighbours.
COINCIDENT = 1e-3


@dataclass(frozen=True)
class Edges:
    """Ordered pairs: atom ``centre`` sees ``neighbour`` at position[neighbour] + offset - position[centre].

    offsets (edges, 3): Cartesian displacements of the neighbour's periodic image (Angstrom; may be traced, for
    derivatives in the cell), or None where there are none. List both directions of a pair. Arrays may have any byte
    order; ValueError for masked ones.
    """

    centre: Int[np.ndarray, " edges"]
    neighbour: Int[np.ndarray, " edges"]
    offsets: Any = None

    def __post_init__(self):
        for name in ("centre", "neighbour", "offsets"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, as_numbers(value, f"Edges: {name}"))

    def __len__(self) -> int:
        return len(self.centre)

    def check(self, n_atoms: int, where: str) -> None:
        """ValueError unless all arrays have one length and hold atoms from 0 to n_atoms - 1."""
        shapes = [np.shape(self.centre), np.shape(self.neighbour)]
        if self.offsets is not None:
            shapes.append(np.shape(self.offsets)[:-1])
        if set(shapes) != {(len(self),)} or (self.offsets is not None and np.shape(self.offsets)[-1] != 3):
            raise ValueError(
                f"{where}: expected edges of one length, with offsets (edges, 3), got the shapes {shapes}."
            )
        for name, ends in (("centre", self.centre), ("neighbour", self.neighbour)):
            if len(ends) and not 0 <= np.min(ends) <= np.max(ends) < n_atoms:
                raise ValueError(
                    f"{where}: expected edges between atoms 0 to {n_atoms - 1}, got {name} from "
                    f"{np.min(ends)} to {np.max(ends)}."
                )


def pairs_in_molecules(molecule: Int[np.ndarray, " atoms"]) -> Edges:
    """All ordered pairs of distinct atoms with the same molecule number, which need not be sorted."""
    order = np.argsort(molecule, kind="stable")
    _, first, counts = np.unique(molecule[order], return_index=True, return_counts=True)
    partners, first = np.repeat(counts, counts), np.repeat(first, counts)  # per atom, in sorted order
    centre = np.repeat(np.arange(len(molecule)), partners)
    run = np.arange(len(centre)) - np.repeat(np.cumsum(partners) - partners, partners)
    neighbour = first[centre] + run
    distinct = centre != neighbour
    return Edges(order[centre[distinct]], order[neighbour[distinct]])


def pairs_within(structures: Sequence[Atoms], cutoff: float) -> Edges:
    """Ordered pairs closer than the cutoff (Angstrom) in each structure, periodic images included.

    Atoms are numbered through all structures. A k-d tree for molecules; for periodic cells vesin, or ``ase.neighborlist``
    where it is not installed. Raises ValueError for a periodic structure without a cell.
    """
    centres, neighbours, offsets, start = [], [], [], 0
    for number, atoms in enumerate(structures):
        i, j, offset = _periodic_pairs(atoms, cutoff, number) if atoms.pbc.any() else _open_pairs(atoms, cutoff)
        centres.append(start + i)
        neighbours.append(start + j)
        offsets.append(offset)
        start += len(atoms)
    return Edges(np.concatenate(centres), np.concatenate(neighbours), np.concatenate(offsets))


def _open_pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = KDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray").astype(np.int64)
    i, j = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.lexsort((j, i))
    return i[order], j[order], np.zeros((len(i), 3))


def _periodic_pairs(atoms: Atoms, cutoff: float, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = atoms.cell.lengths()
    if np.any(lengths[atoms.pbc] == 0):
        raise ValueError(
            f"environments: structure {number} is periodic (pbc {atoms.pbc.tolist()}) but has no cell along "
            f"a periodic axis (cell lengths {lengths.tolist()}). Set atoms.cell, or atoms.pbc = False for a "
            "molecule."
        )
    i, j, shifts = _images(atoms, cutoff)
    return i, j, shifts @ np.asarray(atoms.cell)


def _images(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs and cells between them, by vesin, which takes a hundredth of ase's time, where it is installed."""
    if importlib.util.find_spec("vesin") is None or atoms.cell.rank < 3 or not np.isfinite(atoms.positions).all():
        from ase.neighborlist import neighbor_list

        return neighbor_list("ijS", atoms, cutoff)
    from vesin import NeighborList

    pairs = NeighborList(cutoff=float(cutoff), full_list=True)
    i, j, shifts = pairs.compute(atoms.positions, np.asarray(atoms.cell), atoms.pbc, quantities="ijS")
    order = np.lexsort((*shifts.T[::-1], j, i))
    return i[order].astype(np.int64), j[order].astype(np.int64), shifts[order]


def check_geometry(
    positions: Float[np.ndarray, "atoms 3"], molecule: Int[np.ndarray, " atoms"], edges: Edges, where: str
) -> None:
    """ValueError for a coordinate that is NaN or infinite, and for two atoms closer than 0.001 Angstrom."""
    finite = np.isfinite(positions).all(axis=1)
    if not finite.all():
        atom = int(np.argmin(finite))
        raise ValueError(
            f"{where}: {atom_name(molecule, atom)} has the position {positions[atom].tolist()}: expected "
            "finite coordinates."
        )
    offsets = 0 if edges.offsets is None else np.asarray(edges.offsets)
    distance = np.linalg.norm(positions[edges.neighbour] + offsets - positions[edges.centre], axis=1)
    if len(distance) and distance.min() < COINCIDENT:
        edge = int(np.argmin(distance))
        i, j = sorted((int(edges.centre[edge]), int(edges.neighbour[edge])))
        raise ValueError(
            f"{where}: {atom_name(molecule, i)}, and {atom_name(molecule, j)}, coincide: they are "
            f"{distance[edge]:.2g} Angstrom apart, expected {COINCIDENT} or more. Is an atom listed twice, "
            "or a coordinate in another unit?"
        )
