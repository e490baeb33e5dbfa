"""What the channels of environments mean: the settings they were computed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from so3ntk.basics.arrays import ArrayLike
from so3ntk.molecules.coefficients import DEFAULT_ANGULAR_WIDTH
from so3ntk.molecules.elements import SYMBOLS, species_numbers
from so3ntk.molecules.radial import Shells


class EnvironmentSettings(NamedTuple):
    """The settings of ``environments`` but the bandlimit, with the defaults filled in: equal where channels mean the same.

    species: atomic numbers. powers. angular_width: beta. cutoff, length: in Angstrom. radial: shells, in place of all but the
    species; else None.
    """

    species: tuple[int, ...]
    powers: tuple[float, ...]
    angular_width: float
    cutoff: float | None
    length: float
    radial: Shells | None = None

    @classmethod
    def of(cls, species: Sequence[str | int], powers: ArrayLike, angular_width: ArrayLike | None, cutoff: float | None, length: float,
           radial: Shells | None = None) -> EnvironmentSettings:  # fmt: skip
        """From arguments of ``environments`` that it has accepted."""
        return cls(
            species_numbers(species, "environments"),
            tuple(float(p) for p in np.atleast_1d(powers)),
            DEFAULT_ANGULAR_WIDTH if angular_width is None else float(np.asarray(angular_width)),
            None if cutoff is None else float(cutoff),
            float(length),
            radial,
        )

    def describe(self, name: str) -> str:
        """One of them as it is given to ``environments``."""
        value = getattr(self, name)
        return repr(tuple(SYMBOLS[z] for z in value)) if name == "species" else repr(value)


def require_equal(
    first: EnvironmentSettings | None, second: EnvironmentSettings | None, where: str, names: str
) -> None:
    """ValueError for two batches whose channels mean different things; None is unknown, and not compared."""
    if first is None or second is None or first == second:
        return
    unlike = [field for field in first._fields if getattr(first, field) != getattr(second, field)]
    found = "; ".join(f"{field} {first.describe(field)} and {second.describe(field)}" for field in unlike)
    raise ValueError(
        f"{where}: expected environments of the same settings, got for {names} {found}. Their channels mean different "
        "things: compute all environments of a problem with the same arguments of environments(...)."
    )
