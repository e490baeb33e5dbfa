"""From layers to the kernels of one pair, and of all pairs of two batches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.geometry import Point, Signal
from so3ntk.layers.base import Layer
from so3ntk.layers.group_pool import GroupPool
from so3ntk.layers.source import Lifting
from so3ntk.state import Pair, State
from so3ntk.tower import Tower


class Result(NamedTuple):
    """Kernels of a pair, and its alignment: the largest correlation c over all motions (-1 where not computed)."""

    nngp: Float[Array, "..."]
    ntk: Float[Array, "..."]
    alignment: Float[Array, "..."]


class Motions(eqx.Module):
    """The motions a network is evaluated on: a base grid, and a finer one for pairs aligned beyond a threshold.

    Near c = 1 the NTK of kinked activations has a cusp that only a fine grid resolves; which pairs need it is decided
    for each pair alone, so results do not depend on the batch. ``fine`` None uses the base grid throughout.
    """

    base: Any
    fine: Any
    threshold: Any
    nodes: int = eqx.field(static=True)


def needs_selves(layers: tuple[Layer, ...]) -> bool:
    """Whether some nonlinearity follows a layer that couples motions: its variances need the self states."""
    coupled = False
    for layer in layers:
        if coupled and layer.uses_variances:
            return True
        coupled = coupled or not layer.pointwise
    return False


def tower_span(layers: tuple[Layer, ...]) -> int | None:
    """How many layers a tower spans: Lifting, pointwise layers, GroupPool; None if the network is not of that form."""
    if not isinstance(layers[0], Lifting):
        return None
    for index, layer in enumerate(layers):
        if isinstance(layer, GroupPool):
            return index + 1
        if not layer.pointwise:
            return None
    return None


def run_layers(layers: tuple[Layer, ...], pair: Pair) -> State:
    """Layer by layer: the definition of the network's kernel."""
    state: Any = pair
    for layer in layers:
        state = layer(state)
    return state


def make_tower(layers: tuple[Layer, ...], pair: Pair, nodes: int) -> Tower:
    """The pointwise layers between lifting and pooling as one function, for the variances of one pair."""
    lift, *body = layers
    geometry = lift.geometry(pair.grid)  # pyright: ignore[reportAttributeAccessIssue]
    exponents = [layer.homogeneity for layer in layers]
    homogeneity = None if None in exponents else math.prod(exponents)  # pyright: ignore

    def run(nngp, q1, q2):
        state = lift.probe(nngp, q1, q2, pair.f)  # pyright: ignore[reportAttributeAccessIssue]
        for layer in body:
            state = layer(state)
        return state.nngp, state.ntk

    q1, q2 = (lift.variance(geometry, f) for f in (pair.f, pair.g))  # pyright: ignore[reportAttributeAccessIssue]
    return Tower.collapse(run, q1, q2, homogeneity, nodes)


def pooled_by_layers(layers: tuple[Layer, ...], pair: Pair, nodes: int) -> Result:
    """The pooled kernels by the definition, whatever the number of nodes; the alignment is not computed."""
    state = run_layers(layers, pair)
    return Result(state.nngp, state.ntk, jnp.zeros_like(state.nngp))


@eqx.filter_custom_jvp
def pooled_by_tower(layers: tuple[Layer, ...], pair: Pair, nodes: int) -> Result:
    """The pooled kernels with the pointwise layers collapsed; the derivative is that of the definition."""
    lift: Any = layers[0]
    tower = make_tower(layers[:-1], pair, nodes)
    (nngp, ntk), alignment = lift.geometry(pair.grid).mean_of(
        lambda correlation: tower(lift.nngp(correlation, pair.f)), pair.f, pair.g
    )
    return Result(nngp * tower.scale, ntk * tower.scale, alignment)


@pooled_by_tower.def_jvp
def _pooled_jvp(primals, tangents):
    _, tangent = eqx.filter_jvp(pooled_by_layers, primals, tangents)
    return pooled_by_tower(*primals), tangent


def pair_kernels(layers: tuple[Layer, ...], pair: Pair, nodes: int) -> Result:
    """The kernels of one pair after all layers; nodes = 0 runs every layer on the whole field."""
    selves = needs_selves(layers)
    span = tower_span(layers) if nodes else None
    if span is None:
        state = run_layers(layers, Pair(pair.f, pair.g, pair.grid, selves))
        return Result(state.nngp, state.ntk, jnp.full_like(state.nngp, -1))
    body = layers[:span]
    pooled = pooled_by_tower(body, pair, nodes)
    q1, q2 = None, None
    if selves:  # under vmap these are computed once per signal, not per pair
        q1, q2 = (pooled_by_tower(body, Pair(f, f, pair.grid), nodes).nngp for f in (pair.f, pair.g))
    width = eqx.filter_eval_shape(run_layers, body, pair).width
    state = State(Point(), pooled.nngp, pooled.ntk, q1, q2, width=width)
    state = run_layers(layers[span:], state)  # pyright: ignore[reportArgumentType]
    return Result(state.nngp, state.ntk, pooled.alignment)


def tile_kernels(layers: tuple[Layer, ...], motions: Motions, f: Signal, g: Signal) -> tuple[Array, Array]:
    """(K, Theta), each (n, m), of all pairs of two small batches."""
    one = lambda f, g: pair_kernels(layers, Pair(f, g, motions.base), motions.nodes)  # noqa: E731
    result = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(f, g)
    if motions.fine is None:
        return result.nngp, result.ntk
    return _refine(layers, motions, f, g, result)


def _refine(layers, motions: Motions, f: Signal, g: Signal, result: Result) -> tuple[Array, Array]:
    """The aligned pairs of a tile again on the fine grid: sorted by alignment, in chunks, as far as they go."""
    n, m = result.nngp.shape
    chunk = math.gcd(n * m, 16)
    alignment = jax.lax.stop_gradient(result.alignment.ravel())
    order = jnp.argsort(-alignment)

    def fine(ids):
        pairs = (jax.tree.map(lambda a: a[ids // m], f), jax.tree.map(lambda a: a[ids % m], g))
        one = lambda f, g: pair_kernels(layers, Pair(f, g, motions.fine), motions.nodes)  # noqa: E731
        return jax.vmap(one)(*pairs)[:2]

    def refine(ids):
        base = (result.nngp.ravel()[ids], result.ntk.ravel()[ids])
        aligned = alignment[ids] > motions.threshold
        refined = jax.lax.cond(aligned[0], fine, lambda ids: base, ids)
        return tuple(jnp.where(aligned, a, b) for a, b in zip(refined, base, strict=True))

    values = jax.lax.map(refine, order.reshape(-1, chunk))
    return tuple(jnp.zeros(n * m, v.dtype).at[order].set(v.ravel()).reshape(n, m) for v in values)  # pyright: ignore


@eqx.filter_jit
def block_kernels(layers: tuple[Layer, ...], motions: Motions, f: Signal, g: Signal, get: tuple[str, ...],
                  tile: tuple[int, int]) -> tuple[Array, ...]:  # fmt: skip
    """The kernels named by ``get``, each (n, m), tile by tile so that a tile's fields stay in the cache.

    n and m must be multiples of the tile's. Reverse-mode derivatives recompute each tile instead of storing it.
    """
    dtype = jax.tree.leaves(f)[0].dtype

    @jax.checkpoint
    def one_tile(rows, columns):
        nngp, ntk = tile_kernels(layers, motions, rows, columns)
        return tuple({"nngp": nngp, "ntk": ntk}[name].astype(dtype) for name in get)

    def split(signals, size):
        return jax.tree.map(lambda a: a.reshape(a.shape[0] // size, size, *a.shape[1:]), signals)

    columns = split(g, tile[1])
    rows = split(f, tile[0])
    blocks = jax.lax.map(lambda row: jax.lax.map(lambda column: one_tile(row, column), columns), rows)
    return tuple(b.transpose(0, 2, 1, 3).reshape(b.shape[0] * tile[0], b.shape[1] * tile[1]) for b in blocks)


@eqx.filter_jit
def list_kernels(layers: tuple[Layer, ...], motions: Motions, f: Signal, g: Signal, tile: int) -> Result:
    """The kernels (n,) of the pairs (f[i], g[i]) on the base grid; n must be a multiple of ``tile``."""
    one = lambda pair: pair_kernels(layers, Pair(*pair, motions.base), motions.nodes)  # noqa: E731
    return jax.lax.map(one, (f, g), batch_size=tile)
