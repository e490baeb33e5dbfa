"""From layers to the kernels of one pair, and of all pairs of two batches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.activations.base import Activation
from so3ntk.engine.evaluation.tower import Nodes, Tower, inverse_or_zero, probe_points
from so3ntk.engine.geometry import Geometry, Point, Signal
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.coarsening import Coarsening
from so3ntk.engine.layers.combinators import Identity
from so3ntk.engine.layers.dense import Dense
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.layers.source import Lifting
from so3ntk.engine.state import Pair, State

#: Rows of a tile that are computed again on the fine grid if any pair in them is aligned.
REFINED_ROWS = 8


class Result(NamedTuple):
    """The kernels asked for, in their order, and the pair's alignment: the largest correlation c over all motions.

    The alignment is -1 where it is not computed.
    """

    kernels: tuple[Float[Array, " ..."], ...]
    alignment: Float[Array, " ..."]


class Motions(eqx.Module):
    """The motions a network is evaluated on: a base grid, and a finer one for pairs aligned beyond a threshold.

    Near c = 1 the NTK of kinked activations has a cusp that only a fine grid resolves; which pairs need it is decided
    for each pair alone, so results do not depend on the batch. ``fine`` None uses the base grid throughout.
    nodes: where towers are tabulated; None where they do not collapse.
    """

    base: Any
    fine: Any
    threshold: Any
    nodes: Nodes | None = eqx.field(static=True)


def needs_selves(layers: tuple[Layer, ...]) -> bool:
    """Whether some nonlinearity follows a layer that couples motions: its variances need the self states."""
    coupled = False
    for layer in layers:
        if coupled and layer.uses_variances:
            return True
        coupled = coupled or not layer.keeps_variances
    return False


def tower_span(layers: tuple[Layer, ...]) -> int | None:
    """How many layers collapse to one function; None if the network is not of that form.

    They are Lifting, pointwise layers and a readout; then Dense layers, which commute with it, as long as they do not end
    the tower's homogeneity.
    """
    if not isinstance(layers[0], Lifting):
        return None
    pool = next((i for i, layer in enumerate(layers) if isinstance(layer, Readout)), None)
    if pool is None or not all(layer.pointwise for layer in layers[:pool]):
        return None
    span, homogeneous = pool + 1, homogeneity_of(layers[:pool]) is not None
    for layer in layers[pool + 1 :]:
        if not isinstance(layer, Dense | Identity) or (homogeneous and layer.homogeneity is None):
            break
        span += 1
    return span


def homogeneity_of(layers: tuple[Layer, ...]) -> float | None:
    """The product of the layers' exponents, None if one has none."""
    exponents = [layer.homogeneity for layer in layers if not isinstance(layer, Readout)]
    return None if None in exponents else math.prod(exponents)  # pyright: ignore


def run_layers(layers: Sequence[Callable[[Any], Any]], state: Pair | State) -> State:
    """Layer by layer: the definition of the network's kernel."""
    for layer in layers:
        state = layer(state)  # pyright: ignore[reportArgumentType]
    return state  # pyright: ignore[reportReturnType]


def make_tower(
    layers: tuple[Layer, ...], pair: Pair, points: Float[Array, "2 n"] | np.ndarray, get: tuple[str, ...]
) -> Tower:
    """The layers of a tower (``tower_span``) as one function, for the variances of one pair, from ``probe_points``."""
    lift: Any = layers[0]
    body = tuple(layer.probe if isinstance(layer, Readout) else layer for layer in layers[1:])
    geometry = lift.geometry(pair.grid)

    def run(nngp, q1, q2):
        state = run_layers(body, lift.probe(nngp, q1, q2, pair.f))  # pyright: ignore[reportArgumentType]
        return [getattr(state, name) for name in get]

    q1, q2 = (lift.variance(geometry, f) for f in (pair.f, pair.g))
    return Tower.collapse(run, q1, q2, homogeneity_of(layers), points)


def tower_kernels(layers: tuple[Layer, ...], pair: Pair, nodes: Nodes, get: tuple[str, ...]) -> Result:
    """The kernels after a tower's layers, collapsed."""
    lift: Any = layers[0]
    tower = make_tower(layers, pair, probe_points(nodes), get)

    def function(coefficients, correlation):
        return tower.evaluate(coefficients, lift.nngp(correlation, pair.f), nodes.stretch)

    readout: Any = readout_of(layers)
    means, largest = lift.geometry(pair.grid).mean_of(
        function, tower.coefficients(nodes.stretch), pair.f, pair.g, readout.irrep
    )
    means = readout.finish(means)
    return Result(tuple(means[i] for i in range(len(get))), lift.nngp(largest, pair.f) * tower.inverse_norm)


def pool_position(layers: tuple[Layer, ...]) -> int | None:
    """How many layers there are up to the readout; None without one among them."""
    return next((i + 1 for i, layer in enumerate(layers) if isinstance(layer, Readout)), None)


def readout_of(layers: tuple[Layer, ...]) -> Readout | None:
    """The last readout, of which networks have one, or one at the end of each branch; None without."""
    return next((layer for layer in reversed(tuple(flatten(layers))) if isinstance(layer, Readout)), None)


def geometry_after(layers: tuple[Layer, ...]) -> Geometry:
    """That of the state after all layers, the readout among them."""
    readout = readout_of(layers)
    return Point() if readout is None else readout.after


def by_motion(layers: tuple[Layer, ...]) -> bool:
    """Whether the layers up to the readout act at each motion separately, on fields over positions."""
    return lifts_separately(layers) and pool_position(layers) is not None


def lifts_separately(layers: tuple[Layer, ...]) -> bool:
    """Whether fields depend on the position: local support."""
    return any(isinstance(layer, Lifting) and layer.separate for layer in flatten(layers))


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
    linear = [layer for layer in layers[last:] if not isinstance(layer, Activation)]
    outline = jax.eval_shape(lambda motion: run_layers(linear, begin(motion)), jax.tree.map(lambda a: a[0], motions))
    return states, motions, outline.geometry


def motion_kernels(layers: tuple[Layer, ...], pair: Pair, get: tuple[str, ...]) -> Result:
    """The kernels up to the readout, the last of the layers, motion by motion."""
    readout: Any = layers[-1]
    states, motions, geometry = states_by_motion(layers[:-1], pair)

    def add(sums, motion):
        state = states(motion)
        return sums + jnp.stack([readout.read(state.geometry, getattr(state, name)) for name in get]), None

    # In reverse mode each motion's field is computed again instead of stored.
    batch = (len(pair.f), len(pair.g)) if is_batched(layers) else ()
    nothing = jnp.zeros((len(get), *batch, *readout.shape), jax.tree.leaves(pair.f)[0].dtype)
    sums, _ = jax.lax.scan(jax.checkpoint(add), nothing, geometry.overlapping(motions))
    means = sums / len(jax.tree.leaves(motions)[0])
    return Result(tuple(means), jnp.full(batch, -1, means.dtype))


def layer_kernels(layers: tuple[Layer, ...], pair: Pair, get: tuple[str, ...]) -> Result:
    """The kernels by their definition, every layer on the whole field."""
    state = run_layers(layers, Pair(pair.f, pair.g, pair.grid, needs_selves(layers)))
    kernels = tuple(getattr(state, name) for name in get)
    alignment = jnp.full((), -1, kernels[0].dtype) if tower_span(layers) is None else _alignment(layers[0], pair)
    return Result(kernels, alignment)


def _alignment(lift: Any, pair: Pair) -> Float[Array, ""]:
    geometry = lift.geometry(pair.grid)
    largest = jnp.max(geometry.samples(geometry.correlate(pair.f, pair.g)))
    norm = jnp.sqrt(lift.variance(geometry, pair.f)) * jnp.sqrt(lift.variance(geometry, pair.g))
    return lift.nngp(largest, pair.f) * inverse_or_zero(norm)


def batch_kernels(layers: tuple[Layer, ...], pair: Pair, get: tuple[str, ...]) -> Result:
    """The kernels (n, m) of all pairs of two batches, motion by motion, for geometries whose states hold batches."""
    span = pool_position(layers)
    if span is None:
        raise NotImplementedError(
            "GroupPool: with local support branches cannot pool by themselves. Join them first and pool once: "
            "serial(FanOut(2), parallel(...), FanInSum(), GroupPool(), Dense())."
        )
    body, head = layers[:span], layers[span:]
    pair = Pair(pair.f, pair.g, pair.grid.grouped(len(pair.f) * len(pair.g)))
    (nngp, ntk), alignment = motion_kernels(body, pair, ("nngp", "ntk"))
    q1, q2 = None, None
    if needs_selves(layers):
        own = lambda f: motion_kernels(body, Pair(f[None], f[None], pair.grid), ("nngp",)).kernels[0][0, 0]  # noqa: E731
        q1, q2 = jax.vmap(own)(pair.f)[:, None], jax.vmap(own)(pair.g)[None, :]
    state = run_layers(head, State(geometry_after(body), nngp, ntk, q1, q2, width=width_after(body)))
    return Result(tuple(getattr(state, name) for name in get), alignment)


def pair_kernels(layers: tuple[Layer, ...], pair: Pair, nodes: Nodes | None, get: tuple[str, ...]) -> Result:
    """The kernels of one pair after all layers; nodes None runs every layer of a tower on the whole field."""
    if is_batched(layers):
        batch = batch_kernels(layers, Pair(pair.f[None], pair.g[None], pair.grid), get)
        return jax.tree.map(lambda kernel: kernel[0, 0], batch)
    if by_motion(layers):
        span, pooled = pool_position(layers), motion_kernels
    else:
        span = tower_span(layers) if nodes else None
        pooled = lambda body, pair, get: tower_kernels(body, pair, nodes, get)  # noqa: E731  # pyright: ignore
    if span is None:
        return layer_kernels(layers, pair, get)
    body, head = layers[:span], layers[span:]
    if not head:
        return pooled(body, pair, get)
    (nngp, ntk), alignment = pooled(body, pair, ("nngp", "ntk"))
    q1, q2 = None, None
    if needs_selves(layers):  # under vmap these are computed once per signal, not per pair
        own = [pooled(body, Pair(f, f, pair.grid), ("nngp",)) for f in (pair.f, pair.g)]
        q1, q2 = (result.kernels[0] for result in own)
    state = run_layers(head, State(geometry_after(body), nngp, ntk, q1, q2, width=width_after(body)))
    return Result(tuple(getattr(state, name) for name in get), alignment)


def width_after(layers: tuple[Layer, ...]) -> int | None:
    """The channels after the last layer that has a width, times those that a readout makes of each."""
    copies = 1
    for layer in reversed(tuple(flatten(layers))):
        if hasattr(layer, "width"):
            width: int | None = layer.width  # pyright: ignore[reportAttributeAccessIssue]
            return None if width is None else width * copies
        copies *= layer.copies if isinstance(layer, Readout) else 1
    return None


def tile_kernels(
    layers: tuple[Layer, ...], motions: Motions, f: Signal, g: Signal, get: tuple[str, ...]
) -> tuple[Array, " ..."]:
    """The kernels, each (n, m), of all pairs of two small batches."""
    kernels, alignment = _all_pairs(layers, motions.base, motions.nodes, f, g, get)
    if motions.fine is None:
        return kernels

    def refine(rows):
        f, kernels, aligned = rows
        fine = lambda: _all_pairs(layers, motions.fine, motions.nodes, f, g, get).kernels  # noqa: E731
        refined = jax.lax.cond(jnp.any(aligned), fine, lambda: kernels)
        return tuple(jnp.where(_over_blocks(aligned, old), new, old) for new, old in zip(refined, kernels, strict=True))

    # A few rows at a time: those without an aligned pair are left as they are.
    aligned = jax.lax.stop_gradient(alignment) > motions.threshold
    step = math.gcd(len(alignment), REFINED_ROWS)
    slabs = jax.tree.map(lambda a: a.reshape(len(alignment) // step, step, *a.shape[1:]), (f, kernels, aligned))
    return tuple(k.reshape(*alignment.shape, *k.shape[3:]) for k in jax.lax.map(refine, slabs))


def _over_blocks(of_pairs: Array, blocks: Array) -> Array:
    """Numbers (n, m) that broadcast against blocks (n, m, ...)."""
    return of_pairs.reshape(*of_pairs.shape, *(1,) * (blocks.ndim - of_pairs.ndim))


def is_batched(layers: tuple[Layer, ...]) -> bool:
    """Whether states hold all pairs of two batches."""
    return any(isinstance(layer, Lifting) and layer.batched for layer in flatten(layers))


def _all_pairs(layers, grid: Any, nodes: Nodes | None, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
    if is_batched(layers):
        return batch_kernels(layers, Pair(f, g, grid), get)
    one = lambda f, g: pair_kernels(layers, Pair(f, g, grid), nodes, get)  # noqa: E731
    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(f, g)


@eqx.filter_jit
def block_kernels(layers: tuple[Layer, ...], motions: Motions, f: Signal, g: Signal, get: tuple[str, ...],
                  tile: tuple[int, int]) -> tuple[Array, " ..."]:  # fmt: skip
    """The kernels named by ``get``, each (n, m) or blocks (n, m, a, a), tile by tile so that a tile's fields stay in the cache.

    n and m must be multiples of the tile's. Derivatives are those of the layers, tile by tile: a tower's polynomial in
    an angle has none at c = +-1, and reverse mode recomputes each tile instead of storing it.
    """
    evaluate = _tiles if motions.nodes is None else _with_derivatives_of_layers
    return evaluate(layers, motions, f, g, get, tile)


def _tiles(layers, motions, f, g, get, tile):
    dtype = jax.tree.leaves(f)[0].dtype

    @jax.checkpoint
    def one_tile(rows, columns):
        return tuple(kernel.astype(dtype) for kernel in tile_kernels(layers, motions, rows, columns, get))

    def split(signals, size):
        return jax.tree.map(lambda a: a.reshape(a.shape[0] // size, size, *a.shape[1:]), signals)

    columns = split(g, tile[1])
    rows = split(f, tile[0])
    blocks = jax.lax.map(lambda row: jax.lax.map(lambda column: one_tile(row, column), columns), rows)
    return tuple(b.swapaxes(1, 2).reshape(b.shape[0] * tile[0], b.shape[1] * tile[1], *b.shape[4:]) for b in blocks)


_with_derivatives_of_layers = eqx.filter_custom_jvp(_tiles)


@_with_derivatives_of_layers.def_jvp
def _tiles_jvp(primals, tangents):
    # Around the loop over tiles, not inside it: where JAX splits a loop (forward over reverse) it drops custom rules.
    layers, motions, f, g, get, tile = primals
    # The values are those of the layers, too: the tower's would be a second program for the same numbers.
    by_layers = dataclasses.replace(motions, nodes=None)
    return eqx.filter_jvp(
        lambda layers, f, g: _tiles(layers, by_layers, f, g, get, tile), (layers, f, g), (tangents[0], *tangents[2:4])
    )


@eqx.filter_jit
def cell_kernels(
    layers: tuple[Layer, ...], motions: Motions, f: Signal, g: Signal, get: tuple[str, ...]
) -> tuple[Array, " ..."]:
    """The kernels (k, n, m) of all pairs in each of k cells, f (k, n, ...) with g (k, m, ...), one cell at a time."""

    def one_cell(cell):
        f, g = cell
        dtype = jax.tree.leaves(f)[0].dtype
        return tuple(kernel.astype(dtype) for kernel in tile_kernels(layers, motions, f, g, get))

    return jax.lax.map(one_cell, (f, g))


@eqx.filter_jit
def list_kernels(layers: tuple[Layer, ...], motions: Motions, f: Signal, g: Signal, get: tuple[str, ...],
                 tile: int) -> Result:  # fmt: skip
    """The kernels (n,) of the pairs (f[i], g[i]) on the base grid."""
    one = lambda pair: pair_kernels(layers, Pair(pair[0], pair[1], motions.base), motions.nodes, get)  # noqa: E731
    return jax.lax.map(one, (f, g), batch_size=tile)
