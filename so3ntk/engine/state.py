"""The state of a pair of inputs between two layers: kernels and variances, as a pytree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from so3ntk.engine.filters import Filter
from so3ntk.engine.geometry import Field, Geometry, Signal
from so3ntk.engine.parametrization import Scales


class Pair(eqx.Module):
    """Two raw signals before any layer, the grid on which lifting is to sample motions, and whether to carry selves."""

    f: Signal
    g: Signal
    grid: Any = None
    with_selves: bool = eqx.field(static=True, default=False)


class State(eqx.Module):
    r"""Kernels of one pair (f, f') after a layer.

    nngp, ntk: fields K_r(x) and Theta_r(x) of the geometry; ntk is None in the state of a signal with itself, whose
    tangent kernel nobody needs.
    variance1, variance2: q(x) and q'(x), the kernels of f and of f' with themselves at one position.
    self1, self2: the states of (f, f) and (f', f') over all motions, carried only in networks where a variance
    depends on more than variances (a band-limited convolution, a nonlinearity after pooling), else None. Without
    them such a layer leaves the variances unknown, None.
    width: channels of the finite network's features, where given; the standard parametrisation's NTK depends on it.
    """

    geometry: Geometry
    nngp: Field
    ntk: Field
    variance1: Float[Array, " ..."] | None
    variance2: Float[Array, " ..."] | None
    self1: State | None = None
    self2: State | None = None
    width: int | None = eqx.field(static=True, default=None)

    @property
    def is_self(self) -> bool:
        """Whether this is the state of a signal with itself."""
        return self.ntk is None

    def map_selves(self, function: Callable[[State], State]) -> tuple[State | None, State | None]:
        """The function applied to the self states that are there."""
        return tuple(None if s is None else function(s) for s in (self.self1, self.self2))  # pyright: ignore

    def activate(self, duals: Callable, variance: Callable, powers: Callable | None = None) -> State:
        """K <- dual, Theta <- derivative_dual Theta of duals(K, q, q'), q <- variance(q): a nonlinearity.

        powers: the coefficients of dual as a polynomial in K at given variances, if it is one.
        """
        if self.variance1 is None or self.variance2 is None:
            raise ValueError(
                "a nonlinearity needs the variances of its inputs, and a layer before it couples motions: the network "
                "must carry self states (Network decides this from Layer.pointwise and Layer.uses_variances)."
            )
        nngp, ntk = self.geometry.activate(self.nngp, self.ntk, self.variance1, self.variance2, duals, powers)
        self1, self2 = self.map_selves(lambda s: s.activate(duals, variance, powers))
        q1, q2 = variance(self.variance1), variance(self.variance2)
        return State(self.geometry, nngp, ntk, q1, q2, self1, self2, self.width)

    def affine(self, scales: Scales, width: int | None) -> State:
        """Fully connected in the channels, nothing else: A = 1 in ``parametrization``'s formula."""
        nngp, ntk = self._linear(lambda field: field, scales)
        self1, self2 = self.map_selves(lambda s: s.affine(scales, width))
        q1, q2 = (None if q is None else _scaled(q, scales) for q in (self.variance1, self.variance2))
        return State(self.geometry, nngp, ntk, q1, q2, self1, self2, width)

    def filter(self, filter: Filter, scales: Scales, width: int | None) -> State:
        """A filter: its average at each motion, or a map that couples motions.

        In the latter case the variances are the self states' kernels at the identity motion.
        """
        geometry = self.geometry.after(filter)
        nngp, ntk = self._linear(lambda field: self.geometry.average(field, filter), scales)
        averaged = [
            self.geometry.average_variance(q, filter) for q in (self.variance1, self.variance2) if q is not None
        ]
        if len(averaged) == 2 and None not in averaged:
            q1, q2 = (_scaled(q, scales) for q in averaged)
        elif self.is_self:
            q1 = q2 = self.geometry.at_identity(nngp)
        else:
            q1 = q2 = None
        self1, self2 = self.map_selves(lambda s: s.filter(filter, scales, width))
        q1, q2 = (q if q is not None or s is None else s.variance1 for q, s in ((q1, self1), (q2, self2)))
        return State(geometry, nngp, ntk, q1, q2, self1, self2, width)

    def _linear(self, average: Callable, scales: Scales) -> tuple[Field, Field]:
        geometry = self.geometry
        averaged = average(self.nngp)
        nngp = _shift(geometry, geometry.scale(averaged, scales.weight), scales.bias)
        if self.is_self:
            return nngp, None
        fresh = _shift(geometry, geometry.scale(averaged, scales.weight_gain), scales.bias_gain)
        return nngp, geometry.add(fresh, geometry.scale(average(self.ntk), scales.weight))

    def coarsen(self, filter: Filter) -> State:
        """A mean without weights after which fewer motions are left; variances are the self states' new kernels."""
        average = lambda field: None if field is None else self.geometry.average(field, filter)  # noqa: E731
        geometry, nngp, ntk = self.geometry.after(filter), average(self.nngp), average(self.ntk)
        if self.is_self:
            q = geometry.at_identity(nngp)
            return State(geometry, nngp, None, q, q, width=self.width)
        self1, self2 = self.map_selves(lambda s: s.coarsen(filter))
        q1, q2 = (None if s is None else s.variance1 for s in (self1, self2))
        return State(geometry, nngp, ntk, q1, q2, self1, self2, self.width)

    def read(self, read: Callable[[Geometry, Field], Array], after: Geometry, copies: int = 1) -> State:
        """A readout of the field; the variances are the self states' readouts, where those are carried.

        copies: by how much it multiplies the channels.
        """
        width = None if self.width is None else self.width * copies
        nngp = read(self.geometry, self.nngp)
        if self.is_self:
            return State(after, nngp, None, nngp, nngp, width=width)
        self1, self2 = self.map_selves(lambda s: s.read(read, after, copies))
        q1, q2 = (None if s is None else s.nngp for s in (self1, self2))
        return State(after, nngp, read(self.geometry, self.ntk), q1, q2, self1, self2, width)


def _scaled(variance: Any, scales: Scales) -> Any:
    """W^2 q + b^2."""
    product = variance * scales.weight
    if scales.bias is not None:
        return product + scales.bias
    return or_nan(product, (variance > 0) & (scales.weight != 0))


def or_nan(variance: Float[Array, " ..."], is_positive: Bool[Array, " ..."]) -> Float[Array, " ..."]:
    """A variance; NaN, never a plausible zero, where one that is positive fell below the smallest number."""
    return jnp.where(is_positive & (variance == 0), jnp.nan, variance)


def _shift(geometry: Geometry, field: Field, constant: Any) -> Field:
    return field if constant is None else geometry.shift(field, constant)


def add_states(a: State, b: State) -> State:
    """The state of the sum of two independent branches: kernels, tangent kernels and variances add."""
    if type(a.geometry) is not type(b.geometry):
        raise ValueError(
            "FanInSum: the branches end in different spaces "
            f"({type(a.geometry).__name__} and {type(b.geometry).__name__}). Pool in all of them or in none."
        )
    if a.width != b.width:
        raise ValueError(f"FanInSum: the branches have different widths, {a.width} and {b.width}.")

    def add(x, y, plus=lambda x, y: x + y):
        return None if x is None or y is None else plus(x, y)

    return State(
        a.geometry,
        a.geometry.add(a.nngp, b.nngp),
        add(a.ntk, b.ntk, a.geometry.add),
        add(a.variance1, b.variance1),
        add(a.variance2, b.variance2),
        add(a.self1, b.self1, add_states),
        add(a.self2, b.self2, add_states),
        a.width,
    )
