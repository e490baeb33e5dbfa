r"""Mixed second derivatives of a tower's kernel for pairs of atoms, by the chain rule in the blocks.

With global support the kernel of two environments a and b is a sum over rotations of one function of three numbers,

.. math:: \kappa(a, b) = \sum_r w_r F(c_r, v, v'), \qquad c_r = \sum_p T_{pr} S_p, \qquad
          S_{(lmn)} = \tfrac{1}{4 \pi C} \sum_c a^c_{lm} b^c_{ln}, \qquad v = S_{aa}(e), \quad v' = S_{bb}(e),

so its derivatives in the few blocks S (84 numbers at bandlimit 4) are weighted sums of those of F,

.. math:: G_p = \sum_r w_r F_c T_{pr}, \qquad H_{pq} = \sum_r w_r F_{cc} T_{pr} T_{qr},

and S, v and v' are polynomials in a and b. With b(t) = b + t db this gives the gradient of kappa in a and its tangents
along all db, of which every entry of the energy and force blocks is an inner product with da. Compared with one
forward-over-reverse pass for each coordinate the rotations are visited once. D2 x D2 (``so3ntk.haar``) makes H cheaper
by another factor of 16: T_p T_q at an image of a representative is that at the representative times the sign of the
class of p, q together, so H is a product with F_cc's Walsh-Hadamard transform, class by class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.evaluate import run_layers
from so3ntk.haar import columns_by_class
from so3ntk.layers.group_pool import GroupPool
from so3ntk.rotations import block_indices
from so3ntk.so3 import HIGHEST, Grid, SphereGeometry, walsh_hadamard

#: Directions db from which on forming H pays.
FORM_HESSIAN = 16


class Second(NamedTuple):
    """The sums over rotations: kappa, its first and its mixed second derivatives in S, v and v'; n pairs."""

    value: Float[Array, " n"]
    s: Float[Array, "n p"]
    v1: Float[Array, " n"]
    v2: Float[Array, " n"]
    s_v2: Float[Array, "n p"]
    v1_s: Float[Array, "n p"]
    v1_v2: Float[Array, " n"]
    cc: list  # F_cc at the representatives, one array (n, q) for each image


def tower_function(layers: tuple, name: str, f: Float[Array, "p c"]) -> Callable:
    """F(c, v, v') of the layers of a tower (``evaluate.tower_span``), elementwise; f tells the number of channels."""
    lift: Any = layers[0]
    body = tuple(layer for layer in layers[1:] if not isinstance(layer, GroupPool))

    def function(c, v1, v2):
        state = run_layers(body, lift.probe(lift.nngp(c, f), lift.nngp(v1, f), lift.nngp(v2, f), f))
        return getattr(state, name)

    return function


def degree_blocks(bandlimit: int) -> list[tuple[slice, slice]]:
    """For each degree, its rows of coefficients and its range in the blocks' order (l, m, n)."""
    degrees, _, _ = block_indices(bandlimit)
    starts = np.searchsorted(degrees, np.arange(bandlimit + 1))
    return [(slice(l * l, (l + 1) ** 2), slice(starts[l], starts[l + 1])) for l in range(bandlimit)]


def _along(function: Callable, argument: int) -> Callable:
    """The derivative of an elementwise function in one of its three arguments."""

    def derivative(*x):
        return jax.jvp(lambda y: function(*x[:argument], y, *x[argument + 1 :]), (x[argument],), (jnp.ones_like(x[argument]),))[1]

    return derivative


def rotation_sums(function: Callable, grid: Grid, blocks: Float[Array, "n p"], v1, v2: Float[Array, " n"]) -> Second:
    """All sums over the grid's rotations but H, for n pairs at once."""
    images = walsh_hadamard(_class_products(grid, blocks))
    v1, v2 = jnp.broadcast_to(v1, v2.shape)[:, None], v2[:, None]
    c, (one, two) = jnp.stack(images), (jnp.broadcast_to(v, (len(images), *images[0].shape)) for v in (v1, v2))
    slope = _along(function, 0)
    value = function(c, one, two)
    f_c, f_1, f_2 = slope(c, one, two), _along(function, 1)(c, one, two), _along(function, 2)(c, one, two)
    f_c1, f_c2 = _along(slope, 1)(c, one, two), _along(slope, 2)(c, one, two)
    f_12, f_cc = _along(_along(function, 1), 2)(c, one, two), _along(slope, 0)(c, one, two)
    mean = lambda x: jnp.dot(x.sum(axis=0), grid.weights, precision=HIGHEST)
    return Second(mean(value), transposed(grid, list(f_c)), mean(f_1), mean(f_2), transposed(grid, list(f_c2)),
                  transposed(grid, list(f_c1)), mean(f_12), list(f_cc))  # fmt: skip


def _class_products(grid: Grid, blocks: Float[Array, "... p"]) -> list[Float[Array, "... q"]]:
    return [jnp.dot(blocks[..., columns], table, precision=HIGHEST)
            for columns, table in zip(columns_by_class(grid.bandlimit, grid.images), grid.tables, strict=True)]  # fmt: skip


def transposed(grid: Grid, images: list[Float[Array, "... q"]]) -> Float[Array, "... p"]:
    """sum_r w_r x_r T_pr for values x at all rotations, one array for each image."""
    classes = walsh_hadamard([x * grid.weights for x in images])
    sums = [jnp.dot(x, table.T, precision=HIGHEST) for x, table in zip(classes, grid.tables, strict=True)]
    inverse = np.argsort(np.concatenate(columns_by_class(grid.bandlimit, grid.images)))
    return jnp.concatenate(sums, axis=-1)[..., inverse]


def pair_tables(grid: Grid) -> list[Float[Array, "q pairs"]]:
    """w_r T_pr T_qr at the representatives for all p <= q, by the class of the pair."""
    table = jnp.concatenate(grid.tables)
    return [(table[p] * table[q] * grid.weights).T for p, q in _pairs(grid.bandlimit, grid.images)]


def _pairs(bandlimit: int, images: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pairs p <= q of places in the order by class, for each class of the product."""
    columns = columns_by_class(bandlimit, images)
    classes = np.repeat(np.arange(len(columns)), [len(c) for c in columns])
    p, q = np.triu_indices(len(classes))
    both = classes[p] ^ classes[q]
    return [(p[both == k], q[both == k]) for k in range(len(columns))]


def hessian(grid: Grid, tables: list[Float[Array, "q pairs"]], images: list[Float[Array, "n q"]]) -> Float[Array, "n p p"]:
    """sum_r w_r x_r T_pr T_qr."""
    sums = [jnp.dot(x, t, precision=HIGHEST) for x, t in zip(walsh_hadamard(images), tables, strict=True)]
    pairs = _pairs(grid.bandlimit, grid.images)
    p, q = (np.concatenate(side) for side in zip(*pairs, strict=True))
    order = np.concatenate(columns_by_class(grid.bandlimit, grid.images))
    place = np.empty((len(order), len(order)), int)
    place[order[p], order[q]] = place[order[q], order[p]] = np.arange(len(p))
    return jnp.concatenate(sums, axis=-1)[:, place]


def hessian_times(grid: Grid, images: list, vectors: Float[Array, "n p y"]) -> Float[Array, "n p y"]:
    """H times vectors, without forming it."""

    def one(vector):
        products = walsh_hadamard(_class_products(grid, vector))
        return transposed(grid, [x * y for x, y in zip(images, products, strict=True)])

    return jax.vmap(one, in_axes=2, out_axes=2)(vectors)


def gradient_in_first(
    function: Callable, geometry: SphereGeometry, tables: list, a: Float[Array, "p c"],
    b: Float[Array, "n p c"], db: Float[Array, "n p c y"],
) -> tuple[Float[Array, "n 1+y"], Float[Array, "n p c 1+y"]]:  # fmt: skip
    """kappa(a, b_j) and its tangents along db_j, and the gradient of each of these in a."""
    grid, bandlimit = geometry.grid, geometry._bandlimit(a)
    degrees = degree_blocks(bandlimit)
    weight = geometry._weighted(jnp.ones_like(a))
    a, b, db = a[: bandlimit**2], b[:, : bandlimit**2], db[:, : bandlimit**2]
    wa = weight * a
    v1, v2 = jnp.sum(wa * a), jnp.einsum("jpc,jpc,pc->j", b, b, weight)
    dv2 = 2 * jnp.einsum("jpc,jpcy->jy", b * weight, db, precision=HIGHEST)
    flat = lambda x: x.reshape(len(b), x.shape[1] * x.shape[2], *x.shape[3:])
    s = jnp.concatenate([flat(jnp.einsum("mc,jkc->jmk", wa[p], b[:, p])) for p, _ in degrees], axis=1)
    ds = jnp.concatenate([flat(jnp.einsum("mc,jkcy->jmky", wa[p], db[:, p])) for p, _ in degrees], axis=1)
    sums = rotation_sums(function, grid, s, v1, v2)
    if db.shape[-1] < FORM_HESSIAN:
        dg = hessian_times(grid, sums.cc, ds)
    else:
        dg = jnp.einsum("jpq,jqy->jpy", hessian(grid, tables, sums.cc), ds, precision=HIGHEST)
    dg = dg + sums.s_v2[:, :, None] * dv2[:, None, :]
    d1 = jnp.einsum("jp,jpy->jy", sums.v1_s, ds) + sums.v1_v2[:, None] * dv2
    dk = jnp.einsum("jp,jpy->jy", sums.s, ds) + sums.v2[:, None] * dv2
    first, tangents = [], []
    for p, block in degrees:
        side = p.stop - p.start
        g, h = sums.s[:, block].reshape(-1, side, side), dg[:, block].reshape(len(b), side, side, db.shape[-1])
        first.append(jnp.einsum("jmk,jkc->jmc", g, b[:, p]))
        tangents.append(jnp.einsum("jmky,jkc->jmcy", h, b[:, p]) + jnp.einsum("jmk,jkcy->jmcy", g, db[:, p]))
    gradient = jnp.concatenate(
        [jnp.concatenate(first, axis=1)[..., None], jnp.concatenate(tangents, axis=1)], axis=-1
    )
    along = jnp.concatenate([sums.v1[:, None], d1], axis=1)
    gradient = weight[..., None] * (gradient + 2 * a[..., None] * along[:, None, None, :])
    return jnp.concatenate([sums.value[:, None], dk], axis=1), gradient
