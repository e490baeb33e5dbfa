# %% [markdown]
# # Dipoles: outputs that turn with the input
#
# A dipole is a vector. Turn the molecule and it turns along. A model with this built in needs no turned copies to learn it, and cannot get it wrong.
#
# ## Data
#
# So that this page needs no file, the dipoles are those of a simple rule: bonded atoms shift charge to the more electronegative
# one. Replace them by yours, an array (n, 3).

# %%
import numpy as np
import so3ntk
from so3ntk.molecules import AtomSum, Shells, environments, load_qm9

electronegativity = np.zeros(10)
electronegativity[[1, 6, 7, 8, 9]] = 2.20, 2.55, 3.04, 3.44, 3.98


def dipole(atoms):
    """Charge moves along each pair of atoms, less so the farther they are apart."""
    distance = atoms.get_all_distances() + 1e9 * np.eye(len(atoms))
    chi = electronegativity[atoms.numbers]
    charges = np.sum((chi - chi[:, None]) * np.exp(-((distance / 1.4) ** 4)), axis=1)
    return charges @ atoms.positions


atoms = load_qm9(260, seed=0).atoms
dipoles = np.array([dipole(molecule) for molecule in atoms])
print("mean size of a component:", np.abs(dipoles).mean().round(3))

# %% [markdown]
# ## A network for vectors
#
# `IrrepPool(1)` takes the place of `GroupPool`. `Lift(group="O3")` adds reflections, so that a dipole of the mirror image is the mirrored dipole.

# %%
SPECIES = ("H", "C", "N", "O", "F")  # the same channels for every batch
x = environments(atoms, radial=Shells(), bandlimit=4, dtype="float32", species=SPECIES)
net = so3ntk.serial(
    so3ntk.Lift(group="O3", b_std=1.3), so3ntk.Products((0, 0, 1)), so3ntk.IrrepPool(1), so3ntk.Dense(),
    AtomSum(match_species=True),
)  # fmt: skip
errors = {}
for size in (25, 50, 100, 200):
    model = so3ntk.TensorKernelRegressor(net).fit(x[:size], dipoles[:size])
    errors[size] = np.abs(model.predict(x[200:]) - dipoles[200:]).mean()
    print(f"{size:>4} molecules: {errors[size]:.3f} off per component")

# %% [markdown]
# ## They turn along

# %%
turn = so3ntk.random_rotations(1, seed=1).as_matrix()[0]
turned = [molecule.copy() for molecule in atoms[200:]]
for molecule in turned:
    molecule.positions = molecule.positions @ turn.T
there = model.predict(environments(turned, radial=Shells(), bandlimit=4, dtype="float32", species=SPECIES))
print("largest difference:", f"{np.abs(there - model.predict(x[200:]) @ turn.T).max():.0e}")

# %% tags=["hide"]
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), constrained_layout=True)
left.loglog(list(errors), list(errors.values()), "o-")
left.set(xlabel="training molecules", ylabel="mean error per component", xticks=list(errors), xticklabels=list(errors))
left.minorticks_off()
left.grid(alpha=0.3)
predicted = model.predict(x[200:])
for axis, name in enumerate("xyz"):
    right.plot(dipoles[200:, axis], predicted[:, axis], ".", ms=5, label=name)
right.axline((0, 0), slope=1, color="gray", lw=0.6)
right.set(xlabel="dipole component", ylabel="predicted")
right.legend(frameon=False)

# %% [markdown]
# Symmetric tensors (n, 3, 3), such as polarisabilities, are fitted by the same estimator with the irreps 0 and 2. `examples/dipoles.py --data FILE` has computed dipoles of small
# organic molecules: 0.24, 0.17 and 0.12 Debye per component from 100, 250 and 800 molecules, where predicting zero has 1.11
# ([measurements](../results.md)). Thousands of molecules: `inducing=1000`, [inducing inputs](../inducing.md).
