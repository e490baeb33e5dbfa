"""Whether features are Gaussian in the limit of infinite width, given their inputs: what nonlinearities ask for.

Weights make them so, and normalisation leaves them so. Any other nonlinearity leaves others, pooled or not, and so is raw data: the kernel of a nonlinearity on these is
not that of its dual, which is an expectation over Gaussian variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from so3ntk.engine.activations.base import Nonlinearity
from so3ntk.engine.activations.layer_norm import LayerNorm
from so3ntk.engine.activations.products import Products
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.combinators import Composite, FanInSum, FanOut, Parallel
from so3ntk.engine.layers.source import Source


def check_gaussian(layers: Sequence[Layer]) -> None:
    """ValueError for a nonlinearity of a network on features that are not Gaussian. Blocks are taken to begin with Gaussian ones."""
    stays_gaussian(layers, not isinstance(next(flatten(layers)), Source))


def stays_gaussian(layers: Sequence[Layer], gaussian: Any) -> Any:
    """Whether features after the layers are, of those before them; a tuple for branches. ValueError as ``check_gaussian``."""
    for layer in layers:
        gaussian = _after(layer, gaussian)
    return gaussian


@singledispatch
def _after(layer: Layer, gaussian: Any) -> Any:
    return hasattr(layer, "W_std") or gaussian


@_after.register
def _(layer: Nonlinearity, gaussian: Any) -> Any:
    if gaussian is False:
        acts = (
            "multiplies channels that have weights of their own"
            if isinstance(layer, Products)
            else "acts on features that are Gaussian"
        )
        raise ValueError(
            f"{type(layer).__name__}: it {acts}, and what comes before it is a nonlinearity, a pooling of one, or raw data, so that "
            "its kernel is not known. Put a linear layer between: Lift, GroupConv or Dense."
        )
    return isinstance(layer, LayerNorm)  # which leaves them so


@_after.register
def _(layer: Composite, gaussian: Any) -> Any:
    return stays_gaussian(layer.layers, gaussian)


@_after.register
def _(layer: FanOut, gaussian: Any) -> Any:
    return (gaussian,) * layer.branches


@_after.register
def _(layer: Parallel, gaussian: Any) -> Any:
    branches = gaussian if isinstance(gaussian, tuple) else ()  # where they do not fit, the layer says so
    return tuple(_after(inner, own) for inner, own in zip(layer.layers, branches, strict=False))


@_after.register
def _(layer: FanInSum, gaussian: Any) -> Any:
    return all(gaussian) if isinstance(gaussian, tuple) else gaussian
