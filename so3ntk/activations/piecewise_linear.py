"""Two straight lines that meet at zero: what ReLU, leaky ReLU and the modulus share."""

from __future__ import annotations

from abc import abstractmethod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.activations.angles import alignment, reciprocal, root_determinant
from so3ntk.activations.base import Activation
from so3ntk.layers.base import Scalar


@jax.custom_jvp
def abs_dual(c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
    r"""E[|u| |v|] for (u, v) ~ N(0, [[q1, c], [c, q2]]).

    .. math:: \frac{2}{\pi} \left(\sqrt{q_1 q_2 - c^2} + c \arcsin\frac{c}{\sqrt{q_1 q_2}}\right)

    Shapes: c, q1 and q2 broadcast. Exactly +-c at c = +-sqrt(q1 q2), and 0 where a variance is zero. The
    derivatives are those of Price's theorem, E[sign(u) sign(v)] in c and sqrt(q1 q2 - c^2) / (pi q1) in q1.
    Where they are infinite they are returned as zero: the latter at q1 = 0 < q2, the second
    derivatives at c = +-sqrt(q1 q2).
    Source: Cho & Saul (2009), order 1, by |u| = relu(u) + relu(-u).
    """
    return c * alignment(c, q1, q2) + 2 / np.pi * root_determinant(c, q1, q2)


@abs_dual.defjvp
def _abs_dual_jvp(primals, tangents):
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    growth = reciprocal(q1) * dq1 + reciprocal(q2) * dq2
    tangent = alignment(c, q1, q2) * dc + 1 / np.pi * root_determinant(c, q1, q2) * growth
    return abs_dual(c, q1, q2), tangent


class PiecewiseLinear(Activation):
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

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """a^2 c + b^2 E[|u| |v|]."""
        a, b = self.parts
        return a * a * c + b * b * abs_dual(c, q1, q2)

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """a^2 + b^2 (1 - 2 theta / pi)."""
        a, b = self.parts
        return a * a + b * b * alignment(c, q1, q2)

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
