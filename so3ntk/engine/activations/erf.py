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
        angle, inverse = _angle_and_inverse(2 * self.b**2, c, q1, q2)
        return self.a**2 * angle + self.c**2, 4 / np.pi * (self.a * self.b) ** 2 * inverse

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(2 a^2 / pi) arctan(2 b^2 q / sqrt(1 + 4 b^2 q)) + shift^2."""
        return self.a**2 * _angle_of_variance(2 * self.b**2, q) + self.c**2

    @property
    def homogeneity(self) -> float | None:
        """None: the error function has a scale."""
        return None


@jax.jit
def _angle_and_inverse(s, c, q1, q2):
    """(2 / pi) arcsin(s c / sqrt(Q1 Q2)) and 1 / sqrt(Q1 Q2 - s^2 c^2), for s = 2 b^2.

    By t sqrt(Q1 Q2 - s^2 c^2), t a power of two, which does not overflow where its terms would, and without the cancellation
    of its large terms where the inputs are aligned.
    """
    t, _ = balancing(1 + s * q1, 1 + s * q2)
    linear = s * (t * (t * q1 + t * q2))
    root = jnp.sqrt(t * t + linear + s * s * determinant(t * c, t * q1, t * q2))
    return right_angles(s * (t * c), root), t / root


@jax.jit
def _angle_of_variance(s, q):
    """The angle above for c = q1 = q2 = q."""
    return right_angles(s * q, jnp.sqrt(1 + s * (q + q)))


def SigmoidLike() -> Erf:
    """(1 + erf(u / 2.402)) / 2, of this form the nearest to the logistic sigmoid in mean square on [-5, 5].

    Source of the constant: neural-tangents, ``stax.Sigmoid_like``.
    """
    return Erf(a=0.5, b=1 / 2.4020563531719796, c=0.5)
