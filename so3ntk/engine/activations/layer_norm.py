"""Layer normalisation over channels."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.basics.arguments import is_number
from so3ntk.engine.activations.base import Nonlinearity
from so3ntk.engine.features import Features


class LayerNorm(Nonlinearity):
    r"""The channels at each motion, less their mean and divided by their standard deviation.

    .. math:: u_i \leftarrow \frac{u_i - \bar u}{\sqrt{\overline{(u - \bar u)^2} + \epsilon}}, \qquad
              K \leftarrow \frac{K}{\sqrt{(q_1 + \epsilon)(q_2 + \epsilon)}}, \qquad
              \Theta \leftarrow \frac{\Theta}{\sqrt{(q_1 + \epsilon)(q_2 + \epsilon)}}, \qquad q \leftarrow \frac{q}{q + \epsilon}

    In the limit of infinite width mean and deviation are those of the Gaussian distribution, zero and sqrt(q), so that channels stay
    Gaussian: a nonlinearity may follow at once. It commutes with motions, which do not mix channels; it comes after a linear
    layer, with no parameters of its own. What variances do from layer to layer is forgotten: without biases before it, and with
    epsilon = 0, kernels do not depend on W_std there.

    epsilon: added to the variance; with 0 a field that vanishes has no kernel (PrecisionError). Raises ValueError for one that is negative or no
    number. Source: Ba, Kiros, Hinton (2016); the kernel is neural-tangents' for ``LayerNorm(axis=-1)``.
    """

    epsilon: float = eqx.field(static=True, default=1e-12)

    def __check_init__(self) -> None:
        if not is_number(self.epsilon) or not 0 <= self.epsilon < math.inf:
            raise ValueError(f"LayerNorm: expected epsilon to be a number of at least zero, got {self.epsilon!r}.")

    @property
    def polynomial_degree(self) -> int:
        """1, of variances that do not depend on the motion."""
        return 1

    @property
    def homogeneity(self) -> float | None:
        """0 without epsilon."""
        return None if self.epsilon else 0.0

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """c / sqrt((q1 + epsilon) (q2 + epsilon))."""
        return c * self.derivative_dual(c, q1, q2)

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """1 / sqrt((q1 + epsilon) (q2 + epsilon))."""
        shape = jnp.broadcast_shapes(jnp.shape(c), jnp.shape(q1), jnp.shape(q2))
        return jnp.broadcast_to(1 / (jnp.sqrt(q1 + self.epsilon) * jnp.sqrt(q2 + self.epsilon)), shape)

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """q / (q + epsilon)."""
        return q / (q + self.epsilon)

    def powers(self, q1: Float[Array, ""], q2: Float[Array, ""]) -> Float[Array, " k"]:
        """(0, 1 / sqrt((q1 + epsilon) (q2 + epsilon)))."""
        slope = self.derivative_dual(q1, q1, q2)
        return jnp.stack([jnp.zeros_like(slope), slope])

    def apply(self, params: Any, features: Features) -> Features:
        """Over the last axis."""
        return features.activate(self._normalised)

    def _normalised(self, values: Float[Array, "... c"]) -> Float[Array, "... c"]:
        centred = values - values.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred * centred).mean(-1, keepdims=True) + self.epsilon)
