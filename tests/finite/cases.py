"""What the tests of finite networks share: averages over draws, the comparison, and signals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from so3ntk import SphereSignal, empirical
from so3ntk.engine.network import Kernels
from tests.oracles.harmonics import white_signals
from tests.programs import optimized

DRAWS = 256


def sphere_signals(bandlimit=2, count=2):
    return SphereSignal(jnp.asarray(white_signals(count, bandlimit, 2, seed=3)), bandlimit)


def images(count=2, size=4, channels=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, size, size, channels)) + 0.3)


def average(net, x, seed=0, **settings):
    """Monte-Carlo kernels in single precision, 1e-6, with the generator that compiles fastest, by programs as users' are."""
    x = jax.tree.map(lambda a: a.astype(jnp.float32), x)
    key = jax.random.key(seed, impl="unsafe_rbg")
    with optimized():
        return empirical.monte_carlo(net, x, draws=DRAWS, key=key, progress=False, **settings)


def compare(found: empirical.Average, kernels: Kernels) -> None:
    """Every abs(z) < 5 and every error at most 3 % of sqrt(K(x, x) K(x', x')), for NNGP and NTK."""
    for name in Kernels._fields:
        mean, error, kernel = (np.asarray(getattr(k, name)) for k in (found.mean, found.error, kernels))
        assert np.isfinite(mean).all(), name
        scale = np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
        deviation = np.abs(mean - kernel)
        assert (deviation <= 0.03 * scale).all(), f"{name}: off by {(deviation / scale).max():.3%}"
        rounding = 1e-5 * scale  # of single precision, where nothing is random: the NTK of a linear readout
        assert (deviation < 5 * error + rounding).all(), f"{name}: z = {(deviation / (error + rounding)).max():.1f}"
