# %% [markdown]
# # Signals on the sphere
#
# How values on a sphere become a signal, what networks can be made of, and what they return.
#
# ## From samples
#
# A grid is always named. Driscoll and Healy's grid (`"dh"`) has 2L rings of 2L − 1 points for bandlimit L; `"mw"`, `"mwss"`, `"gl"` and
# `"healpix"` are the others. For grids without a sampling theorem, for gaps and scattered points see [maps](../maps.md).

# %%
import matplotlib.pyplot as plt
import numpy as np
import so3ntk

L = 6
theta, phi = np.pi * (np.arange(2 * L)[:, None] + 0.5) / (2 * L), 2 * np.pi * np.arange(2 * L - 1) / (2 * L - 1)
values = np.stack([np.cos(theta) ** 3 + 0 * phi, np.sin(theta) ** 2 * np.cos(2 * phi)])  # two signals
x = so3ntk.SphereSignal.from_samples(values[..., None], sampling="dh", bandlimit=L)  # (N, theta, phi, channels)
print(len(x), x.shape, x.channels, x.bandlimit)
print("there and back:", f"{np.abs(x.to_samples('dh')[..., 0] - values).max():.0e}")

# %% [markdown]
# Coefficients are those of real harmonics, degree l and order m at index l² + l + m. A batch can be indexed, and batches joined. Rotations are scipy's.

# %%
r = so3ntk.random_rotations(1, seed=0)
both = so3ntk.concatenate([x, so3ntk.rotate(x, r)])
figure, axes = plt.subplots(2, 2, figsize=(8, 5), constrained_layout=True, subplot_kw={"projection": "mollweide"})
for index, ax in zip((0, 2, 1, 3), axes.flat, strict=True):
    so3ntk.plots.map(both, index, axes=ax, title=f"signal {index}")
    ax.set(xticklabels=[], yticklabels=[])

# %% [markdown]
# ## Networks
#
# `Lift` takes a signal to all its turned copies, `GroupPool` takes their mean. What stands between is up to you. The kernel before pooling, `K_r`, is there,
# too: leave the readout out, and the network returns it on a grid of rotations r with weights.

# %%
net = so3ntk.serial(
    so3ntk.Lift(b_std=0.2), so3ntk.Erf(), so3ntk.GroupConv(), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense()
)
k = net.kernel_fn(both)
print("invariant:", np.allclose(k.ntk[:2, :2], k.ntk[:2, 2:], rtol=1e-3))

fields = so3ntk.serial(so3ntk.Lift(b_std=0.2), so3ntk.Erf()).kernel_fn(x)
print("motions:", fields.motions.shape, " K_r of the pairs:", fields.ntk.shape)
pooled = so3ntk.serial(so3ntk.Lift(b_std=0.2), so3ntk.Erf(), so3ntk.GroupPool()).kernel_fn(x)
print(
    "mean of K_r:",
    np.round(np.asarray(fields.ntk[0] @ fields.weights), 5),
    " pooled:",
    np.round(np.asarray(pooled.ntk[0]), 5),
)

# %% [markdown]
# The mean over rotations is a quadrature. How good it is can be asked, and the grid can be fitted to your signals:

# %%
for name, network in [("of the rule", net), ("calibrated", net.calibrate(x))]:
    print(f"grid {name}: error {network.quadrature_error(x):.0e}, asked for {network.rtol:.0e}")

# %% [markdown]
# Residual blocks are `FanOut`, `parallel` and `FanInSum`, as in `stax`:

# %%
block = so3ntk.serial(
    so3ntk.FanOut(2),
    so3ntk.parallel(so3ntk.serial(so3ntk.Relu(), so3ntk.GroupConv()), so3ntk.Identity()),
    so3ntk.FanInSum(),
)
deep = so3ntk.serial(so3ntk.Lift(), block, block, block, so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense())
print(np.round(np.asarray(deep.kernel_fn(x).ntk), 4))

# %% [markdown]
# ## Vectors as outputs
#
# `IrrepPool(1)` keeps what turns as a vector. The kernel of two signals is then a block of 3 × 3, and turning an input turns the block. In the order
# of real harmonics a vector is (y, z, x).

# %%
vectors = so3ntk.serial(so3ntk.Lift(), so3ntk.Products((0, 0, 1)), so3ntk.IrrepPool(1), so3ntk.Dense())
blocks = np.asarray(vectors.kernel_fn(both, None, "ntk"))
order = [1, 2, 0]  # of (x, y, z)
turn = r.as_matrix()[0][np.ix_(order, order)]
print(blocks.shape, "turns along:", np.allclose(turn @ blocks[0, 1], blocks[2, 1], atol=1e-5))

# %% [markdown]
# Next: fit one of these with [`KernelRegressor`][so3ntk.KernelRegressor] or [`TensorKernelRegressor`][so3ntk.TensorKernelRegressor]. [Five minutes](../start.md) has the
# first, [dipoles](dipoles.md) the second. Filters that see a part of the sphere are `Lift(support=0.8)`; they cost more
# (`examples/local_filters.py`).
