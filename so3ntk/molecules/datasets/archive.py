"""Molecules as one npz file of plain arrays: a data set to keep, and the cache of parsed ones. No pickles.

=========  ==================  ==========================================================================
Z          (atoms,) int        atomic numbers of all molecules, one after the other
R          (atoms, 3) float    positions, Angstrom
offsets    (n + 1,) int        molecule k is atoms offsets[k] to offsets[k + 1]
index      (n,) int            number of each molecule in its source; optional, 0..n-1 without it
smiles     (n,) str            optional; goes to ``atoms.info["smiles"]``
a target   (n,) float          under its name, in the unit of the source
=========  ==================  ==========================================================================
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

GEOMETRY = ("Z", "R", "offsets")
OPTIONAL = ("index", "smiles")


def read_archive(path: str | PathLike, targets: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays described above, with those of the targets that the file holds; others in it are not read.

    Raises FileNotFoundError, and ValueError for a file that is not an npz archive, is truncated, holds
    pickled (object) arrays, lacks an array, or whose arrays contradict each other.
    """
    columns = load_arrays(path, (*GEOMETRY, *OPTIONAL, *targets))
    check_columns(columns, path)
    return columns


def load_arrays(path: str | PathLike, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the arrays that an npz file holds. Errors as ``read_archive``."""
    with _opened(path) as archive:
        return {name: archive[name] for name in wanted if name in archive.files}


def names_in(path: str | PathLike) -> list[str]:
    """The names of the arrays of an npz file. Errors as ``read_archive``."""
    with _opened(path) as archive:
        return list(archive.files)


@contextmanager
def _opened(path: str | PathLike) -> Iterator[Any]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except Exception as error:  # whatever the damage leads zipfile and NumPy to raise
        cause = "it holds pickled objects, which are not loaded" if "pickle" in str(error) else "damaged or truncated?"
        raise ValueError(f"{path} is not a readable npz archive of plain arrays: {cause} ({error}).") from error


def write_archive(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write the arrays so that the file is either complete or absent, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **columns)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def take_rows(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The archive of some of the molecules, in the order given."""
    starts, stops = columns["offsets"][:-1][rows], columns["offsets"][1:][rows]
    atoms = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    chosen = {name: array[rows] for name, array in columns.items() if name not in GEOMETRY}
    chosen.setdefault("index", rows)
    offsets = np.concatenate([[0], np.cumsum(stops - starts)])
    return {"Z": columns["Z"][atoms], "R": columns["R"][atoms], "offsets": offsets, **chosen}


def check_columns(columns: Mapping[str, np.ndarray], path: str | PathLike) -> None:
    """ValueError, naming the file, for arrays of molecules that lack some, are of other kinds or contradict each other."""
    missing = [name for name in GEOMETRY if name not in columns]
    if missing:
        raise ValueError(
            f"{path} lacks the arrays {', '.join(missing)}; see so3ntk.molecules.datasets.archive for the layout."
        )
    numbers, positions, offsets = (columns[name] for name in GEOMETRY)
    integers = all(np.issubdtype(array.dtype, np.integer) for array in (numbers, offsets))
    if not integers or numbers.ndim != 1 or offsets.ndim != 1 or not np.issubdtype(positions.dtype, np.floating):
        raise ValueError(
            f"{path}: expected integers Z (atoms,) and offsets (n + 1,) and floats R (atoms, 3), got Z "
            f"{numbers.dtype}{list(numbers.shape)}, offsets {offsets.dtype}{list(offsets.shape)}, R "
            f"{positions.dtype}{list(positions.shape)}."
        )
    if positions.shape != (len(numbers), 3):
        raise ValueError(f"{path}: Z holds {len(numbers)} atoms, but R has the shape {positions.shape}.")
    sizes = np.diff(offsets.astype(np.int64))
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(numbers) or np.any(sizes <= 0):
        raise ValueError(
            f"{path}: expected offsets to rise from 0 to the {len(numbers)} atoms, with an atom or more per molecule."
        )
    finite = np.isfinite(positions).all(axis=1)
    if not finite.all():
        molecule = int(np.searchsorted(offsets, np.argmin(finite), side="right")) - 1
        raise ValueError(f"{path}: molecule {molecule} has coordinates that are NaN or infinite.")
    for name in columns.keys() - GEOMETRY:
        array, kinds = columns[name], {"index": "iu", "smiles": "U"}.get(name, "iuf")
        if array.shape != (len(sizes),):
            raise ValueError(f"{path}: expected {name} for {len(sizes)} molecules, got the shape {array.shape}.")
        if array.dtype.kind not in kinds:
            wanted = {"iu": "integers", "U": "text", "iuf": "numbers"}[kinds]
            raise ValueError(f"{path}: expected {name} to hold {wanted}, got {array.dtype}.")
