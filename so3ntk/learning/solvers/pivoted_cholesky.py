r"""A low-rank factor of a kernel from some of its rows, by Cholesky with random pivots in blocks.

.. math:: K \approx F F^T = K_{nZ} K_{ZZ}^{-1} K_{Zn}

Landmarks Z are drawn with probability proportional to the diagonal of what is left, K - F F^T, a block at a time; of a
block those that the others in it explain are left out. So a factor of rank r costs few passes over a stored kernel.

Source: Chen, Epperly, Tropp, Webber, Randomly pivoted Cholesky (2024); blocks as Dong, Chen, Martinsson, Pearce,
Robust blockwise random pivoting (2023).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from so3ntk.matrices.kernel_matrix import KernelMatrix, MatrixLike, diagonal_of, kernel_matrix

lapack: Any = scipy.linalg.lapack  # whose functions type checkers do not know

#: Candidates of a block: more are less well chosen, fewer need more passes.
BLOCK = 128
#: What is left of the trace when the factor counts as exact.
EXACT = 1e-14


class LowRank(NamedTuple):
    """F (n, r), the landmarks in the order of its columns, and the diagonals of K and of K - F F^T.

    ``factor[pivots]`` is lower triangular.
    """

    factor: Float[np.ndarray, "n r"]
    pivots: Int[np.ndarray, " r"]
    diagonal: Float[np.ndarray, " n"]
    left: Float[np.ndarray, " n"]


def pivoted_cholesky(kernel: MatrixLike, rank: int, memory: int, seed: int = 0) -> LowRank:
    """The factor of at most this rank; of less where the kernel has less. memory: of one stripe of a stored kernel."""
    matrix = kernel if isinstance(kernel, KernelMatrix) else kernel_matrix(kernel, "pivoted_cholesky")
    diagonal = diagonal_of(matrix)
    n, left = len(diagonal), diagonal.copy()
    factor, pivots = np.zeros((n, min(rank, n)), order="F"), np.zeros(0, int)
    random = np.random.default_rng(seed)
    while len(pivots) < factor.shape[1] and left.sum() > EXACT * diagonal.sum():
        r = len(pivots)
        size = min(BLOCK, factor.shape[1] - r, np.count_nonzero(left))
        drawn = np.sort(random.choice(n, size, replace=False, p=left / left.sum()))
        rows = matrix.take(drawn, memory) - factor[drawn, :r] @ factor[:, :r].T
        kept, triangle = _independent(rows[:, drawn], 0.1 * float(left.mean()))
        columns = scipy.linalg.solve_triangular(triangle, rows[kept], lower=True).T
        chosen = drawn[kept]
        columns[pivots] = 0  # exactly, so that factor[pivots] is triangular
        columns[chosen] = triangle
        factor[:, r : r + len(kept)] = columns
        pivots = np.concatenate([pivots, chosen])
        left = np.maximum(left - np.einsum("ij,ij->i", columns, columns), 0)
        left[pivots] = 0
    return LowRank(factor[:, : len(pivots)], pivots, diagonal, left)


def _independent(block: Float[np.ndarray, "b b"], tolerance: float) -> tuple[np.ndarray, Float[np.ndarray, "k k"]]:
    """Rows of a positive semi-definite block with more than the tolerance left after those before, and L of these."""
    tolerance = min(tolerance, 0.5 * float(block.diagonal().max()))
    factor, order, rank, _ = lapack.dpstrf((block + block.T) / 2, tol=tolerance, lower=1)
    return order[:rank] - 1, np.tril(factor[:rank, :rank])
