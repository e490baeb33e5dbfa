"""Every activation with its function in NumPy, and the expectations of that function by slow quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import jax.numpy as jnp
import numpy as np
from scipy.special import erf, erfc

from so3ntk.engine.activations import (
    Abs,
    Activation,
    Cos,
    Elementwise,
    Erf,
    Exp,
    Gelu,
    Hermite,
    LeakyRelu,
    Monomial,
    Polynomial,
    Rbf,
    Relu,
    SigmoidLike,
    Sign,
    Sin,
)


@dataclass(frozen=True)
class Case:
    """phi and slope are phi and phi', for complex arguments too where phi is analytic.

    degree: p if phi is homogeneous of degree p and kinked at zero; the quadrature is then done in the angle.
    homogeneity, smoothness: what the activation must declare.
    """

    name: str
    activation: Activation
    phi: Callable
    slope: Callable
    homogeneity: float | None = None
    smoothness: float = float("inf")
    degree: int | None = None

    def __str__(self) -> str:
        return self.name

    def expect(self, c: complex, q1: complex, q2: complex) -> complex:
        """E[phi(u) phi(v)]."""
        return self._expectation(self.phi, self.degree, c, q1, q2)

    def expect_slopes(self, c: float, q1: float, q2: float) -> float:
        """E[phi'(u) phi'(v)]."""
        degree = None if self.degree is None else max(self.degree - 1, 0)
        return self._expectation(self.slope, degree, c, q1, q2)

    def _expectation(self, function, degree, c, q1, q2):
        if degree is None:
            return trapezoid_expectation(function, c, q1, q2)
        return polar_expectation(function, degree, c, q1, q2)


STEP = 0.14
POINTS = STEP * np.arange(-86, 87)
WEIGHTS = np.exp(-(POINTS**2) / 2) * STEP / np.sqrt(2 * np.pi)


@cache
def trapezoid_expectation(function, c, q1, q2):
    """E[f(u) f(v)] for an entire f: the trapezoidal rule in two dimensions, exact to rounding."""
    x, y = POINTS[:, None], POINTS[None, :]
    rest = q2 - c * c / q1
    rest = np.sqrt(rest) if isinstance(rest, complex) else np.sqrt(max(rest, 0))
    values = function(np.sqrt(q1) * x) * function(c / np.sqrt(q1) * x + rest * y)
    return WEIGHTS @ values @ WEIGHTS


@cache
def polar_expectation(function, degree, c, q1, q2):
    """E[f(u) f(v)] for f of degree 0 or 1, kinked at zero: Gauss-Legendre in the angle, between the kinks."""
    theta = angle(c, q1, q2)
    edges = np.sort(np.mod([np.pi / 2, 3 * np.pi / 2, theta + np.pi / 2, theta - np.pi / 2], 2 * np.pi))
    edges = np.append(edges, edges[0] + 2 * np.pi)
    nodes, weights = np.polynomial.legendre.leggauss(30)
    half = np.diff(edges)[:, None] / 2
    t = edges[:-1, None] + half * (1 + nodes)
    mean = np.sum(half * weights * function(np.cos(t)) * function(np.cos(t - theta))) / (2 * np.pi)
    radial = {0: 1.0, 1: 2.0}[degree]  # E[R^(2 degree)] for two independent standard normals
    return radial * np.sqrt(q1 * q2) ** degree * mean


def angle(c, q1, q2):
    """The angle between u and v, in extended precision."""
    c, s = np.longdouble(c), np.sqrt(np.longdouble(q1) * np.longdouble(q2))
    return float(np.arctan2(np.sqrt(np.maximum((s - c) * (s + c), 0)), c))


def normal_cdf(x):
    """The normal distribution function, for complex arguments."""
    return 0.5 * erfc(-x / np.sqrt(2))


def gaussian(x, scale=1.0):
    """The derivative of erf(scale x)."""
    return 2 * scale / np.sqrt(np.pi) * np.exp(-((scale * x) ** 2))


def _monomial(degree):
    slope = (lambda x: 0 * x) if degree == 0 else (lambda x: degree * x ** (degree - 1))
    return Case(f"Monomial({degree})", Monomial(degree), lambda x: x**degree, slope, homogeneity=float(degree))


KINKED = [
    Case("Relu", Relu(), lambda x: np.maximum(x, 0), lambda x: np.heaviside(x, 0.5), 1.0, 0.5, 1),
    Case(
        "LeakyRelu",
        LeakyRelu(0.3),
        lambda x: np.where(x > 0, x, 0.3 * x),
        lambda x: np.where(x > 0, 1, 0.3),
        1.0,
        0.5,
        1,
    ),
    Case("Abs", Abs(), np.abs, np.sign, 1.0, 0.5, 1),
    Case("Sign", Sign(), np.sign, lambda x: 0 * x, 0.0, 0.5, 0),
]
SMOOTH = [
    Case("Erf", Erf(), erf, gaussian),
    Case("Erf affine", Erf(1.4, 0.7, 0.3), lambda x: 1.4 * erf(0.7 * x) + 0.3, lambda x: 1.4 * gaussian(x, 0.7)),
    Case(
        "SigmoidLike",
        SigmoidLike(),
        lambda x: 0.5 + 0.5 * erf(x / 2.4020563531719796),
        lambda x: 0.5 * gaussian(x, 1 / 2.4020563531719796),
    ),
    Case(
        "Gelu",
        Gelu(),
        lambda x: x * normal_cdf(x),
        lambda x: normal_cdf(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi),
    ),
    Case("Sin", Sin(), np.sin, np.cos),
    Case(
        "Sin affine",
        Sin(1.4, 0.7, 0.3),
        lambda x: 1.4 * np.sin(0.7 * x + 0.3),
        lambda x: 0.98 * np.cos(0.7 * x + 0.3),
    ),
    Case("Cos", Cos(), np.cos, lambda x: -np.sin(x)),
    Case(
        "Cos affine",
        Cos(1.4, 0.7, 0.3),
        lambda x: 1.4 * np.cos(0.7 * x + 0.3),
        lambda x: -0.98 * np.sin(0.7 * x + 0.3),
    ),
    Case("Exp", Exp(0.8, 0.5), lambda x: 0.8 * np.exp(0.5 * x), lambda x: 0.4 * np.exp(0.5 * x)),
    Case(
        "Rbf",
        Rbf(0.3),
        lambda x: 2**0.5 * np.sin(0.6**0.5 * x + np.pi / 4),
        lambda x: 1.2**0.5 * np.cos(0.6**0.5 * x + np.pi / 4),
    ),
    *[_monomial(degree) for degree in range(7)],
    Case(
        "Polynomial",
        Polynomial([0.3, -1.0, 0.5, 0.25]),
        lambda x: 0.3 - x + 0.5 * x**2 + 0.25 * x**3,
        lambda x: -1 + x + 0.75 * x**2,
    ),
    Case(
        "Hermite",
        Hermite(5),
        lambda x: (x**5 - 10 * x**3 + 15 * x) / 120**0.5,
        lambda x: (5 * x**4 - 30 * x**2 + 15) / 120**0.5,
    ),
    Case(
        "Elementwise",
        Elementwise(lambda x: jnp.sin(x / 2), nodes=16),
        lambda x: np.sin(x / 2),
        lambda x: np.cos(x / 2) / 2,
    ),
    Case(
        "Elementwise with derivative",
        Elementwise(lambda x: jnp.exp(x / 3), nodes=16, derivative=lambda x: jnp.exp(x / 3) / 3),
        lambda x: np.exp(x / 3),
        lambda x: np.exp(x / 3) / 3,
    ),
]
CASES = KINKED + SMOOTH

#: One case of each formula, for tests that compile much.
FORMULAS = [
    case
    for case in CASES
    if case.name
    not in {
        "LeakyRelu",
        "Erf",
        "SigmoidLike",
        "Sin",
        "Cos",
        "Rbf",
        "Polynomial",
        "Hermite",
        "Elementwise",
        *(f"Monomial({n})" for n in (1, 2, 4, 5)),
    }
]
