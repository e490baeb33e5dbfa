"""A fitted model as an ASE calculator: molecular dynamics, relaxation and everything else that ASE does with forces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from so3ntk.basics.arguments import check_flag, is_number
from so3ntk.basics.caller import warn
from so3ntk.molecules.forces.consistency import ENERGIES
from so3ntk.molecules.forces.regressor import EnergyForceRegressor
from so3ntk.molecules.strains import voigt

try:
    from ase.calculators.calculator import Calculator as AseCalculator
    from ase.calculators.calculator import PropertyNotImplementedError, all_changes
except ModuleNotFoundError as error:
    raise ImportError(
        "Calculator: needs ase, which is not installed: pip install -e '.[molecules]' in the checkout of so3ntk."
    ) from error


class Calculator(AseCalculator):
    """Energies, forces and stresses of a fitted ``EnergyForceRegressor`` for ASE.

    unit: the model's unit of energy in eV, 1.0 if it was fitted in eV; for kcal/mol ``ase.units.kcal / ase.units.mol``. None is
    the unit that the model's file says (``so3ntk fit``), else eV. ASE's units are eV and Angstrom: all results are in eV, eV per Angstrom and eV per cubic Angstrom.
    with_std: also compute standard deviations at each step, which costs a multiple of the mean. warn_above: a standard deviation of
    an atom's force, in eV per Angstrom (the root of the sum of the squares of its three components), above which there is a
    warning, once for each calculator; None for none. It asks for deviations at each step, too.

    Results: "energy", "free_energy" (the same), "forces" (atoms, 3), and of periodic structures "stress" (6,), in the order of Voigt;
    with deviations "energy_std", "force_std" and "stress_std", the posterior's standard deviations, in the same units, to tell where the
    surface is not to be trusted. Example: ``atoms.calc = Calculator(model)``, then ``ase.optimize.BFGS(atoms).run(fmax=0.05)``.
    Raises TypeError for a model that is no regressor, ValueError for a unit that is not positive, and what ``predict``
    raises, NotFittedError among them; PropertyNotImplementedError for the stress of a structure without a cell.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy", "free_energy", "forces", "stress", "energy_std", "force_std", "stress_std",
    ]  # fmt: skip

    def __init__(
        self,
        model: EnergyForceRegressor,
        unit: float | None = None,
        with_std: bool = False,
        warn_above: float | None = None,
        **options: Any,
    ):
        if not isinstance(model, EnergyForceRegressor):
            raise TypeError(f"Calculator: expected a fitted EnergyForceRegressor, got {type(model).__name__}.")
        if unit is None:
            unit = _unit_of(model)
        if not (is_number(unit) and 0 < unit < np.inf):
            raise ValueError(
                f"Calculator: expected unit, the model's unit of energy in eV, to be positive, got {unit!r}."
            )
        check_flag(with_std, "Calculator", "with_std")
        if not (warn_above is None or (is_number(warn_above) and warn_above > 0)):
            raise ValueError(
                f"Calculator: expected warn_above, a standard deviation of forces in eV/Angstrom, to be positive or None, got {warn_above!r}."
            )
        super().__init__(**options)
        self.model, self.unit, self.with_std, self.warn_above = model, float(unit), with_std, warn_above
        self.warned = False

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Fill ``results`` for one structure."""
        super().calculate(atoms, properties, system_changes)
        deviations = self.with_std or self.warn_above is not None or any(name.endswith("_std") for name in properties)
        found = self.model.predict([self.atoms], return_std=deviations)  # pyright: ignore[reportArgumentType]
        energy = float(found.energies[0]) * self.unit
        self.results = {"energy": energy, "free_energy": energy, "forces": found.forces[0] * self.unit}
        self._keep_stress("stress", found.stresses)
        if found.energy_std is not None and found.force_std is not None:
            self.results["energy_std"] = float(found.energy_std[0]) * self.unit
            self.results["force_std"] = found.force_std[0] * self.unit
            self._keep_stress("stress_std", found.stress_std)
            self._warn_if_uncertain()
        missing = [name for name in properties if name not in self.results]
        if missing:
            raise PropertyNotImplementedError(
                f"Calculator: {', '.join(missing)} of a structure without a cell. Set atoms.cell and atoms.pbc for a periodic one."
            )

    def _keep_stress(self, name: str, values: Any) -> None:
        if values is not None and values[0] is not None:
            self.results[name] = voigt(values[0]) * self.unit

    def _warn_if_uncertain(self) -> None:
        """Once: dynamics would repeat it at every step."""
        if self.warn_above is None or self.warned:
            return
        each = np.linalg.norm(self.results["force_std"], axis=1)
        if each.max() > self.warn_above:
            self.warned = True
            atom = int(np.argmax(each))
            warn(
                f"Calculator: the force on atom {atom} has a standard deviation of {each[atom]:.3g} eV/Angstrom, more than "
                f"warn_above={self.warn_above:g}: the structure is unlike those that the model was fitted to. Add such structures to the "
                "training set. (This is said once.)"
            )


def _unit_of(model: EnergyForceRegressor) -> float:
    """The unit in eV of a model that says it; ValueError for one that is no unit of energy."""
    name = getattr(model, "about_", {}).get("unit", "eV")
    if name not in ENERGIES:
        raise ValueError(
            f"Calculator: the model is in {name!r}, which is no unit of energy ({', '.join(ENERGIES)}). Pass unit, its size in eV."
        )
    return ENERGIES[name]
