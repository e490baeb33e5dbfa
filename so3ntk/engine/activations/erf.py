"""The error function, and the sigmoid made of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.activations.angles import balancing, determinant, right_angles
from so3ntk.engine.activations.base import JointDuals
from so3ntk.engine.layers.base import Scalar


class Erf(JointDuals):
    r"""phi(u) = a erf(b u) + c. With Q_i = 1 + 2 b^2 q_i,

    .. math:: \mathrm{dual} = \frac{2 a^2}{\pi} \arcsin\frac{2 b^2 c_{12}}{\sqrt{Q_1 Q_2}} + c^2, \qquad
              \mathrm{derivative\_dual} = \frac{4 a^2 b^2}{\pi \sqrt{Q_1 Q_2 - 4 b^4 c_{12}^2}},

    where :math:`c_{12}` is the kernel, to tell it from the shift c. a, b and c are differentiable.
    Analytic everywhere, also at c = +-sqrt(q1 q2) and at zero variances. Source: Williams (1997).
    """

    a: Scalar = 1.0
    b: Scalar = 1.0
    c: Scalar = 0.0

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """a erf(b u) + c."""
        return self.a * jax.scipy.special.erf(self.b * u) + self.c

    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """Both, of one root."""
        t, root = self._balanced_root(c, q1, q2)
        dual = self.a**2 * right_angles(2 * self.b**2 * (t * c), root) + self.c**2
        return dual, 4 / np.pi * (self.a * self.b) ** 2 * t / root

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(2 a^2 / pi) arctan(2 b^2 q / sqrt(1 + 4 b^2 q)) + shift^2."""
        angle = right_angles(2 * self.b**2 * q, jnp.sqrt(1 + 2 * self.b**2 * (q + q)))
        return self.a**2 * angle + self.c**2

    def _balanced_root(self, c, q1, q2):
        """A power of two t, and t sqrt(Q1 Q2 - 4 b^4 c^2), which does not overflow where its terms would.

        Without the cancellation of its large terms where the inputs are aligned.
        """
        t, _ = balancing(1 + 2 * self.b**2 * q1, 1 + 2 * self.b**2 * q2)
        linear = 2 * self.b**2 * (t * (t * q1 + t * q2))
        return t, jnp.sqrt(t * t + linear + 4 * self.b**4 * determinant(t * c, t * q1, t * q2))

    @property
    def homogeneity(self) -> float | None:
        """None: the error function has a scale."""
        return None


def SigmoidLike() -> Erf:
    """(1 + erf(u / 2.402)) / 2, of this form the nearest to the logistic sigmoid in mean square on [-5, 5].

    Source of the constant: neural-tangents, ``stax.Sigmoid_like``.
    """
    return Erf(a=0.5, b=1 / 2.4020563531719796, c=0.5)
