"""Computing tiles on the workers of a dask cluster.

Each tile is a task of its own that may run twice. The plan is pickled once; it is a task too, which dask hands from worker
to worker, once to each, and restores from the scheduler when all workers that had it are gone (data that were scattered
would be lost). Each worker process loads it once. A worker that finds the store of the run at its path writes tiles itself
and answers that they are complete; any other sends the kernels back. When a worker dies dask gives its tasks to others.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from so3ntk.basics.arguments import is_address
from so3ntk.basics.double import double_precision
from so3ntk.matrices.store import GramStore, open_store
from so3ntk.matrices.work import Report, Tile, Work, Write

#: Tasks on the cluster at a time, for each thread of its workers: few enough to be taken back.
AHEAD = 3
#: The plan that this worker process computes with, and the store if it sees it, by the key of the run: one run at a time,
#: since plans are large.
_loaded: dict[str, tuple[Work, GramStore | None]] = {}
_loading = threading.Lock()


def check_open(client: Any) -> None:
    """ValueError for a client that was closed, TypeError for one whose answers must be awaited."""
    if getattr(client, "status", "running") in ("closed", "closing"):
        raise ValueError(
            f"gram: the client {client!r} is closed: it was closed itself, or its cluster was. Make a new one, "
            "Client(cluster) or Client(address), and keep it open until gram returns."
        )
    if getattr(client, "asynchronous", False):
        raise TypeError("gram: expected a client that waits for its answers: Client(...) without asynchronous=True.")


def count_threads(client: Any) -> int:
    """How many tiles the workers of a cluster compute at a time; 1 where there is none yet."""
    return max(1, sum(client.nthreads().values()))


def run_on_cluster(
    work: Work, todo: Sequence[Tile], write: Write, report: Report, client: Any, store: Any = None
) -> None:
    """Compute tiles on the workers of a ``dask.distributed.Client``; they or we write them."""
    from dask.distributed import as_completed

    run = _Run(work, client, store)
    pairs, left = work.pairs(), list(reversed(todo))
    pool: Any = as_completed(with_results=True)  # they come with what says that a task is done
    running: dict[str, tuple[Any, Tile]] = {}

    def submit() -> None:
        most = AHEAD * count_threads(client)
        while left and len(running) < most:
            tile = left.pop()
            future = run.submit(tile)
            running[future.key] = future, tile
            pool.add(future)

    try:
        submit()
        while running:
            future, kernels = next(pool)
            _, tile = running.pop(future.key)
            if isinstance(kernels, BaseException):  # cancelled, by someone else
                raise kernels
            if kernels is not None:
                write(*tile, kernels)
            report(float(pairs[tile]))
            submit()
    finally:  # take back what has not run
        client.cancel([future for future, _ in running.values()])


class _Run:
    """The tasks of one call of gram."""

    def __init__(self, work: Work, client: Any, store: Any):
        import cloudpickle

        plan = work.plan
        rows, columns = plan.rows._replace(signals=None), plan.columns._replace(signals=None)
        lean = replace(work, plan=replace(plan, rows=rows, columns=columns))
        self.client, self.key = client, os.urandom(8).hex()
        self.path = _name_elsewhere(store)
        opened = None if self.path is None else open_store(self.path)
        self.store_run = None if opened is None else opened.attributes["run"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # once
            self.data = client.submit(_hold, cloudpickle.dumps(lean), pure=False)

    def submit(self, tile: Tile) -> Any:
        """The task of a tile."""
        double = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        return self.client.submit(
            _tile_task, self.data, self.key, *tile, double, self.path, self.store_run, pure=False
        )  # fmt: skip


def _name_elsewhere(store: object) -> str | None:
    """How workers, whose working directory is another, call a store; None for one of this process."""
    if not isinstance(store, str | os.PathLike):
        return None
    return str(store) if is_address(store) else os.path.abspath(store)


def _hold(payload: bytes) -> bytes:
    return payload


def _tile_task(
    payload: bytes, key: str, i: int, j: int, double: bool, path: str | None, store_run: str | None
) -> list[np.ndarray] | None:
    """The kernels of a tile; None if they were written to the store."""
    with double_precision(double):
        work, store = _load(payload, key, path, store_run)
        if store is not None and store.is_complete(i, j) and not store.damaged([(i, j)]):
            return None  # by an earlier try of this task
        kernels = work.compute(i, j)
    if store is None:
        return kernels
    store.write(i, j, kernels)
    return None


def _load(payload: bytes, key: str, path: str | None, store_run: str | None) -> tuple[Work, GramStore | None]:
    import cloudpickle

    with _loading:
        if key not in _loaded:
            _loaded.clear()
            store = None if path is None else _same_store(path, store_run)
            _loaded[key] = cloudpickle.loads(payload), store
        return _loaded[key]


def _same_store(path: str, run: str | None) -> GramStore | None:
    """The store at a path, if it is there on this machine too."""
    try:
        store = open_store(path)
    except (ValueError, OSError, ImportError):
        return None
    return store if store is not None and store.attributes["run"] == run else None
