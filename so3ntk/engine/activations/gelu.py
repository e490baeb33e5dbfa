"""The Gaussian error linear unit."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.activations.angles import balancing, determinant, right_angles
from so3ntk.engine.activations.base import JointDuals


class Gelu(JointDuals):
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

    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """Both, of one angle."""
        return _duals(c, q1, q2)

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """q/4 + (q arctan(q / sqrt(1 + 2 q)) + 2 q^2 / ((1 + q) sqrt(1 + 2 q))) / (2 pi)."""
        return _duals(q, q, q, aligned=True)[0]

    @property
    def homogeneity(self) -> float | None:
        """None: the normal distribution has a scale."""
        return None


@partial(jax.jit, static_argnames="aligned")
def _duals(c, q1, q2, aligned=False):
    """Both from q1 q2 - c^2, zero where inputs are aligned: there P - c^2 would lose the digits of 1 + q1 + q2."""
    t, _ = balancing(1 + q1, 1 + q2)
    below = jnp.zeros_like(c) if aligned else determinant(t * c, t * q1, t * q2)
    discriminant = t * t + t * (t * q1 + t * q2) + below  # t^2 D, where D would overflow
    root = jnp.sqrt(discriminant)
    angle, first, second = 0.25 * (1 + right_angles(t * c, root)), 1 / (1 + q1), 1 / (1 + q2)
    rest = (q1 * first) * (q2 * second) * (root / t) + (c * first) * (c * second) * (t / root)
    slope = t * c / root * (first + second + t * t / discriminant)
    return c * angle + 1 / (2 * np.pi) * rest, angle + 1 / (2 * np.pi) * slope
