r"""A tower of pointwise layers as one function of one variable.

Between lifting and pooling, layers of global support act on each value K of the kernel alone. For a given pair of
variances the whole tower is then a function F of c = K / sqrt(q q'), and it is analytic in the angle arccos(c):
kinked activations put a cusp at the end points c = +-1, which the variable

.. math:: s = \sqrt{(1 - |c|) / 2} \in [0, 1/\sqrt 2]

unfolds, separately for c >= 0 and c < 0. F is evaluated by the layers themselves at Chebyshev points of s and replaced
by the interpolating polynomials, at a cost that does not depend on depth. The nearest singularity, s = 1, makes the
error fall as 3.36^-nodes for the activations with kinks; saturating ones (Erf of a large variance) need more, so the
last coefficients are returned as an error estimate.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HALF_RANGE = 1 / np.sqrt(8.0)  # s runs over HALF_RANGE * (1 + t), t in [-1, 1]


def node_count(dtype) -> int:
    """Nodes for each sign of c: 3.36^-n is below the rounding error of the dtype, with a margin for deep towers."""
    return 16 if jnp.finfo(dtype).bits <= 32 else 34


def nodes(n: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"], Float[np.ndarray, "n n"]]:
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


class Interpolant(eqx.Module):
    """Two polynomials in t, for c >= 0 and c < 0: coefficients (2, n), lowest power first, and an error estimate."""

    coefficients: Float[Array, "2 n"]
    tail: Float[Array, ""]

    @classmethod
    def fit(cls, values: Float[Array, "2 n"]) -> Interpolant:
        """From the values at ``probe_points``. Two steps, since only the Chebyshev form has small coefficients."""
        n = values.shape[-1]
        _, to_chebyshev, to_powers = nodes(n)
        highest = jax.lax.Precision.HIGHEST
        chebyshev = jnp.matmul(values, jnp.asarray(to_chebyshev.T, values.dtype), precision=highest)
        powers = jnp.matmul(chebyshev, jnp.asarray(to_powers.T, values.dtype), precision=highest)
        return cls(powers, jnp.max(jnp.abs(chebyshev[:, -2:])))

    def __call__(self, t: Float[Array, "..."], positive: Float[Array, "..."]) -> Float[Array, "..."]:
        """The value at t by Horner's rule, on the branch of c's sign."""
        branches = []
        for coefficients in self.coefficients:
            value = coefficients[-1]
            for k in range(len(coefficients) - 2, -1, -1):
                value = value * t + coefficients[k]
            branches.append(value)
        return jnp.where(positive, *branches)


def probe_points(n: int) -> Float[np.ndarray, "2 n"]:
    """The correlations c at which the tower is evaluated: positive ones, then negative ones."""
    s = HALF_RANGE * (1 + nodes(n)[0])
    return np.stack([1 - 2 * s**2, 2 * s**2 - 1])


class Tower(eqx.Module):
    """Interpolants of (K, Theta) after the tower as functions of K before it, for one pair of variances."""

    inverse_norm: Float[Array, ""]
    scale: Float[Array, ""]
    nngp: Interpolant
    ntk: Interpolant

    @classmethod
    def collapse(
        cls, run: Callable, q1: Float[Array, ""], q2: Float[Array, ""], homogeneity: float | None, nodes: int
    ) -> Tower:
        """Tabulate ``run(K, q1, q2) -> (K, Theta)``.

        For a homogeneous tower unit variances suffice, and the table is shared by all pairs.
        """
        dtype = q1.dtype
        norm = jnp.sqrt(q1) * jnp.sqrt(q2)
        points = jnp.asarray(probe_points(nodes), dtype)
        if homogeneity is None:
            scale = jnp.ones_like(norm)
            values = run(points * norm, q1, q2)
        else:
            scale = norm**homogeneity if homogeneity != 1 else norm
            one = jnp.ones((), dtype)
            values = run(points, one, one)
        # A zero signal has c = 0; where both norm and 1 / norm would leave the range, so does the kernel.
        inverse_norm = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)
        return cls(inverse_norm, scale, *(Interpolant.fit(v) for v in values))

    def __call__(self, kernel: Float[Array, "..."]) -> tuple[tuple[Array, Array], Array]:
        """(K, Theta) / scale after the tower for values K before it, and the correlations c."""
        c = kernel * self.inverse_norm
        s = jnp.sqrt(jnp.clip((1 - jnp.abs(c)) * 0.5, 0, 0.5))
        t = s * (1 / HALF_RANGE) - 1
        positive = c >= 0
        return (self.nngp(t, positive), self.ntk(t, positive)), c
