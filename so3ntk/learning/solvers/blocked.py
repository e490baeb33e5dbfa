r"""Cholesky factorisation on disk, a block of columns at a time, by dask.array over a stored kernel.

.. math:: L_{ij} L_{jj}^T = A_{ij} - \sum_{k<j} L_{ik} L_{jk}^T \quad (i \ge j)

Each block of columns is one computation of dask, in threads of this process or on the workers of a cluster; the factor
is a Zarr array of float64. What is held in memory is one block of columns, and on each worker a few tiles.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.errors import NotPositiveDefiniteError, PrecisionError
from so3ntk.learning.ridge import EPS
from so3ntk.learning.solvers.base import Centring, Problem, Solution, Solver, relative_residuals


@dataclass(frozen=True)
class BlockedCholesky(Solver):
    """Exact, n^3 / 3 operations, for kernels that do not fit in memory. Needs dask and zarr (extra "cluster").

    block: rows and columns of a tile, None for 1,024 or what fits the memory. client: a ``dask.distributed.Client``
    whose workers see ``scratch`` and the stored kernel; None for threads. scratch: the folder in which the factor,
    8 n^2 bytes, is kept while solving; None for the system's temporary folder. Memory: 24 n block bytes.
    """

    block: int | None = None
    client: Any = None
    scratch: str | Path | None = None
    name = "blocked"

    def bytes_needed(self, n: int, k: int) -> int:
        """Three blocks of columns."""
        return 24 * n * min(n, self.block or 64) + 48 * n * (k + 1)

    def block_for(self, n: int, memory: int) -> int:
        """The block that is used."""
        return min(n, self.block or max(64, min(1024, memory // (24 * n))))

    def solve(self, problem: Problem) -> Solution:
        """Factorise into the scratch folder and substitute; the folder's content is removed in the end."""
        folder = Path(tempfile.mkdtemp(prefix="so3ntk-factor-", dir=self.scratch))
        try:
            step = self.block_for(len(problem.y), problem.memory)
            centring = Centring.of(problem)
            factor = self._factorise(problem, centring, folder, step)
            alpha, intercept = centring.solve(problem, lambda y: substitute(factor, y, step))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Solution(alpha, intercept, problem.ridge, self, relative_residuals(problem, alpha, intercept))

    def _factorise(self, problem: Problem, centring: Centring, folder: Path, step: int) -> Any:
        """L in a Zarr array, of which the tiles above the diagonal are never written."""
        array, zarr = _require()
        n = len(problem.y)
        factor = zarr.open_array(str(folder / "L.zarr"), mode="w", shape=(n, n), chunks=(step, step), dtype="f8")
        kernel = array.from_array(problem.kernel, chunks=(step, step), asarray=True, name=False, meta=np.empty((0, 0)))
        scheduler = {"scheduler": "threads"} if self.client is None else {"scheduler": self.client.get}
        for start in range(0, n, step):
            stop = min(start + step, n)
            columns = kernel[start:, start:stop].astype(np.float64)
            if start:
                done = array.from_array(factor, chunks=(step, step), name=False)  # it changes: no name of its own
                columns = columns - done[start:, :start] @ done[start:stop, :start].T
            panel = centring.shift(np.array(columns.compute(**scheduler)), slice(start, n), slice(start, stop))
            _divide(panel, stop - start, start, problem)
            factor[start:, start:stop] = panel
        return factor


def _divide(panel: Float[np.ndarray, "m b"], width: int, start: int, problem: Problem) -> None:
    """A block of columns, less those before, turned into columns of L in place."""
    if not np.isfinite(panel).all():
        i, j = np.argwhere(~np.isfinite(panel))[0]
        raise PrecisionError(
            f"{problem.where}: the kernel holds NaN or infinity, first K[{start + i}, {start + j}] = {panel[i, j]}. Look at "
            "these two inputs."
        )
    square = panel[:width] + problem.ridge * np.eye(width)
    scale = float(np.abs(panel[:width].diagonal()).max(initial=0.0))
    try:
        corner = scipy.linalg.cholesky(square, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        smallest = float(scipy.linalg.eigvalsh((square + square.T) / 2)[0]) - problem.ridge
        needed = 1.1 * (max(0.0, -2 * smallest) + 2 * len(problem.y) * EPS * scale) or EPS
        raise NotPositiveDefiniteError(
            problem.where, smallest, scale, problem.ridge, needed,
            f"the block of K from row {start} on, as the rows before leave it,",
        ) from None  # fmt: skip
    panel[:width] = corner
    panel[width:] = scipy.linalg.solve_triangular(corner, panel[width:].T, lower=True, check_finite=False).T


def substitute(factor: Any, rhs: Float[np.ndarray, "n k"], step: int) -> Float[np.ndarray, "n k"]:
    """(L L^T)^-1 rhs, reading a block of L's columns at a time, twice."""
    x = rhs.copy()
    starts = range(0, len(x), step)
    for start in starts:
        rows, below = slice(start, start + step), slice(start + step, None)
        columns = np.asarray(factor[start:, rows])
        x[rows] = scipy.linalg.solve_triangular(columns[:step], x[rows], lower=True, check_finite=False)
        x[below] -= columns[step:] @ x[rows]
    for start in reversed(starts):
        rows, below = slice(start, start + step), slice(start + step, None)
        columns = np.asarray(factor[start:, rows])
        rest = x[rows] - columns[step:].T @ x[below]
        x[rows] = scipy.linalg.solve_triangular(columns[:step], rest, lower=True, trans=1, check_finite=False)
    return x


def _require() -> tuple[Any, Any]:
    try:
        import dask.array
        import zarr
    except ImportError as error:
        raise ImportError(
            f'solve: method "blocked" needs dask and zarr, and {error.name} is missing: pip install dask distributed zarr. '
            'Method "cg" needs neither.'
        ) from error
    return dask.array, zarr
