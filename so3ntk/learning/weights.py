"""Weights of rows and of classes: row i has the noise ridge / w_i."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.utils.class_weight import compute_sample_weight

from so3ntk.basics.arrays import ArrayLike, refuse_masked


def checked_weights(weights: ArrayLike | None, n: int, where: str) -> Float[np.ndarray, " n"] | None:
    """Weights of n rows; None for none. ValueError for others than finite numbers of zero or more, and one above."""
    if weights is None:
        return None
    refuse_masked(weights, where)
    values = np.asarray(weights, np.float64)
    if values.shape != (n,) or not (np.all(np.isfinite(values)) and np.all(values >= 0) and values.any()):
        raise ValueError(
            f"{where}: expected {n} finite numbers >= 0, one for each input and not all zero, got shape {values.shape}."
        )
    return values


def weights_with_classes(
    estimator: Any, labels: Int[np.ndarray, " n"], sample_weight: ArrayLike | None
) -> Float[np.ndarray, " n"] | None:
    """A classifier's weights of rows times those of their classes, by ``class_weight``; None where all are one.

    labels: numbers among its ``classes_``. ValueError as above, and where only one class has weights above zero.
    """
    where = f"{type(estimator).__name__}.fit"
    weights = checked_weights(sample_weight, len(labels), f"{where}: sample_weight")
    if estimator.class_weight is not None:
        of_classes = compute_sample_weight(estimator.class_weight, estimator.classes_[labels])
        of_classes = checked_weights(of_classes, len(labels), f"{where}: class_weight")
        weights = of_classes if weights is None else of_classes * weights
    if weights is not None and len(np.unique(labels[weights > 0])) < 2:
        raise ValueError(f"{where}: rows of a single class have weights above zero.")
    return weights
