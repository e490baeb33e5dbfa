"""Flattening: the baseline that sees no symmetry."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.features import Inputs, Vectors
from so3ntk.geometry import Point
from so3ntk.layers.source import Source
from so3ntk.sphere import SphereSignal
from so3ntk.state import Pair, State


class Flatten(Source):
    r"""A signal as the vector of its coefficients: the input of a fully connected network.

    .. math:: K = \frac{1}{4\pi C}\sum_{c,l,m} a^c_{lm} b^c_{lm}, \qquad \Theta = 0

    which is ``Lift`` at the identity motion. A plain array (n, d) is taken as n vectors with K = a.b / d. Follow it
    with ``Dense``: there are no weights here.
    """

    def arrays(self, x: Any) -> Float[Array, "n ..."]:
        """Coefficients (n, p, c) of signals, or the rows (n, d) of an array; integers become floats."""
        if isinstance(x, SphereSignal):
            return x.coefficients
        rows = jnp.asarray(x)
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise ValueError(
                f"Flatten: expected a SphereSignal or an array (n, d) with d > 0, got {type(x).__name__} {rows.shape}."
            )
        if jnp.iscomplexobj(rows):
            raise TypeError(
                "Flatten: expected real numbers, got complex ones; pass real and imaginary parts side by side."
            )
        return rows if jnp.issubdtype(rows.dtype, jnp.floating) else rows.astype(float)

    def begin(self, pair: Pair) -> State:
        """Kernel and variances of two coefficient vectors; nothing is trained yet, so Theta = 0."""
        f, g = pair.f, pair.g
        if f.ndim == 2:  # the mean over p entries is taken below; the kernel averages over the sphere, 1 / 4 pi
            f, g = (a * np.sqrt(len(a) / (4 * np.pi)) for a in (f, g))
        geometry = Point()
        kernel = geometry.correlate(f, g)
        variances = geometry.variance(f), geometry.variance(g)
        return State(geometry, kernel, jnp.zeros_like(kernel), *variances, width=f.size)

    def apply(self, params: Any, features: Inputs) -> Vectors:
        """The coefficients as vectors, in the scale that ``begin`` gives them."""
        rows = features.arrays
        if rows.ndim == 3:
            rows = (rows * np.sqrt(rows.shape[1] / (4 * np.pi))).reshape(len(rows), -1)
        return Vectors(rows)
