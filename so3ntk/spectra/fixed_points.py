r"""Where the kernels of a deep network end: fixed points of the maps of variances and of correlations.

Found by a scan for changes of sign, and by narrowing each of them down, on the maps themselves: they need no derivative and no
closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from so3ntk.spectra.block import POINTS, Block, Values

#: Variances that are told from zero and from infinity.
SMALLEST, LARGEST = 1e-12, 1e12
#: |chi_1 - 1| below which a network counts as critical: over a million layers it changes nothing by more than a hundredth.
CRITICAL = 1e-8
#: Of a map that leaves every variance as it is.
_SAME = 1e-12


class FixedPoints(NamedTuple):
    """q_star: the variance that deep networks reach; 0 where it vanishes, infinity where it grows without bound, NaN where
    every variance stays. c_star: the correlation of unlike inputs there; NaN where it stays what it was. chi_1, chi_c,
    chi_q: the slopes of the kernel at correlation 1, at c_star, and of the variance.
    """

    q_star: float
    c_star: float
    chi_1: float
    chi_c: float
    chi_q: float

    @property
    def phase(self) -> str:
        """ "ordered", "critical" or "chaotic"; "unbounded" where variances grow without bound."""
        if math.isinf(self.q_star):
            return "unbounded"
        if abs(self.chi_1 - 1) <= CRITICAL:
            return "critical"
        return "ordered" if self.chi_1 < 1 else "chaotic"


def fixed_points(block: Block, correlation: bool = True) -> FixedPoints:
    """Those that a network of inputs of variance about one reaches. ValueError where none attracts.

    correlation: whether c_star and chi_c are wanted, else NaN.
    """
    q_star = variance_fixed_point(block)
    at = 1.0 if math.isnan(q_star) or block.homogeneity == 1.0 else min(max(q_star, SMALLEST), LARGEST)
    chi_1, chi_q = block.slopes(at, at)
    if not block.is_linear and _drop(block, at, 1e-8) > 10 * abs(chi_1) + 1e-3:
        chi_1 = math.inf  # the kernel has a root at correlation one, where its derivative is returned as zero
    if not correlation:
        return FixedPoints(q_star, math.nan, chi_1, math.nan, chi_q)
    if block.homogeneity == 1.0 and not block.is_linear:
        # The correlation moves on its own, at any variance: with the slope of kernel over variance
        return FixedPoints(q_star, _correlation(block, 1.0, chi_1 / chi_q), chi_1, chi_1, chi_q)
    if block.is_linear or q_star == 0 or math.isinf(q_star):
        without_noise = block.is_linear and block.homogeneity is None  # biases make inputs alike
        return FixedPoints(q_star, 1.0 if without_noise and chi_1 < 1 else math.nan, chi_1, chi_1, chi_q)
    c_star = _correlation(block, q_star, chi_1)
    chi_c = chi_1 if c_star == 1.0 else block.slopes(c_star * q_star, q_star)[0]
    return FixedPoints(q_star, c_star, chi_1, chi_c, chi_q)


def variance_fixed_point(block: Block) -> float:
    """q with V(q) = q that attracts, reached from 1 if it can be; 0, infinity and NaN as for ``FixedPoints``."""
    scan = np.concatenate([[0.0], np.geomspace(SMALLEST, LARGEST, POINTS - 1)])
    change = block.variance(scan) - scan
    if np.isnan(change).any():
        raise ValueError(
            f"{block.where}: the variance after {block} is not a number for a variance of "
            f"{scan[np.isnan(change)][0]:.3g}. Activations whose moments exist have one."
        )
    if block.homogeneity is not None and block.homogeneity not in (0.0, 1.0):
        turn = max(_roots(block, scan, change), default=math.nan)
        raise ValueError(
            f"{block.where}: {block} has no variance that attracts: those below {turn:.4g} vanish, those above grow without "
            f"bound, as powers of degree {block.homogeneity:g} do. Use an activation of at most linear growth (Erf, Relu, "
            "Gelu), or a bias, b_std, and small W_std."
        )
    if np.all(np.abs(change) <= _SAME * scan):
        return math.nan
    attracting = [q for q in _roots(block, scan, change) if abs(block.slopes(q, q)[1]) < 1]
    if change[0] == 0 and np.all(change[1:5] < 0):
        attracting.insert(0, 0.0)
    start = float(block.variance(1.0)) - 1
    ahead = [q for q in attracting if start == 0 or (q > 1) == (start > 0)]
    if ahead:
        return min(ahead, key=lambda q: abs(q - 1))
    if attracting:  # inputs of another variance reach it
        return min(attracting, key=lambda q: abs(q - 1))
    if change[-1] > 0:
        return math.inf
    raise ValueError(
        f"{block.where}: no variance attracts under {block}: from 1 it goes to {1 + start:.4g}, and about its fixed points it "
        "moves away. Change W_std or b_std."
    )


def _roots(block: Block, scan: np.ndarray, change: np.ndarray) -> list[float]:
    """Where V(q) - q is zero or changes its sign, above the smallest variance."""
    found = []
    for i in range(1, len(scan) - 1):
        if change[i] == 0:
            found.append(float(scan[i]))
        elif change[i] * change[i + 1] < 0:
            found.append(narrowed(lambda q: block.variance(q) - q, float(scan[i]), float(scan[i + 1])))
    return found


def narrowed(function: Callable[[Values], Values], low: float, high: float) -> float:
    """Where a function of arrays changes its sign between two numbers above zero: each step narrows a thousandfold."""
    for _ in range(6):
        x = np.geomspace(low, high, POINTS)
        signs = np.sign(function(x))
        passed = np.flatnonzero(signs != signs[0])
        if len(passed) == 0:
            break  # to rounding
        if signs[passed[0]] == 0:
            return float(x[passed[0]])
        low, high = float(x[passed[0] - 1]), float(x[passed[0]])
    return math.sqrt(low) * math.sqrt(high)


def _drop(block: Block, q: float, t: float) -> float:
    """(C(q) - C((1 - t) q)) / t q: the slope at correlation one from below."""
    both = block.kernel(np.array([q, (1 - t) * q]), q)
    return float(both[0] - both[1]) / (t * q)


def _correlation(block: Block, q: float, slope: float) -> float:
    """The correlation that attracts unlike inputs at variance q; slope: that of the correlation at one.

    C is a power series without negative coefficients, so that it is convex from zero to one: there is a fixed point below one
    where the slope at one is above one, a single one, and none elsewhere.
    """
    if slope <= 1 + CRITICAL:
        return 1.0
    after = float(block.variance(q))

    def gap(t: Values) -> Values:
        """Of the correlation 1 - t."""
        return block.kernel((1 - t) * q, q) / after - (1 - t)

    near = min(1e-3, 0.1 * (slope - 1))
    while gap(np.array([near]))[0] >= 0 and near > 1e-13:
        near *= 0.1
    return 0.0 if gap(np.array([1.0]))[0] <= 0 else 1 - narrowed(gap, near, 1.0)
