"""Whether features are Gaussian in the limit of infinite width, given their inputs: what nonlinearities ask for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from so3ntk.engine.activations.base import Activation
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.combinators import FanInSum, FanOut, Parallel
from so3ntk.engine.network import Network


def stays_gaussian(layers: Sequence[Layer], gaussian: Any) -> Any:
    """Whether features after the layers are Gaussian where those before them are; a tuple for branches.

    They are after weights, and not after a nonlinearity, pooled or not. ValueError for a nonlinearity that acts on
    others: its kernel is not that of its dual.
    """
    for layer in layers:
        gaussian = _after(layer, gaussian)
    return gaussian


@singledispatch
def _after(layer: Layer, gaussian: Any) -> Any:
    """After one layer."""
    return True if hasattr(layer, "W_std") else gaussian


@_after.register
def _(layer: Activation, gaussian: Any) -> Any:
    if not gaussian:
        raise ValueError(
            f"as_layer: {type(layer).__name__} acts on features that are not Gaussian, so that its kernel is not known. "
            "Put Dense() before it."
        )
    return False


@_after.register
def _(layer: Network, gaussian: Any) -> Any:
    return stays_gaussian(layer.layers, gaussian)


@_after.register
def _(layer: FanOut, gaussian: Any) -> Any:
    return (gaussian,) * layer.branches


@_after.register
def _(layer: Parallel, gaussian: Any) -> Any:
    return tuple(_after(inner, g) for inner, g in zip(layer.layers, gaussian, strict=True))


@_after.register
def _(layer: FanInSum, gaussian: Any) -> Any:
    return all(gaussian)
