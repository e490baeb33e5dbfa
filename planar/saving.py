"""How files name the layers of images whose constructors do not take their fields, and sets of images."""

from __future__ import annotations

from typing import Any

from planar.datasets.image_data import ImageData
from planar.layers import GroupConv, Lift
from planar.pooling import AvgPool, Subsample
from so3ntk.saving.registry import fields_of, register


def _windowed(layer: Any) -> dict[str, Any]:
    """filter_shape and padding in place of the window."""
    arguments = fields_of(layer)
    window = arguments.pop("window")
    shape, padding = (None, "CIRCULAR") if window is None else ((window.size, window.size), window.padding)
    return {"filter_shape": shape, "padding": padding, **arguments}


register(Lift, "planar.Lift", _windowed)
register(GroupConv, "planar.GroupConv", _windowed)
register(AvgPool, "planar.AvgPool", lambda layer: {"window": (layer.window, layer.window)})
register(Subsample, "planar.Subsample")
register(ImageData, "planar.ImageData")
