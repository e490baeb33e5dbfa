r"""Roto-translations acting on images: two geometries of so3ntk's protocol.

The relative motion is a displacement d and an element h of a finite group: [rho(r) f'](x) = (h f')(x + d), so

.. math:: K_{h,d}(x) = \mathrm{mean}_c\, f_c(x)\, (h f')_c(x + d), \qquad x + d \bmod n .

x and d are (row, column) and n is (rows, columns): one number for both axes of a square, not of a rectangle.
Filters act at each motion separately. ``LocalGeometry`` is one motion: a field over the positions, small enough to stay
in a cache through the whole depth. With filters of global support fields do not depend on the position:
``GlobalGeometry`` holds all motions, by FFT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from planar.groups import views
from planar.windows import HIGHEST, Window, check_fits, window_mean
from so3ntk.engine.filters import Everywhere, Filter
from so3ntk.engine.geometry import Geometry, PositionFree


class Motion(eqx.Module):
    """One motion, or many along a leading axis: the index of a group element, and a displacement in pixels."""

    element: Int[Array, " ..."]
    displacement: Int[Array, "... 2"]


@dataclass(frozen=True)
class Tiles(Filter):
    """A tiling by window x window positions."""

    window: int

    @property
    def stride(self) -> int:
        """From one tile to the next."""
        return self.window

    def count(self, positions: tuple[int, ...], elements: int = 1) -> tuple[int, int]:
        """Tiles along both axes, whatever the group. ValueError if the window does not divide the positions."""
        rows, columns = positions
        if rows % self.window or columns % self.window:
            raise ValueError(
                f"planar.AvgPool: windows of {self.window} x {self.window} do not tile the {rows} x {columns} positions, so "
                "turns would not map tiles to tiles. Use a window that divides both sides, or crop."
            )
        return rows // self.window, columns // self.window


@dataclass(frozen=True)
class Every(Filter):
    """Every ``stride``-th position along both axes, from the one at ``offset``; None: as many as lie evenly about the centre."""

    stride: int
    offset: int | None

    def along(self, positions: int, elements: int) -> tuple[int, int]:
        """The first position along one axis, and how many there are. ValueError where a group of turns would move them."""
        s, last = self.stride, positions - 1
        if self.offset is None:
            count, left = last // s + 1, last % s
            if left % 2:
                count, left = count - 1, left + s  # even, if the stride is odd
            first, even = left // 2, left % 2 == 0
        else:
            first, count = self.offset, max(0, (last - self.offset) // s + 1)
            even = 2 * first + s * (count - 1) == last
        if count < 1 or not (even or (elements == 1 and self.offset is not None)):
            where = "" if self.offset is None else f" from the position {self.offset} on"
            raise ValueError(
                f"planar.Subsample: every {s} positions{where} of {positions} along an axis do not lie evenly about the centre, so that "
                "turns would not map them to each other. With even strides take an odd number of positions (padding 'VALID', or "
                "crop); with the group C1 any offset below the number of positions will do, as offset=0."
            )
        return first, count

    def count(self, positions: tuple[int, ...], elements: int) -> tuple[int, int]:
        """How many there are along both axes."""
        rows, columns = (self.along(m, elements)[1] for m in positions)
        return rows, columns


class LocalGeometry(Geometry):
    """One displacement between two images of n pixels, of which m positions are left, along each axis.

    Values with x + d mod n >= m, of which f' has none, are finite and left out of every average.
    size: n, along both axes. positions: m, likewise. elements: of the group; one motion has one of them.
    """

    displacement: Int[Array, 2]
    size: tuple[int, int] = eqx.field(static=True)
    positions: tuple[int, int] = eqx.field(static=True)
    elements: int = eqx.field(static=True)

    def correlate(self, f: Float[Array, "y x c"], g: Float[Array, "y x c"]) -> Float[Array, "y x"]:
        """mean_c f(x) g(x + d)."""
        return jnp.mean(f * self.transport(g), axis=-1)

    def variance(self, f: Float[Array, "y x c"]) -> Float[Array, "y x"]:
        """mean_c f(x)^2."""
        return jnp.mean(f * f, axis=-1)

    def transport(self, variance: Num[Array, "y x ..."]) -> Num[Array, "y x ..."]:
        """q(x + d)."""
        # Not jnp.roll: its slices cost a fifth more, and in linear networks jax 0.10.2 fails to compile them.
        rows, columns = self._moved()
        if self.positions != self.size:  # beyond the last position any value will do that is a variance
            rows, columns = (jnp.minimum(x, m - 1) for x, m in zip((rows, columns), self.positions, strict=True))
        return variance[rows][:, columns]

    def mean(self, field: Float[Array, "y x"]) -> Float[Array, ""]:
        """The sum over positions x, x + d, scaled so that its mean over the motions is the mean over pairs."""
        # Two products, not a masked sum, with which XLA would fuse the nonlinearity before, element by element.
        moved = zip(self._moved(), self.positions, strict=True)
        rows, columns = ((x < m).astype(field.dtype) for x, m in moved)
        total = jnp.matmul(rows, jnp.matmul(field, columns, precision=HIGHEST), precision=HIGHEST)
        return total * (math.prod(self.size) / math.prod(self.positions) ** 2)

    def overlapping(self, motions: Motion, stride: int = 1) -> Motion:
        """Those with |d| < m modulo n along both axes, and d or d - n a multiple of the stride."""

        def chosen(n: int, m: int) -> Int[np.ndarray, " k"]:
            d = np.arange(n)
            return np.flatnonzero((np.minimum(d, n - d) < m) & ((d % stride == 0) | ((n - d) % stride == 0)))

        rows, columns = map(chosen, self.size, self.positions)
        if (len(rows), len(columns)) == self.size:
            return motions

        def take(leaf):
            each = leaf.reshape(-1, *self.size, *leaf.shape[1:])
            return each[:, rows][:, :, columns].reshape(-1, *leaf.shape[1:])

        return jax.tree.map(take, motions)

    def _moved(self) -> tuple[Int[Array, " y"], Int[Array, " x"]]:
        """x + d mod n, along both axes."""
        axes = zip(self.positions, self.displacement, self.size, strict=True)
        rows, columns = ((jnp.arange(m) + d) % n for m, d, n in axes)
        return rows, columns

    def average(self, field: Float[Array, "y x"], filter: Filter) -> Float[Array, "a b"]:
        """The mean over a ``Window`` at x and x + d, or over all positions."""
        return self._averaged(field, filter, self.displacement)

    def average_variance(self, variance: Float[Array, "y x"], filter: Filter) -> Float[Array, "a b"]:
        """The same of a variance: the kernel of an image with itself at no displacement."""
        return self._averaged(variance, filter, np.zeros(2, int))

    def _averaged(
        self, field: Float[Array, "y x"], filter: Filter, displacement: Int[Array | np.ndarray, 2]
    ) -> Float[Array, "a b"]:
        if isinstance(filter, Everywhere):
            return jnp.broadcast_to(jnp.mean(field), field.shape)
        if isinstance(filter, Window):
            return window_mean(field, filter, displacement, self.size)
        return super().average(field, filter)

    def add(self, a: Float[Array, "y x"], b: Float[Array, "y x"]) -> Float[Array, "y x"]:
        """The sum. ValueError for branches that end with unlike numbers of positions."""
        if a.shape != b.shape:
            raise ValueError(
                f"FanInSum: the branches end with {a.shape[0]} x {a.shape[1]} and {b.shape[0]} x {b.shape[1]} positions. "
                "Let windows with padding 'VALID' take as many from each, or use 'SAME'."
            )
        return a + b

    def gather(self, fields: Float[Array, "hdd y x"]) -> Float[Array, "h y x y x"]:
        """Axes (element, displacement, position), both (row, column) modulo the number m of positions along that axis."""
        fields = fields.reshape(-1, *self.size, *self.positions)
        y, x = (np.arange(m) for m in self.positions)
        down, right = (_displacements(n, m) for n, m in zip(self.size, self.positions, strict=True))
        return fields[:, down[:, None, :, None], right[None, :, None, :], y[:, None], x[None]]

    def after(self, filter: Filter) -> LocalGeometry:
        """Fewer positions after a "VALID" window. ValueError where none is left, or a circle was cut open."""
        window = filter if isinstance(filter, Window) else None
        if self.positions != self.size and (window is None or window.padding == "CIRCULAR"):
            raise ValueError(
                "GroupConv: padding 'CIRCULAR' (and global support) after a layer with padding 'VALID' is not "
                "implemented: the image is no longer a torus. Use 'SAME' or 'VALID'."
            )
        if window is None:
            return self
        check_fits(window, self.positions)
        rows, columns = (window.count(m) for m in self.positions)
        return LocalGeometry(self.displacement, self.size, (rows, columns), self.elements)


def _displacements(pixels: int, positions: int) -> Int[np.ndarray, "m m"]:
    """[d, x]: the displacement of x and (x + d) mod m, as the n pixels along one axis have it."""
    x = np.arange(positions)
    return ((x[None] + x[:, None]) % positions - x[None]) % pixels


class GlobalGeometry(PositionFree):
    """All motions of a group at once: fields (|H|, n, m) of the element and the displacement, of images n x m."""

    group: str = eqx.field(static=True)

    def correlate(self, f: Float[Array, "n m c"], g: Float[Array, "n m c"]) -> Float[Array, "h n m"]:
        """The cyclic cross-correlation with each view of g, by FFT."""
        spectrum = jnp.fft.rfft2(f, axes=(0, 1))
        others = jnp.fft.rfft2(views(g, self.group), axes=(1, 2))
        products = jnp.mean(jnp.conj(spectrum) * others, axis=-1)
        return jnp.fft.irfft2(products, s=f.shape[:2], axes=(1, 2)) / (f.shape[0] * f.shape[1])

    def variance(self, f: Float[Array, "n m c"]) -> Float[Array, ""]:
        """The mean square over positions and channels."""
        return jnp.mean(f * f)

    def mean(self, field: Float[Array, "h n m"]) -> Float[Array, ""]:
        """The mean over elements and displacements."""
        return jnp.mean(field)

    def average(self, field: Float[Array, "h n m"], filter: Filter) -> Float[Array, "h a b"]:
        """The identity: the field does not depend on the position, and a circle has no border.

        ``Tiles`` average over the positions in a tile of either image and keep the displacements between tiles; ``Every``
        keeps the displacements between its positions.
        """
        if isinstance(filter, Every):
            s, sides = filter.stride, field.shape[1:]
            if any(n % s for n in sides):
                raise ValueError(
                    f"planar.Subsample: after filters of global support the stride must divide the {sides[0]} x {sides[1]} positions "
                    f"of the torus, got {s}."
                )
            filter.count(sides, len(field))
            return field[:, ::s, ::s]
        if isinstance(filter, Tiles):
            w = filter.window
            filter.count(field.shape[1:])
            for axis, sign in product((-2, -1), (-1, 1)):
                field = sum(jnp.roll(field, sign * i, axis) for i in range(w)) / w  # pyright: ignore
            return field[:, ::w, ::w]
        if isinstance(filter, Window) and filter.padding != "CIRCULAR":
            raise ValueError(
                "GroupConv: after a filter of global support the features are circular; "
                f"padding {filter.padding!r} would see a border that is no longer there. Use padding='CIRCULAR'."
            )
        return field if isinstance(filter, Window | Everywhere) else Geometry.average(self, field, filter)

    def at_identity(self, field: Float[Array, "h n m"]) -> Float[Array, ""]:
        """The value of the identity at no displacement."""
        return field[0, 0, 0]
