"""Cells of copper with the energies, forces and stresses of a model that ase has."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT

from so3ntk.molecules import Shells

METAL = {"radial": Shells(4, width=0.1, growth=0.5, cutoff=4.0), "bandlimit": 2, "species": ("Cu",)}


def metals(count, seed=0):
    """Cells of two copper atoms, moved and strained, with EMT's energies, forces and stresses."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(count):
        frame = bulk("Cu", cubic=True)[:2]
        frame.cell[2] *= 0.9
        strain = 0.03 * rng.normal(size=(3, 3))
        frame.set_cell(frame.cell @ (np.eye(3) + strain), scale_atoms=True)
        frame.positions += 0.05 * rng.normal(size=(2, 3))
        frame.calc = EMT()
        frames.append(frame)
    return (
        frames,
        *zip(*((f.get_potential_energy(), f.get_forces(), f.get_stress(voigt=False)) for f in frames), strict=True),
    )
