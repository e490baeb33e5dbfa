# %% [markdown]
# # Five minutes
#
# You know Gaussian processes: choose a kernel, solve one linear system, predict. Here the kernel is that of a neural network with infinitely
# many channels, and the network does not care how its input is turned. You need no group theory for this page.
#
# ## Install
#
# From a checkout, in a fresh environment, with Python 3.11 or later:
#
# ```bash
# python -m venv .venv && .venv/bin/pip install -e '.[images]'
# ```
#
# !!! warning "Two packages called planar"
#     This project brings a package `planar`. Another project on PyPI has that name, and an environment can hold one of
#     them. If the other one is installed, too, `import so3ntk` says so and names the remedy: an environment of its own.
#
# ## Data whose orientation means nothing
#
# Two flashes light up a sphere of detectors, the second half as bright. How far apart were they? The picture can be turned in any
# way; the answer stays.

# %%
import matplotlib.pyplot as plt
import numpy as np
import so3ntk

rng = np.random.default_rng(0)
first, second = rng.normal(size=(2, 700, 3))
first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second))
angle = np.degrees(np.arccos(np.sum(first * second, axis=1)))  # what is to be learned

theta, phi = np.pi * (np.arange(16)[:, None] + 0.5) / 16, 2 * np.pi * np.arange(15) / 15  # the detectors
east, north = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)
detectors = np.stack([east, north, np.cos(theta) + 0 * phi], axis=-1)  # (16, 15, 3)
samples = sum(weight * np.exp(6 * (detectors @ v.T - 1)) for weight, v in [(1, first), (0.5, second)])  # (16, 15, 700)
x = so3ntk.SphereSignal.from_samples(np.moveaxis(samples, -1, 0)[..., None], sampling="dh", bandlimit=8)
print(x.shape)  # signals, coefficients, channels
so3ntk.plots.map(x, 0, title=f"one input: flashes {angle[0]:.0f} degrees apart")

# %% [markdown]
# A signal is stored as its spherical-harmonic coefficients, 64 of them below degree 8. The name of the grid is always said
# (`"dh"`, Driscoll and Healy's), never guessed.
#
# ## A network and its kernels
#
# The network lifts a signal to all its turned copies, applies a nonlinearity to each, and takes the mean over the copies. It has no
# width: it is the limit of infinitely many channels.

# %%
net = so3ntk.serial(so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupConv(), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense())
k = net.kernel_fn(x[:3])
print("NNGP", np.round(np.asarray(k.nngp), 4), "NTK", np.round(np.asarray(k.ntk), 4), sep="\n")

turned = so3ntk.rotate(x[:3], so3ntk.random_rotations(1, seed=1))
print("after a turn:", f"{np.abs(net.kernel_fn(turned, x[:3]).ntk / k.ntk - 1).max():.1e}")

# %% [markdown]
# The *NNGP* is the covariance of the network's outputs before training. The *NTK* is the kernel that training by gradient descent
# works with. Both are the same for a turned input, up to the tolerance of the quadrature (`rtol=1e-4` by default).
#
# ## Learn
#
# Estimators are scikit-learn's in manner. The ridge is chosen by exact leave-one-out errors unless you give it. Beside the network, a
# fully connected one on the same coefficients:

# %%
plain = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense())
errors = {}
for name, network in [("equivariant", net), ("fully connected", plain)]:
    for size in (50, 100, 200, 400):
        model = so3ntk.KernelRegressor(network, progress=False).fit(x[:size], angle[:size])
        errors[name, size] = np.abs(model.predict(x[500:]) - angle[500:]).mean()
        print(f"{name:<16}{size:>5} inputs: {errors[name, size]:5.1f} degrees off")

# %% tags=["hide"]
figure, axes = plt.subplots(figsize=(5.6, 3.6), constrained_layout=True)
for name in ("equivariant", "fully connected"):
    sizes = [size for kind, size in errors if kind == name]
    axes.loglog(sizes, [errors[name, size] for size in sizes], "o-", label=name)
axes.set(xlabel="training inputs", ylabel="mean error [degrees]", xticks=sizes, xticklabels=sizes)
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend(frameon=False)

# %% [markdown]
# ## Keep it
#
# A fitted model goes to one file of arrays and JSON, without pickles.

# %%
model = so3ntk.KernelRegressor(net, progress=False).fit(x[:400], angle[:400])
so3ntk.save(model, "model.npz")
again = so3ntk.load("model.npz")
mean, deviation = again.predict(x[500:503], return_std=True)
print(np.round(mean, 1), np.round(deviation, 1), "true:", np.round(angle[500:503], 1))

# %% [markdown]
# ## Where next
#
# - [Concepts](concepts.md): what a kernel on a group is, in pictures.
# - [Tutorials](tutorials/index.md): molecules, dipoles, potentials, images, climate maps, and a group of your own.
# - [Reference](reference/index.md): every public name.
