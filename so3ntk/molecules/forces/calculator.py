"""A fitted model as an ASE calculator: molecular dynamics, relaxation and everything else that ASE does with forces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from so3ntk.basics.arguments import check_flag
from so3ntk.molecules.forces.regressor import EnergyForceRegressor

try:
    from ase.calculators.calculator import Calculator as AseCalculator
    from ase.calculators.calculator import all_changes
except ModuleNotFoundError as error:
    raise ImportError(
        "Calculator: needs ase, which is not installed: pip install -e '.[molecules]' in the checkout of so3ntk."
    ) from error


class Calculator(AseCalculator):
    """Energies and forces of a fitted ``EnergyForceRegressor`` for ASE.

    unit: the model's unit of energy in eV, 1.0 if it was fitted in eV; for kcal/mol
    ``ase.units.kcal / ase.units.mol``. ASE's units are eV and Angstrom: all results are in eV and eV per Angstrom.
    with_std: also compute standard deviations at each step, which costs a multiple of the mean.

    Results: "energy", "free_energy" (the same), "forces" (atoms, 3); with ``with_std`` "energy_std" and "force_std", the
    posterior's standard deviations, in the same units, to tell where the surface is not to be trusted.
    Example: ``atoms.calc = Calculator(model)``, then ``ase.optimize.BFGS(atoms).run(fmax=0.05)``.
    Raises TypeError for a model that is no regressor, ValueError for a unit that is not positive, and what ``predict``
    raises, NotFittedError among them.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "energy_std", "force_std"]

    def __init__(self, model: EnergyForceRegressor, unit: float = 1.0, with_std: bool = False, **options: Any):
        if not isinstance(model, EnergyForceRegressor):
            raise TypeError(f"Calculator: expected a fitted EnergyForceRegressor, got {type(model).__name__}.")
        if isinstance(unit, bool) or not isinstance(unit, int | float | np.number) or not 0 < unit < np.inf:
            raise ValueError(
                f"Calculator: expected unit, the model's unit of energy in eV, to be positive, got {unit!r}."
            )
        check_flag(with_std, "Calculator", "with_std")
        super().__init__(**options)
        self.model, self.unit, self.with_std = model, float(unit), with_std

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Fill ``results`` for one structure."""
        super().calculate(atoms, properties, system_changes)
        deviations = self.with_std or any(name.endswith("_std") for name in properties)
        found = self.model.predict([self.atoms], return_std=deviations)  # pyright: ignore[reportArgumentType]
        energy = float(found.energies[0]) * self.unit
        self.results = {"energy": energy, "free_energy": energy, "forces": found.forces[0] * self.unit}
        if found.energy_std is not None and found.force_std is not None:
            self.results["energy_std"] = float(found.energy_std[0]) * self.unit
            self.results["force_std"] = found.force_std[0] * self.unit
