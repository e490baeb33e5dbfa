"""Gram matrices tile by tile: how large tiles are, and the kernels of one of them.

A tile holds all pairs of two runs of consecutive inputs. Runs are packed by parts (signals, or atoms of molecules): as
many inputs as have at most ``tile`` parts together, and at least one. A tile is computed in cells of t1 x t2 pairs of
parts of equal kind (``Plan.cell``: powers of two, up to 32 x 32 on a processor, whose fields fit its cache), k cells in each dispatch to
the device. The last cells of a kind and the last dispatch of a tile are padded, so that one program is compiled for all
tiles. The bytes beyond the result are

.. math:: \\text{tables and fields} + k (t_1 + t_2)\\, b_{row} + (\\text{tile}^2 + k t_1 t_2)\\, b_{pair}

(``Plan.bytes_fixed``, ``bytes_per_row``, ``bytes_per_pair``). The largest tile within the budget is chosen, by halving
from ``Plan.largest_tile``. Where kernels are inner products of features (``moments``), a tile is a product of matrices for each
kind, and its bytes are those of ``Plan.bytes_of_products``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from so3ntk.engine.evaluation.programs import cell_kernels
from so3ntk.engine.evaluation.sums import add_by_owner, add_mirror_image, groups_of, mirrored
from so3ntk.engine.layers.base import is_traced
from so3ntk.engine.plan import Plan, parse_memory
from so3ntk.engine.scaling import rescaled
from so3ntk.errors import PrecisionError

#: Cells of one dispatch: one of these, the same for all tiles.
DISPATCHES = (64, 16, 4, 1)


@dataclass(frozen=True, eq=False)
class Tiling:
    """A matrix cut into tiles.

    rows, columns: bounds of the runs of inputs; tile (i, j) holds rows[i] : rows[i + 1] and columns[j] : columns[j + 1].
    symmetric: whether tiles above the diagonal are left out. side: parts along a tile's side, at most, but for inputs
    that have more. cell, cells: see the head of this file.
    """

    rows: Int[np.ndarray, " r"]
    columns: Int[np.ndarray, " c"]
    symmetric: bool
    side: int
    cell: tuple[int, int]
    cells: int

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """The tiles to compute, row by row."""
        n, m = len(self.rows) - 1, len(self.columns) - 1
        return [(i, j) for i in range(n) for j in range(i + 1 if self.symmetric else m)]

    def slices(self, i: int, j: int) -> tuple[slice, slice]:
        """The rows and the columns of a tile."""
        return slice(*map(int, self.rows[i : i + 2])), slice(*map(int, self.columns[j : j + 2]))


def make_tiling(plan: Plan, tile: int | None = None, memory: str | int = "2GiB", workers: int = 1) -> Tiling:
    """The tiles of a plan: of the given side, or of the largest within the budget of which each worker has about four.

    ValueError for a tile that is not a positive integer, MemoryError for a budget below one tile.
    """
    budget = parse_memory(memory)
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < 1):
        raise ValueError(f"gram: expected tile to be a positive integer, got {tile!r}.")
    rows, columns = len(plan.rows.owner), len(plan.columns.owner)
    side = int(tile) if tile is not None else plan.largest_tile
    cell = plan.cell(min(side, rows), min(side, columns), budget)
    if tile is None:
        side = min(side, _share(rows, columns, workers, plan.symmetric, max(cell)))
        while side > max(cell) and bytes_of(plan, side, cell, _cells(side, cell)) > budget:
            side = max(side // 2 // max(cell), 1) * max(cell)
    cells = _cells(side, cell)
    while cells > 1 and bytes_of(plan, side, cell, cells) > budget:
        cells //= 4
    needed = bytes_of(plan, side, cell, cells)
    if needed > budget:
        remedy = "Raise memory=, or use a coarser quadrature." if tile is None else "Raise memory=, or lower tile=."
        raise MemoryError(
            f"gram: the rotation tables and one tile need {-(-needed // 2**20)} MiB, more than the budget of "
            f"{budget // 2**20} MiB. {remedy}"
        )
    return Tiling(pack(plan.rows.owner, plan.rows.count, side), pack(plan.columns.owner, plan.columns.count, side),
                  plan.symmetric, side, cell, cells)  # fmt: skip


def bytes_of(plan: Plan, side: int, cell: tuple[int, int], cells: int) -> int:
    """The formula at the head of this file."""
    if plan.features is not None:
        return plan.bytes_fixed(cell) + plan.bytes_of_products(side)
    pairs = side**2 + cells * cell[0] * cell[1]
    return plan.bytes_fixed(cell) + cells * sum(cell) * plan.bytes_per_row + pairs * plan.bytes_per_pair


def pack(owner: Int[np.ndarray, " parts"], count: int, side: int) -> Int[np.ndarray, " bounds"]:
    """Bounds of runs of inputs with at most ``side`` parts each, or one input."""
    ends = np.searchsorted(owner, np.arange(count), side="right")
    bounds, start = [0], 0
    while bounds[-1] < count:
        stop = int(np.searchsorted(ends, start + side, side="right"))
        bounds.append(max(stop, bounds[-1] + 1))
        start = int(ends[bounds[-1] - 1])
    return np.asarray(bounds)


def _share(rows: int, columns: int, workers: int, symmetric: bool, cell: int) -> int:
    """The side, in whole cells, of which each of several workers has about four tiles."""
    if workers == 1:
        return max(rows, columns, cell)
    runs = math.ceil(math.sqrt((8 if symmetric else 4) * workers))
    return cell * max(1, math.ceil(max(rows, columns) / runs / cell))


def _cells(side: int, cell: tuple[int, int]) -> int:
    """Cells of one dispatch: about a tenth of a tile, so that a progress bar moves."""
    return next((k for k in DISPATCHES if 8 * k * cell[0] * cell[1] <= side**2), 1)


def compute_tile(
    plan: Plan,
    names: tuple[str, ...],
    tiling: Tiling,
    i: int,
    j: int,
    report: Callable[[float], Any] = lambda pairs: None,
) -> list[np.ndarray]:
    """The kernels of a tile, each (rows, columns, ...), in the dtype of the signals.

    On the diagonal of a symmetric matrix they are symmetric to the bit. report: called with the pairs of parts done.
    """
    needed = plan.names_needed(names)
    tile = _Tile.of(plan, tiling, i, j)
    rows, columns = tile.inputs
    shape = (rows.stop - rows.start, columns.stop - columns.start, *plan.shape)
    sums = {name: np.zeros(shape, plan.accumulator) for name in needed}
    (tile.add_pairs if plan.features is None else tile.add_products)(sums, report)
    if tile.on_diagonal:
        for total in sums.values():
            add_mirror_image(total)
    kernels = plan.finish(names, sums)
    for name, kernel in zip(names, kernels, strict=True):
        require_finite(plan, name, kernel, rows.start, columns.start)
    return kernels


class _Tile(NamedTuple):
    """The rows and columns of a tile, and the parts of each kind in both. On the diagonal half of what is added is the kernel."""

    plan: Plan
    tiling: Tiling
    inputs: tuple[slice, slice]
    groups: list[tuple[np.ndarray, np.ndarray]]
    on_diagonal: bool

    @classmethod
    def of(cls, plan: Plan, tiling: Tiling, i: int, j: int) -> _Tile:
        """Tile (i, j)."""
        inputs = rows, columns = tiling.slices(i, j)
        first, second = _parts(plan.rows.owner, rows), _parts(plan.columns.owner, columns)
        groups = groups_of(plan.rows.kind[first], plan.columns.kind[second])
        placed = [(r + first.start, c + second.start) for r, c in groups]
        return cls(plan, tiling, inputs, placed, tiling.symmetric and i == j)

    def add_pairs(self, sums: dict[str, np.ndarray], report: Callable[[float], Any]) -> None:
        """The kernels of pairs of parts, computed in cells, summed by their owners."""
        plan, (rows, columns), names = self.plan, self.inputs, tuple(sums)
        kinds = [_Kind.of(plan, names, self.tiling, r, c, self.on_diagonal) for r, c in self.groups]
        own = [self.on_diagonal & (kind.i == kind.j) for kind in kinds]
        _fill(plan, names, self.tiling, kinds, own, report)
        for kind in kinds:
            owners = plan.rows.owner[kind.rows] - rows.start, plan.columns.owner[kind.columns] - columns.start
            for total, block in zip(sums.values(), kind.kernels(self.on_diagonal), strict=True):
                if plan.scaling is not None:
                    block = rescaled(block, plan.scaling, kind.rows[:, None], kind.columns[None], plan.accumulator)
                if plan.reduces:
                    add_by_owner(total, block, *owners)
                elif len(kinds) == 1:  # without parts each input has its place, and copies by index are slow
                    total[...] = block
                else:
                    total[np.ix_(*owners)] = block

    def add_products(self, sums: dict[str, np.ndarray], report: Callable[[float], Any]) -> None:
        """The kernels of inputs as inner products of their features, for each kind of parts."""
        plan, features, (rows, columns) = self.plan, self.plan.features, self.inputs
        assert features is not None
        for r, c in self.groups:
            a = features.features(plan.f, r, plan.rows.owner)
            b = a if self.on_diagonal else features.features(plan.g, c, plan.columns.owner)
            for total, block in zip(sums.values(), features.kernels(tuple(sums), a, b), strict=True):
                block = block / 2 if self.on_diagonal else block
                if block.shape == total.shape:  # additions by index are slow
                    total += block
                else:
                    total[np.ix_(a.inputs - rows.start, b.inputs - columns.start)] += block
            report(len(r) * len(c))


def require_finite(plan: Plan, name: str, kernel: Float[np.ndarray, "n m ..."], row: int, column: int) -> None:
    """PrecisionError, naming the inputs, for a tile that begins at a row and a column, if a kernel is not finite."""
    bad = ~np.isfinite(kernel).reshape(*kernel.shape[:2], -1).all(axis=2)
    if not bad.any():
        return
    i, j = (int(k[0]) for k in np.nonzero(bad))
    counts = [(int(k.max()), start + int(k.argmax())) for k, start in
              ((bad.sum(axis=1), row), (bad.sum(axis=0), column))]  # fmt: skip
    (most, worst), batch = max(zip(counts, ("x1", "x1" if plan.symmetric else "x2"), strict=True))
    unit = "molecule" if plan.reduces else "input"
    raise PrecisionError(
        f"kernel: the {name.upper()} of {unit} {row + i} of x1 and {unit} {column + j} of {'x1' if plan.symmetric else 'x2'} "
        f"is not a number of {np.dtype(plan.dtype)} ({kernel[i, j].ravel()[0]}). {unit.capitalize()} {worst} of {batch} is in "
        f"{most} of the {int(bad.sum())} such pairs of its tile. The inputs are finite, so it or a variance on the way is too "
        "large or too small: scale the inputs or the layers' W_std towards one, or compute in double precision."
    )


def _parts(owner: np.ndarray, inputs: slice) -> slice:
    return slice(*map(int, np.searchsorted(owner, (inputs.start, inputs.stop))))


@dataclass(frozen=True, eq=False)
class _Kind:
    """The parts of one kind in a tile: cells (i[k], j[k]) of their pairs are computed, and placed in ``blocks``.

    row_cells, column_cells: the parts of each run of t1 and t2. blocks: for each kernel (runs, t1, runs, t2, ...).
    """

    rows: np.ndarray
    columns: np.ndarray
    row_cells: np.ndarray
    column_cells: np.ndarray
    i: np.ndarray
    j: np.ndarray
    blocks: list[np.ndarray]

    @classmethod
    def of(
        cls, plan: Plan, names: tuple[str, ...], tiling: Tiling, rows: Any, columns: Any, on_diagonal: bool
    ) -> _Kind:
        """All cells; on the diagonal those on and below it."""
        row_cells, column_cells = _cut(rows, tiling.cell[0]), _cut(columns, tiling.cell[1])
        i, j = (k.ravel() for k in np.indices((len(row_cells), len(column_cells))))
        if on_diagonal:
            i, j = i[i >= j], j[i >= j]
        shape = (*row_cells.shape, *column_cells.shape, *plan.shape)
        return cls(rows, columns, row_cells, column_cells, i, j, [np.zeros(shape, plan.dtype) for _ in names])

    def kernels(self, on_diagonal: bool) -> list[np.ndarray]:
        """Each kernel of all pairs of parts; on the diagonal, what with its mirror image added is the kernel."""
        if on_diagonal:
            diagonal = np.arange(len(self.row_cells))
            for block in self.blocks:  # these cells hold both triangles
                own = block[diagonal, :, diagonal]
                block[diagonal, :, diagonal] = (own + mirrored(own, 1)) / 4
        shape = self.row_cells.size, self.column_cells.size
        whole = [block.reshape(shape + block.shape[4:]) for block in self.blocks]
        return [block[: len(self.rows), : len(self.columns)] for block in whole]


def _cut(indices: np.ndarray, size: int) -> np.ndarray:
    """Rows of ``size`` indices; the first one is repeated up to a whole row."""
    missing = -len(indices) % size
    return np.concatenate([indices, np.full(missing, indices[0])]).reshape(-1, size)


def _fill(
    plan: Plan, names: tuple[str, ...], tiling: Tiling, kinds: list[_Kind], own: list[np.ndarray], report: Any
) -> None:
    """Compute the cells of all kinds, one dispatch after the other. own: which cells are of inputs with themselves."""
    if not kinds:
        return
    rows = np.concatenate([kind.row_cells[kind.i] for kind in kinds])
    columns = np.concatenate([kind.column_cells[kind.j] for kind in kinds])
    cells = [(kind, k) for kind in kinds for k in range(len(kind.i))]
    each = np.concatenate([np.full(len(kind.i), len(kind.rows) * len(kind.columns) / len(kind.i)) for kind in kinds])
    done = np.rint(np.cumsum([0, *each])).astype(int)
    alone = np.concatenate(own)
    pending: Any = None
    for start in [*range(0, len(cells), tiling.cells), None]:
        values = None
        if start is not None:
            part = slice(start, start + tiling.cells)
            values = part, dispatch(plan, names, rows[part], columns[part], tiling.cells, bool(alone[part].all()))
        if pending is not None:  # the device computes cells while the host places those before
            part, kernels = pending
            _place(cells[part], kernels)
            report(done[min(part.stop, len(cells))] - done[part.start])
        pending = values


def _place(cells: list[tuple[_Kind, int]], kernels: Any) -> None:
    for name, kernel in enumerate(kernels):
        for (kind, k), value in zip(cells, np.asarray(kernel), strict=False):  # the rest is padding
            kind.blocks[name][kind.i[k], :, kind.j[k]] = value


def dispatch(
    plan: Plan, names: tuple[str, ...], rows: np.ndarray, columns: np.ndarray, size: int, own: bool = False
) -> tuple[Array, " ..."]:
    """The kernels (k, t1, t2, ...) of k cells, on the device; symmetric to rounding, but if all are of their ``own`` inputs.

    Those hold K(f, f') and K(f', f), of which ``compute_tile`` takes the mean.
    """
    f, g = _signals(plan.f, rows, size), _signals(plan.g, columns, size)
    values = _kernels_of_cells(plan, names, f, g)
    if plan.symmetrise and not own:
        values = tuple(
            (a + mirrored(b, 1)) / 2 for a, b in zip(values, _kernels_of_cells(plan, names, g, f), strict=True)
        )  # pyright: ignore
    return values


def _signals(signals: Any, cells: np.ndarray, size: int) -> Any:
    """The signals of some cells, the first of which is repeated up to ``size`` cells."""
    chosen = np.concatenate([cells, np.repeat(cells[:1], size - len(cells), axis=0)])
    return jax.tree.map(lambda a: a[chosen], signals)


def _kernels_of_cells(plan: Plan, names: tuple[str, ...], f: Any, g: Any) -> tuple[Array, " ..."]:
    if plan.one_by_one:
        return tuple(cell_kernels(plan.evaluation, f, g, (name,))[0] for name in names)
    return cell_kernels(plan.evaluation, f, g, names)


class Matrices:
    """Kernel matrices on the host, filled tile by tile."""

    def __init__(self, plan: Plan, names: tuple[str, ...], tiling: Tiling):
        shape = (plan.rows.count, plan.columns.count, *plan.shape)
        self.tiling, self.values = tiling, [np.zeros(shape, plan.result_dtype) for _ in names]

    def write(self, i: int, j: int, kernels: list[np.ndarray]) -> None:
        """Put a tile in its place, and its mirror image if the matrix is symmetric."""
        rows, columns = self.tiling.slices(i, j)
        for matrix, kernel in zip(self.values, kernels, strict=True):
            matrix[rows, columns] = kernel
            if self.tiling.symmetric and i != j:
                matrix[columns, rows] = mirrored(kernel)


def host_kernels(plan: Plan, names: tuple[str, ...], tiling: Tiling | None = None,
                 report: Callable[[float], Any] = lambda pairs: None) -> list[np.ndarray]:  # fmt: skip
    """The kernels of a plan on the host, by default within 2 GiB."""
    if is_traced(jnp.zeros(())):  # a caller is being traced, while our signals are not
        with jax.ensure_compile_time_eval():
            return _all_tiles(plan, names, tiling or make_tiling(plan), report)
    return _all_tiles(plan, names, tiling or make_tiling(plan), report)


def _all_tiles(plan: Plan, names: tuple[str, ...], tiling: Tiling, report: Any) -> list[np.ndarray]:
    matrices = Matrices(plan, names, tiling)
    for i, j in tiling.tiles:
        matrices.write(i, j, compute_tile(plan, names, tiling, i, j, report))
    return matrices.values
