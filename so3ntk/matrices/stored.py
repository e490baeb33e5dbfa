"""Reading a stored Gram matrix: like an array, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from so3ntk.engine.evaluation.sums import mirrored
from so3ntk.engine.evaluation.tiles import Tiling
from so3ntk.matrices.store import GramStore, open_store


class StoredGram:
    """A kernel matrix in a store, read-only: ``g[rows, columns]`` reads the tiles it needs and no more.

    Indices are integers, slices, and arrays of integers or booleans, as for NumPy; two arrays by ``numpy.ix_``. What lies
    above the diagonal of a symmetric matrix is mirrored from below. Every tile read is held against its checksum:
    DamagedTileError where it differs, ValueError for a tile that is not computed yet. ``np.asarray(g)`` reads it all.
    """

    def __init__(self, store: GramStore, name: str):
        self._store, self.name = store, name

    @property
    def shape(self) -> tuple[int, ...]:
        """(N1, N2), and the axes of a kernel's block if it has one."""
        return self._store.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """That of the signals."""
        return self._store.dtype

    @property
    def nbytes(self) -> int:
        """Of the whole matrix in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def symmetric(self) -> bool:
        """Whether it is the matrix of one batch with itself, of which the lower triangle is stored."""
        return self._store.tiling.symmetric

    @property
    def tiling(self) -> Tiling:
        """The bounds of its tiles, rows and columns."""
        return self._store.tiling

    @property
    def attributes(self) -> dict[str, Any]:
        """What was computed, its hash, and the versions of the software."""
        return self._store.attributes

    @property
    def mask(self) -> np.ndarray:
        """Which tiles are complete, now: (n, m); of a symmetric matrix those on and below the diagonal."""
        return self._store.mask()

    @property
    def complete(self) -> bool:
        """Whether all tiles are there, now."""
        return not self._store.missing()

    def tiles(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Rows, columns and values of all stored tiles, one at a time; of a symmetric matrix the lower triangle."""
        for i, j in self.tiling.tiles:
            yield *self.tiling.slices(i, j), self._store.read(self.name, i, j)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("store: a stored Gram matrix is read into a new array; copy=False cannot be kept.")
        return self[:, :].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray | np.floating:
        rows, columns, rest = _split(key, self.ndim)
        (r, row_shape), (c, column_shape) = (_indices(k, n) for k, n in zip((rows, columns), self.shape, strict=False))
        found = np.empty((len(r), len(c), *self.shape[2:]), self.dtype)
        for i, in_rows in _by_run(self.tiling.rows, r):
            for j, in_columns in _by_run(self.tiling.columns, c):
                local = r[in_rows] - self.tiling.rows[i], c[in_columns] - self.tiling.columns[j]
                found[np.ix_(in_rows, in_columns)] = self._tile(i, j)[np.ix_(*local)]
        shape = (*row_shape, *column_shape)
        return found.reshape((*shape, *self.shape[2:]))[(slice(None),) * len(shape) + rest]

    def __repr__(self) -> str:
        done, total = int(self.mask.sum()), len(self.tiling.tiles)
        return f"StoredGram({self._store.where!r}, {self.name!r}, shape={self.shape}, {self.dtype}, {done} of {total} tiles)"

    def _tile(self, i: int, j: int) -> np.ndarray:
        if self.symmetric and j > i:
            return mirrored(self._store.read(self.name, j, i))
        return self._store.read(self.name, i, j)


def open_gram(path: Any, get: str | None = None) -> StoredGram:
    """A Gram matrix that ``gram(..., store=path)`` has made or is making, to be read lazily.

    path: a folder, an address, or a store of zarr; also a zip file of a folder's contents, as
    ``shutil.make_archive("run", "zip", "run.zarr")`` makes it, and chains such as "zip::s3://bucket/run.zip".
    get: "ntk" or "nngp"; None where the store holds one of them. Raises FileNotFoundError if nothing is there, ValueError
    for a kernel that the store does not hold and for something that is no store.
    """
    store = open_store(path, writing=False)
    if store is None:
        raise FileNotFoundError(f"open_gram: there is no store at {path}. gram(net, x, store=...) makes one.")
    if get is None and len(store.names) > 1:
        raise ValueError(f"open_gram: {path} holds {' and '.join(store.names)}; say which one: get={store.names[0]!r}.")
    name = next(iter(store.names)) if get is None else get
    if name not in store.names:
        raise ValueError(f"open_gram: {path} holds {' and '.join(store.names)}, not {get!r}.")
    return StoredGram(store, name)


def _split(key: Any, ndim: int) -> tuple[Any, Any, tuple]:
    """The index of the rows, of the columns and of the axes after them."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is None for k in keys):
        raise IndexError("store: new axes (None) are not possible; read an array first, g[:, :].")
    if any(k is Ellipsis for k in keys):
        at = next(n for n, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (ndim - len(keys) + 1)
    if len(keys) > ndim:
        raise IndexError(f"store: expected at most {ndim} indices, got {len(keys)}.")
    keys += [slice(None)] * (2 - len(keys))
    rows, columns = keys[0], keys[1]
    if all(isinstance(k, list | np.ndarray) for k in (rows, columns)):
        rows, columns = np.asarray(rows), np.asarray(columns)
        if rows.ndim != 2 or rows.shape[1] != 1 or columns.ndim != 2 or columns.shape[0] != 1:
            raise IndexError("store: expected two arrays of indices to come from numpy.ix_(rows, columns).")
        rows, columns = rows[:, 0], columns[0]
    return rows, columns, tuple(keys[2:])


def _indices(key: Any, length: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The indices >= 0 that a key stands for, and the axes they become."""
    chosen = np.arange(length)[np.asarray(key, int) if isinstance(key, list) and not key else key]
    return np.atleast_1d(chosen).ravel(), np.shape(chosen)


def _by_run(bounds: np.ndarray, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each run of inputs that holds some of the indices: the run, and the positions of these indices."""
    runs = np.searchsorted(bounds, indices, side="right") - 1
    for run in np.unique(runs):
        yield int(run), np.flatnonzero(runs == run)
