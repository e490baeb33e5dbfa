"""Kernels as solvers read them, of whatever kind: in memory, in files and Zarr arrays, in stores, computed when read.

Rows are read in stripes that fit a memory budget, whole chunks or tiles of a store at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.engine.fields import Fields
from so3ntk.engine.network import Kernels
from so3ntk.errors import PrecisionError
from so3ntk.matrices.stored import StoredGram
from so3ntk.matrices.symmetry import ASYMMETRY, first_not_finite, symmetric

#: Rows and columns of the corners that are compared to see that a stored kernel is symmetric.
CORNER = 64
#: Rows or columns to read.
Index = slice | np.ndarray


@runtime_checkable
class SupportsSlices(Protocol):
    """An array that need not be in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def dtype(self) -> np.dtype: ...  # noqa: D102

    def __getitem__(self, index: Any, /) -> Any: ...


class KernelMatrix(ABC):
    """A symmetric matrix K (n, n), read by slices: ``k[rows, columns]``. An author writes that, and these three fields.

    random_access: whether any rows can be read at the cost of these rows.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    ndim = 2
    random_access = False

    @abstractmethod
    def __getitem__(self, index: tuple[Index, Index]) -> np.ndarray:
        """The values at a slice of rows and one of columns; arrays of indices, too, with random access."""

    def ends(self, rows: int) -> list[int]:
        """Where stripes of about so many rows end."""
        n = self.shape[0]
        return [min(end, n) for end in range(rows, n + rows, rows)]

    def stripe_rows(self, memory: int) -> int:
        """Rows of a stripe: within a quarter of the budget with a copy in float64."""
        n = self.shape[0]
        return max(1, min(n, memory // 4 // (n * (np.dtype(self.dtype).itemsize + 8))))

    def stripes(self, memory: int) -> Iterator[slice]:
        """The rows in stripes."""
        start = 0
        for end in self.ends(self.stripe_rows(memory)):
            yield slice(start, end)
            start = end

    def multiply(self, vectors: Float[np.ndarray, "n k"], memory: int) -> Float[np.ndarray, "n k"]:
        """K vectors in float64, in one pass. PrecisionError, naming the pair, if K holds NaN or infinity."""
        product = np.empty(vectors.shape)
        for rows in self.stripes(memory):
            values = np.asarray(self[rows, :], np.float64)
            product[rows] = values @ vectors
            if not np.isfinite(product[rows]).all():
                _refuse(values, rows.start)
        return product

    def take(self, indices: Int[np.ndarray, " m"], memory: int) -> Float[np.ndarray, "m n"]:
        """Some rows, in the order of the indices; without random access every stripe that has any is read once."""
        if self.random_access:
            found = np.asarray(self[indices, :], np.float64)
        else:
            found = np.empty((len(indices), self.shape[1]))
            for rows in self.stripes(memory):
                inside = np.flatnonzero((indices >= rows.start) & (indices < rows.stop))
                if len(inside):
                    low, high = indices[inside].min(), indices[inside].max() + 1
                    found[inside] = np.asarray(self[int(low) : int(high), :])[indices[inside] - low]
        bad = ~np.isfinite(found).all(axis=1)
        if bad.any():
            _refuse(found[bad][:1], int(indices[bad][0]))
        return found

    def diagonal(self) -> Float[np.ndarray, " n"]:
        """K(x_i, x_i), from the blocks on the diagonal."""
        blocks, start = [], 0
        for end in self.ends(128):
            blocks.append(np.diagonal(np.asarray(self[start:end, start:end], np.float64)))
            start = end
        return np.concatenate(blocks)

    def whole(self, where: str) -> Float[np.ndarray, "n n"]:
        """A fresh float64 copy, symmetric to the bit, in an array that may be overwritten."""
        values = np.array(self[:, :], np.float64)
        if not np.isfinite(values).all():
            raise PrecisionError(first_not_finite(values, where))
        _symmetrise(values, where)
        return values


class InMemory(KernelMatrix):
    """An array in memory, float64, finite and symmetric to the bit."""

    random_access = True

    def __init__(self, values: Float[np.ndarray, "n n"]):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, index: tuple[Index, Index]) -> np.ndarray:
        return self.values[index]

    def multiply(self, vectors: Float[np.ndarray, "n k"], memory: int) -> Float[np.ndarray, "n k"]:
        """In one product."""
        return self.values @ vectors

    def whole(self, where: str) -> Float[np.ndarray, "n n"]:
        """A copy."""
        return np.array(self.values)


class Sliced(KernelMatrix):
    """Anything with ``shape``, ``dtype`` and slices: a memory map, a Zarr array, whose chunks are read whole."""

    def __init__(self, kernel: SupportsSlices):
        self.kernel, self.shape, self.dtype = kernel, tuple(kernel.shape), kernel.dtype
        self.random_access = isinstance(kernel, np.ndarray)
        chunks = getattr(kernel, "chunks", None)
        self.chunk = int(chunks[0]) if chunks else 1

    def __getitem__(self, index: tuple[Index, Index]) -> np.ndarray:
        return np.asarray(self.kernel[index])

    def ends(self, rows: int) -> list[int]:
        """Whole chunks, one at least."""
        return super().ends(max(rows - rows % self.chunk, self.chunk))


class Tiled(KernelMatrix):
    """A stored Gram matrix, read by tiles of any size, each once for both of its places."""

    def __init__(self, kernel: StoredGram):
        self.kernel, self.shape, self.dtype = kernel, kernel.shape, kernel.dtype

    def __getitem__(self, index: tuple[Index, Index]) -> np.ndarray:
        return np.asarray(self.kernel[index])

    def ends(self, rows: int) -> list[int]:
        """Ends of tiles: as many as fit, and one at least."""
        bounds = np.asarray(self.kernel.tiling.rows)
        last = np.searchsorted(bounds, bounds[:-1] + rows, side="right") - 1
        ends, at = [], 0
        while at < len(bounds) - 1:
            at = max(int(last[at]), at + 1)
            ends.append(int(bounds[at]))
        return ends

    def multiply(self, vectors: Float[np.ndarray, "n k"], memory: int) -> Float[np.ndarray, "n k"]:
        """From the tiles of the lower triangle where that alone is stored."""
        if not self.kernel.symmetric:
            return super().multiply(vectors, memory)
        product = np.zeros(vectors.shape)
        for rows, columns, tile in self.kernel.tiles():
            values = np.asarray(tile, np.float64)
            if not np.isfinite(values).all():
                i, j = np.argwhere(~np.isfinite(values))[0]
                _refuse(np.pad(values[i : i + 1, : j + 1], ((0, 0), (columns.start, 0))), rows.start + int(i))
            product[rows] += values @ vectors[columns]
            if rows.start != columns.start:
                product[columns] += values.T @ vectors[rows]
        return product


#: Kernels as callers give them; ``kernel_matrix`` makes one kind of all.
MatrixLike = SupportsSlices | ArrayLike


def kernel_matrix(kernel: Any, where: str) -> KernelMatrix:
    """A square symmetric kernel of any kind; in memory it is made float64, finite and symmetric to the bit.

    Of kernels that are not in memory two corners are compared here, and values are checked when they are read. TypeError,
    ValueError and PrecisionError for what is none.
    """
    if isinstance(kernel, InMemory):
        return kernel
    if isinstance(kernel, Kernels | Fields):
        raise TypeError(f"{where}: expected one kernel, got a {type(kernel).__name__}. Pass its .ntk or .nngp.")
    refuse_masked(kernel, f"{where}: the entries of the kernel")
    has_dtype = isinstance(getattr(kernel, "dtype", None), np.dtype | type)
    if not (has_dtype and hasattr(kernel, "shape") and hasattr(kernel, "__getitem__")):
        kernel = np.asarray(kernel)  # lists, tables of pandas, tensors of torch
    if len(kernel.shape) != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] == 0:
        raise ValueError(f"{where}: expected a square kernel (n, n) with n >= 1, got shape {tuple(kernel.shape)}.")
    if not (np.issubdtype(kernel.dtype, np.floating) or np.issubdtype(kernel.dtype, np.integer)):
        raise TypeError(f"{where}: expected a kernel of real numbers, got {kernel.dtype}.")
    if isinstance(kernel, np.ndarray | jax.Array) and not isinstance(kernel, np.memmap):
        values = np.asarray(kernel, np.float64)
        if not np.isfinite(values).all():
            raise PrecisionError(first_not_finite(values, where))
        return InMemory(values if np.array_equal(values, values.T) else symmetric(values, where))
    matrix: Any = kernel
    if not isinstance(matrix, KernelMatrix):
        matrix = Tiled(matrix) if isinstance(matrix, StoredGram) else Sliced(matrix)
    if isinstance(matrix, Tiled) and not matrix.kernel.complete:
        raise ValueError(f"{where}: the stored kernel is not complete yet: let gram(..., store=...) finish it first.")
    _check_corners(matrix, where)
    return matrix


def diagonal_of(kernel: KernelMatrix) -> Float[np.ndarray, " n"]:
    """K(x_i, x_i). PrecisionError if one is NaN, infinite or negative."""
    values = np.array(kernel.diagonal(), np.float64)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise PrecisionError(f"solve: expected a kernel, but its diagonal has K[{i}, {i}] = {values[i]}.")
    return values


def _check_corners(kernel: KernelMatrix, where: str) -> None:
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


def _refuse(values: np.ndarray, first_row: int) -> None:
    """PrecisionError naming the first pair that is not finite."""
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        raise PrecisionError("solve: a product with the kernel overflows. Rescale the targets or the kernel.")
    i, j = bad[0]
    raise PrecisionError(
        f"solve: the kernel holds NaN or infinity, first K[{first_row + i}, {j}] = {values[i, j]}. Look at these two inputs."
    )
