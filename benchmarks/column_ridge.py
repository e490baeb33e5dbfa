r"""Kernel ridge regression beside columns without a penalty, with exact leave-one-out: the fit of the peers' kernels.

.. math:: (K + \lambda)\,\alpha = y - C c, \qquad C^T \alpha = 0

With N an orthonormal basis of what is orthogonal to the columns C, and N^T K N = W diag(s) W^T, V = N W

.. math:: \alpha = V (s + \lambda)^{-1} V^T y, \qquad
          y_i - \hat y_i^{(-i)} = \alpha_i \Big/ \sum_k \frac{V_{ik}^2}{s_k + \lambda},

the residual of row i as predicted from all others, their c included. It is what ``so3ntk.InducingRegressor`` has for its
features. The candidates for lambda are 57 from 1e-13 to 10 times the mean of the diagonal, as densely as ours and further down,
which kernels that are smooth everywhere ask for. Rows that alone determine a column have no such residual, and do not count.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import scipy.linalg

from so3ntk.errors import RidgePathWarning

#: Candidates, in units of the mean of the kernel's diagonal.
RIDGES = np.logspace(-13, 1, 57)
#: What is left of a row beside the columns, below which it determines one of them alone.
ALONE = 1e-9


class ColumnFit(NamedTuple):
    """weights: alpha; columns: c; loo: the root mean square of the leave-one-out residuals."""

    weights: np.ndarray
    columns: np.ndarray
    ridge: float
    loo: float


def columns_alone(columns: np.ndarray, y: np.ndarray) -> ColumnFit:
    """Least squares on the columns, of least norm."""
    left, values, _ = _decomposed(columns)
    basis = left[:, : len(values)]
    free = 1 - np.einsum("ij,ij->i", basis, basis)
    residuals = y - basis @ (basis.T @ y)
    return ColumnFit(np.zeros(len(y)), np.linalg.lstsq(columns, y, rcond=None)[0], 0.0, _error(residuals, free))


def fit(kernel: np.ndarray, columns: np.ndarray, y: np.ndarray, ridges: np.ndarray | None = None) -> ColumnFit:
    """At the candidate with the smallest leave-one-out error; those that are not positive definite are none."""
    left, values, _ = _decomposed(columns, full=True)
    outside = left[:, len(values) :]
    spectrum, vectors = scipy.linalg.eigh(outside.T @ kernel @ outside, driver="evd", overwrite_a=True)
    vectors = outside @ vectors
    alone = 1 - np.einsum("ij,ij->i", left[:, : len(values)], left[:, : len(values)]) < ALONE
    ridges = RIDGES * np.mean(np.diag(kernel)) if ridges is None else ridges
    ridges = ridges[spectrum[0] + ridges > np.finfo(float).eps * spectrum[-1]]
    inverse = 1 / (spectrum[:, None] + ridges)
    weights = vectors @ (inverse * (vectors.T @ y)[:, None])
    free = vectors**2 @ inverse
    errors = [_error(weights[~alone, k], free[~alone, k]) for k in range(len(ridges))]
    best = int(np.argmin(errors))
    if best in (0, len(ridges) - 1):
        end = "smallest" if best == 0 else "largest"
        warnings.warn(f"the best ridge, {ridges[best]:.1e}, is the {end} of the path.", RidgePathWarning, stacklevel=2)
    chosen, ridge = weights[:, best], float(ridges[best])
    rest = y - kernel @ chosen - ridge * chosen
    return ColumnFit(chosen, np.linalg.lstsq(columns, rest, rcond=None)[0], ridge, errors[best])


def _decomposed(columns: np.ndarray, full: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, the singular values above rounding, and V^T."""
    left, values, right = scipy.linalg.svd(columns, full_matrices=full)
    kept = values > len(columns) * np.finfo(float).eps * values[0]
    return left, values[kept], right


def _error(residuals: np.ndarray, free: np.ndarray) -> float:
    known = free > ALONE * np.max(free)
    return float(np.sqrt(np.mean((residuals[known] / free[known]) ** 2)))
