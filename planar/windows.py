"""Square windows on an image: what a filter averages over, at one displacement between two images.

Axes are treated one by one: of n pixels and m positions along each, which differ between the axes of a rectangle. There
a field at displacement d is stored cyclically, x against x' = (x + d) mod n, for the positions 0 <= x < m: n of them, or
fewer where a "VALID" window was, which counts those that are left from zero again. A window of zero padding is cut where x
*or* x' leaves the image, so n m numbers exist per pair and axis; those whose x' is no position, x' >= m, mean nothing and
are kept out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from so3ntk.engine.filters import Filter

HIGHEST = jax.lax.Precision.HIGHEST
PADDINGS = ("CIRCULAR", "SAME", "VALID")


@dataclass(frozen=True)
class Window(Filter):
    """size x size pixels with a padding: "CIRCULAR", "SAME" (zeros outside) or "VALID" (inside only).

    With "VALID" a position is that of its window's first pixel. Else odd windows are centred, and an even one has one pixel
    more after its pixel than before it, and is for ordinary networks (C1) alone: see ``check_centred``.
    """

    size: int
    padding: str

    @property
    def offsets(self) -> tuple[int, ...]:
        """Pixels relative to the position, along one axis."""
        first = 0 if self.padding == "VALID" else -((self.size - 1) // 2)
        return tuple(range(first, first + self.size))

    def count(self, positions: int) -> int:
        """The windows along one axis, out of so many positions that have a value."""
        return positions - self.size + 1 if self.padding == "VALID" else positions


def window_mean(
    field: Float[Array, "y x"], window: Window, displacement: Int[Array | np.ndarray, 2], pixels: tuple[int, int]
) -> Float[Array, "a b"]:
    """The sum over the window of the field at one displacement, divided by the number of pixels of a whole window.

    pixels: of the image, along both axes.

    As two products with banded matrices: slices would be fused with the nonlinearity before, and recompute it for each
    pixel of the window (measured: three to six times slower), and a product does not depend on the window's size.
    """
    # Columns first: XLA then keeps the pixels of a pair together, in place of moving them for each product (by a third
    # faster on a CPU).
    axes = zip(field.shape, displacement, pixels, strict=True)
    rows, columns = (_band(m, window, shift, n, field.dtype) for m, shift, n in axes)
    return _product(rows, field, columns)


@jax.jit  # for tracing: once for a shape, not for each field of each layer
def _product(rows, field, columns):
    return jnp.matmul(rows, jnp.matmul(field, columns.T, precision=HIGHEST), precision=HIGHEST)


def _band(positions: int, window: Window, shift: Any, n: int, dtype: Any) -> Float[Array | np.ndarray, "k m"]:
    """1 / size where position y is in the window at x and, of the other image, y + shift in that at x + shift; along one axis.

    A constant for a shift that is one.
    """
    x, y = np.arange(window.count(positions))[:, None], np.arange(positions)[None, :]
    if window.padding == "CIRCULAR":
        return ((y - x - window.offsets[0]) % n < window.size).astype(dtype) / window.size
    inside = _inside if isinstance(shift, np.generic) else _traced_inside
    return inside(positions, window, shift, n).astype(dtype) / window.size


def _inside(positions: int, window: Window, shift: Any, n: int) -> Bool[Array | np.ndarray, "k m"]:
    left = window.count(positions)
    x, y = np.arange(left)[:, None], np.arange(positions)[None, :]
    first, last = window.offsets[0], window.offsets[-1]

    def seen(x: Any, y: Any) -> Any:
        return (x < left) & (y < positions) & (y - x >= first) & (y - x <= last)

    return seen(x, y) & seen((x + shift) % n, (y + shift) % n)


_traced_inside = jax.jit(_inside, static_argnums=(0, 1, 3))


def check_window(where: str, filter_shape, padding: str) -> Window | None:
    """The window of a layer's arguments, None for a global filter; ValueError for what is no square window."""
    if padding not in PADDINGS:
        raise ValueError(f"{where}: expected padding to be one of {', '.join(PADDINGS)}, got {padding!r}.")
    if filter_shape is None:
        if padding != "CIRCULAR":
            raise ValueError(f"{where}: filters of global support (filter_shape=None) need padding='CIRCULAR'.")
        return None
    shape = tuple(filter_shape) if np.iterable(filter_shape) else ()
    if len(shape) != 2 or shape[0] != shape[1] or not all(isinstance(k, int | np.integer) and k > 0 for k in shape):
        raise ValueError(
            f"{where}: expected filter_shape to be a square (k, k) with k > 0, or None for global support, got "
            f"{filter_shape!r}. Filters that are not square are not invariant under quarter turns."
        )
    return Window(int(shape[0]), padding)


def check_centred(where: str, window: Window | None, elements: int) -> None:
    """ValueError for a window that turns and reflections, of which the group has ``elements``, do not map to itself."""
    if window is not None and elements > 1 and window.size % 2 == 0 and window.padding != "VALID":
        raise ValueError(
            f"{where}: an even filter {(window.size,) * 2} has no centre pixel, so with padding {window.padding!r} it "
            "would shift the image and break the symmetry under turns. Use an odd filter, padding='VALID', or group='C1'."
        )


def check_fits(window: Window, positions: tuple[int, ...]) -> None:
    """ValueError for a window larger than what it acts on, along either axis."""
    if window.size > min(positions):
        raise ValueError(
            f"a filter of {window.size} x {window.size} pixels is larger than the {positions[0]} x {positions[1]} positions "
            "it acts on."
        )
