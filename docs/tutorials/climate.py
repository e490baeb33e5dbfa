# %% [markdown]
# # HEALPix and climate maps
#
# Fields on the Earth and on the sky come on grids of every kind, with gaps. Here they become signals, and something is learned of them.
#
# ## A field with a gap
#
# Twelve months of a temperature that looks a little like one: warm at the equator, with a wave that wanders. A satellite saw nothing of one region.

# %%
import numpy as np
import so3ntk

lat, lon = np.linspace(90, -90, 73), np.arange(0, 360, 2.5)
south, east = np.radians(90 - lat)[:, None], np.radians(lon)
phase = 2 * np.pi * np.arange(12)[:, None, None] / 12
field = 250 + 50 * np.sin(south) + 8 * np.sin(south) ** 5 * np.cos(5 * east + phase)  # (12, lat, lon), in kelvin
gap = (abs(lat - 45) < 15)[:, None] & (lon < 60)
seen = np.where(gap, np.nan, field)

fit = so3ntk.fit_map(seen[..., None], lat=lat, lon=lon, bandlimit=12, mask=np.isnan(seen))
x = fit.signal
print("residual", f"{fit.residual.max():.0e}", " condition", f"{fit.condition:.1f}")
filled = x.to_map(lat, lon)[..., 0]
print("off in the gap:", f"{np.abs(filled - field)[:, gap].max():.2f} K")
so3ntk.plots.map(x, 0, label="temperature [K]", symmetric=False, title="the first month, filled")

# %% [markdown]
# The *residual* is what degrees below the bandlimit cannot say of the values. The *condition* is by how much errors are enlarged: near 1 for values everywhere, large where a gap
# leaves much open. `SphereSignal.from_map` does the same and returns the signal alone; it takes xarray's `DataArray`, too.
#
# ## HEALPix
#
# Maps of the sky, (N, 12 nside², C) in RING order or `nest=True`, need no coordinates. UNSEEN pixels are left out.

# %%
sky = x.to_samples("healpix", nside=16)
sky[:, :300] = -1.6375e30  # UNSEEN: the region about the north pole
back = so3ntk.SphereSignal.from_map(sky, bandlimit=12)
print(sky.shape, f"{np.abs(back.coefficients - x.coefficients).max() / np.abs(x.coefficients).max():.0e}")

# %% [markdown]
# ## Learn from maps
#
# Random fields whose power falls with the degree as $(l + 1)^{-\alpha}$. What is α? Orientation says nothing of it, and pictures of such fields look alike.

# %%
L, n = 8, 500
rng = np.random.default_rng(0)
alpha = rng.uniform(1.5, 3.5, n)
degree = np.repeat(np.arange(L), 2 * np.arange(L) + 1)
power = (degree + 1.0) ** -alpha[:, None]
power *= 4 * np.pi / power.sum(axis=1, keepdims=True)
maps = so3ntk.SphereSignal((np.sqrt(power) * rng.normal(size=power.shape))[..., None], L)

nets = {
    "SO(3)": so3ntk.serial(so3ntk.Lift(), so3ntk.Products((0, 0, 1)), so3ntk.GroupPool(), so3ntk.Dense()),
    "fully connected": so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense()),
}
predicted = {}
for name, net in nets.items():
    model = so3ntk.KernelRegressor(net, progress=False).fit(maps[:300], alpha[:300])
    predicted[name] = model.predict(maps[300:])
    print(f"{name:<16} off by {np.abs(predicted[name] - alpha[300:]).mean():.2f}")
print(f"{'the mean':<16} off by {np.abs(alpha[300:] - alpha[:300].mean()).mean():.2f}")

# %% tags=["hide"]
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(8, 3.1), constrained_layout=True, subplot_kw={"projection": "mollweide"})
for ax, which in zip(axes, (np.argmin(alpha), np.argmax(alpha)), strict=True):
    so3ntk.plots.map(maps, int(which), axes=ax, title=f"index {alpha[which]:.1f}")
    ax.set(xticklabels=[], yticklabels=[])
figure, ax = plt.subplots(figsize=(4, 3.4), constrained_layout=True)
for name, values in predicted.items():
    ax.plot(alpha[300:], values, ".", ms=4, label=name)
ax.axline((2.5, 2.5), slope=1, color="gray", lw=0.6)
ax.set(xlabel="index of the field", ylabel="predicted")
ax.legend(frameon=False)

# %% [markdown]
# `examples/maps.py` goes on: noise, gaps that differ from map to map, and vectors read from fields. Grids, masks, weights and other packages' coefficients:
# [maps of the sphere](../maps.md).
