"""Structures as given from outside: ``ase.Atoms``, imported when first needed, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from ase import Atoms


def require_ase(where: str) -> ModuleType:
    """The module ase; ImportError naming the extra to install if it is missing."""
    try:
        import ase
    except ModuleNotFoundError as error:
        raise ImportError(f"{where}: needs ase, which is not installed: pip install 'so3ntk[molecules]'.") from error
    return ase


def check_structures(structures: Sequence[Atoms], where: str) -> None:
    """ValueError for a structure without atoms or with a coordinate that is NaN or infinite, naming it."""
    for number, atoms in enumerate(structures):
        if len(atoms) == 0:
            raise ValueError(f"{where}: molecule {number} has no atoms.")
        finite = np.isfinite(atoms.positions).all(axis=1)
        if not finite.all():
            atom = int(np.argmin(finite))
            raise ValueError(
                f"{where}: molecule {number}, atom {atom} has the position {atoms.positions[atom].tolist()}: "
                "expected finite coordinates."
            )


def atom_name(molecule: Int[np.ndarray, " atoms"], atom: int) -> str:
    """The name "molecule 3, atom 5" that errors give an atom of a batch, counted within its molecule."""
    return f"molecule {molecule[atom]}, atom {np.count_nonzero(molecule[:atom] == molecule[atom])}"
