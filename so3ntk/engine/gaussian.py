"""Whether features are Gaussian in the limit of infinite width, given their inputs: what nonlinearities ask for."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from so3ntk.engine.activations.base import Nonlinearity
from so3ntk.engine.activations.products import Products
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.combinators import Composite, FanInSum, FanOut, Parallel
from so3ntk.engine.layers.source import Source


class Channels(enum.IntEnum):
    """What the channels of features are: independent Gaussians after weights; others after nonlinearities, pooled or not."""

    GAUSSIAN = 0
    OTHERS = 1
    PRODUCTS = 2


def stays_gaussian(layers: Sequence[Layer], gaussian: Any) -> bool:
    """Whether features after the layers are Gaussian where those before them are.

    ValueError for a nonlinearity that acts on others: its kernel is not that of its dual.
    """
    return _after_all(layers, Channels(not gaussian), True) == Channels.GAUSSIAN


def check_products(layers: Sequence[Layer]) -> None:
    """ValueError for ``Products`` of channels without weights of their own, or a nonlinearity right after it."""
    inside = tuple(flatten(layers))
    if any(isinstance(layer, Products) for layer in inside):
        _after_all(layers, Channels(isinstance(inside[0], Source)), False)


def _after_all(layers: Sequence[Layer], channels: Any, strict: bool) -> Any:
    for layer in layers:
        channels = _after(layer, channels, strict)
    return channels


@singledispatch
def _after(layer: Layer, channels: Any, strict: bool) -> Any:
    """The channels after one layer, a tuple of branches; strict: no nonlinearity may act on any but Gaussian ones."""
    return Channels.GAUSSIAN if hasattr(layer, "W_std") else channels


@_after.register
def _(layer: Nonlinearity, channels: Any, strict: bool) -> Any:
    name = type(layer).__name__
    if isinstance(layer, Products) and channels != Channels.GAUSSIAN:
        raise ValueError(
            f"{name}: it multiplies channels that have weights of their own, and the layer before it is a nonlinearity, a "
            "pooling of one, or raw data. Put a linear layer between: Lift, GroupConv or Dense."
        )
    if channels == Channels.PRODUCTS:
        raise ValueError(
            f"{name}: products of channels are not Gaussian, so that its kernel is not known. Put a linear layer between "
            "Products and it: GroupConv or Dense."
        )
    if strict and channels != Channels.GAUSSIAN:
        raise ValueError(
            f"as_layer: {name} acts on features that are not Gaussian, so that its kernel is not known. "
            "Put Dense() before it."
        )
    return Channels.PRODUCTS if isinstance(layer, Products) else Channels.OTHERS


@_after.register
def _(layer: Composite, channels: Any, strict: bool) -> Any:
    return _after_all(layer.layers, channels, strict)


@_after.register
def _(layer: FanOut, channels: Any, strict: bool) -> Any:
    return (channels,) * layer.branches


@_after.register
def _(layer: Parallel, channels: Any, strict: bool) -> Any:
    branches = channels if isinstance(channels, tuple) else ()  # where they do not fit, the layer says so
    return tuple(_after(inner, own, strict) for inner, own in zip(layer.layers, branches, strict=False))


@_after.register
def _(layer: FanInSum, channels: Any, strict: bool) -> Any:
    return max(channels, default=Channels.GAUSSIAN) if isinstance(channels, tuple) else channels
