r"""Kernels before pooling: functions of the relative motion of two signals.

A network that ends in features on the group has the kernel K_r(f, f') = K_{g, r^-1 g}(f, f'), the same for all g. Its
mean over r is the pooled kernel, and :math:`K_r(f, \rho(s) f') = K_{rs}(f, f')`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.evaluation.evaluate import is_batched, lifts_separately, needs_selves, run_layers, states_by_motion
from so3ntk.engine.geometry import Signal
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.plan import choose_grid, load_motions, own_motions, read_batches
from so3ntk.engine.scaling import Scaling, balance, rescaled_in_jax
from so3ntk.engine.state import Pair
from so3ntk.sphere.layers.lift import Lift
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid, Quadrature


class Fields(NamedTuple):
    """Kernels on sampled motions; a name not asked for is None. All in the dtype of the signals.

    nngp, ntk: (N1, N2, motions). motions: orthogonal matrices r, (motions, 3, 3); weights: of the quadrature, (motions,),
    so that ``nngp @ weights`` is the pooled kernel. With local filters on the sphere nngp and ntk have one more axis, the
    positions x (unit vectors, (positions, 3)): K_r(x) is the kernel of f at x and f' at r^-1 x.
    A geometry that lists its motions itself (images) has axes of its own in place of ``motions``, which its ``Lift``
    states; motions and weights are then None, and the pooled kernel is the mean over these axes.
    """

    nngp: Float[Array, "n m ..."] | None
    ntk: Float[Array, "n m ..."] | None
    motions: Float[Array, "r 3 3"] | None
    weights: Float[Array, " r"] | None
    positions: Float[Array, "x 3"] | None = None


def field_kernels(
    layers: tuple[Layer, ...], quadrature: Quadrature | None, rtol: float, x1: Any, x2: Any, names: tuple[str, ...]
) -> Fields:
    """The kernels named, of all pairs of two batches (x2 None: of x1 with itself), at all motions.

    On the sphere the grid is the one given or that of the rule, for an ``AdaptiveGrid`` its base. Holds all numbers of
    the N1 N2 fields.
    """
    f, g, dtype = read_batches(layers, x1, x1 if x2 is None else x2)
    f, g, scaling = balance(layers, f, g)
    lift = own_motions(layers, f)
    if lift is not None:
        values = _restored(names, _fields(layers, lift.motions(f), f, g, names), scaling)
        return Fields(values.get("nngp"), values.get("ntk"), None, None)
    grid = choose_grid(layers, quadrature, rtol, x1)
    if grid is None:
        raise TypeError("kernel_fn: a network without motions has no field.")
    grid = grid.base if isinstance(grid, AdaptiveGrid) else grid
    motions = load_motions(layers, grid, x1, dtype, nodes=None)
    rotations, positions = (grid.rotations, grid.positions) if isinstance(grid, LocalGrid) else (grid, None)
    values = _restored(names, _fields(layers, motions.base, f, g, names), scaling)
    matrices, weights = rotations.rotations.as_matrix(), rotations.weights
    if any(isinstance(layer, Lift) and layer.group == "O3" for layer in flatten(layers)):
        matrices, weights = np.concatenate([matrices, -matrices]), np.tile(weights, 2) / 2
    matrices, weights = jnp.asarray(matrices, dtype), jnp.asarray(weights, dtype)
    where = None if positions is None else jnp.asarray(positions.directions, dtype)
    return Fields(values.get("nngp"), values.get("ntk"), matrices, weights, where)


def _restored(names: tuple[str, ...], kernels: tuple[Array, ...], scaling: Scaling | None) -> dict[str, Array]:
    """The kernels by name, those of the signals as they were."""
    if scaling is not None:
        kernels = tuple(rescaled_in_jax(kernel, scaling) for kernel in kernels)
    return dict(zip(names, kernels, strict=True))


@eqx.filter_jit
def _fields(layers: tuple[Layer, ...], grid: Any, f: Signal, g: Signal, names: tuple[str, ...]) -> tuple[Array, " ..."]:
    one = _field_motion_by_motion if lifts_separately(layers) else _whole_field
    return jax.lax.map(lambda f: jax.vmap(lambda g: one(layers, grid, f, g, names))(g), f)


def _whole_field(layers, grid, f, g, names):
    state = run_layers(layers, Pair(f, g, grid, needs_selves(layers)))
    return tuple(state.geometry.samples(getattr(state, name)) for name in names)


def _field_motion_by_motion(layers, grid, f, g, names):
    batched = is_batched(layers)
    pair = Pair(f[None], g[None], grid) if batched else Pair(f, g, grid)
    states, motions, geometry = states_by_motion(layers, pair)
    kernels = jax.lax.map(lambda motion: tuple(getattr(states(motion), name) for name in names), motions)
    gathered = (geometry.gather(kernel) for kernel in kernels)
    return tuple(kernel[..., 0, 0] if batched else kernel for kernel in gathered)
