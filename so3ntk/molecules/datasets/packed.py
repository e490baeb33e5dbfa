"""Frames with energies and forces in npz files: rMD17's and MD17's trajectories, and packed molecules of all sizes.

=======  ================  =======  ========  ======  =========================================================
kind     atomic numbers    coords   energies  forces  shapes
=======  ================  =======  ========  ======  =========================================================
rMD17    nuclear_charges   coords   energies  forces  (atoms,), (n, atoms, 3), (n,), (n, atoms, 3)
MD17     z                 R        E         F       the same, or E (n, 1)
packed   Z                 R        e_at      F       all molecules one after the other, and offsets (n + 1,), as
                                                      :mod:`so3ntk.molecules.datasets.archive` has them
=======  ================  =======  ========  ======  =========================================================

Positions are in Angstrom, energies under these names in kcal/mol, forces in kcal/mol/Angstrom. A packed file may hold several parts,
each name with its suffix: Z_train, R_train, ..., Z_valid, ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.molecules.datasets.archive import check_columns, load_arrays, names_in
from so3ntk.molecules.datasets.labels import Arguments
from so3ntk.molecules.structures import require_ase

if TYPE_CHECKING:
    from ase import Atoms

#: Of energies and forces under these names.
UNIT = "kcal/mol"


class Kind(NamedTuple):
    """The names of a kind of files."""

    numbers: str
    positions: str
    energy: str
    forces: str


TRAJECTORIES = (Kind("nuclear_charges", "coords", "energies", "forces"), Kind("z", "R", "E", "F"))
PACKED = Kind("Z", "R", "e_at", "F")


class Packed(NamedTuple):
    """Molecules, energies (n,), forces of each molecule, or None, their names; stated: which of them are in ``UNIT``."""

    atoms: list[Atoms]
    energies: Float[np.ndarray, " n"]
    forces: list[Float[np.ndarray, "_atoms 3"]] | None
    keys: dict[str, str]
    stated: tuple[str, ...]


def read_packed(
    path: Path, energy_key: str | None, forces_key: str | bool | None, part: str | None, where: str, named: Arguments
) -> Packed:
    """The molecules of an npz file; keys None for the names of its kind, forces_key False for none.

    Raises FileNotFoundError; ValueError, with the names that there are, for files of no such kind, with several parts of which
    none is said, without the energies, and for arrays of other shapes or with NaN.
    """
    where, names = f"{where}: {path}", names_in(path)
    kind, suffix = _kind_of(names, part, where, named)
    energy, forces = f"{energy_key or kind.energy}{suffix}", f"{forces_key or kind.forces}{suffix}"
    for name, argument, needed in ((energy, named.energy, True), (forces, named.forces, bool(forces_key))):
        if needed and name not in names:
            others = ", ".join(other.removesuffix(suffix) for other in names if other.endswith(suffix))
            raise ValueError(f"{where} has no {name!r}; it has {others}. Pass one of these as {argument}.")
    stored = {name: f"{name}{suffix}" for name in (kind.numbers, kind.positions, "offsets")} | {"energies": energy}
    arrays = load_arrays(path, {*stored.values(), *([] if forces_key is False else [forces])})
    if kind is not PACKED:
        arrays = _as_packed(arrays, kind, energy, forces, where)
        stored = {"Z": "Z", "R": "R", "offsets": "offsets", "energies": energy}
    columns = {name: arrays[place] for name, place in stored.items() if place in arrays}
    check_columns(columns, path)
    _check_finite(columns["energies"], f"{where}: {energy}")
    bounds = list(pairwise(columns["offsets"].tolist()))
    by_atom = arrays.get(forces)
    if by_atom is not None:
        _check_shape(by_atom, columns["R"].shape, f"{where}: {forces}")
        _check_finite(by_atom, f"{where}: {forces}")
    return Packed(
        [require_ase(where).Atoms(columns["Z"][a:b], columns["R"][a:b]) for a, b in bounds],
        np.asarray(columns["energies"], np.float64),
        None if by_atom is None else [np.asarray(by_atom[a:b], np.float64) for a, b in bounds],
        {"energy": energy} | ({} if by_atom is None else {"forces": forces}),
        ("energy",) * (energy_key in (None, kind.energy)) + ("forces",) * (forces_key in (None, kind.forces)),
    )


def _kind_of(names: Sequence[str], part: str | None, where: str, named: Arguments) -> tuple[Kind, str]:
    """The kind of a file with these names, and what is behind each of them."""
    for kind in TRAJECTORIES:
        if {kind.numbers, kind.positions} <= set(names):
            if part is not None:
                raise ValueError(f"{where} has no parts, got {part!r}. Leave {named.part} out.")
            return kind, ""
    suffixes = [name.removeprefix(PACKED.numbers) for name in names if re.fullmatch(rf"{PACKED.numbers}(_\w+)?", name)]
    if not suffixes:
        kinds = "; ".join(", ".join(kind) for kind in (*TRAJECTORIES, PACKED))
        raise ValueError(
            f"{where} holds {', '.join(names) or 'nothing'}, and none of the sets of arrays that are known: {kinds} and "
            "offsets. See so3ntk.molecules.datasets.packed."
        )
    wanted = "" if part is None else f"_{part}"
    if part is None and len(suffixes) == 1:
        return PACKED, suffixes[0]
    if wanted not in suffixes:
        parts = ", ".join(suffix[1:] or "one without a name" for suffix in suffixes)
        asked = "none was asked for" if part is None else f"there is none called {part!r}"
        raise ValueError(f"{where} has the parts {parts}, and {asked}. Say which with {named.part}.")
    return PACKED, wanted


def _as_packed(
    arrays: dict[str, np.ndarray], kind: Kind, energy: str, forces: str, where: str
) -> dict[str, np.ndarray]:
    """A trajectory's arrays with its frames one after the other."""
    numbers, positions = arrays[kind.numbers], arrays[kind.positions]
    n = len(positions) if positions.ndim else 0
    _check_shape(positions, (n, len(numbers) if numbers.ndim else 0, 3), f"{where}: {kind.positions}")
    energies = arrays[energy]
    found = {
        "Z": np.tile(numbers, n),
        "R": positions.reshape(-1, 3),
        "offsets": np.arange(n + 1) * len(numbers),
        energy: energies[:, 0] if energies.shape == (n, 1) else energies,
    }
    if forces in arrays:
        _check_shape(arrays[forces], positions.shape, f"{where}: {forces}")
        found[forces] = arrays[forces].reshape(-1, 3)
    return found


def _check_shape(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        raise ValueError(
            f"{what}: expected the shape {shape} of the positions, got {array.shape}. Are they of other frames?"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{what}: expected numbers, got {array.dtype}.")


def _check_finite(array: np.ndarray, what: str) -> None:
    if not np.isfinite(array).all():
        first = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{what} holds NaN or infinity, first in row {first}.")
