r"""Signals whose kernels would leave the range of their dtype on the way, scaled by powers of two.

A network without biases whose layers are homogeneous has, for powers of two s and s',

.. math:: K(s f, s' f') = (s s')^h\, K(f, f'),

h being the product of the layers' exponents. Signals far from one are brought to order one, each by its own power of two,
which changes no digit; the kernels are scaled back at the end, and leave the range only where they are not representable.
Whether a signal is scaled depends on nothing but that signal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from so3ntk.basics.powers import exponent_of, power_of_two
from so3ntk.engine.demand import homogeneity_of
from so3ntk.engine.layers.base import Layer, flatten, is_traced
from so3ntk.engine.layers.source import Source
from so3ntk.errors import PrecisionError

#: Of the bits of a dtype's exponents, the part that a signal may have: its square's square is then in range.
PART = 8


class Scaling(NamedTuple):
    """The powers of two that the signals of both batches were divided by, and h."""

    rows: Int[Array | np.ndarray, " n"]
    columns: Int[Array | np.ndarray, " m"]
    degree: float


def degree_of(layers: tuple[Layer, ...]) -> float | None:
    """h of the head of this file; None where there is none."""
    if any(isinstance(layer, Source) and getattr(layer, "b_std", None) is not None for layer in flatten(layers)):
        return None
    return homogeneity_of(layers)


def balance(layers: tuple[Layer, ...], f: Any, g: Any) -> tuple[Any, Any, Scaling | None]:
    """Both batches, scaled where that is needed, and how; None where nothing was."""
    degree = degree_of(layers)
    if degree is None:
        return f, g, None
    rows, columns = (_exponents_in_jax(signals) if is_traced(signals) else exponents(signals) for signals in (f, g))
    if not is_traced((f, g)) and not np.any(rows) and not np.any(columns):
        return f, g, None
    scaled = (_divided_in_jax(s, k) if is_traced(s) else _divided(s, k) for s, k in ((f, rows), (g, columns)))
    return *scaled, Scaling(rows, columns, degree)


def exponents(f: Any) -> Int[Array | np.ndarray, " n"]:
    """For each signal that is far from one the k with 2^k <= max |f| < 2^(k + 1), 0 for the others."""
    numpy, largest = _largest(f)
    exponent = exponent_of(largest) if numpy is jnp else np.frexp(largest)[1] - 1
    exponent = numpy.where(largest > 0, exponent, 0)
    return numpy.where(numpy.abs(exponent) > jnp.finfo(largest.dtype).maxexp // PART, exponent, 0)


def _largest(f: Any) -> tuple[Any, Any]:
    """The array library of a batch, and the largest modulus in each of its signals."""
    numpy: Any = jnp if is_traced(f) else np
    leaves = [jax.lax.stop_gradient(leaf) if is_traced(leaf) else leaf for leaf in jax.tree.leaves(f)]
    sizes = [numpy.max(numpy.abs(leaf), axis=tuple(range(1, leaf.ndim)), initial=0) for leaf in leaves]
    return numpy, numpy.max(numpy.stack(sizes), axis=0)


def _divided(f: Any, exponent: Any) -> Any:
    """f / 2^k, in two steps: a power of two beyond the range would be infinite or zero."""
    traced = is_traced((f, exponent))

    def divide(leaf):
        for part in (exponent >> 1, exponent - (exponent >> 1)):
            power = power_of_two(-part, leaf.dtype) if traced else np.ldexp(np.ones((), leaf.dtype), -part)
            leaf = leaf * power.reshape(-1, *(1,) * (leaf.ndim - 1))
        return leaf

    return jax.tree.map(divide, f)


# Outside jit, as under grad alone, each is one program in place of a dozen
_exponents_in_jax, _divided_in_jax = jax.jit(exponents), jax.jit(_divided)


def rescaled(
    kernel: Float[np.ndarray, " ..."], scaling: Scaling, rows: np.ndarray, columns: np.ndarray, dtype: Any
) -> Float[np.ndarray, " ..."]:
    """The kernel of the signals as they were, in a dtype; rows and columns are indices of signals, and broadcast."""
    exponent = round(scaling.degree) * (np.asarray(scaling.rows)[rows] + np.asarray(scaling.columns)[columns])
    exponent = exponent.reshape(*exponent.shape, *(1,) * (kernel.ndim - exponent.ndim))
    with np.errstate(over="ignore", under="ignore"):
        found = np.ldexp(kernel.astype(np.float64), exponent).astype(dtype)
    lost = (np.abs(found) < np.finfo(dtype).tiny) & (kernel != 0)
    return np.where(lost & (np.abs(kernel) > np.finfo(kernel.dtype).eps), np.asarray(np.nan, dtype), found)


def rescaled_in_jax(kernel: Float[Array, "n m ..."], scaling: Scaling) -> Float[Array, "n m ..."]:
    """The same of whole batches inside a transformation of JAX; NaN where the kernel is not representable."""
    exponent = round(scaling.degree) * (jnp.asarray(scaling.rows)[:, None] + jnp.asarray(scaling.columns)[None, :])
    exponent = exponent.reshape(*exponent.shape, *(1,) * (kernel.ndim - 2))
    found, limits = kernel, jnp.finfo(kernel.dtype)
    for part in (exponent >> 1, exponent - (exponent >> 1)):
        found = found * power_of_two(part, kernel.dtype)
    lost = (jnp.abs(found) < limits.tiny) & (jnp.abs(kernel) > limits.eps)
    return jnp.where(lost, jnp.nan, found)


def underflowing(layers: tuple[Layer, ...], f: Any) -> Any:
    """Which signals are not zero, but their variance is in their dtype: (n,), and nothing in front says otherwise.

    None where that does not matter: homogeneous networks scale them, and next to a bias such a variance is nothing.
    """
    if degree_of(layers) is not None:
        return None
    for layer in flatten(layers):
        if getattr(layer, "b_std", None) is not None:
            return None
        if layer.uses_variances:
            break
    _, largest = _largest(f)
    return (largest > 0) & (largest < float(jnp.finfo(largest.dtype).tiny) ** 0.5)


def require_variances(layers: tuple[Layer, ...], f: Any, name: str) -> None:
    """PrecisionError for signals so small that their variances would be taken for zero."""
    lost = underflowing(layers, f)
    if lost is None or is_traced(f) or not np.any(lost):
        return
    first, dtype = int(np.argmax(lost)), jax.tree.leaves(f)[0].dtype
    raise PrecisionError(
        f"kernel: input {first} of {name} is not zero, but so small that its variance is zero in {dtype}, and this network "
        "does not scale with its inputs. Multiply all inputs by a power of two that brings them near one, or compute in "
        "double precision."
    )
