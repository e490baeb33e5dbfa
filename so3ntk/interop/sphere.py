r"""First layers on signals on the sphere of which only covariances between coefficients are known.

With filters on the whole sphere a covariance C holds the blocks of the field, and with filters on caps its values:

.. math:: K^l_{mn} = \frac{v_l}{4\pi} C_{lm,\,ln}, \qquad
          K_r(x) = \sum_{pq} Y_p(x)\, (C D(r)^T)_{pq}\, Y_q(x) \quad \text{before the average over the cap.}
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from so3ntk.engine.filters import within
from so3ntk.engine.geometry import Point
from so3ntk.engine.state import State
from so3ntk.interop.covariances import Known, as_signals, first_state
from so3ntk.sphere.global_support import Blocks
from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.layers.flatten import Flatten
from so3ntk.sphere.layers.lift import Lift
from so3ntk.sphere.local_support import LocalSphereGeometry, Turn
from so3ntk.sphere.rotations import block_indices
from so3ntk.sphere.signals import SphereSignal
from so3ntk.sphere.transforms.grid import Grid
from so3ntk.sphere.transforms.images import HIGHEST


@first_state.register
def _(layer: Lift, first: Known, second: Known, grid: Any) -> State:
    if layer.channel_weights is not None:
        raise ValueError(
            "Lift: channel_weights cannot be applied to inputs whose channels are averaged already, as neural-tangents' "
            "are. Multiply channel c of the arrays by the root of its weight, and leave channel_weights away."
        )
    state = _global_state(layer, first, second, grid) if layer.support is None else _local_state(first, second, grid)
    return state.filter(within(layer.support), layer.scales(first.signal), layer.width)


def _global_state(layer: Lift, first: Known, second: Known, grid: Grid) -> State:
    """The state before weights, at all rotations."""
    bandlimit = layer.kept_bandlimit(math.isqrt(len(first.own)))
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
    nngp, ntk = (field(covariance) for covariance in first.with_(second))
    q1, q2 = (geometry.at_identity(field(input.own)) for input in (first, second))
    return State(geometry, nngp, ntk, q1, q2)


def _local_state(first: Known, second: Known, turn: Turn) -> State:
    """The state before weights at the turn's r rotations, of one first input with m second ones: fields (8, q, 1, r m)."""
    here = jnp.asarray(real_harmonics(turn.positions.directions, math.isqrt(first.own.shape[-1])), first.own.dtype)
    rotations = turn.rotate(jnp.eye(here.shape[1], dtype=here.dtype)[None])
    there = jnp.einsum("ap,rpq->raq", here, rotations, precision=HIGHEST)  # Y_q(r^-1 x)
    y, moved = (there if input.moves else here[None] for input in (first, second))

    def field(left, covariances, right):
        half = jnp.einsum("rap,mpq->rmaq", left, covariances, precision=HIGHEST)
        values = jnp.sum(half * right[:, None], axis=-1)
        return values.reshape(-1, len(here)).T.reshape(8, len(here) // 8, 1, -1)

    nngp, ntk = (field(y, covariances, moved) for covariances in first.with_(second))
    q1, q2 = field(y, first.own, y), field(moved, second.own, moved)
    return State(LocalSphereGeometry(turn.positions, turn.weight), nngp, ntk, q1, q2)


@first_state.register
def _(layer: Flatten, first: Known, second: Known, grid: Any) -> State:
    nngp, ntk, q1, q2 = (
        jnp.trace(covariance) / (4 * np.pi) if covariance.ndim else covariance
        for covariance in (*first.with_(second), first.own, second.own)
    )
    return State(Point(), nngp, ntk, q1, q2, width=math.prod(first.shape))


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
