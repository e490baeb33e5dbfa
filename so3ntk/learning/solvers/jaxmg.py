"""Cholesky factorisation on several GPUs by the package jaxmg (cuSOLVERMp), one process for each GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from so3ntk.basics.double import double_precision
from so3ntk.learning.solvers.base import Centring, Problem, Solution, Solver, relative_residuals


@dataclass(frozen=True)
class JaxMG(Solver):
    """A = L L^T over the memory of all GPUs, in float64: each process reads its rows of the kernel alone.

    To be called in every process after ``jax.distributed.initialize()``, with the same arguments. tile: of
    cuSOLVERMp. Needs jaxmg >= 1 with its CUDA libraries, which pins a version of JAX. Its interface was read from
    jaxmg 1.1.1 and is tested against a double of it, not on GPUs.
    """

    tile: int = 256
    name = "jaxmg"

    def bytes_needed(self, n: int, k: int) -> int:
        """On each process's host: its share of the matrix."""
        return 8 * n * -(-n // jax.process_count()) + 48 * n * (k + 1)

    def solve(self, problem: Problem) -> Solution:
        """Distribute rows, factorise, gather the coefficients on every process."""
        potrs = _require()
        with double_precision():
            centring = Centring.of(problem)
            alpha, intercept = centring.solve(problem, lambda y: self._solve(potrs, problem, centring, y))
        return Solution(alpha, intercept, problem.ridge, self, relative_residuals(problem, alpha, intercept))

    def _solve(
        self, potrs: Callable, problem: Problem, centring: Centring, rhs: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        devices = jax.devices()
        n, count = len(rhs), len(devices)
        size = -(-n // count) * count  # rows of all devices; those beyond n are the identity's
        mesh = Mesh(np.array(devices).reshape(count, 1), ("pr", "pc"))

        def own_rows(index: Any) -> np.ndarray:
            return _rows(problem, centring, index[0], size)

        spec = PartitionSpec("pr", "pc")
        matrix = jax.make_array_from_callback((size, size), NamedSharding(mesh, spec), own_rows)
        padded = np.concatenate([rhs, np.zeros((size - n, rhs.shape[1]))])
        by_rows = NamedSharding(mesh, PartitionSpec("pr", None))
        right = jax.make_array_from_callback(padded.shape, by_rows, lambda index: padded[index])
        x = potrs(matrix, right, self.tile, mesh, spec)
        found = np.asarray(jax.device_put(x, NamedSharding(mesh, PartitionSpec(None, None))).addressable_data(0))[:n]
        if not np.isfinite(found).all():
            raise ValueError(
                f"{problem.where}: jaxmg could not factorise K + ridge I, with ridge {problem.ridge:.3e}: it is not "
                "positive definite. Raise ridge, or refine the kernel's quadrature."
            )
        return found


def _rows(problem: Problem, centring: Centring, rows: slice, size: int) -> Float[np.ndarray, "r size"]:
    """Some rows of K + ridge I, a stripe of the kernel at a time."""
    n, start, stop = len(problem.y), rows.start or 0, size if rows.stop is None else rows.stop
    found = np.zeros((stop - start, size))
    step = problem.kernel.stripe_rows(problem.memory)
    for first in range(start, min(stop, n), step):
        last = min(first + step, stop, n)
        block = np.array(problem.kernel[first:last, :], np.float64)
        found[first - start : last - start, :n] = centring.shift(block, slice(first, last), slice(0, n))
    own = np.arange(start, stop)
    found[own - start, own] += np.where(own < n, problem.ridge, 1.0)
    return found


def _require() -> Callable:
    try:
        from jaxmg import potrs  # pyright: ignore
    except ImportError as error:
        raise ImportError(
            'solve: method "jaxmg" needs the package jaxmg with CUDA: pip install "jaxmg[cuda12]" (Linux, one process '
            'for each GPU). Methods "cholesky" (one device) and "cg" (stored kernels) need it not.'
        ) from error
    return potrs
