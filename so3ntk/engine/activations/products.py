"""Products of independent channels: polynomials of the kernel with any coefficients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.activations.base import Nonlinearity
from so3ntk.engine.features import Features
from so3ntk.engine.layers.base import Scalar, is_traced
from so3ntk.engine.state import State


class Products(Nonlinearity):
    r"""Product units, h = sum_k sqrt(c_k) u_1 u_2 ... u_k over independent channels u_j of the layer before.

    .. math:: K \leftarrow \sum_k c_k K^k, \qquad \Theta \leftarrow \sum_k c_k\, k\, K^{k-1}\, \Theta, \qquad
              q \leftarrow \sum_k c_k q^k

    coefficients: (c_0, c_1, c_2, ...), numbers that are at least zero; differentiable, and traced ones are allowed. A c_k
    that is zero, or None, is left out: it is kept as None and is no hyperparameter. K includes the bias of the layer
    before, and c_0 is the constant sqrt(c_0) in every channel, which adds nothing to Theta.

    The mean over rotations of K_r^k is the invariant kernel of body order k of Wigner kernels, here without truncation:
    on the sphere the grid of rotations of such a network is chosen so that it integrates exactly. Coefficients
    alpha^k / k! sum up all body orders up to the highest.

    Finite width: with n the highest power, the layer before has n channels for each one after this layer, of which all
    powers take the first: (..., n C) becomes (..., C). Terms of different powers do not mix, since each channel has weights
    and a bias of its own. h is not Gaussian: a linear layer (GroupConv, Dense) must come before the next nonlinearity,
    and the limit is slow (excess kurtosis 4.6, 0.8, 0.25 at widths 8, 64, 512).

    Derivatives of all orders are finite, also at K = 0 and below. Raises ValueError for coefficients that are negative, not
    finite, no numbers, none at all or all zero, and for widths before it that are no multiple of n.
    Source: Bigi, Pozdnyakov, Ceriotti (2024), Wigner kernels.
    """

    coefficients: tuple[Scalar | None, ...]

    def __init__(self, coefficients: Sequence[Scalar | None] | Float[Array | np.ndarray, " k"]):
        kept = [_checked(k, c) for k, c in enumerate(coefficients)]
        while kept and kept[-1] is None:
            kept.pop()
        if not kept:
            raise ValueError(
                f"Products: expected coefficients (c_0, c_1, c_2, ...) of which one is above zero, got {coefficients!r}."
            )
        self.coefficients = tuple(kept)

    @property
    def degree(self) -> int:
        """The highest power."""
        return len(self.coefficients) - 1

    @property
    def polynomial_degree(self) -> int:
        """The degree."""
        return self.degree

    @property
    def units(self) -> int:
        """Channels of the layer before for each one after this layer."""
        return max(self.degree, 1)

    @property
    def homogeneity(self) -> float | None:
        """The power, if there is one alone."""
        return float(self.degree) if all(c is None for c in self.coefficients[:-1]) else None

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """sum_k c_k K^k."""
        return _horner(self.coefficients, c, q1, q2)

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """sum_k c_k k K^(k - 1)."""
        slopes = [None if a is None else a * k for k, a in enumerate(self.coefficients)]
        return _horner(slopes[1:] or [None], c, q1, q2)

    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """sum_k c_k q^k, summed as ``dual`` is, to round as it does."""
        return self.dual(q, q, q)

    def powers(self, q1: Float[Array, ""], q2: Float[Array, ""]) -> Float[Array, " k"]:
        """The coefficients."""
        dtype = jnp.result_type(q1, q2)
        return jnp.stack([jnp.asarray(0 if a is None else a, dtype) for a in self.coefficients])

    def __call__(self, state: State) -> State:
        """The state after the layer, and its width."""
        after = super().__call__(state)
        return dataclasses.replace(after, width=None if state.width is None else self.channels_after(state.width))

    def channels_after(self, channels: int) -> int:
        """The width after the layer. ValueError for one before it that is no multiple of ``units``."""
        if channels < 1 or channels % self.units:
            more = max(1, -(-channels // self.units))
            raise ValueError(
                f"Products: products of up to {self.degree} channels take {self.units} channels of the layer before for each "
                f"one after, got {channels}. Give that layer width={self.units * more}, for {more} after."
            )
        return channels // self.units

    def apply(self, params: Any, features: Features) -> Features:
        """(..., n C) to (..., C)."""
        self.channels_after(features.channels)
        return features.activate(self._products)

    def _products(self, values: Float[Array, "... n"]) -> Float[Array, "... c"]:
        """The nested products of each channel's units."""
        units = values.reshape(*values.shape[:-1], -1, self.units)
        product = jnp.ones_like(units[..., 0])
        total = jnp.zeros_like(product)
        for k, c in enumerate(self.coefficients):
            product = product * units[..., k - 1] if k else product
            total = total if c is None else total + jnp.sqrt(jnp.asarray(c, values.dtype)) * product
        return total


def _checked(k: int, c: Any) -> Any:
    """A coefficient as it was given; None for zero. ValueError for what is none."""
    if c is None or (is_traced(c) and jnp.ndim(c) == 0):
        return c
    number = isinstance(c, int | float | np.generic | np.ndarray | jax.Array) and not is_traced(c)
    value = np.asarray(c if number else np.nan)
    if value.ndim or value.dtype.kind not in "biuf" or not 0 <= value < np.inf:
        raise ValueError(
            f"Products: expected coefficients (c_0, c_1, c_2, ...), each at least zero, got c_{k} = {c!r}."
        )
    return None if value == 0 else c


def _horner(coefficients: Sequence[Any], c: Any, q1: Any, q2: Any) -> Float[Array, " ..."]:
    """sum_k a_k c^k, in the dtype and shape of all arguments; None is zero."""
    shape = jnp.broadcast_shapes(jnp.shape(c), jnp.shape(q1), jnp.shape(q2))
    dtype = jnp.result_type(c, q1, q2)
    highest = coefficients[-1]
    value = jnp.broadcast_to(jnp.asarray(0 if highest is None else highest, dtype), shape)
    for a in coefficients[-2::-1]:
        value = value * c
        value = value if a is None else value + jnp.asarray(a, dtype)
    return value
