r"""The angle of two Gaussian variables, with finite derivatives where they are aligned, opposite or zero.

Of (u, v) ~ N(0, [[q1, c], [c, q2]]) the duals need sqrt(q1 q2 - c^2) and arcsin(c / sqrt(q1 q2)). All
functions here act elementwise on arrays that broadcast, keep their dtype, and take a c beyond +-sqrt(q1 q2)
by rounding as the end point. The product q1 q2 may leave the range of the dtype where its factors are inside: all three
are scaled by a power of two first (``balancing``), which changes no digit.

Where forward over reverse mode splits a loop, as that over the motions of local filters, JAX drops the rules of
differentiation and differentiates the functions as they are written: they too have finite derivatives at zero, and those
that are infinite in truth are zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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


def balancing(q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
    """A power of two t with 1 <= t^2 q1 q2 < 8, and 1 / t, both without derivatives; 1 where a variance is zero.

    For c within +-sqrt(q1 q2) products of t c, t q1 and t q2 neither overflow nor fall below the smallest number.
    """
    limits = jnp.finfo(jnp.result_type(q1, q2))
    bias, integer = limits.maxexp - 1, jnp.dtype(f"int{limits.bits}")
    bits = [jax.lax.bitcast_convert_type(jax.lax.stop_gradient(q), integer) for q in (q1, q2)]
    first, second = (jnp.bitwise_and(b >> limits.nmant, 2 * bias + 1) for b in bits)  # exponents, with the bias
    exponent = jnp.clip(2 * bias - ((first + second) >> 1), 1, 2 * bias - 1)
    exponent = jnp.where((first > 0) & (second > 0), exponent, bias)
    t, inverse = (
        jax.lax.bitcast_convert_type(e << limits.nmant, limits.dtype) for e in (exponent, 2 * bias - exponent)
    )
    return t, inverse


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


@jax.custom_jvp
def root_determinant(
    c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
) -> Float[Array, " ..."]:
    """sqrt(q1 q2 - c^2); at zero, where its true derivatives are infinite, they are zero."""
    t, inverse = balancing(q1, q2)
    return inverse * _balanced_root(t * c, t * q1, t * q2)


def _balanced_root(c, q1, q2):
    d, square = determinant(c, q1, q2), q1 * q2
    nothing = d <= 0
    # XLA may compute d twice, in two roundings, and then takes ``instead`` for a root that is not zero: it must be small.
    limits = jnp.finfo(d.dtype)
    instead = jnp.where(square > 0, jnp.maximum(limits.eps**2 * square, limits.tiny), 1)
    return jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, instead, jnp.abs(d))))


@root_determinant.defjvp
def _root_determinant_jvp(primals, tangents):
    value = root_determinant(*primals)
    t, _ = balancing(*primals[1:])
    _, slope = jax.jvp(determinant, tuple(t * primal for primal in primals), tangents)
    return value, 0.5 * reciprocal(t * value) * slope


@jax.custom_jvp
def alignment(c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
    r"""E[sign(u) sign(v)] for (u, v) ~ N(0, [[q1, c], [c, q2]]).

    .. math:: \frac{2}{\pi} \arcsin\frac{c}{\sqrt{q_1 q_2}} = 1 - \frac{2\theta}{\pi}

    Exactly +-1 at c = +-sqrt(q1 q2), and 0 where a variance is zero. In both cases its derivatives, infinite
    in truth, are zero.
    """
    t, _ = balancing(q1, q2)
    return right_angles(t * c, _balanced_root(t * c, t * q1, t * q2))


@alignment.defjvp
def _alignment_jvp(primals, tangents):
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    t, _ = balancing(q1, q2)
    slope = t * dc - 0.5 * (t * c) * (reciprocal(q1) * dq1 + reciprocal(q2) * dq2)
    return alignment(c, q1, q2), 2 / np.pi * reciprocal(t * root_determinant(c, q1, q2)) * slope
