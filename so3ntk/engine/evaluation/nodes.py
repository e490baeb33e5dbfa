"""Where a network's tower is tabulated, from the variances of two batches."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.demand import homogeneity_of, polynomial_degree_of, tower_span
from so3ntk.engine.evaluation.collapsed import make_tower
from so3ntk.engine.evaluation.tower import STRETCHES, Nodes, node_count, probe_points
from so3ntk.engine.geometry import Signal
from so3ntk.engine.layers.base import Layer


def tabulation(layers: tuple[Layer, ...], f: Signal, g: Signal, samples: int = 24) -> Nodes | None:
    """The nodes at which a network's tower is a polynomial to the accuracy of the dtype, for two batches' variances.

    Judged by the last coefficients of the interpolants for all pairs of signals at ``samples`` quantiles of the
    variances; homogeneous towers by one pair, since unit variances serve all, and polynomials by their degree. Without a
    stretch where that will do, else with the best of ``STRETCHES``; None if none does, as for Sign below another kink.
    """
    dtype = jax.tree.leaves(f)[0].dtype
    bound = 1e-10 if jnp.finfo(dtype).bits > 32 else 3e-6
    layers = layers[: tower_span(layers)]
    plain = Nodes(node_count(dtype))
    if not len(jax.tree.leaves(f)[0]) or not len(jax.tree.leaves(g)[0]):
        return plain
    degree = polynomial_degree_of(layers)
    if degree is not None:  # of degree 2 k in the variable s, for all variances
        return Nodes(max(plain.count, 2 * degree + 2))
    if homogeneity_of(layers) is not None:
        f, g = (jax.tree.map(lambda a: a[:1], signals) for signals in (f, g))
    else:
        f, g = (_at_quantiles(layers[0], signals, samples) for signals in (f, g))
    for stretches in (STRETCHES[:1], STRETCHES[1:]):  # most towers need none, and are not compiled for more
        tried = [Nodes(node_count(dtype, stretch), stretch) for stretch in stretches]
        points = np.stack([probe_points(nodes) for nodes in tried])
        tails = np.asarray(_tails(layers, f, g, np.asarray(points, dtype))).reshape(len(tried), -1)
        worst = np.nanmax(tails, axis=1)
        if worst.min() < bound:
            return tried[int(np.argmin(worst))]
    return None


def _at_quantiles(lift: Any, signals: Signal, samples: int) -> Signal:
    """Signals at quantiles of the variances; shapes are powers of two up to ``samples``, so that batches share programs."""
    count = len(jax.tree.leaves(signals)[0])
    size = 2 ** (count - 1).bit_length()
    padded = jax.tree.map(lambda a: np.asarray(a)[np.minimum(np.arange(size), count - 1)], signals)
    order = np.argsort(np.asarray(_variances(lift, padded))[:count])
    chosen = order[np.linspace(0, count - 1, min(samples, size)).astype(int)]
    return jax.tree.map(lambda a: a[chosen], padded)


@eqx.filter_jit
def _variances(lift: Any, signals: Signal) -> Float[Array, " n"]:
    variances = jax.vmap(lambda signal: lift.variance(lift.geometry(None), signal))(signals)
    return variances.reshape(len(variances), -1)[:, 0]


@eqx.filter_jit
def _tails(
    layers: tuple[Layer, ...], f: Signal, g: Signal, points: Float[Array | np.ndarray, "s 2 t"]
) -> Float[Array, "s n m k"]:
    """The tails of the towers of all pairs, for each set of points."""

    def tails(f, g):
        return jax.vmap(lambda points: make_tower(layers, f, g, points, ("nngp", "ntk")).tails)(points)

    return jax.vmap(jax.vmap(tails, (None, 0), 1), (0, None), 1)(f, g)
