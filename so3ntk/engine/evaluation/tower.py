r"""A tower of pointwise layers as one function of one variable.

Between lifting and pooling, layers of global support act on each value K of the kernel alone. For a given pair of
variances the whole tower is then a function F of c = K / sqrt(q q'), and it is analytic in the angle arccos(c):
kinked activations put a cusp at the end points c = +-1, which the variable

.. math:: s = \sqrt{(1 - |c|) / 2} \in [0, 1/\sqrt 2]

unfolds, separately for c >= 0 and c < 0. F is evaluated by the layers themselves at Chebyshev points of s and replaced
by the interpolating polynomials, at a cost that does not depend on depth. The nearest singularity, s = 1, makes the
error fall as 3.36^-nodes for the activations with kinks. Saturating ones of a large variance q (Erf, Gelu) have
singularities at s = +-i / (2 sqrt q), near c = 1; there the variable is stretched to arcsinh(s / stretch), which keeps
them away. The last coefficients are returned as an error estimate, and choose the stretch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HIGHEST = jax.lax.Precision.HIGHEST
LARGEST = 1 / math.sqrt(2.0)  # s runs from 0 to here
#: The stretches tried.
STRETCHES = (math.inf, 0.1, 0.03, 0.01, 0.003, 0.001)


class Nodes(NamedTuple):
    """Where a tower is tabulated: how many Chebyshev points for each sign of c, and the stretch of s (inf: none)."""

    count: int
    stretch: float = math.inf


def node_count(dtype, stretch: float = math.inf) -> int:
    """Nodes for each sign of c: 3.36^-n is below the rounding error of the dtype, with a margin for deep towers.

    Stretched variables, whose singularities are nearer, get a few more.
    """
    single, double = (16, 34) if math.isinf(stretch) else (20, 64)
    return single if jnp.finfo(dtype).bits <= 32 else double


def from_s(s: Any, stretch: float, arcsinh: Callable = jnp.arcsinh) -> Any:
    """The variable t in [-1, 1] of the polynomials; ``arcsinh`` is that of the array library of s."""
    if math.isinf(stretch):
        return s * (2 / LARGEST) - 1
    return arcsinh(s * (1 / stretch)) * (2 / math.asinh(LARGEST / stretch)) - 1


def to_s(t: Float[np.ndarray, " n"], stretch: float) -> Float[np.ndarray, " n"]:
    """The inverse of ``from_s``."""
    if math.isinf(stretch):
        return LARGEST / 2 * (1 + t)
    return stretch * np.sinh((1 + t) / 2 * math.asinh(LARGEST / stretch))


@lru_cache(maxsize=32)
def chebyshev(n: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"], Float[np.ndarray, "n n"]]:
    """Chebyshev points t, the matrix from values there to Chebyshev coefficients, and that to powers of t."""
    k = np.arange(n)
    t = np.cos(np.pi * (k + 0.5) / n)
    to_chebyshev = np.cos(np.pi * np.outer(k, k + 0.5) / n) * (2 / n)
    to_chebyshev[0] /= 2
    to_powers = np.zeros((n, n))
    for degree in range(n):
        powers = np.polynomial.chebyshev.cheb2poly(np.eye(n)[degree])
        to_powers[: len(powers), degree] = powers
    return t, to_chebyshev, to_powers


def interpolants(values: Float[Array, "2 n"]) -> tuple[Float[Array, "2 n"], Float[Array, ""]]:
    """Chebyshev coefficients in t of the interpolants for c >= 0 and c < 0, and the size of the last ones.

    From the values at ``probe_points``.
    """
    _, to_chebyshev, _ = chebyshev(values.shape[-1])
    coefficients = jnp.matmul(values, jnp.asarray(to_chebyshev.T, values.dtype), precision=HIGHEST)
    return coefficients, jnp.max(jnp.abs(coefficients[:, -2:]))


def horner(coefficients: list[Float[Array, ""]], t: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """sum_k coefficients[k] t^k."""
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * t + coefficient
    return value


def clenshaw(coefficients: list[Float[Array, ""]], t: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """sum_k coefficients[k] T_k(t), T_k the Chebyshev polynomials."""
    last, before = coefficients[-1], jnp.zeros_like(t)
    for coefficient in coefficients[-2:0:-1]:
        last, before = 2 * t * last + (coefficient - before), last
    return t * last + (coefficients[0] - before)


@lru_cache(maxsize=32)
def probe_points(nodes: Nodes) -> Float[np.ndarray, "2 n"]:
    """The correlations c at which the tower is evaluated: positive ones, then negative ones."""
    s = to_s(chebyshev(nodes.count)[0], nodes.stretch)
    return np.stack([1 - 2 * s**2, 2 * s**2 - 1])


def inverse_or_zero(norm: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """1 / norm, and 0 for a norm of zero: the correlation of a zero signal with any other is 0."""
    return jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)


class Tower(eqx.Module):
    """Kernels after the tower as functions of K before it, for one pair of variances.

    chebyshev: for each of k kernels the coefficients (sign of c, degree in t), to be multiplied by scale; tails: the size
    of the last ones relative to the largest value, an estimate of the interpolation error.
    """

    inverse_norm: Float[Array, ""]
    scale: Float[Array, ""]
    chebyshev: Float[Array, "k 2 n"]
    tails: Float[Array, " k"]

    @classmethod
    def collapse(
        cls, run: Callable, q1: Float[Array, ""], q2: Float[Array, ""], homogeneity: float | None, points: Float[Array, "2 n"] | np.ndarray,
    ) -> Tower:  # fmt: skip
        """Tabulate ``run(K, q1, q2)``, which gives a list of k kernels, at ``probe_points``.

        For a homogeneous tower unit variances suffice, and the table is the same for all pairs up to a factor.
        """
        dtype = q1.dtype
        norm = jnp.sqrt(q1) * jnp.sqrt(q2)
        points = jnp.asarray(points, dtype)
        if homogeneity is None:
            scale = jnp.ones_like(norm)
            values = run(points * norm, q1, q2)
        else:
            scale = norm if homogeneity == 1 else norm**homogeneity
            one = jnp.ones((), dtype)
            values = run(points, one, one)
        values = [jnp.broadcast_to(v, points.shape) for v in values]
        fits = [interpolants(v) for v in values]
        largest = [jnp.maximum(jnp.max(jnp.abs(v)), jnp.finfo(dtype).tiny) for v in values]
        tails = jnp.stack([tail / top for (_, tail), top in zip(fits, largest, strict=True)])
        return cls(inverse_or_zero(norm), scale, jnp.stack([fit for fit, _ in fits]), tails)

    def coefficients(self, stretch: float = math.inf) -> Float[Array, "k 2 n"]:
        """What ``evaluate`` takes, a row for each kernel: powers of t, the cheapest; under a stretch, Chebyshev's.

        Powers cost digits where Chebyshev coefficients fall more slowly than (1 + sqrt 2)^-degree, as they do there.
        """
        if not math.isinf(stretch):
            return self.chebyshev
        _, _, to_powers = chebyshev(self.chebyshev.shape[-1])
        return jnp.matmul(self.chebyshev, jnp.asarray(to_powers.T, self.chebyshev.dtype), precision=HIGHEST)

    def evaluate(
        self, coefficients: Float[Array, "2 n"], kernel: Float[Array, " ..."], stretch: float = math.inf
    ) -> Float[Array, " ..."]:
        """One kernel after the tower, given its row of ``coefficients(stretch)``, at values K before it."""
        c = kernel * self.inverse_norm
        s = jnp.sqrt(jnp.clip((1 - jnp.abs(c)) * 0.5, 0, 0.5))
        t = from_s(s, stretch)
        # The factor goes into each coefficient: XLA's loop over motions is slow on coefficients shared by all pairs.
        branches = [list(jnp.unstack(row)) for row in coefficients * self.scale]
        add_up = horner if math.isinf(stretch) else clenshaw
        return jnp.where(c >= 0, *(add_up(branch, t) for branch in branches))
