"""Structures as given from outside: ``ase.Atoms``, imported when first needed, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from so3ntk.basics.arrays import refuse_masked

if TYPE_CHECKING:
    from ase import Atoms


def require_ase(where: str) -> ModuleType:
    """The module ase; ImportError naming the extra to install if it is missing."""
    try:
        import ase
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{where}: needs ase, which is not installed: pip install -e '.[molecules]' in the checkout of so3ntk."
        ) from error
    return ase


def check_structures(structures: Sequence[Atoms], where: str) -> None:
    """ValueError for a structure without atoms or with a coordinate that is NaN, infinite or masked, naming it."""
    for number, atoms in enumerate(structures):
        if len(atoms) == 0:
            raise ValueError(f"{where}: molecule {number} has no atoms.")
        refuse_masked(atoms.positions, f"{where}: the positions of molecule {number}")
        finite = np.isfinite(atoms.positions).all(axis=1)
        if not finite.all():
            atom = int(np.argmin(finite))
            raise ValueError(
                f"{where}: molecule {number}, atom {atom} has the position {atoms.positions[atom].tolist()}: "
                "expected finite coordinates."
            )


def to_arrays(structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """Elements, coordinates and cells, as ``from_arrays`` takes them."""
    return {
        "sizes": np.array([len(atoms) for atoms in structures]),
        "numbers": np.concatenate([atoms.numbers for atoms in structures]),
        "positions": np.concatenate([atoms.positions for atoms in structures]),
        "cells": np.stack([np.asarray(atoms.cell) for atoms in structures]),
        "periodic": np.stack([atoms.pbc for atoms in structures]),
    }


def from_arrays(
    sizes: np.ndarray, numbers: np.ndarray, positions: np.ndarray, cells: np.ndarray, periodic: np.ndarray, where: str
) -> list[Atoms]:
    """Structures of ``sizes`` atoms each; ValueError for arrays that do not fit each other and what is no structure."""
    kind, ends = require_ase(where).Atoms, np.cumsum(sizes)
    found = [
        kind(numbers[end - size : end], positions[end - size : end], cell=cell, pbc=pbc)
        for size, end, cell, pbc in zip(sizes, ends, cells, periodic, strict=True)
    ]
    if not len(found) or len(numbers) != ends[-1] or len(positions) != ends[-1]:
        raise ValueError(
            f"{where}: expected {int(sum(sizes))} atoms, got {len(numbers)} numbers and {len(positions)} positions."
        )
    check_structures(found, where)
    return found


def atom_name(molecule: Int[np.ndarray, " atoms"], atom: int) -> str:
    """The name "molecule 3, atom 5" that errors give an atom of a batch, counted within its molecule."""
    return f"molecule {molecule[atom]}, atom {np.count_nonzero(molecule[:atom] == molecule[atom])}"
