# %% [markdown]
# # A new group
#
# The library knows rotations of the sphere and roto-translations of images. Yours may be another: here the torus, with shifts along both axes. It takes one
# geometry, one space and one first layer, about thirty lines, and nothing else changes.
#
# ## What a group must say
#
# Signals are arrays (N, n, m, C), samples on n × m points. Motions are shifts d, and there are as many as points. Two questions are to be answered: what is the *correlation* of a
# signal with a moved one, for all motions at once; and what is the *mean* over motions?

# %%
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import so3ntk
from so3ntk.engine.filters import Everywhere
from so3ntk.engine.geometry import PositionFree
from so3ntk.engine.layers.source import Lifting
from so3ntk.engine.space import Space

jax.config.update("jax_enable_x64", True)  # the checks below are to rounding, in double precision


class TorusGeometry(PositionFree):
    """All shifts at once: fields (n, m)."""

    def correlate(self, f, g):
        """The mean over channels and points x of f(x) g(x - d), at all shifts d: by FFT."""
        a, b = (jnp.fft.rfft2(signal, axes=(0, 1)) for signal in (f, g))
        return jnp.fft.irfft2(jnp.mean(a * jnp.conj(b), axis=-1), s=f.shape[:2]) / (f.shape[0] * f.shape[1])

    def variance(self, f):
        """The mean square."""
        return jnp.mean(f * f)

    def mean(self, field):
        """Over all shifts, which weigh the same."""
        return jnp.mean(field)


class Torus(Space):
    """What the engine asks of the group."""

    name = "the torus"

    def numbers(self, arrays, evaluation):
        """How many numbers of one pair are held at once: as many as shifts."""
        return int(np.prod(arrays.shape[1:3]))


class TorusLift(Lifting):
    """The first layer: it reads the signals."""

    W_std: Any = 1.0
    b_std: Any = None
    width: Any = None
    parametrization: Any = "ntk"

    def arrays(self, x):
        """The batch, with a leading axis."""
        return jnp.asarray(x)

    def geometry(self, grid):
        """The one above; motions need no grid."""
        return TorusGeometry()

    def channels(self, f):
        """The last axis."""
        return f.shape[-1]

    def space(self, layers):
        """The torus."""
        return Torus(layers)


# %% [markdown]
# ## What comes for free
#
# Every activation, `GroupConv`, branches, both kernels, tiles and stores, estimators, derivatives in the signals and in the hyperparameters.

# %%
rng = np.random.default_rng(0)
x = rng.normal(size=(5, 8, 6, 2))
net = so3ntk.serial(
    TorusLift(b_std=0.3), so3ntk.Relu(), so3ntk.GroupConv(), so3ntk.Erf(), so3ntk.GroupPool(), so3ntk.Dense()
)
k = net.kernel_fn(x)
shifted = np.roll(x, (3, 2), axis=(1, 2))
print("invariant under shifts:", f"{np.abs(net.kernel_fn(shifted, x).ntk / k.ntk - 1).max():.0e}")

# %% [markdown]
# ## Check it
#
# The pooled kernel must be the mean of an ordinary network's kernel over all moved copies of one signal. This needs no geometry, so it is an independent check:

# %%
plain = so3ntk.serial(
    so3ntk.Flatten(), so3ntk.Dense(b_std=0.3), so3ntk.Relu(), so3ntk.Dense(), so3ntk.Erf(), so3ntk.Dense()
)
rows = lambda signals: signals.reshape(len(signals), -1)  # noqa: E731
copies = [np.roll(x, (i, j), axis=(1, 2)) for i in range(8) for j in range(6)]
mean = np.mean([np.asarray(plain.kernel_fn(rows(x), rows(copy), "ntk")) for copy in copies], axis=0)
print("against the mean over copies:", f"{np.abs(mean / k.ntk - 1).max():.0e}")

# %% [markdown]
# `so3ntk.testing` has the checks that need no second evaluation: laws of the geometry, symmetry, positivity, tiles, derivatives, single precision.

# %%
so3ntk.testing.check_geometry(TorusGeometry(), x[0], x[1], filters=(Everywhere(),))
so3ntk.testing.check_symmetry(net, x)
so3ntk.testing.check_invariance(net, x, moved=lambda x: np.roll(x, (3, 2), axis=(1, 2)))
print("passed")

# %% [markdown]
# Filters that see a part, and groups whose motions need a quadrature: [a new group](../new-group.md), and `examples/new_group.py` in the repository.
