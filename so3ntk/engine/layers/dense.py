"""Fully connected layer."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array

from so3ntk.engine.features import Features, Linear
from so3ntk.engine.layers.affine import Affine
from so3ntk.engine.layers.base import Scalar
from so3ntk.engine.parametrization import weights_of
from so3ntk.engine.state import State


class Dense(Affine):
    r"""A fully connected layer in the channels.

    .. math:: K \leftarrow W^2 K + b^2, \qquad \Theta \leftarrow K + W^2 \Theta

    width: channels of the finite network; ``Dense(1)`` is one output. The kernels do not depend on it in the NTK
    parametrisation. W_std, b_std (differentiable) and parametrization ("ntk", "standard") are keywords.
    """

    width: int | None = eqx.field(static=True)
    W_std: Scalar
    b_std: Scalar | None
    parametrization: str = eqx.field(static=True)

    def __init__(
        self,
        width: int | None = None,
        *,
        W_std: Scalar = 1.0,
        b_std: Scalar | None = None,
        parametrization: str = "ntk",
    ):
        checked = weights_of("Dense", width, W_std, b_std, parametrization)
        self.width, self.W_std, self.b_std, self.parametrization = checked

    def __call__(self, state: State) -> State:
        """The state after the layer."""
        return state.affine(self.scales("Dense", state.width), self.width)

    def init(self, key: Array, features: Features) -> Any:
        """Weights (C, width) and a bias (width,)."""
        linear = Linear.of(self, features.channels)
        return linear.init("Dense", key, (features.channels, self.width), self.width)

    def apply(self, params: Any, features: Features) -> Features:
        """The channels times the weights, and the bias."""
        weights, bias = Linear.of(self, features.channels).scaled(params)
        return features.mix(weights, bias)
