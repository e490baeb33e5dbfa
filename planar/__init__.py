"""Roto-translations acting on images: the second geometry of so3ntk. Networks are made with ``so3ntk.serial``."""

from planar import datasets
from planar import saving as saving
from planar.augmentation import ImageMotion, ImageMotions, motions
from planar.groups import GROUPS
from planar.layers import Flatten, GroupConv, Lift
from planar.pooling import AvgPool, Subsample
from so3ntk.engine.layers import GroupPool

__all__ = [
    "GROUPS",
    "AvgPool",
    "Flatten",
    "GroupConv",
    "GroupPool",
    "ImageMotion",
    "ImageMotions",
    "Lift",
    "Subsample",
    "datasets",
    "motions",
]
