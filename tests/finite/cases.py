"""What the tests of finite networks share: the comparison, signals, and one compiled network for many activations."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from so3ntk import SphereSignal, empirical
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.network import Kernels
from tests.engine.activations.cases import CASES
from tests.oracles.harmonics import white_signals

DRAWS = 256
#: Each activation once; higher powers have heavy tails.
NAMES = ["Relu", "LeakyRelu", "Abs", "Sign", "Erf", "SigmoidLike", "Gelu", "Sin affine", "Cos affine", "Monomial(2)",
         "Elementwise with derivative"]  # fmt: skip
ACTIVATIONS = [case.activation for name in NAMES for case in CASES if case.name == name]


class Choice(Layer):
    """One of ACTIVATIONS by a traced index, so that all of them share one compiled finite network."""

    index: Any = eqx.field(converter=jnp.asarray)

    def __call__(self, state):
        raise AssertionError("finite networks only")

    def apply(self, params, features):
        return features.map(lambda u: jax.lax.switch(self.index, [a.phi for a in ACTIVATIONS], u))


def finite_twin(net):
    """The network with its activations replaced by ``Choice``."""
    layers = [Choice(NAMES.index(case_name(i))) if i.uses_variances and not hasattr(i, "layers") else i
              for i in net.layers]  # fmt: skip
    return dataclasses.replace(net, layers=tuple(layers))


def case_name(activation) -> str:
    return next(name for name, other in zip(NAMES, ACTIVATIONS, strict=True) if other == activation)


def sphere_signals(bandlimit=2, count=2):
    return SphereSignal(jnp.asarray(white_signals(count, bandlimit, 2, seed=3)), bandlimit)


def images(count=2, size=4, channels=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, size, size, channels)) + 0.3)


@eqx.filter_jit
def kernels_of(net, x):
    """Both kernels, under jit, which skips the estimate of the quadrature's error."""
    return net.kernel_fn(x)


def average(net, x, seed=0, **settings):
    """Monte-Carlo kernels in single precision, 1e-6, with the generator that compiles fastest."""
    x = jax.tree.map(lambda a: a.astype(jnp.float32), x)
    key = jax.random.key(seed, impl="unsafe_rbg")
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
