"""Arrays as given from outside: other byte orders, masks and narrow floats, in one form or refused.

JAX knows the machine's byte order alone, and no mask: ``jnp.asarray`` fails at the first and drops the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


@runtime_checkable
class SupportsArray(Protocol):
    """What NumPy and JAX make an array of by itself: their own arrays, those of files, series of pandas."""

    def __array__(self) -> np.ndarray: ...


#: Numbers as callers give them.
ArrayLike = SupportsArray | Sequence | float

#: What files hold where there is no value, and the name of it.
FILLS = {-1.6375e30: "HEALPix's UNSEEN", 9.969209968386869e36: "netCDF's default fill value"}
#: healpy's own tolerance for UNSEEN, which a file in single precision rounds.
FILL_RTOL = 1e-5


def as_numbers(values: Any, what: str) -> Array | np.ndarray:
    """The values as an array of numbers that JAX takes: one of JAX, or of NumPy in native byte order.

    Half precision (float16, bfloat16, ...) becomes float32, extended precision double. ``what`` names the values in
    errors, as "Flatten: the rows". Raises ValueError for masked entries and lists of unlike lengths, TypeError for what
    holds no numbers.
    """
    if not isinstance(values, jax.Array):
        refuse_masked(values, what)
        try:
            values = np.asarray(values)
        except jax.errors.TracerArrayConversionError:  # a list of traced ones
            values = jnp.asarray(values)
        except ValueError as error:
            raise ValueError(f"{what} should be an array, but NumPy makes none of them ({error}).") from error
    dtype = values.dtype
    if dtype.kind != "b" and not jnp.issubdtype(dtype, jnp.number):
        raise TypeError(f"{what} should be numbers, but their dtype is {dtype}.")
    return values.astype(_native(dtype), copy=False)


def as_floats(values: ArrayLike, what: str) -> Array:
    """The values as an array of JAX of real floats, into which integers are turned: see ``as_numbers``.

    Raises TypeError for complex ones, too.
    """
    numbers = as_numbers(values, what)
    if jnp.issubdtype(numbers.dtype, jnp.complexfloating):
        raise TypeError(
            f"{what} should be real, but their dtype is {numbers.dtype}. Pass real and imaginary parts as two channels: "
            "np.concatenate([x.real, x.imag], axis=-1)."
        )
    if jnp.issubdtype(numbers.dtype, jnp.floating):
        return on_device(numbers)
    return on_device(numbers.astype(jax.dtypes.canonicalize_dtype(np.float64)))  # before JAX cuts them to 32 bits


def on_device(values: np.ndarray | Array) -> Array:
    """The array as one of JAX, which later changes of one of NumPy do not reach.

    ``jnp.asarray`` would share the memory (JAX 0.5), or compile a program for each shape (JAX 0.10).
    """
    return values if isinstance(values, jax.Array) else jax.device_put(np.array(values))


def concrete(array: ArrayLike | None) -> np.ndarray | None:
    """The array as one of NumPy, or None if it is traced."""
    try:
        return np.asarray(array)
    except jax.errors.TracerArrayConversionError:
        return None


def on_host(values: ArrayLike, what: str) -> np.ndarray | None:
    """The values as an array of NumPy, or None if they are traced: see ``as_numbers``."""
    try:
        return np.asarray(as_numbers(values, what))
    except jax.errors.TracerArrayConversionError:
        return None


def float_dtype(dtype: np.dtype) -> np.dtype:
    """The floating dtype in which JAX keeps values of a dtype."""
    if not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return jax.dtypes.canonicalize_dtype(dtype)


def refuse_masked(values: object, what: str) -> None:
    """ValueError for a masked array (``numpy.ma``) or a list of them with masked entries, naming the first.

    As a plain array it would be what the mask hides. An array of which nothing is masked is fine.
    """
    index = _first_masked(values)
    if index is not None:
        raise ValueError(
            f"{what} are masked at index {index}, and without its mask the array would be taken for data there. Fill such "
            "entries, x.filled(value), or drop the inputs that hold them."
        )


def native(values: Any) -> Any:
    """An array of NumPy in the machine's byte order, anything else as it is: for numbers that are kept unread."""
    return values.astype(values.dtype.newbyteorder("="), copy=False) if isinstance(values, np.ndarray) else values


def refuse_fills(values: np.ndarray, what: str) -> None:
    """ValueError naming the first entry that stands for a missing value: one of ``FILLS``."""
    for fill, name in FILLS.items() if values.dtype.kind == "f" else ():
        missing = np.argwhere(abs(values - fill) <= FILL_RTOL * abs(fill))
        if len(missing):
            index = tuple(int(i) for i in missing[0])
            raise ValueError(
                f"{what} hold {values[index]} at index {index}: {name}, which says that there is no value "
                f"({len(missing)} entries). Fill such entries with values, or drop the inputs that hold them."
            )


def _native(dtype: np.dtype) -> np.dtype:
    """The dtype in native byte order and in a precision that kernels are computed in."""
    if jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float32 if dtype.itemsize < 4 else f"f{min(dtype.itemsize, 8)}")
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.dtype(f"c{min(dtype.itemsize, 16)}")
    return dtype.newbyteorder("=")


def _first_masked(values: object) -> tuple[int, ...] | None:
    if isinstance(values, np.ma.MaskedArray):
        places = np.argwhere(np.ma.getmaskarray(values))
        return tuple(int(i) for i in places[0]) if len(places) else None
    if isinstance(values, list | tuple):
        for place, part in enumerate(values):
            inner = _first_masked(part)
            if inner is not None:
                return place, *inner
    return None
