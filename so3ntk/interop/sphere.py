r"""First layers on signals on the sphere of which only covariances between coefficients are known.

With filters on the whole sphere a covariance C holds the blocks of the field, and with filters on caps its values:

.. math:: K^l_{mn} = \frac{v_l}{4\pi} C_{lm,\,ln}, \qquad
          K_r(x) = \sum_{pq} Y_p(x)\, (C D(r)^T)_{pq}\, Y_q(x) \quad \text{before the average over the cap.}
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.geometry import Point
from so3ntk.engine.parametrization import Scales
from so3ntk.engine.state import State
from so3ntk.interop.covariances import Known, as_signals, first_state
from so3ntk.sphere.global_support import HIGHEST, Blocks
from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.layers.flatten import Flatten
from so3ntk.sphere.layers.lift import Lift
from so3ntk.sphere.local_support import Cap, LocalSphereGeometry, Turn
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.rotations import block_indices
from so3ntk.sphere.signals import SphereSignal


@first_state.register
def _(layer: Lift, first: Known, second: Known, grid: Any) -> State:
    if layer.channel_weights is not None:
        raise ValueError(
            "Lift: channel_weights cannot be applied to inputs whose channels are averaged already, as neural-tangents' "
            "are. Multiply channel c of the arrays by the root of its weight, and leave channel_weights away."
        )
    of_features = first.of
    scales = layer.scales(jax.ShapeDtypeStruct((len(of_features.nngp), of_features.channels), of_features.nngp.dtype))
    if layer.support is not None:
        return _local_state(layer, first, second, grid, scales)
    return _global_state(layer, first, second, grid, scales)


def _global_state(layer: Lift, first: Known, second: Known, grid: Any, scales: Scales) -> State:
    known = first.with_(second)
    bandlimit = layer.kept_bandlimit(math.isqrt(len(known.nngp)))
    degrees, row, column = block_indices(bandlimit)
    weights = np.full(len(degrees), 1 / (4 * np.pi))
    if layer.variances is not None:
        weights = weights * jnp.asarray(layer.variances)[degrees]

    def field(covariance):
        values = (covariance[row, column] * weights).astype(covariance.dtype)
        proper = Blocks(values, bandlimit)
        if layer.group == "SO3":
            return proper
        return proper, Blocks(values * jnp.asarray((-1.0) ** degrees, values.dtype), bandlimit)  # f' mirrored

    geometry: Any = layer.geometry(grid)  # with the field in its own form
    q1, q2 = (geometry.at_identity(field(own)) for own in (known.own1, known.own2))
    return State(geometry, field(known.nngp), field(known.ntk), q1, q2).affine(scales, layer.width)


def _local_state(layer: Lift, first: Known, second: Known, turn: Turn, scales: Scales) -> State:
    """The state at one rotation, for batches of one input each: fields (8, q, 1, 1)."""
    known = first.with_(second)

    def rotated(covariance, *axes):
        for axis in axes:
            columns = jnp.moveaxis(covariance, axis, 0)
            covariance = jnp.moveaxis(turn.rotate(columns[None])[0], 0, axis)
        return _at_positions(turn.positions, covariance)

    nngp, ntk = (rotated(c, *([1] if second.index else [])) for c in (known.nngp, known.ntk))
    q1, q2 = rotated(known.own1), rotated(known.own2, *([0, 1] if second.index else []))
    geometry = LocalSphereGeometry(turn.positions, turn.weight)
    return State(geometry, nngp, ntk, q1, q2).filter(Cap(layer.support), scales, layer.width)


def _at_positions(positions: SphereGrid, covariance: Float[Array, "p p"]) -> Float[Array, "8 q 1 1"]:
    harmonics = real_harmonics(positions.directions, math.isqrt(len(covariance)))
    harmonics = jnp.asarray(harmonics.reshape(8, -1, len(covariance)), covariance.dtype)
    half = jnp.einsum("kap,pq->kaq", harmonics, covariance, precision=HIGHEST)
    return jnp.sum(half * harmonics, axis=-1)[..., None, None]


@first_state.register
def _(layer: Flatten, first: Known, second: Known, grid: Any) -> State:
    known = first.with_(second)
    if known.nngp.ndim == 0:
        return State(Point(), known.nngp, known.ntk, known.own1, known.own2, width=known.channels)
    nngp, ntk, q1, q2 = (jnp.trace(c) / (4 * np.pi) for c in (known.nngp, known.ntk, known.own1, known.own2))
    return State(Point(), nngp, ntk, q1, q2, width=known.channels * len(known.nngp))


@as_signals.register
def _(layer: Lift, arrays: Any) -> SphereSignal:
    shape = jnp.shape(arrays)
    if len(shape) != 3 or math.isqrt(shape[1]) ** 2 != shape[1]:
        raise ValueError(
            f"Lift: expected real coefficients (N, L^2, C) of signals on the sphere, at index l^2 + l + m, got an array "
            f"of shape {shape}. Pass x.coefficients of a SphereSignal."
        )
    return SphereSignal(arrays, math.isqrt(shape[1]))


@as_signals.register
def _(layer: Flatten, arrays: Any) -> Any:
    return as_signals(Lift(), arrays) if jnp.ndim(arrays) == 3 else arrays
