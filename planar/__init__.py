"""Roto-translations acting on images: the second geometry of so3ntk. Networks are made with ``so3ntk.serial``."""

from planar import datasets
from planar.groups import GROUPS
from planar.layers import Flatten, GroupConv, Lift
from so3ntk.layers import GroupPool

__all__ = ["GROUPS", "Flatten", "GroupConv", "GroupPool", "Lift", "datasets"]
