"""Molecules with a number each, and how they are read from files."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.arrays import as_numbers
from so3ntk.molecules.datasets.labels import held_by, number_of
from so3ntk.molecules.datasets.xyz import SUFFIXES, readable_text
from so3ntk.molecules.structures import check_structures, require_ase

if TYPE_CHECKING:
    from ase import Atoms

#: Files that ase reads as databases.
DATABASES = (".db", ".json")


@dataclass(frozen=True, eq=False)
class MoleculeData:
    """Molecules and one target value for each.

    atoms: list of ``ase.Atoms`` (Angstrom); targets (n,), float64, in ``unit``; target: its name; index (n,):
    the number of each molecule in its source (the QM9 index, or the frame of a file).

    Raises ValueError for other lengths and masked targets.
    """

    atoms: list[Atoms]
    targets: Float[np.ndarray, " n"]
    target: str
    unit: str
    index: Int[np.ndarray, " n"]

    def __post_init__(self):
        object.__setattr__(
            self, "targets", np.asarray(as_numbers(self.targets, "MoleculeData: the targets"), np.float64)
        )
        object.__setattr__(self, "index", np.asarray(as_numbers(self.index, "MoleculeData: the indices")))
        if not len(self.atoms) == len(self.targets) == len(self.index):
            raise ValueError(
                f"MoleculeData: expected as many targets and indices as molecules ({len(self.atoms)}), got "
                f"{len(self.targets)} and {len(self.index)}."
            )

    def __len__(self) -> int:
        return len(self.atoms)

    def __getitem__(self, indices) -> MoleculeData:
        """Some of the molecules: a slice, indices or a mask; one integer gives a data set of one."""
        rows = np.atleast_1d(np.arange(len(self))[indices])
        atoms = [self.atoms[row] for row in rows]
        return MoleculeData(atoms, self.targets[rows], self.target, self.unit, self.index[rows])


def sample_rows(total: int, n: int | None, seed: int, where: str) -> Int[np.ndarray, " n"]:
    """n of ``total`` rows in a random order that the seed fixes: 100 are the first 100 of 200. None: all.

    With n None the order is that of the source. Raises ValueError if n exceeds the total or is not positive.
    """
    if n is None:
        return np.arange(total)
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"{where}: expected n to be a positive integer, or None for all molecules, got {n!r}.")
    if n > total:
        raise ValueError(f"{where}: {n} molecules were asked for, but there are {total}. Pass n=None for all of them.")
    return np.random.default_rng(seed).permutation(total)[:n]


def read_molecules(path: str | PathLike, target_key: str = "energy", unit: str = "eV") -> MoleculeData:
    """All frames of a file that ase reads (xyz, extxyz, traj, db, ...), with one number for each.

    The number is ``atoms.info[target_key]``, or else the calculator result of that name (where ase puts the
    energies of extxyz files). It is not converted: ``unit`` says what it is in, and ase's unit of energy is
    eV. Files of text may also hold what ase does not read by itself, QM9's own files among it: their properties have
    the names and units of ``load_qm9`` (see :mod:`so3ntk.molecules.datasets.xyz`).

    Raises FileNotFoundError. ValueError for a file that is unreadable, truncated or empty, for a frame
    without atoms, with coordinates that are not finite, or without the number: it says which frame and which
    keys there are.
    """
    return read_numbers(path, target_key, unit, "read_molecules", "target_key")


def read_numbers(path: str | PathLike, key: str, unit: str, where: str, argument: str) -> MoleculeData:
    """``read_molecules`` for a function ``where``; ``argument`` is where another key would be given."""
    frames = read_structures(path, where)
    targets = [
        number_of(held_by(atoms), key, f"{where}: {path}, frame {i}", argument) for i, atoms in enumerate(frames)
    ]
    return MoleculeData(frames, np.array(targets), key, unit, np.arange(len(frames)))


def read_structures(path: str | PathLike, where: str = "read_molecules") -> list[Atoms]:
    """All frames of a file that ase reads. Raises what ``read_molecules`` raises, but for missing numbers."""
    require_ase(where)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{where}: there is no file {path}.")
    text = readable_text(path, where) if path.suffix.lower() in SUFFIXES else None
    frames = _read_by_ase(path, text, where)
    if not frames:
        raise ValueError(f"{where}: {path} holds no molecules.")
    check_structures(frames, f"{where}: {path}")
    return frames


def _read_by_ase(path: Path, text: str | None, where: str) -> list[Atoms]:
    """The frames of a file, or of an xyz file's text."""
    from ase.io import read
    from ase.io.formats import UnknownFileTypeError

    try:
        if path.suffix.lower() in DATABASES:
            frames = _read_database(path)
        elif text is None:
            frames = read(path, index=":", do_not_split_by_at_sign=True)
        else:
            frames = read(StringIO(text), index=":", format="extxyz")
    except Exception as error:  # ase's readers raise whatever their parsing happens to raise
        remedy = (
            " ase tells the format by the file's suffix or first lines: rename the file with its format's suffix, which "
            "`ase info --formats` lists."
            if isinstance(error, UnknownFileTypeError)
            else ""
        )
        raise ValueError(f"{where}: ase cannot read {path} ({type(error).__name__}: {error}).{remedy}") from error
    return frames if isinstance(frames, list) else [frames]


def _read_database(path: Path) -> list[Atoms]:
    """The rows of a database of ase's, their key-value pairs and data in ``info``, where ase leaves them out."""
    from ase.db import connect

    frames = []
    with connect(path, serial=True) as database:  # pyright: ignore[reportGeneralTypeIssues]
        for row in database.select():
            frames.append(row.toatoms())
            frames[-1].info |= {**row.data, **row.key_value_pairs}
    return frames
