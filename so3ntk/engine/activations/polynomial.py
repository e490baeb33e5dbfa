"""Polynomials, and those of Hermite."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.activations.base import JointDuals
from so3ntk.engine.activations.monomial import HIGHEST_DEGREE
from so3ntk.engine.layers.base import Scalar, is_traced


class Polynomial(JointDuals):
    r"""phi(u) = sum_i a_i u^i, of degree 0 to 6, for coefficients (a_0, a_1, ...).

    .. math:: \mathrm{dual} = \sum_k \frac{f_k(q_1) f_k(q_2)}{k!}\, c^k, \qquad
              \mathrm{derivative\_dual} = \sum_k \frac{f_{k+1}(q_1) f_{k+1}(q_2)}{k!}\, c^k, \qquad
              f_k(q) = E[\phi^{(k)}(u)] = \sum_{j} \frac{(k + 2j)!}{2^j j!}\, a_{k + 2j}\, q^j

    The coefficients are differentiable. A polynomial in c at given variances: analytic everywhere, and its networks have exact
    and small grids of rotations, as those of ``Monomial``. Raises ValueError for coefficients that are no finite numbers, none,
    or more than seven.
    Source: Price's theorem, or phi in Hermite polynomials of variance q (Mehler).
    """

    coefficients: tuple[Scalar, ...]

    def __init__(self, coefficients: Sequence[Scalar] | Float[Array | np.ndarray, " k"]):
        self.coefficients = tuple(coefficients)
        numbers = [a for a in self.coefficients if not is_traced(a)]
        if not 0 < len(self.coefficients) <= HIGHEST_DEGREE + 1 or not all(_is_finite(a) for a in numbers):
            raise ValueError(
                f"Polynomial: expected one to {HIGHEST_DEGREE + 1} finite numbers (a_0, a_1, ...), got {coefficients!r}. "
                "For other functions use Elementwise(fn)."
            )

    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """sum_i a_i u^i."""
        value = jnp.zeros_like(u)
        for a in reversed(self.coefficients):
            value = value * u + a
        return value

    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """Both, of the same products."""
        products = self._products(q1, q2)
        zero = jnp.zeros_like(c + q1 + q2)
        return _taylor(products, c, zero), _taylor(products[1:], c, zero)

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """E[phi(u)^2], summed as ``dual`` is, to round as it does."""
        return self.dual(q, q, q)

    def powers(self, q1: Float[Array, ""], q2: Float[Array, ""]) -> Float[Array, " k"]:
        """The coefficients of ``dual`` in powers of c."""
        products = self._products(q1, q2)
        return jnp.stack([product / math.factorial(k) for k, product in enumerate(products)])

    @property
    def polynomial_degree(self) -> int:
        """The degree."""
        return len(self.coefficients) - 1

    @property
    def homogeneity(self) -> float | None:
        """None: coefficients may be zero or not. ``Monomial`` has one."""
        return None

    def _products(self, q1: Any, q2: Any) -> list[Any]:
        """f_k(q1) f_k(q2) for all k."""
        return [
            self._mean_of_derivative(k, q1) * self._mean_of_derivative(k, q2) for k in range(len(self.coefficients))
        ]

    def _mean_of_derivative(self, k: int, q: Any) -> Any:
        """f_k(q)."""
        value = jnp.zeros_like(q)
        for j in reversed(range((self.polynomial_degree - k) // 2 + 1)):
            factor = math.factorial(k + 2 * j) / (2**j * math.factorial(j))
            value = value * q + factor * self.coefficients[k + 2 * j]
        return value


def Hermite(degree: SupportsIndex) -> Polynomial:
    r"""He_n(u) / sqrt(n!) for n = ``degree``, 0 to 6: the polynomials that are orthonormal for u ~ N(0, 1).

    Of inputs of variance one the dual is c^n, as neural-tangents has it for all; of others that of the polynomial, exactly. Raises
    ValueError for a degree that is not an integer from 0 to 6.
    """
    try:
        n = operator.index(degree)
    except TypeError:
        n = -1
    if not 0 <= n <= HIGHEST_DEGREE:
        raise ValueError(f"Hermite: expected a degree that is an integer from 0 to {HIGHEST_DEGREE}, got {degree!r}.")
    coefficients = np.polynomial.hermite_e.herme2poly([0.0] * n + [1.0]) / math.sqrt(math.factorial(n))
    return Polynomial([float(a) for a in coefficients])


def _taylor(derivatives: list[Any], c: Any, zero: Any) -> Float[Array, " ..."]:
    """sum_k d_k c^k / k!, by Horner's rule."""
    value = zero
    for k in reversed(range(len(derivatives))):
        value = derivatives[k] + value * c / (k + 1)
    return value + zero


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float | np.generic | np.ndarray | jax.Array) and not isinstance(value, bool)
    return number and np.ndim(value) == 0 and bool(np.isfinite(np.asarray(value, np.float64)))
