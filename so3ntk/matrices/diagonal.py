"""The diagonal of a kernel, K(x, x) for each input, without the matrix."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.evaluation.programs import batch_kernels
from so3ntk.engine.geometry import Signal
from so3ntk.engine.network import Network, check_get
from so3ntk.engine.plan import Plan, make_plan
from so3ntk.engine.scaling import rescaled

#: Pairs of one dispatch to the device; fixed, so that one shape is compiled for all batches.
CHUNK = 64


def kernel_diagonal(net: Network, x: Any, get: str = "ntk") -> Float[np.ndarray, " n ..."]:
    r"""The kernel of each input with itself: the diagonal of ``gram(net, x, get=get)``, to rounding.

    .. math:: K(x_a, x_a), \qquad \text{for molecules} \quad \sum_{ij \in M_a} K(f_i, f_j)

    Costs one pair per signal; for molecules one per pair of atoms of the same molecule (and element, where
    these are matched). Shape (n,), or (n, a, a) where kernels are blocks, in the dtype of the signals. Raises ValueError as ``gram`` does.
    """
    if not isinstance(get, str):
        raise ValueError(f'kernel_diagonal: expected get to be "nngp" or "ntk", got {get!r}.')
    check_get(get)
    plan = make_plan(net.layers, net.quadrature, net.rtol, x, None)
    names = plan.names_needed((get,))
    if plan.features is not None:
        return np.asarray(plan.finish((get,), _of_features(plan, names))[0])
    i, j = _own_pairs(plan)
    owner = plan.rows.owner[i]
    sums = {name: np.zeros((plan.rows.count, *plan.shape), plan.accumulator) for name in names}
    for start in range(0, len(i), CHUNK):
        part = slice(start, start + CHUNK)
        for name, values in zip(names, _values(plan, names, i[part], j[part]), strict=True):
            mirrored = values.swapaxes(-1, -2) if plan.shape else values  # K(f_j, f_i) = K(f_i, f_j)^T
            off = (i != j)[part].reshape(-1, *(1,) * len(plan.shape))
            # A signal with itself: symmetric, as it is on the diagonal of ``gram``
            both = np.where(off, values + mirrored, (values + mirrored) / 2)
            np.add.at(sums[name], owner[part], both.astype(plan.accumulator))
    return np.asarray(plan.finish((get,), sums)[0])


def _of_features(plan: Plan, names: tuple[str, ...]) -> dict[str, Float[np.ndarray, "n ..."]]:
    """The sums over the parts of each kind, a few inputs at a time."""
    assert plan.features is not None
    sums = {name: np.zeros((plan.rows.count, *plan.shape), plan.accumulator) for name in names}
    for kind in np.unique(plan.rows.kind):
        parts = np.flatnonzero(plan.rows.kind == kind)
        first = np.flatnonzero(np.diff(plan.rows.owner[parts], prepend=-1))
        for some in np.split(parts, first[CHUNK::CHUNK]):
            moments = plan.features.features(plan.f, some, plan.rows.owner)
            for name, values in zip(names, plan.features.diagonal(names, moments), strict=True):
                sums[name][moments.inputs] += values
    return sums


def _own_pairs(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i <= j of parts of one input and of one kind."""
    first, second = [np.zeros(0, int)], [np.zeros(0, int)]
    bounds = np.searchsorted(plan.rows.owner, np.arange(plan.rows.count + 1))
    for start, stop in pairwise(bounds):
        i, j = np.triu_indices(stop - start)
        first.append(i + start)
        second.append(j + start)
    i, j = np.concatenate(first), np.concatenate(second)
    alike = plan.rows.kind[i] == plan.rows.kind[j]
    return i[alike], j[alike]


def _values(plan: Plan, names: tuple[str, ...], i: np.ndarray, j: np.ndarray) -> list[np.ndarray]:
    """The kernels of at most CHUNK pairs, repeated up to that number on the device."""
    padding = np.zeros(CHUNK - len(i), int)
    rows, columns = (np.concatenate([k, k[padding]]) for k in (i, j))
    f, g = (jax.tree.map(lambda a, k=k: a[k], plan.f) for k in (rows, columns))
    found = [np.asarray(v)[: len(i)] for v in _pair_kernels(plan.evaluation, f, g, names)]
    if plan.scaling is None:
        return found
    return [rescaled(values, plan.scaling, i, j, plan.accumulator) for values in found]


@eqx.filter_jit
def _pair_kernels(evaluation: Evaluation, f: Signal, g: Signal, names: tuple[str, ...]) -> tuple[Array, " ..."]:
    """The kernels (n,) of the pairs (f[k], g[k]), each a tile of its own, on the grid of ``gram``."""

    def one(pair):
        f, g = jax.tree.map(lambda a: a[None], pair)
        return tuple(block[0, 0] for block in batch_kernels(evaluation, f, g, names, (1, 1)))

    return jax.lax.map(one, (f, g))
