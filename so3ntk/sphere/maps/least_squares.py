r"""Coefficients of a map by weighted least squares, and what they are worth.

.. math:: a = \arg\min_a \sum_x w_x \Big(f_x - \sum_p a_p Y_p(x)\Big)^2 + \lambda \sum_p a_p^2,
          \qquad \sum_x w_x = 4 \pi

With such weights Y^T W Y is close to the identity where the points cover the sphere evenly, so that lambda is relative to one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, lapack

from so3ntk.sphere.maps.places import Places

LAPACK: Any = lapack  # its functions are made at run time, unknown to type checkers
#: A map's errors reach the coefficients of a fit enlarged by its condition at most; beyond this a fit is refused.
MAX_CONDITION = 1e4


class LeastSquares:
    """The fit of one set of weights (x,) at given places: factorised once, for any number of maps."""

    def __init__(self, places: Places, weights: np.ndarray, bandlimit: int, ridge: float, where: str):
        self.places, self.bandlimit, self.ridge = places, bandlimit, ridge
        used = int(np.count_nonzero(weights))
        if not used:
            raise ValueError(
                f"{where}: every value of a map is masked or has the weight zero. A mask is True where values are left out, "
                "as in numpy.ma: pass ~mask if yours is True where they are good."
            )
        self.weights = weights * (4 * np.pi / weights.sum())
        matrix = places.normal(self.weights, bandlimit)
        matrix[np.diag_indices(len(matrix))] += ridge
        self.factor, stopped = LAPACK.dpotrf(matrix, clean=1)
        reciprocal = 0.0 if stopped else _reciprocal_condition(self.factor, matrix, bandlimit)
        if reciprocal < MAX_CONDITION**-2:
            raise ValueError(_refusal(self.factor, matrix, stopped, bandlimit, used, where))
        self.condition = reciprocal**-0.5

    def fit(self, values: Float[np.ndarray, "k x"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The coefficients (p, k), and the squares of what they leave of the maps and of the maps, (k,), weighted.

        Corrected once by the fit of what is left: normal equations alone lose the digits of the condition's square.
        """
        coefficients = self._solve(self.places.analysed(values * self.weights, self.bandlimit))
        left = (values - self.places.summed(coefficients)) * self.weights
        gradient = self.places.analysed(left, self.bandlimit) - self.ridge * coefficients
        coefficients += self._solve(gradient)
        left = values - self.places.summed(coefficients)
        return coefficients, left**2 @ self.weights, values**2 @ self.weights

    def _solve(self, right: np.ndarray) -> np.ndarray:
        return cho_solve((self.factor, False), right, check_finite=False)


def _reciprocal_condition(factor: np.ndarray, matrix: np.ndarray, bandlimit: int) -> float:
    """An estimate, in the 1-norm, for the degrees below a bandlimit: their block's factor is the factor's block."""
    block = slice(bandlimit**2)
    norm = abs(matrix[block, block]).sum(axis=0).max()
    return float(LAPACK.dpocon(np.asfortranarray(factor[block, block]), norm)[0])


def _refusal(factor: np.ndarray, matrix: np.ndarray, stopped: int, bandlimit: int, used: int, where: str) -> str:
    """Why there is no fit, and the largest bandlimit for which there is one. stopped: the first minor that is not positive."""
    most = round(len(matrix) ** 0.5) if not stopped else int((stopped - 1) ** 0.5)
    carried = next((L for L in range(most, 0, -1) if _reciprocal_condition(factor, matrix, L) >= MAX_CONDITION**-2), 0)
    cause = (
        f"{used} values do not determine the {bandlimit**2} coefficients of bandlimit {bandlimit}"
        if used < bandlimit**2
        else f"the values leave gaps in which signals of bandlimit {bandlimit} are not determined: errors would be "
        f"enlarged more than {MAX_CONDITION:.0e} times"
    )
    remedy = f"pass bandlimit={carried}, the largest that these places carry, or " if carried else ""
    return f"{where}: {cause}. To go on, {remedy}pass a ridge, such as ridge=1e-3, which keeps what is not determined small."
