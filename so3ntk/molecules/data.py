"""Molecules with a number each, and how they are read from files."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from so3ntk.molecules.structures import check_structures, require_ase

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class MoleculeData:
    """Molecules and one target value for each.

    atoms: list of ``ase.Atoms`` (Angstrom); targets (n,), float64, in ``unit``; target: its name; index (n,):
    the number of each molecule in its source (the QM9 index, or the frame of a file).
    """

    atoms: list[Atoms]
    targets: Float[np.ndarray, " n"]
    target: str
    unit: str
    index: Int[np.ndarray, " n"]

    def __post_init__(self):
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
    eV.

    Raises FileNotFoundError. ValueError for a file that is unreadable, truncated or empty, for a frame
    without atoms, with coordinates that are not finite, or without the number: it says which frame and which
    keys there are.
    """
    frames = read_structures(path)
    targets = np.array([_target_of(frame, target_key, Path(path), number) for number, frame in enumerate(frames)])
    return MoleculeData(frames, targets, target_key, unit, np.arange(len(frames)))


def read_structures(path: str | PathLike) -> list[Atoms]:
    """All frames of a file that ase reads. Raises what ``read_molecules`` raises, but for missing numbers."""
    require_ase("read_molecules")
    from ase.io import read

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_molecules: there is no file {path}.")
    try:
        frames = read(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # ase's readers raise whatever their parsing happens to raise
        raise ValueError(
            f"read_molecules: ase cannot read {path} ({type(error).__name__}: {error}). Is it complete, and "
            "does its suffix match its format?"
        ) from error
    frames = frames if isinstance(frames, list) else [frames]
    if not frames:
        raise ValueError(f"read_molecules: {path} holds no molecules.")
    check_structures(frames, f"read_molecules: {path}")
    return frames


def _target_of(atoms: Atoms, key: str, path: Path, frame: int) -> float:
    results = {} if atoms.calc is None else atoms.calc.results
    value = atoms.info.get(key, results.get(key))
    if value is None:
        keys = sorted({*map(str, atoms.info), *results})
        raise ValueError(
            f"read_molecules: {path}, frame {frame} has no {key!r}; it has "
            f"{', '.join(keys) or 'no values at all'}. Pass one of these as target_key."
        )
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "iuf" or not np.isfinite(number):
        raise ValueError(f"read_molecules: {path}, frame {frame}: expected {key!r} to be a finite number, got {value}.")
    return float(number)
