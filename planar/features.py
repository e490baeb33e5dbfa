"""Features of finite networks on images: planes for each element of the group, filters turned with it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from planar.groups import GROUPS
from planar.windows import Window, check_fits
from so3ntk.engine.features import HIGHEST, Features, Vectors


class ImageFeatures(Features):
    """Values (N, |H|, x, y, C): for each element of the group one plane of positions, rows x columns."""

    values: Float[Array, "n h x y c"]
    group: str = eqx.field(static=True)

    def pool(self) -> Vectors:
        """The mean over elements and positions."""
        return Vectors(jnp.mean(self.values, axis=(1, 2, 3)))

    def pool_tiles(self, window: int) -> ImageFeatures:
        """The mean over tiles of window x window positions."""
        n, h, x, y, c = self.values.shape
        tiles = self.values.reshape(n, h, x // window, window, y // window, window, c)
        return ImageFeatures(jnp.mean(tiles, axis=(3, 5)), self.group)

    def convolve(self, filters: Float[Array, "h a b c w"], window: Window | None, bias: Any) -> ImageFeatures:
        r"""The group convolution out[g] = sum_g' h[g'] * (g filters[g^-1 g']), and a bias."""
        n, h, x, y, c = self.values.shape
        table = division_table(self.group)
        # Both group axes join the channels: one convolution does them all.
        turned = [[act(filters[table[g, other]], self.group, g, window) for other in range(h)] for g in range(h)]
        kernel = jnp.stack([jnp.concatenate(row, axis=2) for row in turned], axis=3)  # (a, b, g' c, g, w)
        planes = self.values.transpose(0, 2, 3, 1, 4).reshape(n, x, y, h * c)
        return _from_planes(cross_correlate(planes, kernel, window), self.group, bias)


def lift(images: Float[Array, "n x y c"], filters: Float[Array, "a b c w"], window: Window | None, group: str,
         bias: Any) -> ImageFeatures:  # fmt: skip
    """The lifting convolution out[g] = image * (g filters), and a bias."""
    kernel = jnp.stack([act(filters, group, g, window) for g in range(len(GROUPS[group]))], axis=3)
    return _from_planes(cross_correlate(images, kernel, window), group, bias)


def act(filters: Float[Array, "a b c w"], group: str, element: int, window: Window | None) -> Float[Array, "a b c w"]:
    """A filter turned by an element: a window about its centre, a filter on the whole torus about pixel 0."""
    turns, mirrored = GROUPS[group][element]

    def turn(image):
        return jnp.rot90(image[:, ::-1] if mirrored else image, turns)

    turned = turn(filters)
    if window is not None:
        return turned
    corner = np.zeros(filters.shape[:2])
    corner[0, 0] = 1  # where pixel 0 went
    moved = np.argwhere(np.rot90(corner[:, ::-1] if mirrored else corner, turns))[0]
    return jnp.roll(turned, tuple(-moved), axis=(0, 1))


def _from_planes(planes: Float[Array, "n x y h w"], group: str, bias: Any) -> ImageFeatures:
    return ImageFeatures(planes.transpose(0, 3, 1, 2, 4) + bias, group)


def cross_correlate(
    planes: Float[Array, "n x y c"], kernel: Float[Array, "v u c h w"], window: Window | None
) -> Float[Array, "n a b h w"]:
    """sum over pixels v of the filter of kernel(v) planes(x + v); a global filter by FFT.

    ValueError for parameters of another number of channels, and a filter larger than the plane.
    """
    if planes.shape[-1] != kernel.shape[2]:
        raise ValueError(
            f"apply_fn: the parameters are for {kernel.shape[2]} channels (times elements of the group), the input has "
            f"{planes.shape[-1]}. Draw them by init_fn for inputs of this shape."
        )
    if window is None:
        spectrum = jnp.fft.rfft2(planes, axes=(1, 2))
        filters = jnp.conj(jnp.fft.rfft2(kernel, axes=(0, 1)))
        products = jnp.einsum("nxyc,xychw->nxyhw", spectrum, filters, precision=HIGHEST)
        return jnp.fft.irfft2(products, s=planes.shape[1:3], axes=(1, 2))
    check_fits(window, planes.shape[1:3])
    if window.padding != "VALID":
        margin = -window.offsets[0], window.offsets[-1]
        width = ((0, 0), margin, margin, (0, 0))
        planes = jnp.pad(planes, width, mode="wrap" if window.padding == "CIRCULAR" else "constant")
    *square, elements, channels = kernel.shape
    found = jax.lax.conv_general_dilated(planes, kernel.reshape(*square, elements * channels), (1, 1), "VALID",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=HIGHEST)  # fmt: skip
    return found.reshape(*found.shape[:3], elements, channels)


@lru_cache
def division_table(group: str) -> Int[np.ndarray, "g h"]:
    """The index of g^-1 g' for each pair of elements, found by their action on a square without symmetry."""

    def act(element, square):
        turns, mirrored = element
        return np.rot90(square[:, ::-1] if mirrored else square, turns)

    elements, square = GROUPS[group], np.arange(4).reshape(2, 2)
    images = [act(element, square).tobytes() for element in elements]
    product = [[images.index(act(g, act(h, square)).tobytes()) for h in elements] for g in elements]
    return np.argsort(np.array(product), axis=1)  # the row of g is a permutation of h; its inverse takes g h to h
