"""Group pooling: the invariant readout."""

from __future__ import annotations

from typing import Any

from so3ntk.engine.features import Features
from so3ntk.engine.layers.readout import Readout


class GroupPool(Readout):
    """The mean of the features over the group: the trivial irrep.

    The kernels become the means of K_r and Theta_r over all motions (and positions); after it a network continues
    with Dense layers and nonlinearities. Raises ValueError where there is nothing to pool.
    """

    @property
    def irrep(self) -> None:
        """None: the mean."""
        return None

    @property
    def shape(self) -> tuple[int, ...]:
        """()."""
        return ()

    def apply(self, params: Any, features: Features) -> Features:
        """The pooled features."""
        return features.pool()
