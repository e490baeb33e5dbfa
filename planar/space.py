"""Roto-translations of images: what the engine asks of them. Motions are exact, elements of the group and displacements."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from planar.groups import GROUPS
from planar.pooling import CoarseLattice, all_motions
from so3ntk.engine.demand import lifts_of
from so3ntk.engine.evaluation.by_motion import ByMotion
from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.evaluation.tower import Nodes
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.space import Space


class Images(Space):
    """Images; local filters are evaluated motion by motion."""

    name = "images"

    def __init__(self, layers: tuple[Layer, ...]):
        super().__init__(layers)
        self._lift: Any = lifts_of(layers)[0]

    @property
    def _elements(self) -> int:
        return len(GROUPS[self._lift.group])

    def evaluation(
        self, sampling: None, signals: Any, arrays: Any, dtype: Any, nodes: Nodes | None = None, pairs: int = 0
    ) -> Evaluation:
        """Motion by motion for local support; all motions at once for global."""
        if self._lift.window is None:
            return super().evaluation(sampling, signals, arrays, dtype, nodes, pairs)
        return ByMotion(self.layers, all_motions(self._elements, arrays.shape[1:3]))

    def numbers(self, arrays: Float[Array | np.ndarray, "n h w c"], evaluation: Evaluation) -> int:
        """Of a field of one displacement, and of the coarse fields of an ``AvgPool`` or ``Subsample``; all motions for global support."""
        height, width = arrays.shape[1:3]
        if self._lift.window is None:
            return height * width * self._elements
        strides = [layer.filter.stride for layer in self.inside if isinstance(layer, CoarseLattice)]
        tiles = -(-height // strides[0]) * -(-width // strides[0]) if strides else 0
        return height * width + 2 * self._elements * tiles**2
