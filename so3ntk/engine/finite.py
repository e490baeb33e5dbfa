"""The finite network of an architecture: parameters drawn layer by layer, and its outputs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from so3ntk.engine.features import Inputs, apply_layers, draw
from so3ntk.engine.plan import parts_of, read_signals, split_at_reduction
from so3ntk.engine.space import space_of


def init_params(net: Any, key: Array, input_shape: tuple[int, ...], dtype: Any = None) -> tuple[tuple[int, ...], Any]:
    """Output shape and random parameters: one entry for each layer, in the order of the layers.

    input_shape: of the arrays that the first layer reads, ``x.shape`` of a ``SphereSignal``, (N, H, W, C) of images; N may
    be -1. dtype: of the parameters, by default JAX's. ValueError where a layer has no width.
    """
    shape = tuple(input_shape)
    if len(shape) < 2 or any(not isinstance(n, int) or n < 1 for n in shape[1:]):
        raise ValueError(f"init_fn: expected the shape of a batch, (N, ...) with positive sizes, got {input_shape!r}.")
    dtype = jnp.zeros((), dtype).dtype
    layers, reduction, tail = split_at_reduction(net.layers)
    arrays = jax.ShapeDtypeStruct((1, *shape[1:]), dtype)
    features: Any = Inputs(arrays, space_of(layers).feature_grid(arrays, net.quadrature, net.rtol))
    if reduction is not None:
        reduction.check_finite()
    params, features = draw((*layers, *tail), key, features)
    return (shape[0], *features.values.shape[1:]), params


def apply_params(net: Any, params: Any, x: Any) -> Array:
    """The outputs (N, C) of the finite network, or (N, ..., C) where it ends before pooling.

    With a sum over parts N counts the whole inputs. Differentiable; works under jit and vmap.
    """
    layers, reduction, tail = split_at_reduction(net.layers)
    if len(params) != len(layers) + len(tail):
        raise ValueError(
            f"apply_fn: expected parameters for {len(layers) + len(tail)} layers, got {len(params)}; they are of another "
            "network. Take those that init_fn of this network gives."
        )
    parts = parts_of(reduction, x)
    arrays = read_signals(layers, parts.signals)
    features: Any = Inputs(arrays, space_of(layers).feature_grid(arrays, net.quadrature, net.rtol))
    features = apply_layers(layers, params[: len(layers)], features)
    if reduction is not None:
        reduction.check_finite()
        features = features.map(lambda values: jax.ops.segment_sum(values, jnp.asarray(parts.owner), parts.count))
    return apply_layers(tail, params[len(layers) :], features).values
