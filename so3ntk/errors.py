"""What goes wrong in numerics: the errors and warnings of the solvers."""

from __future__ import annotations

from typing import Any


class NotPositiveDefiniteError(ValueError):
    """K + ridge I cannot be factorised: it has an eigenvalue that is negative, or zero to rounding.

    where: who raises. smallest, largest: eigenvalues of ``matrix``, K. ridge: the largest tried. needed: one
    that suffices. parameter: the caller's name of the ridge. bounds: whether only bounds are known, of which the
    smallest eigenvalue is not above ``smallest``. All are attributes; the error can be pickled.
    """

    def __init__(
        self,
        where: str,
        smallest: float,
        largest: float,
        ridge: float,
        needed: float,
        matrix: str = "K",
        parameter: str = "ridge",
        bounds: bool = False,
    ):
        super().__init__(where, smallest, largest, ridge, needed, matrix, parameter, bounds)
        self.where, self.matrix, self.parameter = where, matrix, parameter
        self.smallest, self.largest, self.ridge, self.needed = smallest, largest, ridge, needed
        self.bounds = bounds

    def __str__(self) -> str:
        name = self.parameter
        return (
            f"{self.where}: K + {name} I is not positive definite: the eigenvalues of {self.matrix} run "
            f"from {self.smallest:.3e}{' or less' if self.bounds else ''} to {self.largest:.3e}, and {name} is {self.ridge:.3e}. Raise {name} "
            f"to at least {self.needed:.1e}. If K is the kernel of an SO(3) network, a likely cause is its "
            "quadrature over rotations: refine it with net = net.calibrate(x) or a smaller rtol. If K was "
            "computed in single precision, eigenvalues below 1e-6 of the largest are rounding: use double."
        )


class PrecisionError(ValueError):
    """A result is NaN, infinite or too inaccurate to use, although the inputs were fine."""


class StoreMismatchError(ValueError):
    """A store holds kernels of another network, of other data or with other settings than those asked for."""


class DamagedTileError(ValueError):
    """A tile of a store is not what was written: its checksum differs, or it cannot be read."""


class RidgePathWarning(UserWarning):
    """The best ridge lies at an end of the values that were tried, so a better one may lie beyond."""


class NotConvergedError(ValueError):
    """An iterative solver stopped before its tolerance; what it has is withheld, and is the attribute ``solution``."""

    def __init__(self, where: str, steps: int, residual: float, tolerance: float, solution: Any = None):
        super().__init__(where, steps, residual, tolerance, solution)
        self.where, self.steps, self.residual = where, steps, residual
        self.tolerance, self.solution = tolerance, solution

    def __str__(self) -> str:
        return (
            f"{self.where}: after {self.steps} steps the relative residual is {self.residual:.1e}, above the tolerance "
            f"{self.tolerance:.1e}; the result is withheld. Raise rank (of the preconditioner), max_steps or ridge, or "
            "accept it: ConjugateGradients(accept_unconverged=True). It is also this error's attribute solution."
        )


class ModelFileError(ValueError):
    """A file is no saved model, is damaged, or was written by something that this version does not know."""
