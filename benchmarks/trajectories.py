"""Trajectories that ase makes here: a molecule with GFN2-xTB (tblite), a metal with ase's EMT, at 500 K."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from so3ntk.molecules import Frames, read_frames

#: Frames, and what lies between two of them, before the first and in a step: femtoseconds.
FRAMES, APART, BEFORE = 2400, 20.0, 2000.0
TEMPERATURE = 500.0


def start(name: str) -> tuple[Any, float]:
    """The first frame with its calculator, and the time step in femtoseconds."""
    if name == "copper":
        from ase.build import bulk
        from ase.calculators.emt import EMT

        atoms = bulk("Cu", cubic=True).repeat((2, 2, 2))
        atoms.calc = EMT()
        return atoms, 5.0
    from ase.build import molecule
    from tblite.ase import TBLite

    atoms = molecule({"ethanol": "CH3CH2OH", "acetaldehyde": "CH3CHO"}[name])
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    return atoms, 1.0


def trajectory(name: str, folder: Path) -> Frames:
    """The frames, in eV, from ``folder`` or made there first: Langevin's thermostat, 500 K, 20 fs apart."""
    file = folder / f"{name}.extxyz"
    if not file.exists():
        make(name, file)
    return read_frames(file)


def make(name: str, file: Path) -> None:
    """Write the frames; whole files only."""
    from ase import units
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
    from tqdm import tqdm

    atoms, step = start(name)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(0))
    Stationary(atoms)
    dynamics = Langevin(
        atoms, step * units.fs, temperature_K=TEMPERATURE, friction=0.01 / units.fs, rng=np.random.default_rng(1)
    )
    dynamics.run(int(BEFORE / step))
    frames = []
    for _ in tqdm(range(FRAMES), desc=name):
        dynamics.run(int(APART / step))
        frame = atoms.copy()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if atoms.cell.rank == 3:
            results["stress"] = atoms.get_stress()
        frame.calc = SinglePointCalculator(frame, **results)
        frames.append(frame)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    write(part, frames, format="extxyz")
    part.replace(file)
