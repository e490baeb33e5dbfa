"""Chemical symbols and atomic numbers, so that nothing but reading files needs ase."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from so3ntk.molecules.structures import atom_name

_TABLE = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb "
    "Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf "
    "Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh "
    "Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
#: Symbols in the order of the atomic number; entry 0 is the ghost atom.
SYMBOLS: tuple[str, ...] = tuple(_TABLE.split())


def atomic_number(element: str | int, where: str) -> int:
    """The atomic number of a symbol ("C") or of a number given as such; ValueError unless it is 1 to 118."""
    if isinstance(element, str):
        if element not in SYMBOLS[1:]:
            raise ValueError(f"{where}: {element!r} is not the symbol of a chemical element; symbols are like 'Cl'.")
        return SYMBOLS.index(element)
    if isinstance(element, bool) or not isinstance(element, int | np.integer):
        raise TypeError(f"{where}: expected an element as a symbol or an atomic number, got {element!r}.")
    if not 1 <= element < len(SYMBOLS):
        raise ValueError(f"{where}: {element} is not the atomic number of an element (1 to {len(SYMBOLS) - 1}).")
    return int(element)


def species_numbers(species: Sequence[str | int], where: str) -> tuple[int, ...]:
    """The atomic numbers of a tuple of distinct elements; ValueError if it is empty or repeats one."""
    if isinstance(species, str):
        raise TypeError(f"{where}: expected species as a tuple such as ('H', 'C'), got the string {species!r}.")
    numbers = tuple(atomic_number(element, where) for element in species)
    if not numbers or len(set(numbers)) != len(numbers):
        raise ValueError(f"{where}: expected one or more distinct species, got {tuple(species)!r}.")
    return numbers


def species_index(
    numbers: Int[np.ndarray, " atoms"],
    molecule: Int[np.ndarray, " atoms"],
    species: tuple[int, ...],
    where: str,
) -> Int[np.ndarray, " atoms"]:
    """The place of each atom's element in ``species``; ValueError naming one that is not among them."""
    table = np.full(len(SYMBOLS), -1)
    table[list(species)] = np.arange(len(species))
    out_of_range = (numbers < 0) | (numbers >= len(SYMBOLS))
    if out_of_range.any():
        atom = int(np.argmax(out_of_range))
        raise ValueError(
            f"{where}: {atom_name(molecule, atom)} has the atomic number {numbers[atom]}, which no element has."
        )
    if (numbers == 0).any():
        raise ValueError(
            f"{where}: {atom_name(molecule, int(np.argmax(numbers == 0)))} is a ghost atom (Z = 0, symbol "
            "X), which has no charge and no environment. Delete ghost atoms first: del atoms[atoms.numbers "
            "== 0]."
        )
    index = table[numbers]
    if (index < 0).any():
        missing = sorted(set(numbers[index < 0].tolist()))
        names = ", ".join(SYMBOLS[z] for z in missing)
        complete = tuple(SYMBOLS[z] for z in sorted({*species, *missing}))
        raise ValueError(
            f"{where}: the element {names} (first: {atom_name(molecule, int(np.argmax(index < 0)))}) is not "
            f"among the species {tuple(SYMBOLS[z] for z in species)}. Pass species={complete}, the same for "
            "all molecules of a problem."
        )
    return index
