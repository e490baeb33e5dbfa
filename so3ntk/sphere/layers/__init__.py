"""Layers of signals on the sphere: lifting, convolution, irreps, flattening."""

from so3ntk.sphere.layers.flatten import Flatten
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.layers.irrep_pool import IrrepPool
from so3ntk.sphere.layers.lift import Lift

__all__ = ["Flatten", "GroupConv", "IrrepPool", "Lift"]
