"""Numbers that do not grow with the structure, as gaps: an ``InducingRegressor`` in the place of one of energies and forces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from so3ntk import InducingRegressor


class Scalars(NamedTuple):
    """As ``Prediction`` of energies and forces, of which there are none."""

    energies: np.ndarray
    forces: list[None]
    stresses: list[None]
    energy_std: np.ndarray | None
    force_std: None = None


class Intensive:
    """An ``InducingRegressor`` of atoms' environments with an intercept in place of energies of elements; takes structures."""

    def __init__(self, regressor: InducingRegressor, environment: dict[str, Any]):
        self.regressor, self.environment = regressor, environment

    @classmethod
    def new(cls, atoms: Sequence[Atoms], cutoff: float | None, inducing: int | None, progress: bool) -> Intensive:
        """Not fitted; atoms: structures that have all elements."""
        from so3ntk import InducingRegressor
        from so3ntk.molecules import Shells
        from so3ntk.molecules.energies import ENERGY_ENVIRONMENTS, energy_network

        species = tuple(sorted({symbol for molecule in atoms for symbol in molecule.get_chemical_symbols()}))
        own = {} if cutoff is None else {"radial": Shells(cutoff=cutoff)}
        regressor = InducingRegressor(energy_network(), inducing, baseline=None, progress=progress)
        return cls(regressor, {**ENERGY_ENVIRONMENTS, **own, "species": species})

    @classmethod
    def of(cls, regressor: InducingRegressor) -> Intensive | None:
        """A fitted one, whose inducing environments tell their settings; None for regressors of other inputs."""
        from so3ntk.molecules import Environments

        found = getattr(regressor, "inducing_", None)
        if not isinstance(found, Environments) or found.settings is None or found.settings.radial is None:
            return None
        settings = {"radial": found.settings.radial, "species": found.settings.species}
        return cls(regressor, {**settings, "bandlimit": found.signal.bandlimit})

    def fit(self, atoms: Sequence[Atoms], values: np.ndarray, forces: None, stresses: None) -> Intensive:
        """To one number for each structure."""
        self.regressor.fit(self._inputs(atoms), values)
        return self

    def predict(self, atoms: Sequence[Atoms], return_std: bool = False) -> Scalars:
        """The numbers, and their standard deviations."""
        found = self.regressor.predict(self._inputs(atoms), return_std)
        values, deviations = found if isinstance(found, tuple) else (found, None)
        return Scalars(np.asarray(values), [None] * len(atoms), [None] * len(atoms), deviations)

    def _inputs(self, atoms: Sequence[Atoms]) -> Any:
        from so3ntk.molecules import LazyEnvironments

        return LazyEnvironments(atoms, **self.environment)
