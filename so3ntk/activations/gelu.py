"""The Gaussian error linear unit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.activations.angles import balancing, determinant, right_angles
from so3ntk.activations.base import Activation


class Gelu(Activation):
    r"""phi(u) = u Phi(u), with Phi the normal distribution function: the exact form, not the one by tanh.

    With P = (1 + q1)(1 + q2), D = P - c^2 and A = arcsin(c / sqrt(P)),

    .. math:: \mathrm{dual} &= \frac{c}{4} + \frac{1}{2\pi}
                  \left(c A + \frac{q_1 q_2 D + c^2}{P \sqrt{D}}\right), \\
              \mathrm{derivative\_dual} &= \frac14 + \frac{1}{2\pi}
                  \left(A + \frac{c}{\sqrt{D}}\Big(\frac1{1 + q_1} + \frac1{1 + q_2} + \frac1D\Big)\right).

    Analytic everywhere, also at c = +-sqrt(q1 q2) and at zero variances.
    Source: Tsuchida et al., Avoiding kernel fixed points (2021); ``derivative_dual`` by differentiation in c.
    """

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """u Phi(u)."""
        return jax.nn.gelu(u, approximate=False)

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """E[u Phi(u) v Phi(v)]."""
        return _dual(c, q1, q2, determinant)

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """The derivative of ``dual`` in c."""
        t, discriminant = _balanced_discriminant(c, q1, q2, determinant)
        root = jnp.sqrt(discriminant)
        rest = t * c / root * (1 / (1 + q1) + 1 / (1 + q2) + t * t / discriminant)
        return 0.25 * (1 + right_angles(t * c, root)) + 1 / (2 * np.pi) * rest

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """q/4 + (q arctan(q / sqrt(1 + 2 q)) + 2 q^2 / ((1 + q) sqrt(1 + 2 q))) / (2 pi)."""
        return _dual(q, q, q, lambda c, q1, q2: jnp.zeros_like(c))

    @property
    def homogeneity(self) -> float | None:
        """None: the normal distribution has a scale."""
        return None


def _dual(c, q1, q2, determinant):
    """The dual from q1 q2 - c^2: at aligned inputs P - c^2 would lose the digits of 1 + q1 + q2."""
    t, discriminant = _balanced_discriminant(c, q1, q2, determinant)
    root = jnp.sqrt(discriminant)
    first, second = 1 / (1 + q1), 1 / (1 + q2)
    rest = (q1 * first) * (q2 * second) * (root / t) + (c * first) * (c * second) * (t / root)
    return 0.25 * c * (1 + right_angles(t * c, root)) + 1 / (2 * np.pi) * rest


def _balanced_discriminant(c, q1, q2, determinant):
    """A power of two t, and t^2 D, which does not overflow where D would."""
    t, _ = balancing(1 + q1, 1 + q2)
    return t, t * t + t * (t * q1 + t * q2) + determinant(t * c, t * q1, t * q2)
