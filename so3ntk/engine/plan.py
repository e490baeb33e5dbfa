"""What one call computes: signals, motions and tiles, after all checks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from so3ntk.engine.evaluation.evaluate import (
    Motions,
    by_motion,
    geometry_after,
    homogeneity_of,
    is_batched,
    readout_of,
    tower_span,
)
from so3ntk.engine.evaluation.nodes import tabulation
from so3ntk.engine.evaluation.tower import Nodes, node_count
from so3ntk.engine.layers.base import Layer, flatten, is_traced
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.layers.reduction import Parts, Reduction
from so3ntk.engine.layers.source import Lifting, Source
from so3ntk.engine.scaling import Scaling, balance, require_variances
from so3ntk.engine.state import State
from so3ntk.sphere import global_support as so3
from so3ntk.sphere.degrees import require_degrees
from so3ntk.sphere.global_support import Grid
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.layers.lift import Lift
from so3ntk.sphere.local_support import Turn
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid, Quadrature, choose, with_positions

#: Bytes of fields that one tile may hold: what fits the cache of a core.
TILE_BYTES = 8 * 2**20
#: Values of one pair's fields, at all motions, that take tens of milliseconds for each layer.
LARGE_PAIR = 2**19


@dataclass
class Plan:
    """The evaluation of a network on two batches.

    layers: those before a sum over parts; tail: those after it. f, g: signals as arrays; rows, columns: who owns them.
    numbers: of one pair's field, as many as are held at once. scaling: of signals far from one, by powers of two.
    """

    layers: tuple[Layer, ...]
    tail: tuple[Layer, ...]
    motions: Motions
    f: Any
    g: Any
    rows: Parts
    columns: Parts
    symmetric: bool
    reduces: bool
    dtype: Any
    numbers: int
    scaling: Scaling | None = None

    @property
    def accumulator(self):
        """The dtype sums over parts are kept in; kernels that are not summed keep their own."""
        return np.float64 if self.reduces else self.dtype

    @property
    def bytes_per_pair(self) -> int:
        """Of a tile's result, on the device and on the host."""
        return (4 * jnp.dtype(self.dtype).itemsize + 16 * self.reduces) * math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one pair's kernel: () for a number, (a, a) for the block of an irrep."""
        readout = readout_of(self.layers)
        return () if readout is None else readout.shape

    @property
    def bytes_per_row(self) -> int:
        """Of one signal in a dispatch to the device, and of its copy."""
        leaves = jax.tree.leaves(self.f)
        return 2 * sum(int(np.prod(a.shape[1:])) for a in leaves) * jnp.dtype(self.dtype).itemsize

    @property
    def bytes_fixed(self) -> int:
        """Of the tables and of one tile's fields."""
        arrays = jax.tree.leaves((self.motions.base, self.motions.fine))
        return sum(a.size * a.dtype.itemsize for a in arrays) + 3 * TILE_BYTES + self.bytes_per_tile_pair

    @property
    def bytes_per_tile_pair(self) -> int:
        """Of one pair's fields: one number per motion where layers collapse, else several.

        For irreps collapsed fields are written: measured, tiles of a thirtieth take a third of the time.
        """
        copies = 8 if not self.motions.nodes else 32 if self.shape else 1
        return max(1, self.numbers) * copies * jnp.dtype(self.dtype).itemsize

    @property
    def values(self) -> int:
        """Of one pair's fields at all motions, where layers are evaluated motion by motion."""
        if not by_motion(self.layers):
            return self.numbers
        return self.numbers * len(jax.tree.leaves(self.motions.base)[0])

    def tile(self, n: int, m: int) -> tuple[int, int]:
        """Rows and columns of a cell, what is computed at once: powers of two up to 32 whose fields fit the cache.

        Small batches are padded to 8, so that all of them share one compiled program; but where a pair costs
        tens of milliseconds, to 2.
        """
        side = 32
        while side > 1 and side**2 * self.bytes_per_tile_pair > TILE_BYTES:
            side //= 2
        least = 2 if is_batched(self.layers) or self.values > LARGE_PAIR else 8
        return min(side, max(least, _power_of_two(n))), min(side, max(least, _power_of_two(m)))

    @property
    def largest_tile(self) -> int:
        """Parts along a tile's side where memory allows: seconds of work, which is what an interrupted run loses.

        Sums over parts take four times as many: the parts of each kind are gathered in cells of their own.
        """
        return (64 if by_motion(self.layers) else 512) * (4 if self.reduces else 1)

    @property
    def symmetrise(self) -> bool:
        """Whether K(f', f) is K(f, f')^T only to the quadrature's error, so that symmetric matrices need both.

        Filters on caps: positions are those of the first signal. Elsewhere it holds to rounding.
        """
        return self.symmetric and is_batched(self.layers)

    @property
    def one_by_one(self) -> bool:
        """Whether each kernel costs less alone than with the other: many pairs of towers that end the network.

        Evaluated together, the values at all motions are written; for few pairs a second program costs more.
        """
        ends = bool(self.motions.nodes) and tower_span(self.layers) == len(self.layers)
        return ends and len(self.rows.owner) * len(self.columns.owner) * self.numbers >= so3.MANY

    def names_needed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The kernels to compute: layers after a sum over parts mix NNGP and NTK."""
        return ("nngp", "ntk") if self.tail else names

    def finish(self, names: tuple[str, ...], sums: dict[str, Any]) -> list[Any]:
        """The layers after the sum over parts, and the dtype of the signals."""
        if self.tail:
            state: Any = State(geometry_after(self.layers), sums["nngp"], sums["ntk"], None, None)
            for layer in self.tail:
                state = layer(state)
            sums = {"nngp": state.nngp, "ntk": state.ntk}
        return [sums[name] if sums[name].dtype == self.dtype else sums[name].astype(self.dtype) for name in names]


def make_plan(layers: tuple[Layer, ...], quadrature: Quadrature | None, rtol: float, x1: Any, x2: Any) -> Plan:
    """Check a network and two batches (x2 None: x1 with itself) and lay out the work."""
    require_pooled(layers)
    layers, reduction, tail = split_at_reduction(layers)
    rows, columns = parts_of_both(reduction, x1, x2)
    f, g, dtype = read_batches(layers, rows.signals, columns.signals)
    require_degrees(layers, rows.signals)
    if reduction is None:  # in a sum over parts those that vanish to rounding count for nothing
        require_variances(layers, f, "x1")
        require_variances(layers, g, "x2")
    f, g, scaling = balance(layers, f, g)
    grid = choose_grid(layers, quadrature, rtol, rows.signals)
    pairs = math.prod(len(jax.tree.leaves(batch)[0]) for batch in (f, g))
    motions = load_motions(layers, grid, rows.signals, dtype, _nodes(layers, f, g), pairs)
    numbers = 1 if motions.base is None else motions.base.size  # pyright: ignore
    lift = own_motions(layers, f)
    if lift is not None:
        motions = Motions(lift.motions(f), None, None, motions.nodes)
        numbers = lift.numbers_per_pair(f, layers) or numbers
    return Plan(layers, tail, motions, f, g, rows, columns, x2 is None, reduction is not None, dtype, numbers, scaling)


def own_motions(layers: tuple[Layer, ...], f: Any) -> Lifting | None:
    """The lifting layer of a geometry that lists its motions itself, without a quadrature; else None."""
    lifts = [layer for layer in flatten(layers) if isinstance(layer, Lifting)]
    return next((lift for lift in lifts if lift.numbers_per_pair(f, layers) is not None), None)


def _nodes(layers: tuple[Layer, ...], f: Any, g: Any) -> Nodes | None:
    """Where the network's tower is tabulated; None without one that a polynomial represents.

    Traced variances cannot be judged: then only towers whose shape does not depend on them collapse.
    """
    span = tower_span(layers)
    if span is None:
        return None
    if is_traced((layers, f, g)):
        return Nodes(node_count(jax.tree.leaves(f)[0].dtype)) if homogeneity_of(layers[:span]) == 1 else None
    return tabulation(layers, f, g)


def ends_in_field(layers: tuple[Layer, ...]) -> bool:
    """Whether the network lifts and never pools: its kernel is a function of motions."""
    inside = tuple(flatten(layers))
    return any(isinstance(i, Lifting) for i in inside) and not any(isinstance(i, Readout) for i in inside)


def require_pooled(layers: tuple[Layer, ...]) -> None:
    """ValueError if there is no one number per pair of inputs."""
    if ends_in_field(layers):
        raise ValueError(
            "the network ends in features on the group, so its kernel is a function of motions, which "
            "net.kernel_fn(x1, x2) returns. For one number per pair of inputs add GroupPool() after the last group layer, for vectors and tensors IrrepPool(l)."
        )


def read_batches(layers: tuple[Layer, ...], x1: Any, x2: Any) -> tuple[Any, Any, Any]:
    """Two batches as arrays of one dtype, and that dtype, after checking both and that they fit each other.

    On the host, unless traced: parts of batches are chosen there, without a program for each size.
    """
    f, g = (read_signals(layers, signals) for signals in (x1, x2))
    _check_batches(f, g)
    dtype = np.result_type(*(leaf.dtype for leaf in jax.tree.leaves((f, g))))
    f, g = jax.tree.map(lambda a: a.astype(dtype) if is_traced(a) else np.asarray(a, dtype), (f, g))
    return f, g, dtype


def read_signals(layers: tuple[Layer, ...], signals: Any) -> Any:
    """A batch as arrays, after every layer that reads it has checked it."""
    sources = [layer for layer in flatten(layers) if isinstance(layer, Source)]
    if not sources:
        raise ValueError(
            "kernel_fn: this network has no first layer that reads signals, so it has no kernel of its own. Begin it "
            "with Lift() or Flatten(), or use it as a block inside such a network."
        )
    return [source.arrays(signals) for source in sources][0]  # noqa: RUF015 - all of them check


def choose_grid(
    layers: tuple[Layer, ...], quadrature: Quadrature | None, rtol: float, signals: Any
) -> Quadrature | None:
    """The grid given, or that of the rule; None for networks without motions."""
    lifts = [layer for layer in flatten(layers) if isinstance(layer, Lift)]
    if not lifts:
        return None
    bandlimit = max(lift.kept_bandlimit(signals.bandlimit) for lift in lifts)
    return with_positions(quadrature or choose(bandlimit, layers, rtol), bandlimit, layers)


def load_motions(
    layers: tuple[Layer, ...],
    quadrature: Quadrature | None,
    signals: Any,
    dtype: Any,
    nodes: Nodes | None,
    pairs: int = 0,
) -> Motions:
    """The tables of a grid, for the degrees of the signals and of the filters; and where towers are tabulated.

    pairs: how many will be computed, which decides between programs that start and that run fast.
    """
    if quadrature is None:
        return Motions(None, None, None, nodes)
    kept = [layer.kept_bandlimit(signals.bandlimit) for layer in flatten(layers) if isinstance(layer, Lift)]
    spectra = [layer.bandlimit for layer in flatten(layers) if isinstance(layer, GroupConv) and layer.bandlimit]
    readouts = [layer.irrep.degree + 1 for layer in flatten(layers) if isinstance(layer, Readout) and layer.irrep]
    bandlimit = max(kept + spectra + readouts)
    if isinstance(quadrature, AdaptiveGrid) and nodes is None:
        quadrature = quadrature.fine  # alignments are measured where towers collapse
    if isinstance(quadrature, LocalGrid):
        groups = {layer.group for layer in flatten(layers) if isinstance(layer, Lift)}
        if len(groups) > 1:
            raise ValueError("Lift: with local support all branches need one group, got 'SO3' and 'O3'.")
        turns = Turn.load(quadrature.rotations, quadrature.positions, bandlimit, dtype, groups == {"O3"})
        return Motions(turns, None, None, None)
    if not isinstance(quadrature, AdaptiveGrid):
        return Motions(Grid.load(quadrature, bandlimit, dtype, pairs), None, None, nodes)
    base, fine = (Grid.load(grid, bandlimit, dtype, pairs) for grid in (quadrature.base, quadrature.fine))
    return Motions(base, fine, quadrature.threshold, nodes)


def parse_memory(memory: str | int) -> int:
    """Bytes from a number or from a string such as "2GiB" or "500MB". ValueError for anything else."""
    if isinstance(memory, int | np.integer) and not isinstance(memory, bool) and memory > 0:
        return int(memory)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", memory, re.I) if isinstance(memory, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError(f'memory: expected bytes or a string such as "2GiB" or "500MB", got {memory!r}.')
    step = 1024 if match[3] else 1000
    return int(float(match[1]) * step ** " KMGT".index(match[2].upper() or " "))


def split_at_reduction(
    layers: tuple[Layer, ...],
) -> tuple[tuple[Layer, ...], Reduction | None, tuple[Layer, ...]]:
    """The layers before a sum over parts, that layer, and those after it."""
    for index, layer in enumerate(layers):
        if isinstance(layer, Reduction):
            tail = layers[index + 1 :]
            if any(later.uses_variances for later in tail):
                raise NotImplementedError(
                    f"{type(layer).__name__}: nonlinearities after the sum over parts are not implemented; "
                    "put them before it."
                )
            return layers[:index], layer, tail
    return layers, None, ()


def parts_of(reduction: Reduction | None, x: Any) -> Parts:
    """The parts of a batch; without a sum over parts, the inputs themselves."""
    if reduction is not None:
        return reduction.parts(x)
    if not hasattr(x, "__len__"):
        raise TypeError(
            f"kernel_fn: expected a batch (a SphereSignal, Environments, an array of images or vectors), got "
            f"{type(x).__name__}."
        )
    count = len(x)
    return Parts(x, np.arange(count), np.zeros(count, int), count)


def _check_batches(f: Any, g: Any) -> None:
    for a, b in zip(jax.tree.leaves(f), jax.tree.leaves(g), strict=True):
        if a.shape[1:] != b.shape[1:]:
            raise ValueError(
                f"kernel: the two batches do not fit each other: one input has shape {a.shape[1:]} in x1 and {b.shape[1:]} "
                "in x2 (channels last). Give both the same size and channels; signals on the sphere by x.with_bandlimit."
            )
    for name, batch in (("x1", f), ("x2", g)):
        for leaf in jax.tree.leaves(batch):
            if not is_traced(leaf):
                _check_finite(name, leaf)


def _check_finite(name: str, leaf: Array) -> None:
    bad = ~np.isfinite(np.asarray(leaf)).all(axis=tuple(range(1, leaf.ndim)))
    if bad.any():
        raise ValueError(f"kernel: {name} holds NaN or infinity, first in signal {int(np.argmax(bad))}.")


def _power_of_two(n: int) -> int:
    return 2 ** max(0, (n - 1).bit_length())


def parts_of_both(reduction: Reduction | None, x1: Any, x2: Any) -> tuple[Parts, Parts]:
    """The parts of two batches (x2 None: x1 with itself), after checking that they belong together."""
    rows = parts_of(reduction, x1)
    if x2 is None:
        return rows, rows
    columns = parts_of(reduction, x2)
    if reduction is not None:
        reduction.check_pair(x1, x2)
    return rows, columns
