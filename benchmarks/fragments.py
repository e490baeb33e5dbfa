"""Molecules with energies and forces in amons_forces.npz: distorted organic fragments of H, C, N and O.

The file (test assets of qmllib 1.2.0, MIT) has for ``train`` and ``valid`` the arrays Z, R (Angstrom), offsets (n + 1,), F
(kcal/mol/Angstrom) and e_at (kcal/mol), each as NAME_train and NAME_valid; both parts hold the same fragments.
"""

from __future__ import annotations

from itertools import pairwise
from os import PathLike

import numpy as np

from so3ntk.molecules import ForceData


def read_fragments(path: str | PathLike) -> tuple[ForceData, ForceData]:
    """The training and the validation part, in kcal/mol."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return _part(arrays, "train"), _part(arrays, "valid")


def _part(arrays: dict[str, np.ndarray], name: str) -> ForceData:
    from ase import Atoms

    numbers, positions, forces, offsets, energies = (arrays[f"{key}_{name}"] for key in ("Z", "R", "F", "offsets", "e_at"))  # fmt: skip
    rows = [slice(a, b) for a, b in pairwise(offsets.tolist())]
    return ForceData([Atoms(numbers[r], positions[r]) for r in rows], energies, [forces[r] for r in rows], "kcal/mol")
