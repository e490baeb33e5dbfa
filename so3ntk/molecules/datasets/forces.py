"""Molecules with energies and forces, and how they are read from files."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from so3ntk.molecules.datasets.data import read_numbers
from so3ntk.molecules.datasets.labels import forces_of, held_by

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class ForceData:
    """Molecules (``ase.Atoms``, Angstrom), energies (n,) in ``unit`` and forces, a list of (atoms, 3), in unit/Angstrom."""

    atoms: list[Atoms]
    energies: Float[np.ndarray, " n"]
    forces: list[Float[np.ndarray, "_atoms 3"]]
    unit: str

    def __len__(self) -> int:
        return len(self.atoms)

    def __getitem__(self, indices) -> ForceData:
        """Some of the molecules: a slice, indices or a mask; one integer gives a data set of one."""
        rows = np.atleast_1d(np.arange(len(self))[indices])
        return ForceData([self.atoms[i] for i in rows], self.energies[rows], [self.forces[i] for i in rows], self.unit)


def read_forces(
    path: str | PathLike, energy_key: str = "energy", forces_key: str = "forces", unit: str = "eV"
) -> ForceData:
    """All frames of a file that ase reads (extxyz, traj, db, ...) with an energy and forces for each.

    The forces are ``atoms.arrays[forces_key]``, or else the calculator result of that name; the energy as in
    ``read_molecules``. Nothing is converted: ``unit`` says what the energies are in, ase's being eV and eV/Angstrom.
    Raises what ``read_molecules`` raises, and ValueError for a frame without forces or with ones of the wrong shape. For
    frames of which some have no forces, other names, units of length and stresses see ``read_frames``.
    """
    data = read_numbers(path, energy_key, unit, "read_forces", "energy_key")
    forces = [
        forces_of(held_by(atoms), forces_key, len(atoms), f"read_forces: {path}, frame {i}", "forces_key")
        for i, atoms in enumerate(data.atoms)
    ]
    return ForceData(data.atoms, data.targets, forces, unit)
