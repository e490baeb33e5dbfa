"""Kernels as solvers read them: NumPy arrays, memory maps, Zarr arrays, stored Gram matrices, kernels made on demand.

Anything symmetric with ``shape``, ``dtype`` and slices, ``kernel[a:b, c:d]`` -> array, will do. Rows are read in stripes
that fit a memory budget, whole chunks of a store at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.arrays import refuse_masked
from so3ntk.errors import PrecisionError
from so3ntk.learning.predict.inputs import ASYMMETRY, first_not_finite, symmetric

#: Rows and columns of the corners that are compared to see that a stored kernel is symmetric.
CORNER = 64


def check_kernel(kernel: Any, where: str) -> Any:
    """A square symmetric kernel; in memory it is made float64, finite and symmetric to the bit.

    Of other kernels two corners are compared here, and values are checked when they are read.
    """
    if hasattr(kernel, "nngp") and hasattr(kernel, "ntk"):
        raise TypeError(f"{where}: expected one kernel, got a {type(kernel).__name__}. Pass its .ntk or .nngp.")
    refuse_masked(kernel, f"{where}: the entries of the kernel")
    if not hasattr(kernel, "shape") or not hasattr(kernel, "__getitem__"):
        kernel = np.asarray(kernel)
    if len(kernel.shape) != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] == 0:
        raise ValueError(f"{where}: expected a square kernel (n, n) with n >= 1, got shape {tuple(kernel.shape)}.")
    if not (np.issubdtype(kernel.dtype, np.floating) or np.issubdtype(kernel.dtype, np.integer)):
        raise TypeError(f"{where}: expected a kernel of real numbers, got {kernel.dtype}.")
    if in_memory(kernel):
        values = np.asarray(kernel, np.float64)
        if not np.isfinite(values).all():
            raise PrecisionError(first_not_finite(values, where))
        return values if np.array_equal(values, values.T) else symmetric(values, where)
    if getattr(kernel, "complete", True) is False:
        raise ValueError(f"{where}: the stored kernel is not complete yet: let gram(..., store=...) finish it first.")
    m = min(CORNER, kernel.shape[0])
    above, below = np.asarray(kernel[:m, -m:], np.float64), np.asarray(kernel[-m:, :m], np.float64)
    if not np.isfinite(above).all():
        i, j = np.argwhere(~np.isfinite(above))[0]
        raise PrecisionError(
            f"{where}: the kernel holds NaN or infinity, first K[{i}, {kernel.shape[0] - m + j}] = {above[i, j]}."
        )
    if np.abs(above - below.T).max() > ASYMMETRY * max(np.abs(above).max(), np.abs(below).max()):
        raise ValueError(
            f"{where}: expected a symmetric kernel, but its corners K[:{m}, -{m}:] and K[-{m}:, :{m}] are not each "
            "other's transposes (or hold NaN). Rows and columns must be the same inputs in the same order."
        )
    return kernel


def in_memory(kernel: Any) -> bool:
    """Whether the whole kernel is in memory already: a NumPy array that is no memory map, or a JAX array."""
    if isinstance(kernel, np.ndarray):
        return not isinstance(kernel, np.memmap)
    return hasattr(kernel, "addressable_shards")


def load(kernel: Any, where: str) -> Float[np.ndarray, "n n"]:
    """A fresh float64 copy of the whole kernel, symmetric to the bit, in an array that may be overwritten."""
    values = np.array(kernel[:, :], np.float64)
    if not in_memory(kernel):
        if not np.isfinite(values).all():
            raise PrecisionError(first_not_finite(values, where))
        _symmetrise(values, where)
    return values


def _symmetrise(values: Float[np.ndarray, "n n"], where: str, step: int = 1024) -> None:
    """values <- (values + values^T) / 2 in place, block by block; ValueError if they differ by more than rounding."""
    allowed = ASYMMETRY * max(float(values.max()), -float(values.min()))
    for i in range(0, len(values), step):
        for j in range(0, i + 1, step):
            lower, upper = values[i : i + step, j : j + step], values[j : j + step, i : i + step].T
            if np.abs(lower - upper).max() > allowed:
                raise ValueError(
                    f"{where}: expected a symmetric kernel, but K[{i}:, {j}:] and K[{j}:, {i}:]^T differ by "
                    f"{np.abs(lower - upper).max():.3g}. Rows and columns must be the same inputs in the same order."
                )
            mean = (lower + upper) / 2
            values[i : i + step, j : j + step], values[j : j + step, i : i + step] = mean, mean.T


def stripe_rows(kernel: Any, memory: int) -> int:
    """Rows of a stripe: within a quarter of the budget with a copy in float64, whole chunks where the store has them."""
    n = kernel.shape[0]
    rows = max(1, min(n, memory // 4 // (n * (np.dtype(kernel.dtype).itemsize + 8))))
    chunk = getattr(kernel, "chunks", None)
    return max(rows - rows % chunk[0], chunk[0]) if chunk else rows


def stripes(kernel: Any, memory: int) -> Iterator[slice]:
    """The rows of the kernel in stripes."""
    n, step = kernel.shape[0], stripe_rows(kernel, memory)
    ends = np.arange(step, n + step, step).clip(max=n)
    if hasattr(kernel, "tiling"):  # ends of tiles of any size: as many as fit, and one at least
        bounds = np.asarray(kernel.tiling.rows)
        last = np.searchsorted(bounds, bounds[:-1] + step, side="right") - 1
        ends, at = [], 0
        while at < len(bounds) - 1:
            at = max(int(last[at]), at + 1)
            ends.append(int(bounds[at]))
    start = 0
    for end in ends:
        yield slice(start, int(end))
        start = int(end)


def multiply(kernel: Any, vectors: Float[np.ndarray, "n k"], memory: int) -> Float[np.ndarray, "n k"]:
    """K vectors in float64, in one pass over the kernel. PrecisionError, naming the pair, if it holds NaN or infinity."""
    if in_memory(kernel) and kernel.dtype == np.float64:
        return kernel @ vectors
    if getattr(kernel, "symmetric", False) is True and hasattr(kernel, "tiles"):
        return _multiply_tiles(kernel, vectors)
    product = np.empty(vectors.shape)
    for rows in stripes(kernel, memory):
        block = np.asarray(kernel[rows, :], np.float64)
        product[rows] = block @ vectors
        if not np.isfinite(product[rows]).all():
            _refuse(block, rows.start)
    return product


def _multiply_tiles(kernel: Any, vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """K vectors from the tiles of the lower triangle, each read once for both of its places."""
    product = np.zeros(vectors.shape)
    for rows, columns, tile in kernel.tiles():
        block = np.asarray(tile, np.float64)
        if not np.isfinite(block).all():
            i, j = np.argwhere(~np.isfinite(block))[0]
            _refuse(np.pad(block[i : i + 1, : j + 1], ((0, 0), (columns.start, 0))), rows.start + int(i))
        product[rows] += block @ vectors[columns]
        if rows.start != columns.start:
            product[columns] += block.T @ vectors[rows]
    return product


def take_rows(kernel: Any, indices: Int[np.ndarray, " m"], memory: int) -> Float[np.ndarray, "m n"]:
    """Some rows of the kernel, in the order of the indices; of a store every stripe that has any is read once."""
    if isinstance(kernel, np.ndarray) or getattr(kernel, "takes_indices", False):
        found = np.asarray(kernel[indices, :], np.float64)
        _check_rows(found, indices)
        return found
    found = np.empty((len(indices), kernel.shape[1]))
    for rows in stripes(kernel, memory):
        inside = np.flatnonzero((indices >= rows.start) & (indices < rows.stop))
        if len(inside):
            low, high = indices[inside].min(), indices[inside].max() + 1
            found[inside] = np.asarray(kernel[int(low) : int(high), :])[indices[inside] - low]
    _check_rows(found, indices)
    return found


def diagonal_of(kernel: Any) -> Float[np.ndarray, " n"]:
    """K(x_i, x_i), from the blocks on the diagonal. PrecisionError if one is NaN, infinite or negative."""
    if callable(getattr(kernel, "diagonal", None)):
        values = np.array(kernel.diagonal(), np.float64)
    else:
        step = (getattr(kernel, "chunks", None) or (128,))[0]
        blocks = [slice(i, min(i + step, kernel.shape[0])) for i in range(0, kernel.shape[0], step)]
        values = np.concatenate([np.diagonal(np.asarray(kernel[b, b], np.float64)) for b in blocks])
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise PrecisionError(f"solve: expected a kernel, but its diagonal has K[{i}, {i}] = {values[i]}.")
    return values


def _check_rows(found: np.ndarray, indices: np.ndarray) -> None:
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        _refuse(found[bad][:1], int(indices[bad][0]))


def _refuse(block: np.ndarray, first_row: int) -> None:
    """PrecisionError naming the first pair that is not finite."""
    bad = np.argwhere(~np.isfinite(block))
    if not len(bad):
        raise PrecisionError("solve: a product with the kernel overflows. Rescale the targets or the kernel.")
    i, j = bad[0]
    raise PrecisionError(
        f"solve: the kernel holds NaN or infinity, first K[{first_row + i}, {j}] = {block[i, j]}. Look at these two inputs."
    )
