"""Powers."""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.activations.base import Activation

HIGHEST_DEGREE = 6


class Monomial(Activation):
    r"""phi(u) = u^n for n = ``degree``, 0 to 6.

    .. math:: \mathrm{dual}_n = \sum_{j \le n/2} \left(\frac{n!}{2^j j!\,(n - 2j)!}\right)^2 (n - 2j)!\;
                                (q_1 q_2)^j\, c^{n - 2j}, \qquad
              \mathrm{derivative\_dual}_n = n^2\, \mathrm{dual}_{n-1}

    A polynomial: analytic everywhere, and exact at the end points. Its values grow as the n-th power of the
    variance, up to (2n - 1)!! q^n, which in float32 overflows for degree 6 beyond q = 5e5.
    Raises ValueError for a degree that is not an integer from 0 to 6.
    Source: u^n in Hermite polynomials of variance q, E[He_k(u) He_k(v)] = k! c^k (Mehler).
    """

    degree: int = eqx.field(static=True)

    def __init__(self, degree: SupportsIndex):
        try:
            self.degree = operator.index(degree)
        except TypeError:
            self.degree = -1
        if not 0 <= self.degree <= HIGHEST_DEGREE:
            raise ValueError(
                f"Monomial: expected a degree that is an integer from 0 to {HIGHEST_DEGREE}, got {degree!r}. "
                "For other functions use Elementwise(fn)."
            )

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """u^n."""
        return u**self.degree

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """E[u^n v^n]."""
        return _moment(self.degree, c, q1, q2)

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """n^2 E[u^(n-1) v^(n-1)]."""
        if self.degree == 0:
            return jnp.zeros_like(c + q1 + q2)
        return self.degree**2 * _moment(self.degree - 1, c, q1, q2)

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """(2n - 1)!! q^n, summed as ``dual`` is, to round as it does."""
        return self.dual(q, q, q)

    def powers(self, q1: Float[Array, ""], q2: Float[Array, ""]) -> Float[Array, " k"]:
        """The coefficients of ``dual`` in powers of c."""
        coefficients = jnp.zeros(self.degree + 1, jnp.result_type(q1, q2))
        for power, factor, pairs in _terms(self.degree):
            coefficients = coefficients.at[power].set(factor * (q1 * q2) ** pairs)
        return coefficients

    @property
    def polynomial_degree(self) -> int:
        """The degree."""
        return self.degree

    @property
    def homogeneity(self) -> float | None:
        """The degree."""
        return float(self.degree)


def _terms(degree: int) -> list[tuple[int, int, int]]:
    """(k, factor, j) of the terms factor c^k (q1 q2)^j of E[u^n v^n], from the highest power of c down."""
    terms = []
    for j in range(degree // 2 + 1):
        rest = degree - 2 * j
        pairings = math.factorial(degree) // (2**j * math.factorial(j) * math.factorial(rest))
        terms.append((rest, pairings**2 * math.factorial(rest), j))
    return terms


def _moment(degree, c, q1, q2):
    """E[u^n v^n], by Horner's rule in c^2."""
    product = q1 * q2
    power = jnp.ones_like(c + product)
    (_, highest, _), *others = _terms(degree)
    value = highest * power
    for _, factor, _ in others:
        power = power * product
        value = value * (c * c) + factor * power
    return value * c if degree % 2 else value
