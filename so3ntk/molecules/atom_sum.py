"""The sum over atoms: from kernels of environments to kernels of molecules."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np

from so3ntk.engine.layers.reduction import Composition, Parts, Reduction
from so3ntk.molecules.elements import SYMBOLS
from so3ntk.molecules.environments import Environments
from so3ntk.molecules.settings import require_equal


class AtomSum(Reduction):
    r"""The sum of a network's outputs over the atoms of a molecule, all atoms sharing the weights.

    .. math:: K(M, M') = \sum_{i \in M} \sum_{j \in M'} K(f_i, f'_j), \qquad \text{the same for } \Theta

    match_species: networks with weights of their own for each element, so that only atoms of equal elements meet;
    pairs of unlike elements are then never computed. Layers after it act on molecules.
    """

    match_species: bool = eqx.field(static=True, default=False)

    def parts(self, x: Any) -> Parts:
        """The atoms' environments, their molecules, and their elements (or zeros). TypeError for other inputs."""
        if not isinstance(x, Environments):
            raise TypeError(
                f"AtomSum: expected Environments (so3ntk.molecules.environments(atoms)), got {type(x).__name__}. "
                "For plain signals leave AtomSum out."
            )
        molecule = np.asarray(x.molecule)
        kind = np.asarray(x.numbers) if self.match_species else np.zeros_like(molecule)
        return Parts(x.signal, molecule, kind, len(x))

    def take(self, x: Any, index: np.ndarray) -> Environments:
        """Environments of single atoms, each a molecule of its own; ascending indices keep the atoms of an element together."""
        return Environments(x.signal[index], np.arange(len(index)), x.numbers[index], x.settings)

    def composition(self, x: Any) -> Composition:
        """The atoms of each element."""
        elements, place = np.unique(x.numbers, return_inverse=True)
        flat = np.bincount(x.molecule * len(elements) + place, minlength=len(x) * len(elements))
        return Composition(tuple(SYMBOLS[z] for z in elements), flat.reshape(len(x), len(elements)))

    def check_pair(self, x1: Any, x2: Any) -> None:
        """ValueError for environments whose channels mean different things."""
        require_equal(x1.settings, x2.settings, "AtomSum", "the two batches")

    def check_finite(self) -> None:
        """NotImplementedError for weights of their own for each element."""
        if self.match_species:
            raise NotImplementedError(
                "AtomSum: the finite network of match_species=True has weights of its own for each element and is not "
                "implemented; its kernels are. Use match_species=False."
            )
