"""What the layers of a network ask of its evaluation, read off them once."""

from __future__ import annotations

import math
from typing import Any

from so3ntk.engine.geometry import Geometry, Point
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.combinators import Composite, Identity, Parallel
from so3ntk.engine.layers.dense import Dense
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.layers.source import Lifting


def lifts_of(layers: tuple[Layer, ...]) -> tuple[Lifting, ...]:
    """The lifting layers, in branches too; none where a network begins with vectors."""
    return tuple(layer for layer in flatten(layers) if isinstance(layer, Lifting))


def ends_in_field(layers: tuple[Layer, ...]) -> bool:
    """Whether the network lifts and never pools: its kernel is a function of motions."""
    return bool(lifts_of(layers)) and not any(isinstance(layer, Readout) for layer in flatten(layers))


def require_pooled(layers: tuple[Layer, ...]) -> None:
    """ValueError if there is no one number per pair of inputs."""
    if ends_in_field(layers):
        raise ValueError(
            "the network ends in features on the group, so its kernel is a function of motions, which "
            "net.kernel_fn(x1, x2) returns. For one number per pair of inputs add GroupPool() after the last group layer, for vectors and tensors IrrepPool(l)."
        )


def needs_selves(layers: tuple[Layer, ...]) -> bool:
    """Whether some nonlinearity follows a layer that couples motions: its variances need the self states."""
    return _meets_coupled(layers, False)[0]


def _meets_coupled(layers: tuple[Layer, ...], coupled: bool) -> tuple[bool, bool]:
    """Whether a nonlinearity meets variances that motions couple, and whether these are coupled after the layers."""
    for layer in layers:
        if isinstance(layer, Parallel):
            branches = [_meets_coupled((branch,), coupled) for branch in layer.layers]
            meets, coupled = (any(found) for found in zip(*branches, strict=True))
        elif isinstance(layer, Composite):
            meets, coupled = _meets_coupled(layer.layers, coupled)
        else:
            meets, coupled = coupled and layer.uses_variances, coupled or not layer.keeps_variances
        if meets:
            return True, True
    return False, coupled


def tower_span(layers: tuple[Layer, ...]) -> int | None:
    """How many layers collapse to one function; None if the network is not of that form.

    They are Lifting, pointwise layers and a readout; then Dense layers, which commute with it, as long as they do not end
    the tower's homogeneity.
    """
    if not isinstance(layers[0], Lifting):
        return None
    pool = next((i for i, layer in enumerate(layers) if isinstance(layer, Readout)), None)
    if pool is None or not all(layer.pointwise for layer in layers[:pool]):
        return None
    span, homogeneous = pool + 1, homogeneity_of(layers[:pool]) is not None
    for layer in layers[pool + 1 :]:
        if not isinstance(layer, Dense | Identity) or (homogeneous and layer.homogeneity is None):
            break
        span += 1
    return span


def homogeneity_of(layers: tuple[Layer, ...]) -> float | None:
    """The product of the layers' exponents, None if one has none."""
    exponents = [layer.homogeneity for layer in layers if not isinstance(layer, Readout)]
    return None if None in exponents else math.prod(exponents)  # pyright: ignore


def polynomial_degree_of(layers: tuple[Layer, ...]) -> int | None:
    """The product of the layers' degrees as polynomials in the kernel, None if one is none: depth multiplies degrees."""
    degrees = [layer.polynomial_degree for layer in layers]
    return None if None in degrees else math.prod(degrees)  # pyright: ignore


def pool_position(layers: tuple[Layer, ...]) -> int | None:
    """How many layers there are up to the readout; None without one among them."""
    return next((i + 1 for i, layer in enumerate(layers) if isinstance(layer, Readout)), None)


def readout_of(layers: tuple[Layer, ...]) -> Readout | None:
    """The last readout, of which networks have one, or one at the end of each branch; None without."""
    return next((layer for layer in reversed(tuple(flatten(layers))) if isinstance(layer, Readout)), None)


def geometry_after(layers: tuple[Layer, ...]) -> Geometry:
    """That of the state after all layers, the readout among them."""
    readout = readout_of(layers)
    return Point() if readout is None else readout.after


def width_after(layers: tuple[Layer, ...]) -> int | None:
    """The channels after the last layer that has a width, and after what pools or multiplies these."""
    inside: list[Any] = list(flatten(layers))
    mixing = [i for i, layer in enumerate(inside) if hasattr(layer, "width")]
    if not mixing or inside[mixing[-1]].width is None:
        return None
    width = inside[mixing[-1]].width
    for layer in inside[mixing[-1] + 1 :]:
        width = layer.channels_after(width)
    return width
