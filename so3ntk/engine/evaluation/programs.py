"""What is compiled: the kernels of batches, cell by cell, of cells, and of lists of pairs."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
from jaxtyping import Array

from so3ntk.engine.evaluation.evaluation import Evaluation, Result
from so3ntk.engine.geometry import Signal
from so3ntk.engine.layers.base import Layer


@eqx.filter_jit
def batch_kernels(evaluation: Evaluation, f: Signal, g: Signal, get: tuple[str, ...], cell: tuple[int, int]
                  ) -> tuple[Array, " ..."]:  # fmt: skip
    """The kernels named by ``get``, each (n, m) or blocks (n, m, a, a), cell by cell so that a cell's fields stay in the cache.

    n and m must be multiples of the cell's. Derivatives are those of the layers, cell by cell: a tower's polynomial in
    an angle has none at c = +-1, and reverse mode recomputes each cell instead of storing it.
    """
    evaluate = _with_derivatives_of_layers if evaluation.is_tower else _cells
    return evaluate(evaluation.layers, evaluation, f, g, get, cell)


def _cells(layers: tuple[Layer, ...], evaluation: Evaluation, f: Signal, g: Signal, get: tuple[str, ...],
           cell: tuple[int, int]) -> tuple[Array, " ..."]:  # fmt: skip
    dtype = jax.tree.leaves(f)[0].dtype
    evaluation = _of_layers(evaluation, layers)

    @jax.checkpoint
    def one_cell(rows, columns):
        return tuple(kernel.astype(dtype) for kernel in evaluation.pairs(rows, columns, get).kernels)

    def split(signals, size):
        return jax.tree.map(lambda a: a.reshape(a.shape[0] // size, size, *a.shape[1:]), signals)

    columns = split(g, cell[1])
    rows = split(f, cell[0])
    blocks = jax.lax.map(lambda row: jax.lax.map(lambda column: one_cell(row, column), columns), rows)
    return tuple(b.swapaxes(1, 2).reshape(b.shape[0] * cell[0], b.shape[1] * cell[1], *b.shape[4:]) for b in blocks)


def _of_layers(evaluation: Evaluation, layers: tuple[Layer, ...]) -> Evaluation:
    """The evaluation with other hyperparameters, those that are differentiated in."""
    parts = {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}
    inside = {name: _of_layers(part, layers) for name, part in parts.items() if isinstance(part, Evaluation)}
    return dataclasses.replace(evaluation, **(inside or {"layers": layers}))


_with_derivatives_of_layers = eqx.filter_custom_jvp(_cells)


@_with_derivatives_of_layers.def_jvp
def _cells_jvp(primals, tangents):
    # Around the loop over cells, not inside it: where JAX splits a loop (forward over reverse) it drops custom rules.
    # The values are those of the layers, too: the tower's would be a second program for the same numbers.
    layers, evaluation, f, g, get, cell = primals
    by_layers = evaluation.by_layers
    return eqx.filter_jvp(
        lambda layers, f, g: _cells(layers, by_layers, f, g, get, cell), (layers, f, g), (tangents[0], *tangents[2:4])
    )


@eqx.filter_jit
def cell_kernels(evaluation: Evaluation, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, " ..."]:
    """The kernels (k, n, m) of all pairs in each of k cells, f (k, n, ...) with g (k, m, ...), one cell at a time."""
    dtype = jax.tree.leaves(f)[0].dtype

    def one_cell(cell):
        rows, columns = cell
        return tuple(kernel.astype(dtype) for kernel in evaluation.pairs(rows, columns, get).kernels)

    return jax.lax.map(one_cell, (f, g))


@eqx.filter_jit
def list_kernels(evaluation: Evaluation, f: Signal, g: Signal, get: tuple[str, ...], batch: int) -> Result:
    """The kernels (n,) of the pairs (f[i], g[i])."""
    return jax.lax.map(lambda pair: evaluation.pair(pair[0], pair[1], get), (f, g), batch_size=batch)


@eqx.filter_jit
def field_kernels(evaluation: Evaluation, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, " ..."]:
    """The fields (n, m, ...) of all pairs of two batches, of networks that end before pooling."""
    return jax.lax.map(lambda f: jax.vmap(lambda g: evaluation.unpooled(f, g, get))(g), f)
