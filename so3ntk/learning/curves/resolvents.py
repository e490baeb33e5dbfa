r"""What a sample itself says of every ridge: how many modes it determines, and what it has not learned.

With w the eigenvalues of K (not divided by the n rows), all sums over them,

.. math:: \frac{1}{\kappa} = \sum \frac{1}{w + \delta}, \qquad D_1 = n - \frac{\delta}{\kappa} = \sum \frac{w}{w + \delta}, \qquad
          D_2 = D_1 + \kappa\, \frac{d D_1}{d \kappa}

are estimates of kappa of the theory's formula, and of the sums of g and g^2 of the operator at that kappa: the equation for
kappa is the one that the resolvent of a large sample obeys. And since leave-one-out errors are test errors,

.. math:: B(\kappa) = E_{loo}(\delta)\, (n - D_2) / n

is what of the targets is not learned at kappa, sum (1 - g)^2 v^2 + sigma^2, without any of the sample's own coefficients, which in
small modes are noise. Sources: Simon et al. (2021), theorem 1; Jacot et al. (2020), kernel alignment risk; Wei, Hu & Steinhardt (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from so3ntk.learning.curves.samples import Sample


@dataclass(frozen=True)
class Resolvents:
    """At ascending ridges (p,): kappa, D_1, D_2, leave-one-out mean squares and their standard errors.

    inputs, rows: how many; see ``Sample``.
    """

    inputs: int
    rows: int
    ridges: Float[np.ndarray, " p"]
    kappa: Float[np.ndarray, " p"]
    dof: Float[np.ndarray, " p"]
    dof2: Float[np.ndarray, " p"]
    errors: Float[np.ndarray, " p"]
    spread: Float[np.ndarray, " p"]

    @classmethod
    def of(cls, sample: Sample, ridges: Float[np.ndarray, " p"]) -> Resolvents:
        """At those ridges that the sample admits."""
        ridges = ridges[sample.admits(ridges)]
        inverse = 1 / (sample.eigenvalues[:, None] + ridges)
        total, squares = inverse.sum(axis=0), (inverse**2).sum(axis=0)
        dof = sample.eigenvalues @ inverse
        # kappa dD_1/dkappa, of dkappa/ddelta = kappa^2 squares and dD_1/ddelta = delta squares - total
        change = (ridges * squares - total) * total / squares
        left = np.array([_mean_square(residuals) for residuals in sample.left_out(ridges)]).reshape(-1, 2)
        return cls(len(sample), sample.rows, ridges, 1 / total, dof, dof + change, left[:, 0], left[:, 1])

    @property
    def missed(self) -> Float[np.ndarray, " p"]:
        """B."""
        return self.errors * (self.rows - self.dof2) / self.rows

    @property
    def known(self) -> np.ndarray:
        """At which ridges there are leave-one-out errors that have a logarithm."""
        return np.isfinite(self.errors) & (self.errors > 0)


def mean_of(parts: list[Resolvents]) -> Resolvents:
    """Of parts of one size, at the ridges that all admit: the geometric mean of kappa, means of the others."""
    ridges = parts[0].ridges
    for part in parts[1:]:
        ridges = ridges[np.isin(ridges, part.ridges)]
    rows = [np.isin(part.ridges, ridges) for part in parts]

    def mean(name: str) -> np.ndarray:
        return np.mean([getattr(part, name)[kept] for part, kept in zip(parts, rows, strict=True)], axis=0)

    kappa = np.exp(np.mean([np.log(part.kappa[kept]) for part, kept in zip(parts, rows, strict=True)], axis=0))
    spread = mean("spread") / np.sqrt(len(parts))
    return Resolvents(parts[0].inputs, parts[0].rows, ridges, kappa, mean("dof"), mean("dof2"), mean("errors"), spread)


def _mean_square(residuals: Float[np.ndarray, "n k"]) -> tuple[float, float]:
    """The mean over inputs that have a residual, and its standard error."""
    squares = np.mean(residuals**2, axis=1)
    squares = squares[np.isfinite(squares)]
    if not len(squares):
        return np.nan, np.nan
    return float(np.mean(squares)), float(np.std(squares) / np.sqrt(len(squares)))
