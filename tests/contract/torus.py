"""A group that nobody planned for: the torus T^2 acting on itself, with filters on boxes. One geometry of each support, one space.

Signals (N, n, m, C) are samples on n x m points; motions are shifts d, [rho(d) f'](x) = f'(x - d), as many as points.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.filters import Cap, Everywhere, Filter, within
from so3ntk.engine.geometry import Geometry, PositionFree
from so3ntk.engine.layers.base import Layer, Scalar
from so3ntk.engine.layers.source import Lifting
from so3ntk.engine.space import Space


class GlobalTorus(PositionFree):
    """All shifts at once, for filters that see everything: fields (n, m)."""

    def correlate(self, f: Float[Array, "n m c"], g: Float[Array, "n m c"]) -> Float[Array, "n m"]:
        """mean_c,x f(x) g(x - d)."""
        a, b = (jnp.fft.rfft2(signal, axes=(0, 1)) for signal in (f, g))
        return jnp.fft.irfft2(jnp.mean(a * jnp.conj(b), axis=-1), s=f.shape[:2]) / (f.shape[0] * f.shape[1])

    def variance(self, f: Float[Array, "n m c"]) -> Float[Array, ""]:
        """The mean square."""
        return jnp.mean(f * f)

    def mean(self, field: Float[Array, "n m"]) -> Float[Array, ""]:
        """Over all shifts."""
        return jnp.mean(field)


class LocalTorus(Geometry):
    """The same for filters on boxes: fields (n, m, n, m) of the shift and the position."""

    def correlate(self, f: Float[Array, "n m c"], g: Float[Array, "n m c"]) -> Float[Array, "n m n m"]:
        """mean_c f(x) g(x - d)."""
        return jnp.mean(f * self.transport(g), axis=-1)

    def variance(self, f: Float[Array, "n m c"]) -> Float[Array, "n m"]:
        """The mean square over channels."""
        return jnp.mean(f * f, axis=-1)

    def transport(self, variance: Float[Array, "n m ..."]) -> Float[Array, "n m n m ..."]:
        """q(x - d)."""
        n, m = variance.shape[:2]
        d, e, x, y = np.ogrid[:n, :m, :n, :m]
        return variance[(x - d) % n, (y - e) % m]

    def mean(self, field: Float[Array, "n m n m"]) -> Float[Array, ""]:
        """Over all shifts and positions."""
        return jnp.mean(field)

    def average(self, field: Float[Array, "... n m"], filter: Filter) -> Float[Array, "... n m"]:
        """The mean over the box of all points within an angle along either axis."""
        if isinstance(filter, Everywhere):
            return jnp.broadcast_to(jnp.mean(field, axis=(-2, -1), keepdims=True), field.shape)
        if not isinstance(filter, Cap):
            return super().average(field, filter)
        for axis in (-2, -1):
            n = field.shape[axis]
            steps = [k for k in range(n) if min(k, n - k) * 2 * np.pi / n <= filter.angle + 1e-9]
            field = sum(jnp.roll(field, k, axis) for k in steps) / len(steps)
        return field

    def average_variance(self, variance: Float[Array, "n m"], filter: Filter) -> Float[Array, "n m"]:
        """The same."""
        return self.average(variance, filter)


class Torus(Space):
    """The torus; all motions are known."""

    name = "the torus"

    def numbers(self, arrays: Any, evaluation: Evaluation) -> int:
        """One for each shift, or for each and each position."""
        points = arrays.shape[1] * arrays.shape[2]
        return points if all(lift.pointwise for lift in self.inside if isinstance(lift, TorusLift)) else points**2


class TorusLift(Lifting):
    """From signals (N, n, m, C) to features on the torus; support: an angle, or None for all of it."""

    support: float | None = eqx.field(static=True, default=None)
    W_std: Scalar = 1.0
    b_std: Scalar | None = None
    width: int | None = eqx.field(static=True, default=None)
    parametrization: str = eqx.field(static=True, default="ntk")

    @property
    def filter(self) -> Filter:
        """A box, or everything."""
        return within(self.support)

    def arrays(self, x: Any) -> Float[Array, "N n m c"]:
        """The batch."""
        return jnp.asarray(x)

    def geometry(self, grid: Any) -> Geometry:
        """By the support."""
        return GlobalTorus() if self.support is None else LocalTorus()

    def channels(self, f: Float[Array, "n m c"]) -> int:
        """The last axis."""
        return f.shape[-1]

    def space(self, layers: tuple[Layer, ...]) -> Torus:
        """The torus."""
        return Torus(layers)
