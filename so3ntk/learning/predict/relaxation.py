r"""The operator of gradient flow, \phi_\tau(M) = M^{-1} (1 - e^{-\tau M}), of M = K + lambda I.

Gradient flow on the mean squared loss moves the dual coefficients alpha of f = K alpha from zero by

.. math:: \dot\alpha = -\frac{\eta}{nk} (M \alpha - y), \qquad
          \alpha_t = \phi_\tau(M)\, y, \quad \tau = \eta t / nk,

where lambda is a decay of the weights towards their initial values. phi is finite for every finite tau: it is
tau on the null space of M. At tau = inf it is M^-1, by Cholesky. All is NumPy in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
import scipy.linalg
from jaxtyping import Float

from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.ridge import EPS, Spectrum

#: Largest tau |w| for an eigenvalue w < 0, which no kernel has: its mode is then wrong by half of this.
GROWTH = 0.1


def relaxation(values: Float[np.ndarray, " n"], tau: float) -> Float[np.ndarray, " n"]:
    """(1 - exp(-tau w)) / w for eigenvalues w and finite tau, in full relative accuracy; tau at w = 0."""
    with np.errstate(over="ignore"):
        x = tau * values
        learned = -np.expm1(-x)
    near = tau * np.divide(learned, x, out=np.ones_like(x), where=x != 0)
    return np.divide(learned, values, out=near, where=np.abs(x) > 1)  # tau / x loses the result if x overflows


def eigenvalues(spectrum: Spectrum) -> Float[np.ndarray, " n"]:
    """Those of K, where those that are zero to rounding count as zero: their sign says nothing."""
    return np.where(np.abs(spectrum.values) <= spectrum.rounding, 0.0, spectrum.values)


def stopped(
    spectrum: Spectrum, ridge: float, rhs: Float[np.ndarray, "n k"], taus: Iterable[float]
) -> Iterator[Float[np.ndarray, "n k"]]:
    """phi_tau(M) rhs for one finite tau after another."""
    values, projected = eigenvalues(spectrum) + ridge, spectrum.vectors.T @ rhs
    for tau in taus:
        yield spectrum.vectors @ (relaxation(values, tau)[:, None] * projected)


def diverges(spectrum: Spectrum, ridge: float, tau: float) -> bool:
    """Whether modes of negative eigenvalue, which no kernel has, have grown by a finite time tau."""
    return spectrum.smallest < -spectrum.rounding and -(spectrum.smallest + ridge) * tau > GROWTH


class RegularisedKernel:
    """M = K + lambda I, factorised when first needed: by Cholesky for tau = inf, else by eigenvectors.

    ridge: lambda = ridge * unit. parameter: the caller's name of ``ridge``, for errors.
    """

    def __init__(
        self, kernel: Float[np.ndarray, "n n"], ridge: float, where: str, parameter: str = "ridge", unit: float = 1.0
    ):
        self.kernel, self.absolute = kernel, ridge * unit
        self.ridge, self.where, self.parameter, self.unit = ridge, where, parameter, unit

    @classmethod
    def relative(cls, kernel: Float[np.ndarray, "n n"], diag_reg: float, where: str) -> RegularisedKernel:
        """With lambda in units of the mean of K's diagonal; absolute for K = 0, which predicts zero anyway."""
        return cls(kernel, diag_reg, where, "diag_reg", float(np.mean(np.diag(kernel))) or 1.0)

    def relaxed(self, rhs: Float[np.ndarray, "n k"], taus: Float[np.ndarray, " t"]) -> Iterator[np.ndarray]:
        """phi_tau(M) rhs for each tau in turn. NotPositiveDefiniteError where M does not allow it."""
        finite = taus[taus < np.inf]
        if len(finite):
            self.require_stable(float(finite.max()))
        evolving = stopped(self.spectrum, self.absolute, rhs, finite) if len(finite) else iter(())
        for tau in taus:
            yield next(evolving) if tau < np.inf else self.solve(rhs)

    def solve(self, rhs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """M^-1 rhs."""
        return scipy.linalg.cho_solve(self.cholesky, rhs, check_finite=False)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of K alone."""
        return Spectrum.of(self.kernel, intercept=False)

    @cached_property
    def cholesky(self) -> tuple[np.ndarray, bool]:
        """The factor of M. NotPositiveDefiniteError unless M is positive definite beyond rounding."""
        matrix = self.kernel + self.absolute * np.eye(len(self.kernel))
        try:
            factor = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            raise self.error() from None
        # A singular M can be factorised by rounding. Its eigenvalues decide, but are needed for suspects only.
        (pocon,) = scipy.linalg.get_lapack_funcs(("pocon",), (factor[0],))
        reciprocal, _ = pocon(factor[0], np.linalg.norm(matrix, 1), uplo="L")
        if reciprocal < 10 * len(matrix) * EPS and not self.spectrum.smallest + self.absolute > self.spectrum.rounding:
            raise self.error()
        return factor[0], bool(factor[1])  # newer SciPy: an array of one bool

    def require_stable(self, tau: float) -> None:
        """NotPositiveDefiniteError if negative eigenvalues matter by the finite time tau."""
        if diverges(self.spectrum, self.absolute, tau):
            raise self.error()

    def error(self) -> NotPositiveDefiniteError:
        """M is not positive definite, with the ridge that would do."""
        spectrum, unit = self.spectrum, self.unit
        smallest, largest = spectrum.smallest / unit, float(spectrum.values[-1]) / unit
        needed = 1.1 * (max(0.0, -2 * smallest) + 2 * spectrum.rounding / unit) or EPS
        matrix = "K" if self.parameter == "ridge" else "K in units of the mean of its diagonal"
        return NotPositiveDefiniteError(self.where, smallest, largest, self.ridge, needed, matrix, self.parameter)
