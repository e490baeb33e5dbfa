r"""Coordinates in which the prior of a kernel's inducing functions is white.

With the functions k(., z) of m inducing inputs as a basis, w has the prior covariance K_zz^-1. Of K_zz = U diag(s) U^T

.. math:: \tilde\phi(x) = k(x, Z)\, U\, \mathrm{diag}(s + \epsilon)^{-1/2}

has weights of unit variance: ridge regression on these features is the sparse Gaussian process (subset of regressors), with
epsilon a variance of the functions' values at Z. Directions with s below what K_zz is known to are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Whitening:
    """phi -> phi @ matrix. dropped: how many directions were left out; smallest, largest: eigenvalues of K_zz."""

    matrix: Float[np.ndarray, "m r"]
    dropped: int
    smallest: float
    largest: float

    @classmethod
    def of(cls, kernel: Float[np.ndarray, "m m"], jitter: float) -> Whitening:
        """Of K_zz, with epsilon = jitter times the mean of its diagonal.

        Left out are eigenvalues below rounding, or below the most negative one's size: a positive semi-definite kernel has
        none but by errors, of which all eigenvalues have as much.
        """
        values, vectors = scipy.linalg.eigh((kernel + kernel.T) / 2, driver="evd", check_finite=False)
        epsilon = jitter * float(np.mean(np.diag(kernel)))
        least = max(len(values) * EPS * float(values[-1]), -float(values[0]))
        kept = values > least
        return cls(
            vectors[:, kept] / np.sqrt(values[kept] + epsilon), int((~kept).sum()), float(values[0]), float(values[-1])
        )
