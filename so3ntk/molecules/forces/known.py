"""What is known of structures, as rows of one regression: energies, then forces and stresses of those that have some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.molecules.datasets.targets import check_energies, check_molecules, join_forces
from so3ntk.molecules.elements import SYMBOLS
from so3ntk.molecules.forces.consistency import check_distances, check_forces
from so3ntk.molecules.forces.noise import ENERGY, FORCE, STRAIN, Targets, composition_basis
from so3ntk.molecules.strains import from_voigt, is_periodic, voigt

if TYPE_CHECKING:
    from ase import Atoms

#: How far a stress may be from a symmetric matrix, in its largest entry.
SYMMETRIC = 1e-6


class Known(NamedTuple):
    """Structures with energies (n,), forces (atoms, 3) or None, and stresses (3, 3) or None, of each."""

    atoms: list[Atoms]
    energies: Float[np.ndarray, " n"]
    forces: list[Float[np.ndarray, "_atoms 3"] | None]
    stresses: list[Float[np.ndarray, "3 3"] | None]

    @classmethod
    def of(cls, atoms: Any, energies: ArrayLike, forces: Any, stresses: Any, where: str) -> Known:
        """Checked, with warnings for signs and units that do not go together (``consistency``)."""
        atoms = check_molecules(atoms, where)
        energies = check_energies(energies, len(atoms), where)
        known = cls(atoms, energies, _forces(forces, atoms, where), _stresses(stresses, atoms, where))
        some = [i for i, own in enumerate(known.forces) if own is not None]
        if some:
            check_forces([atoms[i] for i in some], energies[some], [known.forces[i] for i in some], where)
        if len(some) < len(atoms):
            check_distances(atoms, where)
        return known

    def __getitem__(self, some: slice) -> Known:
        """Some of the structures."""
        return Known(self.atoms[some], self.energies[some], self.forces[some], self.stresses[some])

    @property
    def present(self) -> Bool[np.ndarray, " rows"]:
        """Which of all energies, and of the coordinates of each structure, are known."""
        each = [np.ones(len(self.atoms), bool)]
        for frame, forces, stress in zip(self.atoms, self.forces, self.stresses, strict=True):
            each += [np.full(3 * len(frame), forces is not None), np.full(6 * is_periodic(frame), stress is not None)]
        return np.concatenate(each)

    def targets(self, baseline: CompositionBaseline | None, free: bool) -> Targets:
        """The rows. free: whether composition has no penalty."""
        energies = self.energies - (baseline.predict(self.atoms) if baseline else 0.0)
        n = len(self.atoms)
        y, owner, sort = [energies], [np.arange(n)], [np.full(n, ENERGY)]
        for i, (frame, forces, stress) in enumerate(zip(self.atoms, self.forces, self.stresses, strict=True)):
            strains = None if stress is None else -frame.get_volume() * voigt(stress)
            for values, kind in ((forces, FORCE), (strains, STRAIN)):
                if values is not None:
                    y.append(np.ravel(values))
                    owner.append(np.full(np.size(values), i))
                    sort.append(np.full(np.size(values), kind))
        basis = composition_basis(self.atoms) if free else np.zeros((n, 0))
        return Targets(np.concatenate(y), np.concatenate(owner), np.concatenate(sort), basis)


def elements_of(atoms: Sequence[Atoms]) -> tuple[int, ...]:
    """The atomic numbers that occur, ascending."""
    return tuple(np.unique(np.concatenate([molecule.numbers for molecule in atoms])).tolist())


def make_baseline(
    baseline: bool | np.bool_ | Mapping[str, float],
    atoms: Sequence[Atoms],
    energies: Float[np.ndarray, " n"],
    where: str,
) -> CompositionBaseline | None:
    """Least squares for True, the energies of isolated atoms for a mapping, None for False."""
    if isinstance(baseline, Mapping):
        found = CompositionBaseline.given(baseline, where)
        missing = sorted({int(z) for frame in atoms for z in frame.numbers} - set(found.elements))
        if missing:
            raise ValueError(
                f"{where}: baseline has no energy of {', '.join(SYMBOLS[z] for z in missing)}, which structures hold; it has "
                f"{', '.join(baseline)}. Add them, or pass baseline=True for the least-squares fit of composition."
            )
        return found
    return CompositionBaseline().fit(atoms, energies) if baseline else None


def _forces(forces: Any, atoms: Sequence[Atoms], where: str) -> list[Any]:
    if forces is None:
        return [None] * len(atoms)
    if isinstance(forces, np.ndarray) or not any(own is None for own in forces):
        joined = join_forces(forces, atoms, where)
        return np.split(joined, np.cumsum([len(frame) for frame in atoms])[:-1])
    if len(forces) != len(atoms):
        raise ValueError(
            f"{where}: expected forces of {len(atoms)} structures, None where there are none, got {len(forces)}."
        )
    found: list[Any] = [None] * len(atoms)
    for i, (own, frame) in enumerate(zip(forces, atoms, strict=True)):
        if own is not None:
            found[i] = join_forces([own], [frame], f"{where}, structure {i}")
    return found


def _stresses(stresses: Any, atoms: Sequence[Atoms], where: str) -> list[Any]:
    if stresses is None:
        return [None] * len(atoms)
    refuse_masked(stresses, f"{where}: the stresses")
    if len(stresses) != len(atoms):
        raise ValueError(
            f"{where}: expected stresses of {len(atoms)} structures, None where there are none, got {len(stresses)}."
        )
    found: list[Any] = [None] * len(atoms)
    for i, (own, frame) in enumerate(zip(stresses, atoms, strict=True)):
        if own is None:
            continue
        own = np.asarray(own, np.float64)
        own = from_voigt(own) if own.shape == (6,) else own
        if own.shape != (3, 3) or not np.isfinite(own).all():
            raise ValueError(
                f"{where}: expected the stress of structure {i} to be a finite (3, 3) matrix, or (6,) in the order of Voigt, or "
                f"None, got {own!r}."
            )
        if not np.allclose(own, own.T, rtol=0, atol=SYMMETRIC * np.abs(own).max()):
            raise ValueError(f"{where}: the stress of structure {i} is not symmetric: {own.tolist()}.")
        if not is_periodic(frame):
            raise ValueError(
                f"{where}: structure {i} has a stress, but pbc {frame.pbc.tolist()} and a cell of rank {frame.cell.rank}. Set atoms.pbc "
                "and atoms.cell, or pass None for its stress."
            )
        found[i] = (own + own.T) / 2
    return found
