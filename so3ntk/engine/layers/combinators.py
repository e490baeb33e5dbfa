"""Branches: FanOut, parallel, FanInSum, and the identity."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array

from so3ntk.engine.layers.base import Layer
from so3ntk.engine.state import add_states


class Composite(Layer):
    """Layers made one: in sequence, a ``Network``, or side by side, ``Parallel``."""

    layers: tuple[Layer, ...]

    @property
    def pointwise(self) -> bool:
        """Whether every layer is."""
        return all(layer.pointwise for layer in self.layers)

    @property
    def uses_variances(self) -> bool:
        """Whether any layer does."""
        return any(layer.uses_variances for layer in self.layers)

    @property
    def smoothness(self) -> float:
        """That of the roughest layer."""
        return min((layer.smoothness for layer in self.layers), default=math.inf)


class Identity(Layer):
    """No change: the skip connection of a residual block."""

    def __call__(self, state: Any) -> Any:
        """The same state."""
        return state

    def apply(self, params: Any, features: Any) -> Any:
        """The same features."""
        return features


class FanOut(Layer):
    """The same features to each of n branches."""

    branches: int = eqx.field(static=True)

    def __init__(self, branches: int):
        if isinstance(branches, bool) or not isinstance(branches, int) or branches < 1:
            raise ValueError(f"FanOut: expected a positive number of branches, got {branches!r}.")
        self.branches = branches

    def __call__(self, state: Any) -> tuple:
        """A tuple of n equal states."""
        return (state,) * self.branches

    def apply(self, params: Any, features: Any) -> tuple:
        """A tuple of n equal features."""
        return (features,) * self.branches


class FanInSum(Layer):
    """The sum of the branches' features; kernels add, since the branches' weights are independent."""

    def __call__(self, states: Any) -> Any:
        """The state of the sum. ValueError without branches or where they end in different spaces."""
        if not isinstance(states, tuple):
            raise ValueError("FanInSum: expected branches from FanOut and parallel, got a single state.")
        total = states[0]
        for state in states[1:]:
            total = add_states(total, state)
        return total

    def apply(self, params: Any, features: Any) -> Any:
        """The sum of the branches' features."""
        return features[0].map(lambda first: sum((branch.values for branch in features[1:]), first))


class Parallel(Composite):
    """One layer for each branch; made by ``parallel``."""

    @property
    def homogeneity(self) -> float | None:
        """The branches' common exponent, else None."""
        exponents = {layer.homogeneity for layer in self.layers}
        return exponents.pop() if len(exponents) == 1 else None

    @property
    def polynomial_degree(self) -> int | None:
        """The highest of the branches', None if one has none."""
        degrees = [layer.polynomial_degree for layer in self.layers]
        return None if None in degrees else max(degrees, default=1)  # pyright: ignore

    def __call__(self, states: Any) -> tuple:
        """Each layer on its branch. ValueError if their numbers differ."""
        if not isinstance(states, tuple) or len(states) != len(self.layers):
            got = len(states) if isinstance(states, tuple) else "a single state"
            raise ValueError(f"parallel: expected {len(self.layers)} branches (FanOut({len(self.layers)})), got {got}.")
        return tuple(layer(state) for layer, state in zip(self.layers, states, strict=True))

    def init(self, key: Array, features: Any) -> tuple:
        """The parameters of each branch."""
        keys = jax.random.split(key, len(self.layers))
        return tuple(layer.init(k, f) for layer, k, f in zip(self.layers, keys, features, strict=True))

    def apply(self, params: Any, features: Any) -> tuple:
        """Each layer on its branch."""
        return tuple(layer.apply(p, f) for layer, p, f in zip(self.layers, params, features, strict=True))


def parallel(*layers: Layer) -> Parallel:
    """Layers side by side, one for each branch of ``FanOut``; a branch of several layers is ``serial(...)``."""
    if not layers:
        raise ValueError("parallel: expected at least one layer.")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"parallel: expected layers, got {type(layer).__name__}.")
    return Parallel(layers)
