r"""First layers on images of which only covariances between pixels are known; see ``so3ntk.interop.covariances``.

.. math:: K_{h,d}(x) = C_{x,\, h^{-1}(x + d)}, \qquad q(x) = C^{ff}_{x,x}, \qquad q'(x) = C^{f'f'}_{h^{-1}x,\,h^{-1}x}

before the average over the filter's window.
"""

from __future__ import annotations

import math
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
    nngp, ntk = first.with_(second)
    rows, columns, _ = first.shape
    size, scales = (rows, columns), layer.scales(first.signal)
    if layer.window is None:
        nngp, ntk = (_global_field(c, size, layer.group) for c in (nngp, ntk))
        q1, q2 = (jnp.mean(jnp.diagonal(input.own)) for input in (first, second))
        return State(GlobalGeometry(layer.group), nngp, ntk, q1, q2).affine(scales, layer.width)
    geometry = LocalGeometry(grid.displacement, size, size, len(GROUPS[layer.group]))
    sources = _sources(size, layer.group)
    here, there = (sources[grid.element if input.moves else 0] for input in (first, second))
    moved = geometry.transport(there)
    state = State(geometry, nngp[here, moved], ntk[here, moved], first.own[here, here], second.own[there, there])
    return state.filter(layer.window, scales, layer.width)


@first_state.register
def _(layer: Flatten, first: Known, second: Known, grid: Any) -> State:
    nngp, ntk, q1, q2 = (jnp.mean(jnp.diagonal(c)) for c in (*first.with_(second), first.own, second.own))
    return State(Point(), nngp, ntk, q1, q2, width=math.prod(first.shape))


def _sources(size: tuple[int, int], group: str) -> Int[Array, "h n m"]:
    """The pixel, as y * m + x in images n x m, that each element of the group brings to each position."""
    return views(jnp.arange(math.prod(size)).reshape(*size, 1), group)[..., 0]


def _global_field(covariance: Float[Array, "p p"], size: tuple[int, int], group: str) -> Float[Array, "h n m"]:
    """The mean over x of C(x, h^-1 (x + d)), for each element h and displacement d."""
    n, m = size
    pixels = np.arange(n * m)
    y, x = np.divmod(pixels, m)
    moved = (y[:, None] + y) % n * m + (x[:, None] + x) % m  # [displacement, position]

    def one(source):
        return jnp.mean(covariance[pixels[None], source.ravel()[moved]], axis=1).reshape(size)

    return jax.lax.map(one, _sources(size, group))
