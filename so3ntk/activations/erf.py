"""The error function, and the sigmoid made of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.activations.angles import determinant, right_angles
from so3ntk.activations.base import Activation
from so3ntk.layers.base import Scalar


class Erf(Activation):
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

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(2 a^2 / pi) arcsin(2 b^2 c / sqrt(Q1 Q2)) + shift^2."""
        angle = right_angles(2 * self.b**2 * c, jnp.sqrt(self._discriminant(c, q1, q2)))
        return self.a**2 * angle + self.c**2

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """4 a^2 b^2 / (pi sqrt(Q1 Q2 - 4 b^4 c^2))."""
        return 4 / np.pi * (self.a * self.b) ** 2 / jnp.sqrt(self._discriminant(c, q1, q2))

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(2 a^2 / pi) arctan(2 b^2 q / sqrt(1 + 4 b^2 q)) + shift^2."""
        angle = right_angles(2 * self.b**2 * q, jnp.sqrt(1 + 2 * self.b**2 * (q + q)))
        return self.a**2 * angle + self.c**2

    def _discriminant(self, c, q1, q2):
        """Q1 Q2 - 4 b^4 c^2, without the cancellation of its large terms where the inputs are aligned."""
        return 1 + 2 * self.b**2 * (q1 + q2) + 4 * self.b**4 * determinant(c, q1, q2)

    @property
    def homogeneity(self) -> float | None:
        """None: the error function has a scale."""
        return None


def SigmoidLike() -> Erf:
    """(1 + erf(u / 2.402)) / 2, of this form the nearest to the logistic sigmoid in mean square on [-5, 5].

    Source of the constant: neural-tangents, ``stax.Sigmoid_like``.
    """
    return Erf(a=0.5, b=1 / 2.4020563531719796, c=0.5)
