"""Functions drawn from a posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.utils import check_random_state


def drawn(
    mean: Float[np.ndarray, "m ..."],
    covariance: Float[np.ndarray, "m m ..."],
    amplitude: float | Float[np.ndarray, " k"],
    n_samples: int,
    random_state: Any,
) -> Float[np.ndarray, "m ..."]:
    """(m, n_samples) of a mean (m,), (m, k, n_samples) of (m, k), whose covariances are one matrix times the squares of ``amplitude``."""
    amplitude = np.atleast_1d(amplitude)
    scale = np.max(amplitude) or 1.0
    unit = covariance.reshape(len(mean), len(mean), -1)[..., np.argmax(amplitude)] / scale**2
    values, vectors = np.linalg.eigh(unit)
    factor = vectors * np.sqrt(np.maximum(values, 0))
    random = check_random_state(random_state).standard_normal((len(amplitude), len(mean), n_samples))
    samples = mean.reshape(len(mean), -1)[..., None] + np.einsum("ij,kjs,k->iks", factor, random, amplitude)
    return samples if mean.ndim == 2 else samples[:, 0]
