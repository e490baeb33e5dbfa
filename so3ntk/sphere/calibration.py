"""How large the error of a rotation grid is on given signals, and the grid that reaches a tolerance on them.

Where a network collapses to a tower, a pair's kernels on any grid follow from its Wigner coefficients and the tower's
polynomials: that is done here in NumPy and float64, without compiling anything for each grid.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from so3ntk.basics.caller import warn
from so3ntk.engine.demand import pool_position, readout_of, require_pooled, tower_span
from so3ntk.engine.evaluation.by_motion import BatchByMotion
from so3ntk.engine.evaluation.collapsed import make_tower
from so3ntk.engine.evaluation.nodes import tabulation
from so3ntk.engine.evaluation.programs import batch_kernels, list_kernels
from so3ntk.engine.evaluation.tower import Nodes, from_s, probe_points
from so3ntk.engine.layers.base import flatten
from so3ntk.engine.plan import parts_of, read_signals, split_at_reduction
from so3ntk.engine.scaling import balance
from so3ntk.engine.state import Pair
from so3ntk.sphere.global_support import Blocks
from so3ntk.sphere.haar import ProductGrid, RotationGrid
from so3ntk.sphere.motions import evaluation_on
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.quadrature import (
    ALIGNED,
    AdaptiveGrid,
    LocalGrid,
    SphereQuadrature,
    choose_grid,
    exact_grid,
    is_exact,
    is_local,
    position_rings,
)
from so3ntk.sphere.rotations import real_wigner_D
from so3ntk.sphere.transforms.grid import sampler

#: Points in alpha and gamma that ``calibrate`` tries.
LEVELS = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
#: Rotations beyond which an estimate by refinement takes seconds for each pair: first a coarser grid is asked whether it would do.
LARGE = 2**16
#: Rotations at a time where fields are measured motion by motion; all product grids have a multiple of them.
ROTATIONS = 32


class QuadratureWarning(UserWarning):
    """The rotation grid is too coarse for the tolerance asked for."""


class Sample(NamedTuple):
    """Some signals of a batch as arrays, all pairs of them, indices i <= j, and where their tower is tabulated."""

    signals: Any
    batch: Any
    i: np.ndarray
    j: np.ndarray
    nodes: Nodes | None


class Measured(NamedTuple):
    """Kernels of the pairs of a sample on one grid, and their alignments there."""

    nngp: np.ndarray
    ntk: np.ndarray
    alignment: np.ndarray


def quadrature_error(net: Any, x1: Any, x2: Any = None, get: str = "ntk", signals: int = 12) -> float:
    r"""The largest quadrature error of the pooled kernels, :math:`|K - K_{fine}| / \sqrt{K(x,x) K(x',x')}`.

    Of blocks: the Frobenius norm, relative to the traces of K(x, x), each at least their mean over the sample: symmetric
    signals have little or nothing of some irreps.

    Estimated by refinement, K_fine being on a grid twice as fine per axis, over all pairs of up to ``signals`` signals
    of x1 and x2, spread evenly over their norms (for molecules: of atoms). With local filters rotations and positions
    are refined one after the other, and the two differences added. 0 for networks without motions.
    """
    layers, batches = _before_reduction(net, [x1] if x2 is None else [x1, x2])
    grid = choose_grid(layers, net.quadrature, net.rtol, batches[0].bandlimit)
    sample = _sample(layers, batches, signals)
    coarse = _adaptive(layers, sample, grid)
    errors = [_relative_errors(coarse, _adaptive(layers, sample, fine), sample, get) for fine in _refinements(grid)]
    return float(np.sum(errors, axis=0).max())


def _refinements(grid: SphereQuadrature) -> tuple[SphereQuadrature, ...]:
    """Finer grids, whose differences from the grid add up to its error; refining both at once would cost the product."""
    if not isinstance(grid, LocalGrid):
        return (grid.refined(),)
    return LocalGrid(grid.rotations.refined(), grid.positions), LocalGrid(grid.rotations, grid.positions.refined())


def calibrate(net: Any, x: Any, signals: int = 12) -> SphereQuadrature:
    """The coarsest grid that reaches ``net.rtol`` on the signals x, for NNGP and NTK.

    Measured on all pairs of up to ``signals`` signals spread evenly over their norms. If a grid that serves the other pairs tells
    those of a signal with itself by their alignment, these get a finer one of their own where they need it. The error of a grid is its
    difference from the grid two levels finer. Raises ValueError for signals that are all zero. Warns (QuadratureWarning) if
    the finest level does not reach the tolerance. Networks that are polynomials in their kernel (``Products``,
    ``Monomial``) have exact grids, of which the smallest is returned.
    """
    layers, (batch,) = _before_reduction(net, [x])
    exact = exact_grid(layers, batch.bandlimit)
    if exact is not None:
        return exact
    sample = _sample(layers, [batch], signals)
    leaves = jax.tree.leaves(sample.signals)
    zero = ~np.any([np.any(leaf.reshape(len(leaf), -1), axis=1) for leaf in leaves], axis=0)
    if zero.all():
        raise ValueError(
            "calibrate: all signals are zero, whose kernels any grid has right: they say nothing of others. Pass signals like "
            "those that the network is for; atoms alone, beyond the cutoff of all others, have the zero signal."
        )
    told = np.logical_and(*(~zero[rows] for rows in (sample.i, sample.j)))  # any grid has the others right
    collapses = sample.nodes is not None
    chosen: dict[bool, int] = {}
    results: list[Measured] = []
    lowest = max(4, batch.bandlimit // 2)  # maps in nature have little power in the upper half of their degrees
    local = is_local(layers)
    levels = [n for n in LEVELS if n >= lowest] or [4 * -(-lowest // 4)]
    for n in levels:
        results.append(_on_grid(layers, sample, _level(n, layers, batch.bandlimit, net.rtol)))
        if len(results) < 3:
            continue
        tried, now = results[-3], results[-1]
        errors = np.maximum(*(_relative_errors(tried, now, sample, get) for get in ("nngp", "ntk")))
        aligned = now.alignment > ALIGNED if collapses else np.ones(len(errors), bool)
        for kind in (False, True):
            measured = errors[told & np.equal(aligned, kind)]
            if kind not in chosen and len(measured) and measured.max() <= net.rtol:
                chosen[kind] = levels[len(results) - 3]
        if True in chosen and (False in chosen or aligned[told].all()):
            break
    else:
        warn(
            f"calibrate: rotation grids up to {levels[-1]} points per axis do not reach rtol={net.rtol:.0e} on these "
            "signals; the finest is used. Lower the bandlimit, raise rtol, or use smoother activations.",
            QuadratureWarning,
        )
    if local:
        quadrature: SphereQuadrature = _level(
            max(chosen.values(), default=levels[-1]), layers, batch.bandlimit, net.rtol
        )
        _checked.add(_check_key(layers, quadrature, batch, net.rtol))
        return quadrature
    fine = ProductGrid(chosen.get(True, levels[-1]))
    base = ProductGrid(min(chosen.get(False, fine.n), fine.n))  # unmeasured: the fine grid serves all
    quadrature = fine
    if base != fine:
        # The base grid misses peaks by what it misses of c = 1 for a signal with itself
        seen = results[levels.index(base.n)].alignment
        own, others = seen[sample.i == sample.j], seen[sample.i != sample.j]
        threshold = round(ALIGNED - float(1 - own[own > 0].min(initial=1.0)), 3)
        if not np.any(others > threshold):  # else most rows of a tile would be computed twice
            quadrature = AdaptiveGrid(base, fine, threshold)
    _checked.add(_check_key(layers, quadrature, batch, net.rtol))
    return quadrature


def _level(n: int, layers: tuple, bandlimit: int, rtol: float) -> RotationGrid | LocalGrid:
    """The grid of a level; with local filters two rings are added at each, around the number that the rule takes."""
    if not is_local(layers):
        return ProductGrid(n)
    rings = position_rings(bandlimit, layers, rtol) + 2 * (sum(level < n for level in LEVELS) - 2)
    return LocalGrid(ProductGrid(n), SphereGrid(max(2 * bandlimit, rings)))


_checked: set = set()


def warn_if_coarse(net: Any, x: Any) -> None:
    """Once for each network and grid: estimate the error on a few of the signals, and warn if it exceeds rtol.

    Where Python's filters ignore every ``QuadratureWarning`` nothing is estimated, which saves seconds of compilation:
    ``warnings.simplefilter("ignore", so3ntk.QuadratureWarning)``.
    """
    if is_ignored(QuadratureWarning):
        return
    layers, (batch,) = _before_reduction(net, [x])
    grid = choose_grid(layers, net.quadrature, net.rtol, batch.bandlimit)
    if len(batch) == 0 or is_exact(grid, layers, batch.bandlimit):
        return
    key = _check_key(layers, grid, batch, net.rtol)
    if key in _checked:
        return
    _checked.add(key)
    if isinstance(grid, LocalGrid):
        _warn_of_small_caps(layers, grid.positions)
    few = 2 if is_local(layers) else 4  # local filters cost much more
    if isinstance(grid, ProductGrid) and len(grid) > LARGE:
        few = 2
        if _half_as_fine_suffices(layers, batch, grid, net.rtol, few):
            return
    error = quadrature_error(net, x, signals=few)
    if error > 2 * net.rtol:  # the estimate itself is good to a factor of two
        warn(
            f"the rotation grid ({grid}) leaves an error of about {error:.1e} on these signals, more than "
            f"rtol={net.rtol:.0e}, relative to sqrt(K(x, x) K(x', x')). Use net.calibrate(x), a finer quadrature=, or "
            "raise rtol.",
            QuadratureWarning,
        )


def _half_as_fine_suffices(layers: tuple, batch: Any, grid: ProductGrid, rtol: float, signals: int) -> bool:
    """Whether a grid half as fine has no more than the error asked for: maps whose power falls with the degree."""
    coarse = ProductGrid(4 * math.ceil(grid.n / 8), math.ceil(grid.n_beta / 2))
    sample = _sample(layers, [batch], signals)
    tried, now = (_on_grid(layers, sample, g) for g in (coarse, grid))
    return bool(_relative_errors(tried, now, sample, "ntk").max() <= rtol)


def is_ignored(category: type[Warning]) -> bool:
    """Whether the filters of ``warnings`` ignore a category, whatever the message and wherever it is raised."""
    for action, message, named, module, line in warnings.filters:
        if message is None and module is None and line == 0 and issubclass(category, named):
            return action == "ignore"
        if action != "ignore" and issubclass(category, named):
            return False  # some of them are shown
    return False


def _warn_of_small_caps(layers: tuple, positions: SphereGrid) -> None:
    """Warn of the smallest support below the distance of rings, whose average hardly differs from the value itself."""
    supports = [getattr(layer, "support", None) for layer in flatten(layers)]
    smallest = min(angle for angle in supports if isinstance(angle, float))
    step = math.pi / positions.bandlimit
    if smallest < step:
        warn(
            f"the smallest support, a cap of {smallest:.3g} radians, is below the resolution of the grid of positions, "
            f"pi / {positions.bandlimit} = {step:.3g}: averages over it leave out all detail that it would smooth. Use "
            f"a wider support, or quadrature=LocalGrid(rotations, SphereGrid(n)) with n >= "
            f"{2 * math.ceil(math.pi / smallest / 2)}.",
            QuadratureWarning,
        )


def _check_key(layers, grid, batch, rtol: float) -> tuple:
    values = tuple(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(layers))
    return str(jax.tree.structure(layers)), values, grid, batch.bandlimit, rtol


def _before_reduction(net: Any, batches: list) -> tuple[tuple, list]:
    require_pooled(net.layers)
    layers, reduction, _ = split_at_reduction(net.layers)
    signals = [parts_of(reduction, x).signals for x in batches]
    for batch in signals:
        read_signals(layers, batch)
    return layers, signals


def _sample(layers, batches: list, signals: int) -> Sample:
    chosen = []
    for batch in batches:
        if len(batch) == 0:
            raise ValueError("quadrature: expected at least one signal to measure errors on, got an empty batch.")
        arrays = jax.tree.map(np.asarray, read_signals(layers, batch))
        squares = sum(
            np.square(leaf, dtype=np.float64).reshape(len(leaf), -1).sum(1) for leaf in jax.tree.leaves(arrays)
        )
        order = np.argsort(squares, kind="stable")  # quantiles of the norm: the largest signals are the hardest
        rows = order[np.unique(np.linspace(0, len(batch) - 1, min(signals, len(batch))).astype(int))]
        chosen.append(jax.tree.map(lambda a, rows=rows: a[rows], arrays))
    arrays = jax.tree.map(lambda *parts: np.concatenate(parts), *chosen)
    arrays, _, _ = balance(layers, arrays, arrays)  # errors are relative
    i, j = np.triu_indices(len(jax.tree.leaves(arrays)[0]))
    nodes = None if tower_span(layers) is None else tabulation(layers, arrays, arrays)
    return Sample(arrays, batches[0], i, j, nodes)


def _relative_errors(coarse: Measured, fine: Measured, sample: Sample, get: str) -> Float[np.ndarray, " pairs"]:
    a, b = (np.asarray(getattr(result, get), np.float64) for result in (coarse, fine))
    own, errors = b[sample.i == sample.j], np.abs(a - b)
    if own.ndim > 1:
        own = np.trace(own, axis1=1, axis2=2)
        own, errors = np.maximum(own, own.mean()), np.linalg.norm(a - b, axis=(1, 2))
    norms = np.sqrt(np.abs(own[sample.i] * own[sample.j]))
    return errors / np.where(norms > 0, norms, 1)


def _adaptive(layers, sample: Sample, grid: SphereQuadrature) -> Measured:
    if not isinstance(grid, AdaptiveGrid):
        return _on_grid(layers, sample, grid)
    base, fine = (_on_grid(layers, sample, g) for g in (grid.base, grid.fine))
    if sample.nodes is None:
        return fine
    aligned = base.alignment > grid.threshold
    return Measured(
        *(np.where(aligned.reshape(-1, *(1,) * (b.ndim - 1)), f, b) for b, f in zip(base, fine, strict=True))
    )


def _on_grid(layers, sample: Sample, grid: RotationGrid | LocalGrid) -> Measured:
    if isinstance(grid, LocalGrid):
        return _on_local_grid(layers, sample, grid)
    f, g = (jax.tree.map(lambda a, k=k: a[k], sample.signals) for k in (sample.i, sample.j))
    span = tower_span(layers)
    if span is None or sample.nodes is None:
        evaluation = evaluation_on(layers, grid, sample.batch.bandlimit, jax.tree.leaves(f)[0].dtype)
        (nngp, ntk), alignment = list_kernels(evaluation, f, g, ("nngp", "ntk"), 1)
        return Measured(*(np.asarray(v) for v in (nngp, ntk, alignment)))
    bandlimit = layers[0].kept_bandlimit(sample.batch.bandlimit)
    towers, blocks = _towers(layers[:span], f, g, sample.nodes)
    towers, blocks = jax.tree.map(np.asarray, towers), np.asarray(blocks, np.float64)
    readout: Any = readout_of(layers[:span])
    sample_on_grid = sampler(grid, bandlimit)
    weights = _weights(readout, grid, len(blocks[0]))
    nngps, ntks, alignments = [], [], []
    for k in range(len(sample.i)):
        tower = jax.tree.map(lambda leaf, k=k: leaf[k].astype(np.float64), towers)
        c = np.concatenate([sample_on_grid(half) for half in blocks[k]]) * tower.inverse_norm
        t = from_s(np.sqrt(np.clip((1 - np.abs(c)) / 2, 0, 0.5)), sample.nodes.stretch, np.arcsinh)
        for kernels, branches in zip((nngps, ntks), tower.chebyshev, strict=True):
            positive, negative = (np.polynomial.chebyshev.chebval(t, p) for p in branches)
            mean = weights @ np.where(c >= 0, positive, negative) * tower.scale
            kernels.append(np.asarray(readout.finish(np.asarray(mean))))
        alignments.append(c.max())
    return Measured(*(np.array(values) for values in (nngps, ntks, alignments)))


def _weights(readout: Any, grid: RotationGrid, halves: int) -> Float[np.ndarray, "... r"]:
    """What the values at all motions are multiplied by: weights, times D(r) for an irrep."""
    weights = np.tile(grid.representative_weights, grid.images * halves) / halves
    if readout.irrep is None:
        return weights
    table = np.moveaxis(real_wigner_D(readout.irrep.degree, grid.rotations), 0, -1)
    return np.concatenate([table, readout.irrep.sign * table][:halves], axis=-1) * weights


def _on_local_grid(layers, sample: Sample, grid: LocalGrid) -> Measured:
    """All pairs at once, (i, j) and (j, i): one rotation's field of a single pair is too little work for a step.

    Kernels of some rotations after the other, whose mean is the kernel of all, so that one program serves grids of any
    number; but not where a nonlinearity follows the mean.
    """
    f = sample.signals
    n, dtype = len(jax.tree.leaves(f)[0]), jax.tree.leaves(f)[0].dtype
    turns = evaluation_on(layers, grid, sample.batch.bandlimit, dtype).motions
    count = len(jax.tree.leaves(turns)[0])
    pooled = pool_position(layers)
    linear = pooled is not None and not any(layer.uses_variances for layer in layers[pooled:])
    step = math.gcd(count, ROTATIONS) if linear else count
    sums = np.zeros(())
    for start in range(0, count, step):
        some = jax.tree.map(lambda a, k=start: np.asarray(a)[k : k + step], turns)
        kernels = batch_kernels(BatchByMotion(layers, some), f, f, ("nngp", "ntk"), (n, n))
        sums = sums + np.asarray(kernels, np.float64)
    nngp, ntk = sums / (count // step)
    i, j = sample.i, sample.j
    return Measured(nngp[i, j], ntk[i, j], np.full(len(i), -1.0))


@eqx.filter_jit
def _towers(layers, f, g, nodes: Nodes):
    """The towers of a list of pairs, and the Wigner coefficients of their kernels after lifting."""

    def one(f, g):
        field = layers[0].begin(Pair(f, g)).nngp  # one function on SO(3), or two for O(3)
        halves = jax.tree.leaves(field, is_leaf=lambda half: isinstance(half, Blocks))
        return make_tower(layers, f, g, probe_points(nodes), ("nngp", "ntk")), jnp.stack(
            [half.values for half in halves]
        )

    return jax.vmap(one)(f, g)
