r"""Radial bases: how strongly a neighbour at a distance r enters each channel of an environment.

``Powers`` are the inverse powers that ``environments`` has always had. ``Shells`` are localised: with a smearing
sigma(r) = width exp(growth r), which grows with the distance as what a molecule's energy resolves does, and
u(r) with du/dr = 1 / sigma, shell n of ``count`` is a Gaussian at u_n, equally spaced from u(inner) to u(cutoff):

.. math:: R_n(r) = \exp\Big(-\frac{(u(\tilde r) - u_n)^2}{2 s^2}\Big)\, e^{-\mathrm{decay}\, r}\, s_{cut}(r), \qquad
          \tilde r = r_{in} + \delta \log(1 + e^{(r - r_{in}) / \delta}),

s the spacing of the u_n, but at least one (the smearing itself). Closer than r_in all neighbours are in the first shell, smoothly;
s_cut falls from 1 to 0 over the last 0.5 Angstrom, twice continuously differentiable. Smeared in the angle, too, a neighbour at
the direction r_hat has the coefficients

.. math:: a_{nlm} = q_{ij} R_n(r)\, e^{-l (l + 1) (\sigma / r)^2 / 2}\, Y_{lm}(\hat r),

which is the heat kernel on the sphere at the time (sigma / r)^2 / 2: to leading order the factor of a Gaussian of width sigma.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arrays import concrete

#: Closer than this, in Angstrom, all neighbours are in the first shell; and over what length that sets in.
INNER, SOFTNESS = 0.8, 0.05
#: Over the last of these Angstrom before the cutoff shells fall to zero.
FALL = 0.5
#: What brings the median variance of atoms' environments to one, for the default shells: on the first 1,000 molecules of
#: ``load_qm9(1200, seed=0)`` (3.5 for decay=1.5).
SCALE = 4.5
CHARGES = ("sqrt", "product", "none")


def smooth_fall(u: Array) -> Array:
    """1 - 10 u^3 + 15 u^4 - 6 u^5 from 1 at u <= 0 to 0 at u >= 1, twice continuously differentiable."""
    u = jnp.clip(u, 0, 1)
    return 1 - u**3 * (10 - 15 * u + 6 * u**2)


class Powers(eqx.Module):
    """Inverse powers (length / r)^p, a channel each: ``powers`` and ``length`` of ``environments``, as one object."""

    powers: tuple[float, ...] = eqx.field(static=True)
    length: float = eqx.field(static=True)

    def __init__(
        self, powers: Sequence[float | np.number] | Float[np.ndarray, " powers"] | float = (2, 6), length: float = 1.0
    ):
        self.powers = tuple(float(p) for p in np.atleast_1d(np.asarray(powers)))
        self.length = float(length)


class Shells(eqx.Module):
    """Localised radial functions (formulas at the head of this file); lengths in Angstrom.

    count: how many for each element. cutoff: beyond it neighbours count for nothing; periodic cells work. width: the smearing
    at r = 0; growth: its growth per Angstrom; decay: how fast neighbours' weights fall, per Angstrom. charges: what an edge
    weighs, "sqrt" (z z')^1/2, "product" z z' or "none" 1. scale: a factor of all coefficients; the default brings the median
    variance on QM9 to about one. Coefficients are multiplied by the root of the number of channels, over which kernels take
    the mean, so that elements that do not occur change nothing.

    width, growth, decay, cutoff and scale may be traced, and are differentiable. Raises ValueError for a count below 2, lengths
    out of order or not positive, and shells that are narrower than their smearing resolves.
    """

    count: int = eqx.field(static=True)
    cutoff: Any
    width: Any
    growth: Any
    decay: Any
    scale: Any
    charges: str = eqx.field(static=True)

    def __init__(self, count: int = 16, cutoff: Any = 5.0, width: Any = 0.03, growth: Any = 1.0, decay: Any = 1.75, *,
                 charges: str = "sqrt", scale: Any = SCALE):  # fmt: skip
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 2:
            raise ValueError(f"Shells: expected count to be an integer of at least 2, got {count!r}.")
        for name, value, least in (
            ("cutoff", cutoff, INNER + FALL),
            ("width", width, 0),
            ("growth", growth, 0),
            ("scale", scale, 0),
        ):
            known = concrete(jnp.asarray(value))
            if known is not None and not (known.ndim == 0 and least < known < np.inf):
                raise ValueError(f"Shells: expected {name} to be a number above {least:g}, got {value!r}.")
        known = concrete(jnp.asarray(decay))
        if known is not None and not (known.ndim == 0 and 0 <= known < np.inf):
            raise ValueError(f"Shells: expected decay to be a number of at least 0, got {decay!r}.")
        if charges not in CHARGES:
            raise ValueError(f"Shells: expected charges to be one of {CHARGES}, got {charges!r}.")
        self.count, self.charges = int(count), charges
        self.cutoff, self.width, self.growth, self.decay, self.scale = cutoff, width, growth, decay, scale

    def __repr__(self) -> str:
        numbers = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in ("cutoff", "width", "growth", "decay", "charges", "scale")
        )
        return f"Shells({self.count}, {numbers})"

    def smearing(self, distance: Float[Array, " e"]) -> Float[Array, " e"]:
        """sigma(r)."""
        return self.width * jnp.exp(self.growth * distance)

    def weights(self, distance: Float[Array, " e"], charges: Float[Array, " e"]) -> Float[Array, "e n"]:
        """q_ij R_n(r_ij), with z_i z_j given; without ``scale``."""
        dtype = distance.dtype
        inner = INNER + SOFTNESS * jax.nn.softplus((distance - INNER) / SOFTNESS)
        first, last = self._coordinate(jnp.asarray(INNER, dtype)), self._coordinate(jnp.asarray(self.cutoff, dtype))
        spacing = (last - first) / (self.count - 1)
        places = first + spacing * jnp.arange(self.count, dtype=dtype)
        steps = (self._coordinate(inner)[:, None] - places) / jnp.maximum(spacing, 1)
        fall = smooth_fall((distance - (self.cutoff - FALL)) / FALL)
        each = {"sqrt": jnp.sqrt(charges), "product": charges, "none": jnp.where(charges > 0, 1.0, 0.0)}[self.charges]
        return jnp.exp(-(steps**2) / 2) * (each.astype(dtype) * fall * jnp.exp(-self.decay * distance))[:, None]

    def damping(self, distance: Float[Array, " e"], bandlimit: int) -> Float[Array, "e l"]:
        """exp(-l (l + 1) (sigma / r)^2 / 2) for l < bandlimit."""
        degrees = np.arange(bandlimit)
        time = (self.smearing(distance) / distance) ** 2 / 2
        return jnp.exp(-time[:, None] * jnp.asarray(degrees * (degrees + 1), distance.dtype))

    def _coordinate(self, distance: Array) -> Array:
        """u(r), with u(0) = 0."""
        return -jnp.expm1(-self.growth * distance) / (self.growth * self.width)
