"""The evaluation of a plan in one traced computation: inside jit, vmap and grad."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.evaluation.programs import batch_kernels
from so3ntk.engine.evaluation.sums import groups_of
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.reduction import Parts
from so3ntk.engine.plan import Plan
from so3ntk.engine.scaling import Scaling, rescaled_in_jax, underflowing


def traced_kernels(plan: Plan, names: tuple[str, ...]) -> tuple[Array, " ..."]:
    """The kernels inside a transformation of JAX: jit, vmap, grad."""
    needed = plan.names_needed(names)
    sums = {name: jnp.zeros((plan.rows.count, plan.columns.count, *plan.shape), plan.dtype) for name in needed}
    for rows, columns in groups_of(plan.rows.kind, plan.columns.kind):
        if len(rows) and len(columns):
            cell = plan.cell(len(rows), len(columns))
            each = [(name,) for name in needed] if plan.one_by_one else [needed]
            sides = (_side(plan.f, plan.rows, rows), _side(plan.g, plan.columns, columns))
            for some in each:
                blocks = _group_kernels(plan.evaluation, sides, plan.scaling, plan.reduces, some, cell)
                sums |= {name: sums[name] + block for name, block in zip(some, blocks, strict=True)}
    return tuple(plan.finish(names, sums))


class _Side(NamedTuple):
    """The signals of one batch, those of a group among them, who owns these, and how many owners there are."""

    signals: Any
    indices: np.ndarray
    owner: np.ndarray
    count: int


def _side(signals: Any, parts: Parts, indices: np.ndarray) -> _Side:
    return _Side(signals, indices, parts.owner[indices], parts.count)


@eqx.filter_jit
def _group_kernels(evaluation: Evaluation, sides: tuple[_Side, _Side], scaling: Scaling | None, reduces: bool,
                   names: tuple[str, ...], cell: tuple[int, int]) -> list[Array]:  # fmt: skip
    """The kernels of a group's signals, summed over parts: one program, also where only derivatives are asked for."""
    rows, columns = sides
    f, g = (_padded(side, size) for side, size in zip(sides, cell, strict=True))
    blocks = []
    for value in batch_kernels(evaluation, f, g, names, cell):
        block = value[: len(rows.indices), : len(columns.indices)]
        if scaling is not None:
            k, m, degree = scaling
            block = rescaled_in_jax(
                block, Scaling(jnp.asarray(k)[rows.indices], jnp.asarray(m)[columns.indices], degree)
            )
        elif not reduces:
            block = _nan_where_lost(evaluation.layers, block, sides)
        if reduces:
            by_row = jax.ops.segment_sum(block, rows.owner, rows.count)
            block = jax.ops.segment_sum(by_row.swapaxes(0, 1), columns.owner, columns.count).swapaxes(0, 1)
        blocks.append(block)
    return blocks


def _nan_where_lost(layers: tuple[Layer, ...], block: Array, sides: tuple[_Side, _Side]) -> Array:
    """NaN where variances on the way are not representable."""
    for axis, side in enumerate(sides):
        lost = underflowing(layers, side.signals)
        if lost is not None:
            shape = [1] * block.ndim
            shape[axis] = -1
            block = jnp.where(jnp.asarray(lost)[side.indices].reshape(shape), jnp.nan, block)
    return block


def _padded(side: _Side, cell: int) -> Any:
    """A group's signals, repeated up to a power of two of cells so that few shapes are compiled."""
    count = len(side.indices)
    cells = -(-count // cell)
    repeated = np.arange(cell * 2 ** max(0, (cells - 1).bit_length()))
    indices = jnp.asarray(side.indices)[np.where(repeated < count, repeated, 0)]
    return jax.tree.map(lambda a: jnp.asarray(a)[indices], side.signals)
