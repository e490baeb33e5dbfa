r"""What a sample says of the distribution it is from, at every scale kappa, and where it ends.

Two functions of kappa are all that the theory's formula needs: D(kappa) = sum of g, whose slope gives the sum of g^2, and B(kappa), what
is not learned. Both are read off the sample (``resolvents``) down to where D is a share of its rows, and D is extrapolated there to
infinitely many from the sample and its halves, whose difference falls as 1 / rows. Below, both continue as power laws,

.. math:: D \sim \kappa^{-q}, \qquad B \sim \kappa^{p},

eigenvalues as i^{-1/q}: q is the slope of the last decades, and p, too, corrected until the errors of the whole sample are those
that leaving one out measures. Last, fits that determine nearly as many modes as they have rows add more noise than modes that are independent
Gaussian variables would: log E gains a function of D / N alone, piecewise linear, that comes nearest to the leave-one-out errors of the
sample's parts. What is then left of these is interpolated in log N and log ridge, and beyond the sample kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from so3ntk.learning.curves.resolvents import Resolvents

#: D / rows down to which a sample's functions are its own, and the part of that whose slopes the tails have.
RESOLVED, WINDOW = 0.45, 0.1
#: D / rows up to which halves are compared with the whole.
HALVES = 0.9
#: Where in D / N the correction bends; it is zero at zero.
BENDS = np.array([0.5, 0.75, 0.9, 0.97, 1.0])
#: What a correction usually is, what a leave-one-out error usually misses, both in log E, and how far below ``end``, in log kappa, errors
#: weigh as much as the slope: what the data do not tell stays near zero and near the slope.
CORRECTION_SCALE, NOISE, SHRINK = 0.3, 0.03, 0.5
#: Logarithms of kappa beyond the ends of what is resolved, how finely they are divided, and in how many places ridges are compared.
BELOW, ABOVE, STEP, PLACES = 40.0, 5.0, 0.04, 300


@dataclass(frozen=True)
class Population:
    """D and B on a fine grid of log kappa, ascending. end: log kappa below which tails continue.

    dof_exponent, missed_exponent: q and p; correction: log E at ``BENDS``; rest: what is left of log E at each size (rows) and ridge.
    """

    components: int
    columns: int
    grid: Float[np.ndarray, " g"]
    log_dof: Float[np.ndarray, " g"]
    log_missed: Float[np.ndarray, " g"]
    slope: Float[np.ndarray, " g"]
    end: float
    dof_exponent: float
    missed_exponent: float
    correction: Float[np.ndarray, " b"]
    rest: Rest | None = None

    @classmethod
    def of(cls, levels: list[Resolvents], components: int, columns: int) -> Population:
        """Of the means of whole, halves, quarters and so on, as many as there are."""
        whole = levels[0]
        log_kappa, log_dof = np.log(whole.kappa), np.log(whole.dof)
        if len(levels) > 1:
            log_dof = 2 * log_dof - _at(levels[1], log_kappa)
        apart = np.concatenate([[True], np.diff(log_kappa) > 1e-6])
        kept = (whole.dof < RESOLVED * whole.rows) & np.isfinite(log_dof) & (whole.missed > 0) & apart
        if np.count_nonzero(kept) < 4:
            kept, log_dof = apart, np.log(whole.dof)
        x, dof, missed = log_kappa[kept], log_dof[kept], np.log(whole.missed[kept])
        near = np.exp(dof) > WINDOW * whole.rows
        near = near if np.count_nonzero(near) >= 4 else np.arange(len(x)) < 4
        q = float(np.clip(-np.polyfit(x[near], dof[near], 1)[0], 1e-3, 1.0))
        p = float(np.clip(np.polyfit(x[near], missed[near], 1)[0], 0.0, 2.0))
        found = cls._continued(x, dof, missed, q, p, components, columns)
        correction = found._fit_correction(levels[1:]) if len(levels) > 1 else np.zeros(len(BENDS))
        found = replace(found, correction=correction)
        found = found._with_exponent(found._fit_exponent(whole))
        return replace(found, rest=found._find_rest(levels))

    @classmethod
    def _continued(
        cls, x: np.ndarray, dof: np.ndarray, missed: np.ndarray, q: float, p: float, components: int, columns: int
    ) -> Population:
        grid = np.arange(x[0] - BELOW, x[-1] + ABOVE, STEP)
        inner = np.clip(grid, x[0], x[-1])
        body = PchipInterpolator(x, dof)
        below, above = np.minimum(grid - x[0], 0), np.maximum(grid - x[-1], 0)
        slope = np.where(grid < x[0], -q, np.where(grid > x[-1], -1.0, body.derivative()(inner)))
        log_missed = PchipInterpolator(x, missed)(inner) + p * below
        zero = np.zeros(len(BENDS))
        return cls(
            components, columns, grid, np.minimum.accumulate(body(inner) - q * below - above), log_missed, np.clip(slope, -1.0, 0.0),
            float(x[0]), q, p, zero,
        )  # fmt: skip

    def errors(self, inputs: float, ridges: Float[np.ndarray, " p"]) -> Errors:
        """At one number of inputs and some ridges: kappa solves D + ridge / kappa = N, so that of each kappa the ridge is known."""
        rows = inputs * self.components - self.columns
        lowest = float(np.interp(-np.log(rows), -self.log_dof, self.grid))  # where D = N, without a ridge
        place = np.concatenate([[lowest], lowest + np.geomspace(1e-9, self.grid[-1] - lowest, PLACES)])
        free = -np.expm1(np.minimum(np.interp(place, self.grid, self.log_dof) - np.log(rows), 0))
        inside = free > 0
        with np.errstate(divide="ignore"):
            log_ridges = np.log(ridges)
        log_kappa = np.interp(log_ridges, np.log(rows * free[inside]) + place[inside], place[inside], left=lowest)
        log_dof, slope, missed = (
            np.interp(log_kappa, self.grid, values) for values in (self.log_dof, self.slope, self.log_missed)
        )
        share = np.minimum(np.exp(log_dof) / rows, 1.0)
        log_mse = missed - np.log1p(-share * (1 + slope)) + _bases(share) @ self.correction
        if self.rest is not None:
            log_mse += self.rest.at(inputs, log_ridges)
        return Errors(np.exp(log_mse), log_kappa, share, log_kappa >= self.end)

    def _fit_correction(self, levels: list[Resolvents]) -> Float[np.ndarray, " b"]:
        """That which leaves of halves and quarters least, in least squares."""
        shares, left = [], []
        for level in levels:
            share, residual, _ = self._against(level)
            shares.append(share)
            left.append(residual)
        design = np.vstack([_bases(np.concatenate(shares)) / NOISE, np.eye(len(BENDS)) / CORRECTION_SCALE])
        values = np.concatenate([np.concatenate(left) / NOISE, np.zeros(len(BENDS))])
        return np.linalg.lstsq(design, values, rcond=None)[0]

    def _fit_exponent(self, whole: Resolvents) -> float:
        """p for which the whole sample's errors are those of leaving one out."""
        _, residual, log_kappa = self._against(whole)
        below = np.maximum(self.end - log_kappa, 0)
        change = -float(np.mean(below * residual)) / (float(np.mean(below**2)) + SHRINK**2)
        return float(np.clip(self.missed_exponent + change, 0.0, 2.0))

    def _find_rest(self, levels: list[Resolvents]) -> Rest | None:
        """Of all sizes whose errors are known."""
        sizes, ridges, left = [], np.log(levels[0].ridges), []
        for level in reversed(levels):
            if level.known.any():
                sizes.append(np.log(level.inputs - 1.0))
                left.append(np.interp(ridges, np.log(level.ridges[level.known]), self._against(level)[1]))
        return Rest(np.array(sizes), ridges, np.array(left)) if sizes else None

    def _with_exponent(self, p: float) -> Population:
        below = np.minimum(self.grid - self.end, 0)
        return replace(self, missed_exponent=p, log_missed=self.log_missed + (p - self.missed_exponent) * below)

    def _against(self, level: Resolvents) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """D / N, log of leave-one-out over predicted error, and log kappa at a level's ridges that have such an error."""
        found, known = self.errors(level.inputs - 1.0, level.ridges), level.known
        return found.share[known], np.log(level.errors[known] / found.mse[known]), found.log_kappa[known]


@dataclass(frozen=True)
class Rest:
    """Log E that is left at ascending logarithms of sizes and of ridges; constant beyond both ends."""

    sizes: Float[np.ndarray, " l"]
    ridges: Float[np.ndarray, " p"]
    values: Float[np.ndarray, "l p"]

    def at(self, inputs: float, log_ridges: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """At one size, for some ridges."""
        known = np.array([np.interp(log_ridges, self.ridges, row) for row in self.values])
        above = int(np.clip(np.searchsorted(self.sizes, np.log(inputs)), 1, max(len(self.sizes) - 1, 1)))
        if len(self.sizes) == 1:
            return known[0]
        low, high = self.sizes[above - 1], self.sizes[above]
        share = float(np.clip((np.log(inputs) - low) / (high - low), 0, 1))
        return (1 - share) * known[above - 1] + share * known[above]


@dataclass(frozen=True)
class Errors:
    """Predicted mean squares at some ridges, where in kappa they are, D / N, and whether the sample resolves that."""

    mse: Float[np.ndarray, " p"]
    log_kappa: Float[np.ndarray, " p"]
    share: Float[np.ndarray, " p"]
    resolved: np.ndarray


def _bases(share: Float[np.ndarray, " c"]) -> Float[np.ndarray, "c b"]:
    """Hat functions of the correction."""
    places = np.concatenate([[0.0], BENDS])
    return np.stack([np.interp(share, places, row) for row in np.eye(len(places))[1:]], axis=1)


def _at(level: Resolvents, log_kappa: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """log D of smaller samples, where they resolve it; else NaN."""
    kept = level.dof < HALVES * level.rows
    x, y = np.log(level.kappa[kept]), np.log(level.dof[kept])
    return np.interp(log_kappa, x, y, left=np.nan, right=np.nan) if len(x) else np.full(len(log_kappa), np.nan)
