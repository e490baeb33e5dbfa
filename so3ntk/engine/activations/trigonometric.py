r"""Sine and cosine, from two expectations: for (u, v) ~ N(0, [[q1, c], [c, q2]])

.. math:: E[\sin(bu) \sin(bv)] = e^{-y} \sinh x, \qquad E[\cos(bu) \cos(bv)] = e^{-y} \cosh x, \qquad
          x = b^2 c, \quad y = b^2 (q_1 + q_2) / 2,

called S and C below; that of a sine with a cosine is zero. Source: E[exp(i b (u +- v))] = exp(-y -+ x).
"""

from __future__ import annotations

import math
from abc import abstractmethod

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.activations.base import JointDuals
from so3ntk.engine.layers.base import Scalar


class Sinusoid(JointDuals):
    r"""phi(u) = a f(b u + c), with f the sine or the cosine. With F the one of S, C that belongs to f, and G the other,

    .. math:: \mathrm{dual} = a^2 (F \cos^2 c + G \sin^2 c), \qquad
              \mathrm{derivative\_dual} = a^2 b^2 (G \cos^2 c + F \sin^2 c).

    a, b and c are differentiable. Analytic everywhere, also at c = +-sqrt(q1 q2) and at zero variances.
    """

    a: Scalar = 1.0
    b: Scalar = 1.0
    c: Scalar = 0.0

    @abstractmethod
    def expectations(
        self, x: Float[Array, " ..."], y: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """F and G."""

    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """Both, of F and G."""
        own, other = self.expectations(self.b**2 * c, self.b**2 * (0.5 * (q1 + q2)))
        cos2, sin2 = jnp.cos(self.c) ** 2, jnp.sin(self.c) ** 2
        dual, slope = own * cos2 + other * sin2, other * cos2 + own * sin2
        return self.a**2 * dual, (self.a * self.b) ** 2 * slope

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(a^2 / 2) (1 -+ cos(2 c) exp(-2 b^2 q)), in the form of ``dual``, to round as it does."""
        return self.dual(q, q, q)

    @property
    def homogeneity(self) -> float | None:
        """None: sine and cosine have a scale."""
        return None


class Sin(Sinusoid):
    """phi(u) = a sin(b u + c) = a (sin(b u) cos(c) + cos(b u) sin(c)). Duals: see ``Sinusoid``."""

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """a sin(b u + c)."""
        return self.a * jnp.sin(self.b * u + self.c)

    def expectations(
        self, x: Float[Array, " ..."], y: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """S and C."""
        return sines(x, y), cosines(x, y)


class Cos(Sinusoid):
    """phi(u) = a cos(b u + c) = a (cos(b u) cos(c) - sin(b u) sin(c)). Duals: see ``Sinusoid``."""

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """a cos(b u + c)."""
        return self.a * jnp.cos(self.b * u + self.c)

    def expectations(
        self, x: Float[Array, " ..."], y: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """C and S."""
        return cosines(x, y), sines(x, y)


def Rbf(gamma: Scalar = 1.0) -> Sin:
    r"""phi(u) = sqrt(2) sin(sqrt(2 gamma) u + pi / 4), whose dual is the Gaussian kernel: E[phi(u) phi(v)] = exp(-gamma E[(u - v)^2]).

    .. math:: \mathrm{dual} = \exp(-\gamma (q_1 + q_2 - 2 c)), \qquad \mathrm{derivative\_dual} = 2 \gamma\, \mathrm{dual}

    The variance after it is one. gamma is at least zero; the layer keeps b = sqrt(2 gamma), which is differentiable.
    """
    return Sin(a=2**0.5, b=(2 * gamma) ** 0.5, c=math.pi / 4)


@jax.custom_jvp
def sines(x: Float[Array, " ..."], y: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """exp(-y) sinh(x) for |x| <= y: no overflow, and no cancellation where x is small."""
    # Not abs and sign: written so, the slope at zero is right also where JAX drops the rule below (see ``angles``).
    sign = jnp.where(x < 0, -1, 1)
    return -0.5 * sign * _decay(sign * x - y) * jnp.expm1(-2 * sign * x)


@jax.custom_jvp
def cosines(x: Float[Array, " ..."], y: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """exp(-y) cosh(x) for |x| <= y."""
    return 0.5 * (_decay(x - y) + _decay(-x - y))


@sines.defjvp
def _sines_jvp(primals, tangents):
    dx, dy = tangents
    value = sines(*primals)
    return value, cosines(*primals) * dx - value * dy


@cosines.defjvp
def _cosines_jvp(primals, tangents):
    dx, dy = tangents
    value = cosines(*primals)
    return value, sines(*primals) * dx - value * dy


def _decay(exponent):
    """exp of what is above zero by rounding alone."""
    return jnp.exp(jnp.where(exponent > 0, 0, exponent))
