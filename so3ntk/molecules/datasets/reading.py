"""Reading frames with energies, forces and stresses, from one file or several, in the units that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.molecules.datasets.data import read_structures
from so3ntk.molecules.datasets.frames import Frames, without_isolated
from so3ntk.molecules.datasets.labels import (
    ENERGIES,
    FORCES,
    STRESSES,
    Arguments,
    find_key,
    finite_number,
    forces_of,
    held_by,
    number_of,
    stress_of,
)
from so3ntk.molecules.datasets.packed import UNIT, read_packed
from so3ntk.molecules.datasets.xyz import QM9_ENERGIES, QM9_ENTRIES
from so3ntk.molecules.forces.consistency import BOHR
from so3ntk.molecules.forces.consistency import ENERGIES as UNITS

if TYPE_CHECKING:
    from ase import Atoms


def read_frames(
    paths: str | PathLike | Iterable[str | PathLike],
    energy_key: str | None = None,
    forces_key: str | Literal[False] | None = None,
    stress_key: str | Literal[False] | None = None,
    unit: str = "eV",
    length_unit: str = "Angstrom",
    part: str | None = None,
) -> Frames:
    """All frames of one file or several, with the energies, forces and stresses that are in them.

    paths: what ase reads (extended xyz, traj, its databases db and json, ...), QM9's own xyz files, and npz files of rMD17, MD17 or
    packed molecules (:mod:`so3ntk.molecules.datasets.packed`; ``part`` says which, where there are several). Not all frames need
    have forces, stresses or even energies. Forces are those of the file, where constraints change nothing.

    energy_key, forces_key, stress_key: names in ``atoms.info``, ``atoms.arrays`` or the calculator's results. None: those that
    programs use are looked for (energy, REF_energy, dft_energy, free_energy, ...; forces, force, REF_forces, ...; stress, virial,
    virials, REF_stress, ...). False: neither looked for nor read. A name with "virial" in it is minus volume times the stress.

    unit: what the returned numbers are in, as "eV", "meV", "kcal/mol", "kJ/mol", "Hartree". Files that state their own (those of rMD17,
    MD17 and packed ones under their usual names kcal/mol, QM9's xyz files Hartree) are converted to it; of all others it is what they are
    in already, and nothing is converted. A number that is no energy may have any unit.
    length_unit: "Angstrom", or "Bohr" of what ase reads: positions, cells, forces and stresses are made Angstrom's.

    Isolated atoms (frames of one atom without periodic boundaries, and of one with ``config_type=IsolatedAtom``) are taken
    out of the frames into ``isolated``.

    Raises FileNotFoundError. ValueError, naming file and frame: for what ``read_molecules`` refuses, several candidates that differ,
    none of what was asked for or no energy at all (with what there is), numbers that are NaN or of another shape, as those of
    another frame, stresses without a periodic cell, isolated atoms of one element with different energies.
    """
    return collect(paths, (energy_key, forces_key, stress_key), unit, length_unit, part, "read_frames", Arguments())


def collect(
    paths: str | PathLike | Iterable[str | PathLike],
    keys: tuple[str | None, str | Literal[False] | None, str | Literal[False] | None],
    unit: str,
    length_unit: str,
    part: str | None,
    where: str,
    named: Arguments,
    labelled: bool = True,
) -> Frames:
    """``read_frames`` for a function ``where``; not labelled: frames without any numbers are fine, and atoms are frames."""
    if length_unit not in ("Angstrom", "Bohr"):
        raise ValueError(f'{where}: expected length_unit to be "Angstrom" or "Bohr", got {length_unit!r}.')
    paths = [paths] if isinstance(paths, str | PathLike) else list(paths)
    if not paths:
        raise ValueError(f"{where}: expected at least one file, got none.")
    asked = _Asked(*keys, unit, length_unit, part, where, named, labelled)
    parts = [_read(Path(path), asked) for path in paths]
    names = {
        name: ", ".join(dict.fromkeys(p.keys[name] for p in parts if name in p.keys)) for p in parts for name in p.keys
    }
    whole = Frames(
        [atoms for p in parts for atoms in p.atoms],
        np.concatenate([p.energies for p in parts]),
        [one for p in parts for one in p.forces],
        [one for p in parts for one in p.stresses],
        unit,
        {},
        [source for p in parts for source in p.sources],
        names,
    )
    return without_isolated(whole, where) if labelled else whole


class _Asked(NamedTuple):
    """What ``collect`` was asked for, of each file."""

    energy: str | None
    forces: str | Literal[False] | None
    stress: str | Literal[False] | None
    unit: str
    length_unit: str
    part: str | None
    where: str
    named: Arguments
    labelled: bool


def _read(path: Path, asked: _Asked) -> Frames:
    """The frames of one file, isolated atoms among them."""
    if path.suffix.lower() != ".npz":
        if asked.part is not None:
            raise ValueError(f"{asked.where}: {path} has no parts, got {asked.part!r}. Leave {asked.named.part} out.")
        return _read_by_ase(path, asked)
    if asked.length_unit != "Angstrom":
        raise ValueError(f"{asked.where}: npz files are in Angstrom, got {asked.length_unit!r} for {path}.")
    found = read_packed(path, asked.energy, asked.forces, asked.part, asked.where, asked.named)
    energy, force = (1.0 if name not in found.stated else _factor(UNIT, asked, path) for name in ("energy", "forces"))
    n = len(found.atoms)
    forces: list[Any] = [None] * n if found.forces is None else [force * one for one in found.forces]
    sources = [(str(path), row) for row in range(n)]
    return Frames(found.atoms, energy * found.energies, forces, [None] * n, asked.unit, {}, sources, found.keys)


class _File(NamedTuple):
    """The frames of a file that ase reads, what each holds, and its unit of length in Angstrom."""

    path: Path
    frames: list[Atoms]
    held: list[dict[str, Any]]
    length: float
    asked: _Asked

    def where(self, row: int) -> str:
        return f"{self.asked.where}: {self.path}, frame {row}"

    def energy(self, row: int, key: str) -> float:
        stated = key in QM9_ENERGIES and {"gdb", *QM9_ENTRIES} <= self.held[row].keys()  # which were made eV
        factor = _factor("eV", self.asked, self.path) if stated else 1.0
        return factor * number_of(self.held[row], key, self.where(row), self.asked.named.energy)

    def forces(self, row: int, key: str) -> Float[np.ndarray, "atoms 3"]:
        n, argument = len(self.frames[row]), self.asked.named.forces
        return forces_of(self.held[row], key, n, self.where(row), argument) / self.length

    def stress(self, row: int, key: str) -> Float[np.ndarray, "3 3"]:
        found = stress_of(self.held[row], key, self.frames[row], self.where(row), self.asked.named.stress)
        return found if "virial" in key.lower() else found / self.length**3

    def column(self, name: str, given: str | bool | None, known: Sequence[str]) -> tuple[str | None, list[Any]]:
        """The key of a quantity, None if there is none, and its value in each frame, or None."""
        read, argument = getattr(self, name), getattr(self.asked.named, name)
        if given is False:
            return None, [None] * len(self.frames)
        where = f"{self.asked.where}: {self.path}"
        key = given if isinstance(given, str) else find_key(self.held, known, read, where, argument)
        has = [key is not None and held.get(key) is not None for held in self.held]
        if given and not any(has) and self.asked.labelled:
            read(0, given)  # says what there is instead
        return (key if any(has) else None), [read(row, key) if one else None for row, one in enumerate(has)]


def _read_by_ase(path: Path, asked: _Asked) -> Frames:
    frames, length = read_structures(path, asked.where), BOHR if asked.length_unit == "Bohr" else 1.0
    for frame in frames if length != 1 else ():
        frame.set_cell(np.asarray(frame.cell) * length)
        frame.positions *= length
    file = _File(path, frames, [held_by(frame) for frame in frames], length, asked)
    energy, values = file.column("energy", asked.energy, ENERGIES)
    if energy is None and asked.labelled:
        _refuse_energies(file.held, f"{asked.where}: {path}", asked.named.energy)
    forces, by_atom = file.column("forces", asked.forces, FORCES)
    stress, stresses = file.column("stress", asked.stress, STRESSES)
    for frame in frames:
        frame.calc = None
        frame.set_constraint()
    energies = np.array([np.nan if value is None else value for value in values])
    keys = {name: key for name, key in (("energy", energy), ("forces", forces), ("stress", stress)) if key}
    return Frames(
        frames, energies, by_atom, stresses, asked.unit, {}, [(str(path), i) for i in range(len(frames))], keys
    )


def _factor(unit: str, asked: _Asked, path: Path) -> float:
    """From a file's own unit of energy to the one asked for."""
    if asked.unit not in UNITS:
        raise ValueError(
            f"{asked.where}: energies and forces of {path} are in {unit}, and {asked.unit!r} is no unit of energy that is known. "
            f"Pass {asked.named.unit} as one of {', '.join(UNITS)}."
        )
    return UNITS[unit] / UNITS[asked.unit] if unit != asked.unit else 1.0


def _refuse_energies(held: Sequence[Mapping[str, object]], where: str, argument: str) -> None:
    numbers = sorted({name for one in held for name, value in one.items() if finite_number(value) is not None})
    remedy = (
        f"they have {', '.join(numbers)}. Pass one of these as {argument}"
        if numbers
        else "they have no numbers at all. In extended xyz one stands in the comment of each frame, as energy=-1.5"
    )
    raise ValueError(f"{where}: no frame has one of {', '.join(ENERGIES)} (in any case); {remedy}.")
