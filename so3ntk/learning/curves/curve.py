"""A predicted learning curve: an object that says what it is, and that draws itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.arguments import is_number
from so3ntk.learning.curves.estimate import DEVIATIONS, Estimate
from so3ntk.learning.curves.samples import Sample
from so3ntk.learning.curves.theory import expected_error

#: Inputs below which a sample says nothing of its own future.
FEWEST = 10


@dataclass(frozen=True)
class ErrorCurve:
    """Mean squares of the test error, a mean over outputs, at numbers of training inputs."""

    sizes: Int[np.ndarray, " s"]
    mse: Float[np.ndarray, " s"]

    @property
    def rmse(self) -> Float[np.ndarray, " s"]:
        """Root mean squares, in the targets' unit."""
        return np.sqrt(self.mse)


@dataclass(frozen=True)
class LearningCurve(ErrorCurve):
    """Expected test errors, means over training sets, and what they rest on.

    ridges: at each size the ridge, absolute, that ``mse`` is of: the one asked for, or the best. low, high: a band of root mean squares that is to
    hold nine of ten. resolved: whether the sample determines as many modes as a fit of that size, and how large the others are;
    elsewhere the curve continues by power laws, whose exponents are ``dof_exponent`` q and ``missed_exponent`` p (``population``).
    best_ridge, best_mse: of the ridge with the smallest predicted error at each size. plain: the formula alone, with the sample's own
    eigenvalues and coefficients (``theory``); inputs: those of the sample.
    """

    ridges: Float[np.ndarray, " s"]
    low: Float[np.ndarray, " s"]
    high: Float[np.ndarray, " s"]
    resolved: np.ndarray
    best_ridge: Float[np.ndarray, " s"]
    best_mse: Float[np.ndarray, " s"]
    plain: ErrorCurve
    inputs: int
    dof_exponent: float
    missed_exponent: float

    @property
    def best_rmse(self) -> Float[np.ndarray, " s"]:
        """At the best ridge of each size."""
        return np.sqrt(self.best_mse)

    @property
    def statement(self) -> str:
        """What the sample resolves, and how the curve continues beyond."""
        beyond = [str(size) for size in self.sizes[~self.resolved]]
        if not beyond:
            return f"All sizes are resolved by the sample of {self.inputs}."
        modes = "no eigenvalues" if self.dof_exponent < 0.01 else f"eigenvalues as i^-{1 / self.dof_exponent:.2f}"
        return (
            f"Beyond what the sample of {self.inputs} resolves at this ridge: {', '.join(beyond)}. There the tails continue as power laws: "
            f"{modes}, what is not learned as kappa^{self.missed_exponent:.2f}."
        )

    def __str__(self) -> str:
        lines = [f"{'size':>9}{'ridge':>11}{'rmse':>11}{'from':>11}{'to':>11}{'best ridge':>12}{'rmse':>11}"]
        columns = (self.sizes, self.ridges, self.rmse, self.low, self.high, self.best_ridge, self.best_rmse)
        for (size, *values), resolved in zip(zip(*columns, strict=True), self.resolved, strict=True):
            numbers = "".join(f"{value:>{12 if k == 4 else 11}.4g}" for k, value in enumerate(values))
            lines.append(f"{size:>9}{numbers}" + ("" if resolved else "  continued"))
        return "\n".join([*lines, self.statement])

    def scaled(self, factor: float) -> LearningCurve:
        """The same in another unit of the targets, of which one is ``factor`` new ones."""
        squared = factor**2
        return replace(
            self, mse=self.mse * squared, low=self.low * factor, high=self.high * factor, best_mse=self.best_mse * squared,
            plain=replace(self.plain, mse=self.plain.mse * squared),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """What a JSON file holds."""
        names = ("sizes", "ridges", "rmse", "low", "high", "resolved", "best_ridge", "best_rmse")
        found = {name: getattr(self, name).tolist() for name in names}
        return {
            **found, "plain_rmse": [value if math.isfinite(value) else None for value in self.plain.rmse.tolist()],
            "inputs": self.inputs, "dof_exponent": self.dof_exponent, "missed_exponent": self.missed_exponent,
            "statement": self.statement,
        }  # fmt: skip

    def plot(
        self, path: str | PathLike, measured: Iterable[tuple[int, float]] = (), *, title: str = "", unit: str = ""
    ) -> Path:
        """The curve with its band, the best ridges' and the plain formula, over measured (size, rmse), as a PNG. Needs matplotlib."""
        from so3ntk.learning.curves.picture import draw_curves

        return draw_curves([(self, list(measured), "")], path, title=title, unit=unit)


def learning_curve(
    sample: Sample, sizes: Iterable[int], ridge: float | None, where: str, estimate: Estimate
) -> LearningCurve:
    """The curve of a sample at sizes and an absolute ridge; None for the best ridge of each size."""
    columns = sample.unpenalised
    numbers = check_sizes(sizes, columns // sample.components + 1, where)
    if ridge is not None:
        check_ridge(ridge, where)
        sample.require(float(ridge), where)
    candidates = estimate.whole.ridges
    inputs = numbers.astype(np.float64)
    tried = np.stack([estimate.errors(float(size), candidates).mse for size in inputs], axis=1)
    best = np.argmin(tried, axis=0)
    ridges = candidates[best] if ridge is None else np.full(len(numbers), float(ridge))
    found = [_at(estimate, float(size), float(value)) for size, value in zip(inputs, ridges, strict=True)]
    mse, deviation, resolved = (np.array(values) for values in zip(*found, strict=True))
    spread = np.exp(DEVIATIONS * deviation)
    rows = numbers * sample.components - columns
    values, powers = sample.eigenvalues / sample.rows, sample.powers
    plain = [expected_error(values, powers, 0.0, int(n), float(value)) for n, value in zip(rows, ridges, strict=True)]
    return LearningCurve(
        numbers, mse, ridges, np.sqrt(mse) / spread, np.sqrt(mse) * spread, resolved, candidates[best], np.min(tried, axis=0),
        ErrorCurve(numbers, np.array(plain)), len(sample), estimate.population.dof_exponent,
        estimate.population.missed_exponent,
    )  # fmt: skip


def mean_curve(curves: Sequence[LearningCurve]) -> LearningCurve:
    """Of several samples as large as each other, at the same sizes: means of the errors, geometric ones of ridges and of the band's ends."""

    def over(name: str) -> np.ndarray:
        return np.asarray(np.mean([getattr(curve, name) for curve in curves], axis=0))

    def geometric(name: str) -> np.ndarray:
        return np.exp(np.mean([np.log(getattr(curve, name)) for curve in curves], axis=0))

    first = curves[0]
    plain = ErrorCurve(first.sizes, np.mean([curve.plain.mse for curve in curves], axis=0))
    exponents = (float(over(name)) for name in ("dof_exponent", "missed_exponent"))
    return LearningCurve(
        first.sizes, over("mse"), geometric("ridges"), geometric("low"), geometric("high"), np.all([curve.resolved for curve in curves], axis=0),
        geometric("best_ridge"), over("best_mse"), plain, first.inputs, *exponents,
    )  # fmt: skip


def check_sizes(sizes: Iterable[int], fewest: int, where: str) -> Int[np.ndarray, " s"]:
    """Numbers of training inputs. ValueError for what are none, and for fewer than ``fewest``."""
    values = np.atleast_1d(np.asarray(list(sizes) if not np.isscalar(sizes) else [sizes]))
    if values.ndim != 1 or not values.size or values.dtype.kind not in "iu" or values.min() < fewest:
        raise ValueError(
            f"{where}: expected sizes to be a list of whole numbers of training inputs, each at least {fewest}, got {sizes!r}."
        )
    return values.astype(np.int64)


def check_ridge(ridge: Any, where: str) -> None:
    """ValueError for what is no absolute ridge."""
    if not (is_number(ridge) and 0 <= ridge < math.inf):
        raise ValueError(
            f"{where}: expected ridge to be None (the best at each size) or a finite number >= 0, absolute, got {ridge!r}."
        )


def check_sample(y: Float[np.ndarray, "n k"], where: str) -> None:
    """ValueError for fewer inputs than say anything, and for targets of which there is nothing to learn."""
    check_inputs_count(len(y), where)
    if np.all(np.ptp(y, axis=0) == 0):
        raise ValueError(
            f"{where}: the targets are constant ({y.ravel()[0]:.6g}), so there is nothing to learn. Give the targets of each input."
        )


def check_inputs_count(n: int, where: str) -> None:
    """ValueError for fewer inputs than say anything."""
    if n < FEWEST:
        raise ValueError(
            f"{where}: expected at least {FEWEST} samples, got {n}: so few eigenvalues and errors say nothing of others. Give more "
            "samples."
        )


def _at(estimate: Estimate, size: float, ridge: float) -> tuple[float, float, bool]:
    """The mean square, the standard deviation of log rmse, and whether the sample resolves it."""
    found = estimate.errors(size, np.array([ridge]))
    known = bool(found.resolved[0] or size <= estimate.whole.inputs)
    return float(found.mse[0]), estimate.deviation(size, ridge), known
