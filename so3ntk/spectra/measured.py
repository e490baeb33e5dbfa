"""Learning curves as they are: regressions on parts of a Gram matrix, tested on other rows of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from so3ntk.basics.arrays import ArrayLike
from so3ntk.learning.curves.curve import check_ridge, check_sizes
from so3ntk.learning.regressor import check_targets
from so3ntk.learning.ridge import Spectrum
from so3ntk.matrices.kernel_matrix import MatrixLike, kernel_matrix


class Measured(NamedTuple):
    """The test error of one draw of ``size`` training inputs, in mean squares over test inputs and outputs."""

    draw: int
    size: int
    ridge: float
    mse: float

    @property
    def rmse(self) -> float:
        """In the targets' unit."""
        return float(np.sqrt(self.mse))


def measured_errors(
    k: MatrixLike, y: ArrayLike, sizes: Iterable[int], ridges: ArrayLike, test: int, draws: int = 5, seed: int = 0
) -> list[Measured]:  # fmt: skip
    """What ``GramSpectrum.learning_curve`` predicts, measured: regressions without an intercept at an absolute ridge, for each size and draw.

    k: (n, n), in memory or stored; y: (n,) or (n, k). ridges: one number, or one for each size. Each draw takes ``test`` rows at random, and
    the first ``size`` of the others. Raises as ``spectrum``, ValueError for sizes that leave no ``test`` rows, and NotPositiveDefiniteError.
    """
    where = "measured_errors"
    matrix = kernel_matrix(k, where)
    n = matrix.shape[0]
    targets = check_targets(y, n, where).reshape(n, -1)
    numbers = check_sizes(sizes, 1, where)
    each = np.broadcast_to(np.asarray(ridges, np.float64), numbers.shape)
    for ridge in each:
        check_ridge(float(ridge), where)
    if not 1 <= test <= n - numbers.max():
        raise ValueError(
            f"{where}: {numbers.max()} training and {test} test inputs of {n} leave {n - numbers.max() - test}; lower sizes or test."
        )
    values, found = matrix.whole(where), []
    for draw in range(draws):
        order = np.random.default_rng((seed, draw)).permutation(n)
        tested, trained = order[:test], order[test:]
        for size, ridge in zip(numbers, each, strict=True):
            mse = _error(values, targets, trained[:size], tested, float(ridge), where)
            found.append(Measured(draw, int(size), float(ridge), mse))
    return found


def _error(
    values: Float[np.ndarray, "n n"], y: Float[np.ndarray, "n k"], train: Int[np.ndarray, " m"], test: Int[np.ndarray, " t"],
    ridge: float, where: str,
) -> float:  # fmt: skip
    """The mean square of one regression."""
    inside = values[np.ix_(train, train)]
    inside[np.diag_indices(len(train))] += ridge
    try:
        factor = scipy.linalg.cho_factor(inside, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise Spectrum.of(values[np.ix_(train, train)], intercept=False).error(ridge, where) from None
    dual = scipy.linalg.cho_solve(factor, y[train], check_finite=False)
    return float(np.mean((values[np.ix_(test, train)] @ dual - y[test]) ** 2))
