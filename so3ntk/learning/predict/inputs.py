"""What ``so3ntk.predict`` accepts: kernels, targets, initial outputs and times, as NumPy arrays in float64."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.matrices.symmetry import first_not_finite, symmetric


def training_kernel(kernel: ArrayLike, where: str, name: str = "k_train") -> Float[np.ndarray, "n n"]:
    """A finite kernel of the training inputs, symmetric to the bit."""
    values = _kernel(kernel, where, name)
    if values.shape[0] != values.shape[1] or len(values) == 0:
        raise ValueError(f"{where}: expected {name} to be a square kernel (n, n) with n >= 1, got {values.shape}.")
    i = int(np.argmin(np.diag(values)))
    if values[i, i] < 0:
        raise ValueError(f"{where}: expected {name} to be a kernel, but its diagonal has K[{i}, {i}] = {values[i, i]}.")
    return symmetric(values, f"{where}, {name}")


def cross_kernel(kernel: ArrayLike, n: int, where: str, name: str = "k_test") -> Float[np.ndarray, "m n"]:
    """A finite kernel between test inputs, its rows, and the n training inputs."""
    values = _kernel(kernel, where, name)
    if values.shape[1] != n:
        hint = f" Pass {name}.T." if values.shape[0] == n else ""
        raise ValueError(
            f"{where}: expected {name} (m, {n}), a row for each test and a column for each of the {n} training "
            f"inputs, got {values.shape}.{hint}"
        )
    return values


def prior_covariance(values: ArrayLike, m: int, where: str) -> Float[np.ndarray, "m ..."]:
    """NNGP of the m test inputs: the matrix (m, m), or its diagonal (m,)."""
    values = _real(values, where, "k_test_test")
    if values.shape not in ((m, m), (m,)):
        raise ValueError(
            f"{where}: expected k_test_test ({m}, {m}) for the {m} rows of k_test, or its diagonal ({m},), got "
            f"{values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{first_not_finite(np.atleast_2d(values), f'{where}, k_test_test')}")
    return values if values.ndim == 1 else (values + values.T) / 2


def targets(y: ArrayLike, n: int, where: str) -> Float[np.ndarray, "n ..."]:
    """Finite targets (n,) or (n, k), k >= 1."""
    values = _real(y, where, "y_train")
    if values.ndim not in (1, 2) or values.shape[0] != n or values.size == 0:
        raise ValueError(
            f"{where}: expected y_train ({n},) or ({n}, k), a target for each row of k_train, got {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: expected finite targets, but y_train holds NaN or infinity.")
    return values


def initial_outputs(values: ArrayLike, shape: tuple[int, ...], where: str, name: str) -> np.ndarray:
    """Outputs before training, broadcast to a shape: a number, one per output, or all of them."""
    values = _real(values, where, name)
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: expected finite initial outputs, but {name} holds NaN or infinity.")
    try:
        return np.broadcast_to(values, shape)
    except ValueError as error:
        raise ValueError(
            f"{where}: expected {name} to be a number or to broadcast to the outputs {shape}, got {values.shape}."
        ) from error


def times(t: ArrayLike, where: str) -> Float[np.ndarray, ...]:
    """Times, >= 0 and possibly infinite, in an array of any shape."""
    values = _real(t, where, "t")
    if not np.all(values >= 0):
        wrong = values[~(values >= 0)][0]
        raise ValueError(f"{where}: expected times t >= 0 (math.inf: trained to the end), got {wrong}.")
    return values


def number(value: ArrayLike, where: str, name: str, positive: bool = False) -> float:
    """A finite number >= 0, or > 0."""
    values = _real(value, where, name)
    if values.ndim != 0 or not 0 <= values < np.inf or (positive and values == 0):
        raise ValueError(
            f"{where}: expected {name} to be a finite number {'>' if positive else '>='} 0, got {value!r}."
        )
    return float(values)


def _kernel(kernel: ArrayLike, where: str, name: str) -> Float[np.ndarray, "m n"]:
    if hasattr(kernel, "nngp") and hasattr(kernel, "ntk"):
        raise TypeError(
            f"{where}: expected {name} to be one kernel, got a {type(kernel).__name__}. Pass its .ntk or .nngp."
        )
    values = _real(kernel, where, name)
    if values.ndim != 2:
        raise ValueError(f"{where}: expected {name} to be a kernel matrix, two axes, got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(first_not_finite(values, f"{where}, {name}"))
    return values


def _real(values: ArrayLike, where: str, name: str) -> np.ndarray:
    refuse_masked(values, f"{where}: the entries of {name}")
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" and not str(array.dtype).startswith(("bfloat16", "float8")):
        raise TypeError(f"{where}: expected {name} to be real numbers, got {type(values).__name__} of {array.dtype}.")
    return array.astype(np.float64)
