"""Waters held together by springs: a surface whose energies and forces are known."""

import numpy as np
from ase import Atoms

from so3ntk import Dense, Erf, GroupPool, Lift, ProductGrid, serial
from so3ntk.molecules import AtomSum

SETTINGS = {"species": ("H", "O"), "powers": (1.0, 3.0), "bandlimit": 3}
PAIRS = ((0, 1, 450.0, 0.97), (0, 2, 450.0, 0.97), (1, 2, 120.0, 1.53))  # atoms, kcal/mol/A^2, A


def small_network(n=8):
    last = (GroupPool(), Dense(), AtomSum(match_species=True))
    return serial(Lift(W_std=0.1, b_std=0.5), Erf(), *last, quadrature=ProductGrid(n), rtol=0.5)


def waters(n, seed, amplitude=0.06):
    rng = np.random.default_rng(seed)
    positions = np.array([[0.0, 0.0, 0.1], [0.76, 0.0, -0.5], [-0.76, 0.0, -0.5]])
    return [Atoms("OHH", positions + amplitude * rng.normal(size=(3, 3))) for _ in range(n)]


def springs(atoms):
    """Energies in kcal/mol and forces in kcal/mol/Angstrom."""
    energies, forces = np.zeros(len(atoms)), [np.zeros((3, 3)) for _ in atoms]
    for row, molecule in enumerate(atoms):
        for i, j, stiffness, length in PAIRS:
            vector = molecule.positions[j] - molecule.positions[i]
            distance = np.linalg.norm(vector)
            energies[row] += stiffness * (distance - length) ** 2 / 2
            pull = stiffness * (distance - length) * vector / distance
            forces[row][i] += pull
            forces[row][j] -= pull
    return energies, forces
