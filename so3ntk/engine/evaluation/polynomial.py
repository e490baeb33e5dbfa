r"""A tower that is a polynomial in the kernel, as that polynomial.

Between lifting and pooling, layers of global support act on each value of the correlation alone. Where each of them is a
polynomial in K (``Products``, ``Monomial``, linear layers) the tower is one, for given variances,

.. math:: F(x) = \sum_{j \le d} p_j x^j,

in the correlation x before lifting. Its coefficients are found by running the layers on polynomials in place of numbers,
which rounds no worse than the layers do: no table, no angle. A pair then costs d multiplications and additions at each
rotation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import accumulate
from operator import mul
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.demand import polynomial_degree_of, readout_of, tower_span
from so3ntk.engine.evaluation.collapsed import Collapsed, TowerEvaluation
from so3ntk.engine.evaluation.evaluation import Evaluation, Result
from so3ntk.engine.evaluation.tower import HIGHEST, Nodes, horner, inverse_or_zero
from so3ntk.engine.geometry import Geometry, Point, PositionFree, Probe, Signal
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.readout import Readout

#: The highest degree that is evaluated as powers: beyond it the table of ``tower`` costs less.
HIGHEST_DEGREE = 16

#: Coefficients of powers of x, from 1 on: as many as the tower's polynomial has.
Polynomial = Float[Array, " k"]


def collapse(layers: tuple[Layer, ...], motions: Any, nodes: Nodes) -> Evaluation:
    """The evaluation of a tower: a polynomial of low degree as such, others tabulated at nodes."""
    if is_polynomial(layers):
        return Powers(layers, motions)
    return Collapsed(layers, motions, nodes)


def is_polynomial(layers: tuple[Layer, ...]) -> bool:
    """Whether the network's tower is a polynomial of a degree up to ``HIGHEST_DEGREE``."""
    degree = polynomial_degree_of(layers[: tower_span(layers)])
    return degree is not None and degree <= HIGHEST_DEGREE


class Polynomials(PositionFree, Point):
    """Fields that are polynomials, of kernels in another geometry, which may refuse constants."""

    of: Geometry

    def shift(self, field: Polynomial, constant: Any) -> Polynomial:
        """The polynomial plus a constant."""
        return field.at[0].add(self.of.shift(jnp.zeros_like(field[0]), constant))

    def activate(
        self, nngp: Polynomial, ntk: Polynomial, q1: Array, q2: Array, duals: Callable, powers: Callable | None
    ) -> tuple[Polynomial, Polynomial]:
        """The dual of the polynomial, and its derivative times the tangent kernel."""
        coefficients = None if powers is None else powers(q1, q2)
        assert coefficients is not None, "only polynomials act on polynomials"
        slopes = coefficients[1:] * np.arange(1, len(coefficients), dtype=coefficients.dtype)
        return composed(coefficients, nngp), product(composed(slopes, nngp), ntk)


def product(a: Polynomial, b: Polynomial) -> Polynomial:
    """The product of two polynomials, without powers that do not fit."""
    powers = np.arange(len(a))
    shifted = jnp.where(powers[:, None] >= powers, b[powers[:, None] - powers], 0)
    return jnp.matmul(shifted, a, precision=HIGHEST)


def composed(coefficients: Float[Array, " j"], inner: Polynomial) -> Polynomial:
    """sum_j coefficients[j] inner^j, by Horner's rule; zero without coefficients."""
    total = jnp.zeros_like(inner)
    for coefficient in reversed(list(coefficients)):
        total = product(total, inner).at[0].add(coefficient)
    return total


def tower_polynomials(
    layers: tuple[Layer, ...], f: Signal, g: Signal, get: tuple[str, ...], motions: Any = None
) -> Float[Array, "k j"]:
    """The kernels after the layers of a tower (``tower_span``) as polynomials in the correlation of one pair."""
    lift: Any = layers[0]
    geometry = lift.geometry(motions)
    q1, q2 = (lift.variance(geometry, signal) for signal in (f, g))
    degrees: Any = [layer.polynomial_degree for layer in layers]
    count = 1 + max(accumulate(degrees, mul))

    ends = lift.probe(lift.nngp(jnp.arange(2, dtype=q1.dtype), f), q1, q2, f)  # lifting is affine: at x = 0 and 1

    def line(values):
        return jnp.zeros(count, values.dtype).at[:2].set(jnp.stack([values[0], values[1] - values[0]]))

    state = dataclasses.replace(ends, geometry=Polynomials(Probe()), nngp=line(ends.nngp), ntk=line(ends.ntk))
    for layer in layers[1:]:
        if isinstance(layer, Readout):
            state = layer.probe(state)
            state = dataclasses.replace(state, geometry=Polynomials(state.geometry))
        else:
            state = layer(state)  # pyright: ignore[reportArgumentType]
    return jnp.stack([getattr(state, name) for name in get])


class Powers(TowerEvaluation):
    """A tower that is a polynomial."""

    layers: tuple[Layer, ...]
    motions: Any

    def fields(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels of one pair."""
        layers = self.layers[: self.span]
        lift: Any = layers[0]
        geometry = lift.geometry(self.motions)
        readout: Any = readout_of(layers)

        def function(coefficients, correlation):
            return horner(list(jnp.unstack(coefficients)), correlation)

        polynomials = tower_polynomials(layers, f, g, get, self.motions)
        means, largest = geometry.mean_of(function, polynomials, f, g, readout.irrep)
        means = readout.finish(means)
        norm = jnp.sqrt(lift.variance(geometry, f)) * jnp.sqrt(lift.variance(geometry, g))
        return Result(tuple(means[i] for i in range(len(get))), lift.nngp(largest, f) * inverse_or_zero(norm))
