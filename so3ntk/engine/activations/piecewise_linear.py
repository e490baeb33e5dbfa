"""Two straight lines that meet at zero: what ReLU, leaky ReLU and the modulus share."""

from __future__ import annotations

from abc import abstractmethod

import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.activations.angles import arc
from so3ntk.engine.activations.base import JointDuals
from so3ntk.engine.layers.base import Scalar


class PiecewiseLinear(JointDuals):
    r"""phi(u) = a u + b |u|, for the pair (a, b) = ``parts``. Since E[u |v|] = 0,

    .. math:: \mathrm{dual} = a^2 c + b^2\, E|u||v|, \qquad
              \mathrm{derivative\_dual} = a^2 + b^2 \left(1 - 2\theta/\pi\right), \qquad
              \cos\theta = c / \sqrt{q_1 q_2}.

    Both are exact at c = +-sqrt(q1 q2). Where a variance is zero, phi'(0) = a is meant. All derivatives are
    finite: those which are infinite in truth, of ``dual`` in q1 at q1 = 0 < q2 and of ``derivative_dual`` at
    c = +-sqrt(q1 q2), are returned as zero.
    """

    @property
    @abstractmethod
    def parts(self) -> tuple[Scalar, Scalar]:
        """(a, b): the factors of u and of the modulus of u."""

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """a u + b |u|."""
        a, b = self.parts
        return a * u + b * jnp.abs(u)

    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """Both, of one angle."""
        (a, b), found = self.parts, arc(c, q1, q2)
        return a * a * c + b * b * found.modulus, a * a + b * b * found.alignment

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(a^2 + b^2) q, in two terms, to round as ``dual`` does."""
        a, b = self.parts
        return a * a * q + b * b * q

    @property
    def homogeneity(self) -> float | None:
        """1."""
        return 1.0

    @property
    def smoothness(self) -> float:
        """1/2: ``derivative_dual`` has a square root at c = sqrt(q1 q2)."""
        return 0.5
