"""Local mean pooling and strides: from the pixels' motions to those of a coarse lattice."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from planar.features import ImageFeatures
from planar.geometry import Every, GlobalGeometry, LocalGeometry, Motion, Tiles
from so3ntk.basics.arguments import check_whole
from so3ntk.basics.arrays import on_device
from so3ntk.engine.layers.coarsening import Coarsening
from so3ntk.engine.state import State

HIGHEST = jax.lax.Precision.HIGHEST


class CoarseLattice(Coarsening):
    """A layer whose features at a position of a coarse lattice are sums of those at positions of the finer one, without weights."""

    @property
    def domain(self) -> str:
        """Images."""
        return "images"

    @property
    @abstractmethod
    def filter(self) -> Tiles | Every:
        """What is left, where fields hold all motions."""

    def count(self, positions: tuple[int, ...], elements: int) -> tuple[int, int]:
        """Positions of the coarse lattice along both axes. ValueError where the group's elements would not map it to itself."""
        return self.filter.count(positions, elements)

    @abstractmethod
    def candidates(
        self, d: Int[Array, ""], n: int, m: int, elements: int, dtype: Any
    ) -> tuple[Float[Array, "k t m"], Int[Array, " k"]]:
        """Along one axis: the coarse displacements D that positions at displacement d can have, and who has which.

        Matrix k holds by how much x counts for X, where x + d belongs to X + D_k. n: pixels. m: positions.
        """

    def __call__(self, state: State) -> State:
        """The state on the coarse lattice, for fields that hold all motions (global support)."""
        name = f"planar.{type(self).__name__}"
        if isinstance(state.geometry, LocalGeometry):
            raise ValueError(
                f"{name}: with local filters it must stand in the outer serial, not in a branch of parallel: "
                "it couples motions, and branches are evaluated motion by motion. Put it after FanInSum."
            )
        if not isinstance(state.geometry, GlobalGeometry):
            raise ValueError(f"{name}: there are no positions left to pool; move it before GroupPool or Flatten.")
        return state.coarsen(self.filter)

    def collect(self, states: Callable[[Any], State], motions: Motion) -> tuple[Callable[[Any], State], Motion]:
        """All coarse fields, added up motion by motion; see ``Coarsening``."""
        example = jax.eval_shape(states, jax.tree.map(lambda a: a[0], motions))
        old = example.geometry
        if not isinstance(old, LocalGeometry):
            raise ValueError(
                f"planar.{type(self).__name__}: there are no positions left to pool; move it before GroupPool or Flatten."
            )
        elements = len(motions.element) // math.prod(old.size)
        size = self.count(old.positions, elements)
        coarse = all_motions(elements, size)

        def add(fields, motion):
            each = zip(motion.displacement, old.size, old.positions, strict=True)
            axes = [self.candidates(d, n, m, elements, example.nngp.dtype) for d, n, m in each]
            parts = jax.tree.map(lambda value: _tile_sums(value, axes), _parts(states(motion)))
            return jax.tree.map(lambda field, part: _add(field, part, motion.element, axes), fields, parts), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros((elements, *size, *size), leaf.dtype), _parts(example))
        # Without checkpoint JAX drops the activations' derivative rules where forward over reverse mode splits the loop.
        fields, _ = jax.lax.scan(jax.checkpoint(add), zeros, self.contributing(old, motions))
        return lambda motion: _state_at(fields, motion, size, example.width), coarse

    def contributing(self, old: LocalGeometry, motions: Motion) -> Motion:
        """The motions between whose positions coarse ones lie."""
        return old.overlapping(motions)


class AvgPool(CoarseLattice):
    r"""The mean over the tiles of a square tiling, w x w positions each; (w, w) is both window and stride.

    .. math:: K_{h,D}(X) \leftarrow \frac{1}{w^4} \sum_{i,j \in [0,w)^2} K_{h,\,wD + j - i}(wX + i),
              \qquad \Theta \text{ likewise (there are no weights)}

    Positions and translations are then those of the coarse lattice; with a group of turns or reflections these map
    tiles to tiles, since w must divide the number of positions. Holds the field of all coarse motions of a pair,
    |H| (H W / w^2)^2 numbers for each kernel. Raises ValueError for windows that are not square or do not tile.
    """

    window: int = eqx.field(static=True)

    def __init__(self, window: tuple[int, int]):
        shape = tuple(window) if np.iterable(window) else ()
        if len(shape) != 2 or shape[0] != shape[1] or not all(isinstance(w, int | np.integer) and w > 0 for w in shape):
            raise ValueError(f"planar.AvgPool: expected a square window (w, w) with w > 0, got {window!r}.")
        self.window = int(shape[0])

    @property
    def filter(self) -> Tiles:
        """The tiles."""
        return Tiles(self.window)

    def apply(self, params: Any, features: ImageFeatures) -> ImageFeatures:
        """The means over tiles."""
        self.count(features.values.shape[2:4], features.values.shape[1])
        return features.pool_tiles(self.window)

    def candidates(
        self, d: Int[Array, ""], n: int, m: int, elements: int, dtype: Any
    ) -> tuple[Float[Array, "k t m"], Int[Array, " k"]]:
        """1 / w^2 where x lies in tile X and x + d in tile X + D_k; D is floor(d / w) or one more.

        Where a border was cut off, x + d - n is another displacement than x + d, with candidates of its own.
        """
        window, tiles, x = self.window, m // self.window, np.arange(m)
        used = (x + d) % n < m
        in_tile = x // window == np.arange(tiles)[:, None]
        matrices, displacements = [], []
        for turns in (0,) if m == n else (0, 1):
            moved = d - n * turns
            here = used if m == n else used & ((x + d >= n) == bool(turns))
            difference = (x + moved) // window - x // window
            for displacement in (moved // window, moved // window + 1):
                matrices.append(in_tile & (here & (difference == displacement))[None])
                displacements.append(displacement % tiles)
        return jnp.stack(matrices).astype(dtype) / window**2, jnp.stack(displacements)


class Subsample(CoarseLattice):
    r"""Every s-th position along both axes, without a mean: what follows a convolution with strides (s, s).

    .. math:: K_{h,D}(X) \leftarrow K_{h,\,sD}(sX + o), \qquad \Theta \text{ likewise}

    ``serial(GroupConv((3, 3), "VALID"), Subsample(2))`` is a convolution with strides (2, 2). offset: o, the first position kept;
    None keeps as many as lie evenly about the image's centre, so that turns and reflections map them to each other. These are all
    m / s for odd s that divide m, and (m - 1) / s + 1 where s divides m - 1; with an even stride and an even number of
    positions there are none, which is refused. With the group C1 any offset will do (0 for strides with padding "VALID", as
    they are elsewhere). Memory as for ``AvgPool``. Raises ValueError for strides and offsets that are no such integers.
    """

    stride: int = eqx.field(static=True)
    offset: int | None = eqx.field(static=True)

    def __init__(self, stride: int, offset: int | None = None):
        self.stride = check_whole(stride, "planar.Subsample", "stride", 1)
        self.offset = None if offset is None else check_whole(offset, "planar.Subsample", "offset", 0)

    @property
    def filter(self) -> Every:
        """The positions."""
        return Every(self.stride, self.offset)

    def apply(self, params: Any, features: ImageFeatures) -> ImageFeatures:
        """The features there."""
        _, elements, *sides, _ = features.values.shape
        rows, columns = (
            slice(o, o + self.stride * n, self.stride) for o, n in (self.filter.along(m, elements) for m in sides)
        )
        return ImageFeatures(features.values[:, :, rows, columns], features.group)

    def candidates(
        self, d: Int[Array, ""], n: int, m: int, elements: int, dtype: Any
    ) -> tuple[Float[Array, "k t m"], Int[Array, " k"]]:
        """1 where x is position X, and x + d, or x + d - n, position X + D_k."""
        first, count = self.filter.along(m, elements)
        x, place = np.arange(m), np.arange(count)
        is_kept = x == first + self.stride * place[:, None]
        matrices, displacements = [], []
        for moved in (d, d - n):
            displacement = moved // self.stride
            is_there = (place + displacement >= 0) & (place + displacement < count) & (moved % self.stride == 0)
            matrices.append(is_kept & is_there[:, None])
            displacements.append(displacement % count)
        return jnp.stack(matrices).astype(dtype), jnp.stack(displacements)

    def contributing(self, old: LocalGeometry, motions: Motion) -> Motion:
        """Displacements that are multiples of the stride."""
        return old.overlapping(motions, self.stride)


def all_motions(elements: int, size: tuple[int, int]) -> Motion:
    """The motions of a group of so many elements on (rows, columns) of pixels, elements major."""
    element, dy, dx = (a.ravel() for a in np.meshgrid(*map(np.arange, (elements, *size)), indexing="ij"))
    return Motion(on_device(element), on_device(np.stack([dy, dx], axis=-1)))


def _parts(state: State) -> dict[str, Any]:
    parts = {"nngp": state.nngp, "ntk": state.ntk}
    selves = {"self1": state.self1, "self2": state.self2}
    return parts | {name: own.nngp for name, own in selves.items() if own is not None}


def _tile_sums(value: Float[Array, "y x"], axes: list) -> Float[Array, "a b t u"]:
    (rows, _), (columns, _) = axes
    half = jnp.einsum("aXx,xy->aXy", rows, value, precision=HIGHEST)
    return jnp.einsum("aXy,bYy->abXY", half, columns, precision=HIGHEST)


def _add(field: Float[Array, "h t u t u"], part: Array, element: Array, axes: list) -> Float[Array, "h t u t u"]:
    """The field with the contributions of one displacement added at its coarse ones."""
    (_, first), (_, second) = axes
    for a, b in product(range(len(first)), range(len(second))):
        field = field.at[element, first[a], second[b]].add(part[a, b])
    return field


def _state_at(fields: dict[str, Any], motion: Motion, size: tuple[int, int], width: int | None) -> State:
    """The state of one coarse motion; variances are the self states' kernels at no displacement."""
    elements = len(fields["nngp"])
    geometry = LocalGeometry(motion.displacement, size, size, elements)
    here = {
        name: field[motion.element, motion.displacement[0], motion.displacement[1]] for name, field in fields.items()
    }
    still = {name: field[motion.element, 0, 0] for name, field in fields.items()}
    q1, q2 = still.get("self1"), still.get("self2")
    selves = [None if q is None else State(geometry, here[name], None, q, q, width=width)
              for name, q in (("self1", q1), ("self2", q2))]  # fmt: skip
    return State(geometry, here["nngp"], here["ntk"], q1, q2, selves[0], selves[1], width)
