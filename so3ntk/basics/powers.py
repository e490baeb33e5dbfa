"""Powers of two by the bits of floating-point numbers: a few integer operations, where JAX's frexp and ldexp take dozens."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def exponent_of(x: Float[Array, " ..."]) -> Int[Array, " ..."]:
    """The k with 2^k <= |x| < 2^(k + 1), without derivatives; for zero and subnormal numbers one below the least."""
    limits = jnp.finfo(x.dtype)
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), f"int{limits.bits}")
    return ((bits >> limits.nmant) & (2 * limits.maxexp - 1)) - (limits.maxexp - 1)


def power_of_two(k: Int[Array, " ..."], dtype: Any) -> Float[Array, " ..."]:
    """2^k; beyond the normal numbers the largest or the smallest power among them."""
    limits = jnp.finfo(dtype)
    k = jax.lax.clamp(jnp.asarray(1 - limits.maxexp + 1, k.dtype), k, jnp.asarray(limits.maxexp - 1, k.dtype))
    bits = (k + (limits.maxexp - 1)).astype(f"int{limits.bits}") << limits.nmant
    return jax.lax.bitcast_convert_type(bits, dtype)
