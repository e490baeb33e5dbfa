"""Kernels and targets that the tests of predictions share."""

from typing import Any

import numpy as np

EPS = np.finfo(np.float64).eps


def features(n=6, m=4, p=9, k=2, seed=0) -> tuple[Any, Any, Any]:
    """Random features of n training and m test inputs, and k targets of the former with a large mean."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(m, p)), 3 + rng.normal(size=(n, k))


def hadamard(n=16):
    """A symmetric matrix of +1 and -1 whose square is n."""
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.kron([[1, 1], [1, -1]], matrix)
    return matrix


def ill_conditioned(exponents, k=2, seed=0):
    """A kernel V diag(w) V^T, w = 2^exponents, that floating point holds without error; cross kernels; targets.

    Cross kernels are C diag(w) V^T, so that f(x) = C (1 - exp(-tau w)) V^T y. Returns w, V, C with them.
    """
    exponents, rng = np.asarray(exponents), np.random.default_rng(seed)
    n = len(exponents)
    w, v = np.where(exponents > -99, np.exp2(exponents), 0.0), hadamard(n) / n**0.5
    c = rng.integers(-1, 2, size=(3, n)).astype(np.float64)
    return (v * w) @ v.T, rng.normal(size=(n, k)), (c * w) @ v.T, (w, v, c)
