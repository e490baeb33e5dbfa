"""Kernels with known solutions, and kernels that can only be read by slices."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np

EPS = np.finfo(np.float64).eps


def kernel_with(values, seed=0):
    """A symmetric matrix of these eigenvalues."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    kernel = (q * values) @ q.T
    return (kernel + kernel.T) / 2


def ill_conditioned(n=200, outputs=2, intercept=False, seed=1):
    """K and ridge of condition 1e12, the solution (alpha, b) and the targets that it belongs to.

    The coefficients are of order one and the targets are smooth, as targets are that a kernel can learn.
    """
    kernel, ridge = kernel_with(np.logspace(0, -14, n)), 1e-12
    rng = np.random.default_rng(seed)
    alpha, b = rng.normal(size=(n, outputs)), np.zeros(outputs)
    if intercept:
        alpha, b = alpha - alpha.mean(axis=0), np.array([3.0, -1.0])[:outputs]
    return kernel, ridge, alpha, b, b + kernel @ alpha + ridge * alpha


def smooth_kernel(n=60, seed=0, width=1.5):
    """A Gaussian kernel of points in the plane with noisy targets, and its kernel with five more points."""
    x = np.random.default_rng(seed).normal(size=(n + 5, 2))
    kernel = np.exp(-np.sum((x[:, None] - x) ** 2, axis=-1) / (2 * width**2))
    y = np.sin(2 * x[:n, 0]) + 4 + 0.1 * np.random.default_rng(seed + 1).normal(size=n)
    return kernel[:n, :n], y, kernel[n:, :n]


class Slices:
    """A kernel of which only slices can be read; it remembers the largest one."""

    def __init__(self, kernel, chunk=None):
        self.kernel, self.shape, self.dtype, self.largest = kernel, kernel.shape, kernel.dtype, 0
        if chunk:
            self.chunks = (chunk, chunk)

    def __getitem__(self, index):
        assert all(isinstance(part, slice) for part in index)
        block = self.kernel[index]
        self.largest = max(self.largest, block.nbytes)
        return block.copy()


class Tiles(Slices):
    """As a stored Gram matrix: ragged tiles of the lower triangle, counted as they are read."""

    symmetric, complete = True, True

    def __init__(self, kernel, rows):
        super().__init__(kernel)
        self.tiling, self.read = SimpleNamespace(rows=np.array(rows)), []

    def __getitem__(self, index):
        self.read.append(index[0])
        return super().__getitem__(index)

    def tiles(self):
        bounds = list(pairwise(self.tiling.rows.tolist()))
        for i, (a, b) in enumerate(bounds):
            for c, d in bounds[: i + 1]:
                yield slice(a, b), slice(c, d), self.kernel[a:b, c:d]
