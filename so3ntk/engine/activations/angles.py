r"""The angle of two Gaussian variables, with finite derivatives where they are aligned, opposite or zero.

Of (u, v) ~ N(0, [[q1, c], [c, q2]]) the duals need sqrt(q1 q2 - c^2) and arcsin(c / sqrt(q1 q2)). All
functions here act elementwise on arrays that broadcast, keep their dtype, and take a c beyond +-sqrt(q1 q2)
by rounding as the end point. The product q1 q2 may leave the range of the dtype where its factors are inside: all three
are scaled by a power of two first (``balancing``), which changes no digit.

Where forward over reverse mode splits a loop, as that over the motions of local filters, JAX drops the rules of
differentiation and differentiates the functions as they are written: they too have finite derivatives at zero, and those
that are infinite in truth are zero.

``jax.jit`` is for tracing, the longest part of a first call beside compilation: a function is traced once for each shape, not at each
layer of each network.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.powers import exponent_of, power_of_two

#: tan(pi / 8), to which arguments of the arctangent are reduced.
_OCTANT = float(np.tan(np.pi / 8))


def _arctangent_series(terms: int) -> list[float]:
    r"""Coefficients, lowest first, of (2 / pi) arctan(t) / t as a polynomial in w = 2 (t / a)^2 - 1, |t| <= a = tan(pi / 8).

    .. math:: \arctan t = 2 \sum_k \frac{(-1)^k}{2k + 1} b^{2k + 1}\, T_{2k + 1}(t / a), \qquad b = \tan(\pi / 16)

    with T_{2k+1}(t / a) / t by Chebyshev's recurrence in T_2(t / a) = w. The error falls as 25.3^-terms.
    """
    w = np.polynomial.Polynomial([0.0, 1.0])
    previous = current = w**0 / _OCTANT
    total = 0 * w
    for k in range(terms):
        total = total + (-1) ** k / (2 * k + 1) * np.tan(np.pi / 16) ** (2 * k + 1) * current
        previous, current = current, 2 * w * current - previous
    return (4 / np.pi * total).coef.tolist()


_SERIES = {32: _arctangent_series(6), 64: _arctangent_series(12)}


def reciprocal(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """1 / x for x > 0, and 0 with zero derivatives for x <= 0."""
    positive = x > 0
    return jnp.where(positive, 1 / jnp.where(positive, x, 1), 0)


def root(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """sqrt(x) for x > 0, and 0 with zero derivatives for x <= 0; NaN stays NaN."""
    nothing = x <= 0
    return jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, 1, x)))


@jax.jit
def balancing(q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
    """A power of two t with 1 <= t^2 q1 q2 < 8, and 1 / t, both without derivatives; 1 where a variance is zero.

    For c within +-sqrt(q1 q2) products of t c, t q1 and t q2 neither overflow nor fall below the smallest number.
    """
    dtype = jnp.result_type(q1, q2)
    least = 1 - jnp.finfo(dtype).maxexp  # of zero
    first, second = exponent_of(q1), exponent_of(q2)
    exponent = jnp.where((first > least) & (second > least), (first + second) >> 1, 0)
    return power_of_two(-exponent, dtype), power_of_two(exponent, dtype)


@jax.custom_jvp
def right_angles(y: Float[Array, " ..."], x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    r"""The angle of the point (x, y), for x >= 0, in right angles: :math:`(2/\pi)\,\mathrm{atan2}(y, x)`.

    Exactly +-1 at x = 0, and 0 with zero derivatives at the origin. A polynomial of a ratio of at most tan(pi / 8), within
    three eps: on a CPU XLA calls a scalar atan2 for each element, at many times the cost.
    """
    size = jnp.abs(y)
    larger, smaller = jnp.maximum(size, x), jnp.minimum(size, x)
    steep = smaller > _OCTANT * larger  # by arctan t = pi / 4 + arctan((t - 1) / (t + 1))
    below = jnp.where(steep, larger + smaller, larger)
    t = jnp.where(steep, smaller - larger, smaller) / jnp.where(below == 0, 1, below)
    variable = (2 / _OCTANT**2) * t * t - 1
    *series, value = _SERIES[64 if jnp.finfo(t.dtype).bits > 32 else 32]
    for coefficient in reversed(series):
        value = value * variable + coefficient
    angle = t * value + jnp.where(steep, 0.5, 0.0)
    angle = jnp.where(size > x, 1 - angle, angle)
    return jnp.where(y < 0, -angle, angle)


@right_angles.defjvp
def _right_angles_jvp(primals, tangents):
    (y, x), (dy, dx) = primals, tangents
    return right_angles(y, x), 2 / np.pi * reciprocal(x * x + y * y) * (x * dy - y * dx)


@jax.custom_jvp
def determinant(c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """q1 q2 - c^2, with the derivatives of the polynomial; zero for a correlation within 4 eps of 1 or -1.

    An input's product with itself and its variance are sums in two orders, which differ by roundings; their angle, the
    root, would be 1e-8 in place of 0.
    """
    square = q1 * q2
    # The same in two forms. Where q1 is near q2 the first keeps the digits of a small q1 - c: both differences are exact.
    factors = (q1 - c) * (q2 + c) - c * (q1 - q2)
    near = (q1 - q2) * (q1 - q2) <= 0.05 * square
    product = jnp.where(near, factors, square - c * c)
    aligned = product < 8 * jnp.finfo(product.dtype).eps * square
    return jnp.where(aligned, product - jax.lax.stop_gradient(product), product)  # zero, with the slope


@determinant.defjvp
def _determinant_jvp(primals, tangents):
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    return determinant(c, q1, q2), q2 * dq1 + q1 * dq2 - 2 * c * dc


class Arc(NamedTuple):
    """E[|u| |v|], E[sign(u) sign(v)] and sqrt(q1 q2 - c^2)."""

    modulus: Float[Array, " ..."]
    alignment: Float[Array, " ..."]
    root: Float[Array, " ..."]


@jax.jit
def arc(c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Arc:
    r"""What kinks at zero need of (u, v) ~ N(0, [[q1, c], [c, q2]]), with cos(theta) = c / sqrt(q1 q2):

    .. math:: E[|u| |v|] = c A + \frac{2}{\pi} R, \qquad A = E[\mathrm{sign}(u)\, \mathrm{sign}(v)] = 1 - \frac{2\theta}{\pi},
              \qquad R = \sqrt{q_1 q_2 - c^2}

    Exactly +-c, +-1 and 0 at c = +-sqrt(q1 q2), and 0 where a variance is zero. Derivatives are those of Price's theorem:
    A in c and R / (pi q1) in q1 for the first, 2 / (pi R) in c for the second. Where they are infinite they are returned
    as zero: of the first in q1 at q1 = 0 < q2, of the others at c = +-sqrt(q1 q2).
    Source: Cho & Saul (2009), orders 1 and 0, by |u| = relu(u) + relu(-u) and sign(u) = step(u) - step(-u).
    """
    t, inverse = balancing(q1, q2)
    modulus, alignment, root = _balanced_arc(t * c, t * q1, t * q2)
    return Arc(inverse * modulus, alignment, inverse * root)


@jax.custom_jvp
def _balanced_arc(c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Arc:
    d, square = determinant(c, q1, q2), q1 * q2
    nothing = d <= 0
    # XLA may compute d twice, in two roundings, and then takes ``instead`` for a root that is not zero: it must be small.
    limits = jnp.finfo(d.dtype)
    instead = jnp.where(square > 0, jnp.maximum(limits.eps**2 * square, limits.tiny), 1)
    root = jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, instead, jnp.abs(d))))
    alignment = right_angles(c, root)
    return Arc(c * alignment + 2 / np.pi * root, alignment, root)


@_balanced_arc.defjvp
def _balanced_arc_jvp(primals, tangents):
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    found = _balanced_arc(c, q1, q2)
    growth, inverse = reciprocal(q1) * dq1 + reciprocal(q2) * dq2, reciprocal(found.root)
    return found, Arc(
        found.alignment * dc + 1 / np.pi * found.root * growth,
        2 / np.pi * inverse * (dc - 0.5 * c * growth),
        0.5 * inverse * (q2 * dq1 + q1 * dq2 - 2 * c * dc),
    )
