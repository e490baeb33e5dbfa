"""The evaluation of a plan in one traced computation, and what it shares with the evaluation tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.evaluate import block_kernels
from so3ntk.plan import Plan
from so3ntk.scaling import Scaling, rescaled_in_jax, underflowing

#: Rows of a matrix that are mirrored at a time.
BLOCK = 512


def groups_of(row_kinds: np.ndarray, column_kinds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns that have kernels with each other: all, or the atoms of each element."""
    for kind in np.intersect1d(row_kinds, column_kinds):
        yield np.flatnonzero(row_kinds == kind), np.flatnonzero(column_kinds == kind)


def add_by_owner(
    total: Float[np.ndarray, "n m ..."], block: Float[np.ndarray, "a b ..."], row_owner, column_owner
) -> None:
    """total[i, j] += sum of block over rows owned by i and columns owned by j; owners are sorted."""
    row_first = np.flatnonzero(np.diff(row_owner, prepend=-1))
    column_first = np.flatnonzero(np.diff(column_owner, prepend=-1))
    reduced = np.add.reduceat(block.astype(np.float64), row_first, axis=0)
    reduced = np.add.reduceat(reduced, column_first, axis=1)
    total[np.ix_(row_owner[row_first], column_owner[column_first])] += reduced


def traced_kernels(plan: Plan, names: tuple[str, ...]) -> tuple[Array, " ..."]:
    """The kernels inside a transformation of JAX: jit, vmap, grad."""
    needed = plan.names_needed(names)
    sums = {name: jnp.zeros((plan.rows.count, plan.columns.count, *plan.shape), plan.dtype) for name in needed}
    for rows, columns in groups_of(plan.rows.kind, plan.columns.kind):
        if len(rows) and len(columns):
            values = _whole(plan, needed, rows, columns)
            for name, value in zip(needed, values, strict=True):
                block = _as_they_were(plan, value[: len(rows), : len(columns)], rows, columns)
                if plan.reduces:
                    by_row = jax.ops.segment_sum(block, plan.rows.owner[rows], plan.rows.count)
                    block = jax.ops.segment_sum(by_row.swapaxes(0, 1), plan.columns.owner[columns], plan.columns.count)
                    block = block.swapaxes(0, 1)
                sums[name] = sums[name] + block
    return tuple(plan.finish(names, sums))


def _as_they_were(plan: Plan, block: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """The kernels of the signals before scaling; NaN where they, or variances on the way, are not representable."""
    if plan.scaling is not None:
        k, m, degree = plan.scaling
        return rescaled_in_jax(block, Scaling(k[rows], m[columns], degree))
    if plan.reduces:
        return block
    for signals, indices, axis in ((plan.f, rows, 0), (plan.g, columns, 1)):
        lost = underflowing(plan.layers, signals)
        if lost is not None:
            shape = [1] * block.ndim
            shape[axis] = -1
            block = jnp.where(jnp.asarray(lost)[indices].reshape(shape), jnp.nan, block)
    return block


def _whole(plan: Plan, names: tuple[str, ...], rows: np.ndarray, columns: np.ndarray) -> tuple[Array, " ..."]:
    tile = plan.tile(len(rows), len(columns))
    f = _padded(plan.f, rows, tile[0])
    g = _padded(plan.g, columns, tile[1])
    if plan.one_by_one:
        return tuple(block_kernels(plan.layers, plan.motions, f, g, (name,), tile)[0] for name in names)
    return block_kernels(plan.layers, plan.motions, f, g, names, tile)


def _padded(signals: Any, indices: np.ndarray, tile: int) -> Any:
    """The signals at the indices, repeated up to a power of two of tiles so that few shapes are compiled."""
    tiles = -(-len(indices) // tile)
    size = tile * 2 ** max(0, (tiles - 1).bit_length())
    padded = np.concatenate([indices, np.full(size - len(indices), indices[0])])
    return jax.tree.map(lambda a: a[padded], signals)


def add_mirror_image(matrix: Float[np.ndarray, "n n"]) -> None:
    """matrix += matrix.T in place, a few rows at a time. Sums of two terms commute: symmetric to the bit."""
    for start in range(0, len(matrix), BLOCK):
        rows = slice(start, start + BLOCK)
        both = matrix[rows, : start + BLOCK] + matrix[: start + BLOCK, rows].T
        matrix[rows, : start + BLOCK] = both
        matrix[: start + BLOCK, rows] = both.T
