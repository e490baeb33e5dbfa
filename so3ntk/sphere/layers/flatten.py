"""Flattening: the baseline that sees no symmetry."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arrays import as_floats
from so3ntk.engine.features import Inputs, Vectors
from so3ntk.engine.geometry import Point
from so3ntk.engine.layers.source import Source
from so3ntk.engine.state import Pair, State
from so3ntk.sphere.signals import SphereSignal


class Flatten(Source):
    r"""A signal as the vector of its coefficients: the input of a fully connected network.

    .. math:: K = \frac{1}{4\pi C}\sum_{c,l,m} a^c_{lm} b^c_{lm}, \qquad \Theta = 0

    which is ``Lift`` at the identity motion. A plain array (n, d) is taken as n vectors with K = a.b / d, in any byte
    order; integers become floats, half precision float32. Follow it with ``Dense``: there are no weights here.
    """

    def arrays(self, x: Any) -> Float[Array, "n ..."]:
        """Coefficients (n, p, c) of signals, or the rows (n, d) of an array.

        ValueError for other shapes and masked entries, TypeError for complex numbers and what is none.
        """
        if isinstance(x, SphereSignal):
            return x.coefficients
        rows = as_floats(x, "Flatten: the rows")
        if rows.ndim != 2 or rows.shape[1] == 0:
            advice = {1: " Of one vector pass x[None].", 4: " Images go to planar.Flatten."}.get(rows.ndim, "")
            raise ValueError(
                f"Flatten: expected a SphereSignal or an array (n, d) with d > 0, got {type(x).__name__} {rows.shape}."
                f"{advice}"
            )
        return rows

    def begin(self, pair: Pair) -> State:
        """Kernel and variances of two coefficient vectors; nothing is trained yet, so Theta = 0."""
        f, g = pair.f, pair.g
        if f.ndim == 2:  # the mean over p entries is taken below; the kernel averages over the sphere, 1 / 4 pi
            f, g = (a * math.sqrt(len(a) / (4 * np.pi)) for a in (f, g))
        geometry = Point()
        kernel = geometry.correlate(f, g)
        variances = geometry.variance(f), geometry.variance(g)
        return State(geometry, kernel, jnp.zeros_like(kernel), *variances, width=f.size)

    def apply(self, params: Any, features: Inputs) -> Vectors:
        """The coefficients as vectors, in the scale that ``begin`` gives them."""
        rows = features.arrays
        if rows.ndim == 3:
            rows = (rows * math.sqrt(rows.shape[1] / (4 * np.pi))).reshape(len(rows), -1)
        return Vectors(rows)
