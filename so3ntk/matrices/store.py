"""Gram matrices on disk: a Zarr group that an interrupted run resumes.

The group holds, for n x m tiles of at most r x c inputs,

* ``ntk``, ``nngp`` (n, m, r, c, ...): the tiles of each kernel, one chunk each, padded with zeros; of a symmetric matrix
  those on and below the diagonal;
* ``checksums`` (n, m, names): the CRC-32 of each tile, -1 until it is complete: this is the completion mask;
* ``rows`` (n + 1,), ``columns`` (m + 1,): tile (i, j) holds inputs rows[i] : rows[i + 1] and columns[j] : columns[j + 1];
* attributes: what was computed (``so3ntk.matrices.fingerprint``) with its hash, the dtype, and versions of the software.

A tile is written first and marked complete afterwards, each by a file that is renamed into place, or by an object that a
remote store has whole or not at all: a process may be killed at any time. Two writers are safe: both write the same tile,
whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from so3ntk.basics.arguments import is_address
from so3ntk.basics.caller import warn
from so3ntk.engine.evaluation.tiles import Tiling
from so3ntk.errors import DamagedTileError, StoreMismatchError
from so3ntk.matrices.fingerprint import differences, digest, versions
from so3ntk.matrices.places import check_place, open_group, require_writable_address, require_zarr

FORMAT = "so3ntk Gram matrix, 1"


class GramStore:
    """An open store, as the process that fills it sees it. address: where it is, if that is no folder here."""

    def __init__(self, group: Any, where: str, address: str | None = None):
        attributes = dict(group.attrs)
        if attributes.get("format") != FORMAT:
            raise ValueError(f"store: {where} holds no Gram matrix of so3ntk ({FORMAT!r}). Name another path.")
        self.group, self.where, self.address, self.attributes = group, where, address, attributes
        self.names = tuple(attributes["names"])
        self.dtype = np.dtype(attributes["dtype"])
        bounds = np.asarray(group["rows"][:]), np.asarray(group["columns"][:])
        tile = attributes["tile"]
        self.tiling = Tiling(*bounds, attributes["symmetric"], tile["side"], tuple(tile["cell"]), tile["cells"])
        self._kernels = {name: group[name] for name in self.names}
        self._checksums = group["checksums"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole matrix."""
        return (int(self.tiling.rows[-1]), int(self.tiling.columns[-1]), *self.attributes["trailing"])

    def mask(self) -> np.ndarray:
        """Which tiles are complete, (n, m); those above the diagonal of a symmetric matrix are not counted as such."""
        try:
            return np.all(np.asarray(self._checksums[:]) >= 0, axis=2)
        except Exception:  # one of them is damaged, by whatever a codec raises
            mask = np.zeros(self._checksums.shape[:2], bool)
            for i, j in self.tiling.tiles:
                mask[i, j] = self.is_complete(i, j)
            return mask

    def is_complete(self, i: int, j: int) -> bool:
        """Whether a tile is marked complete."""
        return bool(np.all(self._marks(i, j) >= 0))

    def missing(self) -> list[tuple[int, int]]:
        """The tiles that are not complete yet."""
        mask = self.mask()
        return [(i, j) for i, j in self.tiling.tiles if not mask[i, j]]

    def write(self, i: int, j: int, kernels: list[np.ndarray]) -> None:
        """Keep a tile, then mark it complete. OSError that says what was kept, if it cannot be written."""
        try:
            for name, kernel in zip(self.names, kernels, strict=True):
                array = self._kernels[name]
                padded = np.zeros(array.shape[2:], self.dtype)
                padded[: kernel.shape[0], : kernel.shape[1]] = kernel
                array[i, j] = padded
            self._checksums[i, j] = [checksum(kernel) for kernel in kernels]
        except OSError as error:
            raise OSError(
                error.errno,
                f"store: cannot write tile ({i}, {j}) to {self.where} ({error.strerror or error}). "
                f"{int(self.mask().sum())} of {len(self.tiling.tiles)} tiles are complete and kept; make room or writing "
                "possible, and the same call resumes.",
            ) from error

    def read(self, name: str, i: int, j: int) -> np.ndarray:
        """One tile of one kernel. ValueError if it is not complete, DamagedTileError if it is not what was written."""
        rows, columns = self.tiling.slices(i, j)
        place = (
            f"tile ({i}, {j}) of {self.where} (rows {rows.start}:{rows.stop}, columns {columns.start}:{columns.stop})"
        )
        mark = self._marks(i, j)[self.names.index(name)]
        if mark < 0:
            raise ValueError(f"store: {place} is not computed yet. The call of gram that made the store resumes it.")
        try:
            kernel = np.asarray(self._kernels[name][i, j])[: rows.stop - rows.start, : columns.stop - columns.start]
        except Exception as error:  # whatever a codec raises
            raise DamagedTileError(
                f"store: {place} cannot be read ({error}). gram(..., store=) computes it again."
            ) from error
        if checksum(kernel) != mark:
            raise DamagedTileError(
                f"store: {place} is damaged, its checksum differs. gram(..., store=) computes it again."
            )
        return kernel

    def damaged(self, tiles: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of some tiles that are marked complete and are not what was written."""
        found = []
        for i, j in tiles:
            try:
                for name in self.names:
                    self.read(name, i, j)
            except DamagedTileError:
                found.append((i, j))
        return found

    def require(self, description: dict[str, Any], names: tuple[str, ...], tile: int | None = None) -> None:
        """StoreMismatchError, naming what differs, unless the store is of this run."""
        lines = differences(self.attributes["description"], description)
        lines += [f"get: {list(self.names)} in the store, {list(names)} now"] * (not set(names) <= set(self.names))
        lines += [f"tile: {self.tiling.side} in the store, {tile} now"] * (tile not in (None, self.tiling.side))
        if lines:
            raise StoreMismatchError(
                f"store: {self.where} was made by another run:\n  "
                + "\n  ".join(lines)
                + "\nUse what made it, or another path."
            )

    def require_writable(self) -> None:
        """OSError now, not after minutes of work, if nothing can be written."""
        reason = "it was opened read-only" if getattr(self.group.store, "read_only", False) else None
        folder = getattr(self.group.store, "root", None)
        if reason is None:
            try:
                if self.address is not None:
                    require_writable_address(self.address)
                elif folder is not None:
                    with tempfile.TemporaryFile(dir=folder):
                        pass
            except OSError as error:
                reason = error.strerror or str(error)
        if reason is not None:
            raise PermissionError(
                f"store: cannot write to {self.where} ({reason}), and {len(self.missing())} of its {len(self.tiling.tiles)} "
                "tiles are missing. open_gram reads those that are there."
            )

    def warn_of_other_versions(self) -> None:
        """A warning if tiles made now may differ from those in the store in their last bits."""
        made, now = self.attributes["versions"], versions()
        other = [f"{name} {made.get(name)}, now {now[name]}" for name in now if made.get(name) != now[name]]
        if other:
            warn(
                f"store: {self.where} was begun with {'; '.join(other)}: new tiles agree with it to rounding, not to the bit."
            )

    def _marks(self, i: int, j: int) -> np.ndarray:
        try:
            return np.asarray(self._checksums[i, j])
        except Exception:  # a damaged mark is no mark
            return np.full(len(self.names), -1)


def checksum(kernel: np.ndarray) -> int:
    """CRC-32 of the bytes of an array in C order."""
    return zlib.crc32(np.ascontiguousarray(kernel).tobytes())


def open_store(store: Any, writing: bool = True) -> GramStore | None:
    """A store by its path or as a store of zarr; None if nothing is there. ValueError for something else."""
    require_zarr("store")
    check_place(store, writing)
    where = _name_of(store)
    address = where if is_address(store) else None
    try:
        if writing and not getattr(store, "read_only", False):
            with contextlib.suppress(PermissionError):
                return GramStore(open_group(store, "r+"), where, address)
        return GramStore(open_group(store, "r"), where, address)
    except FileNotFoundError:
        if isinstance(store, str | os.PathLike) and os.path.isdir(store) and os.listdir(store):
            raise ValueError(f"store: {where} is a folder with something else in it. Name another path.") from None
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"store: {where} cannot be read as a Gram matrix of so3ntk ({error}).") from error


def create_store(
    store: Any,
    tiling: Tiling,
    names: tuple[str, ...],
    dtype: Any,
    trailing: tuple[int, ...],
    description: dict[str, Any],
) -> GramStore:
    """A new store without tiles. A path appears whole or not at all: of several makers the first one wins.

    At an address, or as a store of zarr, it has one maker: others begin when it is there.
    """
    require_zarr("store")
    if not isinstance(store, str | os.PathLike) or is_address(store):
        _fill(store, tiling, names, dtype, trailing, description)
    else:
        path = Path(store).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            _fill(temporary, tiling, names, dtype, trailing, description)
            os.chmod(temporary, 0o755)
            with contextlib.suppress(OSError):  # another process was first
                os.rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    made = open_store(store)
    if made is None:
        raise OSError(f"store: could not make {_name_of(store)}.")
    return made


def _fill(
    store: Any,
    tiling: Tiling,
    names: tuple[str, ...],
    dtype: Any,
    trailing: tuple[int, ...],
    description: dict[str, Any],
) -> None:
    group = open_group(store, "w-")
    count = len(tiling.rows) - 1, len(tiling.columns) - 1
    for name, bounds in (("rows", tiling.rows), ("columns", tiling.columns)):
        group.create_array(name, data=bounds.astype(np.int64), chunks=bounds.shape)
    tile = tuple(max(1, int(np.diff(bounds).max(initial=1))) for bounds in (tiling.rows, tiling.columns))
    for name in names:
        shape = (*tile, *trailing)
        group.create_array(name, shape=(*count, *shape), chunks=(1, 1, *shape), dtype=np.dtype(dtype))
    group.create_array(
        "checksums", shape=(*count, len(names)), chunks=(1, 1, len(names)), dtype=np.int64, fill_value=-1
    )
    group.attrs.update({
        "format": FORMAT, "run": uuid.uuid4().hex, "names": list(names), "dtype": str(np.dtype(dtype)),
        "symmetric": tiling.symmetric, "trailing": list(trailing), "hash": digest(description),
        "tile": {"side": tiling.side, "cell": list(tiling.cell), "cells": tiling.cells},
        "description": description, "versions": versions(),
    })  # fmt: skip


def _name_of(store: object) -> str:
    return os.fspath(store) if isinstance(store, str | os.PathLike) else str(store)
