# %% [markdown]
# # Spectra and learning curves
#
# You have 300 labelled inputs. What would 3,000 bring? One Gram matrix can answer, before anyone labels more.
#
# ## One sample

# %%
import numpy as np
import planar
import so3ntk

data = planar.datasets.load_digits()
rows = np.random.default_rng(0).permutation(len(data))  # at random, from what is to be predicted
x, y = data.images[rows], np.eye(10)[data.labels[rows]] - 0.1
net = so3ntk.serial(planar.Lift(None, group="C4"), so3ntk.Relu(), planar.GroupPool(), so3ntk.Dense())
k = np.asarray(so3ntk.gram(net, x, progress=False))  # all 1,797: to see later whether the answer was right
found = so3ntk.spectra.spectrum(k[:300, :300], y[:300])
print(found)

# %% [markdown]
# A mode is a direction in the space of functions of the inputs. Its eigenvalue says how fast training learns it; the target's power in it how much that matters.
#
# ## The curve, predicted and measured
#
# `learning_curve` predicts the test error at any number of inputs, with a band. Here are errors measured with the other digits beside it:

# %%
ridge, sizes = 1e-2 * found.scale, [75, 150, 300, 600, 1200]
curve = found.learning_curve(sizes, ridge=ridge)
measured = []
for size in sizes:
    model = so3ntk.KernelRegressor("precomputed", ridge=ridge, fit_intercept=False).fit(k[:size, :size], y[:size])
    measured.append(np.sqrt(np.mean((model.predict(k[1300:, :size]) - y[1300:]) ** 2)))
print("inputs   ", sizes)
print("predicted", np.round(curve.rmse, 3))
print("measured ", np.round(measured, 3))

# %% tags=["hide"]
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), constrained_layout=True)
left.loglog(np.arange(1, 301), np.maximum(found.eigenvalues, 1e-12), label="eigenvalues")
left.loglog(np.arange(1, 301), np.maximum(1 - found.cumulative_power, 1e-6), label="power not yet in the first modes")
left.set(xlabel="mode", ylim=(1e-6, None))
left.legend(frameon=False, fontsize=8)
many = np.geomspace(50, 5000, 25).astype(int)
wide = found.learning_curve(many, ridge=ridge)
right.loglog(many, wide.rmse, label="predicted from 300")
right.fill_between(many, np.sqrt(wide.low), np.sqrt(wide.high), alpha=0.2, lw=0)
right.loglog(sizes, measured, "ko", ms=4, label="measured")
right.axvline(300, color="gray", ls=":", lw=0.8)
right.set(xlabel="training inputs", ylabel="root mean square error")
right.legend(frameon=False)

# %% [markdown]
# ## What an equivariant network learns first
#
# Kernels of signals fall apart into irreps: degrees on the sphere. This says what share of a network's power each has, and how long training takes to learn it:

# %%
signals = so3ntk.SphereSignal(np.random.default_rng(0).normal(size=(4, 9, 1)), 3)
sphere = so3ntk.serial(so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupConv(), so3ntk.GroupPool(), so3ntk.Dense())
print(so3ntk.spectra.irrep_spectrum(sphere, signals))

# %% [markdown]
# ## Does a deep network train?

# %%
deep = so3ntk.spectra.trainability(so3ntk.Erf(), W_std=1.5**0.5, b_std=0.05**0.5)
print(
    f"{deep.phase}; correlations are forgotten over {deep.depth_c:.0f} layers; the edge of chaos is at W_std = {deep.edge:.2f}"
)

# %% [markdown]
# How good such curves are, and where not to trust them: [spectra](../spectra.md). Depth, irreps, hyperparameters: [deep networks](../trainability.md).
