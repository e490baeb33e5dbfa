"""Fields that depend on the position, evaluated at one motion after the other, so that only one is held."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from so3ntk.engine.activations.base import Nonlinearity
from so3ntk.engine.demand import needs_selves, pool_position
from so3ntk.engine.evaluation.evaluation import Evaluation, Result, run_layers
from so3ntk.engine.geometry import Geometry, Signal
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.coarsening import Coarsening
from so3ntk.engine.state import Pair, State


def states_by_motion(layers: tuple[Layer, ...], pair: Pair) -> tuple[Callable[[Any], State], Any, Geometry]:
    """The state after the layers as a function of the motion, all motions, and the geometry of one of them.

    No field of several motions is held, except at a ``Coarsening``, which couples motions: those of its coarse lattice.
    """
    cuts = [i for i, layer in enumerate(layers) if isinstance(layer, Coarsening)]
    selves = bool(cuts) and needs_selves(layers)
    first = layers[: cuts[0]] if cuts else layers

    def state_at(motion: Any) -> State:
        return run_layers(first, Pair(pair.f, pair.g, motion, selves))

    states, motions, last = state_at, pair.grid, 0
    for start, end in pairwise([*cuts, len(layers)]):
        coarse, motions = layers[start].collect(states, motions)  # pyright: ignore[reportAttributeAccessIssue]
        states = lambda motion, coarse=coarse, body=layers[start + 1 : end]: run_layers(body, coarse(motion))  # noqa: E731
        last = start + 1
    # Nonlinearities leave the geometry as it is, and tracing them would take as long as all else
    begin = coarse if cuts else lambda motion: Pair(pair.f, pair.g, motion, selves)
    linear = [layer for layer in layers[last:] if not isinstance(layer, Nonlinearity)]
    outline = jax.eval_shape(lambda motion: run_layers(linear, begin(motion)), jax.tree.map(lambda a: a[0], motions))
    return states, motions, outline.geometry


def motion_kernels(layers: tuple[Layer, ...], pair: Pair, get: tuple[str, ...], batch: tuple[int, ...] = ()) -> Result:
    """The kernels up to the readout, the last of the layers, motion by motion. batch: the shape of what a field is of."""
    readout: Any = layers[-1]
    states, motions, geometry = states_by_motion(layers[:-1], pair)

    def add(sums, motion):
        state = states(motion)
        return sums + jnp.stack([readout.read(state.geometry, getattr(state, name)) for name in get]), None

    # In reverse mode each motion's field is computed again instead of stored.
    nothing = jnp.zeros((len(get), *batch, *readout.shape), jax.tree.leaves(pair.f)[0].dtype)
    sums, _ = jax.lax.scan(jax.checkpoint(add), nothing, geometry.overlapping(motions))
    means = sums / len(jax.tree.leaves(motions)[0])
    return Result(tuple(means), jnp.full(batch, -1, means.dtype))


class _AtMotions(Evaluation):
    @property
    def span(self) -> int:
        """Up to the readout."""
        position = pool_position(self.layers)
        if position is None:
            raise NotImplementedError(
                "GroupPool: with local support branches cannot pool by themselves. Join them first and pool once: "
                "serial(FanOut(2), parallel(...), FanInSum(), GroupPool(), Dense())."
            )
        return position

    @property
    def motion_by_motion(self) -> bool:
        """True."""
        return True


class ByMotion(_AtMotions):
    """One pair at one motion after the other: geometries of one pair."""

    layers: tuple[Layer, ...]
    motions: Any

    def fields(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels of one pair."""
        return motion_kernels(self.layers[: self.span], Pair(f, g, self.motions), get)

    def unpooled(self, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, ...]:
        """At each motion, in the axes that the geometry gives them."""
        return _gathered(self.layers, Pair(f, g, self.motions), get)


class BatchByMotion(_AtMotions):
    """All pairs of two batches at one motion after the other: geometries whose fields are those of batches.

    motions: they can be ``grouped``, for steps of several where there are few pairs.
    """

    layers: tuple[Layer, ...]
    motions: Any

    def fields(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels (n, m) of two batches."""
        span, count = self.span, tuple(len(jax.tree.leaves(batch)[0]) for batch in (f, g))
        return motion_kernels(self.layers[:span], Pair(f, g, self.motions.grouped(count[0] * count[1])), get, count)

    def pair(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """A batch of one with a batch of one."""
        return jax.tree.map(lambda kernel: kernel[0, 0], self.pairs(f[None], g[None], get))

    def pairs(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels (n, m) of two batches after all layers."""
        return self._headed(self.fields, f, g, get)

    def unpooled(self, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, ...]:
        """The same of one pair."""
        return tuple(field[..., 0, 0] for field in _gathered(self.layers, Pair(f[None], g[None], self.motions), get))

    def _variances(self, f: Signal, g: Signal) -> tuple[Array, Array]:
        body = self.layers[: self.span]

        def own(f):
            return motion_kernels(body, Pair(f[None], f[None], self.motions), ("nngp",), (1, 1)).kernels[0][0, 0]

        return jax.vmap(own)(f)[:, None], jax.vmap(own)(g)[None, :]

    @property
    def in_batches(self) -> bool:
        """True."""
        return True


def _gathered(layers: tuple[Layer, ...], pair: Pair, get: tuple[str, ...]) -> tuple[Array, ...]:
    states, motions, geometry = states_by_motion(layers, pair)
    kernels = jax.lax.map(lambda motion: tuple(getattr(states(motion), name) for name in get), motions)
    return tuple(geometry.gather(kernel) for kernel in kernels)
