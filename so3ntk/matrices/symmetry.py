"""Kernels in memory that ought to be symmetric and finite."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

#: Largest |K - K^T| of a kernel, relative to its largest entry: rounding of single precision.
ASYMMETRY = 1e-5


def symmetric(kernel: Float[np.ndarray, "n n"], where: str) -> Float[np.ndarray, "n n"]:
    """A square kernel that is symmetric to single precision, made symmetric to the bit; else ValueError."""
    asymmetry = np.abs(kernel - kernel.T)
    i, j = np.unravel_index(np.argmax(asymmetry), kernel.shape)
    if asymmetry[i, j] > ASYMMETRY * np.max(np.abs(kernel)):
        raise ValueError(
            f"{where}: expected a symmetric kernel, but K[{i}, {j}] = {kernel[i, j]:.6g} and K[{j}, {i}] = "
            f"{kernel[j, i]:.6g}. Rows and columns must be the same inputs in the same order."
        )
    return (kernel + kernel.T) / 2


def first_not_finite(kernel: Float[np.ndarray, "n m"], where: str) -> str:
    """The sentence that says where a kernel is NaN or infinite."""
    i, j = np.unravel_index(np.argmin(np.isfinite(kernel)), kernel.shape)
    return f"{where}: the kernel holds NaN or infinity, first K[{i}, {j}] = {kernel[i, j]}."
