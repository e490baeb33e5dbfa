"""The leaky rectifier."""

from __future__ import annotations

from so3ntk.engine.activations.piecewise_linear import PiecewiseLinear
from so3ntk.engine.layers.base import Scalar


class LeakyRelu(PiecewiseLinear):
    r"""phi(u) = u for u > 0 and alpha u for u < 0, that is (1 + alpha) u / 2 + (1 - alpha) |u| / 2.

    alpha is differentiable. Duals, end points and derivatives: see ``PiecewiseLinear``.
    Source: Tsuchida et al. (2018).
    """

    alpha: Scalar

    @property
    def parts(self) -> tuple[Scalar, Scalar]:
        """((1 + alpha) / 2, (1 - alpha) / 2)."""
        return 0.5 * (1 + self.alpha), 0.5 * (1 - self.alpha)
