"""Regressions whose population is known: Gaussian features of given eigenvalues, for which the theory holds."""

from typing import NamedTuple

import numpy as np


class Known(NamedTuple):
    """Eigenvalues, the targets' coefficients, the standard deviation of their noise."""

    eigenvalues: np.ndarray
    coefficients: np.ndarray
    noise: float

    def draw(self, n, seed):
        """Features (n, modes) with the kernel F F^T, and targets."""
        rng = np.random.default_rng(seed)
        modes = rng.normal(size=(n, len(self.eigenvalues)))
        return modes * np.sqrt(self.eigenvalues), modes @ self.coefficients + self.noise * rng.normal(size=n)

    def error(self, features, y, ridge):
        """The mean square test error, exactly: over all test inputs and their noise."""
        n = len(y)
        weights = features.T @ np.linalg.solve(features @ features.T + ridge * np.eye(n), y)
        return np.sum((weights * np.sqrt(self.eigenvalues) - self.coefficients) ** 2) + self.noise**2

    def mean_error(self, n, ridge, draws=20):
        """Over training sets."""
        return np.mean([self.error(*self.draw(n, 1000 + seed), ridge) for seed in range(draws)])


def power_law(modes=800, decay=1.5, power=1.8, noise=0.05):
    """lambda_i = i^-decay, v_i^2 = i^-power."""
    number = np.arange(1.0, modes + 1)
    signs = np.random.default_rng(5).choice([-1.0, 1.0], modes)
    return Known(number**-decay, signs * number ** (-power / 2), noise)
