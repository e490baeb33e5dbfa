"""Lifting, group convolution and flattening of images."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planar.features import ImageFeatures, lift
from planar.geometry import GlobalGeometry, LocalGeometry, Motion
from planar.groups import GROUPS, check_group, needs_squares, views
from planar.space import Images
from planar.windows import Window, check_centred, check_window
from so3ntk.basics.arrays import SupportsArray, as_floats
from so3ntk.engine.features import Inputs, Linear, Vectors
from so3ntk.engine.filters import Everywhere, Filter
from so3ntk.engine.geometry import Geometry, Point
from so3ntk.engine.layers.affine import Affine
from so3ntk.engine.layers.base import Layer, Scalar
from so3ntk.engine.layers.source import Lifting, Source
from so3ntk.engine.parametrization import Scales, weights_of
from so3ntk.engine.state import Pair, State


class Lift(Lifting):
    r"""The first group convolution: from images (N, H, W, C) to features on roto-translations.

    .. math:: K_{h,d}(x) = W^2 \frac{1}{k^2} \sum_{w} \frac1C \sum_c f_c(x + w)\,(hf')_c(x + d + w) + b^2,
              \qquad \Theta = K

    filter_shape: (k, k), or None for global support. padding: "CIRCULAR", "SAME" or "VALID". group: "C1" (an ordinary
    CNN), "C2" (half turns), "C4" or "D4" (quarter turns and reflections). width, W_std, b_std, parametrization: as for
    ``so3ntk.Lift``. Images are rectangles for C1 and C2, and square for C4 and D4.

    A network that ends before pooling returns ``Fields`` with axes (N1, N2, h, d, d, x, x): elements in the order of
    ``GROUPS``, displacements (rows, columns) and positions (rows, columns), both modulo the number of positions along
    their axis; for global support (N1, N2, h, d, d), the same at all positions. Pooled kernels of local filters hold the
    field of one motion, at most H W numbers for a pair at any depth, in tiles of pairs: 32 x 32 and 64 x 64 pixels take a
    process of 0.5 GiB. Raises ValueError for filters that break the symmetry, and images that quarter turns do not map to
    themselves.
    """

    window: Window | None = eqx.field(static=True)
    group: str = eqx.field(static=True)
    width: int | None = eqx.field(static=True)
    W_std: Scalar
    b_std: Scalar | None
    parametrization: str = eqx.field(static=True)

    def __init__(
        self,
        filter_shape: tuple[int, int] | None,
        padding: str = "CIRCULAR",
        group: str = "C4",
        *,
        width: int | None = None,
        W_std: Scalar = 1.0,
        b_std: Scalar | None = None,
        parametrization: str = "ntk",
    ):
        self.window = check_window("planar.Lift", filter_shape, padding)
        self.group = check_group(group, "planar.Lift")
        check_centred("planar.Lift", self.window, len(GROUPS[group]))
        checked = weights_of("planar.Lift", width, W_std, b_std, parametrization)
        self.width, self.W_std, self.b_std, self.parametrization = checked

    @property
    def domain(self) -> str:
        """Images."""
        return "images"

    @property
    def filter(self) -> Filter:
        """The window; everywhere for global support."""
        return Everywhere() if self.window is None else self.window

    def space(self, layers: tuple[Layer, ...]) -> Images:
        """Images."""
        return Images(layers)

    def arrays(self, x: Any) -> Float[Array, "n h w c"]:
        """The images; integers become floats. ValueError for other arrays, and rectangles where the group has quarter turns."""
        return read_images(x, "planar.Lift", self.group)

    def geometry(self, grid: Any) -> Geometry:
        """All motions, for global support; local ones are made in ``begin``, for one motion."""
        return GlobalGeometry(self.group)

    def channels(self, f: Float[Array, "h w c"]) -> int:
        """The last axis."""
        return f.shape[-1]

    def self_pairs(self, pair: Pair) -> tuple[Pair, Pair]:
        """Each signal with itself; at one motion of local support (h, d): f with f and h f' with h f', at d."""
        if self.window is None:
            return super().self_pairs(pair)
        motion: Any = pair.grid
        still = Motion(jnp.zeros_like(motion.element), motion.displacement)
        g = views(pair.g, self.group)[motion.element]
        return Pair(pair.f, pair.f, still), Pair(g, g, still)

    def begin(self, pair: Pair) -> State:
        """The state at the pair's motion; all motions for global support."""
        if self.window is None:
            return super().begin(pair)
        motion: Any = pair.grid
        f, g = pair.f, views(pair.g, self.group)[motion.element]
        size = f.shape[:2]
        geometry = LocalGeometry(motion.displacement, size, size, len(GROUPS[self.group]))
        correlation = geometry.correlate(f, g)
        variances = geometry.variance(f), geometry.variance(g)
        state = State(geometry, correlation, jnp.zeros_like(correlation), *variances)
        return state.filter(self.filter, self.scales(f), self.width)

    def fan_in(self, f: Float[Array | jax.ShapeDtypeStruct, "... h w c"]) -> int:
        """Weights that meet in one feature: pixels of the filter times channels; see ``parametrization``."""
        return f.shape[-1] * (1 if self.window is None else self.window.size**2)

    def init(self, key: Array, features: Inputs) -> Any:
        """A filter (k, k, C, width), of global support (H, W, C, width), and a bias (width,)."""
        images = features.arrays
        _check_shape(images.shape, "planar.Lift", self.group)
        sides = images.shape[1:3] if self.window is None else (self.window.size,) * 2
        shape = (*sides, images.shape[-1], self.width)
        return Linear.of(self, self.fan_in(images)).init("planar.Lift", key, shape, self.width)

    def apply(self, params: Any, features: Inputs) -> ImageFeatures:
        """The convolutions with the filter under each element of the group."""
        filters, bias = Linear.of(self, self.fan_in(features.arrays)).scaled(params)
        if self.window is None:
            _, *size, _ = features.arrays.shape
            filters = filters / math.sqrt(math.prod(size))  # a mean over the torus in place of a sum
        return lift(features.arrays, filters, self.window, self.group, bias)


class GroupConv(Affine):
    r"""Convolution of features on roto-translations; A is the mean over a window at x and x + d.

    .. math:: K \leftarrow W^2 A K + b^2, \qquad \Theta \leftarrow K + W^2 A \Theta, \qquad
              q \leftarrow W^2 A q + b^2

    Arguments as for ``planar.Lift``; the group is that of the lifting layer.
    """

    window: Window | None = eqx.field(static=True)
    width: int | None = eqx.field(static=True)
    W_std: Scalar
    b_std: Scalar | None
    parametrization: str = eqx.field(static=True)

    def __init__(
        self,
        filter_shape: tuple[int, int] | None,
        padding: str = "CIRCULAR",
        *,
        width: int | None = None,
        W_std: Scalar = 1.0,
        b_std: Scalar | None = None,
        parametrization: str = "ntk",
    ):
        self.window = check_window("planar.GroupConv", filter_shape, padding)
        checked = weights_of("planar.GroupConv", width, W_std, b_std, parametrization)
        self.width, self.W_std, self.b_std, self.parametrization = checked

    @property
    def domain(self) -> str:
        """Images."""
        return "images"

    @property
    def filter(self) -> Filter:
        """The window; everywhere for global support."""
        return Everywhere() if self.window is None else self.window

    @property
    def pointwise(self) -> bool:
        """Whether support is global: after a global ``Lift`` the layer is then the identity on the field."""
        return self.window is None

    @property
    def keeps_variances(self) -> bool:
        """True: the variances after the layer are averages of those before it."""
        return True

    def __call__(self, state: State) -> State:
        """The state after the convolution. ValueError after pooling or flattening."""
        if isinstance(state.geometry, Point) and type(state.geometry) is Point:
            raise ValueError(
                "planar.GroupConv: the features are no longer functions on a group (they were pooled or flattened). "
                "Use Dense here, or move GroupConv before the pooling."
            )
        scales = self._scales(state)
        if self.window is None and not isinstance(state.geometry, LocalGeometry):
            return state.affine(scales, self.width)
        return state.filter(self.filter, scales, self.width)

    def _scales(self, state: State) -> Scales:
        """The scales; in the standard parametrisation the fan-in counts elements, pixels of the filter and channels."""
        fan_in, geometry = state.width, state.geometry
        if self.window is not None:
            elements = geometry.elements if isinstance(geometry, LocalGeometry) else len(state.nngp)
            check_centred("planar.GroupConv", self.window, elements)
            fan_in = None if fan_in is None else fan_in * elements * self.window.size**2
        return self.scales("planar.GroupConv", fan_in)

    def _fan_in(self, features: Any) -> int:
        if not isinstance(features, ImageFeatures):
            raise ValueError(
                f"planar.GroupConv: expected features on images, got {type(features).__name__}. After pooling use Dense."
            )
        elements, channels = features.values.shape[1], features.channels
        check_centred("planar.GroupConv", self.window, elements)
        return channels * (1 if self.window is None else elements * self.window.size**2)

    def init(self, key: Array, features: ImageFeatures) -> Any:
        """Filters (|H|, k, k, C, width), one for each relative element, and a bias (width,); k as in ``Lift.init``."""
        fan_in = self._fan_in(features)
        _, elements, *size, channels = features.values.shape
        sides = size if self.window is None else (self.window.size,) * 2
        shape = (elements, *sides, channels, self.width)
        return Linear.of(self, fan_in).init("planar.GroupConv", key, shape, self.width)

    def apply(self, params: Any, features: ImageFeatures) -> ImageFeatures:
        """The group convolution."""
        filters, bias = Linear.of(self, self._fan_in(features)).scaled(params)
        if self.window is None:
            _, elements, *size, _ = features.values.shape
            filters = filters / (math.sqrt(math.prod(size)) * elements**0.5)  # a mean over the group in place of a sum
        return features.convolve(filters, self.window, bias)


class Flatten(Source):
    r"""An image as the vector of its pixels and channels: K = f . f' / (H W C), the input of a fully connected network."""

    @property
    def domain(self) -> str:
        """Images."""
        return "images"

    def arrays(self, x: Any) -> Float[Array, "n p"]:
        """The images as rows."""
        images = read_images(x, "planar.Flatten", group=None)
        return images.reshape(len(images), int(np.prod(images.shape[1:])))

    def begin(self, pair: Pair) -> State:
        """Kernel and variances of two vectors; nothing is trained yet, so Theta = 0."""
        geometry = Point()
        kernel = geometry.correlate(pair.f, pair.g)
        variances = geometry.variance(pair.f), geometry.variance(pair.g)
        return State(geometry, kernel, jnp.zeros_like(kernel), *variances, width=pair.f.size)

    def apply(self, params: Any, features: Inputs) -> Vectors:
        """The pixels as vectors."""
        return Vectors(features.arrays.reshape(len(features.arrays), -1))


def read_images(x: Any, where: str, group: str | None) -> Float[Array, "n h w c"]:
    """An array (N, H, W, C) of real numbers; ``ImageData`` gives its images.

    group: what acts on the images, which have to be square where it has quarter turns; None for nothing. Arrays in any
    byte order; integers become floats, half precision float32. ValueError for other shapes and masked entries, TypeError
    for what holds no real numbers.
    """
    x = getattr(x, "images", x)
    if not isinstance(x, jax.Array | np.ndarray | list | tuple | SupportsArray):  # tensors of torch, of xarray
        raise TypeError(f"{where}: expected an array of images (N, H, W, C), got {type(x).__name__}.")
    images = as_floats(x, f"{where}: the images")
    _check_shape(images.shape, where, group)
    return images


def _check_shape(shape: tuple[int, ...], where: str, group: str | None) -> None:
    if len(shape) != 4 or 0 in shape[1:]:
        hint = (
            " For one channel add the axis, images[..., None]; for one image images[None]." if len(shape) == 3 else ""
        )
        raise ValueError(f"{where}: expected images (N, H, W, C), got an array of shape {shape}.{hint}")
    if group is not None and shape[1] != shape[2] and needs_squares(group):
        raise ValueError(
            f"{where}: expected square images, got {shape[1]} x {shape[2]} pixels: the quarter turns of {group} map only "
            'squares to themselves. Crop or pad them, or use group="C2" (half turns) or "C1".'
        )
