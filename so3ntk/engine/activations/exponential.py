"""The exponential function."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.activations.base import JointDuals
from so3ntk.engine.layers.base import Scalar


class Exp(JointDuals):
    r"""phi(u) = a exp(b u).

    .. math:: \mathrm{dual} = a^2 \exp\bigl(b^2 (q_1 + q_2) / 2 + b^2 c\bigr), \qquad
              \mathrm{derivative\_dual} = b^2\, \mathrm{dual}

    a and b are differentiable. Analytic everywhere; beyond a variance of 350 / b^2 (44 / b^2 in float32) E[phi^2] =
    a^2 exp(2 b^2 q) is infinite, and so is the kernel: a network of several such layers wants small weights.
    Source: the moment generating function of a Gaussian.
    """

    a: Scalar = 1.0
    b: Scalar = 1.0

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """a exp(b u)."""
        return self.a * jnp.exp(self.b * u)

    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """Both, of one exponential."""
        dual = self.a**2 * jnp.exp(self.b**2 * (0.5 * (q1 + q2) + c))
        return dual, self.b**2 * dual

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """a^2 exp(2 b^2 q), in the form of ``dual``, to round as it does."""
        return self.dual(q, q, q)

    @property
    def homogeneity(self) -> float | None:
        """None: the exponential has a scale."""
        return None
