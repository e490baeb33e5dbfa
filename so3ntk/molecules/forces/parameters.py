"""What an ``EnergyForceRegressor`` may be made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.arguments import check_flag, is_number
from so3ntk.molecules.elements import SYMBOLS
from so3ntk.molecules.forces.defaults import check_environment, check_force_network
from so3ntk.molecules.forces.known import Known

if TYPE_CHECKING:
    from ase import Atoms


def check_parameters(model: Any, known: Known) -> None:
    """ValueError or TypeError for what ``EnergyForceRegressor`` was made with, or for noises of what is not known."""
    where = type(model).__name__
    check_force_network(model.network_, model.kernel, where)
    check_environment(model.environment, where)
    check_flag(model.progress, where, "progress")
    if not isinstance(model.baseline, bool | np.bool_ | Mapping):
        raise TypeError(
            f"{where}: expected baseline to be True, to subtract the least-squares fit of composition to these energies, a dict "
            f"of the energies of isolated atoms by symbol, or False, got {model.baseline!r}. Other references are subtracted before: "
            "fit(atoms, energies - reference) with baseline=False."
        )
    for name, parts in (("force_noise", known.forces), ("stress_noise", known.stresses)):
        if getattr(model, name) is not None and all(own is None for own in parts):
            what = name.removesuffix("_noise") + ("s" if name == "force_noise" else "es")
            raise ValueError(
                f"{where}: {name}={getattr(model, name)!r} is for {what}, and fit was given none. Pass {what}, or "
                f"{name}=None."
            )
    for name in ("energy_noise", "force_noise", "stress_noise"):
        value = getattr(model, name)
        if value is not None and not (is_number(value) and 0 <= value < np.inf):
            raise ValueError(f"{where}: expected {name} to be None or a finite variance >= 0, got {value!r}.")
        if value == 0 and model.inducing is not None:
            raise ValueError(f"{where}: with inducing functions {name} must be positive, got {value!r}.")
    check_count(model.selection, where, "selection, a number of molecules,")
    if model.inducing is not None:
        check_count(model.inducing, where, "inducing, a number of functions,")


def check_count(value: Any, where: str, name: str) -> None:
    """ValueError unless it is an integer from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{where}: expected {name} to be at least 1, got {value!r}.")


def check_elements(atoms: Sequence[Atoms], species: tuple[int, ...], where: str) -> None:
    """ValueError for structures with elements that a model was not fitted to."""
    for number, molecule in enumerate(atoms):
        if unknown := sorted(set(molecule.numbers.tolist()) - set(species)):
            names, known = (", ".join(SYMBOLS[z] for z in elements) for elements in (unknown, species))
            raise ValueError(
                f"{where}: molecule {number} holds {names}, which no training molecule did ({known}): its contribution is "
                "unknown. Put a molecule with it into the training set."
            )
