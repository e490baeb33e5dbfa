r"""Features of a finite network: what layers of given width compute where the kernels take their limit.

A layer draws its parameters, ``init(key, features)``, from the shapes of what it will read, and maps features to
features, ``apply(params, features)``. Its kernel is the limit, as all widths grow, of the mean over channels of the
product of two inputs' features; its tangent kernel that of the product of their derivatives in the parameters.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

HIGHEST = jax.lax.Precision.HIGHEST


class Inputs(NamedTuple):
    """A batch of signals as arrays, and the grid of motions that the first layer is to sample features on."""

    arrays: Any
    grid: Any


class Features(eqx.Module):
    """Values (N, ..., C) of a batch, channels last; what the axes between mean, the subclass knows."""

    values: eqx.AbstractVar[Float[Array, "n ... c"]]

    @property
    def channels(self) -> int:
        """The width."""
        return self.values.shape[-1]

    def map(self, function: Callable[[Array], Array]) -> Self:
        """The function applied to the values: pointwise, or to the channels."""
        return dataclasses.replace(self, values=function(self.values))

    @abstractmethod
    def pool(self) -> Vectors:
        """The mean over the group."""


class Vectors(Features):
    """Values (N, C), after pooling or flattening."""

    values: Float[Array, "n c"]

    def pool(self) -> Vectors:
        """Refused: there is nothing to pool."""
        raise ValueError("GroupPool: the features are vectors already; a network pools once, after Lift.")


class Linear(NamedTuple):
    r"""How a linear layer draws and scales its weights and biases.

    NTK parametrisation: w, b ~ N(0, 1), used as W_std w / sqrt(fan_in) and b_std b. Standard: w ~ N(0, W_std^2 /
    fan_in) and b ~ N(0, b_std^2), used as they are.
    """

    W_std: Any
    b_std: Any
    parametrization: str
    fan_in: int

    @classmethod
    def of(cls, layer: Any, fan_in: int) -> Linear:
        """That of a layer with these hyperparameters."""
        return cls(layer.W_std, layer.b_std, layer.parametrization, fan_in)

    @property
    def _deviations(self) -> tuple[Any, Any]:
        return self.W_std / self.fan_in**0.5, self.b_std

    def init(self, where: str, key: Array, shapes: Any, width: int | None) -> tuple[Any, Array | None]:
        """Weights, a pytree like ``shapes`` (tuples of integers), and the bias (width,). ValueError without a width."""
        if width is None:
            raise ValueError(f"{where}: a finite network needs its number of channels: give width=.")
        key, bias_key = jax.random.split(key)
        leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple) and isinstance(s[0], int))
        weights = [jax.random.normal(k, s) for k, s in zip(jax.random.split(key, len(leaves)), leaves, strict=True)]
        bias = None if self.b_std is None else jax.random.normal(bias_key, (width,))
        if self.parametrization == "standard":
            weight, shift = self._deviations
            weights = [w * weight for w in weights]
            bias = None if bias is None else bias * shift
        return jax.tree.unflatten(structure, weights), bias

    def scaled(self, params: tuple[Any, Array | None]) -> tuple[Any, Any]:
        """Weights and bias as the layer uses them; the bias is 0 where there is none."""
        weights, bias = params
        if self.parametrization == "ntk":
            weight, shift = self._deviations
            weights = jax.tree.map(lambda w: w * weight, weights)
            bias = None if bias is None else bias * shift
        return weights, 0 if bias is None else bias


def draw(layers: Any, key: Array, features: Any) -> tuple[tuple, Any]:
    """Random parameters of layers in sequence, in the dtype of the features, and the shapes of what they put out."""
    params = []
    for layer in layers:
        key, own = jax.random.split(key)
        dtype = jax.tree.leaves(features)[0].dtype
        params.append(jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), layer.init(own, features)))
        features = jax.eval_shape(layer.apply, params[-1], features)
    return tuple(params), features


def mix_channels(values: Float[Array, "... c"], weights: Float[Array, "c k"]) -> Float[Array, "... k"]:
    """values @ weights at full precision."""
    return jnp.matmul(values, weights, precision=HIGHEST)
