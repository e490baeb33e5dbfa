"""Molecules, energies and forces as callers pass them: checked, and forces in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.molecules.structures import check_structures, require_ase

if TYPE_CHECKING:
    from ase import Atoms


def check_molecules(atoms: Any, where: str) -> list[Atoms]:
    """One or more molecules as a list. TypeError for anything but ase.Atoms, ValueError for none and broken ones."""
    kind = require_ase(where).Atoms
    atoms = [atoms] if isinstance(atoms, kind) else list(atoms)
    if not atoms:
        raise ValueError(f"{where}: expected at least one molecule, got none.")
    for number, molecule in enumerate(atoms):
        if not isinstance(molecule, kind):
            raise TypeError(f"{where}: expected ase.Atoms, got {type(molecule).__name__} at position {number}.")
    check_structures(atoms, where)
    return atoms


def check_energies(energies: ArrayLike, n: int, where: str) -> Float[np.ndarray, " n"]:
    """Finite energies, one per molecule."""
    refuse_masked(energies, f"{where}: the energies")
    energies = np.asarray(energies, np.float64)
    if energies.shape != (n,):
        raise ValueError(f"{where}: expected energies of the shape ({n},), one per molecule, got {energies.shape}.")
    if not np.isfinite(energies).all():
        raise ValueError(
            f"{where}: the energies hold NaN or infinity, first at molecule {int(np.argmin(np.isfinite(energies)))}."
        )
    return energies


def join_forces(forces: np.ndarray | Sequence, atoms: Sequence[Atoms], where: str) -> Float[np.ndarray, "atoms 3"]:
    """Forces of all atoms in one array, from such an array or a list of arrays; ValueError for other shapes and NaN."""
    refuse_masked(forces, f"{where}: the forces")
    sizes = [len(molecule) for molecule in atoms]
    if isinstance(forces, np.ndarray) and forces.dtype != object and forces.shape != (len(atoms), sizes[0], 3):
        joined = forces
    else:
        parts = [np.asarray(part, np.float64) for part in forces]
        wrong = next((i for i, (part, n) in enumerate(zip(parts, sizes, strict=False)) if part.shape != (n, 3)), None)
        if len(parts) != len(atoms) or wrong is not None:
            found = (
                f"{len(parts)} arrays"
                if wrong is None
                else f"{parts[wrong].shape} for molecule {wrong} of {sizes[wrong]} atoms"
            )
            raise ValueError(
                f"{where}: expected forces to be {len(atoms)} arrays of shape (atoms, 3), one per molecule, or one array "
                f"({sum(sizes)}, 3) of all atoms, got {found}."
            )
        joined = np.concatenate(parts)
    if joined.shape != (sum(sizes), 3):
        raise ValueError(
            f"{where}: expected forces of the shape ({sum(sizes)}, 3), one row for each atom of all {len(atoms)} molecules "
            f"in their order, or a list of arrays (atoms, 3), got {joined.shape}."
        )
    if not np.isfinite(joined).all():
        raise ValueError(
            f"{where}: the forces hold NaN or infinity, first at atom {int(np.argmin(np.isfinite(joined).all(axis=1)))}."
        )
    return np.asarray(joined, np.float64)
