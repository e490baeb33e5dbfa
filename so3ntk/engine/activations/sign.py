"""The sign."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.activations.angles import arc
from so3ntk.engine.activations.base import Activation


class Sign(Activation):
    r"""phi(u) = sign(u), with phi'(u) taken as zero, so that layers before it do not train.

    .. math:: \mathrm{dual} = \frac{2}{\pi} \arcsin\frac{c}{\sqrt{q_1 q_2}}, \qquad
              \mathrm{derivative\_dual} = 0

    Here ``derivative_dual`` is not the derivative of ``dual`` in c, 2 / (pi sqrt(q1 q2 - c^2)), which is
    infinite at c = +-sqrt(q1 q2): there, and where a variance is zero, the derivatives of ``dual`` are
    returned as zero. ``dual`` is exactly +-1 at c = +-sqrt(q1 q2), and 0 where a variance is zero.
    Source: Cho & Saul (2009), order 0; the convention for the NTK is neural-tangents'.
    """

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """sign(u)."""
        return jnp.sign(u)

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(2 / pi) arcsin(c / sqrt(q1 q2))."""
        return arc(c, q1, q2).alignment

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """Zero."""
        return jnp.zeros_like(c + q1 + q2)

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """1, or 0 at q = 0."""
        return jnp.sign(q)

    @property
    def homogeneity(self) -> float | None:
        """0."""
        return 0.0

    @property
    def smoothness(self) -> float:
        """1/2: ``dual``, and with it every later NTK, has a square root at c = sqrt(q1 q2)."""
        return 0.5
