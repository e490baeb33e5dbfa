r"""Roto-translations acting on images: two geometries of so3ntk's protocol.

The relative motion is a displacement d and an element h of a finite group: [rho(r) f'](x) = (h f')(x + d), so

.. math:: K_{h,d}(x) = \mathrm{mean}_c\, f_c(x)\, (h f')_c(x + d), \qquad x + d \bmod n .

Filters act at each motion separately. ``LocalGeometry`` is one motion: a field over the positions, small enough to stay
in a cache through the whole depth. With filters of global support fields do not depend on the position:
``GlobalGeometry`` holds all motions, by FFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from planar.groups import views
from planar.windows import HIGHEST, Window, check_fits, window_mean
from so3ntk.engine.geometry import Geometry


class Motion(eqx.Module):
    """One motion, or many along a leading axis: the index of a group element, and a displacement in pixels."""

    element: Int[Array, " ..."]
    displacement: Int[Array, "... 2"]


@dataclass(frozen=True)
class Tiles:
    """A tiling by window x window positions."""

    window: int

    def count(self, positions: int) -> int:
        """Tiles along one axis. ValueError if the window does not divide the positions."""
        if positions % self.window:
            raise ValueError(
                f"planar.AvgPool: windows of {self.window} x {self.window} do not tile the {positions} x {positions} "
                "positions, so quarter turns would not map tiles to tiles. Use a window that divides them, or crop."
            )
        return positions // self.window


class LocalGeometry(Geometry):
    """One displacement between two images n x n, of which m x m positions are left.

    Values with x + d mod n >= m, of which f' has none, are finite and left out of every average.
    size: n, along one axis. positions: m. elements: of the group; one motion has one of them.
    """

    displacement: Int[Array, 2]
    size: int = eqx.field(static=True)
    positions: int = eqx.field(static=True)
    elements: int = eqx.field(static=True)

    def correlate(self, f: Float[Array, "n n c"], g: Float[Array, "n n c"]) -> Float[Array, "n n"]:
        """mean_c f(x) g(x + d)."""
        return jnp.mean(f * self.transport(g), axis=-1)

    def variance(self, f: Float[Array, "n n c"]) -> Float[Array, "n n"]:
        """mean_c f(x)^2."""
        return jnp.mean(f * f, axis=-1)

    def transport(self, variance: Num[Array, "m m ..."]) -> Num[Array, "m m ..."]:
        """q(x + d)."""
        # Not jnp.roll: its slices cost a fifth more, and in linear networks jax 0.10.2 fails to compile them.
        rows, columns = (self._moved(d) for d in self.displacement)
        if self.positions < self.size:  # beyond the last position any value will do that is a variance
            rows, columns = (jnp.minimum(x, self.positions - 1) for x in (rows, columns))
        return variance[rows][:, columns]

    def mean(self, field: Float[Array, "m m"]) -> Float[Array, ""]:
        """The sum over positions x, x + d, scaled so that its mean over the motions is the mean over pairs."""
        # Two products, not a masked sum, with which XLA would fuse the nonlinearity before, element by element.
        rows, columns = ((self._moved(d) < self.positions).astype(field.dtype) for d in self.displacement)
        total = jnp.matmul(rows, jnp.matmul(field, columns, precision=HIGHEST), precision=HIGHEST)
        return total * (self.size**2 / self.positions**4)

    def overlapping(self, motions: Motion) -> Motion:
        """Those with |d| < m modulo n along both axes."""
        d = np.arange(self.size)
        near = np.flatnonzero(np.minimum(d, self.size - d) < self.positions)
        if len(near) == self.size:
            return motions

        def take(leaf):
            each = leaf.reshape(-1, self.size, self.size, *leaf.shape[1:])
            return each[:, near][:, :, near].reshape(-1, *leaf.shape[1:])

        return jax.tree.map(take, motions)

    def _moved(self, d: Int[Array, ""]) -> Int[Array, " m"]:
        """x + d mod n, along one axis."""
        return (jnp.arange(self.positions) + d) % self.size

    def average(self, field: Float[Array, "m m"], support: Window | None) -> Float[Array, "k k"]:
        """The mean over a window at x and x + d; None: over all positions."""
        if support is None:
            return jnp.broadcast_to(jnp.mean(field), field.shape)
        return window_mean(field, support, self.displacement, self.size)

    def average_variance(self, variance: Float[Array, "m m"], support: Window | None) -> Float[Array, "k k"]:
        """The same of a variance: the kernel of an image with itself at no displacement."""
        if support is None:
            return jnp.broadcast_to(jnp.mean(variance), variance.shape)
        return window_mean(variance, support, jnp.zeros(2, int), self.size)

    def add(self, a: Float[Array, "m m"], b: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """The sum. ValueError for branches that end with unlike numbers of positions."""
        if a.shape != b.shape:
            raise ValueError(
                f"FanInSum: the branches end with {a.shape[0]} x {a.shape[1]} and {b.shape[0]} x {b.shape[1]} positions. "
                "Let windows with padding 'VALID' take as many from each, or use 'SAME'."
            )
        return a + b

    def gather(self, fields: Float[Array, "hdd m m"]) -> Float[Array, "h m m m m"]:
        """Axes (element, displacement, position), both modulo the number m of positions along an axis."""
        n, m = self.size, self.positions
        fields = fields.reshape(-1, n, n, m, m)
        x = np.arange(m)
        displacement = ((x[None] + x[:, None]) % m - x[None]) % n  # of x and (x + d) mod m, as the pixels have it
        rows, columns = displacement[:, None, :, None], displacement[None, :, None, :]
        return fields[:, rows, columns, x[:, None], x[None]]

    def after(self, support: Window | None) -> LocalGeometry:
        """Fewer positions after a "VALID" window. ValueError where none is left, or a circle was cut open."""
        if self.positions < self.size and (support is None or support.padding == "CIRCULAR"):
            raise ValueError(
                "GroupConv: padding 'CIRCULAR' (and global support) after a layer with padding 'VALID' is not "
                "implemented: the image is no longer a torus. Use 'SAME' or 'VALID'."
            )
        if support is None:
            return self
        check_fits(support, self.positions)
        return LocalGeometry(self.displacement, self.size, support.count(self.positions), self.elements)


class GlobalGeometry(Geometry):
    """All motions of a group at once: fields (|H|, n, n) of the element and the displacement."""

    group: str = eqx.field(static=True)

    def correlate(self, f: Float[Array, "n n c"], g: Float[Array, "n n c"]) -> Float[Array, "h n n"]:
        """The cyclic cross-correlation with each view of g, by FFT."""
        spectrum = jnp.fft.rfft2(f, axes=(0, 1))
        others = jnp.fft.rfft2(views(g, self.group), axes=(1, 2))
        products = jnp.mean(jnp.conj(spectrum) * others, axis=-1)
        return jnp.fft.irfft2(products, s=f.shape[:2], axes=(1, 2)) / (f.shape[0] * f.shape[1])

    def variance(self, f: Float[Array, "n n c"]) -> Float[Array, ""]:
        """The mean square over positions and channels."""
        return jnp.mean(f * f)

    def transport(self, variance: Float[Array, ""]) -> Float[Array, ""]:
        """The identity."""
        return variance

    def mean(self, field: Float[Array, "h n n"]) -> Float[Array, ""]:
        """The mean over elements and displacements."""
        return jnp.mean(field)

    def average(self, field: Float[Array, "h n n"], support: Any) -> Float[Array, "h m m"]:
        """The identity: the field does not depend on the position, and a circle has no border.

        ``Tiles`` average over the positions in a tile of either image and keep the displacements between tiles.
        """
        if isinstance(support, Tiles):
            w = support.window
            support.count(field.shape[-1])
            for axis, sign in product((-2, -1), (-1, 1)):
                field = sum(jnp.roll(field, sign * i, axis) for i in range(w)) / w  # pyright: ignore
            return field[:, ::w, ::w]
        if support is not None and support.padding != "CIRCULAR":
            raise ValueError(
                "GroupConv: after a filter of global support the features are circular; "
                f"padding {support.padding!r} would see a border that is no longer there. Use padding='CIRCULAR'."
            )
        return field

    def at_identity(self, field: Float[Array, "h n n"]) -> Float[Array, ""]:
        """The value of the identity at no displacement."""
        return field[0, 0, 0]

    def average_variance(self, variance: Float[Array, ""], support: Any) -> Float[Array, ""]:
        """The identity."""
        return variance
