"""Gram matrices: all pairs of two batches, tile by tile, within a memory budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import jax
import numpy as np
from jaxtyping import Float

from so3ntk.basics.arguments import check_flag
from so3ntk.basics.caller import warn
from so3ntk.basics.progress import show_progress
from so3ntk.engine.evaluation.tiles import Matrices, bytes_of, make_tiling
from so3ntk.engine.network import Kernels, Network, check_get
from so3ntk.engine.plan import Plan, make_plan, parse_memory
from so3ntk.matrices.cluster import check_open, count_threads, run_on_cluster
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.fingerprint import fingerprint
from so3ntk.matrices.places import check_place
from so3ntk.matrices.store import GramStore, create_store, open_store
from so3ntk.matrices.stored import StoredGram, open_gram
from so3ntk.matrices.work import Work, run_here


@overload
def gram(
    net: Network, x1: Any, x2: Any = None, get: Literal["nngp", "ntk"] = "ntk", *, tile: int | None = None,
    memory: str | int = "2GiB", store: None = None, client: Any = None, progress: bool = True,
    share: tuple[int, int] = (0, 1), diagonal: bool = False,
) -> np.ndarray: ...  # fmt: skip
@overload
def gram(
    net: Network, x1: Any, x2: Any = None, get: Literal["nngp", "ntk"] = "ntk", *, tile: int | None = None,
    memory: str | int = "2GiB", store: Any, client: Any = None, progress: bool = True,
    share: tuple[int, int] = (0, 1), diagonal: bool = False,
) -> StoredGram: ...  # fmt: skip
@overload
def gram(
    net: Network, x1: Any, x2: Any = None, *, get: tuple[str, ...] | list[str], tile: int | None = None,
    memory: str | int = "2GiB", store: Any = None, client: Any = None, progress: bool = True,
    share: tuple[int, int] = (0, 1), diagonal: bool = False,
) -> Kernels: ...  # fmt: skip
@overload
def gram(
    net: Network, x1: Any, x2: Any = None, get: str | Sequence[str] = "ntk", *, tile: int | None = None,
    memory: str | int = "2GiB", store: Any = None, client: Any = None, progress: bool = True,
    share: tuple[int, int] = (0, 1), diagonal: bool = False,
) -> Any: ...  # fmt: skip
def gram(
    net: Network,
    x1: Any,
    x2: Any = None,
    get: str | Sequence[str] = "ntk",
    *,
    tile: int | None = None,
    memory: str | int = "2GiB",
    store: Any = None,
    client: Any = None,
    progress: bool = True,
    share: tuple[int, int] = (0, 1),
    diagonal: bool = False,
) -> Any:
    """The kernel matrices of two batches, or of x1 with itself (x2 None): in memory, or in a store that can be resumed.

    tile: rows and columns of one tile, in signals, or atoms of molecules; None chooses the largest that fits ``memory``,
    the budget in bytes (or "2GiB", "500MB") for everything beyond the signals and the result: see ``so3ntk.engine.evaluation.tiles`` for
    the formula. All local devices of JAX compute tiles, each within the budget.
    store: a path such as "run.zarr", an address such as "s3://bucket/run.zarr", or a store of the package zarr
    (``so3ntk.matrices.places``). Tiles are written as they are computed; the same
    call later computes what is missing or damaged, with the same bits. Needs the extra "store".
    client: a ``dask.distributed.Client`` whose workers compute the tiles, each within the budget; they write them
    themselves where they see the store. share: (i, n) computes every n-th tile from the i-th, for n processes that fill
    one store. progress: a bar with pairs of parts per second and the time left, in a log a line a minute.
    diagonal: the kernels of each input of x1 with itself alone, (N1,), as ``kernel_diagonal`` does.

    Returns an array (N1, N2) for one name of ``get``, ``Kernels`` for several, in the dtype of the signals; with a store
    the same as ``open_gram`` reads it. Only tiles on and below the diagonal are computed when x2 is None, and the result
    is symmetric to the bit. Kernels of molecules are summed over their atoms in float64.

    Raises MemoryError for a budget below one tile, PrecisionError for kernels that are not finite, StoreMismatchError for
    a store of another run, OSError for one that cannot be written, ValueError and TypeError for wrong arguments. Whatever stops a run,
    its finished tiles stay in the store.
    """
    names = check_get(get)
    _check_arguments(x2, store, client, share, diagonal, progress)
    if diagonal:
        return _as_asked(get, {name: kernel_diagonal(net, x1, name) for name in names})
    plan = make_plan(net.layers, net.quadrature, net.rtol, x1, x2)
    plan.space.warn_if_coarse(net, x1)
    if store is None:
        values = _in_memory(plan, names, tile, memory, client, progress)
        return _as_asked(get, dict(zip(names, values, strict=True)))
    opened = _open_or_create(net, plan, names, store, tile, memory, _workers(client) * share[1])
    _fill(opened, plan, store, client, share, progress)
    return _as_asked(get, {name: open_gram(store, name) for name in names})


def precise_gram(
    net: Network, x1: Any, x2: Any = None, get: str = "ntk", memory: str | int = "2GiB", progress: bool = False,
    client: Any = None,
) -> Float[np.ndarray, "n m ..."]:  # fmt: skip
    """One kernel as ``gram``, in float64: as it is summed where kernels are inner products, of features in the precision of the
    signals, so that it is positive semi-definite to float64's rounding; elsewhere what ``gram`` has."""
    names = check_get(get)
    _check_arguments(x2, None, client, (0, 1), False, progress)
    plan = make_plan(net.layers, net.quadrature, net.rtol, x1, x2)
    plan.space.warn_if_coarse(net, x1)
    if plan.features is not None:
        plan = dataclasses.replace(plan, result=np.dtype(np.float64))
    return np.asarray(_in_memory(plan, names, None, memory, client, progress)[0], np.float64)


def _in_memory(
    plan: Plan, names: tuple[str, ...], tile: int | None, memory: str | int, client: Any, progress: bool
) -> list[np.ndarray]:
    tiling = make_tiling(plan, tile, memory, _workers(client))
    matrices = Matrices(plan, names, tiling)
    _compute(Work(plan, names, tiling), tiling.tiles, matrices.write, client, None, progress)
    return matrices.values


def _check_arguments(
    x2: object, store: object, client: object, share: tuple[int, int], diagonal: bool, progress: bool
) -> None:
    check_flag(progress, "gram", "progress")
    check_flag(diagonal, "gram", "diagonal")
    check_place(store)
    whole = isinstance(share, tuple) and len(share) == 2 and all(isinstance(k, int) for k in share)
    if not whole or not 0 <= share[0] < share[1]:
        raise ValueError(f"gram: expected share to be (i, n) with 0 <= i < n, got {share!r}.")
    if share[1] > 1 and store is None:
        raise ValueError("gram: share= divides the tiles of a store among processes; pass store= as well.")
    if client is not None and not (hasattr(client, "nthreads") and hasattr(client, "submit")):
        raise TypeError(
            f"gram: expected client to be a dask.distributed.Client, got {client!r}. Of an address make one with Client(address)."
        )
    if client is not None:
        check_open(client)
    if diagonal and (x2 is not None or store is not None or client is not None):
        raise ValueError("gram: diagonal=True is for one batch in memory, without x2, store and client.")


def _as_asked(get: str | Sequence[str], found: dict[str, Any]) -> Any:
    return found[get] if isinstance(get, str) else Kernels(found.get("nngp"), found.get("ntk"))


def _workers(client: Any) -> int:
    """How many tiles are computed at a time."""
    if client is None:
        return len(jax.local_devices())
    return count_threads(client)


def _open_or_create(
    net: Network, plan: Plan, names: tuple[str, ...], store: Any, tile: int | None, memory: str | int, workers: int
) -> GramStore:
    """The store of this run, whose tiling is kept if there is one already."""
    description = fingerprint(net, plan)
    opened = open_store(store)
    if opened is None:
        tiling = make_tiling(plan, tile, memory, workers)
        opened = create_store(store, tiling, names, plan.dtype, plan.shape, description)
    opened.require(description, names, tile)
    tiling = opened.tiling
    needed = bytes_of(plan, tiling.side, tiling.cell, tiling.cells)
    if needed > parse_memory(memory):
        raise MemoryError(
            f"gram: the tiles of {opened.where} need {-(-needed // 2**20)} MiB, more than the budget of "
            f"{parse_memory(memory) // 2**20} MiB. Raise memory=, or begin another store."
        )
    return opened


def _fill(opened: GramStore, plan: Plan, store: Any, client: Any, share: tuple[int, int], progress: bool) -> None:
    """Compute what a share of a store misses, damaged tiles included."""
    work = Work(plan, opened.names, opened.tiling)
    own = opened.tiling.tiles[share[0] :: share[1]]
    missing = set(opened.missing())
    damaged = opened.damaged([tile for tile in own if tile not in missing])
    if damaged:
        warn(f"gram: tiles {damaged} of {opened.where} are damaged and are computed again.")
    todo = [tile for tile in own if tile in missing or tile in damaged]
    if not todo:
        return
    opened.require_writable()
    opened.warn_of_other_versions()
    try:
        _compute(work, todo, opened.write, client, store, progress)
    except KeyboardInterrupt:
        done = len(opened.tiling.tiles) - len(opened.missing())
        raise KeyboardInterrupt(
            f"gram: interrupted; {done} of {len(opened.tiling.tiles)} tiles are kept in {opened.where}. The same call resumes."
        ) from None


def _compute(work: Work, todo: list, write: Callable, client: Any, store: Any, progress: bool) -> None:
    pairs = work.pairs()
    total = int(sum(pairs[tile] for tile in todo))
    with show_progress(total, " pairs", "Gram matrix", progress) as bar:
        if client is None:
            run_here(work, todo, write, bar.update)
        else:
            run_on_cluster(work, todo, write, bar.update, client, store)
