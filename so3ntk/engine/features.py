r"""Features of a finite network: what layers of given width compute where the kernels take their limit.

A layer draws its parameters, ``init(key, features)``, from the shapes of what it will read, and maps features to
features, ``apply(params, features)``. Its kernel is the limit, as all widths grow, of the mean over channels of the
product of two inputs' features; its tangent kernel that of the product of their derivatives in the parameters.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.geometry import no_bias, no_nonlinearity
from so3ntk.engine.irrep import Irrep

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

    def map(self, function: Callable[[Array], Array]) -> Features:
        """The function applied to the values: pointwise, or to the channels."""
        return dataclasses.replace(self, values=function(self.values))

    def activate(self, function: Callable[[Array], Array]) -> Features:
        """A nonlinearity."""
        return self.map(function)

    def mix(self, weights: Float[Array, "c k"], bias: Any) -> Features:
        """The channels times weights, and a bias (0 for none)."""
        return self.map(lambda values: mix_channels(values, weights) + bias)

    @abstractmethod
    def pool(self) -> Vectors:
        """The mean over the group."""

    def project(self, irrep: Irrep) -> Components:
        """sqrt(2l + 1) int h(g) D^l_mk(g) dg."""
        raise ValueError(
            f"IrrepPool: {type(self).__name__} have no irreps of SO(3) to project on. IrrepPool ends the group layers of "
            "signals on the sphere, once; images have GroupPool()."
        )


class Vectors(Features):
    """Values (N, C), after pooling or flattening."""

    values: Float[Array, "n c"]

    def pool(self) -> Vectors:
        """Refused: there is nothing to pool."""
        raise ValueError("GroupPool: the features are vectors already; a network pools once, after Lift.")


class Components(Features):
    """Values (N, M, C): the M components of vectors or tensors. Only linear maps of the channels keep them so."""

    values: Float[Array, "n m c"]
    irrep: Irrep = eqx.field(static=True)

    def activate(self, function: Callable[[Array], Array]) -> Features:
        """Refused."""
        raise ValueError(no_nonlinearity())

    def mix(self, weights: Float[Array, "c k"], bias: Any) -> Features:
        """The channels times weights; a bias is refused unless constants are of this irrep."""
        if isinstance(bias, jax.Array) and not self.irrep.is_trivial:
            raise ValueError(no_bias(self.irrep))
        return super().mix(weights, bias)

    def map_components(self, change: Float[Array, "a m"]) -> Components:
        """The components in another basis."""
        return Components(jnp.einsum("am,nmc->nac", change, self.values, precision=HIGHEST), self.irrep)

    def pool(self) -> Vectors:
        """Refused: there is nothing to pool."""
        raise ValueError("GroupPool: the features are components of tensors, from IrrepPool. A network pools once.")


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


def draw(layers: Sequence[Any], key: Array, features: Any) -> tuple[tuple, Any]:
    """Random parameters of layers in sequence, in the dtype of the features, and the shapes of what they put out."""
    params = []
    for layer in layers:
        key, own = jax.random.split(key)
        dtype = jax.tree.leaves(features)[0].dtype
        params.append(jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), layer.init(own, features)))
        features = jax.eval_shape(layer.apply, params[-1], features)
    return tuple(params), features


def apply_layers(layers: Sequence[Any], params: Sequence[Any], features: Any) -> Any:
    """The features after layers in sequence, each with its own parameters."""
    for layer, own in zip(layers, params, strict=True):
        features = layer.apply(own, features)
    return features


def mix_channels(values: Float[Array, "... c"], weights: Float[Array, "c k"]) -> Float[Array, "... k"]:
    """values @ weights at full precision."""
    return jnp.matmul(values, weights, precision=HIGHEST)
