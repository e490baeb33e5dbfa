r"""The test error of kernel ridge regression from the kernel's spectrum: the formula alone.

With eigenvalues lambda_i of the kernel's operator (of K / n, in a sample), v_i the targets' coefficients in its eigenfunctions, and
sigma^2 the power of what no eigenfunction explains, N inputs and ridge delta leave on average

.. math:: E = E_0 \Big(\sum_i (1 - g_i)^2 v_i^2 + \sigma^2\Big), \qquad E_0 = \frac{N}{N - \sum_i g_i^2}, \qquad
          g_i = \frac{\lambda_i}{\lambda_i + \kappa}, \qquad \sum_i g_i + \frac{\delta}{\kappa} = N.

kappa is what counts as a small eigenvalue, E_0 how much the noise of a fit adds. The formula holds for modes that behave as independent
Gaussian variables, as N grows.

Sources: Bordelon, Canatar & Pehlevan (2020); Canatar, Bordelon & Pehlevan (2021); Simon, Dickens, Karkada & DeWeese (2021).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.optimize
from jaxtyping import Float


def effective_ridge(eigenvalues: Float[np.ndarray, " r"], n: int, ridge: float) -> float:
    """kappa; 0 where n inputs determine all modes, as without a ridge and with as many as there are modes."""
    values = eigenvalues[eigenvalues > 0]
    if ridge == 0 and n >= len(values):
        return 0.0
    upper = (float(np.sum(values)) + ridge) / n  # where all of lambda / (lambda + kappa) are below lambda / kappa
    lower = upper
    while _excess(lower, values, n, ridge) < 0:
        lower /= 16
    if lower == upper:
        return upper
    ends = math.log(lower), math.log(upper)
    root: Any = scipy.optimize.brentq(lambda t: _excess(math.exp(t), values, n, ridge), *ends, xtol=1e-13)
    return math.exp(root)


def expected_error(
    eigenvalues: Float[np.ndarray, " r"], powers: Float[np.ndarray, " r"], unexplained: float, n: int, ridge: float
) -> float:
    """E of n inputs, see the head of this file; infinite where they are as many as the modes, without a ridge.

    powers: v^2, a mean over outputs. Modes of negative eigenvalue, which no kernel has, count as unexplained.
    """
    kappa = effective_ridge(eigenvalues, n, ridge)
    learned = np.where(eigenvalues > 0, eigenvalues / np.where(eigenvalues > 0, eigenvalues + kappa, 1), 0.0)
    free = n - float(np.sum(learned**2))
    missed = float(np.sum((1 - learned) ** 2 * powers)) + unexplained
    return n / free * missed if free > 1e-12 * n else math.inf


def _excess(kappa: float, values: Float[np.ndarray, " r"], n: int, ridge: float) -> float:
    return float(np.sum(values / (values + kappa))) + ridge / kappa - n
