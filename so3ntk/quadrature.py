r"""Which rotations a network is integrated over.

The integrand over motions is not band-limited after a nonlinearity. Measured on white unit-variance signals of one
channel, bandlimits 2 to 8, depths 1 to 6 (relative error of the NTK, n points in alpha and gamma, n / 2 in beta):

* analytic activations (Erf): below 10^(0.8 - 0.21 n), for n >= 2 L;
* kinked activations (ReLU), pairs with no correlation above 0.9: below 1e-6 depth (20 / n)^7, for n >= 2 L;
* kinked activations, aligned pairs (the diagonal): the cusp of the NTK at c = 1 leaves
  1.5e-5 depth max(1, 4 / L)^2 (20 / n)^4.

The rule inverts these with a margin of three for the last one. It sees bandlimit, layers and rtol, never the batch: a
kernel of two signals does not depend on what else was computed. Signals with other spectra or large variances differ:
``calibrate`` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from so3ntk.evaluate import tower_span
from so3ntk.haar import ProductGrid, RotationGrid
from so3ntk.layers.base import Layer, flatten
from so3ntk.layers.lift import Lift
from so3ntk.positions import SphereGrid

#: Pairs whose largest correlation over all rotations is above this feel the cusp at c = 1.
ALIGNED = 0.9
#: The finest grid the rule chooses: 16 million rotations would be the next step of an order of magnitude.
MAX_POINTS = 128


@dataclass(frozen=True)
class AdaptiveGrid:
    """A base grid, and a finer one for the pairs whose correlation exceeds ``threshold`` at a rotation of the base."""

    base: RotationGrid
    fine: RotationGrid
    threshold: float

    def refined(self) -> AdaptiveGrid:
        """Both grids twice as fine per axis."""
        return AdaptiveGrid(self.base.refined(), self.fine.refined(), self.threshold)


@dataclass(frozen=True)
class LocalGrid:
    """Rotations, and positions on the sphere, for networks with filters of local support."""

    rotations: RotationGrid
    positions: SphereGrid

    def refined(self) -> LocalGrid:
        """Both grids twice as fine per axis."""
        return LocalGrid(self.rotations.refined(), self.positions.refined())


Quadrature = RotationGrid | AdaptiveGrid | LocalGrid


def is_local(layers: Sequence[Layer]) -> bool:
    """Whether fields are sampled at positions: lifting filters on the sphere are caps."""
    return any(isinstance(layer, Lift) and layer.separate for layer in flatten(layers))


def with_positions(grid: Quadrature, bandlimit: int, layers: Sequence[Layer]) -> Quadrature:
    """A grid of rotations, completed by positions where the network needs them."""
    if not is_local(layers) or isinstance(grid, LocalGrid):
        return grid
    rotations = grid.fine if isinstance(grid, AdaptiveGrid) else grid
    return LocalGrid(rotations, SphereGrid(2 * bandlimit))


def product_points(n: float) -> int:
    """The next multiple of four, between 4 and MAX_POINTS."""
    return min(max(4, 4 * math.ceil(n / 4 - 1e-9)), MAX_POINTS)


def choose(bandlimit: int, layers: Sequence[Layer], rtol: float) -> Quadrature:
    """The grid for signals of a bandlimit: see the head of this file."""
    if is_local(layers):
        return with_positions(_rotations(bandlimit, layers, rtol), bandlimit, layers)
    return _rotations(bandlimit, layers, rtol)


def _rotations(bandlimit: int, layers: Sequence[Layer], rtol: float) -> RotationGrid | AdaptiveGrid:
    depth = sum(layer.uses_variances for layer in layers)
    smoothness = min(layer.smoothness for layer in layers)
    if depth == 0 or bandlimit == 1:
        return ProductGrid(product_points(bandlimit + 1))  # linear networks are integrated exactly
    if math.isinf(smoothness):
        return ProductGrid(product_points(max(2 * bandlimit, (0.8 - math.log10(rtol)) / 0.21)))
    separated = product_points(max(2 * bandlimit, 20 * (1e-6 * depth / rtol) ** (1 / 7)))
    cusp = 5e-5 * depth * max(1.0, 4 / bandlimit) ** 2
    aligned = product_points(max(separated, 20 * (cusp / rtol) ** (1 / 4)))
    if aligned == separated:
        return ProductGrid(aligned)
    if tower_span(tuple(layers)) is None:  # alignments are measured where towers collapse
        return ProductGrid(aligned)
    # The base grid misses the peak of a pair by up to half a step: white signals lose about (L / n)^2 there.
    return AdaptiveGrid(ProductGrid(separated), ProductGrid(aligned), ALIGNED - 1.2 * (bandlimit / separated) ** 2)
