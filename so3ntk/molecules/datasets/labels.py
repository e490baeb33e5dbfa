"""Energies, forces and stresses of frames, under the names that programs give them, and what is wrong with them.

Names are looked for in ``atoms.info``, ``atoms.arrays`` and the calculator's results, forces as they are there: those of ase's
own ``get_forces`` are zero for atoms that a constraint holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import refuse_masked
from so3ntk.molecules.strains import from_voigt, is_periodic

if TYPE_CHECKING:
    from ase import Atoms

_SOURCES = ("", "ref_", "dft_")
#: Names, whatever their case.
ENERGIES = (*(f"{source}energy" for source in _SOURCES), "free_energy", "total_energy", "potential_energy")
FORCES = tuple(f"{source}{name}" for source in _SOURCES for name in ("forces", "force"))
STRESSES = tuple(f"{source}{name}" for source in _SOURCES for name in ("stress", "virial", "virials"))
#: How near two candidates are that say the same: files round.
ROUNDED = 1e-6
#: A stress is symmetric, but for its rounding and that of its differences.
ASYMMETRY = 0.05


class Arguments(NamedTuple):
    """What a caller knows these arguments by, for messages."""

    energy: str = "energy_key"
    forces: str = "forces_key"
    stress: str = "stress_key"
    part: str = "part"
    unit: str = "unit"


def held_by(atoms: Atoms) -> dict[str, Any]:
    """What a frame holds beside its structure, by name. What is in ``info`` goes before ``arrays``, and these before results."""
    held: dict[str, Any] = {} if atoms.calc is None else dict(atoms.calc.results)
    held |= {name: value for name, value in atoms.arrays.items() if name not in ("numbers", "positions")}
    return held | {str(name): value for name, value in atoms.info.items()}


def number_of(held: Mapping[str, Any], key: str, where: str, argument: str) -> float:
    """A finite number of a frame; ValueError if it has none of that name, with those there are, or if it is something else."""
    value = held.get(key)
    if value is None:
        numbers = sorted(name for name, value in held.items() if finite_number(value) is not None)
        remedy = (
            f"it has {', '.join(numbers)}. Pass one of these as {argument}"
            if numbers
            else f"it has no numbers at all. In extended xyz one stands in the comment of each frame, as {key}=-1.5"
        )
        raise ValueError(f"{where} has no {key!r}; {remedy}.")
    number = finite_number(value)
    if number is None:
        raise ValueError(f"{where}: expected {key!r} to be a finite number, got {value}.")
    return number


def forces_of(held: Mapping[str, Any], key: str, n: int, where: str, argument: str) -> Float[np.ndarray, "atoms 3"]:
    """Forces of a frame of n atoms; ValueError if it has none of that name, for another shape, masked entries and NaN."""
    forces = held.get(key)
    if forces is None:
        fitting = sorted(name for name, value in held.items() if np.shape(value) == (n, 3))
        remedy = (
            f"it has the arrays (atoms, 3) {', '.join(fitting)}. Pass one of these as {argument}"
            if fitting
            else f"it has no arrays (atoms, 3). In extended xyz they are columns, {key}:R:3 in the Properties of each frame"
        )
        raise ValueError(f"{where} has no {key!r}; {remedy}.")
    found = _numbers(forces, f"{where}: the forces {key!r}")
    if found.shape != (n, 3):
        raise ValueError(
            f"{where}: expected the forces {key!r} to have the shape ({n}, 3), a row for each atom, got {found.shape}. Are they "
            "of another frame?"
        )
    return found


def stress_of(held: Mapping[str, Any], key: str, atoms: Atoms, where: str, argument: str) -> Float[np.ndarray, "3 3"]:
    r"""The stress of a periodic frame, dE/dstrain / volume, from itself or, with "virial" in the name, from -volume times it.

    Matrices (3, 3), nine numbers, or six in Voigt's order xx, yy, zz, yz, xz, xy. ValueError for other shapes, NaN, matrices
    that are not symmetric, and frames without a periodic cell.
    """
    value = held.get(key)
    if value is None:
        fitting = sorted(name for name, value in held.items() if np.shape(value) in ((6,), (9,), (3, 3)))
        raise ValueError(
            f"{where} has no {key!r}; of six or nine numbers it has {', '.join(fitting) or 'none'} ({argument})."
        )
    remedy = f"Leave stresses out by {argument}" + ("=False" if argument.isidentifier() else "")
    if not is_periodic(atoms):
        raise ValueError(
            f"{where} has a {key!r}, but no periodic cell (pbc {atoms.pbc.tolist()}, {atoms.cell.rank} cell vectors), and a "
            f'stress is per volume. In extended xyz both stand in the comment, as Lattice="10 0 0 0 10 0 0 0 10" '
            f'pbc="T T T". {remedy}.'
        )
    found = _numbers(value, f"{where}: {key!r}")
    if found.shape not in ((3, 3), (9,), (6,)):
        raise ValueError(
            f"{where}: expected {key!r} to be a matrix (3, 3), or six numbers xx, yy, zz, yz, xz, xy, got the shape "
            f"{found.shape}. {remedy}."
        )
    matrix = from_voigt(found) if found.shape == (6,) else found.reshape(3, 3)
    if np.abs(matrix - matrix.T).max() > ASYMMETRY * np.abs(matrix).max():
        raise ValueError(f"{where}: expected {key!r} to be symmetric, got {matrix.tolist()}. {remedy}.")
    return (matrix + matrix.T) / 2 * (-1 / atoms.get_volume() if "virial" in key.lower() else 1.0)


def find_key(
    frames: Sequence[Mapping[str, Any]],
    known: Sequence[str],
    read: Callable[[int, str], Any],
    where: str,
    argument: str,
) -> str | None:
    """The name under which frames of one file have a quantity, or None; ValueError where they say different things.

    Several names are fine where they agree in each frame and one of them is in all frames that have any. read: the value of a
    frame under a name, in one unit whatever the name.
    """
    present = {name: rows for name in _names(frames, known) if (rows := _rows_with(frames, name))}
    if len(present) < 2:
        return next(iter(present), None)
    best = max(present, key=lambda name: len(present[name]))
    for name, rows in present.items():
        for row in rows:
            if row not in present[best] or not _agree(read(row, best), read(row, name)):
                raise ValueError(
                    f"{where} has {', '.join(present)} (in {', '.join(str(len(rows)) for rows in present.values())} of "
                    f"{len(frames)} frames), which are not the same in frame {row}. Say which is meant: {argument}"
                    + (f"={best!r}." if argument.isidentifier() else f" {best}.")
                )
    return best


def finite_number(value: object) -> float | None:
    """The value as a float, if it is a finite number."""
    if isinstance(value, np.ma.MaskedArray) or not isinstance(value, int | float | np.number | np.ndarray):
        return None
    number = np.asarray(value)
    return float(number) if number.ndim == 0 and number.dtype.kind in "iuf" and np.isfinite(number) else None


def _names(frames: Sequence[Mapping[str, Any]], known: Sequence[str]) -> list[str]:
    """Those that occur, in the order of the known ones."""
    held = dict.fromkeys(name for frame in frames for name in frame)
    return [name for wanted in known for name in held if name.lower() == wanted]


def _rows_with(frames: Sequence[Mapping[str, Any]], name: str) -> list[int]:
    return [row for row, frame in enumerate(frames) if frame.get(name) is not None]


def _agree(a: Any, b: Any) -> bool:
    try:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    except (TypeError, ValueError):
        return False
    return a.size == b.size and np.allclose(a.ravel(), b.ravel(), rtol=ROUNDED, atol=ROUNDED)


def _numbers(value: Any, what: str) -> np.ndarray:
    refuse_masked(value, what)
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what}: expected an array of numbers, got {str(value)[:60]!r}.") from None
    if not np.isfinite(found).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
        raise ValueError(f"{what} hold NaN or infinity, first at {first}.")
    return found
