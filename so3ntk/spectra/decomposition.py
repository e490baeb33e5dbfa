r"""The spectrum of a Gram matrix against its targets: what is learned first, how fast, and how much of it there is.

.. math:: K / n = U\,\mathrm{diag}(\lambda)\,U^T, \qquad v = U^T y / \sqrt{n}

for n rows. Gradient flow removes mode i of k outputs at the rate eta lambda_i / k (``so3ntk.predict``), so that a target is learned in the
order of the eigenvalues: its power v_i^2 in each says what of it, and when.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arguments import is_number
from so3ntk.learning.curves.curve import LearningCurve, check_ridge, learning_curve
from so3ntk.learning.curves.estimate import Estimate
from so3ntk.learning.curves.samples import Sample
from so3ntk.spectra.decay import Exponent, decay_exponent


class GramSpectrum:
    """What ``spectrum`` finds: eigenvalues and the targets' power in them, the largest first.

    eigenvalues: lambda (n,), of K / n; negative ones, which no kernel has, as they are. rounding: what of them is rounding of the kernel's
    own precision. Without targets what needs them raises ValueError.
    """

    def __init__(self, sample: Sample, precision: np.dtype, targets: bool, outputs: int, where: str):
        self._sample, self._where, self._targets, self.outputs = sample, where, targets, outputs
        self.eigenvalues: Float[np.ndarray, " n"] = np.asarray(sample.eigenvalues)[::-1] / sample.rows
        self.precision = precision
        self.rounding = sample.noise(float(np.finfo(precision).eps)) / sample.rows

    def __len__(self) -> int:
        return len(self.eigenvalues)

    @property
    def target_powers(self) -> Float[np.ndarray, " n"]:
        """v_i^2, a mean over outputs: they sum to the mean square of the targets."""
        self._require_targets("target_powers")
        return np.asarray(self._sample.powers)[::-1]

    @property
    def cumulative_power(self) -> Float[np.ndarray, " n"]:
        """The share of the targets' power in the first i modes, i from 1."""
        powers = np.cumsum(self.target_powers)
        return powers / powers[-1]

    @property
    def alignment(self) -> float:
        """<K, Y Y^T> / |K| |Y Y^T| in Frobenius norms: 1 where the kernel is that of the targets. Source: Cristianini et al. (2001)."""
        self._require_targets("alignment")
        y = self._sample.y.reshape(len(self), -1)
        inside = y.size * float(self.eigenvalues @ self.target_powers)
        return inside / float(np.linalg.norm(self.eigenvalues) * np.linalg.norm(y.T @ y))

    def effective_dimension(self, ridge: float) -> float:
        """The degrees of freedom of the regression with an absolute ridge, sum w / (w + ridge) over the eigenvalues w of K.

        NotPositiveDefiniteError if K + ridge I is not positive definite.
        """
        where = f"{self._where}.effective_dimension"
        check_ridge(ridge, where)
        self._sample.require(float(ridge), where)
        values = self.eigenvalues * len(self)
        return float(np.sum(values / (values + ridge)))

    def learning_times(self, learning_rate: float = 1.0) -> Float[np.ndarray, " n"]:
        """k / (eta lambda_i): the t of ``predict.gradient_flow`` at which mode i is down to 1 / e; infinite where lambda_i is rounding."""
        if not (is_number(learning_rate) and 0 < learning_rate < math.inf):
            raise ValueError(
                f"{self._where}.learning_times: expected learning_rate to be a finite number > 0, got {learning_rate!r}."
            )
        known = self.eigenvalues > self.rounding
        times = np.full(len(self), np.inf)
        times[known] = self.outputs / (learning_rate * self.eigenvalues[known])
        return times

    @property
    def condition_number(self) -> float:
        """The largest eigenvalue over the smallest; infinite where that is rounding, or negative."""
        smallest = float(self.eigenvalues[-1])
        return float(self.eigenvalues[0]) / smallest if smallest > self.rounding else math.inf

    @cached_property
    def decay(self) -> Exponent:
        """The exponent of lambda_i ~ i^-a, with its error and the modes that it holds for."""
        return decay_exponent(self.eigenvalues, self.rounding)

    @property
    def negative(self) -> int:
        """How many eigenvalues are negative beyond rounding: what the kernel's own errors are as large as."""
        return int(np.count_nonzero(self.eigenvalues < -self.rounding))

    def learning_curve(self, sizes: Iterable[int], ridge: float | None = None) -> LearningCurve:
        r"""The expected test error of regression without an intercept, at numbers of training inputs.

        .. math:: E = \frac{N}{N - \sum g^2} \Big(\sum (1 - g)^2 v^2 + \sigma^2\Big), \qquad
                  g = \frac{\lambda}{\lambda + \kappa}, \qquad \sum g + \frac{\delta}{\kappa} = N

        sizes: a list of N. ridge: delta, absolute, added to K as it stands; None for the best one at each size. Targets are not centred.
        The sums are those of the population, which the sample's resolvents and leave-one-out errors give as far as its size goes, and tails
        beyond, fitted until the formula gives the leave-one-out errors of the sample, its halves and its quarters: see
        ``so3ntk.learning.curves.population``. ``plain`` has them from the sample's own modes, ``statement`` says where the curve is continued.

        The sample is to be drawn at random from what is predicted. NotPositiveDefiniteError for a ridge that K does not allow, ValueError for
        sizes and ridges that are none. Sources: Bordelon, Canatar & Pehlevan (2020); Simon et al. (2021).
        """
        where = f"{self._where}.learning_curve"
        self._require_targets("learning_curve")
        return learning_curve(self._sample, sizes, ridge, where, self._estimate)

    @cached_property
    def _estimate(self) -> Estimate:
        return Estimate.of(self._sample, seed=0)

    @property
    def scale(self) -> float:
        """The mean of K's diagonal, in whose units ridges may be thought of."""
        return self._sample.scale

    @property
    def statement(self) -> str:
        """What of the spectrum is rounding or error."""
        said = [f"{len(self)} eigenvalues of K / n from {self.eigenvalues[0]:.4g} to {self.eigenvalues[-1]:.4g}"]
        within = int(np.count_nonzero(np.abs(self.eigenvalues) <= self.rounding))
        if within:
            said.append(f"{within} are zero to the rounding of {self.precision}, {self.rounding:.1e}")
        if self.negative:
            said.append(
                f"{self.negative} are negative beyond it, which no kernel's are: the kernel has errors of their size, and ridges must be above "
                f"{-2 * len(self) * self.eigenvalues[-1]:.1e}"
            )
        return "; ".join(said) + "."

    def __str__(self) -> str:
        lines = [
            self.statement,
            f"condition number {self.condition_number:.3g}, decay {self.decay}",
        ]
        if self._targets:
            lines.append(f"alignment with the targets {self.alignment:.3f}")
            lines.append(f"{'modes':>9}{'eigenvalue':>13}{'power':>9}{'learned at t =':>16}")
            times, cumulative = self.learning_times(), self.cumulative_power
            for count in _rounds(len(self)):
                lines.append(
                    f"{count:>9}{self.eigenvalues[count - 1]:>13.4g}{100 * cumulative[count - 1]:>8.2f}%{times[count - 1]:>16.4g}"
                )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """What a JSON file holds; without infinities."""
        found: dict[str, Any] = {
            "rows": len(self), "eigenvalues": self.eigenvalues.tolist(), "rounding": self.rounding, "negative": self.negative,
            "condition_number": self.condition_number if math.isfinite(self.condition_number) else None,
            "decay": None if math.isnan(self.decay.value) else self.decay._asdict(), "scale": self.scale,
            "statement": self.statement,
        }  # fmt: skip
        if self._targets:
            found |= {"target_powers": self.target_powers.tolist(), "alignment": self.alignment}
        return found

    def plot(
        self,
        path: str | PathLike,
        curve: LearningCurve | None = None,
        measured: Sequence[tuple[int, float]] = (),
        *,
        title: str = "",
        unit: str = "",
    ) -> Path:
        """Eigenvalues, the power of the targets in them, and a learning curve over measured (size, rmse), as a PNG. Needs matplotlib."""
        from so3ntk.spectra.pictures import draw_spectrum

        return draw_spectrum(self, path, curve, measured, title=title, unit=unit, targets=self._targets)

    def _require_targets(self, name: str) -> None:
        if not self._targets:
            raise ValueError(f"{self._where}: {name} is of targets, and none were given: spectrum(k, y).")


def _rounds(n: int) -> list[int]:
    """1, 2, 5, 10, ... up to n, and n."""
    found = [step * 10**power for power in range(9) for step in (1, 2, 5) if step * 10**power < n]
    return [*found, n]
