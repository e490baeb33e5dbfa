"""Learning curves of fitted estimators, from the matrix that they have decomposed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted

from so3ntk.engine.plan import parse_memory
from so3ntk.learning.curves.curve import LearningCurve, check_sample, learning_curve
from so3ntk.learning.curves.estimate import Estimate
from so3ntk.learning.curves.samples import FeatureSample, KernelSample, Sample
from so3ntk.learning.feature_ridge import FeatureSpectrum
from so3ntk.learning.inputs import is_stopped


class TrainingRows(NamedTuple):
    """Features of the training inputs, decomposed, and the targets."""

    spectrum: FeatureSpectrum
    y: Float[np.ndarray, "n k"]


def kept_rows(spectrum: FeatureSpectrum, y: Float[np.ndarray, "n k"], memory: str | int) -> TrainingRows | None:
    """What a fit keeps for its learning curve: nothing where that takes more than a quarter of the memory."""
    return TrainingRows(spectrum, y) if spectrum.vectors.nbytes <= parse_memory(memory) // 4 else None


def kernel_curve(estimator: Any, sizes: Iterable[int], ridge: float | None) -> LearningCurve:
    """That of a ``KernelRegressor``, whose targets are known by the dual coefficients that solve for them."""
    check_is_fitted(estimator)
    where = f"{type(estimator).__name__}.learning_curve"
    if is_stopped(estimator):
        raise ValueError(f"{where}: it is that of training to the end, got t={estimator.t!r}. Fit with t=None.")
    if not hasattr(estimator, "spectrum_"):
        raise ValueError(
            f"{where}: it needs the eigenvectors of the kernel, which solver={estimator.solver!r} does not compute or which were left out "
            "of the saved file. Fit with solver=None, or call so3ntk.spectra.spectrum(k, y) with a part of the kernel."
        )
    spectrum = estimator.spectrum_
    _refuse_weights(spectrum.weights, where)
    dual_coef = estimator.dual_coef_.reshape(len(estimator.dual_coef_), -1)
    along = spectrum.vectors.T @ dual_coef
    y = spectrum.vectors @ ((spectrum.values + estimator.ridge_)[:, None] * along)
    return _curve(estimator, KernelSample.of_spectrum(spectrum, y), sizes, ridge, where)


def inducing_curve(estimator: Any, sizes: Iterable[int], ridge: float | None) -> LearningCurve:
    """That of an ``InducingRegressor``, whose inducing inputs stay as they are."""
    check_is_fitted(estimator)
    where = f"{type(estimator).__name__}.learning_curve"
    rows = getattr(estimator, "rows_", None)
    if rows is None:
        raise ValueError(
            f"{where}: it needs the features of the training inputs, which a saved file does not hold and a fit keeps only where they take a "
            f"quarter of memory={estimator.memory!r}. Fit again, with more memory."
        )
    _refuse_weights(rows.spectrum.weights, where)
    return _curve(estimator, FeatureSample.of_spectrum(rows.spectrum, rows.y), sizes, ridge, where)


def _refuse_weights(weights: Float[np.ndarray, " n"] | None, where: str) -> None:
    if weights is not None:
        raise ValueError(f"{where}: it is that of rows that weigh the same. Fit without sample_weight.")


def _curve(estimator: Any, sample: Sample, sizes: Iterable[int], ridge: float | None, where: str) -> LearningCurve:
    check_sample(sample.y, where)
    own = estimator.ridge if ridge is None else ridge
    return learning_curve(sample, sizes, own, where, Estimate.of(sample, seed=0))
