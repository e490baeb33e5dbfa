"""What the layers that multiply features by weights have in common, wherever the features live."""

from __future__ import annotations

import equinox as eqx

from so3ntk.engine.layers.base import Layer, Scalar
from so3ntk.engine.parametrization import Scales


class Affine(Layer):
    """Weights and a bias on the features of a layer before: K <- W^2 A K + b^2, A the average over what a filter sees."""

    width: eqx.AbstractVar[int | None]
    W_std: eqx.AbstractVar[Scalar]
    b_std: eqx.AbstractVar[Scalar | None]
    parametrization: eqx.AbstractVar[str]

    @property
    def homogeneity(self) -> float | None:
        """1 without a bias, else None."""
        return 1.0 if self.b_std is None else None

    def scales(self, where: str, fan_in: int | None) -> Scales:
        """W^2, b^2 and their gains in the tangent kernel; fan_in: weights that meet in one feature."""
        return Scales.of(where, self.W_std, self.b_std, self.parametrization, fan_in)
