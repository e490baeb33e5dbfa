"""The modulus."""

from __future__ import annotations

from so3ntk.engine.activations.piecewise_linear import PiecewiseLinear
from so3ntk.engine.layers.base import Scalar


class Abs(PiecewiseLinear):
    r"""phi(u) = |u|.

    .. math:: \mathrm{dual} = \frac{2 \sqrt{q_1 q_2}}{\pi}\,(\sin\theta + (\pi/2 - \theta)\cos\theta), \qquad
              \mathrm{derivative\_dual} = 1 - 2\theta/\pi, \qquad \cos\theta = c / \sqrt{q_1 q_2}

    End points and derivatives: see ``PiecewiseLinear``; at zero, phi'(0) = 0. Source: Cho & Saul (2009).
    """

    @property
    def parts(self) -> tuple[Scalar, Scalar]:
        """(0, 1)."""
        return 0.0, 1.0
