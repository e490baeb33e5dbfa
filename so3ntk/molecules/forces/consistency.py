r"""Whether forces fit the energies, and lengths the elements: signs and units, as the data themselves tell them.

For two frames a and b of one molecule the trapezoid rule gives

.. math:: E_b - E_a \approx w_{ab} = -\tfrac12 (F_a + F_b) \cdot (R_b - R_a),

exact where the energy is quadratic between them. Their ratio is 1; -1 if forces are gradients, a ratio of units if one of
the quantities is in another. Rigid motion changes no energy and cannot be told from data that were turned on purpose, so b
is moved onto a first. The slope of least absolute deviation, the median of the ratios with weights |w|, bears pairs for
which the rule is bad. If positions and forces are both in Bohr nothing shows here; it does in the lengths of bonds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.arrays import ArrayLike
from so3ntk.basics.caller import warn
from so3ntk.molecules.datasets.targets import check_energies, check_molecules, join_forces
from so3ntk.molecules.neighbours import pairs_within
from so3ntk.molecules.structures import atom_name

if TYPE_CHECKING:
    from ase import Atoms

#: Angstrom: no two atoms are as near as this; the shortest bond is 0.74.
TOO_NEAR = 0.4
#: Bonds of hydrogen are as long as the sum of covalent radii, in Bohr 1.9 times.
TOO_LONG = 1.6
#: Frames of one molecule that are compared with each other, nearest ones that each is paired with, and how far (Angstrom)
#: an atom may then have moved. Measured on ethanol and acetamide at 500 to 700 K (GFN1-xTB, frames 100 fs apart): quartiles
#: of the factor 0.94 to 1.3 below 0.3 Angstrom, 0.5 to 1.1 below 0.6; other isomers are beyond.
FRAMES, NEAREST, FARTHEST = 100, 2, 0.3
#: Fewer pairs tell nothing; ratios between these are those of noise and of the trapezoid rule.
FEWEST, TOLERATED = 3, (0.8, 1.25)
#: Units of energy in eV, and Bohr in Angstrom (CODATA 2014, as ase has them).
ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": 0.0433641042,
    "kJ/mol": 0.0103642688,
    "Hartree": 27.2113860,
    "Rydberg": 13.6056930,
}
BOHR = 0.529177211
#: How near a factor is to that of a cause, and how near its quartiles are to each other, for one to be named.
CLOSE, SPREAD = 0.04, 0.5


class Consistency(NamedTuple):
    """The ratio of energy differences to the forces' work, its quartiles, and the number of pairs; NaN without pairs."""

    factor: float
    low: float
    high: float
    pairs: int

    @property
    def contradicts(self) -> bool:
        """Whether three quarters of enough pairs have factors below 0.8, or above 1.25."""
        return self.pairs >= FEWEST and (self.high < TOLERATED[0] or self.low > TOLERATED[1])


def check_forces(
    atoms: Sequence[Atoms], energies: ArrayLike, forces: np.ndarray | Sequence, where: str = "check_forces"
) -> Consistency:
    """Compare forces with differences of energies along the data, and warn of another sign or unit.

    atoms: molecules, of which only those that occur in several frames, with the same order of atoms, tell anything (up to
    100 of each, each with its two nearest, where no atom moves by 0.3 Angstrom). energies (n,), forces: a list of (atoms, 3), or all in one array. where: who
    asks, for the messages.

    Returns the factor by which energies change more than the forces say, 1 if all is well, as ``compare_forces``. Warns (UserWarning) if three quarters of the pairs have factors below 0.8 or above
    1.25, with the likely cause, and of distances that no two atoms have (``check_distances``).
    Raises TypeError and ValueError as ``EnergyForceRegressor.fit``.
    """
    atoms = check_molecules(atoms, where)
    check_distances(atoms, where)
    found = compare_forces(atoms, energies, forces, where)
    if found.contradicts:
        warn(
            f"{where}: energies and forces do not belong together. Between {found.pairs} pairs of frames of the same molecules "
            f"energies change by {found.factor:.3g} times (quartiles {found.low:.3g} and {found.high:.3g}) what the forces "
            f"say, -(F_a + F_b)/2 . (R_b - R_a), instead of once. {_cause(found)}"
        )
    return found


def compare_forces(
    atoms: Sequence[Atoms], energies: ArrayLike, forces: np.ndarray | Sequence, where: str = "compare_forces"
) -> Consistency:
    """The ratio at the head of this file, without a warning. Arguments and errors as ``check_forces``."""
    energies, joined = check_energies(energies, len(atoms), where), join_forces(forces, atoms, where)
    by_frame = np.split(joined, np.cumsum([len(molecule) for molecule in atoms])[:-1])
    pairs = [pair for rows in _groups(atoms) for pair in _pairs([atoms[row] for row in rows], rows)]
    change = np.array([energies[b] - energies[a] for a, b, _, _ in pairs])
    work = np.array([-0.5 * np.sum((by_frame[a] + by_frame[b] @ turn) * step) for a, b, step, turn in pairs])
    return _ratio(change, work)


def check_distances(atoms: Sequence[Atoms], where: str) -> None:
    """Warn of atoms nearer than 0.4 Angstrom, and of hydrogen's bonds as long as they are in Bohr."""
    from ase.data import covalent_radii

    numbers = np.concatenate([molecule.numbers for molecule in atoms])
    owner = np.repeat(np.arange(len(atoms)), [len(molecule) for molecule in atoms])
    positions = np.concatenate([molecule.positions for molecule in atoms])
    edges = pairs_within(atoms, 3.0)
    vectors = positions[edges.neighbour] + np.asarray(edges.offsets) - positions[edges.centre]
    distances = np.linalg.norm(vectors, axis=1)
    if len(distances) and distances.min() < TOO_NEAR:
        edge = int(np.argmin(distances))
        first, second = sorted((int(edges.centre[edge]), int(edges.neighbour[edge])))
        warn(
            f"{where}: {atom_name(owner, first)}, and {atom_name(owner, second)}, are {distances[edge]:.3g} Angstrom apart, "
            f"nearer than {TOO_NEAR}, and so are {int(np.sum(distances < TOO_NEAR)) // 2} pairs in all. Positions are "
            "expected in Angstrom: multiply those in nm by 10, and leave those in Angstrom unconverted."
        )
        return
    relative = np.full(len(numbers), np.inf)
    bonds = covalent_radii[numbers[edges.centre]] + covalent_radii[numbers[edges.neighbour]]
    np.minimum.at(relative, edges.centre, distances / bonds)
    hydrogens = relative[(numbers == 1) & np.isfinite(relative)]
    if len(hydrogens) and np.median(hydrogens) > TOO_LONG:
        warn(
            f"{where}: the bonds of hydrogen are {np.median(hydrogens):.3g} times as long as they should be (median of "
            f"{len(hydrogens)}), and 1.9 times is Bohr in place of Angstrom: multiply the positions by {BOHR:.6f}, and forces "
            f"per Bohr by {1 / BOHR:.6f}."
        )


def _groups(atoms: Sequence[Atoms]) -> list[Int[np.ndarray, " m"]]:
    """The rows of molecules with the same atoms in the same order, in the same cell: those that are there twice."""
    found: dict[tuple, list[int]] = {}
    for row, molecule in enumerate(atoms):
        cell = np.asarray(molecule.cell).round(6).tobytes() if molecule.pbc.any() else b""
        found.setdefault((molecule.numbers.tobytes(), molecule.pbc.tobytes(), cell), []).append(row)
    return [np.array(rows[:FRAMES]) for rows in found.values() if len(rows) > 1]


def _pairs(frames: Sequence[Atoms], rows: Int[np.ndarray, " m"]) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Each frame with its nearest ones: two rows, the way from the first to the second, and the second's rotation."""
    first, second = np.triu_indices(len(frames), 1)
    positions = np.stack([frame.positions for frame in frames])
    if frames[0].pbc.any():
        steps = _shortest(positions[second] - positions[first], frames[0])
        turns = np.broadcast_to(np.eye(3), (len(first), 3, 3))
    else:
        centred = positions - positions.mean(axis=1, keepdims=True)
        turns = _superpose(centred[second], centred[first])
        steps = centred[second] @ turns - centred[first]
    lengths = np.full((len(frames), len(frames)), np.inf)
    lengths[first, second] = lengths[second, first] = np.sum(steps**2, axis=(1, 2))
    nearest = np.argsort(lengths, axis=1)[:, :NEAREST]
    chosen = {tuple(sorted((i, int(j)))) for i, near in enumerate(nearest) for j in near if i != j}
    moved = np.linalg.norm(steps, axis=2).max(axis=1)
    return [
        (int(rows[i]), int(rows[j]), steps[k], turns[k])
        for k, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True))
        if (i, j) in chosen and moved[k] < FARTHEST
    ]


def _superpose(moved: Float[np.ndarray, "p atoms 3"], fixed: Float[np.ndarray, "p atoms 3"]) -> np.ndarray:
    """The rotations Q with moved Q nearest to fixed, both centred. Source: Kabsch (1976)."""
    left, _, right = np.linalg.svd(np.swapaxes(moved, 1, 2) @ fixed)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right


def _shortest(steps: Float[np.ndarray, "p atoms 3"], frame: Atoms) -> Float[np.ndarray, "p atoms 3"]:
    """Of each atom's ways to its periodic images the shortest, less the mean: all atoms moving together change nothing."""
    from ase.geometry import find_mic

    periodic: Any = frame.pbc  # ase's annotation has one for all axes
    vectors, _ = find_mic(steps.reshape(-1, 3), frame.cell, periodic)
    vectors = np.asarray(vectors).reshape(steps.shape)
    return vectors - vectors.mean(axis=1, keepdims=True)


def _ratio(change: Float[np.ndarray, " p"], work: Float[np.ndarray, " p"]) -> Consistency:
    """The quartiles of change / work with weights |work|."""
    told = work != 0
    if not told.any():
        none = math.inf if np.any(change != 0) else math.nan  # forces of zero, and energies that change all the same
        return Consistency(none, none, none, len(work))
    ratios, weights = change[told] / work[told], np.abs(work[told])
    order = np.argsort(ratios)
    shares = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    low, middle, high = np.interp([0.25, 0.5, 0.75], shares, ratios[order])
    return Consistency(float(middle), float(low), float(high), int(told.sum()))


def _cause(found: Consistency) -> str:
    """The likely cause of a factor, and what to do."""
    factor = found.factor
    if math.isinf(factor):
        return "The forces are zero."
    certain = abs(found.high - found.low) < SPREAD * abs(factor)
    likely = [cause for cause in _causes() if certain and abs(factor / cause.factor - 1) < CLOSE]
    if not likely:
        return "No sign or unit explains that: are they of the same frames, in the same order, and of the same method?"
    cause = min(likely, key=lambda cause: (len(cause.words), abs(factor / cause.factor - 1)))
    forces = cause.factor / cause.positions
    remedies = [f"the positions by {cause.positions:.6g}"] * (cause.positions != 1)
    remedies += [f"the forces by {forces:.6g}"] * (forces != 1)
    return f"It seems that {' and '.join(cause.words)}: multiply {' and '.join(remedies)}."


class _Cause(NamedTuple):
    """What would lead to a factor; positions: what they are to be multiplied by, the rest being the forces'."""

    factor: float
    words: tuple[str, ...]
    positions: float = 1.0


def _causes() -> Iterator[_Cause]:
    """Signs, units of energy and units of length, alone and together."""
    signs = ((1.0, ()), (-1.0, ("the forces have the wrong sign (they are gradients)",)))
    lengths: list[tuple[float, tuple[str, ...], float]] = [(1.0, (), 1.0)]
    for unit, size in (("Bohr", BOHR), ("nm", 10.0)):
        lengths += [(1 / size, (f"forces are per {unit}",), 1.0), (size, (f"positions are in {unit}",), size)]
    units = [(1.0, ())] + [
        (ENERGIES[force] / ENERGIES[energy], (f"energies are in {energy} and forces in {force}",))
        for energy, force in permutations(ENERGIES, 2)
    ]
    for (sign, first), (ratio, second), (scale, third, positions) in product(signs, units, lengths):
        yield _Cause(sign * ratio * scale, (*first, *second, *third), positions)
