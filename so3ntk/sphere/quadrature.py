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

Networks that are polynomials in K (``Products``, ``Monomial``) of total degree k have fields of degree k (L - 1), which a
product grid integrates exactly with more points in alpha and gamma, and half as many in beta, than the degree and an
irrep's together: no tolerance, nothing to estimate. At L = 4 these are 256, 720, 1,792 rotations for k = 2, 3, 4, at L = 6
864 and 2,048 for k = 2, 3. Beyond ``EXACT_POINTS`` they are as good as any analytic network on the grid of the rule.

An irrep readout of degree l multiplies the field by D^l: n grows by l, to the next multiple of four. Measured (ReLU, L = 4,
l = 1 to 3), the errors of blocks at n + 4, relative to their traces, are then at most those of pooled kernels at n.

Filters on caps add a grid of positions, n rings of 2 n points. The field has degree 2 L - 2 at most after lifting, which
2 L rings resolve; a nonlinearity adds higher degrees, the fewer the wider the cap. Measured on such signals, bandlimits
3, 4 and 6, caps of 0.4, 0.8 and 1.5, depths 1 to 3 (relative error of both kernels, rotations fixed):

* on 2 L rings Erf is off by 6e-2 to 2e-3 (cap 0.4), 9e-4 to 4e-5 (0.8), 3e-5 to 2e-6 (1.5); ReLU by 2e-3 to 2e-4,
  2e-4 to 2e-6, 1e-6 to 5e-8; with eight channels by a tenth of that or less;
* the error falls by a factor of ten for every 2 / angle more rings or fewer (ReLU: it begins ten times smaller);
* it does not grow with depth, by more than a factor of three. That of the rotations hardly depends on the cap for ReLU,
  but for Erf, whose rule above holds from 0.8 on, it is three times larger at 0.4 (1e-4 at n = 24).

So the rule takes -2 log10(rtol) / angle rings (a quarter fewer for kinked activations), and at least 2 L: with the angle
of the lifting filters, since later filters only smooth. Positions then leave less than half of rtol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from so3ntk.engine.demand import lifts_of, readout_of, tower_span
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.quadrature import Quadrature
from so3ntk.sphere.degrees import integrated_degree
from so3ntk.sphere.haar import ProductGrid, RotationGrid
from so3ntk.sphere.positions import SphereGrid

#: Pairs whose largest correlation over all rotations is above this feel the cusp at c = 1.
ALIGNED = 0.9
#: The finest grid the rule chooses: 16 million rotations would be the next step of an order of magnitude.
MAX_POINTS = 128
#: The finest grid that is chosen for being exact: 55,296 rotations.
EXACT_POINTS = 48
#: The most rings of positions the rule chooses beyond 2 L; caps below 0.25 would ask for more.
MAX_RINGS = 32


@dataclass(frozen=True)
class AdaptiveGrid(Quadrature):
    """A base grid, and a finer one for the pairs whose correlation exceeds ``threshold`` at a rotation of the base."""

    base: RotationGrid
    fine: RotationGrid
    threshold: float

    def refined(self) -> AdaptiveGrid:
        """Both grids twice as fine per axis."""
        return AdaptiveGrid(self.base.refined(), self.fine.refined(), self.threshold)


@dataclass(frozen=True)
class LocalGrid(Quadrature):
    """Rotations, and positions on the sphere, for networks with filters of local support.

    Fields are held at one rotation at a time. Memory beyond the signals and the result, in numbers of their dtype: about
    12 for each position of a tile's pairs (at most 32 x 32, as many as 8 MiB hold at 8 numbers each), whatever the depth
    and the number of rotations; and the Wigner tables, L (4 L^2 - 1) / 3 for each rotation.
    """

    rotations: RotationGrid
    positions: SphereGrid

    def refined(self) -> LocalGrid:
        """Both grids finer: the rotations twice per axis, the positions as ``SphereGrid.refined`` says."""
        return LocalGrid(self.rotations.refined(), self.positions.refined())


SphereQuadrature = RotationGrid | AdaptiveGrid | LocalGrid


def is_local(layers: Sequence[Layer]) -> bool:
    """Whether fields are sampled at positions: lifting filters on the sphere are caps."""
    return any(_support(lift) is not None for lift in lifts_of(tuple(layers)))


def _support(lift: Any) -> float | None:
    return lift.support


def kept_bandlimit(layers: Sequence[Layer], signals: int) -> int:
    """The bandlimit of signals after the lifting filters, the largest of all branches."""
    lifts: list[Any] = list(lifts_of(tuple(layers)))
    return max(lift.kept_bandlimit(signals) for lift in lifts)


def position_rings(bandlimit: int, layers: Sequence[Layer], rtol: float) -> int:
    """The rings of positions for filters on caps: see the head of this file."""
    inside = list(flatten(layers))
    smallest = min(angle for angle in map(_support, lifts_of(tuple(layers))) if angle is not None)
    if not any(layer.uses_variances for layer in inside):
        return 2 * bandlimit  # linear networks are integrated exactly
    analytic = all(math.isinf(layer.smoothness) for layer in inside)
    rings = (2.0 if analytic else 1.5) * -math.log10(rtol) / smallest
    return max(2 * bandlimit, min(2 * math.ceil(rings / 2 - 1e-9), MAX_RINGS))


def with_positions(
    grid: SphereQuadrature, bandlimit: int, layers: Sequence[Layer], rtol: float = 1e-4
) -> SphereQuadrature:
    """A grid of rotations, completed by positions where the network needs them, and without them elsewhere."""
    if isinstance(grid, LocalGrid):
        return grid if is_local(layers) else grid.rotations
    if not is_local(layers):
        return grid
    rotations = grid.fine if isinstance(grid, AdaptiveGrid) else grid
    return LocalGrid(rotations, SphereGrid(position_rings(bandlimit, layers, rtol)))


def product_points(n: float, degree: int = 0) -> int:
    """The next multiple of four, and again after an irrep's degree is added; between 4 and MAX_POINTS."""
    return min(max(4, 4 * math.ceil(n / 4 - 1e-9)) + 4 * math.ceil(degree / 4), MAX_POINTS)


def choose(bandlimit: int, layers: Sequence[Layer], rtol: float) -> SphereQuadrature:
    """The grid for signals of a bandlimit: see the head of this file."""
    if is_local(layers):
        return with_positions(_rotations(bandlimit, layers, rtol), bandlimit, layers, rtol)
    return _rotations(bandlimit, layers, rtol)


def exact_grid(layers: Sequence[Layer], bandlimit: int, finite: bool = False) -> ProductGrid | None:
    """The smallest product grid on which a network that is a polynomial in its kernel has no error but rounding.

    finite: on which its finite network has none. None for other networks, caps and degrees too high for ``EXACT_POINTS``.
    """
    degree = None if is_local(layers) else integrated_degree(layers, bandlimit, finite)
    if degree is None or degree >= EXACT_POINTS:
        return None
    return ProductGrid(4 * (degree // 4 + 1), degree // 2 + 1)


def is_exact(grid: SphereQuadrature, layers: Sequence[Layer], bandlimit: int) -> bool:
    """Whether a grid has no error but rounding on signals of a bandlimit: it is as fine as ``exact_grid``'s."""
    degree = None if is_local(layers) else integrated_degree(layers, bandlimit)
    grid = grid.base if isinstance(grid, AdaptiveGrid) else grid
    return degree is not None and isinstance(grid, ProductGrid) and min(grid.n, 2 * grid.n_beta) > degree


def choose_grid(
    layers: tuple[Layer, ...], quadrature: SphereQuadrature | None, rtol: float, signals: int
) -> SphereQuadrature:
    """The grid given, with what the network needs, or that of the rule, for signals of a bandlimit."""
    bandlimit = kept_bandlimit(layers, signals)
    return with_positions(quadrature or choose(bandlimit, layers, rtol), bandlimit, layers)


def _rotations(bandlimit: int, layers: Sequence[Layer], rtol: float) -> RotationGrid | AdaptiveGrid:
    depth = sum(layer.uses_variances for layer in layers)
    smoothness = min(layer.smoothness for layer in layers)
    readout = readout_of(tuple(layers))
    irrep: Any = None if readout is None else readout.irrep
    degree = 0 if irrep is None else irrep.degree
    if depth == 0 or bandlimit == 1:
        return ProductGrid(product_points(bandlimit + 1 + degree))  # linear networks are integrated exactly
    exact = exact_grid(layers, bandlimit)
    if exact is not None:
        return exact
    if math.isinf(smoothness):
        return ProductGrid(product_points(max(2 * bandlimit, (0.8 - math.log10(rtol)) / 0.21), degree))
    points = max(2 * bandlimit, 20 * (1e-6 * depth / rtol) ** (1 / 7))
    cusp = 5e-5 * depth * max(1.0, 4 / bandlimit) ** 2
    separated = product_points(points, degree)
    aligned = product_points(max(points, 20 * (cusp / rtol) ** (1 / 4)), degree)
    if aligned == separated:
        return ProductGrid(aligned)
    if tower_span(tuple(layers)) is None:  # alignments are measured where towers collapse
        return ProductGrid(aligned)
    # The base grid misses the peak of a pair by up to half a step: white signals lose about (L / n)^2 there.
    return AdaptiveGrid(ProductGrid(separated), ProductGrid(aligned), ALIGNED - 1.2 * (bandlimit / separated) ** 2)
