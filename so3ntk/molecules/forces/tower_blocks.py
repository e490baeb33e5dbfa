r"""Mixed second derivatives of a tower's kernel for pairs of atoms, by the chain rule in the blocks.

With global support the kernel of two environments a and b is a sum over rotations of one function of three numbers,

.. math:: \kappa(a, b) = \sum_r w_r F(c_r, v, v'), \qquad c_r = \sum_p T_{pr} S_p, \qquad
          S_{(lmn)} = \tfrac{1}{4 \pi C} \sum_c a^c_{lm} b^c_{ln}, \qquad v = S_{aa}(e), \quad v' = S_{bb}(e),

so its derivatives in the few blocks S (84 numbers at bandlimit 4) are weighted sums of those of F,

.. math:: G_p = \sum_r w_r F_c T_{pr}, \qquad H_{pq} = \sum_r w_r F_{cc} T_{pr} T_{qr},

and S, v and v' are polynomials in a and b. With b(t) = b + t db this gives the gradient of kappa in a and its tangents
along all db, of which every entry of the energy and force blocks is an inner product with da. Compared with one
forward-over-reverse pass for each coordinate the rotations are visited once (``class_tables``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.evaluation.evaluation import run_layers
from so3ntk.engine.layers.group_pool import GroupPool
from so3ntk.molecules.forces.class_tables import ClassTables
from so3ntk.sphere.global_support import SphereGeometry
from so3ntk.sphere.rotations import block_indices
from so3ntk.sphere.transforms.images import HIGHEST

contract = partial(jnp.einsum, precision=HIGHEST)

#: Directions db from which on forming H pays.
FORM_HESSIAN = 16


class RotationSums(NamedTuple):
    """The sums over rotations: kappa, its first and its mixed second derivatives in S, v and v'; n pairs."""

    value: Float[Array, " n"]
    s: Float[Array, "n p"]
    v1: Float[Array, " n"]
    v2: Float[Array, " n"]
    s_v2: Float[Array, "n p"]
    v1_s: Float[Array, "n p"]
    v1_v2: Float[Array, " n"]
    cc: Float[Array, "k n q"]  # F_cc itself, at all rotations


def tower_function(layers: tuple, name: str, f: Float[Array, "p c"]) -> Callable:
    """F(c, v, v') of the layers of a tower (``demand.tower_span``), elementwise; f tells the number of channels."""
    lift: Any = layers[0]
    body = tuple(layer for layer in layers[1:] if not isinstance(layer, GroupPool))

    def function(c, v1, v2):
        state = run_layers(body, lift.probe(lift.nngp(c, f), lift.nngp(v1, f), lift.nngp(v2, f), f))
        return getattr(state, name)

    return function


def _along(function: Callable, argument: int) -> Callable:
    """The derivative of an elementwise function in one of its three arguments."""

    def derivative(*x):
        of_one = lambda y: function(*x[:argument], y, *x[argument + 1 :])  # noqa: E731
        return jax.jvp(of_one, (x[argument],), (jnp.ones_like(x[argument]),))[1]

    return derivative


def rotation_sums(
    function: Callable, tables: ClassTables, s: Float[Array, "n p"], v1: Array, v2: Array
) -> RotationSums:
    """All sums over the grid's rotations but H, for n pairs at once; v1 (), v2 (n,)."""
    c = tables.values(s)
    x = (c, jnp.broadcast_to(v1, c.shape), jnp.broadcast_to(v2[:, None], c.shape))
    f_c, f_1, f_2 = (_along(function, i) for i in range(3))
    return RotationSums(
        value=tables.mean(function(*x)),
        s=tables.gradient(f_c(*x)),
        v1=tables.mean(f_1(*x)),
        v2=tables.mean(f_2(*x)),
        s_v2=tables.gradient(_along(f_c, 2)(*x)),
        v1_s=tables.gradient(_along(f_c, 1)(*x)),
        v1_v2=tables.mean(_along(f_1, 2)(*x)),
        cc=_along(f_c, 0)(*x),
    )


def times_hessian(tables: ClassTables, f_cc: Float[Array, "k n q"], vectors: Float[Array, "n p y"]) -> Array:
    """H times vectors (n, p, y)."""
    if vectors.shape[-1] < FORM_HESSIAN:
        return tables.hessian_times(f_cc, vectors)
    return contract("jpq,jqy->jpy", tables.hessian(f_cc), vectors)


def gradient_in_first(
    function: Callable, geometry: SphereGeometry, tables: ClassTables, a: Float[Array, "p c"],
    b: Float[Array, "n p c"], db: Float[Array, "n p c y"],
) -> tuple[Float[Array, "n 1+y"], Float[Array, "n p c 1+y"]]:  # fmt: skip
    """kappa(a, b_j) and its tangents along db_j, and the gradient of each of these in a."""
    rows, kept = len(a), tables.bandlimit**2
    weight = geometry._weighted(jnp.ones_like(a))
    a, b, db = a[:kept], b[:, :kept], db[:, :kept]
    v1, v2 = jnp.sum(weight * a * a), contract("pc,jpc,jpc->j", weight, b, b)
    dv2 = 2 * contract("jpc,jpcy->jy", weight * b, db)
    s, ds = blocks(weight * a, b[..., None])[..., 0], blocks(weight * a, db)

    k = rotation_sums(function, tables, s, v1, v2)
    hessian_ds = times_hessian(tables, k.cc, ds)
    dg = hessian_ds + k.s_v2[:, :, None] * dv2[:, None, :]  # the tangent of G
    dk = contract("jp,jpy->jy", k.s, ds) + k.v2[:, None] * dv2
    dv1 = contract("jp,jpy->jy", k.v1_s, ds) + k.v1_v2[:, None] * dv2  # the tangent of kappa's derivative in v

    values = jnp.concatenate([k.value[:, None], dk], axis=1)
    by_variance = 2 * a[..., None] * jnp.concatenate([k.v1[:, None], dv1], axis=1)[:, None, None, :]
    gradient = weight[..., None] * (by_blocks(k.s, dg, b, db) + by_variance)
    return values, jnp.pad(gradient, ((0, 0), (0, rows - kept), (0, 0), (0, 0)))


def _degrees(bandlimit: int) -> list[tuple[slice, slice]]:
    """For each degree, its rows of coefficients and its range in the order (l, m, n) of the blocks."""
    starts = np.searchsorted(block_indices(bandlimit)[0], np.arange(bandlimit + 1)).tolist()
    return [(slice(i * i, (i + 1) ** 2), slice(starts[i], starts[i + 1])) for i in range(bandlimit)]


def blocks(a: Float[Array, "lm c"], b: Float[Array, "n lm c y"]) -> Float[Array, "n p y"]:
    """sum_c a_lm b_ln in the order (l, m, n)."""
    parts = [contract("mc,jkcy->jmky", a[rows], b[:, rows]) for rows, _ in _degrees(math.isqrt(len(a)))]
    return jnp.concatenate([part.reshape(len(b), part.shape[1] * part.shape[2], b.shape[-1]) for part in parts], axis=1)


def by_blocks(
    g: Float[Array, "n p"], dg: Float[Array, "n p y"], b: Float[Array, "n lm c"], db: Float[Array, "n lm c y"]
) -> Float[Array, "n lm c 1+y"]:
    """sum_n G_lmn b_ln, the gradient in a of ``blocks`` weighted by G, and its tangents."""
    parts = []
    for rows, columns in _degrees(math.isqrt(b.shape[1])):
        side = rows.stop - rows.start
        first = g[:, columns].reshape(len(g), side, side)
        second = dg[:, columns].reshape(len(g), side, side, dg.shape[-1])
        own = contract("jmk,jkc->jmc", first, b[:, rows])[..., None]
        tangents = contract("jmky,jkc->jmcy", second, b[:, rows]) + contract("jmk,jkcy->jmcy", first, db[:, rows])
        parts.append(jnp.concatenate([own, tangents], axis=-1))
    return jnp.concatenate(parts, axis=1)
