"""What a Gram matrix will take: pairs, memory and time, from a short measured sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from so3ntk.basics.arguments import is_number
from so3ntk.engine.evaluation.moments import INPUTS, inner_products
from so3ntk.engine.evaluation.tiles import Tiling, bytes_of, dispatch, make_tiling
from so3ntk.engine.network import Network, check_get
from so3ntk.engine.plan import Plan, make_plan, parts_of, split_at_reduction
from so3ntk.matrices.work import Work


@dataclass(frozen=True)
class Estimate:
    """What ``gram`` will take on this machine.

    pairs: of parts (signals, or atoms of molecules) in the tiles to compute. tiles: their number. side: parts along a
    side of one. memory: bytes beyond signals and result, for each device. result: bytes of the matrices. seconds: of
    computing on all local devices, without compiling and without writing. pairs_per_second: the same as a rate.
    """

    pairs: int
    tiles: int
    side: int
    memory: int
    result: int
    seconds: float
    devices: int

    @property
    def pairs_per_second(self) -> float:
        """Of all local devices together."""
        return self.pairs / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return (
            f"{self.pairs:,} pairs in {self.tiles} tiles of up to {self.side} x {self.side}; {self.memory / 2**20:,.0f} MiB "
            f"beyond the result of {self.result / 2**20:,.0f} MiB; about {_duration(self.seconds)} at "
            f"{self.pairs_per_second:,.0f} pairs/s on {self.devices} device{'s' * (self.devices > 1)}"
        )


def estimate(
    net: Network,
    x1: Any,
    x2: Any = None,
    get: str | Sequence[str] = "ntk",
    *,
    tile: int | None = None,
    memory: str | int = "2GiB",
    seconds: float = 1.0,
    inducing: int | None = None,
) -> Estimate:
    """Pairs, memory and time of ``gram(net, x1, x2, get, tile=tile, memory=memory)``, of which nothing is kept.

    inducing: in place of x2, so many parts of x1 (atoms of molecules, else inputs), in proportion to their kinds: the features of
    ``InducingRegressor``, which are most of its work; its solves cost about n m^2 + m^3 operations beside them.
    Times cells of pairs drawn at random for about ``seconds``, after compiling; the time is that of one cell times the
    number of cells, spread over the local devices. Where kernels are inner products, features and products are timed.
    On a machine that does other work too it is as uncertain as that.
    Raises what ``gram`` raises for wrong arguments.
    """
    names = check_get(get)
    if not is_number(seconds) or not 0 < seconds < np.inf:
        raise ValueError(f"estimate: expected seconds, the time to measure for, to be a number > 0, got {seconds!r}.")
    if inducing is not None:
        x2 = _inducing(net, x1, x2, inducing)
    plan = make_plan(net.layers, net.quadrature, net.rtol, x1, x2)
    devices = len(jax.local_devices())
    tiling = make_tiling(plan, tile, memory, devices)
    work = Work(plan, names, tiling)
    pairs = work.pairs()
    total = int(sum(pairs[place] for place in tiling.tiles))
    whole = _seconds_of_cells if plan.features is None else _seconds_of_products
    spent = whole(work, seconds) / min(devices, max(1, len(tiling.tiles)))
    result = (
        len(names) * plan.rows.count * plan.columns.count * int(np.prod(plan.shape)) * np.dtype(plan.dtype).itemsize
    )
    needed = bytes_of(plan, tiling.side, tiling.cell, tiling.cells)
    return Estimate(total, len(tiling.tiles), tiling.side, needed, result, spent, devices)


def _inducing(net: Network, x1: Any, x2: Any, count: int) -> Any:
    """So many parts of x1, evenly spaced among those of a kind."""
    reduction = split_at_reduction(net.layers)[1]
    kinds = parts_of(reduction, x1).kind
    if x2 is not None or not is_number(count) or not 1 <= count <= len(kinds):
        raise ValueError(
            f"estimate: expected inducing, in place of x2, to be from 1 to the {len(kinds)} parts of x1, got {count!r}"
            f"{'' if x2 is None else ' beside x2'}."
        )
    order = np.argsort(kinds, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, int(count)).round().astype(int)]
    return x1[chosen] if reduction is None else reduction.take(x1, chosen)


def _seconds_of_cells(work: Work, seconds: float) -> float:
    """Of all cells of pairs."""
    return _count_cells(work) * _seconds_per_cell(work.plan, work.names, work.tiling, seconds)


def _seconds_of_products(work: Work, seconds: float) -> float:
    """Of the features of each tile's inputs, and of their products, for each kind of parts."""
    plan, features = work.plan, work.plan.features
    assert features is not None
    rng, owner = np.random.default_rng(0), plan.rows.owner
    drawn = np.flatnonzero(np.isin(owner, rng.choice(plan.rows.count, min(INPUTS, plan.rows.count), replace=False)))
    kinds = [drawn[plan.rows.kind[drawn] == kind] for kind in np.unique(plan.rows.kind[drawn])]

    def represent() -> list[Any]:
        return [features.features(plan.f, parts, owner) for parts in kinds]

    found = represent()  # compile
    held = sum(len(moments.inputs) for moments in found)
    large = max(found, key=lambda moments: len(moments.u)).v
    side = min(512, max(len(large), plan.rows.count))
    large = np.resize(large, (side, large.shape[1]))
    each = _median_seconds(represent, seconds / 2) / held
    product = _median_seconds(lambda: inner_products(large, large), seconds / 2) / side**2
    product *= features.components**2  # a pair of inputs is a pair of rows for each entry of its block
    kind = held / min(INPUTS, plan.rows.count)  # of an input, on average
    bounds = [np.diff(work.tiling.rows), np.diff(work.tiling.columns)]
    spent = 0.0
    for i, j in work.tiling.tiles:
        own = work.tiling.symmetric and i == j
        n, m = int(bounds[0][i]), int(bounds[1][j])
        spent += kind * (each * (n if own else n + m) + product * n * m)
    return spent


def _median_seconds(run: Callable[[], Any], seconds: float) -> float:
    """Of calls for about so long, once compiled."""
    start, times = time.perf_counter(), []
    while not times or (time.perf_counter() - start < seconds and len(times) < 20):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def _count_cells(work: Work) -> int:
    """The cells of all tiles."""
    first, second = (-(-count // t) for count, t in zip(work.counts(), work.tiling.cell, strict=True))
    whole = first @ second.T
    total = int(sum(whole[place] for place in work.tiling.tiles))
    if work.tiling.symmetric:  # cells above the diagonal are left out
        total -= int((first * (first - 1) // 2).sum())
    return total


def _seconds_per_cell(plan: Plan, names: tuple[str, ...], tiling: Tiling, seconds: float) -> float:
    kinds, counts = np.unique(plan.rows.kind, return_counts=True)
    met = np.array([(plan.columns.kind == kind).sum() for kind in kinds]) * counts
    if not met.sum():
        return 0.0
    rng, needed = np.random.default_rng(0), plan.names_needed(names)
    drawn = rng.choice(kinds, tiling.cells, p=met / met.sum())
    rows, columns = (
        np.stack([np.sort(rng.choice(np.flatnonzero(parts.kind == kind), t)) for kind in drawn])
        for parts, t in zip((plan.rows, plan.columns), tiling.cell, strict=True)
    )
    run = lambda: jax.block_until_ready(dispatch(plan, needed, rows, columns, tiling.cells))  # noqa: E731
    run()  # compile
    return _median_seconds(run, seconds) / tiling.cells


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
