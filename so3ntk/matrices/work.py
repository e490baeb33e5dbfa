"""Computing tiles on the devices of this process."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from so3ntk.basics.double import double_precision
from so3ntk.engine.evaluation.tiles import Tiling, compute_tile
from so3ntk.engine.layers.base import is_traced
from so3ntk.engine.plan import Plan

Tile = tuple[int, int]
Write = Callable[[int, int, list[np.ndarray]], object]
Report = Callable[[float], object]


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be computed: the kernels ``names`` of a plan, cut into tiles."""

    plan: Plan
    names: tuple[str, ...]
    tiling: Tiling

    def compute(self, i: int, j: int, report: Report = lambda pairs: None) -> list[np.ndarray]:
        """The kernels of a tile. PrecisionError, naming the inputs, if one is not finite."""
        return compute_tile(self.plan, self.names, self.tiling, i, j, report)

    def counts(self) -> list[np.ndarray]:
        """The parts of each kind in each run of rows, (n, kinds), and of columns, (m, kinds)."""
        kinds = np.union1d(self.plan.rows.kind, self.plan.columns.kind)
        counts = []
        for parts, bounds in ((self.plan.rows, self.tiling.rows), (self.plan.columns, self.tiling.columns)):
            run, kind = np.searchsorted(bounds, parts.owner, side="right") - 1, np.searchsorted(kinds, parts.kind)
            count = np.bincount(run * len(kinds) + kind, minlength=(len(bounds) - 1) * len(kinds))
            counts.append(count.reshape(len(bounds) - 1, len(kinds)))
        return counts

    def pairs(self) -> np.ndarray:
        """The pairs of parts of each tile, (n, m)."""
        rows, columns = self.counts()
        return rows @ columns.T

    def on(self, device: Any) -> Work:
        """The same with its tables and hyperparameters on a device; signals stay on the host, which deals them out."""
        move = lambda tree: jax.tree.map(lambda a: jax.device_put(a, device) if eqx.is_array(a) else a, tree)  # noqa: E731
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, evaluation=move(self.plan.evaluation)))


def run_here(work: Work, todo: Sequence[Tile], write: Write, report: Report) -> None:
    """Compute and write tiles on all local devices: one after the other, or one at a time on each."""
    devices = jax.local_devices()
    if is_traced(jnp.zeros(())):  # a caller is being traced, while our signals are not
        with jax.ensure_compile_time_eval():
            _run_on_one(work, todo, write, report)
    elif len(devices) == 1 or len(todo) < 2:
        _run_on_one(work, todo, write, report)
    else:
        _run_on_all(work, todo, write, report, devices[: len(todo)])


def _run_on_one(work: Work, todo: Sequence[Tile], write: Write, report: Report) -> None:
    for i, j in todo:
        write(i, j, work.compute(i, j, report))


def _run_on_all(work: Work, todo: Sequence[Tile], write: Write, report: Report, devices: Sequence[Any]) -> None:
    """A thread for each device. An error or an interrupt ends all after the tiles they are at, which are written."""
    tiles, lock, stop = iter(todo), threading.Lock(), threading.Event()
    double = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]

    def locked_report(pairs: float) -> None:
        with lock:
            report(pairs)

    def serve(device: Any) -> None:
        with double_precision(double), jax.default_device(device):
            own = work.on(device)
            while not stop.is_set():
                with lock:
                    tile = next(tiles, None)
                if tile is None:
                    return
                kernels = own.compute(*tile, locked_report)
                with lock:
                    write(*tile, kernels)

    with ThreadPoolExecutor(len(devices)) as pool:
        futures = [pool.submit(serve, device) for device in devices]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
        for future in futures:
            future.result()
