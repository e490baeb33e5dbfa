"""How fast eigenvalues fall: the exponent of a power law, with its error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: Modes between which the exponent is fitted: the first are few and the last of a sample fall too fast; and in how many bins.
FIRST, LAST_SHARE, BINS = 4, 0.25, 12


class Exponent(NamedTuple):
    """lambda_i ~ i^-value for modes first <= i <= last, and the standard error of the value; NaN where there are too few."""

    value: float
    error: float
    first: int
    last: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "no exponent: too few eigenvalues above rounding"
        return f"i^-({self.value:.2f} +- {self.error:.2f}) for modes {self.first} to {self.last}"


def decay_exponent(eigenvalues: Float[np.ndarray, " r"], rounding: float) -> Exponent:
    """The slope of log lambda in log i, of means over bins of equal width in log i; of descending eigenvalues above rounding.

    The error is that of the fit, from the scatter of the bins about it, so that a spectrum that is no power law has a large one.
    """
    known = int(np.count_nonzero(eigenvalues > rounding))
    last = min(known, max(int(LAST_SHARE * len(eigenvalues)), 3 * FIRST))
    number = np.arange(FIRST, last + 1)
    places = np.log(number)
    if len(number) < 6:
        return Exponent(np.nan, np.nan, FIRST, max(last, FIRST))
    edges = np.linspace(places[0], places[-1], BINS + 1)
    bins = np.clip(np.searchsorted(edges, places, side="right") - 1, 0, BINS - 1)
    values = np.log(eigenvalues[FIRST - 1 : last])
    some = np.unique(bins)
    x, y = (np.array([each[bins == one].mean() for one in some]) for each in (places, values))
    slope, intercept = np.polyfit(x, y, 1)
    left = y - slope * x - intercept
    error = np.sqrt(left @ left / (len(x) - 2) / np.sum((x - x.mean()) ** 2))
    return Exponent(float(-slope), float(error), FIRST, last)
