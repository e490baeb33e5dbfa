"""The evaluation of a plan: block by block on the host, or in one traced computation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from so3ntk.evaluate import block_kernels
from so3ntk.layers.base import is_traced
from so3ntk.plan import Plan, parse_memory

#: Rows of a matrix that are mirrored at a time.
BLOCK = 512


def _block_side(plan: Plan, tile: int | None, budget: int) -> int:
    """Rows of a block. The device holds one block's result and, per tile, the fields of its pairs."""
    fixed = plan.bytes_fixed
    if fixed > budget:
        raise MemoryError(
            f"gram: the rotation tables and one tile need {-(-fixed // 2**20)} MiB, more than the budget of "
            f"{budget // 2**20} MiB. Raise memory=, or use a coarser quadrature."
        )
    if tile is not None:
        if isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < 1:
            raise ValueError(f"gram: expected tile to be a positive integer, got {tile!r}.")
        return int(tile)
    side = plan.block
    while side > 32 and fixed + plan.bytes_per_row * 2 * side + plan.bytes_per_pair * side**2 > budget:
        side //= 2
    return side


def _groups(plan: Plan) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns that have kernels with each other: all, or the atoms of each element."""
    for kind in np.intersect1d(plan.rows.kind, plan.columns.kind):
        yield np.flatnonzero(plan.rows.kind == kind), np.flatnonzero(plan.columns.kind == kind)


def _blocks(plan: Plan, side: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Index arrays of the blocks to compute, and whether a block lies on the diagonal of a symmetric matrix."""
    for rows, columns in _groups(plan):
        for i in range(0, len(rows), side):
            for j in range(0, i + 1 if plan.symmetric else len(columns), side):
                yield rows[i : i + side], columns[j : j + side], plan.symmetric and i == j


def host_kernels(plan: Plan, names: tuple[str, ...], *, tile: int | None = None, memory: str | int = "2GiB",
                 progress: bool = False) -> list[np.ndarray]:  # fmt: skip
    """The kernels on the host: see ``gram`` for tile, memory and what is guaranteed."""
    side = _block_side(plan, tile, parse_memory(memory))
    if is_traced(jnp.zeros(())):  # a caller is being traced, while our signals are not
        with jax.ensure_compile_time_eval():
            return _sum_blocks(plan, names, side, progress)
    return _sum_blocks(plan, names, side, progress)


def _sum_blocks(plan: Plan, names: tuple[str, ...], side: int, progress: bool) -> list[np.ndarray]:
    needed = plan.names_needed(names)
    shape = (plan.rows.count, plan.columns.count)
    sums = {name: np.zeros(shape, plan.accumulator) for name in needed}
    total = sum(len(r) * len(c) for r, c, _ in _blocks(plan, side))
    with tqdm(total=total, unit=" pairs", unit_scale=True, disable=not progress, desc="Gram matrix") as bar:
        pending = None
        for rows, columns, on_diagonal in _blocks(plan, side):
            values = _dispatch(plan, needed, rows, columns)
            if plan.symmetrise and not on_diagonal:
                turned = _dispatch(plan, needed, columns, rows)
                shape = (len(rows), len(columns))
                values = tuple((a[: shape[0], : shape[1]] + b.T[: shape[0], : shape[1]]) / 2
                               for a, b in zip(values, turned, strict=True))  # fmt: skip
            if pending is not None:  # the device computes a block while the host adds the one before
                _add(plan, sums, *pending)
                bar.update(len(pending[0]) * len(pending[1]))
            pending = (rows, columns, values, on_diagonal)
        if pending is not None:
            _add(plan, sums, *pending)
            bar.update(len(pending[0]) * len(pending[1]))
    if plan.symmetric:
        for matrix in sums.values():
            add_mirror_image(matrix)
    return plan.finish(names, sums)


def _dispatch(plan: Plan, names: tuple[str, ...], rows: np.ndarray, columns: np.ndarray) -> tuple[Array, " ..."]:
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


def _add(plan: Plan, sums: dict[str, np.ndarray], rows, columns, values, on_diagonal: bool) -> None:
    for total, value in zip(sums.values(), values, strict=True):
        block = np.asarray(value)[: len(rows), : len(columns)]
        if on_diagonal:  # both triangles are there; the mirror image is added at the end
            block = (block + block.T) / 4
        if plan.reduces:
            add_by_owner(total, block, plan.rows.owner[rows], plan.columns.owner[columns])
        else:
            total[np.ix_(rows, columns)] = block


def add_mirror_image(matrix: Float[np.ndarray, "n n"]) -> None:
    """matrix += matrix.T in place, a few rows at a time. Sums of two terms commute: symmetric to the bit."""
    for start in range(0, len(matrix), BLOCK):
        rows = slice(start, start + BLOCK)
        both = matrix[rows, : start + BLOCK] + matrix[: start + BLOCK, rows].T
        matrix[rows, : start + BLOCK] = both
        matrix[: start + BLOCK, rows] = both.T


def add_by_owner(total: Float[np.ndarray, "n m"], block: Float[np.ndarray, "a b"], row_owner, column_owner) -> None:
    """total[i, j] += sum of block over rows owned by i and columns owned by j; owners are sorted."""
    row_first = np.flatnonzero(np.diff(row_owner, prepend=-1))
    column_first = np.flatnonzero(np.diff(column_owner, prepend=-1))
    reduced = np.add.reduceat(block.astype(np.float64), row_first, axis=0)
    reduced = np.add.reduceat(reduced, column_first, axis=1)
    total[np.ix_(row_owner[row_first], column_owner[column_first])] += reduced


def traced_kernels(plan: Plan, names: tuple[str, ...]) -> tuple[Array, " ..."]:
    """The kernels inside a transformation of JAX: jit, vmap, grad."""
    needed = plan.names_needed(names)
    shape = (plan.rows.count, plan.columns.count)
    sums = {name: jnp.zeros(shape, plan.dtype) for name in needed}
    for rows, columns in _groups(plan):
        if len(rows) and len(columns):
            values = _dispatch(plan, needed, rows, columns)
            for name, value in zip(needed, values, strict=True):
                block = value[: len(rows), : len(columns)]
                by_row = jax.ops.segment_sum(block, plan.rows.owner[rows], plan.rows.count)
                both = jax.ops.segment_sum(by_row.T, plan.columns.owner[columns], plan.columns.count).T
                sums[name] = sums[name] + (both if plan.reduces else block)
    return tuple(plan.finish(names, sums))
