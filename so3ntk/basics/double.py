"""Double precision, or single, for a while, whatever JAX is set to."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax


def double_precision(on: bool = True) -> AbstractContextManager:
    """A context in which JAX has 64 bits (or not), in this thread alone."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(on)
    from jax.experimental import enable_x64  # before jax 0.8  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(on)
