r"""O(3) acting on signals on the sphere, for filters of global support: two functions on SO(3) in place of one.

An improper motion is a rotation times the inversion P, which multiplies degree l by (-1)^l. A field is the pair

.. math:: K_r = K(f, \rho(r) f'), \qquad K_{rP} = K(f, \rho(r) P f'), \qquad r \in SO(3).

P commutes with rotations, and white-noise or band-limited filters on O(3) act on each half as those on SO(3) do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.filters import Filter, Spectrum
from so3ntk.engine.geometry import Field, PositionFree
from so3ntk.sphere.global_support import SphereGeometry
from so3ntk.sphere.irreps import Irrep


def mirrored(f: Float[Array, "... p c"]) -> Float[Array, "... p c"]:
    """The coefficients of f(-x)."""
    degrees = np.floor(np.sqrt(np.arange(f.shape[-2]) + 0.5))
    return f * jnp.asarray((-1.0) ** degrees, f.dtype)[:, None]


class OrthogonalGeometry(PositionFree):
    """Rotations, and rotations times the inversion. A field is a pair of SO(3)'s fields, or their samples in a row."""

    proper: SphereGeometry

    def correlate(self, f: Float[Array, "p c"], g: Float[Array, "p c"]) -> Field:
        """The correlations with g and with its mirror image."""
        return self.proper.correlate(f, g), self.proper.correlate(f, mirrored(g))

    def variance(self, f: Float[Array, "p c"]) -> Float[Array, ""]:
        """That of SO(3)."""
        return self.proper.variance(f)

    def moments(
        self, f: Float[Array, "a p c"], irrep: Irrep | None = None
    ) -> tuple[Float[Array, " *k"], Float[Array, " *q"]]:
        """Those of SO(3): signs of degrees leave no mark on a mean, which has degree 0, and on squares.

        Of an irrep, those of its parity.
        """
        if irrep is None:
            return self.proper.moments(f)
        return self.proper.coupled_moments(f, irrep.degree, irrep.sign)

    def moments_pay(self, f: Float[Array | np.ndarray, "p c"], summed: bool, irrep: Irrep | None = None) -> bool:
        """As for SO(3)."""
        if irrep is None:
            return self.proper.moments_pay(f, summed)
        return self.proper.coupled_pay(f, summed, irrep.degree, irrep.sign)

    def mean(self, field: Field) -> Float[Array, ""]:
        """The mean of both halves' means."""
        first, second = self._halves(field)
        return (self.proper.mean(first) + self.proper.mean(second)) / 2

    def project(self, field: Field, irrep: Irrep) -> Float[Array, "m m"]:
        """Both halves' moments, the second with D(-r) = p D(r)."""
        first, second = (self.proper.moment(half, irrep.degree) for half in self._halves(field))
        return (first + irrep.sign * second) / 2

    def mean_of(
        self,
        function: Callable,
        parameters: Any,
        f: Float[Array, "p c"],
        g: Float[Array, "p c"],
        irrep: Irrep | None = None,
    ) -> tuple[Float[Array, " k ..."], Float[Array, ""]]:
        """As in the protocol, each half without writing its field."""
        sign, of = (1, None) if irrep is None else (irrep.sign, Irrep(irrep.degree))
        halves = [self.proper.mean_of(function, parameters, f, h, of) for h in (g, mirrored(g))]
        return (halves[0][0] + sign * halves[1][0]) / 2, jnp.maximum(halves[0][1], halves[1][1])

    def average(self, field: Field, filter: Filter) -> Field:
        """A filter's spectrum, on each half; else the identity."""
        if not isinstance(filter, Spectrum):
            return super().average(field, filter)
        first, second = self._halves(field)
        return self.proper.average(first, filter), self.proper.average(second, filter)

    def at_identity(self, field: Field) -> Float[Array, ""]:
        """The value at the identity, which is proper."""
        return self.proper.at_identity(self._halves(field)[0])

    def samples(self, field: Field) -> Float[Array, " r"]:
        """Values at all rotations, then at all of them times the inversion."""
        return jnp.concatenate([self.proper.samples(half) for half in self._halves(field)])

    def add(self, a: Field, b: Field) -> Field:
        """The sum, half by half."""
        return tuple(self.proper.add(x, y) for x, y in zip(self._halves(a), self._halves(b), strict=True))

    def scale(self, field: Field, factor: Any) -> Field:
        """The field times a number."""
        return jax.tree.map(lambda values: values * factor, field)

    def shift(self, field: Field, constant: Any) -> Field:
        """The field plus a constant."""
        return tuple(self.proper.shift(half, constant) for half in self._halves(field))

    def _halves(self, field: Field) -> tuple[Any, Any]:
        first, second = field if isinstance(field, tuple) else jnp.split(field, 2)
        return first, second
