# %% [markdown]
# # Own molecules, from a file to a saved model
#
# You have an extended xyz file with a number for each molecule, and want a model of that number. Install the extra: `pip install -e '.[molecules]'`.
#
# ## A file
#
# To have one, 200 molecules of QM9 with their energies U0 in eV:

# %%
import numpy as np
import so3ntk
from ase.io import write
from so3ntk.molecules import environments, load_qm9, read_molecules

data = load_qm9(200, seed=0)
for atoms, energy in zip(data.atoms, data.targets, strict=True):
    atoms.info["energy"] = float(energy)
write("molecules.extxyz", data.atoms)

# %% [markdown]
# ## On the command line
#
# `fit` reads the file, says what it found, holds a quarter out, fits, saves, and judges. Then `so3ntk predict model.npz new.xyz --out predictions.extxyz`.

# %% tags=["shell"]
# so3ntk fit molecules.extxyz --save model.npz --test 0.25 --quiet

# %% [markdown]
# ## In Python
#
# Each atom sees its neighbours as a signal on the sphere: how much of which element, at which distance, in which direction. A molecule's kernel sums
# over pairs of atoms of one element. `Products((0, 0, 1))` multiplies two channels; kernels of such networks are inner products of features, and fast.

# %%
frames = read_molecules("molecules.extxyz", "energy", unit="eV")
x = environments(frames.atoms, radial=so3ntk.molecules.Shells(), bandlimit=4)
print(len(x), "molecules,", x.signal.shape, "(atoms, coefficients, channels)")

net = so3ntk.serial(
    so3ntk.Lift(b_std=1.3), so3ntk.Products((0, 0, 1)), so3ntk.GroupPool(), so3ntk.Dense(),
    so3ntk.molecules.AtomSum(match_species=True),
)  # fmt: skip
y = frames.targets
model = so3ntk.InducingRegressor(net).fit(x[:150], y[:150])
energy, deviation = model.predict(x[150:], return_std=True)
error = np.abs(energy - y[150:])
print(
    f"mean absolute error {1000 * error.mean():.0f} meV, leave-one-out (root mean square) {1000 * model.loo_error_:.0f} meV"
)

# %% [markdown]
# Energies of the elements are fitted along, so total energies are taken as they are. Standard deviations tell which predictions to mistrust:

# %%
order = np.argsort(deviation)
halves = [f"{1000 * error[half].mean():.0f} meV" for half in np.array_split(order, 2)]
print("the more certain half is off by", halves[0] + ", the other by", halves[1])

# %% tags=["hide"]
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), constrained_layout=True)
counts = np.array([len(atoms) for atoms in frames.atoms[150:]])
left.plot(y[150:], energy, ".", ms=4)
left.set(xlabel="U0 [eV]", ylabel="predicted [eV]")
right.errorbar(counts, 1000 * (energy - y[150:]), 1000 * deviation, fmt=".", ms=4, lw=0.6)
right.axhline(0, color="gray", lw=0.6)
right.set(xlabel="atoms", ylabel="error and its deviation [meV]")

# %% [markdown]
# ## Save and load

# %%
so3ntk.save(model, "energies.npz", about={"unit": "eV"})
again = so3ntk.load("energies.npz")
print(np.abs(again.predict(x[150:]) - energy).max())

# %% [markdown]
# From 1,000 molecules of QM9 this network has a mean error of 1.2 kcal/mol (three draws; [measurements](../results.md)). For files with forces go to
# [a potential](potential.md); for more molecules than a matrix can hold to [inducing inputs](../inducing.md).
