"""Layers that serve every group: maps from kernel state to kernel state, one per file."""

from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.combinators import FanInSum, FanOut, Identity, Parallel, parallel
from so3ntk.engine.layers.dense import Dense
from so3ntk.engine.layers.group_pool import GroupPool

__all__ = ["Dense", "FanInSum", "FanOut", "GroupPool", "Identity", "Layer", "Parallel", "parallel"]
