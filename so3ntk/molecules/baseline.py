"""What composition alone predicts: the part of an energy that is a sum over the atoms' elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arguments import is_number
from so3ntk.basics.arrays import refuse_masked
from so3ntk.molecules.elements import SYMBOLS, atomic_number

if TYPE_CHECKING:
    from ase import Atoms


class CompositionBaseline:
    r"""The least-squares fit of a sum over elements, y = sum_z n_z e_z with n_z atoms of element z.

    Fit it on the training molecules only and regress what is left: total energies vary by thousands of eV
    with composition, and by a few eV otherwise. Where compositions do not determine every e_z (all molecules
    CH2, say) the solution of least norm is taken. After ``fit``: ``elements`` and ``values`` (elements,) or
    (elements, k).
    """

    elements: tuple[int, ...]
    values: Float[np.ndarray, "elements ..."]

    def fit(self, atoms: Sequence[Atoms], y) -> CompositionBaseline:
        """Fit to molecules and their values y, (n,) or (n, k), in any unit.

        Raises ValueError for no molecules, other lengths and values that are not finite.
        """
        refuse_masked(y, "CompositionBaseline.fit: the values y")
        y = np.asarray(y, np.float64)
        if len(atoms) == 0 or y.ndim == 0 or len(y) != len(atoms):
            raise ValueError(
                "CompositionBaseline.fit: expected one value per molecule and at least one molecule, got "
                f"{len(atoms)} molecules and values of shape {y.shape}."
            )
        if not np.isfinite(y).all():
            raise ValueError("CompositionBaseline.fit: the values hold NaN or infinity.")
        self.elements = tuple(sorted({z for a in atoms for z in a.numbers.tolist()}))
        self.values = np.linalg.lstsq(self._counts(atoms), y, rcond=None)[0]
        return self

    @classmethod
    def given(cls, energies: Mapping[str, float], where: str = "CompositionBaseline.given") -> CompositionBaseline:
        """Of given energies by symbol, such as those of isolated atoms; ValueError for what is no element or number."""
        values = {}
        for symbol, energy in energies.items():
            number = atomic_number(symbol, where)
            if not (is_number(energy) and np.isfinite(energy)):
                raise ValueError(f"{where}: expected a finite energy of {symbol}, got {energy!r}.")
            values[number] = float(energy)
        found = cls()
        found.elements = tuple(sorted(values))
        found.values = np.array([values[z] for z in found.elements])
        return found

    def add(self, atoms: Sequence[Atoms], y: Float[np.ndarray, "n ..."]) -> None:
        """Add the fit of more values of molecules that hold the fitted elements."""
        self.values = self.values + np.linalg.lstsq(self._counts(atoms), y, rcond=None)[0]

    def predict(self, atoms: Sequence[Atoms]) -> Float[np.ndarray, "n ..."]:
        """The sum over elements for each molecule, (n,) or (n, k).

        Raises ValueError for an element that no training molecule had, RuntimeError before ``fit``.
        """
        if not hasattr(self, "elements"):
            raise RuntimeError("CompositionBaseline.predict: call fit(atoms, y) on the training molecules first.")
        return self._counts(atoms) @ self.values

    def _counts(self, atoms: Sequence[Atoms]) -> np.ndarray:
        counts = np.zeros((len(atoms), len(self.elements)))
        for row, molecule in enumerate(atoms):
            unknown = sorted(set(molecule.numbers.tolist()) - set(self.elements))
            if unknown:
                raise ValueError(
                    f"CompositionBaseline.predict: molecule {row} holds "
                    f"{', '.join(SYMBOLS[z] for z in unknown)}, which no training molecule did "
                    f"({', '.join(SYMBOLS[z] for z in self.elements)}): its contribution is unknown. Put a "
                    "molecule with it into the training set."
                )
            counts[row] = [np.count_nonzero(molecule.numbers == z) for z in self.elements]
        return counts
