"""The rectifier."""

from __future__ import annotations

from so3ntk.engine.activations.piecewise_linear import PiecewiseLinear
from so3ntk.engine.layers.base import Scalar


class Relu(PiecewiseLinear):
    r"""phi(u) = max(u, 0) = (u + |u|) / 2.

    .. math:: \mathrm{dual} = \frac{\sqrt{q_1 q_2}}{2\pi}\,(\sin\theta + (\pi - \theta)\cos\theta), \qquad
              \mathrm{derivative\_dual} = \frac{\pi - \theta}{2\pi}, \qquad \cos\theta = c / \sqrt{q_1 q_2}

    End points and derivatives: see ``PiecewiseLinear``; at zero, phi'(0) = 1/2. Source: Cho & Saul (2009).
    """

    @property
    def parts(self) -> tuple[Scalar, Scalar]:
        """(1/2, 1/2)."""
        return 0.5, 0.5
