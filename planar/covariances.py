r"""First layers on images of which only covariances between pixels are known; see ``so3ntk.interop.covariances``.

.. math:: K_{h,d}(x) = C_{x,\, h^{-1}(x + d)}, \qquad q(x) = C^{ff}_{x,x}, \qquad q'(x) = C^{f'f'}_{h^{-1}x,\,h^{-1}x}

before the average over the filter's window.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from planar.geometry import GlobalGeometry, LocalGeometry
from planar.groups import GROUPS, views
from planar.layers import Flatten, Lift
from so3ntk.engine.geometry import Point
from so3ntk.engine.state import State
from so3ntk.interop.covariances import Known, first_state


@first_state.register
def _(layer: Lift, first: Known, second: Known, grid: Any) -> State:
    known = first.with_(second)
    size = int(np.sqrt(known.nngp.shape[0]) + 0.5)
    scales = layer.scales(jax.ShapeDtypeStruct((size, size, known.channels), known.nngp.dtype))
    if layer.window is None:
        nngp, ntk = (_global_field(c, layer.group) for c in (known.nngp, known.ntk))
        q1, q2 = (jnp.mean(jnp.diagonal(own)) for own in (known.own1, known.own2))
        return State(GlobalGeometry(layer.group), nngp, ntk, q1, q2).affine(scales, layer.width)
    geometry = LocalGeometry(grid.displacement, size, size, len(GROUPS[layer.group]))
    sources = _sources(size, layer.group)
    here, there = (sources[grid.element if input.index else 0] for input in (first, second))
    moved = geometry.transport(there)
    nngp, ntk = (c[here, moved] for c in (known.nngp, known.ntk))
    state = State(geometry, nngp, ntk, known.own1[here, here], known.own2[there, there])
    return state.filter(layer.window, scales, layer.width)


@first_state.register
def _(layer: Flatten, first: Known, second: Known, grid: Any) -> State:
    known = first.with_(second)
    nngp, ntk, q1, q2 = (jnp.mean(jnp.diagonal(c)) for c in (known.nngp, known.ntk, known.own1, known.own2))
    return State(Point(), nngp, ntk, q1, q2, width=known.channels * len(known.nngp))


def _sources(size: int, group: str) -> Int[Array, "h n n"]:
    """The pixel, as y * size + x, that each element of the group brings to each position."""
    return views(jnp.arange(size**2).reshape(size, size, 1), group)[..., 0]


def _global_field(covariance: Float[Array, "p p"], group: str) -> Float[Array, "h n n"]:
    """The mean over x of C(x, h^-1 (x + d)), for each element h and displacement d."""
    size = int(np.sqrt(len(covariance)) + 0.5)
    y, x = np.divmod(np.arange(size**2), size)
    moved = (y[:, None] + y) % size * size + (x[:, None] + x) % size  # [displacement, position]

    def one(source):
        return jnp.mean(covariance[np.arange(size**2)[None], source.ravel()[moved]], axis=1).reshape(size, size)

    return jax.lax.map(one, _sources(size, group))
