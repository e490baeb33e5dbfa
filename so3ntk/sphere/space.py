"""SO(3) and O(3) acting on signals on the sphere: what the engine asks of them."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from so3ntk.engine.demand import ends_in_field, lifts_of
from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.evaluation.tower import Nodes
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.space import Sampled, Space
from so3ntk.sphere import calibration
from so3ntk.sphere.degrees import require_degrees
from so3ntk.sphere.features import FeatureGrid
from so3ntk.sphere.haar import ProductGrid, RotationGrid
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.motions import evaluation_on
from so3ntk.sphere.quadrature import (
    AdaptiveGrid,
    LocalGrid,
    SphereQuadrature,
    choose,
    choose_grid,
    exact_grid,
    is_exact,
    is_local,
    kept_bandlimit,
)
from so3ntk.sphere.transforms.grid import Grid


class Sphere(Space):
    """Signals on the sphere. Motions are sampled: rotations, with positions where filters are caps."""

    name = "the sphere"

    def __init__(self, layers: tuple[Layer, ...]):
        super().__init__(layers)
        self.symmetric_to_rounding = not is_local(layers)  # on caps positions are those of the first signal

    def check(self, signals: Any) -> None:
        """ValueError for a readout of a degree that the features do not have."""
        require_degrees(self.layers, signals.bandlimit)

    def sampling(self, signals: Any, quadrature: SphereQuadrature | None, rtol: float) -> SphereQuadrature:
        """The grid given, or that of the rule; a field is on the base of an adaptive one."""
        grid = choose_grid(self.layers, quadrature, rtol, signals.bandlimit)
        return grid.base if isinstance(grid, AdaptiveGrid) and ends_in_field(self.layers) else grid

    def is_exact(self, signals: Any, sampling: SphereQuadrature | None) -> bool:
        """For polynomial networks on a grid of their degree: a coarser one that was given is kept to."""
        return sampling is not None and is_exact(sampling, self.layers, signals.bandlimit)

    def refined(self, signals: Any, quadrature: SphereQuadrature | None, rtol: float) -> SphereQuadrature:
        """The one given with its grids refined, unless it is exact, or that of the rule at a thirtieth of rtol."""
        if quadrature is None:
            return self.sampling(signals, None, rtol / 30)
        return quadrature if is_exact(quadrature, self.layers, signals.bandlimit) else quadrature.refined()

    def evaluation(
        self,
        sampling: SphereQuadrature,
        signals: Any,
        arrays: Any,
        dtype: Any,
        nodes: Nodes | None = None,
        pairs: int = 0,
    ) -> Evaluation:
        """That of the grid."""
        return evaluation_on(self.layers, sampling, signals.bandlimit, dtype, nodes, pairs)

    def numbers(self, arrays: Any, evaluation: Evaluation) -> int:
        """One for each rotation, or for each position of one rotation."""
        motions = evaluation.motions
        return (motions[0] if isinstance(motions, tuple) else motions).size

    def sampled(self, sampling: SphereQuadrature, dtype: Any) -> Sampled:
        """Rotation matrices, their weights, and positions where there are any; with their mirror images for O(3)."""
        grid, positions = (
            (sampling.rotations, sampling.positions) if isinstance(sampling, LocalGrid) else (sampling, None)
        )
        assert isinstance(grid, RotationGrid), "fields are on one grid"
        matrices, weights = grid.rotations.as_matrix(), grid.weights
        if any(getattr(lift, "group", None) == "O3" for lift in lifts_of(self.layers)):
            matrices, weights = np.concatenate([matrices, -matrices]), np.tile(weights, 2) / 2
        where = None if positions is None else jnp.asarray(positions.directions, dtype)
        return Sampled(jnp.asarray(matrices, dtype), jnp.asarray(weights, dtype), where)

    def feature_grid(self, arrays: Any, quadrature: SphereQuadrature | None, rtol: float) -> FeatureGrid:
        """The grid of rotations with its tables, and the bandlimit of white-noise filters on it.

        The kernels' grid integrates products of two functions of degrees below n / 2, so filters keep those. Polynomial
        networks get a grid on which that is all degrees that their features have.
        """
        kept = kept_bandlimit(self.layers, math.isqrt(arrays.shape[1]))
        grid = quadrature or exact_grid(self.layers, kept, finite=True) or choose(kept, self.layers, rtol)
        grid = grid.base if isinstance(grid, AdaptiveGrid) else grid
        grid = grid.rotations if isinstance(grid, LocalGrid) else grid
        if not isinstance(grid, ProductGrid):
            raise NotImplementedError(
                f"apply_fn: finite networks need a ProductGrid, on which coefficients of features can be computed; the "
                f"network has {grid!r}. Give serial(..., quadrature=ProductGrid(n))."
            )
        white = min(grid.n // 2, grid.n_beta)
        spectra = [layer.bandlimit or white for layer in self.inside if isinstance(layer, GroupConv)]
        irreps: list[Any] = [layer.irrep for layer in self.inside if isinstance(layer, Readout) and layer.irrep]
        bandlimit = max([kept, *spectra, *(irrep.degree + 1 for irrep in irreps)])
        return FeatureGrid(Grid.load(grid, bandlimit, arrays.dtype), white)

    def warn_if_coarse(self, net: Any, x: Any) -> None:
        """See ``calibration``."""
        calibration.warn_if_coarse(net, x)

    def quadrature_error(self, net: Any, x1: Any, x2: Any, get: str, signals: int) -> float:
        """See ``calibration``."""
        return calibration.quadrature_error(net, x1, x2, get, signals)

    def calibrated(self, net: Any, x: Any, signals: int) -> SphereQuadrature:
        """See ``calibration``."""
        return calibration.calibrate(net, x, signals)
