"""Which tolerances a precision can reach."""

from __future__ import annotations

from typing import Any

import numpy as np

from so3ntk.basics.arguments import is_number

#: Roundings of a kernel, in units of eps: measured in single precision, one nonlinearity on the rotations, 2 to 5.
ROUNDINGS = 8


def smallest_rtol(dtype: Any) -> float:
    """8 eps: the rounding of kernels of that dtype, below which no finer grid of rotations is more accurate."""
    return ROUNDINGS * float(np.finfo(dtype).eps)


def check_rtol(rtol: Any, dtype: Any, where: str, remedy: str = "") -> float:
    """A tolerance between ``smallest_rtol`` and 1. ValueError for others, which would ask for the finest grid in vain.

    remedy: how the caller is given double precision.
    """
    if not is_number(rtol) or not 0 < rtol < 1:
        raise ValueError(f"{where}: expected rtol, a relative error, between 0 and 1, got {rtol!r}.")
    least = smallest_rtol(dtype)
    if rtol < least:
        single = np.finfo(dtype).bits < 64
        double = remedy or "compute in double precision (jax_enable_x64)"
        raise ValueError(
            f"{where}: rtol {rtol:.3g} is below what {np.dtype(dtype)} can reach, {least:.1e}: rounding is larger, whatever "
            f"the grid. Raise rtol{f', or {double}' if single else ''}."
        )
    return float(rtol)
