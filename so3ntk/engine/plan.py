"""What one call computes, after all checks: signals, their evaluation, and how much of it at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from so3ntk.engine.demand import geometry_after, homogeneity_of, readout_of, require_pooled, tower_span
from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.evaluation.moments import FeatureMap, feature_map
from so3ntk.engine.evaluation.nodes import tabulation
from so3ntk.engine.evaluation.polynomial import is_polynomial
from so3ntk.engine.evaluation.tower import Nodes, node_count
from so3ntk.engine.layers.base import Layer, flatten, is_traced
from so3ntk.engine.layers.reduction import Parts, Reduction
from so3ntk.engine.layers.source import Source
from so3ntk.engine.quadrature import Quadrature
from so3ntk.engine.scaling import Scaling, balance, require_variances
from so3ntk.engine.sizes import PROCESSOR, Sizes, sizes_here
from so3ntk.engine.space import Space, space_of
from so3ntk.engine.state import State

#: Values of one pair's fields, at all motions, that take tens of milliseconds for each layer.
LARGE_PAIR = 2**19
#: Values of kernels from which on a faster program is worth seconds of compilation: 150,000 pairs at 1,792 motions.
MANY = 2**28
#: How much larger tiles of inner products are than tiles of pairs.
FEATURED = 8


@dataclass
class Plan:
    """The evaluation of a network on two batches.

    space, sampling, evaluation: of the layers before a sum over parts; tail: the layers after it. f, g: signals as arrays;
    rows, columns: who owns them. numbers: of one pair's field, as many as are held at once. sizes: of cells and tiles on
    this platform. scaling: of signals far from one, by powers of two. features: where kernels are inner products of some. result:
    the dtype of kernels, that of the signals unless a caller keeps what is summed in float64.
    """

    space: Space
    sampling: Quadrature | None
    evaluation: Evaluation
    tail: tuple[Layer, ...]
    f: Any
    g: Any
    rows: Parts
    columns: Parts
    symmetric: bool
    reduces: bool
    dtype: Any
    numbers: int
    sizes: Sizes
    scaling: Scaling | None = None
    features: FeatureMap | None = None
    result: Any = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those before a sum over parts."""
        return self.space.layers

    @property
    def accumulator(self):
        """The dtype sums over parts, and inner products, are kept in; other kernels keep their own."""
        return np.float64 if self.reduces or self.features is not None else self.dtype

    @property
    def result_dtype(self):
        """That of the kernels."""
        return self.dtype if self.result is None else self.result

    @property
    def bytes_per_pair(self) -> int:
        """Of a pair's result, on the device and on the host."""
        in_double = self.reduces or self.features is not None
        return (4 * jnp.dtype(self.dtype).itemsize + 16 * in_double) * math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one pair's kernel: () for a number, (a, a) for the block of an irrep."""
        readout = readout_of(self.layers)
        return () if readout is None else readout.shape

    @property
    def bytes_per_row(self) -> int:
        """Of one signal in a dispatch to the device, and of its copy."""
        leaves, itemsize = jax.tree.leaves(self.f), jnp.dtype(self.dtype).itemsize
        return 2 * sum(int(np.prod(a.shape[1:])) for a in leaves) * itemsize

    def bytes_of_products(self, side: int) -> int:
        """Of a tile whose kernels are inner products: features along both sides, and the products."""
        assert self.features is not None
        n, m = (-(-side * parts.count // max(1, len(parts.owner))) for parts in (self.rows, self.columns))
        return (n + m) * self.features.bytes_per_input(jnp.dtype(self.dtype).itemsize) + n * m * self.bytes_per_pair

    def bytes_fixed(self, cell: tuple[int, int]) -> int:
        """Of the tables and of a cell's fields."""
        arrays = jax.tree.leaves(self.evaluation.motions)
        fields = min(self.sizes.cell_bytes, math.prod(cell) * self.bytes_per_cell_pair)
        tables = sum(a.size * a.dtype.itemsize for a in arrays)
        return tables + 3 * max(PROCESSOR.cell_bytes, fields) + self.bytes_per_cell_pair

    @property
    def bytes_per_cell_pair(self) -> int:
        """Of one pair's fields: one number per motion where layers collapse, else several.

        For irreps collapsed fields are written: measured, cells of a thirtieth take a third of the time.
        """
        copies = 8 if not self.evaluation.is_tower else 32 if self.shape else 1
        return max(1, self.numbers) * copies * jnp.dtype(self.dtype).itemsize

    @property
    def values(self) -> int:
        """Of one pair's fields at all motions, where layers are evaluated motion by motion."""
        if not self.evaluation.motion_by_motion:
            return self.numbers
        return self.numbers * len(jax.tree.leaves(self.evaluation.motions)[0])

    def cell(self, n: int, m: int, memory: int | None = None) -> tuple[int, int]:
        """Rows and columns of a cell, what is computed at once: powers of two whose fields fit the platform's ``sizes``.

        Small batches are padded to 8, so that all of them share one compiled program; but where a pair costs
        tens of milliseconds, to 2. memory: a budget of bytes, of which the fields take an eighth where that is less.
        """
        side, limit = self.sizes.cell_side, self.sizes.cell_bytes
        if memory is not None:
            limit = min(limit, max(PROCESSOR.cell_bytes, memory // 8))
        while side > 1 and side**2 * self.bytes_per_cell_pair > limit:
            side //= 2
        least = 2 if self.evaluation.in_batches or self.values > LARGE_PAIR else 8
        return min(side, max(least, _power_of_two(n))), min(side, max(least, _power_of_two(m)))

    @property
    def largest_tile(self) -> int:
        """Parts along a tile's side where memory allows: seconds of work, which is what an interrupted run loses.

        Sums over parts take four times as many: the parts of each kind are gathered in cells of their own. Features, which each
        tile makes anew, eight times as many again.
        """
        if self.features is not None:
            return FEATURED * self.sizes.tile_side * (4 if self.reduces else 1)
        return self.sizes.tile_side // (8 if self.evaluation.motion_by_motion else 1) * (4 if self.reduces else 1)

    @property
    def symmetrise(self) -> bool:
        """Whether K(f', f) is K(f, f')^T only to the quadrature's error, so that symmetric matrices need both.

        Filters on caps: positions are those of the first signal. Elsewhere it holds to rounding.
        """
        return self.symmetric and not self.space.symmetric_to_rounding

    @property
    def one_by_one(self) -> bool:
        """Whether each kernel costs less alone than with the other: many pairs of towers that end the network.

        Evaluated together, the values at all motions are written; for few pairs a second program costs more.
        """
        ends = self.evaluation.is_tower and self.evaluation.span == len(self.layers)
        return ends and len(self.rows.owner) * len(self.columns.owner) * self.numbers >= MANY

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
        dtype = self.result_dtype
        return [sums[name] if sums[name].dtype == dtype else sums[name].astype(dtype) for name in names]


def make_plan(layers: tuple[Layer, ...], quadrature: Quadrature | None, rtol: float, x1: Any, x2: Any) -> Plan:
    """Check a network and two batches (x2 None: x1 with itself) and lay out the work."""
    require_pooled(layers)
    layers, reduction, tail = split_at_reduction(layers)
    space = space_of(layers)
    rows, columns = parts_of_both(reduction, x1, x2)
    f, g, dtype = read_batches(layers, rows.signals, columns.signals)
    space.check(rows.signals)
    if reduction is None:  # in a sum over parts those that vanish to rounding count for nothing
        require_variances(layers, f, "x1")
        require_variances(layers, g, "x2")
    f, g, scaling = balance(layers, f, g)
    sampling = space.sampling(rows.signals, quadrature, rtol)
    pairs = math.prod(len(jax.tree.leaves(batch)[0]) for batch in (f, g))
    evaluation = space.evaluation(sampling, rows.signals, f, dtype, _nodes(layers, f, g), pairs)
    numbers, summed = space.numbers(f, evaluation), reduction is not None
    known = scaling is None and pairs > 0 and space.is_exact(rows.signals, sampling)
    features = feature_map(layers, evaluation, f, g, summed) if known else None
    return Plan(space, sampling, evaluation, tail, f, g, rows, columns, x2 is None, summed, dtype,
                numbers, sizes_here(), scaling, features)  # fmt: skip


def _nodes(layers: tuple[Layer, ...], f: Any, g: Any) -> Nodes | None:
    """Where the network's tower is tabulated; None without one that a polynomial represents.

    Traced variances cannot be judged: then only towers whose shape does not depend on them collapse, and polynomials.
    """
    span = tower_span(layers)
    if span is None:
        return None
    if is_traced((layers, f, g)) and not is_polynomial(layers):
        return Nodes(node_count(jax.tree.leaves(f)[0].dtype)) if homogeneity_of(layers[:span]) == 1 else None
    return tabulation(layers, f, g)


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
