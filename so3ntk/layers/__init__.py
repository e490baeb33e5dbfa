"""Layers: maps from kernel state to kernel state, one per file."""

from so3ntk.layers.base import Layer
from so3ntk.layers.combinators import FanInSum, FanOut, Identity, Parallel, parallel
from so3ntk.layers.dense import Dense
from so3ntk.layers.flatten import Flatten
from so3ntk.layers.group_conv import GroupConv
from so3ntk.layers.group_pool import GroupPool
from so3ntk.layers.irrep_pool import IrrepPool
from so3ntk.layers.lift import Lift

__all__ = [
    "Dense",
    "FanInSum",
    "FanOut",
    "Flatten",
    "GroupConv",
    "GroupPool",
    "Identity",
    "IrrepPool",
    "Layer",
    "Lift",
    "Parallel",
    "parallel",
]
