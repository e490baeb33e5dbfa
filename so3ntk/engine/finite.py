"""The finite network of an architecture: parameters drawn layer by layer, and its outputs."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from so3ntk.engine.features import Inputs, draw
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.plan import parts_of, read_signals, split_at_reduction
from so3ntk.sphere.features import FeatureGrid
from so3ntk.sphere.global_support import Grid
from so3ntk.sphere.haar import ProductGrid
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.layers.lift import Lift
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid, Quadrature, choose


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
    features: Any = Inputs(arrays, _grid(layers, net.quadrature, net.rtol, arrays))
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
    features: Any = Inputs(arrays, _grid(layers, net.quadrature, net.rtol, arrays))
    for layer, own in zip(layers, params, strict=False):
        features = layer.apply(own, features)
    if reduction is not None:
        reduction.check_finite()
        features = features.map(lambda values: jax.ops.segment_sum(values, jnp.asarray(parts.owner), parts.count))
    for layer, own in zip(tail, params[len(layers) :], strict=True):
        features = layer.apply(own, features)
    return features.values


def _grid(layers: tuple[Layer, ...], quadrature: Quadrature | None, rtol: float, arrays: Any) -> FeatureGrid | None:
    """The grid of rotations with its tables, and the bandlimit of white-noise filters on it; None without rotations.

    The kernels' grid integrates products of two functions of degrees below n / 2, so filters keep those.
    """
    lifts = [layer for layer in flatten(layers) if isinstance(layer, Lift)]
    if not lifts:
        return None
    kept = max(lift.kept_bandlimit(math.isqrt(arrays.shape[1])) for lift in lifts)
    grid = quadrature or choose(kept, layers, rtol)
    grid = grid.base if isinstance(grid, AdaptiveGrid) else grid
    grid = grid.rotations if isinstance(grid, LocalGrid) else grid
    if not isinstance(grid, ProductGrid):
        raise NotImplementedError(
            f"apply_fn: finite networks need a ProductGrid, on which coefficients of features can be computed; the "
            f"network has {grid!r}. Give serial(..., quadrature=ProductGrid(n))."
        )
    white = min(grid.n // 2, grid.n_beta)
    convolutions = [layer for layer in flatten(layers) if isinstance(layer, GroupConv)]
    spectra = [layer.bandlimit or white for layer in convolutions]
    readouts = [layer.irrep.degree + 1 for layer in flatten(layers) if isinstance(layer, Readout) and layer.irrep]
    return FeatureGrid(Grid.load(grid, max([kept, *spectra, *readouts]), arrays.dtype), white)
