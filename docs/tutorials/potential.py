# %% [markdown]
# # A potential, and molecular dynamics
#
# From frames with energies and forces to a potential that runs in ASE. Install the extra: `pip install -e '.[molecules]'`.
#
# ## Frames
#
# Yours come from a file that ASE reads. Here they are of copper, by ASE's own model, rattled and strained a little:

# %%
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

frames = []
for seed in range(30):
    atoms = bulk("Cu", cubic=True)
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(0.12, seed=seed)
    atoms.calc = EMT()
    atoms.get_forces(), atoms.get_stress()
    frames.append(atoms)
write("frames.extxyz", frames)
write("start.xyz", bulk("Cu", cubic=True) * 2)

# %% [markdown]
# ## Fit, judge, run
#
# `fit` finds energies, forces and stresses by their names, says so, holds a fifth out, and prints errors beside those of a model without a kernel. `md` is a Langevin thermostat by default.

# %% tags=["shell"]
# so3ntk fit frames.extxyz --save copper.npz --test 0.2
# so3ntk md copper.npz start.xyz --temperature 300 --steps 100 --timestep 2 --trajectory run.extxyz --seed 0

# %% [markdown]
# ## In Python
#
# A loaded model is an ASE calculator, with stresses and standard deviations. Lattice constant and bulk modulus, which need a stretched crystal rather than a rattled one:

# %%
import matplotlib.pyplot as plt
import so3ntk
from so3ntk.molecules import Calculator

model = so3ntk.load("copper.npz")
scales = np.linspace(0.96, 1.05, 19)
volumes, ours, theirs = [], [], []
for scale in scales:
    crystal = bulk("Cu", cubic=True)
    crystal.set_cell(crystal.cell * scale, scale_atoms=True)
    volumes.append(crystal.get_volume() / len(crystal))
    for calculator, energies in [(Calculator(model), ours), (EMT(), theirs)]:
        crystal.calc = calculator
        energies.append(crystal.get_potential_energy() / len(crystal))
for name, energies in [("this potential", ours), ("EMT", theirs)]:
    a, b, _ = np.polyfit(volumes, energies, 2)
    print(f"{name:<15} lattice constant {(4 * -b / (2 * a)) ** (1 / 3):.3f} A, bulk modulus {-b * 160.22:.0f} GPa")

# %% tags=["hide"]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), constrained_layout=True)
left.plot(volumes, theirs, "k-", lw=1, label="EMT, the reference")
left.plot(volumes, ours, "o", ms=4, label="this potential")
left.set(xlabel="volume per atom [A³]", ylabel="energy per atom [eV]")
left.legend(frameon=False)
from ase.io import read

trajectory = read("run.extxyz", ":")
temperatures = [atoms.get_temperature() for atoms in trajectory]
right.plot(temperatures)
right.set(xlabel="frame of the trajectory", ylabel="temperature [K]")

# %% [markdown]
# A potential knows nothing far from its training frames. `Calculator(model, warn_above=0.3)` warns of forces less certain than that, in eV/Angstrom; a run ends
# with an error where atoms come to overlap. Files, names, units and larger data: [potentials](../potentials.md).
