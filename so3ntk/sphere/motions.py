"""From a quadrature to the evaluation of a network on it: the tables of its rotations, in the dtype of the signals."""

from __future__ import annotations

from typing import Any

from so3ntk.engine.demand import lifts_of
from so3ntk.engine.evaluation.by_motion import BatchByMotion
from so3ntk.engine.evaluation.collapsed import Refined
from so3ntk.engine.evaluation.evaluation import Evaluation, Whole
from so3ntk.engine.evaluation.polynomial import collapse
from so3ntk.engine.evaluation.tower import Nodes
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.readout import Readout
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.local_support import Turn
from so3ntk.sphere.quadrature import AdaptiveGrid, LocalGrid, SphereQuadrature, kept_bandlimit
from so3ntk.sphere.transforms.grid import Grid


def bandlimit_of(layers: tuple[Layer, ...], signals: int) -> int:
    """Above all degrees of the signals (below their bandlimit), of the filters and of readouts."""
    spectra = [layer.bandlimit for layer in flatten(layers) if isinstance(layer, GroupConv) and layer.bandlimit]
    readouts: list[Any] = [layer.irrep for layer in flatten(layers) if isinstance(layer, Readout) and layer.irrep]
    return max([kept_bandlimit(layers, signals), *spectra, *(irrep.degree + 1 for irrep in readouts)])


def evaluation_on(
    layers: tuple[Layer, ...],
    quadrature: SphereQuadrature,
    signals: int,
    dtype: Any,
    nodes: Nodes | None = None,
    pairs: int = 0,
) -> Evaluation:
    """The evaluation of layers on a quadrature, for signals of a bandlimit. ValueError for caps of two groups.

    nodes: where the tower is tabulated. pairs: how many will be computed, which decides between programs that start
    and that run fast.
    """
    bandlimit = bandlimit_of(layers, signals)
    if isinstance(quadrature, AdaptiveGrid) and nodes is None:
        quadrature = quadrature.fine  # alignments are measured where towers collapse
    if isinstance(quadrature, LocalGrid):
        groups = {lift.group for lift in lifts_of(layers)}  # pyright: ignore[reportAttributeAccessIssue]
        if len(groups) > 1:
            raise ValueError("Lift: with local support all branches need one group, got 'SO3' and 'O3'.")
        turns = Turn.load(quadrature.rotations, quadrature.positions, bandlimit, dtype, groups == {"O3"})
        return BatchByMotion(layers, turns)

    def on(grid):
        motions = Grid.load(grid, bandlimit, dtype, pairs)
        return Whole(layers, motions) if nodes is None else collapse(layers, motions, nodes)

    if isinstance(quadrature, AdaptiveGrid):
        return Refined(on(quadrature.base), on(quadrature.fine), quadrature.threshold)  # pyright: ignore[reportCallIssue] - its layers are theirs
    return on(quadrature)
