"""The sixteen images of a rotation: sums and differences that replace products with one large table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import scipy.linalg
from jaxtyping import Array, Float

HIGHEST = jax.lax.Precision.HIGHEST


def walsh_hadamard(values: list) -> list:
    """out[i] = sum_j (-1)^(number of common bits of i and j) values[j], for a power of two of arrays."""
    step = 1
    while step < len(values):
        out = list(values)
        for i in range(len(values)):
            if not i & step:
                out[i], out[i + step] = values[i] + values[i + step], values[i] - values[i + step]
        values, step = out, 2 * step
    return values


def images_of(values: list[Float[Array, " q"]]) -> Float[Array, "k q"]:
    """``walsh_hadamard`` as one product of matrices, in one array: programs that read it stay short."""
    signs = jnp.asarray(scipy.linalg.hadamard(len(values)), values[0].dtype)
    return jnp.einsum("ij,jq->iq", signs, jnp.stack(values), precision=HIGHEST)
